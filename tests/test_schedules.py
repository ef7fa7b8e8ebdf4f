"""Contract: schedules mean what those of torch and optax mean, and any number may be one."""

import math
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import assert_same, copies, every_dtype, random_arrays
from fusedopt import reference, schedules
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

EVERY: list[Schedule] = [
    constant(0.3),
    linear(0.5, 0.9, steps=17),
    polynomial(0.5, 0.1, steps=23, power=2.5),
    exponential(0.7, gamma=0.93),
    step(0.7, step_size=7, gamma=0.3),
    piecewise([3, 11, 12], [0.1, 0.5, 0.2, 0.01]),
    cosine(0.4, steps=31, end=0.1),
    cosine_restarts(0.4, period=5, mult=2, end=0.1),
    cosine_restarts(0.4, period=7),
    one_cycle(0.9, steps=37),
    warmup(cosine(0.4, steps=20), steps=9, start=0.05),
    warmup(0.4, steps=9),
    join([0.1, linear(0.1, 0.6, steps=5), exponential(0.6, gamma=0.5)], [4, 12]),
]
every_schedule = pytest.mark.parametrize("schedule", EVERY, ids=repr)


@every_schedule
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    data = schedule.to_dict()
    again = Schedule.from_dict(data)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert again.to_dict() == data
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), vars(schedules)) == schedule
    assert sum(schedule == other for other in EVERY) == 1
    assert [again(k) for k in range(60)] == [schedule(k) for k in range(60)]
    assert all(type(schedule(k)) is float for k in range(60))
    with pytest.raises(AttributeError):
        schedule.start = 1  # type: ignore[attr-defined]


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: constant(math.nan), ValueError, "value: expected a finite number, got nan"),
    (lambda: constant("1"), TypeError, "value: expected a finite number, got '1'"),  # type: ignore[arg-type]
    (lambda: linear(0, 1, steps=0), ValueError, "steps: expected 1 to 2.*53, got 0"),
    (
        lambda: one_cycle(1, 10**400),
        ValueError,
        "steps: expected 1 to 2.*53, got 18446744073709551616",
    ),
    (
        lambda: linear(0, 1, steps=2**53 + 1),
        ValueError,
        r"steps: expected 1 to 2\*\*53, got 9007199",
    ),
    (lambda: linear(0, 1, steps=1.5), TypeError, "steps: expected an int, got 1.5"),  # type: ignore[arg-type]
    (lambda: polynomial(0, 1, 5, power=0), ValueError, "power: expected a number > 0, got 0"),
    (lambda: exponential(1, gamma=0), ValueError, r"gamma: expected a number in \(0, 1\], got 0"),
    (lambda: step(1, 5, gamma=1.1), ValueError, r"gamma: expected a number in \(0, 1\], got 1.1"),
    (lambda: piecewise([5], [1]), ValueError, "values: expected one more than boundaries, 2, got"),
    (lambda: piecewise([5, 5], [1, 2, 3]), ValueError, "boundaries: expected rising step counts"),
    (lambda: piecewise([0], [1, 2]), ValueError, "boundaries: expected rising step counts from 1"),
    (lambda: piecewise([1.5], [1, 2]), TypeError, "boundaries: expected ints, got"),  # type: ignore[list-item]
    (lambda: piecewise([5], [1, "2"]), TypeError, r"values\[1\]: expected a finite number"),  # type: ignore[list-item]
    (lambda: piecewise(10, [1]), TypeError, "boundaries: expected a list, got 10"),  # type: ignore[arg-type]
    (lambda: piecewise([10], 1), TypeError, "values: expected a list, got 1"),  # type: ignore[arg-type]
    (lambda: join(0.1, [3]), TypeError, "schedules: expected a list, got 0.1"),  # type: ignore[arg-type]
    (lambda: cosine_restarts(1, 5, mult=0), ValueError, "mult: expected 1 to 2.*53, got 0"),
    (lambda: one_cycle(1, 9, pct_start=2), ValueError, r"pct_start: expected a number in \[0, 1\]"),
    (lambda: one_cycle(1, 9, div_factor=0), ValueError, "div_factor: expected a number > 0"),
    (lambda: warmup(math.sin, steps=5), TypeError, "schedule: expected a schedule of this module"),  # type: ignore[arg-type]
    (lambda: join([1], [1]), ValueError, "schedules: expected one more than boundaries, 2, got 1"),
    (lambda: join([1, math.sin], [1]), TypeError, r"schedules\[1\]: expected a schedule of this"),  # type: ignore[list-item]
    (lambda: Schedule.from_dict({}), ValueError, "schedule: there is none named None"),
    (lambda: Schedule.from_dict({"kind": "x"}), ValueError, "schedule: there is none named"),
    (
        lambda: Schedule.from_dict({"kind": "cosine", "start": 1}),
        ValueError,
        "schedule: .*missing 1 required positional argument: 'steps'",
    ),
]


@pytest.mark.parametrize(("make", "error", "text"), BAD)
def test_what_is_no_schedule(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        make()


def test_another_class_of_the_same_name_takes_no_place() -> None:
    type("cosine", (Schedule,), {"__call__": lambda self, step: 1.0})
    assert Schedule.from_dict(cosine(0.1, steps=3).to_dict()) == cosine(0.1, steps=3)


# Against torch and optax, over the whole range and beyond it.


def rates_of_torch(make: Callable[[Any, Any], Any], start: float, steps: int) -> list[float]:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=start)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


TORCH: list[tuple[Schedule, float, int, Callable[[Any, Any], Any]]] = [
    (exponential(0.7, gamma=0.93), 0.7, 60, lambda s, o: s.ExponentialLR(o, 0.93)),
    (step(0.7, step_size=7, gamma=0.3), 0.7, 60, lambda s, o: s.StepLR(o, 7, 0.3)),
    (
        piecewise([3, 11, 12], [0.1, 0.05, 0.025, 0.0125]),
        0.1,
        30,
        lambda s, o: s.MultiStepLR(o, [3, 11, 12], 0.5),
    ),
    (
        linear(0.2, 0.6, steps=17),
        0.8,
        40,
        lambda s, o: s.LinearLR(o, start_factor=0.25, end_factor=0.75, total_iters=17),
    ),
    (
        polynomial(0.5, 0.0, steps=23, power=2.5),
        0.5,
        40,
        lambda s, o: s.PolynomialLR(o, total_iters=23, power=2.5),
    ),
    (cosine(0.4, steps=31, end=0.1), 0.4, 32, lambda s, o: s.CosineAnnealingLR(o, 31, 0.1)),
    (
        cosine_restarts(0.4, period=5, mult=2, end=0.1),
        0.4,
        80,
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, 0.1),
    ),
    (
        cosine_restarts(0.4, period=7),
        0.4,
        80,
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    ),
    *(
        (
            one_cycle(0.9, steps, pct_start=pct, div_factor=10, final_div_factor=100),
            0.9,
            steps,
            lambda s, o, steps=steps, pct=pct: s.OneCycleLR(
                o,
                max_lr=0.9,
                total_steps=steps,
                pct_start=pct,
                div_factor=10,
                final_div_factor=100,
                cycle_momentum=False,
            ),
        )
        for steps, pct in [(37, 0.3), (100, 0.25), (10, 0.5)]
    ),
    (
        warmup(cosine(0.4, steps=20), steps=8, start=0.1),
        0.4,
        29,
        lambda s, o: s.SequentialLR(
            o,
            [s.LinearLR(o, start_factor=0.25, total_iters=8), s.CosineAnnealingLR(o, 20)],
            [8],
        ),
    ),
]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of torch's SequentialLR, about itself
@pytest.mark.parametrize(("schedule", "start", "steps", "make"), TORCH)
def test_torch_has_the_same(
    schedule: Schedule, start: float, steps: int, make: Callable[[Any, Any], Any]
) -> None:
    expected = rates_of_torch(make, start, steps)
    np.testing.assert_allclose([schedule(k) for k in range(steps)], expected, rtol=1e-9, atol=1e-12)


OPTAX: list[tuple[Schedule, Callable[[Any], Any]]] = [
    (constant(0.3), lambda o: o.constant_schedule(0.3)),
    (linear(0.5, 0.9, steps=17), lambda o: o.linear_schedule(0.5, 0.9, 17)),
    (
        polynomial(0.5, 0.1, steps=23, power=2.5),
        lambda o: o.polynomial_schedule(0.5, 0.1, 2.5, 23),
    ),
    (exponential(0.7, gamma=0.93), lambda o: o.exponential_decay(0.7, 1, 0.93)),
    (
        step(0.7, step_size=7, gamma=0.3),
        lambda o: o.exponential_decay(0.7, 7, 0.3, staircase=True),
    ),
    (
        piecewise([3, 11], [0.1, 0.5, 0.05]),
        lambda o: o.piecewise_constant_schedule(0.1, {3: 5.0, 11: 0.1}),
    ),
    (cosine(0.4, steps=31, end=0.1), lambda o: o.cosine_decay_schedule(0.4, 31, alpha=0.25)),
    (
        warmup(cosine(0.4, steps=20, end=0.1), steps=9, start=0.05),
        lambda o: o.warmup_cosine_decay_schedule(0.05, 0.4, 9, 29, 0.1),
    ),
    (
        join([0.1, linear(0.1, 0.6, steps=5), exponential(0.6, gamma=0.5)], [4, 12]),
        lambda o: o.join_schedules(
            [
                o.constant_schedule(0.1),
                o.linear_schedule(0.1, 0.6, 5),
                o.exponential_decay(0.6, 1, 0.5),
            ],
            [4, 12],
        ),
    ),
]


@pytest.mark.parametrize(("schedule", "make"), OPTAX)
def test_optax_has_the_same(schedule: Schedule, make: Callable[[Any], Any]) -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed (extra: peers)")
    theirs = make(optax)
    for k in range(70):
        assert schedule(k) == pytest.approx(float(theirs(k)), rel=3e-6, abs=1e-7), k


# In optimizers.


@every_dtype
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("SGD", {"lr": cosine(0.1, steps=9), "weight_decay": linear(0.1, 0.3, steps=5)}),
        ("SGD", {"momentum": linear(0.5, 0.9, steps=8), "dampening": constant(0.25)}),
        ("SGD", {"momentum": linear(0.5, 0.9, steps=8), "velocity": True}),
        (
            "RMSprop",
            {
                "alpha": linear(0.9, 0.99, 5),
                "eps": exponential(1e-3, 0.5),
                "eps_root": lambda step: 1e-4 / (1 + step),
                "momentum": lambda step: 0.1 * (step % 3 + 1),
            },
        ),
        ("Adam", {"lr": one_cycle(0.1, 12), "betas": (linear(0.95, 0.85, 6), 0.99)}),
        ("AdamW", {"betas": lambda step: (0.9, 1 - 1 / (step + 2)), "eps_hat": True}),
    ],
)
def test_scheduled_is_as_if_assigned_before_each_step(
    optimizer: str, options: dict[str, Any], dtype: type
) -> None:
    def now(value: Any, step: int) -> Any:
        if isinstance(value, tuple):
            return tuple(now(part, step) for part in value)
        return value(step) if callable(value) else value

    params = random_arrays(0, dtype, [3, 70, 1001])
    scheduled = getattr(fusedopt, optimizer)(params, **options)
    specified = getattr(reference, optimizer)(copies(params), **options)
    values = {name: now(value, 0) for name, value in options.items()}
    assigned = getattr(fusedopt, optimizer)(copies(params), **values)
    for k in range(12):
        assert scheduled.completed_steps == k
        for name, value in options.items():
            if name != "velocity":
                assigned.param_groups[0][name] = now(value, k)
        grads = random_arrays(1 + k, dtype, [3, 70, 1001])
        for opt in (scheduled, specified, assigned):
            opt.step(grads)
    assert_same(scheduled, specified)
    assert_same(scheduled, assigned)


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_a_list_of_schedules_is_kept_as_it_was(module: Any) -> None:
    betas = [linear(0.95, 0.85, 6), 0.99]
    opt = module.Adam([np.ones(3)], betas=betas)
    assert opt.param_groups[0]["betas"] == tuple(betas)
    betas[1] = 2.0
    opt.step([np.ones(3)])
    assert opt.param_groups[0].values_at(6)["betas"] == (0.85, 0.99)


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_schedules_that_give_numbers_of_other_kinds(module: Any) -> None:
    class Number:
        def __init__(self, value: float) -> None:
            self.value = value

        def __float__(self) -> float:
            return self.value

    for betas in (
        lambda step: (Number(0.5), Number(0.75)),
        lambda step: [Number(0.5), 0.75],
        (lambda step: Number(0.5), 0.75),
    ):
        opt = module.Adam([np.ones(3)], lr=lambda step: Number(0.25), betas=betas)
        opt.step([np.ones(3)])
        assert opt.param_groups[0].values_at(5)["betas"] == (0.5, 0.75)
        assert opt.param_groups[0].values_at(5)["lr"] == 0.25


@every_dtype
def test_momentum_annealed_from_zero(dtype: type) -> None:
    """The buffer is there from the beginning; a momentum that is only 0 has none."""
    params = random_arrays(0, dtype, [70])
    momentum = piecewise([3, 6], [0, 0.5, 0.9])
    for options in ({}, {"nesterov": True}, {"momentum_init": "zeros", "dampening": 0.5}):
        ours = fusedopt.SGD(copies(params), momentum=momentum, **options)
        theirs = reference.SGD(copies(params), momentum=momentum, **options)
        for k in range(9):
            grads = random_arrays(1 + k, dtype, [70])
            ours.step(grads), theirs.step(grads)
            if k == 2 and not options:
                np.testing.assert_array_equal(ours.state[0]["momentum_buffer"], grads[0])
        assert_same(ours, theirs)
    rms = fusedopt.RMSprop(params, momentum=momentum)
    rms.step(random_arrays(1, dtype, [70]))
    assert "momentum_buffer" in rms.state[0]


def test_schedules_of_groups_and_of_the_optimizer() -> None:
    params = [np.zeros(1), np.zeros(1), np.zeros(1)]
    groups = [
        {"params": params[:1]},
        {"params": params[1:2], "lr": exponential(1.0, gamma=0.5)},
        {"params": params[2:], "lr": 0.25},
    ]
    opt = fusedopt.SGD(groups, lr=piecewise([2], [1.0, 0.0]))
    for _ in range(4):
        opt.step([-np.ones(1)] * 3)
    assert [p[0] for p in params] == [2.0, 1 + 0.5 + 0.25 + 0.125, 1.0]
    opt.param_groups[1]["lr"] = 0.0
    opt.param_groups[2]["lr"] = cosine(1.0, steps=4)  # it is at its end
    opt.step([-np.ones(1)] * 3)
    assert [p[0] for p in params] == [2.0, 1.875, 1.0]
    assert "lr=piecewise(boundaries=(2,), values=(1.0, 0.0))" in repr(opt)
    assert opt.param_groups[2]["lr"] == cosine(1.0, steps=4)
    assert opt.param_groups[2].values_at(2)["lr"] == pytest.approx(0.5)


def test_a_step_that_fails_is_not_counted() -> None:
    seen: list[int] = []

    def lr(step: int) -> float:
        seen.append(step)
        return 0.1

    opt = fusedopt.SGD([np.ones(3)], lr=lr)
    opt.step([np.ones(3)])
    with pytest.raises(ValueError, match="expected shape"):
        opt.step([np.ones(4)])
    opt.step([None])  # a step, if one without gradients
    opt.step([np.ones(3)])
    assert opt.completed_steps == 3
    assert sorted(set(seen)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("lr", "error", "text"),
    [
        (lambda step: -step, ValueError, "lr: expected a finite number >= 0, got -1.0, from its"),
        (lambda step: None if step else 1, TypeError, "lr: expected a finite number >= 0, got No"),
        (lambda step: "x" if step else 1, TypeError, "lr: expected a finite number >= 0, got 'x'"),
        (lambda step: math.nan if step else 1, ValueError, "lr: expected a finite number >= 0, g"),
        (lambda step: 1e39 if step else 1, ValueError, "lr: expected a number that is finite in"),
        (lambda step: 1 // (1 - step), ZeroDivisionError, ""),
    ],
)
def test_a_schedule_that_fails_changes_nothing(lr: Any, error: type[Exception], text: str) -> None:
    p = np.ones(3, np.float32)
    opt = fusedopt.SGD([p], lr=lr)
    opt.step([np.ones(3, np.float32)])
    before = p.copy()
    for _ in range(2):
        with pytest.raises(error, match=f"^{text}"):
            opt.step([np.ones(3, np.float32)])
    np.testing.assert_array_equal(p, before)
    assert opt.completed_steps == 1
    opt.param_groups[0]["lr"] = 0.5
    opt.step([np.ones(3, np.float32)])


def test_only_numbers_are_scheduled() -> None:
    for cls, name in [
        (fusedopt.SGD, "nesterov"),
        (fusedopt.SGD, "momentum_init"),
        (fusedopt.Adam, "amsgrad"),
        (fusedopt.AdamW, "eps_hat"),
    ]:
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            cls([np.ones(3)], **{name: lambda step: True})


def test_numbers_of_other_libraries() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed (extra: peers)")
    optax = pytest.importorskip("optax", reason="optax is not installed (extra: peers)")
    p, q = np.zeros(1), np.zeros(1)
    ours = fusedopt.SGD([p], lr=optax.cosine_decay_schedule(0.5, 8))
    theirs = fusedopt.SGD([q], lr=cosine(0.5, steps=8))
    for _ in range(10):
        ours.step([np.ones(1)]), theirs.step([np.ones(1)])
    np.testing.assert_allclose(p, q, rtol=1e-6)
    opt = fusedopt.Adam([p], betas=lambda step: (jnp.asarray(0.5), np.float32(0.75)))
    opt.step([np.ones(1)])
    np.testing.assert_array_equal(opt.state[0]["exp_avg_sq"], 0.25)


def test_lookahead_with_scheduled_momentum() -> None:
    params = random_arrays(0, np.float64, [100])
    options: dict[str, Any] = {"momentum": linear(0, 0.9, steps=5), "velocity": True, "lr": 0.1}
    ours, theirs = fusedopt.SGD(params, **options), reference.SGD(copies(params), **options)
    for _ in range(8):
        for opt in (ours, theirs):
            (p,) = opt.param_groups[0]["params"]
            with opt.lookahead():
                grads = [0.5 * p]
            opt.step(grads)
    assert_same(ours, theirs)


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_each_step_asks_once(module: Any) -> None:
    asked: list[int] = []

    def lr(step: int) -> float:
        asked.append(step)
        if step == 1:
            opt.param_groups[0]["lr"] = 0.0  # from the next step on
        return 0.5

    p = np.ones(1)
    opt = module.SGD([p], lr=lr)
    asked.clear()
    for _ in range(3):
        opt.step([np.ones(1)])
    assert asked == [0, 1]
    assert p[0] == 0


def test_threads_take_turns_with_schedules_too() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    p, g = np.zeros(1), -np.ones(1)
    opt = fusedopt.SGD([p], lr=float)
    try:
        threads = [
            threading.Thread(target=lambda: [opt.step([g]) for _ in range(300)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert opt.completed_steps == 1200
    assert p[0] == 1200 * 1199 / 2


def test_what_was_assigned_before_a_step_is_used_in_it() -> None:
    """Also where another thread is just asking schedules."""
    asked, go = threading.Event(), threading.Event()

    def lr(step: int) -> float:
        if step == 1:
            asked.set()
            go.wait(10)
        return 0.5

    p, q = np.zeros(1), np.zeros(1)
    opt = fusedopt.SGD([{"params": [p], "lr": lr}, {"params": [q], "lr": 0.5}])
    opt.step([np.ones(1), np.ones(1)])
    other = threading.Thread(target=lambda: opt.step([np.ones(1), np.ones(1)]))
    other.start()
    asked.wait(10)
    opt.param_groups[1]["lr"] = 0.0
    threading.Timer(0.1, go.set).start()
    opt.step([np.ones(1), np.ones(1)])
    other.join()
    assert opt.completed_steps == 3
    assert p[0] == -1.5
    assert q[0] == -0.5


def test_an_array_is_no_number() -> None:
    opt = fusedopt.SGD([np.ones(1)], lr=lambda step: np.array([0.1]) if step else 0.1)
    opt.step([np.ones(1)])
    text = r"^lr: expected a number, got an array of shape \(1,\), from its schedule after 1 steps"
    with pytest.raises(TypeError, match=text):
        opt.step([np.ones(1)])


def test_one_cycle_of_a_start_without_steps() -> None:
    """Its peak is where the first step is, or would be before it."""
    for steps, pct in ((10, 0.1), (1000, 0.001), (1, 1.0)):
        assert one_cycle(0.9, steps, pct_start=pct)(0) == (0.9 if steps > 1 else 0.9 / 25 / 1e4)
    early = one_cycle(0.9, 10, pct_start=0.0)
    assert early(0) < 0.9
    assert [early(k) > early(k + 1) for k in range(9)] == [True] * 9
    late = one_cycle(0.9, 10, pct_start=1.0)
    assert [late(k) < late(k + 1) for k in range(9)] == [True] * 9
    assert late(9) == 0.9
    assert late(10) == 0.9 / 25 / 1e4
    exact = one_cycle(0.9, 11, pct_start=0.5454545454545454)  # the top at step 5, not beside it
    assert exact(5) == pytest.approx(0.9, rel=1e-12)
    assert exact(10) == exact(11) == 0.9 / 25 / 1e4


def test_at_its_boundary_a_joined_schedule_is_at_its_beginning() -> None:
    parts: list[Schedule | float] = [0.5, linear(7.0, 9.0, steps=2), exponential(3.0, gamma=0.5)]
    schedule = join(parts, [2, 5])
    assert [schedule(k) for k in range(8)] == [0.5, 0.5, 7, 8, 9, 3, 1.5, 0.75]
    stairs = piecewise([2, 5], [1, 2, 3])
    assert [stairs(k) for k in range(7)] == [1, 1, 2, 2, 2, 3, 3]


def test_ends_of_schedules() -> None:
    """Where one becomes another, on both sides."""
    for schedule, last, before, after in [
        (linear(0.0, 1.0, steps=4), 4, 0.75, 1.0),
        (polynomial(1.0, 0.0, steps=4, power=1), 4, 0.25, 0.0),
        (step(1.0, step_size=4, gamma=0.5), 4, 1.0, 0.5),
        (warmup(exponential(1.0, gamma=0.5), steps=4), 4, 0.75, 1.0),
        (warmup(exponential(1.0, gamma=0.5), steps=4), 5, 1.0, 0.5),
        (cosine_restarts(1.0, period=4), 4, (1 + math.cos(0.75 * math.pi)) / 2, 1.0),
        (cosine_restarts(1.0, period=2, mult=2), 2, 0.5, 1.0),
        (cosine_restarts(1.0, period=2, mult=2), 6, (1 + math.cos(0.75 * math.pi)) / 2, 1.0),
    ]:
        assert schedule(last - 1) == pytest.approx(before, abs=1e-15), schedule
        assert schedule(last) == after, schedule


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_a_schedule_that_is_loaded_is_asked(module: Any) -> None:
    """Also by an optimizer that had none, and whose hyperparameters were known to be as before."""
    p, q = np.zeros(1), np.zeros(1)
    ours, theirs = module.SGD([p], lr=exponential(1.0, gamma=0.5)), module.SGD([q], lr=0.25)
    for opt in (ours, theirs):
        for _ in range(2):
            opt.step([-np.ones(1)])
    theirs.load_state_dict(ours.state_dict())
    q[:] = p
    for _ in range(3):
        ours.step([-np.ones(1)])
        theirs.step([-np.ones(1)])
    assert p[0] == 1 + 0.5 + 0.25 + 0.125 + 0.0625
    assert_same(theirs, ours)
    assert theirs.param_groups[0]["lr"] == exponential(1.0, gamma=0.5)


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_a_schedule_of_a_group_that_is_added_is_asked(module: Any) -> None:
    p, q, r = np.zeros(1), np.zeros(1), np.zeros(1)
    opt = module.SGD([p], lr=0.25)
    for _ in range(2):
        opt.step([-np.ones(1)])
    opt.add_param_group({"params": [q], "lr": exponential(1.0, gamma=0.5)})
    for _ in range(2):
        opt.step([-np.ones(1)] * 2)
    opt.add_param_group({"params": [r], "lr": lambda step: float(step)})
    for _ in range(2):
        opt.step([-np.ones(1)] * 3)
    assert (p[0], q[0], r[0]) == (1.5, 0.25 + 0.125 + 0.0625 + 0.03125, 4 + 5)
