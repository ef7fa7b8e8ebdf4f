"""Contract: a number counts from the next step on, however it was given and whatever it was before.

The native half reads numbers where they are written, and asks Python only what anything else means.
"""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import assert_same, copies, random_arrays
from fusedopt import reference, schedules

SHAPES = [3, 17, 260]
#: For every class the numbers of a group that takes each of them into account.
NUMBERS: dict[str, dict[str, list[Any]]] = {
    "SGD": {
        "lr": [0.1, 0.05, 0.0, 0.2],
        "momentum": [0.9, 0.5, 0.0, 0.25],
        "dampening": [0.5, -0.5, 0.0, 1.5],
        "weight_decay": [0.01, 0.1, 0.0, 0.02],
        "ema_decay": [0.9, 0.5, 0.0, 1.0],
    },
    "RMSprop": {
        "lr": [0.1, 0.05, 0.0, 0.2],
        "alpha": [0.9, 0.5, 0.0, 0.99],
        "eps": [1e-3, 0.5, 0.0, 1e-8],
        "weight_decay": [0.01, 0.1, 0.0, 0.02],
        "momentum": [0.9, 0.5, 0.0, 0.25],
        "eps_root": [1e-3, 0.5, 0.0, 1e-8],
        "ema_decay": [0.9, 0.5, 0.0, 1.0],
    },
    "Adam": {
        "lr": [0.1, 0.05, 0.0, 0.2],
        "betas": [(0.9, 0.99), (0.5, 0.25), (0.0, 0.9), (0.1, 0.0)],
        "eps": [1e-3, 0.5, 0.0, 1e-8],
        "weight_decay": [0.01, 0.1, 0.0, 0.02],
        "eps_root": [1e-3, 0.5, 0.0, 1e-8],
        "ema_decay": [0.9, 0.5, 0.0, 1.0],
    },
}
CASES = [(cls, name) for cls, numbers in NUMBERS.items() for name in numbers]
every_number = pytest.mark.parametrize(("cls", "name"), CASES, ids=lambda x: x)


def pair_of(
    cls: str, dtype: Any = np.float32, **values: Any
) -> tuple[fusedopt.Optimizer, fusedopt.Optimizer]:
    """Return an optimizer and its specification, all of whose numbers count."""
    first = {name: numbers[0] for name, numbers in NUMBERS[cls].items()}
    params = random_arrays(0, dtype, SHAPES)
    make = getattr(fusedopt, cls), getattr(reference, cls)
    actual, expected = (m(copies(params), **{**first, **values}) for m in make)
    return actual, expected


def step_both(*pair: fusedopt.Optimizer, seed: int = 1) -> None:
    dtype = pair[0].param_groups[0]["params"][0].dtype
    for opt in pair:
        opt.step(random_arrays(seed, dtype, SHAPES))
    assert_same(*pair)


def refuse_python(opt: fusedopt.Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no step of an optimizer ask Python what hyperparameters mean."""

    def refused(*arguments: Any) -> Any:
        raise AssertionError("asked Python")

    monkeypatch.setattr(opt, "_configure", refused)


@every_number
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_assigned_numbers_count_from_the_next_step(cls: str, name: str, dtype: type) -> None:
    actual, expected = pair_of(cls, dtype)
    step_both(actual, expected)
    values = NUMBERS[cls][name]
    for seed, value in enumerate([*values[1:], *values, *values[::-1]]):
        for opt in (actual, expected):
            opt.param_groups[0][name] = value
        step_both(actual, expected, seed=seed)
        assert actual.param_groups[0][name] == value


def schedules_of(name: str, values: list[Any]) -> list[Any]:
    """Return schedules that go round in values: one, and for a pair also one for each half."""

    def at(step: int) -> Any:
        return values[step % len(values)]

    return [at, (lambda k: at(k)[0], lambda k: at(k)[1])] if name == "betas" else [at]


@every_number
def test_scheduled_numbers_are_asked_at_each_step(cls: str, name: str) -> None:
    values = NUMBERS[cls][name]
    for schedule in schedules_of(name, values):
        actual, expected = pair_of(cls, **{name: schedule})
        for seed in range(2 * len(values) + 1):
            step_both(actual, expected, seed=seed)
        for opt in (actual, expected):  # and no more, where a number stands in its place
            opt.param_groups[0][name] = values[1]
        for seed in range(3):
            step_both(actual, expected, seed=seed)


@every_number
def test_a_plain_number_takes_no_python(
    cls: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the promised speed is made of, as long as whether it is 0 stays; a schedule's, too."""
    values = [(0.9, 0.4), (0.5, 0.25)] if name == "betas" else NUMBERS[cls][name][:2]
    for schedule in (None, schedules_of(name, values)[-1]):
        actual, expected = pair_of(cls, **({name: schedule} if schedule else {}))
        for seed in range(2):
            step_both(actual, expected, seed=seed)
        refuse_python(actual, monkeypatch)
        for seed, value in enumerate(values[::-1]):
            for opt in (actual, expected):
                if not schedule:
                    opt.param_groups[0][name] = value
            step_both(actual, expected, seed=seed)


@pytest.mark.parametrize(
    "make",
    [int, np.float64, np.float32, np.array, lambda x: np.array(x, np.float32)],
    ids=["int", "float64", "float32", "array", "float32 array"],
)
def test_schedules_may_give_any_kind_of_number(make: Callable[[float], Any]) -> None:
    actual, expected = pair_of("SGD", lr=lambda step: make(2.0 + step % 3))
    for seed in range(5):
        step_both(actual, expected, seed=seed)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (1e39, ValueError),  # finite, but not in float32
        (2**70 * 2**70, ValueError),
        (10**400, ValueError),
        (True, TypeError),
        ("0.1", TypeError),
        (None, TypeError),
    ],
    ids=str,
)
def test_a_schedule_that_gives_something_else_stops_the_step(
    bad: Any, error: type[Exception]
) -> None:
    given: list[Any] = [0.5]
    actual, expected = pair_of("SGD", lr=lambda step: given[0])
    for seed in range(3):
        step_both(actual, expected, seed=seed)
    given[0] = bad
    for _ in range(2):
        with pytest.raises(error, match="^lr: "):
            actual.step(random_arrays(9, np.float32, SHAPES))
    assert_same(actual, expected)
    given[0] = 0.25
    step_both(actual, expected, seed=9)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_whole_number_that_no_float_can_be_is_refused(sign: int) -> None:
    """Also where numbers below 0 go."""
    given: list[Any] = [0.5]
    opt = fusedopt.SGD([np.ones(3)], lr=0.1, momentum=0.5, dampening=lambda step: given[0])
    opt.step([np.ones(3)])
    for number in (10**400, 2**70 * 10**300):
        given[0] = sign * number
        with pytest.raises(ValueError, match="^dampening: expected a finite number"):
            opt.step([np.ones(3)])
    given[0] = -2
    opt.step([np.ones(3)])
    assert opt.completed_steps == 2


def test_an_average_comes_and_goes_whatever_its_decay() -> None:
    actual, expected = pair_of("SGD", ema_decay=None)
    step_both(actual, expected)
    for seed, decay in enumerate([0.0, None, 1.0, 0.5, None, 0.0, 0.25]):
        for opt in (actual, expected):
            opt.param_groups[0]["ema_decay"] = decay
        step_both(actual, expected, seed=seed)


def test_an_average_that_a_schedule_begins() -> None:
    for decay in (0.0, 0.5, 1.0):
        actual, expected = pair_of("SGD", ema_decay=lambda step, d=decay: None if step < 2 else d)
        for seed in range(4):
            step_both(actual, expected, seed=seed)
        assert len(actual.ema) == len(SHAPES)


def test_a_number_that_a_rule_makes_of_another_is_made_again() -> None:
    class Half(fusedopt.SGD):
        @staticmethod
        def _rule(group: Any, scheduled: frozenset[str] = frozenset()) -> Any:
            name, numbers = fusedopt.SGD._rule(group, scheduled)
            return name, {**numbers, "lr": numbers["lr"] / 2}

    p = np.zeros(1)
    opt = Half([p], lr=1.0)
    for lr in (1.0, 2.0, 4.0):
        opt.param_groups[0]["lr"] = lr
        opt.step([np.ones(1)])
    assert p.tolist() == [-3.5]


def test_a_number_too_large_for_float32_is_refused_with_its_name() -> None:
    actual, expected = pair_of("Adam")
    step_both(actual, expected)
    actual.param_groups[0]["lr"] = 1e39
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^lr: .*float32.*1e\+39"):
            actual.step(random_arrays(2, np.float32, SHAPES))
    assert_same(actual, expected)
    for opt in (actual, expected):
        opt.param_groups[0]["lr"] = 3e38
    step_both(actual, expected, seed=2)
    double, same = pair_of("Adam", np.float64)
    for opt in (double, same):
        opt.param_groups[0]["lr"] = 1e39
    step_both(double, same)


def test_a_number_that_no_longer_fits_is_refused_and_fits_again() -> None:
    """Whether a number is 0 is what others may depend on; it is seen on the fast way, too."""
    p = np.ones(3)
    opt = fusedopt.SGD([p], lr=0.5, momentum=0.5, nesterov=True)
    opt.step([p * 0])
    group = opt.param_groups[0]
    for name, bad, good in (("momentum", 0.0, 0.25), ("dampening", 0.5, 0.0)):
        group[name] = bad
        for _ in range(2):
            with pytest.raises(ValueError, match="^nesterov: needs a "):
                opt.step([p])
        group[name] = good
        opt.step([p * 0])
    assert opt.completed_steps == 3
    scheduled = fusedopt.SGD(
        [p], lr=0.5, momentum=0.5, nesterov=True, dampening=lambda step: 0.0 if step < 3 else 0.5
    )
    for _ in range(3):
        scheduled.step([p * 0])
    with pytest.raises(ValueError, match="^nesterov: needs a dampening of 0"):
        scheduled.step([p])


def test_each_group_has_its_own_numbers() -> None:
    params = random_arrays(0, np.float32, SHAPES)
    actual, expected = (
        module.SGD([{"params": [p], "lr": 0.1 * k} for k, p in enumerate(copies(params))])
        for module in (fusedopt, reference)
    )
    for seed in range(6):
        for opt in (actual, expected):
            opt.param_groups[seed % 3]["lr"] = 0.3 + 0.1 * seed
            opt.step(random_arrays(seed, np.float32, SHAPES))
        for ours, theirs in zip(actual.param_groups, expected.param_groups, strict=True):
            np.testing.assert_array_equal(ours["params"][0], theirs["params"][0])


def test_schedules_may_look_at_the_optimizer_but_not_step_it() -> None:
    p = np.ones(3)
    seen: list[Any] = []

    def lr(step: int) -> float:
        if step:
            seen.append((opt.completed_steps, opt.state[0]["step"], opt.param_groups[0]["eps"]))
            with pytest.raises(RuntimeError, match=r"^step\(\): called from within"):
                opt.step([p])
            opt.param_groups[0]["eps"] = 0.5 * step  # for the next step
        return 0.5

    opt = fusedopt.Adam([p], lr=lr)
    for _ in range(4):
        opt.step([np.ones(3)])
    assert seen == [(1, 1, 1e-8), (2, 2, 0.5), (3, 3, 1.0)]


def test_a_schedule_that_refers_to_its_optimizer_is_collected() -> None:
    class Model:
        def lr(self, step: int) -> float:
            return 0.5

    model = Model()
    p = np.ones(3)
    model.opt = fusedopt.SGD([p], lr=model.lr)  # type: ignore[attr-defined]
    for _ in range(2):
        model.opt.step([p * 0])  # type: ignore[attr-defined]
    left = weakref.ref(model)
    del model
    gc.collect()
    assert left() is None


def test_a_fraction_of_a_schedule_of_ours_is_what_it_says() -> None:
    """The numbers of a schedule, step by step, as parameters that move by exactly the rate."""
    schedule = schedules.warmup(schedules.cosine(0.5, steps=20), steps=5)
    p = np.zeros(1)
    opt = fusedopt.SGD([p], lr=schedule)
    for step in range(30):
        before = p[0]
        opt.step([np.ones(1)])
        assert p[0] == before - schedule(step)
