"""Contract: steps are as exact as their dtype allows, each of them, and after thousands.

What they are held against are the papers' equations in long doubles, `bench/exact.py`, which share
nothing with fusedopt and its reference. `bench/error_growth.py` takes a million steps of each rule.
"""

import importlib.util
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import every_dtype


def _load_exact() -> Any:
    path = Path(__file__).parents[1] / "bench" / "exact.py"
    spec = importlib.util.spec_from_file_location("exact", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exact"] = module
    spec.loader.exec_module(module)
    return module


exact = _load_exact()
pytestmark = pytest.mark.skipif(
    not exact.HAS_LONG_DOUBLE, reason="NumPy's long double is no longer than a double here"
)
every_rule = pytest.mark.parametrize(
    "rule", [rule for rule in exact.RULES if rule.name != "average"], ids=lambda rule: rule.name
)


def make(rule: Any, p: np.ndarray) -> fusedopt.Optimizer:
    return getattr(fusedopt, rule.optimizer)([p], **rule.options)


def unit(dtype: Any) -> float:
    """Return what rounding changes a number by at most, relative to it."""
    return float(np.finfo(dtype).eps) / 2


# What goes into a parameter, or into a state array, is rounded 14 times in one step at most: in
# Adam m (coefficient, product, sum), v (coefficient, square, product, sum; the root halves them),
# the root, its scale, their product, eps added; the step size, its product, the quotient, the
# difference. Each time by no more than `unit` of the sum of the magnitudes.
ROUNDINGS = 14


def excess(rule: Any, dtype: Any, make: Callable[..., Any], steps: int) -> float:
    """Return the largest error of any step beside what it may be, from the state it began with.

    Every other step starts from zero, where nothing hides the error of the movement. In 1 - beta^t
    the last bit of the power, a double, counts for more the smaller the difference is.
    """
    n = 4
    starts = np.zeros((steps, n), dtype)
    starts[1::2] = exact.STARTS[:n]
    given = np.concatenate(list(exact.inputs(rule, steps)))[:, ::4].astype(dtype)
    p = np.zeros(n, dtype)
    opt = make(rule, p)
    ends = np.empty_like(starts)
    states: dict[str, np.ndarray] = {}
    for t, (start, g) in enumerate(zip(starts, given, strict=True)):
        p[:] = start
        opt.step([g])
        ends[t] = p
        for name, array in opt.state[0].items():
            if name != "step":
                if t == 0:
                    states[name] = np.zeros((steps + 1, n), dtype)
                states[name][t + 1] = array
    t = np.arange(1, steps + 1)[:, None]
    before = {name: np.longdouble(array[:-1]) for name, array in states.items()}
    g = np.longdouble(given)
    h = rule.exact(np.ones(n), np.longdouble).h
    after = dict(before)
    expected = rule.update(h, np.longdouble(starts), g, after, t)
    sums = {name: abs(array) for name, array in before.items()}
    way = abs(rule.update(h, np.zeros(n), abs(g), sums, t))
    roundings = np.full(t.shape, float(ROUNDINGS))
    for beta in rule.options.get("betas", ()):
        roundings += unit(np.float64) / unit(dtype) / (1 - beta**t)
    worst = (abs(ends - expected) / (abs(starts) + way) / roundings).max()
    for name, array in states.items():
        error = abs(array[1:] - after[name]) / sums[name]
        worst = max(worst, error.max() / ROUNDINGS)
    return float(worst) / unit(dtype)


@every_dtype
@every_rule
def test_each_step_is_rounded_a_few_times_and_no_more(rule: Any, dtype: type) -> None:
    """Adam's corrections are exactly 1 after 40,000 steps."""
    assert excess(rule, dtype, make, 41_000 if rule.name == "Adam" else 3_000) < 1


class Adam:
    """Written in NumPy as one may, with choices that are worse than ours."""

    def __init__(self, rule: Any, p: np.ndarray, power: Callable[..., Any], scalar: Any) -> None:
        self.p, self.power, self.scalar = p, power, scalar
        self.h, self.products = rule.options, [1.0, 1.0]
        self.state = [{"step": 0, "exp_avg": np.zeros_like(p), "exp_avg_sq": np.zeros_like(p)}]

    def step(self, grads: list[np.ndarray]) -> None:
        (g,), state, T, S = grads, self.state[0], self.p.dtype.type, self.scalar
        state["step"] += 1
        lr, betas = S(self.h["lr"]), [S(beta) for beta in self.h["betas"]]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m[...] = T(betas[0]) * m + T(1 - betas[0]) * g
        v[...] = T(betas[1]) * v + T(1 - betas[1]) * (g * g)
        self.products = [x * beta for x, beta in zip(self.products, betas, strict=True)]
        powers = [self.power(self, k, beta) for k, beta in enumerate(betas)]
        root = T(1 / np.sqrt(1 - powers[1])) * np.sqrt(v)
        self.p -= T(lr / (1 - powers[0])) * m / (root + T(1e-8))


CHOICES: dict[str, tuple[Any, Callable[..., Any], Any, bool]] = {
    "as ours": (np.float64, lambda adam, k, beta: beta ** adam.state[0]["step"], np.float64, True),
    "a running product": (np.float64, lambda adam, k, beta: adam.products[k], np.float64, False),
    "scalars in float32": (
        np.float32,
        lambda adam, k, beta: beta ** np.float32(adam.state[0]["step"]),
        np.float32,
        False,
    ),
    "steps counted from 0": (
        np.float32,
        lambda adam, k, beta: beta ** max(adam.state[0]["step"] - 1, 1),
        np.float64,
        False,
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_worse_choices_are_seen(choice: str) -> None:
    dtype, power, scalar, good = CHOICES[choice]
    (rule,) = (rule for rule in exact.RULES if rule.name == "Adam")
    worst = excess(rule, dtype, lambda rule, p: Adam(rule, p, power, scalar), 3_000)
    assert (worst < 1) == good


STEPS = 10_000


def bound(rule: Any, dtype: Any, way: np.ndarray) -> np.ndarray:
    """Return how many ulps from the exact result so many steps may end, after a way so long.

    Each step rounds the parameter by up to half an ulp, one way or the other: after n steps the
    standard deviation is sqrt(n / 12) or less, and six of them sqrt(3 n). What is in a step is
    rounded by far less, as it is smaller than the parameter. In float32 hyperparameters are
    rounded, too, which is the same error in each step; an average with 1 / (1 - beta) steps of
    memory multiplies it by so many. And what AdamW keeps of a parameter, 1 - lr * weight_decay, is
    off in the same direction in each step, by up to half an ulp.
    """
    ulps = math.sqrt(3 * STEPS)
    if "weight_decay" in rule.options:
        ulps += STEPS / 2
    if dtype is np.float32:
        memory = {
            name: 1 / (1 - x) for name, x in rule.options.items() if name in ("momentum", "alpha")
        }
        memory |= {f"beta{i}": 1 / (1 - x) for i, x in enumerate(rule.options.get("betas", ()))}
        return ulps + (2 + sum(memory.values())) * way
    return np.full(way.shape, ulps)


@cache
def exact_end(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where a rule ends, the largest it has been, and the length of its way."""
    (rule,) = (rule for rule in exact.RULES if rule.name == name)
    true = rule.exact(exact.STARTS.astype(float), np.longdouble)
    largest, way = abs(true.p), np.zeros_like(true.p)
    for block in exact.inputs(rule, STEPS):
        for g in np.longdouble(block):
            before = true.p
            true.step(g)
            largest = np.maximum(largest, abs(true.p))
            way += abs(true.p - before)
    return true.p, largest, way


@every_dtype
@every_rule
def test_errors_of_many_steps_add_up_as_roundings_do(rule: Any, dtype: type) -> None:
    p = exact.STARTS.astype(dtype)
    opt = make(rule, p)
    for block in exact.inputs(rule, STEPS):
        for g in block.astype(dtype):
            opt.step([g])
    end, largest, way = exact_end(rule.name)
    assert (way > 0.5).all(), "the parameters hardly moved"
    error = abs(p - end) / np.spacing(largest.astype(dtype))
    assert error.any()
    assert (error < bound(rule, dtype, way / largest)).all()
