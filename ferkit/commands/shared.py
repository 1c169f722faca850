"""What commands share: failures in one sentence, and options KEY=VALUE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
import yaml


@contextmanager
def in_one_sentence(*, interrupted: str = "interrupted") -> Iterator[None]:
    """End a command whose input, files or numbers are at fault with what the error says, and exit status 1.

    Args:
        interrupted: what is said where somebody stops it by Ctrl-C, with exit status 130.

    """
    try:
        yield
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    except KeyboardInterrupt:
        typer.echo(f"ferkit: {interrupted}", err=True)
        raise typer.Exit(130) from None


def pairs(texts: list[str] | None, option: str = "--set") -> dict[str, Any]:
    """Return options KEY=VALUE as a mapping, the values read as YAML. Raises ValueError for a text without a "="."""
    found = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"{option} takes KEY=VALUE, found {text!r}")
        found[key] = yaml.safe_load(value)
    return found
