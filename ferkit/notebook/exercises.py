"""The check under an exercise: says what is wrong with an answer, and never what is right."""

from __future__ import annotations

from typing import Any

import numpy as np


class WrongAnswer(AssertionError):
    """An answer that is not right.

    In a notebook it shows as its one sentence, without a traceback that quotes the check.
    """

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(what: str, answer: Any, expected: Any, *, tolerance: float = 0.0, hint: str = "") -> None:
    """Compares an exercise's answer with what it should be, and says what is wrong.

    Args:
        what: what was asked for, as the message names it.
        answer: the reader's answer; None or ... means that there is none yet, which is said and is no error.
        expected: the right one: a number, a text, True or False, or a sequence, array or tensor of them.
        tolerance: how far numbers may be off.
        hint: said after a wrong answer.

    Raises:
        WrongAnswer: an AssertionError that says of which kind the mistake is: another type, too few values, which
            value, too large or too small. So the solutions of a notebook are tested whenever they run.
    """
    if answer is None or answer is ...:
        print(f"… {what}: no answer yet. Replace the None above and run the cells again from there.")
        return
    if fault := _fault(_plain(answer), _plain(expected), tolerance):
        raise WrongAnswer(f"✗ {what}: got {answer!r}. {fault}{' ' + hint if hint else ''}")
    print(f"✓ {what}")


def _plain(value: Any) -> np.ndarray:
    """A number, text, sequence or tensor as an array; a tensor that requires grad too."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    elif isinstance(value, list | tuple):
        value = [_plain(v).tolist() for v in value]
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return np.asarray(value, dtype=object)


def _kind(array: np.ndarray) -> str:
    kinds = {"b": "True or False", "i": "a number", "u": "a number", "f": "a number", "U": "a text"}
    return kinds.get(array.dtype.kind, f"something else ({array.dtype})")


def _fault(answer: np.ndarray, expected: np.ndarray, tolerance: float) -> str:
    """What is wrong in one sentence; empty if nothing is."""
    if _kind(answer) != _kind(expected):
        return f"Expected {_kind(expected)}, found {_kind(answer)}."
    if answer.shape != expected.shape:
        shapes = [
            f"{a.size} value{'s' * (a.size != 1)}" if a.ndim < 2 else f"the shape {a.shape}" for a in (expected, answer)
        ]
        return (
            f"Expected {shapes[0]}, found {shapes[1]}."
            if shapes[0] != shapes[1]
            else "Expected a single value or a list: the other of the two."
        )
    if _kind(expected) != "a number":
        wrong = answer != expected
        return "" if not np.any(wrong) else _which(np.atleast_1d(wrong)) or "That is not it."
    wrong = ~np.isclose(answer.astype(float), expected.astype(float), rtol=1e-9, atol=tolerance)
    if not wrong.any():
        return ""
    if answer.ndim:
        return _which(wrong)
    found, right = float(answer), float(expected)
    if not np.isfinite(found):
        return "That is not a finite number."
    for times, words in (
        (0.01, "A hundred times too small: a fraction where a percentage is asked for?"),
        (100, "A hundred times too large: a percentage where a fraction is asked for?"),
        (-1, "The sign is wrong."),
    ):
        if right and np.isclose(found, times * right, rtol=1e-6, atol=0):
            return words
    return f"That is too {'large' if found > right else 'small'}."


def _which(wrong: np.ndarray) -> str:
    """Which of several values are wrong, counted from 1; empty for a single one."""
    if wrong.size < 2:
        return ""
    places = [", ".join(str(i + 1) for i in at) for at in np.argwhere(wrong)]
    listed = "; ".join(places[:5]) + (" ..." if len(places) > 5 else "")
    return f"{len(places)} of {wrong.size} values {'is' if len(places) == 1 else 'are'} wrong, at position {listed}."
