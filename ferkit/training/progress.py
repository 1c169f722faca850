"""How a training reports: a bar that stays one line in a notebook or terminal, and one line per epoch in a log."""

import sys
import time
from collections.abc import Callable
from typing import Any

BAR = 20


class Reporter:
    """Tells a person how far a training is; `enabled=False` says nothing.

    In a notebook one output is updated in place and ends as the table of epochs; in a terminal the running epoch is a
    line that is overwritten; anywhere else (a log, papermill's console) only finished epochs are printed.
    """

    def __init__(self, epochs: int, *, enabled: bool = True) -> None:
        self.epochs, self.enabled = epochs, enabled
        self.lines: list[str] = []
        self.started = self.last = time.monotonic()
        self.done = 0
        self.handle: Any = None
        if enabled and _in_notebook():
            from IPython.display import display

            self.handle = display({"text/plain": "starting"}, raw=True, display_id=True)

    def step(self, epoch: int, step: int, steps: int, loss: Callable[[], float]) -> None:
        """A batch is done; shown at most five times a second.

        `loss` is asked for only then: on a GPU the answer is waited for.
        """
        now = time.monotonic()
        if not self.enabled or now - self.last < 0.2:
            return
        self.last = now
        filled = BAR * step // max(steps, 1)
        line = (
            f"epoch {epoch:>3}/{self.epochs} [{'#' * filled}{'.' * (BAR - filled)}] {step}/{steps}  loss {loss():.3f}"
        )
        if self.handle is not None:
            self._update([*self.lines, line])
        elif sys.stderr.isatty():
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def epoch(self, row: dict[str, Any], best: float) -> None:
        """An epoch is done."""
        if not self.enabled:
            return
        self.done += 1
        left = (time.monotonic() - self.started) / self.done * (self.epochs - row["epoch"])
        line = (
            f"epoch {row['epoch']:>3}/{self.epochs}  train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}"
            f"  val accuracy {100 * row['val_accuracy']:5.1f} %  best {100 * best:5.1f} %  {row['seconds']:.0f} s"
        ) + (f"  about {_spell(left)} left" if row["epoch"] < self.epochs and left >= 60 else "")
        self.lines.append(line)
        if self.handle is not None:
            self._update(self.lines)
        else:
            if sys.stderr.isatty():
                print("\r" + " " * 100 + "\r", end="", file=sys.stderr, flush=True)
            print(line, flush=True)

    def _update(self, lines: list[str]) -> None:
        self.handle.update({"text/plain": "\n".join(lines[-40:])}, raw=True)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; that one is imported is no proof."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def _spell(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
