"""Checks for hyperparameters.

Each takes the argument's name and a value, and returns the value as it is kept, or raises a
TypeError (not a number, not a bool) or ValueError (out of range).
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np

Check: TypeAlias = Callable[[str, Any], Any]

MOST_STEPS = 2**53  # counts beyond are no whole numbers in torch's state, either


def finite(name: str, value: Any) -> float:
    """Check for a finite number."""
    return _number(name, value, "a finite number", lambda x: True)


def non_negative(name: str, value: Any) -> float:
    """Check for a finite number, 0 or more."""
    return _number(name, value, "a finite number >= 0", lambda x: x >= 0)


def positive(name: str, value: Any, *, infinite: bool = False) -> float:
    """Check for a number above 0, finite unless it may be infinite."""
    expected = "a number > 0" if infinite else "a finite number > 0"
    return _number(name, value, expected, lambda x: x > 0, infinite=infinite)


def decay_rate(name: str, value: Any) -> float:
    """Check for a number in [0, 1)."""
    return _number(name, value, "a number in [0, 1)", lambda x: 0 <= x < 1)


def fraction(name: str, value: Any) -> float:
    """Check for a number in [0, 1]."""
    return _number(name, value, "a number in [0, 1]", lambda x: 0 <= x <= 1)


def fraction_or_none(name: str, value: Any) -> float | None:
    """Check for a number in [0, 1], or None."""
    return None if value is None else fraction(name, value)


def decay_rates(name: str, value: Any) -> tuple[float, float]:
    """Check for two numbers in [0, 1)."""
    is_sequence = isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)
    if not is_sequence or isinstance(value, str):
        raise TypeError(f"{name}: expected a pair of numbers, got {_show(value)}")
    if len(value) != 2:
        raise ValueError(f"{name}: expected a pair of numbers, got {len(value)} of them")
    first, second = value
    return decay_rate(f"{name}[0]", first), decay_rate(f"{name}[1]", second)


#: The checks of numbers: of what a schedule can give, too.
NUMBERS: tuple[Check, ...] = (finite, non_negative, decay_rate, decay_rates, fraction_or_none)


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


def _number(
    name: str,
    value: Any,
    expected: str,
    accepts: Callable[[float], bool],
    *,
    infinite: bool = False,
) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, Real) or isinstance(value, bool | np.timedelta64):
        raise TypeError(f"{name}: expected {expected}, got {_show(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf  # or its negative: neither is finite
    if not ((infinite or math.isfinite(number)) and accepts(number)):
        raise ValueError(f"{name}: expected {expected}, got {number}")
    return number


def _show(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
