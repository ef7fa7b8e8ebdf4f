"""Contract: subnormals are flushed inside the kernels by default, and the mode never leaks."""

import ctypes
import math
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
from fusedopt import _core, functional
from subprocesses import output_of

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


def test_flushed_from_the_start() -> None:
    code = """
import numpy as np, fusedopt
q = np.zeros(3, np.float32)
fusedopt.SGD([q], lr=1e30).step([np.full(3, 1e-40, np.float32)])
print(q.any(), fusedopt.show_config(mode="dict")["flush denormals"])
"""
    can = fusedopt.set_flush_denormal(True)
    assert output_of(code) == f"{not can} {can}"


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


@pytest.mark.usefixtures("_where")
@pytest.mark.parametrize(
    ("dtype", "value"),
    [(np.float32, 1e-40), (np.float64, 1e-160)],
    ids=["inputs", "results"],  # subnormal elements, and squares of normal ones
)
def test_norms_and_what_is_measured_are_flushed(dtype: type, value: float) -> None:
    """Before the update, on the way and where it is skipped; and by itself."""
    g = np.full(9000, value, dtype)
    bad = np.append(g[1:], dtype(np.nan))
    for flush in (False, True):
        fusedopt.set_flush_denormal(flush)
        expected = 0 if flush else pytest.approx(math.sqrt(9000) * value, rel=1e-3, abs=0)
        p = g.copy()
        opt = fusedopt.SGD([p], lr=0.0)
        skipped = opt.step([bad], on_nonfinite="skip", stats=True)
        assert skipped is not None
        assert skipped.skipped
        assert skipped.stats is not None
        assert skipped.stats[0].param_norm == expected
        for options in ({"max_norm": 1.0}, {"max_norm": math.inf}, {"stats": True}):
            result = opt.step([g], **options)
            assert result is not None
            assert result.grad_norm == expected, options
        p[:] = g
        opt.param_groups[0]["lr"] = 1.0
        result = opt.step([-g], stats=True)
        assert result is not None
        assert result.stats is not None
        (stats,) = result.stats
        assert stats.grad_norm == expected
        if dtype is np.float32:
            assert (stats.update_norm, stats.param_norm) == (
                (0, 0) if flush else (pytest.approx(math.sqrt(9000) * value, rel=1e-3, abs=0),
                                      pytest.approx(2 * math.sqrt(9000) * value, rel=1e-3, abs=0))
            )  # fmt: skip
        assert functional.global_norm(g) == expected
        assert functional.global_norm([g, None, g[:0]]) == expected


@pytest.mark.usefixtures("_where")
@every_dtype
def test_inputs_and_results_are_flushed_each_by_itself(dtype: type) -> None:
    """One switch of the processor is for what is read and another for what is written."""
    tiny, size = np.finfo(dtype).tiny, 3000
    p = np.full(size, 1.0, dtype)  # what is read: a subnormal number that would count
    fusedopt.SGD([p], lr=float(1 / tiny)).step([np.full(size, tiny / 4, dtype)])
    assert (p == 1).all()
    p = np.full(size, 1.5 * tiny, dtype)  # what is written: of normal numbers
    fusedopt.SGD([p], lr=1.0).step([np.full(size, tiny, dtype)])
    assert (p == 0).all()
    p = np.full(size, tiny / 2, dtype)  # an average reads it, and a measure does
    opt = fusedopt.SGD([p], lr=0.0, ema_decay=0.5)
    opt.step([np.zeros(size, dtype)])
    assert (opt.ema[0] == 0).all()
    fusedopt.set_flush_denormal(False)
    p = np.full(size, tiny / 2, dtype)
    opt = fusedopt.SGD([p], lr=0.0, ema_decay=0.5)
    opt.step([np.zeros(size, dtype)])
    assert (opt.ema[0] == dtype(tiny / 2)).all()
    assert (p == dtype(tiny / 2)).all()


def test_scalars_and_what_state_begins_with_are_never_flushed() -> None:
    """As a step of a learning rate that is subnormal in float32, where it is multiplied by more."""
    p = np.zeros(100, np.float64)
    fusedopt.SGD([p], lr=1e-310).step([np.full(100, -1e10)])
    assert (p == 0).all()  # the kernel reads it as 0
    fusedopt.set_flush_denormal(False)
    p = np.zeros(100, np.float64)
    fusedopt.SGD([p], lr=1e-310).step([np.full(100, -1e10)])
    assert (p == 1e-310 * 1e10).all()
    for dtype, lr in ((np.float32, 1e-40), (np.float64, 1e-310)):
        p, q = np.zeros(100, dtype), np.zeros(100, dtype)
        fusedopt.SGD([p], lr=lr).step([np.full(100, -1e10, dtype)])
        fusedopt.Adam([q], lr=lr, betas=(0.0, 0.0), eps=0.0).step([np.full(100, -1.0, dtype)])
        assert (p == dtype(lr) * dtype(1e10)).all()
        assert (q == dtype(lr)).all()
        assert q.all()
    fusedopt.set_flush_denormal(True)
    opt = fusedopt.RMSprop([np.ones(100, np.float32)], lr=0.0, initial_square_avg=1e-40, alpha=0.0)
    opt.step([np.ones(100, np.float32)], on_nonfinite="raise")
    assert opt.state[0]["step"] == 1
    p = np.zeros(100)
    opt = fusedopt.Adam([p], lr=1e-300, betas=(0.0, 0.0))  # lr / correction is computed once
    opt.step([np.ones(100)], loss_scale=1e-300, max_norm=1e-8)
    assert np.isfinite(p).all()
    for options in ({"stats": True}, {"max_norm": math.inf}):
        found = opt.step([np.full(100, 1e-10)], loss_scale=1e300, **options).grad_norm
        assert found == 1e-9 / 1e300 > 0
    fusedopt.set_flush_denormal(False)
    opt = fusedopt.RMSprop([np.ones(100, np.float32)], initial_square_avg=1e-40, alpha=0.5)
    opt.step([np.zeros(100, np.float32)])
    assert (opt.state[0]["square_avg"] == np.float32(1e-40) * np.float32(0.5)).all()
    assert opt.state[0]["square_avg"].all()


@pytest.mark.skipif(sys.platform != "linux", reason="the modes' numbers are those of glibc")
def test_nothing_leaks_in_or_out_of_anything_that_computes() -> None:
    """Neither a rounding mode into a norm, an average or a move, nor flags out of them."""
    code = """
import ctypes, sys, numpy as np, fusedopt
from fusedopt import functional
libm = ctypes.CDLL("libm.so.6")
x86 = sys.argv[1] == "x86_64"
upward, downward = (0x800, 0x400) if x86 else (0x400000, 0x800000)
every_flag = 0x3D if x86 else 0x1F
results, flags = [], 0
for size in (100, 50_001):
    for mode in (0, upward, downward):
        p, g = np.linspace(1, 2, size), np.linspace(-1, 1, size)
        g[1:3] = 1e-300, 1e200
        h = g.astype(np.float32)
        opt = fusedopt.SGD([p], lr=0.013, momentum=0.9, velocity=True, ema_decay=0.9)
        told = []
        assert libm.fesetround(mode) == 0
        libm.feclearexcept(every_flag)
        opt.step([g])
        told.append(opt.step([g], max_norm=0.3, clip_value=0.7, stats=True))
        g[7] = np.nan
        told.append(repr(opt.step([g], on_nonfinite="skip", stats=True)))
        with opt.lookahead():
            told.append(p.tobytes())
        with opt.swap_ema():
            told.append(p.tobytes())
        flags |= libm.fetestexcept(every_flag)
        libm.fesetround(mode)
        libm.feclearexcept(every_flag)
        told.append(functional.global_norm([g[:5], g[8:]]))
        told.append(functional.global_norm([h[:2], h[8:]]))
        flags |= libm.fetestexcept(every_flag)
        assert libm.fegetround() == mode
        libm.fesetround(0)
        results.append((p.tobytes(), told))
print(all(r == results[3 * (k // 3)] for k, r in enumerate(results)), flags)
"""
    assert output_of(code, platform.machine()) == "True 0"
