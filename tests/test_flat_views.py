"""Contract: parameters that lie side by side are updated in one loop, to the same bits."""

from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import reference

SHAPES = [(3, 5), 7, (), (0, 4), (16,), (2, 3, 4), 1, (33,)]


@every_dtype
def test_views_fill_the_flat_array(dtype: Any) -> None:
    flat, views = fusedopt.flat_views(SHAPES, dtype)
    assert flat.dtype == dtype
    assert flat.ndim == 1
    assert flat.ctypes.data % 64 == 0
    assert not flat.any()
    assert [v.shape for v in views] == [(3, 5), (7,), (), (0, 4), (16,), (2, 3, 4), (1,), (33,)]
    assert all(v.dtype == dtype and v.flags.c_contiguous for v in views)
    for number, view in enumerate(views, 1):
        view[...] = number
    expected = np.concatenate([np.full(v.size, k, dtype) for k, v in enumerate(views, 1)])
    np.testing.assert_array_equal(flat, expected)


def test_names() -> None:
    flat, views = fusedopt.flat_views({"w": (2, 3), "b": 3})
    assert list(views) == ["w", "b"]
    views["b"][:] = 1
    np.testing.assert_array_equal(flat, [0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert fusedopt.flat_views([])[0].shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([3], np.float16), TypeError, "dtype: expected float32 or float64, got float16"),
        (([3], ">f4"), TypeError, "dtype: expected float32 or float64"),
        (([2, (3, -1)],), ValueError, r"shapes\[1\]: expected numbers >= 0, got \(3, -1\)"),
        (([2.5],), TypeError, r"shapes\[0\]: expected an int or ints, got 2.5"),
        ((["ab"],), TypeError, r"shapes\[0\]: expected an int or ints, got 'ab'"),
        (({1: 2},), TypeError, "shapes: expected str as names, got 1"),
        (({"w": None},), TypeError, r"shapes\['w'\]: expected an int or ints, got None"),
    ],
)
def test_what_is_refused(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fusedopt.flat_views(*arguments)


@every_dtype
@pytest.mark.parametrize("case", RULE_CASES, ids=str)
def test_views_step_as_arrays_of_their_own(case: Case, dtype: Any) -> None:
    """Whether gradients lie side by side or not may change from step to step."""
    shapes = [s if isinstance(s, tuple) else (s,) for s in SHAPES] + [(1000,), (999,)]
    _, params = fusedopt.flat_views(shapes, dtype)
    for view, values in zip(params, random_arrays(0, dtype, shapes), strict=True):
        view[...] = values
    expected = case.make_reference(copies(params))
    actual = case.make(params)
    _, side_by_side = fusedopt.flat_views(shapes, dtype)
    for step in range(12):
        grads = random_arrays(1 + step, dtype, shapes)
        expected.step(grads)
        if step % 4 in (1, 2):
            for view, g in zip(side_by_side, grads, strict=True):
                view[...] = g
            grads = side_by_side[:5] + grads[5:] if step == 6 else side_by_side
        actual.step(grads)
    assert_same(actual, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_flat_steps_as_its_views(threads: int) -> None:
    fusedopt.set_num_threads(threads)
    shapes = [(100, 1000), (1000,), (37,), (100_000,)]
    flat, views = fusedopt.flat_views(shapes)
    flat[:] = random_arrays(0, np.float32, [flat.size])[0]
    twin, twin_views = fusedopt.flat_views(shapes)
    twin[:] = flat
    flat_grad, grads = fusedopt.flat_views(shapes)
    whole, parts = fusedopt.Adam([flat]), fusedopt.Adam(twin_views)
    for step in range(5):
        flat_grad[:] = random_arrays(1 + step, np.float32, [flat.size])[0]
        whole.step([flat_grad])
        parts.step(grads)
    np.testing.assert_array_equal(flat, twin)
    state = [parts.state[i]["exp_avg"].ravel() for i in range(len(views))]
    np.testing.assert_array_equal(whole.state[0]["exp_avg"], np.concatenate(state))


@pytest.mark.parametrize("first", [0, 1])
def test_gradients_that_change_places(first: int) -> None:
    """The other way round, side by side as their parameters are, and so on."""
    _, views = fusedopt.flat_views([8, 8, 8])
    _, grads = fusedopt.flat_views([8, 8, 8])
    actual = fusedopt.SGD(views, lr=1, momentum=0.5)
    expected = reference.SGD(copies(views), lr=1, momentum=0.5)
    ways = [[2, 1, 0], [0, 1, 2], [2, 1, 0], [0, 1, 2], [1, 0, 2], [0, 2, 1], [1, 2, 0]]
    for step, way in enumerate(way for way in ways[first:] for _ in range(3)):
        for view, values in zip(grads, random_arrays(step, np.float32, [8, 8, 8]), strict=True):
            view[...] = values
        for opt in (actual, expected):
            opt.step([grads[k] for k in way])
        assert_same(actual, expected)


def test_a_gap_or_a_parameter_without_gradient_is_not_updated() -> None:
    flat, views = fusedopt.flat_views([8, 8, 8, 8])
    flat_grad, grads = fusedopt.flat_views([8, 8, 8, 8])
    flat_grad[:] = 1
    opt = fusedopt.SGD([views[0], views[1], views[3]], lr=1, momentum=0.5)
    opt.step([grads[0], grads[1], grads[3]])
    opt.step([grads[0], None, grads[3]])
    np.testing.assert_array_equal(flat.reshape(4, 8)[:, 0], [-2.5, -1, 0, -2.5])
    opt.step([grads[0], grads[1], grads[3]])
    np.testing.assert_array_equal(flat.reshape(4, 8)[:, 0], [-4.25, -2.5, 0, -4.25])
    assert opt.step_counts.tolist() == [3, 2, 3]


@every_dtype
@pytest.mark.parametrize("align", [8, 64, 128, 4096])
def test_aligned_views(align: int, dtype: Any) -> None:
    shapes = [3, (2, 5), (), 0, 17, (4, 4)]
    flat, views = fusedopt.flat_views(shapes, dtype, align=align)
    for k, view in enumerate(views):
        assert view.ctypes.data % align == 0
        assert view.shape == np.empty(shapes[k]).shape
        assert view.dtype == dtype
        assert view.size == 0 or np.shares_memory(view, flat)
        view[...] = k + 1
    assert flat.ctypes.data % max(align, 64) == 0
    for k, view in enumerate(views):
        assert (view == k + 1).all()
    assert np.count_nonzero(flat) == sum(view.size for view in views)
    # Only what is needed for it, and none at the end.
    assert flat[-1] == len(shapes)
    assert flat.nbytes < sum(view.nbytes for view in views) + align * len(shapes)


def test_aligned_views_step_with_the_flat_array() -> None:
    shapes = {"a": 3, "b": (5, 7), "c": 33}
    flat, params = fusedopt.flat_views(shapes, align=64)
    flat_grad, grads = fusedopt.flat_views(shapes, align=64)
    arrays = random_arrays(0, np.float32, [*shapes.values()])
    for view, array in zip(params.values(), arrays, strict=True):
        view[...] = array
    together, apart = fusedopt.AdamW([flat]), fusedopt.AdamW(copies(arrays))
    for step in range(5):
        given = random_arrays(1 + step, np.float32, [*shapes.values()])
        for view, array in zip(grads.values(), given, strict=True):
            view[...] = array
        together.step([flat_grad])
        apart.step(given)
    for view, array in zip(params.values(), apart.param_groups[0]["params"], strict=True):
        np.testing.assert_array_equal(view, array)
    assert np.count_nonzero(flat) == sum(view.size for view in params.values())


@pytest.mark.parametrize(
    ("align", "error", "message"),
    [
        (4, ValueError, "align: expected a power of two from 8 to 4096, got 4"),
        (8192, ValueError, "align: expected a power of two from 8 to 4096, got 8192"),
        (48, ValueError, "align: expected a power of two from 8 to 4096, got 48"),
        (64.0, TypeError, r"align: expected an int, got 64\.0"),
        ("64", TypeError, "align: expected an int, got '64'"),
    ],
)
def test_wrong_alignments(align: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fusedopt.flat_views([3], align=align)
