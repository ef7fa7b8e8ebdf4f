"""Hyperparameters that change with the number of steps.

A schedule is a function from how many steps an optimizer has completed, 0 at the first one, to a
value. Every number among the hyperparameters may be one: ``Adam(params, lr=schedules.cosine(1e-3,
1000))``; so may any other function of that kind. It has to give the same value whenever it is asked
about the same step: that can be several times, and steps that were skipped are not counted. What a
hyperparameter is at the next step is ``group.values_at(opt.completed_steps)["lr"]``.

Those here are values, too: they compare by what they mean.

>>> from fusedopt import schedules
>>> lr = schedules.warmup(schedules.cosine(0.1, steps=90), steps=10)
>>> [round(lr(step), 3) for step in (0, 5, 10, 55, 100, 1000)]
[0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
>>> lr == schedules.warmup(schedules.cosine(0.1, steps=90), steps=10)
True
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

from ._hyperparameters import MOST_STEPS, finite

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "join",
    "linear",
    "one_cycle",
    "piecewise",
    "polynomial",
    "step",
    "warmup",
]


class Schedule(ABC):
    """What all schedules of this module are: a function of the step count, and a value."""

    _kinds: ClassVar[dict[str, type[Schedule]]] = {}

    def __init_subclass__(cls) -> None:
        if cls.__module__ == __name__:
            Schedule._kinds[cls.__name__] = cls

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the value after so many completed steps."""

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as plain data: its name, and what it was made of."""
        values = {field.name: _to_plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **values}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Schedule:
        """Return the schedule that `to_dict` made this data of.

        Raises
        ------
        ValueError
            If there is no such schedule, or it can't be made of this.
        """
        arguments = {name: _from_plain(value) for name, value in data.items()}
        kind = arguments.pop("kind", None)
        if kind not in Schedule._kinds:
            raise ValueError(f"schedule: there is none named {kind!r}")
        try:
            return Schedule._kinds[kind](**arguments)
        except TypeError as error:
            raise ValueError(f"schedule: {error}") from None


def _to_plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    return [_to_plain(item) for item in value] if isinstance(value, tuple) else value


def _from_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Schedule.from_dict(value)
    return tuple(_from_plain(item) for item in value) if isinstance(value, list) else value


def _finite(schedule: Any, *names: str) -> None:
    for name in names:
        object.__setattr__(schedule, name, finite(name, getattr(schedule, name)))


def _count(schedule: Any, name: str) -> None:
    value = getattr(schedule, name)
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {value!r} ({type(value).__name__})")
    count = int(value)
    if not 1 <= count <= MOST_STEPS:
        shown = max(-(2**64), min(count, 2**64))  # longer numbers may refuse to be printed
        raise ValueError(f"{name}: expected 1 to 2**53, got {shown}")
    object.__setattr__(schedule, name, count)


def _sequence(schedule: Any, name: str) -> None:
    value = getattr(schedule, name)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name}: expected a list, got {value!r} ({type(value).__name__})")


def _boundaries(schedule: Any) -> None:
    _sequence(schedule, "boundaries")
    values = tuple(schedule.boundaries)
    if not all(isinstance(b, Integral) and not isinstance(b, bool) for b in values):
        raise TypeError(f"boundaries: expected ints, got {values!r}")
    if any(b < 1 for b in values) or any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"boundaries: expected rising step counts from 1, got {values!r}")
    object.__setattr__(schedule, "boundaries", tuple(int(b) for b in values))


def _as_schedule(name: str, value: Any) -> Schedule:
    if isinstance(value, Schedule):
        return value
    if callable(value):
        raise TypeError(f"{name}: expected a schedule of this module, or a number, got {value!r}")
    return constant(finite(name, value))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


@dataclass(frozen=True)
class constant(Schedule):
    """Always the same value.

    >>> from fusedopt import schedules
    >>> schedules.constant(0.1)(1000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        _finite(self, "value")

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class linear(Schedule):
    """In equal steps from start to end, and then end; as `optax.linear_schedule`.

    >>> from fusedopt import schedules
    >>> momentum = schedules.linear(0.5, 0.9, steps=4)
    >>> [round(momentum(step), 2) for step in range(6)]
    [0.5, 0.6, 0.7, 0.8, 0.9, 0.9]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _finite(self, "start", "end")
        _count(self, "steps")

    def __call__(self, step: int) -> float:
        part = min(step / self.steps, 1.0)
        return self.start + (self.end - self.start) * part


@dataclass(frozen=True)
class polynomial(Schedule):
    """``end + (start − end)·(1 − step/steps)^power``, then end; as `optax.polynomial_schedule`.

    >>> from fusedopt import schedules
    >>> schedules.polynomial(1.0, 0.0, steps=10, power=2)(5)
    0.25
    """

    start: float
    end: float
    steps: int
    power: float

    def __post_init__(self) -> None:
        _finite(self, "start", "end", "power")
        _count(self, "steps")
        if self.power <= 0:
            raise ValueError(f"power: expected a number > 0, got {self.power}")

    def __call__(self, step: int) -> float:
        rest = 1 - min(step / self.steps, 1.0)
        return float(self.end + (self.start - self.end) * rest**self.power)


@dataclass(frozen=True)
class exponential(Schedule):
    """``start·gamma^step``; as torch's ExponentialLR.

    >>> from fusedopt import schedules
    >>> schedules.exponential(1.0, gamma=0.5)(3)
    0.125
    """

    start: float
    gamma: float

    def __post_init__(self) -> None:
        _finite(self, "start", "gamma")
        _decay(self.gamma)

    def __call__(self, step: int) -> float:
        return float(self.start * self.gamma**step)


def _decay(gamma: float) -> None:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma: expected a number in (0, 1], got {gamma}")


@dataclass(frozen=True)
class step(Schedule):
    """``start·gamma^⌊step/step_size⌋``; as torch's StepLR.

    >>> from fusedopt import schedules
    >>> lr = schedules.step(1.0, step_size=10, gamma=0.5)
    >>> lr(9), lr(10), lr(20)
    (1.0, 0.5, 0.25)
    """

    start: float
    step_size: int
    gamma: float

    def __post_init__(self) -> None:
        _finite(self, "start", "gamma")
        _count(self, "step_size")
        _decay(self.gamma)

    def __call__(self, step: int) -> float:
        return float(self.start * self.gamma ** (step // self.step_size))


@dataclass(frozen=True)
class piecewise(Schedule):
    """One value until each boundary, and another from there on.

    >>> from fusedopt import schedules
    >>> lr = schedules.piecewise(boundaries=[100, 200], values=[0.1, 0.01, 0.001])
    >>> lr(99), lr(100), lr(1000)
    (0.1, 0.01, 0.001)
    """

    boundaries: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        _boundaries(self)
        _sequence(self, "values")
        values = tuple(finite(f"values[{i}]", value) for i, value in enumerate(self.values))
        if len(values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values: expected one more than boundaries, {len(self.boundaries) + 1}, "
                f"got {len(values)}"
            )
        object.__setattr__(self, "values", values)

    def __call__(self, step: int) -> float:
        return self.values[bisect_right(self.boundaries, step)]


@dataclass(frozen=True)
class cosine(Schedule):
    """Along half a cosine from start to end, and then end; until there as CosineAnnealingLR.

    ``end + (start − end)·(1 + cos(π·step/steps))/2``.

    >>> from fusedopt import schedules
    >>> lr = schedules.cosine(1.0, steps=100)
    >>> lr(0), round(lr(50), 3), lr(100), lr(101)
    (1.0, 0.5, 0.0, 0.0)
    """

    start: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _finite(self, "start", "end")
        _count(self, "steps")

    def __call__(self, step: int) -> float:
        return _cosine(self.start, self.end, min(step / self.steps, 1.0))


@dataclass(frozen=True)
class cosine_restarts(Schedule):
    """Cosines one after the other, each ``mult`` times as long as the one before.

    As torch's CosineAnnealingWarmRestarts. I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient
    Descent with Warm Restarts", ICLR 2017.

    >>> from fusedopt import schedules
    >>> lr = schedules.cosine_restarts(1.0, period=10, mult=2)
    >>> [round(lr(step), 3) for step in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    start: float
    period: int
    mult: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        _finite(self, "start", "end")
        _count(self, "period")
        _count(self, "mult")

    def __call__(self, step: int) -> float:
        if self.mult == 1:
            at, period = step % self.period, self.period
        else:
            at, period = step, self.period
            while at >= period:
                at -= period
                period *= self.mult
        return _cosine(self.start, self.end, at / period)


@dataclass(frozen=True)
class one_cycle(Schedule):
    """Up to a peak and far down again, along half cosines; as torch's OneCycleLR.

    From ``peak/div_factor`` to ``peak`` in the first ``pct_start`` of the steps, then to
    ``peak/div_factor/final_div_factor``, where it stays. L. N. Smith and N. Topin,
    "Super-Convergence", 2019.

    >>> from fusedopt import schedules
    >>> lr = schedules.one_cycle(1.0, steps=101, pct_start=0.5)
    >>> round(lr(0), 3), round(lr(50), 3), round(lr(100), 7)
    (0.04, 1.0, 4e-06)
    """

    peak: float
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        _finite(self, "peak", "pct_start", "div_factor", "final_div_factor")
        _count(self, "steps")
        if not 0 <= self.pct_start <= 1:
            raise ValueError(f"pct_start: expected a number in [0, 1], got {self.pct_start}")
        for name in ("div_factor", "final_div_factor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)}")

    def __call__(self, step: int) -> float:
        start = self.peak / self.div_factor
        end = start / self.final_div_factor
        top, last = self.pct_start * self.steps - 1, self.steps - 1
        if step <= top and top > 0:
            return _cosine(start, self.peak, step / top)
        if step >= last:
            return end
        return _cosine(self.peak, end, (step - top) / (last - top))


@dataclass(frozen=True)
class warmup(Schedule):
    """In equal steps from start to a schedule's first value, and then that schedule from there on.

    As `optax.warmup_cosine_decay_schedule`, for any schedule, or a number.

    >>> from fusedopt import schedules
    >>> lr = schedules.warmup(schedules.exponential(1.0, gamma=0.5), steps=2)
    >>> [lr(step) for step in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """

    schedule: Schedule | float
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", _as_schedule("schedule", self.schedule))
        _count(self, "steps")
        _finite(self, "start")

    def __call__(self, step: int) -> float:
        assert isinstance(self.schedule, Schedule)
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.start + (self.schedule(0) - self.start) * (step / self.steps)


@dataclass(frozen=True)
class join(Schedule):
    """One schedule after the other, each counting from the boundary before it.

    As `optax.join_schedules`; a number counts as a constant.

    >>> from fusedopt import schedules
    >>> lr = schedules.join([0.1, schedules.linear(0.1, 0.0, steps=10)], boundaries=[100])
    >>> lr(50), round(lr(105), 3), lr(200)
    (0.1, 0.05, 0.0)
    """

    schedules: Sequence[Schedule | float]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        _boundaries(self)
        _sequence(self, "schedules")
        parts = tuple(_as_schedule(f"schedules[{i}]", s) for i, s in enumerate(self.schedules))
        if len(parts) != len(self.boundaries) + 1:
            raise ValueError(
                f"schedules: expected one more than boundaries, {len(self.boundaries) + 1}, "
                f"got {len(parts)}"
            )
        object.__setattr__(self, "schedules", parts)

    def __call__(self, step: int) -> float:
        k = bisect_right(self.boundaries, step)
        part = self.schedules[k]
        assert isinstance(part, Schedule)
        return part(step - self.boundaries[k - 1] if k else step)
