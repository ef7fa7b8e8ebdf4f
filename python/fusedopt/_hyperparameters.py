"""Checks for hyperparameters.

Each takes the argument's name and a value, and returns the value as it is kept, or raises a
TypeError (not a number, not a bool) or ValueError (out of range).
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np

Check: TypeAlias = Callable[[str, Any], Any]

MOST_STEPS = 2**53  # counts beyond are no whole numbers in torch's state, either


@dataclass(frozen=True)
class Number:
    """A check for a number from ``low`` to ``high``, both included."""

    expected: str
    low: float
    high: float

    def __call__(self, name: str, value: Any) -> float:
        if type(value) is float and self.low <= value <= self.high:
            return value
        number = _as_float(name, value, self.expected)
        if not self.low <= number <= self.high:
            raise ValueError(f"{name}: expected {self.expected}, got {number}")
        return number


@dataclass(frozen=True)
class NumberOrNone:
    """A check for a number, or None."""

    number: Number

    def __call__(self, name: str, value: Any) -> float | None:
        return None if value is None else self.number(name, value)


@dataclass(frozen=True)
class Pair:
    """A check for two numbers."""

    number: Number

    def __call__(self, name: str, value: Any) -> tuple[float, float]:
        is_sequence = isinstance(value, Sequence) or (
            isinstance(value, np.ndarray) and value.ndim > 0
        )
        if not is_sequence or isinstance(value, str):
            raise TypeError(f"{name}: expected a pair of numbers, got {_show(value)}")
        if len(value) != 2:
            raise ValueError(f"{name}: expected a pair of numbers, got {len(value)} of them")
        first, second = value
        return self.number(f"{name}[0]", first), self.number(f"{name}[1]", second)


_LARGEST = sys.float_info.max
_SMALLEST = math.ulp(0.0)

finite = Number("a finite number", -_LARGEST, _LARGEST)
non_negative = Number("a finite number >= 0", 0.0, _LARGEST)
positive = Number("a finite number > 0", _SMALLEST, _LARGEST)
positive_or_infinite = Number("a number > 0", _SMALLEST, math.inf)
decay_rate = Number("a number in [0, 1)", 0.0, math.nextafter(1.0, 0.0))
fraction = Number("a number in [0, 1]", 0.0, 1.0)
fraction_or_none = NumberOrNone(fraction)
decay_rates = Pair(decay_rate)


def numbers_of(name: str, check: Check) -> list[tuple[str, float, float]]:
    """Return what numbers of a rule a hyperparameter stands for, and their bounds.

    One of the same name; for a pair, as ``betas``, two, ``beta1`` and ``beta2``. None where it is
    no number: then no schedule can stand there, either.
    """
    if isinstance(check, Pair):
        return [(f"{name[:-1]}{k}", check.number.low, check.number.high) for k in (1, 2)]
    number = check.number if isinstance(check, NumberOrNone) else check
    return [(name, number.low, number.high)] if isinstance(number, Number) else []


def flag(name: str, value: Any) -> bool:
    """Check for True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {_show(value)}")
    return bool(value)


def only_true(reason: str) -> Check:
    """Return a check for True, where there is nothing else to choose."""

    def check(name: str, value: Any) -> bool:
        if not flag(name, value):
            raise ValueError(f"{name}: expected True, got False: {reason}")
        return True

    return check


def one_of(*choices: str | None) -> Check:
    """Return a check for one of these values."""
    expected = " or ".join(repr(choice) for choice in choices)

    def check(name: str, value: Any) -> Any:
        # By type first: an array would be compared element by element.
        if not (isinstance(value, str) or (value is None and None in choices)):
            raise TypeError(f"{name}: expected {expected}, got {_show(value)}")
        plain = value if value is None else str.__str__(value)
        if plain not in choices:
            raise ValueError(f"{name}: expected {expected}, got {plain!r}")
        return plain

    return check


def step_count(name: str, value: Any) -> int:
    """Check for a count from 1."""
    if not isinstance(value, Integral) or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an int, got {_show(value)}")
    count = int(value)
    if not 1 <= count < 2**63:
        shown = max(-(2**64), min(count, 2**64))  # longer numbers may refuse to be printed
        raise ValueError(f"{name}: expected a count from 1, got {shown:g}")
    return count


def in_kind(error: Exception, text: str) -> Exception:
    """Return an error with another text, and the kind that it is to users."""
    return TypeError(text) if isinstance(error, TypeError) else ValueError(text)


def _as_float(name: str, value: Any, expected: str) -> float:
    """Return a number as a float: an infinite one where it is too large, which no check takes."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, Real) or isinstance(value, bool | np.timedelta64):
        raise TypeError(f"{name}: expected {expected}, got {_show(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]  # of any Real


def _show(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
