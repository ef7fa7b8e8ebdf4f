"""Contract: whether anything in a nest of dicts and lists became another object."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusedopt import _core


class Thing:
    """Equal to all others, and yet another."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        return 1


def nest() -> Any:
    state: dict[str, Any] = defaultdict(dict)
    for _ in range(50):  # more than are read ahead
        state[str(len(state))] = {"step": Thing(), "moments": [Thing()], "empty": {}}
    groups: list[dict[str, Any]] = [
        {"params": [Thing(), Thing()], "betas": (Thing(), 1000.5), "lr": 1000.5},
        {"params": []},
    ]
    return {"groups": groups, "state": state}


EDITS: list[Callable[[Any], Any]] = [
    lambda n: n.update(more=1),
    lambda n: n["groups"].append({}),
    lambda n: n["groups"].pop(),
    lambda n: n["groups"].reverse(),
    lambda n: n["groups"].__setitem__(1, {"params": []}),
    lambda n: n["groups"][0].update(lr=float("1000.5")),
    lambda n: n["groups"][0].update(other=n["groups"][0].pop("lr")),
    lambda n: n["groups"][0].update(params=list(n["groups"][0]["params"])),
    lambda n: n["groups"][0]["params"].reverse(),
    lambda n: n["groups"][0].update(betas=(n["groups"][0]["betas"][0], float("1000.5"))),
    lambda n: n["groups"][1]["params"].append(n["groups"][0]["params"].pop()),
    lambda n: n["groups"][1].update(n["groups"][0].copy()),
    lambda n: n["state"].clear(),
    lambda n: n["state"].popitem(),
    lambda n: n["state"].update(more={}),
    lambda n: next(iter(n["state"].values())).update(step=Thing()),
    lambda n: list(n["state"].values())[-1].update(step=Thing()),
    lambda n: list(n["state"].values())[25].pop("step"),
    lambda n: list(n["state"].values())[25]["empty"].update(a=1),
    lambda n: list(n["state"].values())[25]["moments"].append(1),
    lambda n: list(n["state"].values())[25]["moments"].clear(),
    lambda n: list(n["state"].values())[25].update(moments=[Thing()]),
]


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_seen(edit: Callable[[Any], Any]) -> None:
    owner = nest()
    contents = _core.contents(owner)
    assert _core.has_contents(owner, contents)
    edit(owner)
    assert not _core.has_contents(owner, contents)
    assert _core.has_contents(owner, _core.contents(owner))


def test_what_is_put_back_is_there() -> None:
    owner = nest()
    contents = _core.contents(owner)
    moved = owner["groups"].pop()
    owner["groups"].append(moved)
    assert _core.has_contents(owner, contents)


def test_it_looks_so_deep_and_no_further() -> None:
    bottom: list[Any] = []
    owner = [[[[bottom]]]]
    contents = _core.contents(owner)
    bottom.append(1)
    assert _core.has_contents(owner, contents)
    owner[0][0][0][0] = []
    assert not _core.has_contents(owner, contents)
    below: dict[str, Any] = {}
    of_dicts = {"a": {"b": {"c": {"d": below}}}}
    contents = _core.contents(of_dicts)
    below["e"] = 1
    assert _core.has_contents(of_dicts, contents)
    of_dicts["a"]["b"]["c"]["d"] = {}
    assert not _core.has_contents(of_dicts, contents)
    circle: list[Any] = []
    circle.append(circle)
    assert _core.has_contents(circle, _core.contents(circle))


def test_other_containers_are_things() -> None:
    array = np.ones(3)
    owner: list[Any] = [array, {1, 2}, OrderedDict(a=1), ([1],)]
    contents = _core.contents(owner)
    array[0] = 2
    owner[3][0].append(2)
    owner[1].add(3)
    assert _core.has_contents(owner, contents)
    owner[2]["b"] = 2
    assert not _core.has_contents(owner, contents)


@pytest.mark.parametrize("contents", [(), (1,), (b"\0",), (b"\0\0", 1)])
def test_what_isnt_contents(contents: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="contents"):
        _core.has_contents([], contents)


def test_attributes_and_who_has_them() -> None:
    all_there = [Thing(k) for k in range(4)]
    values, owners = _core.attributes(all_there, "value")
    assert values == [0, 1, 2, 3]
    assert owners is all_there
    some = [Thing(1), Thing(), Thing(0), Thing()]
    values, owners = _core.attributes(some, "value")
    assert values == [1, None, 0, None]
    assert [id(o) for o in owners] == [id(some[0]), id(some[2])]
    assert _core.attributes([Thing()], "value") == ([None], [])
    assert _core.attributes([], "value") == ([], [])
    with pytest.raises(AttributeError, match="weight"):
        _core.attributes(some, "weight")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_as_floats(dtype: type) -> None:
    counts = np.array([0, 3, 2**24 + 1, 7])
    floats = np.zeros(4, dtype)
    assert not _core.are_counts(floats, counts)
    _core.write_counts(floats, counts)
    assert np.array_equal(floats, counts.astype(dtype))
    assert _core.are_counts(floats, counts)
    floats[3] = 8
    assert not _core.are_counts(floats, counts)
    floats[3] = np.nan
    assert not _core.are_counts(floats, counts)


@pytest.mark.parametrize(
    ("floats", "counts"),
    [
        (np.zeros(3, np.float32), np.zeros(4, np.int64)),
        (np.zeros(3, np.float16), np.zeros(3, np.int64)),
        (np.zeros(3, np.float32), np.zeros(3, np.int32)),
        (np.zeros((3, 1), np.float32), np.zeros((3, 1), np.int64)),
        (np.zeros(6, np.float32)[::2], np.zeros(3, np.int64)),
        ([0.0], np.zeros(1, np.int64)),
    ],
)
def test_other_counts_are_refused(floats: Any, counts: Any) -> None:
    for function in (_core.are_counts, _core.write_counts):
        with pytest.raises(TypeError, match="floats, counts"):
            function(floats, counts)
