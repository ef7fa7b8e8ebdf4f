"""Contract: a step that repeats the last one is checked as the first one was.

It takes another way through the native code, one that reuses what the last step laid out.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, copies, random_arrays
from subprocesses import own_memory

SHAPES = [(16,), (4, 5), (), (2, 3, 4), (300,)]
CASE = Case("Adam", {"lr": 0.01})
Arrays = list[Any]


def stepped(dtype: Any = np.float32) -> tuple[fusedopt.Optimizer, fusedopt.Optimizer, Arrays]:
    """Return an optimizer and its reference after three steps, and its parameters."""
    params = random_arrays(0, dtype, SHAPES)
    actual, expected = CASE.make(params), CASE.make_reference(copies(params))
    for step in range(3):
        actual.step(gradients(step))
        expected.step(gradients(step))
    return actual, expected, params


def gradients(step: int) -> Arrays:
    return random_arrays(1 + step, np.float32, SHAPES)


def _misaligned(g: Any) -> Any:
    return np.frombuffer(b"x" + g.tobytes(), np.float32, g.size, 1).reshape(g.shape)


BAD_GRADIENTS: dict[str, Callable[[Any], Any]] = {
    "float64": lambda g: g.astype(np.float64),
    "int32": lambda g: g.astype(np.int32),
    "byte-swapped": lambda g: g.astype(">f4"),
    "another shape": lambda g: np.ones(g.size + 1, np.float32),
    "another number of dimensions": lambda g: g.reshape(1, *g.shape),
    "strided": lambda g: np.ones((*g.shape, 2), np.float32)[..., 0],
    "misaligned": _misaligned,
    "masked": lambda g: np.ma.masked_array(g),
    "list": lambda g: g.tolist(),
    "missing": lambda g: "a",
}


@pytest.mark.parametrize("index", [0, 1, 3, 4])
@pytest.mark.parametrize("kind", BAD_GRADIENTS)
def test_bad_gradients_are_refused_and_nothing_changes(kind: str, index: int) -> None:
    actual, expected, _ = stepped()
    grads: Arrays = gradients(3)
    grads[index] = BAD_GRADIENTS[kind](grads[index])
    with pytest.raises((TypeError, ValueError), match=rf"grads\[{index}\]: expected"):
        actual.step(grads)
    assert_same(actual, expected)
    actual.step(gradients(4))
    expected.step(gradients(4))
    assert_same(actual, expected)


def test_gradients_in_memory_that_is_written() -> None:
    actual, expected, params = stepped()
    for own, name in [(params[1], r"params\[1\]"), (actual.state[1]["exp_avg"], "state")]:
        grads: Arrays = gradients(3)
        grads[1] = own[...]
        with pytest.raises(ValueError, match=rf"grads\[1\] overlaps .*{name}"):
            actual.step(grads)
        grads[1] = grads[1].reshape(-1)[:4]
    partly: Arrays = gradients(3)
    partly[0] = np.frombuffer(params[4].data, np.float32)[100:116]
    with pytest.raises(ValueError, match=r"grads\[0\] overlaps params\[4\]"):
        actual.step(partly)
    assert_same(actual, expected)


def test_parameters_that_can_no_longer_be_updated() -> None:
    actual, expected, params = stepped()
    params[4].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\[4\]: expected a writeable array"):
        actual.step(gradients(3))
    params[4].flags.writeable = True
    params[4].shape = (3, 100)
    with pytest.raises(ValueError, match=r"params\[4\]: expected shape \(300,\) as before"):
        actual.step(gradients(3))
    params[4].shape = (300,)
    assert_same(actual, expected)


def test_parameters_that_move() -> None:
    actual, expected, params = stepped()
    for step, size in [(3, 1_000_000), (4, 600)]:
        params[4].resize(size, refcheck=False)  # elsewhere, and back to its size
        params[4].resize(300, refcheck=False)
        actual.step(gradients(step))
        expected.step(gradients(step))
    assert_same(actual, expected)


def test_gradients_that_move_between_parameters() -> None:
    block = np.zeros((200, 64), np.float32)
    params = list(block[::2, :16])
    actual = CASE.make(params)
    expected = CASE.make_reference(copies(params))
    rng = np.random.default_rng(0)
    for step in range(20):
        values = random_arrays(step, np.float32, [(16,)] * 100)
        grads = []
        for _ in values:  # in the gaps: in the same row, or in the next
            row, column = 2 * rng.integers(100) + rng.integers(2), 16 * rng.integers(1, 4)
            grads.append(block[row, column : column + 16])
        for g, value in zip(grads, values, strict=True):
            g[:] = value  # two may share a place
        expected.step([g.copy() for g in grads])
        actual.step(grads)
    assert_same(actual, expected)


def test_hyperparameters_rules_and_missing_gradients_that_change() -> None:
    params = random_arrays(0, np.float32, SHAPES)
    case = Case("Adam", {"lr": 0.01})
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(24):
        grads: Arrays = gradients(step)
        if step % 5 == 3:
            grads[step % 4] = None
        for opt in (actual, expected):
            group = opt.param_groups[0]
            group["lr"] = 0.01 / (1 + step)
            group["amsgrad"] = step % 7 in (4, 5)
            opt.step(grads)
    assert_same(actual, expected)


def test_dtypes_at_different_steps() -> None:
    params = [np.ones(20, np.float32), np.ones(20), np.ones(3, np.float32), np.ones(3)]
    actual, expected = CASE.make(params), CASE.make_reference(copies(params))
    for step in range(12):
        rng = np.random.default_rng(step)
        grads: Arrays = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
        if step < 4:
            grads[1] = grads[3] = None
        actual.step(grads)
        expected.step(grads)
    assert actual.step_counts.tolist() == [12, 8, 12, 8]
    assert_same(actual, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_steps_that_differ_leave_nothing() -> None:
    """What a step was laid out with is gone where the next one is laid out anew."""
    params = random_arrays(0, np.float32, SHAPES)
    opt = CASE.make(params)
    grads = gradients(0)
    some: Arrays = [None, *grads[1:]]

    def step(count: int) -> None:
        for _ in range(count):
            opt.step(grads)
            opt.step(some)

    step(100)
    before = own_memory("VmData")
    step(10_000)
    assert own_memory("VmData") - before < 1 << 20


def test_traffic_changes_nothing() -> None:
    actual, expected, _ = stepped()
    for step in range(3):
        actual._engine.traffic(gradients(step))
        actual._engine.traffic([None, *map(np.zeros_like, gradients(step)[1:])])
    assert_same(actual, expected)
    actual.step(gradients(3))
    expected.step(gradients(3))
    assert_same(actual, expected)


def test_traffic_needs_state() -> None:
    opt = CASE.make(random_arrays(0, np.float32, SHAPES))
    with pytest.raises(ValueError, match="grads: take a step first"):
        opt._engine.traffic(gradients(0))


def test_a_gradient_that_owns_the_memory_of_a_parameter() -> None:
    owner, other = np.ones(16, np.float32), np.ones(16, np.float32)
    params = [owner[:], owner.reshape(4, 4)[:0], other]
    opt = CASE.make(params)
    for _ in range(3):
        opt.step([np.ones(p.shape, np.float32) for p in params])
    before = owner.copy()
    for grads in ([owner, None, None], [other, None, None], [None, None, owner]):
        with pytest.raises(ValueError, match=r"grads\[[02]\] overlaps params\[[02]\]"):
            opt.step(grads)
        full = [
            np.ones(p.shape, np.float32) if g is None else g
            for p, g in zip(params, grads, strict=True)
        ]
        with pytest.raises(ValueError, match=r"grads\[[02]\] overlaps params\[[02]\]"):
            opt.step(full)
    np.testing.assert_array_equal(owner, before)


@pytest.mark.parametrize("shape", [(8,), (2, 4), (2, 2, 2)], ids=str)
def test_a_parameter_alone_that_moves(shape: tuple[int, ...]) -> None:
    p = np.ones(shape, np.float32)
    opt = fusedopt.SGD([p], lr=1.0)
    addresses = set()
    for step in range(6):
        opt.step([np.ones(shape, np.float32)])
        np.testing.assert_array_equal(p, np.full(shape, -step))
        addresses.add(p.ctypes.data)
        kept = p.copy()
        p.resize((1_000_000, 600)[step % 2], refcheck=False)  # elsewhere, and back to its size
        p.resize(shape, refcheck=False)
        p[...] = kept
    assert len(addresses) > 1


def test_a_parameter_alone_that_is_reshaped() -> None:
    p, g = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    opt = fusedopt.SGD([p], lr=1.0)
    for _ in range(2):
        opt.step([g])
    p.shape = (3, 2)
    for gradient in (g, g.reshape(3, 2)):
        with pytest.raises(ValueError, match=r"^params\[0\]: expected shape \(2, 3\) as before"):
            opt.step([gradient])
    assert (p == -1).all()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((2, 3, 4), (2, 3, 5)),
        ((2, 3, 4), (2, 3, 3)),
        ((2, 3, 4), (2, 2, 4)),
        ((2, 3, 4), (1, 3, 4)),
        ((2, 3, 4, 5), (2, 3, 5, 4)),
        ((2, 3, 4, 5), (2, 3, 4, 6)),
        ((2, 3, 4, 5, 2), (2, 3, 4, 5, 3)),
        ((1, 1, 1, 2, 1, 1, 1), (1, 1, 1, 1, 1, 1, 2)),
        ((2, 0, 4), (2, 0, 5)),
        ((3, 4), (3, 3)),
        ((3, 4), (2, 4)),
        ((3, 4), (3, 4, 1)),
        ((3,), (2,)),
        ((3,), (3, 1)),
        ((1,), ()),
        ((), (1,)),
    ],
    ids=str,
)
def test_every_number_of_a_shape_counts(
    shape: tuple[int, ...], other: tuple[int, ...], alone: bool
) -> None:
    p = np.ones(shape, np.float32)
    around = [] if alone else [np.ones(2, np.float32), np.ones(2, np.float32)]
    params = [*around[:1], p, *around[1:]]
    k = len(around) // 2
    opt = fusedopt.SGD(params, lr=1.0)
    grads = [np.ones_like(p) for p in params]
    for _ in range(2):
        opt.step(grads)
    text = rf"\[{k}\]: expected shape {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=f"^grads{text}"):
        opt.step([*grads[:k], np.ones(other, np.float32), *grads[k + 1 :]])
    for order in (1, -1):  # each from a step that could be repeated, and after the other
        opt.step(grads)
        p.resize(other, refcheck=False)
        for gradient in (np.ones(other, np.float32), grads[k])[::order]:  # also where they agree
            with pytest.raises(ValueError, match=text):
                opt.step([*grads[:k], gradient, *grads[k + 1 :]])
        p.resize(shape, refcheck=False)
    assert all((q == -3).all() for q in around)
    assert list(opt.step_counts) == [4] * len(params)


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")
def test_a_parameter_of_another_type_than_it_was() -> None:
    """Retyped in place, with gradients that go along with it."""
    for index in (0, 1):
        params = [np.ones(4, np.float32), np.ones(4, np.float32)]
        opt = fusedopt.SGD(params, lr=1.0)
        grads: Arrays = [np.ones(4, np.float32), np.ones(4, np.float32)]
        for _ in range(2):
            opt.step(grads)
        for dtype in (np.int32, ">f4"):
            params[index].dtype = dtype  # type: ignore[misc]
            for gradient in (grads[index], np.ones(4, dtype)):
                given = [*grads[:index], gradient, *grads[index + 1 :]]
                with pytest.raises(TypeError, match=rf"{index}\]: expected dtype float32"):
                    opt.step(given)
            params[index].dtype = np.float32  # type: ignore[misc]
        for p in params:
            assert (p == -1).all()
