"""The check under an exercise."""

from __future__ import annotations

from typing import Any

import numpy as np


def check(what: str, answer: Any, expected: Any, *, tolerance: float = 0.0, hint: str = "") -> None:
    """Compares an exercise's answer with what it should be, and says what is wrong.

    Args:
        what: what was asked for, as the message names it.
        answer: the reader's answer; None or ... means that there is none yet, which is said and is no error.
        expected: the right one: a number, text, or a sequence of them.
        tolerance: how far numbers may be off.
        hint: said after a wrong answer.

    Raises:
        AssertionError: the answer is wrong. So the solutions in a notebook are tested whenever it runs.
    """
    if answer is None or answer is ...:
        print(f"… {what}: no answer yet. Replace the None above and run both cells again.")
        return
    try:
        numbers, wanted = np.asarray(answer, dtype=float), np.asarray(expected, dtype=float)
        right = numbers.shape == wanted.shape and bool(np.allclose(numbers, wanted, rtol=1e-9, atol=tolerance))
    except (TypeError, ValueError):  # not numbers
        sequences = all(isinstance(value, (list, tuple)) for value in (answer, expected))
        right = list(answer) == list(expected) if sequences else answer is expected or bool(answer == expected)
    if not right:
        raise AssertionError(f"✗ {what}: got {answer!r}.{' ' + hint if hint else ''}")
    print(f"✓ {what}")
