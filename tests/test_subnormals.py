"""Contract: subnormals are flushed inside the kernels by default, and the mode never leaks."""

import ctypes
import platform
import sys

import numpy as np
import pytest

import fusedopt
from cases import (
    SMALL_SIZES,
    Case,
    assert_same,
    copies,
    every_case,
    every_dtype,
    every_rule,
    random_arrays,
)
from fusedopt import _core

TINY = {np.float32: 1e-21, np.float64: 1e-155}  # its square is subnormal


@pytest.fixture(params=["calling thread", "all threads"])
def _where(request: pytest.FixtureRequest) -> None:
    if request.param == "all threads":
        fusedopt.set_num_threads(3)
        _core.set_grid(chunk=64, serial_below=0)


@pytest.mark.usefixtures("_where")
@every_dtype
@every_case
def test_equal_to_the_reference_when_not_flushed(case: Case, dtype: type) -> None:
    fusedopt.set_flush_denormal(False)
    params = random_arrays(0, dtype, SMALL_SIZES, TINY[dtype])
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(10):
        grads = random_arrays(1 + step, dtype, SMALL_SIZES, TINY[dtype])
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)


@pytest.mark.usefixtures("_where")
@every_dtype
def test_inputs_count_as_zero(dtype: type) -> None:
    tiny = np.finfo(dtype).tiny
    p, g = np.full(1000, tiny / 4), np.full(1000, tiny / 2)
    for flush in (False, True):
        param, grad = p.astype(dtype), g.astype(dtype)
        fusedopt.set_flush_denormal(flush)
        fusedopt.SGD([param], lr=1e30 if dtype is np.float32 else 1e300).step([grad])
        assert (param == 0).all() if flush else (param != 0).all()


@pytest.mark.usefixtures("_where")
@every_dtype
def test_results_are_flushed(dtype: type) -> None:
    """Normal inputs, subnormal result."""
    tiny = np.finfo(dtype).tiny
    for flush in (False, True):
        p, g = np.full(1000, 1.5 * tiny, dtype), np.full(1000, tiny, dtype)
        fusedopt.set_flush_denormal(flush)
        fusedopt.SGD([p], lr=1).step([g])
        assert (p == 0).all() if flush else (p == dtype(tiny / 2)).all()


@every_dtype
@every_rule
def test_moments_do_not_stay_subnormal_under_zero_gradients(case: Case, dtype: type) -> None:
    """Unflushed they would stick at a few units of the smallest subnormal for ever."""
    fast = {"momentum": 0.5, "alpha": 0.5, "betas": (0.5, 0.5)}
    p = np.ones(100, dtype)
    opt = case.make([p])
    for name in fast.keys() & opt.param_groups[0].keys():
        if opt.param_groups[0][name]:
            opt.param_groups[0][name] = fast[name]
    opt.step(random_arrays(1, dtype, [100]))
    for _ in range(1200):
        opt.step([np.zeros(100, dtype)])
    for name, array in opt.state[0].items():
        if name != "step":
            assert ((array == 0) | (abs(array) >= np.finfo(dtype).tiny)).all(), name
    assert np.isfinite(p).all()


@every_rule
def test_mode_does_not_leak(case: Case) -> None:
    subnormal = np.full(1000, 1e-40, np.float32)
    fusedopt.set_num_threads(3)
    for serial_below in (0, 10_000):
        _core.set_grid(chunk=64, serial_below=serial_below)
        case.make([np.ones(1000, np.float32)]).step([subnormal])
        assert ((subnormal * np.float32(1)) != 0).all()


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
@pytest.mark.parametrize("size", [4, 10_000])
def test_exception_flags_do_not_leak(size: int) -> None:
    libm = ctypes.CDLL("libm.so.6")
    every_flag = 0x3D if platform.machine() == "x86_64" else 0x1F
    p, g = np.ones(size), np.resize([1e300, np.inf, 1e-300, np.nan], size)
    opt = fusedopt.Adam([p], lr=1e300, betas=(0.3, 0.7))
    assert libm.feclearexcept(every_flag) == 0
    opt.step([g])
    assert libm.fetestexcept(every_flag) == 0


def test_setting_is_shown_and_checked() -> None:
    assert fusedopt.show_config(mode="dict")["flush denormals"] is True
    assert fusedopt.set_flush_denormal(False) is True
    assert fusedopt.show_config(mode="dict")["flush denormals"] is False
    with pytest.raises(TypeError, match="mode: expected True or False, got 1"):
        fusedopt.set_flush_denormal(1)
