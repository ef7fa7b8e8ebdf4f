"""Contract: a copy of an optimizer is another one, over the copies of its parameters."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import reference, schedules
from subprocesses import output_of

SHAPES = [(3, 5), 257, 0, (), 8193]
WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda thing, protocol=protocol: pickle.loads(
            pickle.dumps(thing, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}
every_way = pytest.mark.parametrize("way", WAYS)


@every_way
@every_dtype
@pytest.mark.parametrize("case", RULE_CASES, ids=str)
def test_a_copy_goes_its_own_way(case: Case, dtype: type, way: str) -> None:
    params = random_arrays(0, dtype, SHAPES)
    opt = case.make(params, ema_decay=0.9)
    for step in range(3):
        opt.step(random_arrays(1 + step, dtype, SHAPES))
    both = {"params": params, "opt": opt}
    other = WAYS[way](both)
    assert type(other["opt"]) is type(opt)
    for p, q in zip(other["params"], other["opt"].param_groups[0]["params"], strict=True):
        assert p is q
        assert all(p is not own for own in params)
    assert_same(other["opt"], opt)
    expected = [other["opt"], opt]
    for step in range(3, 6):
        for each in expected:
            each.step(random_arrays(1 + step, dtype, SHAPES))
    assert_same(*expected)
    before = copies(params)
    other["opt"].step(random_arrays(9, dtype, SHAPES))
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)


class Mine(fusedopt.Adam):
    """A user's own, with a constructor and an attribute."""

    def __init__(self, size: int) -> None:
        super().__init__({"w": np.ones(size)}, lr=0.5)
        self.note = ["mine"]


@every_way
def test_all_there_is_goes_along(way: str) -> None:
    w, b = np.ones((2, 3), np.float32), np.ones(4)
    dw, db = np.ones((2, 3), np.float32), np.ones(4)
    groups = [
        {"params": {"w": w}, "lr": schedules.cosine(0.1, 10)},
        {"params": {}},
        {"params": {"b": b}, "weight_decay": 0.5},
    ]
    opt = fusedopt.AdamW(groups, grads={"w": dw, "b": db}, ema_decay=0.5)
    opt.step()
    other, grad = WAYS[way]((opt, dw))
    assert repr(other) == repr(opt)
    assert list(other.state) == ["w", "b"]
    grad += 1
    dw += 1
    for each in (opt, other):
        each.step(max_norm=1.0)
        each.zero_grad()
        each.add_param_group({"params": {"c": np.ones(1)}, "lr": 0.5}, grads={"c": np.ones(1)})
        each.step()
    for key in ("w", "b", "c"):
        for name, value in opt.state[key].items():
            np.testing.assert_array_equal(other.state[key][name], value)
    assert (other.completed_steps, not dw.any(), not grad.any()) == (3, True, True)

    mine = Mine(3)
    mine.note.append("yours")
    other = WAYS[way](mine)
    assert (type(other), other.note) == (Mine, ["mine", "yours"])
    assert other.note is not mine.note


def test_a_shallow_copy_is_refused() -> None:
    with pytest.raises(TypeError, match="^a shallow copy would step the same parameters; copy.dee"):
        copy.copy(fusedopt.Adam([np.ones(3)]))


def test_parts_of_an_optimizer_are_not_copied() -> None:
    opt = fusedopt.Adam([np.ones(3)])
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a parameter group belongs to its optimizer"):
            copier(opt.param_groups[0])
    for thing in (opt.state, opt.ema):
        with pytest.raises(TypeError, match="the native half of an optimizer can't be copied"):
            pickle.dumps(thing)


def test_what_can_not_be_pickled_says_so() -> None:
    opt = fusedopt.SGD([np.ones(1)], lr=lambda step: 0.5)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(opt)
    assert copy.deepcopy(opt).param_groups[0]["lr"] is opt.param_groups[0]["lr"]


def test_the_reference_too() -> None:
    opt = reference.Adam([np.ones(3)], ema_decay=0.5)
    opt.step([np.ones(3)])
    other = copy.deepcopy(opt)
    opt.step([np.ones(3)])
    other.step([np.ones(3)])
    assert_same(other, opt)


def test_in_another_process() -> None:
    opt = fusedopt.Adam([np.ones(5)], lr=0.5)
    opt.step([np.arange(5.0)])
    code = f"""
import pickle
opt = pickle.loads(bytes.fromhex("{pickle.dumps(opt).hex()}"))
opt.step([opt.param_groups[0]["params"][0] * 2])
print(opt.param_groups[0]["params"][0].tobytes().hex())
"""
    opt.step([opt.param_groups[0]["params"][0] * 2])
    assert output_of(code) == opt.param_groups[0]["params"][0].tobytes().hex()


@every_way
def test_a_schedule_is_not_asked_about_steps_that_are_past(way: str) -> None:
    opt = fusedopt.SGD([np.ones(2)], lr=0.1)
    opt.step([np.ones(2)])
    opt.param_groups[0]["lr"] = inverse
    opt.step([np.ones(2)])
    other = WAYS[way](opt)
    for each in (opt, other):
        each.step([np.ones(2)])
    assert_same(other, opt)


def inverse(step: int) -> float:
    return 0.1 / step


class KnowsItsOptimizer:
    """A schedule that is a part of a cycle."""

    def __init__(self) -> None:
        self.base = 0.5
        self.opt: Any = None

    def __call__(self, step: int) -> float:
        return self.base


@every_way
def test_cycles(way: str) -> None:
    schedule = KnowsItsOptimizer()
    schedule.opt = fusedopt.SGD([np.ones(2)], lr=schedule)
    for thing, opt_of in (
        (schedule, lambda s: s.opt),
        (schedule.opt, lambda o: o.param_groups[0]["lr"].opt),
    ):
        opt = opt_of(WAYS[way](thing))
        assert opt is not schedule.opt
        opt.step([np.ones(2)])
        np.testing.assert_array_equal(opt.param_groups[0]["params"][0], [0.5, 0.5])


class Tagged(fusedopt.SGD):
    """Has a slot, and more in its state than others."""

    __slots__ = ("tag",)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "tag": self.tag}

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> None:
        self.tag = state_dict["tag"]
        super().load_state_dict(state_dict, strict)


@every_way
def test_subclasses_with_slots_and_state_of_their_own(way: str) -> None:
    opt = Tagged([np.ones(2)])
    opt.tag = ["a"]
    other = WAYS[way](opt)
    assert other.tag == ["a"]
    other.load_state_dict({**opt.state_dict(), "tag": "b"})
    assert other.tag == "b"
