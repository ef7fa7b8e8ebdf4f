"""Contract: no element, no array, no dimension, and more elements than 32 bits can count."""

import os

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, every_dtype, every_rule

HUGE = 2**31 + 3


@every_dtype
@every_rule
def test_0d_arrays(case: Case, dtype: type) -> None:
    actual, expected = case.make([np.array(2, dtype)]), case.make_reference([np.array(2, dtype)])
    for step in range(10):
        actual.step([np.array(step - 4.5, dtype)])
        expected.step([np.array(step - 4.5, dtype)])
    assert_same(actual, expected)
    assert actual.param_groups[0]["params"][0].shape == ()


@every_rule
def test_arrays_without_elements(case: Case) -> None:
    shapes = [(0,), (0, 3), (3, 0, 2)]
    opt = case.make([np.zeros(shape) for shape in shapes])
    for _ in range(3):
        opt.step([np.zeros(shape) for shape in shapes])
    assert [opt.state[i]["step"] for i in range(3)] == [3, 3, 3]
    for i, shape in enumerate(shapes):
        for name, array in opt.state[i].items():
            assert name == "step" or array.shape == shape
    with pytest.raises(ValueError, match=r"grads\[1\]: expected shape \(0, 3\)"):
        opt.step([np.zeros(0), np.zeros(0), np.zeros(shapes[2])])


@every_rule
def test_no_arrays(case: Case) -> None:
    for none in ([], {}, ()):
        opt = case.make(none)
        opt.step(type(none)())
        assert len(opt.state) == len(opt.step_counts) == 0
        assert opt.step([]) is None
    with pytest.raises(ValueError, match="grads: expected 0 gradients"):
        case.make([]).step([np.ones(3)])


def test_parameters_from_a_generator() -> None:
    arrays = [np.ones(3), np.ones(4)]
    fusedopt.SGD((a for a in arrays), lr=1).step([np.ones(3), np.ones(4)])
    assert not arrays[0].any()
    assert not arrays[1].any()


def available_memory() -> int:
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return 0
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(available_memory() < 12 << 30, reason="needs 12 GiB of free memory")
def test_more_than_2_to_the_31_elements() -> None:
    """The gradient is zero pages but for a few places, so that only the parameter takes memory."""
    places = [0, 1, 2**30 + 7, 2**31 - 1, 2**31, 2**31 + 1, HUGE - 1]
    p, g = np.zeros(HUGE, np.float32), np.zeros(HUGE, np.float32)
    g[places] = np.arange(1, len(places) + 1, dtype=np.float32)
    fusedopt.SGD([p], lr=0.5).step([g])
    np.testing.assert_array_equal(p[places], -0.5 * np.arange(1, len(places) + 1))
    assert np.count_nonzero(p) == len(places)
