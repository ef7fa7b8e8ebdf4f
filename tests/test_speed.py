"""Contract: no work in Python for each parameter. Ratios within one run, with wide margins."""

import time
from collections.abc import Callable

import numpy as np

import fusedopt
from fusedopt import reference


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of some runs, as the others were disturbed."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def test_many_small_parameters() -> None:
    """In C++ about 30 ns a parameter; a Python loop takes some 20 us in the reference."""
    grads = [np.ones(16, np.float32) for _ in range(1000)]
    fast = fusedopt.Adam([np.ones(16, np.float32) for _ in range(1000)])
    plain = reference.Adam([np.ones(16, np.float32) for _ in range(1000)])
    ours = seconds(lambda: fast.step(grads), 50)
    assert seconds(lambda: plain.step(grads), 5) > 100 * ours


def test_one_small_parameter() -> None:
    """In all about 0.3 us, where NumPy takes as long to add two such arrays."""
    p, g = np.ones(16, np.float32), np.ones(16, np.float32)
    opt = fusedopt.Adam([p])

    def steps() -> None:
        for _ in range(1000):
            opt.step([g])

    def additions() -> None:
        for _ in range(1000):
            p + g

    assert seconds(steps, 20) < 10 * seconds(additions, 20)
