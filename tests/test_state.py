"""Contract: opt.state shows all there is: live arrays under torch's names, and step counts."""

import gc
import sys

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, copies, random_arrays
from fusedopt import reference
from subprocesses import output_of

NAMES = [
    (Case("SGD", {}), []),
    (Case("SGD", {"momentum": 0.9}), ["momentum_buffer"]),
    (Case("RMSprop", {}), ["square_avg"]),
    (Case("RMSprop", {"centered": True}), ["square_avg", "grad_avg"]),
    (Case("RMSprop", {"momentum": 0.9}), ["square_avg", "momentum_buffer"]),
    (
        Case("RMSprop", {"momentum": 0.9, "centered": True}),
        ["square_avg", "grad_avg", "momentum_buffer"],
    ),
    (Case("Adam", {}), ["exp_avg", "exp_avg_sq"]),
    (Case("AdamW", {"amsgrad": True}), ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]),
]


@pytest.mark.parametrize(("case", "names"), NAMES, ids=str)
def test_names_and_first_step(case: Case, names: list[str]) -> None:
    for make in (case.make, case.make_reference):
        opt = make([np.ones((3, 4), np.float32), np.ones(5)])
        assert dict(opt.state[0]) == dict(opt.state[1]) == {}
        opt.step([np.ones((3, 4), np.float32), None])
        assert list(opt.state[0]) == ["step", *names]
        assert opt.state[0]["step"] == 1
        assert type(opt.state[0]["step"]) is int
        assert dict(opt.state[1]) == {}
        for name in names:
            array = opt.state[0][name]
            assert (array.shape, array.dtype) == ((3, 4), np.float32)
            assert array.flags.c_contiguous
            assert make != case.make or array.ctypes.data % 64 == 0
            assert array.flags.writeable


def test_no_state_that_is_not_needed() -> None:
    """Switched off again, a buffer stays as it is; torch keeps it, too."""
    p, g = random_arrays(0, np.float64, [9, 9])
    opt = fusedopt.SGD([p])
    opt.step([g])
    assert list(opt.state[0]) == ["step"]
    opt.param_groups[0]["momentum"] = 0.9
    opt.step([g])
    np.testing.assert_array_equal(opt.state[0]["momentum_buffer"], g)  # undamped, as at first
    opt.param_groups[0]["momentum"] = 0
    opt.step([2 * g])
    np.testing.assert_array_equal(opt.state[0]["momentum_buffer"], g)
    assert opt.state[0]["step"] == 3


def test_arrays_are_live() -> None:
    p, g = random_arrays(0, np.float32, [100, 100])
    opt, expected = fusedopt.Adam([p]), reference.Adam(copies([p]))
    array = None
    for step in range(6):
        opt.step([g])
        expected.step([g])
        array = opt.state[0]["exp_avg"] if array is None else array
        np.testing.assert_array_equal(array, expected.state[0]["exp_avg"])
        for either in (opt, expected):  # what is written is used
            either.state[0]["exp_avg_sq"][step::7] *= 2
    assert_same(opt, expected)


def test_mappings_are_read_only() -> None:
    opt = fusedopt.Adam({"w": np.ones(3)})
    opt.step({"w": np.ones(3)})
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.state["w"]["exp_avg"] = np.zeros(3)
    with pytest.raises(TypeError, match="does not support item deletion"):
        del opt.state["w"]["exp_avg"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.state["w"] = {}
    with pytest.raises(ValueError, match="read-only"):
        opt.step_counts[0] = 7
    with pytest.raises(ValueError, match="does not own its data"):
        opt.state["w"]["exp_avg"].resize(10, refcheck=False)
    with pytest.raises(ValueError, match="WRITEABLE flag to True"):
        opt.step_counts.flags.writeable = True


def test_changing_a_state_array_object_changes_nothing_else() -> None:
    opt, expected = fusedopt.Adam([np.ones(4)]), reference.Adam([np.ones(4)])
    for either in (opt, expected):
        either.step([np.ones(4)])
    array = opt.state[0]["exp_avg"]
    array.flags.writeable = False
    for either in (opt, expected):
        either.step([np.ones(4)])
    assert_same(opt, expected)


def test_keys() -> None:
    named = fusedopt.Adam({"w": np.ones(3), "b": np.ones(2)})
    assert list(named.state) == ["w", "b"]
    named.step({"b": np.ones(2), "w": None})
    assert dict(named.state["w"]) == {}
    assert named.state["b"]["step"] == named.state[1]["step"] == 1
    listed = fusedopt.Adam([np.ones(3), np.ones(2)])
    assert list(listed.state) == [0, 1]
    for opt, key in [(named, "x"), (named, 2), (listed, "w"), (listed, 2), (listed, -1)]:
        with pytest.raises(KeyError):
            opt.state[key]
    with pytest.raises(KeyError):
        listed.state[0]["exp_avg"]


def test_odd_keys_are_not_there() -> None:
    opt = fusedopt.Adam([np.ones(3)])
    for key in (None, (), b"w", 0.5):
        assert key not in opt.state


def test_what_an_optimizer_shows_is_not_replaced() -> None:
    opt = fusedopt.Adam([np.ones(3)])
    for name in ("param_groups", "state", "step_counts"):
        with pytest.raises(AttributeError):
            setattr(opt, name, None)


def test_step_counts_are_per_parameter() -> None:
    opt = fusedopt.Adam([np.ones(3), np.ones(2), np.ones(1)])
    counts = opt.step_counts
    assert (counts.dtype, counts.shape) == (np.int64, (3,))
    for step in range(6):
        opt.step([np.ones(3), np.ones(2) if step % 2 else None, None])
    np.testing.assert_array_equal(counts, [6, 3, 0])


def test_arrays_outlive_the_optimizer() -> None:
    opt = fusedopt.Adam([np.ones(1000)])
    opt.step([np.ones(1000)])
    counts, moment = opt.step_counts, opt.state[0]["exp_avg"]
    expected = moment.copy()
    del opt
    gc.collect()
    filler = [np.ones(1000) for _ in range(100)]
    np.testing.assert_array_equal(moment, expected)
    assert counts[0] == 1
    assert len(filler) == 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("size", "count"), [(1000, 4000), (4_000_000, 200)])
def test_memory_of_state_goes_with_its_optimizer(size: int, count: int) -> None:
    code = f"""
import numpy as np, fusedopt
from subprocesses import own_memory
p, g = np.zeros({size}, np.float32), np.zeros({size}, np.float32)

def make(count):
    for _ in range(count):
        fusedopt.Adam([p]).step([g])

make(10)
before = own_memory("VmSize")
make({count})
print(own_memory("VmSize") - before < {size * count})
"""
    assert output_of(code) == "True"


def test_parameters_are_kept_alive() -> None:
    opt = fusedopt.SGD([np.ones(1000)], lr=1)
    gc.collect()
    opt.step([np.ones(1000)])
    assert (opt.param_groups[0]["params"][0] == 0).all()
