"""Contract: schedules give the values of their formulas, and say what an argument has to be."""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fusedopt.schedules import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    join,
    linear,
    one_cycle,
    piecewise,
    polynomial,
    step,
    warmup,
)


def half_wave(start: float, end: float, part: Fraction | float) -> float:
    return end + (start - end) * (math.cos(math.pi * part) + 1) / 2


EIGHTH = math.cos(math.pi / 4)

#: Each with its values from step 0 on, worked out by hand.
VALUES: list[tuple[Schedule, list[float]]] = [
    (constant(0.3), [0.3, 0.3, 0.3]),
    (linear(0.5, 0.9, steps=4), [0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9]),
    (linear(0.9, 0.5, steps=2), [0.9, 0.7, 0.5, 0.5]),
    (polynomial(0.5, 0.1, steps=4, power=2), [0.5, 0.325, 0.2, 0.125, 0.1, 0.1, 0.1]),
    (polynomial(0.1, 0.5, steps=2, power=3), [0.1, 0.45, 0.5, 0.5]),
    (polynomial(0.5, 0.1, steps=4, power=0.5), [0.5, 0.1 + 0.4 * 0.75**0.5]),
    (exponential(0.8, gamma=0.5), [0.8, 0.4, 0.2, 0.1]),
    (exponential(0.8, gamma=1), [0.8, 0.8, 0.8]),
    (step(0.8, step_size=2, gamma=0.5), [0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1]),
    (step(0.8, step_size=1, gamma=1), [0.8, 0.8]),
    (piecewise([2, 3], [0.1, 0.5, 0.2]), [0.1, 0.1, 0.5, 0.2, 0.2]),
    (piecewise([], [0.1]), [0.1, 0.1]),
    (
        cosine(0.6, steps=4, end=0.2),
        [0.6, 0.4 + 0.2 * EIGHTH, 0.4, 0.4 - 0.2 * EIGHTH, 0.2, 0.2, 0.2, 0.2, 0.2],
    ),
    (cosine(0.6, steps=2), [0.6, 0.3, 0.0, 0.0]),
    (cosine_restarts(0.6, period=2), [0.6, 0.3, 0.6, 0.3, 0.6, 0.3, 0.6]),
    (cosine_restarts(0.6, period=2, end=0.2), [0.6, 0.4, 0.6, 0.4]),
    (
        cosine_restarts(0.6, period=1, mult=2),
        [0.6, 0.6, 0.3, *(0.6, 0.3 + 0.3 * EIGHTH, 0.3, 0.3 - 0.3 * EIGHTH), 0.6],
    ),
    (cosine_restarts(0.6, period=1, mult=3), [0.6, 0.6, 0.45, 0.15, 0.6]),
    (
        one_cycle(0.8, steps=10, pct_start=0.5, div_factor=4, final_div_factor=10),
        [
            *(half_wave(0.2, 0.8, Fraction(k, 4)) for k in range(5)),
            *(half_wave(0.8, 0.02, Fraction(k, 5)) for k in range(1, 6)),
            *(0.02, 0.02),
        ],
    ),
    # The top is half a step behind the first one, and then before it.
    (
        one_cycle(0.8, steps=10, pct_start=0.15, div_factor=4, final_div_factor=10),
        [0.2, *(half_wave(0.8, 0.02, (k - 0.5) / 8.5) for k in range(1, 9)), 0.02, 0.02],
    ),
    (
        one_cycle(0.8, steps=5, pct_start=0, div_factor=0.5, final_div_factor=0.5),
        [*(half_wave(0.8, 3.2, (k + 1) / 5) for k in range(4)), 3.2, 3.2],
    ),
    (one_cycle(0.8, steps=1), [0.8 / 25 / 1e4, 0.8 / 25 / 1e4]),
    (warmup(exponential(0.8, gamma=0.5), steps=4), [0.0, 0.2, 0.4, 0.6, 0.8, 0.4, 0.2]),
    (warmup(0.3, steps=2, start=0.1), [0.1, 0.2, 0.3, 0.3]),
    (join([0.1, linear(0.5, 0.9, steps=2), 0.4], [1, 4]), [0.1, 0.5, 0.7, 0.9, 0.4, 0.4]),
]


@pytest.mark.parametrize(("schedule", "values"), VALUES, ids=str)
def test_values(schedule: Schedule, values: list[float]) -> None:
    found = [schedule(k) for k in range(len(values))]
    assert found == pytest.approx(values, rel=1e-14, abs=1e-15)
    assert {type(value) for value in found} == {float}


def test_the_ends_are_exact() -> None:
    """The number that was given, and none beside it."""
    assert 0.2 + (0.9 - 0.2) != 0.9
    for start, end in [(0.2, 0.9), (0.3, 0.9), (0.3, 0.7)]:
        assert warmup(end, steps=5, start=start)(5) == end
        assert one_cycle(end, steps=9, div_factor=3, final_div_factor=7)(8) == end / 3 / 7
        assert linear(start, end, steps=5)(0) == start


def test_any_step_is_found_at_once() -> None:
    assert cosine_restarts(1.0, period=1)(2**53) == 1.0
    assert cosine_restarts(1.0, period=3, end=0.5)(3 * 10**15) == 1.0
    assert cosine_restarts(1.0, period=1, mult=2)(2**53 - 1) == 1.0
    for schedule in (linear(1, 0, 2**53), cosine(1, 2**53), one_cycle(1, 2**53)):
        assert schedule(2**53) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("schedule", [schedule for schedule, _ in VALUES], ids=str)
def test_plain_data_is_plain_and_means_the_same(schedule: Schedule) -> None:
    data = schedule.to_dict()
    assert json.loads(json.dumps(data)) == data
    again = Schedule.from_dict(json.loads(json.dumps(data)))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert repr(again) == repr(schedule)


def test_numbers_of_other_types_become_pythons() -> None:
    given: Any = {
        "start": np.float32(0.5),
        "end": np.int64(0),
        "steps": np.int16(4),
        "power": np.float64(2),
    }
    schedule = polynomial(**given)
    assert [type(value) for value in vars(schedule).values()] == [float, float, int, float]
    assert type(piecewise([np.int8(1)], [np.float32(1), 2]).boundaries[0]) is int  # type: ignore[list-item]
    json.dumps(schedule.to_dict())


GOOD: list[tuple[Callable[..., Schedule], dict[str, Any]]] = [
    (constant, {"value": 1.0}),
    (linear, {"start": 1.0, "end": 0.0, "steps": 5}),
    (polynomial, {"start": 1.0, "end": 0.0, "steps": 5, "power": 2.0}),
    (exponential, {"start": 1.0, "gamma": 0.5}),
    (step, {"start": 1.0, "step_size": 5, "gamma": 0.5}),
    (cosine, {"start": 1.0, "steps": 5, "end": 0.0}),
    (cosine_restarts, {"start": 1.0, "period": 5, "mult": 2, "end": 0.0}),
    (
        one_cycle,
        {"peak": 1.0, "steps": 5, "pct_start": 0.3, "div_factor": 2.0, "final_div_factor": 2.0},
    ),
    (warmup, {"schedule": 1.0, "steps": 5, "start": 0.0}),
]


@pytest.mark.parametrize(("make", "arguments"), GOOD)
def test_what_each_argument_has_to_be(
    make: Callable[..., Schedule], arguments: dict[str, Any]
) -> None:
    make(**arguments)
    for name, good in arguments.items():
        if isinstance(good, int):
            wrong: list[tuple[Any, type[Exception], str]] = [
                (0, ValueError, r"expected 1 to 2\*\*53, got 0$"),
                (-1000, ValueError, r"expected 1 to 2\*\*53, got -1000$"),
                (2**53 + 1, ValueError, r"expected 1 to 2\*\*53, got 9007199254740993$"),
                (10**5000, ValueError, r"expected 1 to 2\*\*53, got 18446744073709551616$"),
                (True, TypeError, r"expected an int, got True \(bool\)$"),
                (1.0, TypeError, r"expected an int, got 1.0 \(float\)$"),
                (None, TypeError, r"expected an int, got None \(NoneType\)$"),
            ]
            make(**{**arguments, name: 2**53})
        else:
            wrong = [
                (math.nan, ValueError, "expected a finite number, got nan$"),
                (-math.inf, ValueError, "expected a finite number, got -inf$"),
                ("1", TypeError, r"expected a finite number, got '1' \(str\)$"),
                (None, TypeError, r"expected a finite number, got None \(NoneType\)$"),
            ]
        for value, error, text in wrong:
            with pytest.raises(error, match=f"^{name}: {text}"):
                make(**{**arguments, name: value})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: piecewise("12", [1]), "boundaries: expected a list, got '12'"),  # type: ignore[arg-type]
        (lambda: piecewise([1], "12"), "values: expected a list, got '12'"),  # type: ignore[arg-type]
        (lambda: join("12", [1]), "schedules: expected a list, got '12'"),  # type: ignore[arg-type]
        (lambda: piecewise([True], [1, 2]), r"boundaries: expected ints, got \(True,\)"),
        (lambda: join([1, 2], [True]), r"boundaries: expected ints, got \(True,\)"),
    ],
)
def test_lists(make: Callable[[], Schedule], text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}"):
        make()
