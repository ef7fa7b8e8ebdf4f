"""What a step costs besides arithmetic: values that change, options, some of many, other arrays.

All of 16 elements with Adam, on one thread, where a plain step takes a tenth of a microsecond.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fusedopt
from fusedopt import schedules

MANY = 1000
Call = Callable[[], object]


def arrays(count: int, value: float = 1.0) -> list[Any]:
    return [np.full(16, value, np.float32) for _ in range(count)]


def plain() -> Call:
    opt, grads = fusedopt.Adam(arrays(1)), arrays(1)
    return lambda: opt.step(grads)


def assigned(groups: int) -> Call:
    opt, grads = fusedopt.Adam([{"params": [p]} for p in arrays(groups)]), arrays(groups)
    values, own = [1e-3, 2e-3], opt.param_groups

    def call() -> None:
        values.reverse()
        for group in own:
            group["lr"] = values[0]
        opt.step(grads)

    return call


def scheduled(groups: int) -> Call:
    lr = schedules.cosine(1e-3, steps=10**9)
    opt = fusedopt.Adam([{"params": [p], "lr": lr} for p in arrays(groups)])
    grads = arrays(groups)
    return lambda: opt.step(grads)


def with_options(**options: Any) -> Call:
    opt, grads = fusedopt.Adam(arrays(1)), arrays(1)
    return lambda: opt.step(grads, **options)


def some() -> Call:
    names = [f"p{i}" for i in range(MANY)]
    opt = fusedopt.Adam(dict(zip(names, arrays(MANY), strict=True)))
    opt.step(dict(zip(names, arrays(MANY), strict=True)))
    grad = {"p7": arrays(1)[0]}
    return lambda: opt.step_some(grad)


def none_for_the_others() -> Call:
    opt, grads = fusedopt.Adam(arrays(MANY)), arrays(MANY)
    opt.step(grads)
    one = [g if i == 7 else None for i, g in enumerate(grads)]
    return lambda: opt.step(one)


def tensors(count: int) -> Call:
    torch = pytest.importorskip("torch", reason="torch: in extra 'peers'")
    opt = fusedopt.Adam([torch.ones(16) for _ in range(count)])
    grads = [torch.ones(16) for _ in range(count)]
    return lambda: opt.step(grads)


def tensors_as_arrays(count: int) -> Call:
    torch = pytest.importorskip("torch", reason="torch: in extra 'peers'")
    opt = fusedopt.Adam(arrays(count))
    grads = [torch.ones(16) for _ in range(count)]
    return lambda: opt.step([g.numpy() for g in grads])


CALLS: dict[str, Callable[[], Call]] = {
    "a plain step": plain,
    "lr assigned": lambda: assigned(1),
    "lr a cosine": lambda: scheduled(1),
    "lr assigned, ten groups": lambda: assigned(10),
    "lr a cosine, ten groups": lambda: scheduled(10),
    "max_norm": lambda: with_options(max_norm=1.0),
    "max_array_norm": lambda: with_options(max_array_norm=1.0),
    "loss_scale": lambda: with_options(loss_scale=2.0),
    "stats": lambda: with_options(stats=True),
    "step_some: 1 of 1,000": some,
    "step: 1 of 1,000": none_for_the_others,
    "1,000 tensors of torch": lambda: tensors(MANY),
    "1,000 tensors by .numpy()": lambda: tensors_as_arrays(MANY),
    "12 tensors of torch": lambda: tensors(12),
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = fusedopt.get_num_threads()
    fusedopt.set_num_threads(1)
    yield
    fusedopt.set_num_threads(before)


@pytest.mark.parametrize("name", CALLS)
def test_call(benchmark: BenchmarkFixture, name: str) -> None:
    call = CALLS[name]()
    benchmark.group = "calls"
    benchmark(call)
