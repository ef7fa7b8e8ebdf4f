"""Contract: with copy=False the arrays of a state_dict are the state, and updated in place."""

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import assert_same, copies, random_arrays
from fusedopt import reference


def adopted(dtype: Any = np.float64) -> tuple[fusedopt.Adam, Any, dict[str, Any], list[Any]]:
    """Return an optimizer whose state is the caller's, its specification, and the arrays."""
    params = random_arrays(0, dtype, [3, (2, 5), 1000])
    state = {
        i: {
            "step": 4 + i,
            "exp_avg": random_arrays(7, dtype, [p.shape])[0],
            "exp_avg_sq": random_arrays(8, dtype, [p.shape])[0] ** 2,
        }
        for i, p in enumerate(params)
    }
    theirs = reference.Adam(copies(params), lr=0.1)
    group = theirs.state_dict()["param_groups"][0]
    whole = {"state": state, "param_groups": [group], "completed_steps": 9}
    theirs.load_state_dict(copy.deepcopy(whole))
    ours = fusedopt.Adam(params, lr=0.5)
    ours.load_state_dict(whole, copy=False)
    return ours, theirs, whole, params


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adopted_arrays_are_the_state(dtype: Any) -> None:
    ours, theirs, whole, _ = adopted(dtype)
    for seed in range(1, 6):
        grads = random_arrays(seed, dtype, [3, (2, 5), 1000])
        if seed == 3:
            grads[1] = None
        for opt in (ours, theirs):
            opt.step(grads)
    assert_same(ours, theirs)
    for i, entries in whole["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert np.shares_memory(entries[name], ours.state[i][name])
            np.testing.assert_array_equal(entries[name], theirs.state[i][name])
    assert ours.state[0]["step"] == 9
    assert ours.completed_steps == 14


@pytest.mark.parametrize("adopts_again", [True, False])
def test_whoever_sees_them_go_sees_a_whole_optimizer(adopts_again: bool) -> None:
    ours, _, whole, _ = adopted()
    seen = []

    def look(_: Any) -> None:
        seen.append([sorted(ours.state[i]) for i in range(3)])

    names = ("exp_avg", "exp_avg_sq")
    left = [weakref.ref(e[n], look) for e in whole["state"].values() for n in names]
    other = copy.deepcopy(whole)
    if not adopts_again:  # all of them are lost, and there are copies in their place
        for ref in left:
            ref().flags.writeable = False  # type: ignore[union-attr]
    whole.clear()
    ours.load_state_dict(other, copy=not adopts_again)
    gc.collect()
    assert all(ref() is None for ref in left)
    assert seen == [[["exp_avg", "exp_avg_sq", "step"]] * 3] * 6
    ours.step(random_arrays(1, np.float64, [3, (2, 5), 1000]))
    assert ours.state[0]["step"] == 5


def test_adopted_arrays_live_as_long_as_the_state() -> None:
    ours, theirs, whole, params = adopted()
    left = [weakref.ref(e[n]) for e in whole["state"].values() for n in ("exp_avg", "exp_avg_sq")]
    whole.clear()
    gc.collect()
    assert all(ref() is not None for ref in left)
    for opt in (ours, theirs):
        opt.step(random_arrays(1, np.float64, [3, (2, 5), 1000]))
    assert_same(ours, theirs)
    view = ours.state[0]["exp_avg"]
    del ours, opt
    gc.collect()
    np.testing.assert_array_equal(view, theirs.state[0]["exp_avg"])
    assert sum(ref() is not None for ref in left) == 1
    del view
    gc.collect()
    assert all(ref() is None for ref in left)
    assert len(params) == 3


def test_state_may_be_adopted_again_and_copied_over() -> None:
    """The same arrays, one's own, and then copies into them."""
    ours, theirs, whole, _ = adopted()
    grads = random_arrays(1, np.float64, [3, (2, 5), 1000])
    for opt in (ours, theirs):
        opt.step(grads)
    ours.load_state_dict(ours.state_dict(), copy=False)
    ours.load_state_dict(ours.state_dict())
    for opt in (ours, theirs):
        opt.step(grads)
    assert_same(ours, theirs)
    assert np.shares_memory(whole["state"][0]["exp_avg"], ours.state[0]["exp_avg"])
    other = fusedopt.Adam([np.ones(3), np.ones((2, 5)), np.ones(1000)])
    other.load_state_dict(ours.state_dict())
    assert not np.shares_memory(other.state[0]["exp_avg"], ours.state[0]["exp_avg"])
    fresh = fusedopt.Adam([np.ones(3), np.ones((2, 5)), np.ones(1000)])
    ours.load_state_dict(fresh.state_dict(), copy=False)
    assert dict(ours.state[0]) == {}


def spoilt(value: Any) -> Any:
    return lambda whole, params: whole["state"][1].update(exp_avg=value(whole, params))


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (spoilt(lambda w, p: np.ones((5, 2))), ValueError, r"\['exp_avg'\]: expected shape"),
        (spoilt(lambda w, p: np.ones((2, 5), "f")), TypeError, "expected dtype float64"),
        (spoilt(lambda w, p: np.ones((5, 2)).T), ValueError, "expected a C-contiguous"),
        (spoilt(lambda w, p: read_only(np.ones((2, 5)))), ValueError, "and writeable array"),
        (spoilt(lambda w, p: [[1.0] * 5] * 2), TypeError, "got list"),
        (
            spoilt(lambda w, p: p[1]),
            ValueError,
            r"^state\[1\]\['exp_avg'\] overlaps params\[1\]",
        ),
        (
            spoilt(lambda w, p: p[2][:10].reshape(2, 5)),
            ValueError,
            r"^state\[1\]\['exp_avg'\] overlaps params\[2\]",
        ),
        (
            spoilt(lambda w, p: w["state"][1]["exp_avg_sq"]),
            ValueError,
            r"^state\[1\]\['exp_avg_sq'\] overlaps state\[1\]\['exp_avg'\]",
        ),
    ],
)
def test_arrays_that_cannot_be_adopted_change_nothing(
    spoil: Any, error: type[Exception], text: str
) -> None:
    ours, theirs, whole, params = adopted()
    other = copy.deepcopy(whole)
    spoil(other, params)
    for _ in range(2):
        with pytest.raises(error, match=text):
            ours.load_state_dict(other, copy=False)
        for opt in (ours, theirs):
            opt.step(random_arrays(1, np.float64, [3, (2, 5), 1000]))
        assert_same(ours, theirs)


@pytest.mark.parametrize("spoil", ["resized", "frozen"])
def test_an_adopted_array_that_is_no_longer_there(spoil: str) -> None:
    """It is looked at again at each step, as parameters are; loading state mends it."""
    ours, theirs, whole, _ = adopted()
    saved = copy.deepcopy(whole)
    grads = random_arrays(1, np.float64, [3, (2, 5), 1000])
    array = whole["state"][2]["exp_avg"]
    if spoil == "resized":
        array.resize(100_000, refcheck=False)
    else:
        array.flags.writeable = False
    acts: list[Any] = [
        lambda: ours.step(grads),
        lambda: ours.step_some({0: grads[0]}),
        lambda: ours.step(grads, max_norm=1.0),
        lambda: dict(ours.state[0]),
        lambda: ours.state_dict(),
    ]
    for act in acts:
        with pytest.raises(ValueError, match=r"^state\[2\]\['exp_avg'\]: .*Load the state again"):
            act()
    for bad in ({"exp_avg": np.ones(4)}, {"exp_avg": np.ones(3, np.float32)}):
        unfit = copy.deepcopy(saved)
        unfit["state"][0].update(bad)
        with pytest.raises((TypeError, ValueError), match=r"\['exp_avg'\]: expected"):
            ours.load_state_dict(unfit)
        with pytest.raises(ValueError, match="Load the state again"):
            ours.step(grads)
    with pytest.raises(RuntimeError, match="parameters were added"):
        ours._engine.load([], [], 0, [], None, [])
    with pytest.raises(ValueError, match="Load the state again"):
        ours.step(grads)
    ours.load_state_dict(saved)
    for opt in (ours, theirs):
        opt.step(grads)
    assert_same(ours, theirs)


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def test_gradients_may_not_overlap_adopted_state() -> None:
    ours, _, whole, _ = adopted()
    with pytest.raises(ValueError, match=r"^grads\[0\] overlaps the optimizer's own state"):
        ours.step([whole["state"][0]["exp_avg"], None, None])
    with pytest.raises(TypeError, match="^copy: expected True or False"):
        ours.load_state_dict(ours.state_dict(), copy=0)
