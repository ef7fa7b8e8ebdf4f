"""The time of one optimizer step: fusedopt, its readable reference, and everyday NumPy."""

from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fusedopt
from fusedopt import reference

from . import naive

Arrays = list[npt.NDArray[np.float32]]

IMPLEMENTATIONS: dict[str, ModuleType] = {
    "fusedopt": fusedopt,
    "reference": reference,
    "naive": naive,
}

#: The class, by its name in each implementation, and its hyperparameters.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.01}),
    "momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "Nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop-centered": ("RMSprop", {"centered": True}),
    "Adam": ("Adam", {}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
    "AdamW": ("AdamW", {}),
}

#: The shapes of the parameters, all float32.
WORKLOADS: dict[str, list[tuple[int, ...]]] = {
    "1k": [(1_000,)],
    "100k": [(100_000,)],
    "10M": [(10_000_000,)],
    # 64-100-100-10, as for 8x8 images of digits: 17,610 elements.
    "MLP": [(64, 100), (100,), (100, 100), (100,), (100, 10), (10,)],
}

#: More than one, as state is zero in the first and its decay shows only later.
CHECKED_STEPS = 3


# From top to bottom, the first varies fastest: the implementations of one table run in a row.
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step(
    benchmark: BenchmarkFixture, optimizer: str, workload: str, implementation: str
) -> None:
    params = [p.copy() for p in initial_params(workload)]
    opt = make(implementation, optimizer, params)

    # What is timed is this very object, once it has proved right.
    for step in range(CHECKED_STEPS):
        opt.step(gradients(workload, step))
    for p, right in zip(params, params_after_checked_steps(optimizer, workload), strict=True):
        if implementation == "naive":  # the order of operations is its own
            np.testing.assert_allclose(p, right, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(p, right)

    # Every round repeats a step on the same arrays, with state that exists. That is the step alone,
    # at its best: in training, arrays that fit in a cache may have left it since the last step.
    # Repeating one gradient changes no timing, as no step branches on values.
    before = [p.copy() for p in params]
    benchmark.group = f"{optimizer}, {workload}"
    benchmark.extra_info["threads"] = fusedopt.get_num_threads()
    benchmark(opt.step, gradients(workload, CHECKED_STEPS))
    for p, old in zip(params, before, strict=True):
        assert np.isfinite(p).all()
        assert (p != old).mean() > 0.99  # a few may have moved by less than their precision


def make(implementation: str, optimizer: str, params: Arrays) -> Any:
    name, hyperparameters = OPTIMIZERS[optimizer]
    return getattr(IMPLEMENTATIONS[implementation], name)(params, **hyperparameters)


@cache
def initial_params(workload: str) -> Arrays:
    """Return weights of about 0.1."""
    rng = np.random.default_rng(0)
    return [rng.normal(scale=0.1, size=shape).astype(np.float32) for shape in WORKLOADS[workload]]


@cache
def gradients(workload: str, step: int) -> Arrays:
    """Return gradients of both signs and 0.1 to 0.6 in size, a tenth of that in each next step.

    They shrink for AMSGrad, which is Adam as long as second moments grow.
    """
    rng = np.random.default_rng(1 + step)
    grads = [rng.random(shape, np.float32) - np.float32(0.5) for shape in WORKLOADS[workload]]
    for g in grads:
        g += np.copysign(np.float32(0.1), g)  # none is zero
        g *= np.float32(0.1**step)
        g.setflags(write=False)  # tests share them
    return grads


@lru_cache(maxsize=1)  # one is enough in the order of the tests, and the largest take 40 MB
def params_after_checked_steps(optimizer: str, workload: str) -> Arrays:
    params = [p.copy() for p in initial_params(workload)]
    opt = make("reference", optimizer, params)
    for step in range(CHECKED_STEPS):
        opt.step(gradients(workload, step))
    return params
