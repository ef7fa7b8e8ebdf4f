"""Contract: equal to fusedopt.reference, bit for bit, however work is cut, wherever it lies."""

import platform
import sys

import numpy as np
import pytest

import fusedopt
from cases import (
    DTYPES,
    RULE_CASES,
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

STEPS = 12


@every_dtype
@every_case
def test_every_rule_and_option_at_every_size(case: Case, dtype: type) -> None:
    params = random_arrays(0, dtype)
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(STEPS):
        grads = random_arrays(1 + step, dtype)
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)


def test_the_cases_reach_every_native_rule() -> None:
    reached = {case.make([])._rule(case.make([]).param_groups[0])[0] for case in RULE_CASES}
    assert reached == set(_core.rules()) - {"lookahead", "ema", "exchange"}  # no steps


@pytest.mark.parametrize("chunk", [1, 7, 64, 8192])
@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_threads_and_chunks_do_not_matter(threads: int, chunk: int) -> None:
    shapes = [0, 1, 5, 64, 0, 1000, 3001]
    fusedopt.set_num_threads(threads)
    for case in RULE_CASES:
        for dtype in DTYPES:
            params = random_arrays(0, dtype, shapes)
            actual, expected = case.make(params), case.make_reference(copies(params))
            for step in range(STEPS):
                grads = random_arrays(1 + step, dtype, shapes)
                _core.set_grid(chunk=chunk, serial_below=0)
                actual.step(grads)
                expected.step(grads)
            assert_same(actual, expected)


@every_dtype
@every_rule
def test_asking_for_memory_ahead_does_not_matter(case: Case, dtype: type) -> None:
    """Processors gain by it in arrays of 16 KiB and more, or nowhere."""
    sizes = [0, 1, 2047, 2048, 2049, 2367, 2368, 2369, 4095, 4096, 4097, 4415, 4416, 4417, 5001]
    params = random_arrays(0, dtype, sizes)
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step, asks in enumerate([True, False, True, None, True, False]):
        _core.set_asks_ahead(asks)
        grads = random_arrays(1 + step, dtype, sizes)
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)


def at_offset(array: np.ndarray, offset: int) -> np.ndarray:
    """Return a copy whose first byte lies offset bytes after a 64-byte boundary."""
    buffer = np.empty(array.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@every_dtype
@every_rule
def test_alignment_does_not_matter(case: Case, dtype: type) -> None:
    """Every offset of the parameter, against another of each gradient."""
    itemsize = np.dtype(dtype).itemsize
    offsets = range(0, 64, itemsize)
    params = random_arrays(0, dtype, [131] * len(offsets))
    shifted = [at_offset(p, offset) for p, offset in zip(params, offsets, strict=True)]
    actual, expected = case.make(shifted), case.make_reference(params)
    for step in range(STEPS):
        grads = random_arrays(1 + step, dtype, [131] * len(offsets))
        away = [at_offset(g, (k * 5 + step) * itemsize % 64) for k, g in enumerate(grads)]
        actual.step(away)
        expected.step(grads)
    assert_same(actual, expected)


@every_dtype
def test_alignment_of_state_does_not_matter(dtype: type) -> None:
    itemsize = np.dtype(dtype).itemsize
    (p, q), state = random_arrays(0, dtype, [131, 131]), np.zeros(131, dtype)
    q[...] = p
    for offset in range(0, 64, itemsize):
        expected, shifted = p.copy(), p.copy()
        m, v, w = (state.copy() for _ in range(3))
        away = [at_offset(state, (offset + k * itemsize) % 64) for k in range(3)]
        for step in range(1, STEPS):
            (g,) = random_arrays(step, dtype, [131])
            functional.adam_(expected, g, m, v, w, step=step, lr=0.01)
            functional.adam_(shifted, g, *away, step=step, lr=0.01)
        for ours, theirs in zip([shifted, *away], [expected, m, v, w], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@every_dtype
@every_case
def test_infinities_and_nans(case: Case, dtype: type) -> None:
    """What IEEE arithmetic and np.maximum make of them, and nothing more.

    A parameter that is infinite on purpose (a mask) must not become NaN by an option that is off.
    """
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, 1e30, -2.0], dtype)
    params = [np.repeat(special, 8), np.repeat(special[::-1].copy(), 8)]
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(STEPS):
        grads = [np.tile(np.roll(special, step // 4), 8), np.zeros(64, dtype)]
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)


@every_case
def test_mixed_dtypes_shapes_and_missing_gradients(case: Case) -> None:
    shapes = [(), (3, 5), (2, 3, 4), (17,), (0, 4), (257,)]
    params = [random_arrays(0, DTYPES[k % 2], [shape])[0] for k, shape in enumerate(shapes)]
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(STEPS):
        grads = [
            None if (step + k) % 3 == 0 else random_arrays(step, DTYPES[k % 2], [shape])[0]
            for k, shape in enumerate(shapes)
        ]
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("SGD", [{"momentum": 0.9}, {"nesterov": True}, {"nesterov": False, "momentum": 0}]),
        ("SGD", [{"weight_decay": 0.1, "momentum": 0.5}, {"dampening": 0.5}, {"maximize": True}]),
        ("RMSprop", [{"centered": True}, {"momentum": 0.9}, {"centered": False, "alpha": 0.5}]),
        ("Adam", [{"amsgrad": True}, {"betas": (0.5, 0.75)}, {"amsgrad": False, "eps": 1e-3}]),
        ("SGD", [{"momentum": 0.9, "dampening": 0.5}, {"momentum_init": "zeros"}]),
        ("SGD", [{"weight_decay": 0.1, "decoupled_weight_decay": True}, {"weight_decay": 0}]),
        ("RMSprop", [{"initial_square_avg": 2}, {"initial_square_avg": 1, "momentum": 0.5}]),
        ("RMSprop", [{"eps_root": 1e-3, "eps": 0}, {"decoupled_weight_decay": True}]),
        (
            "Adam",
            [{"eps_hat": True}, {"eps_hat": False, "eps_root": 1}, {"bias_correction": False}],
        ),
        ("AdamW", [{"weight_decay": 0.5}, {"lr": 0.1}, {"amsgrad": True}, {"maximize": True}]),
    ],
)
@every_dtype
def test_hyperparameters_changed_between_steps(optimizer: str, changes: list, dtype: type) -> None:
    """State that becomes needed later starts as it would at the parameter's first step."""
    case = Case(optimizer, {})
    shapes = [3, 70, 1001]
    params = random_arrays(0, dtype, shapes)
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(STEPS):
        for opt in (actual, expected):
            for name, value in changes[step // 3].items() if step // 3 < len(changes) else ():
                opt.param_groups[0][name] = value
        grads = random_arrays(1 + step, dtype, shapes)
        grads[step % 3] = None
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)


def test_state_starts_for_each_parameter_by_itself() -> None:
    """Two parameters at the same step, only one of which has a momentum buffer yet."""
    case = Case("SGD", {"momentum": 0})
    params = random_arrays(0, np.float64, [20, 20])
    (g,) = random_arrays(1, np.float64, [20])
    actual, expected = case.make(params), case.make_reference(copies(params))
    for opt in (actual, expected):
        opt.param_groups[0]["momentum"] = 0.9
        opt.step([g, None])
        opt.param_groups[0]["momentum"] = 0
        opt.step([None, g])
        opt.param_groups[0].update(momentum=0.9, dampening=0.5)
        opt.step([g, g])
    assert_same(actual, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="the modes' numbers are those of glibc")
def test_rounding_mode_of_other_code_does_not_matter() -> None:
    """Neither for arrays nor for the scalars that are computed once a step."""
    code = """
import ctypes, sys, numpy as np, fusedopt
libm = ctypes.CDLL("libm.so.6")
upward, downward = (0x800, 0x400) if sys.argv[1] == "x86_64" else (0x400000, 0x800000)
results = []
for mode in (0, upward, downward):
    p, g = np.linspace(1, 2, 5001), np.linspace(-1, 1, 5001)
    q = p.astype(np.float32)
    opt = fusedopt.Adam([p], lr=0.013)
    other = fusedopt.RMSprop([q], initial_square_avg=0.1, alpha=0.9)
    h = g.astype(np.float32)
    assert libm.fesetround(mode) == 0
    told = []
    for _ in range(5):
        opt.step([g])
        other.step([h])
        told.append(opt.step([g], max_norm=0.375, loss_scale=1.75, stats=True))
    libm.fesetround(0)
    results.append((p, q, told))
first = results[0]
print(all((p == first[0]).all() and (q == first[1]).all() and t == first[2] for p, q, t in results))
"""
    assert output_of(code, platform.machine()) == "True"


def test_centered_rmsprop_survives_constant_gradients() -> None:
    """Written with two folded coefficients, the variance turns negative and NaN follows."""
    p = np.zeros(1000, np.float32)
    opt = fusedopt.RMSprop([p], centered=True)
    g = np.linspace(0.5, 2, 1000, dtype=np.float32)
    for step in range(3000):
        opt.step([g * np.float32(1 + 1e-7 * (step % 2))])
    assert np.isfinite(p).all()
