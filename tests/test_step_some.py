"""Contract: a step of some parameters is a step in which the others have no gradient."""

import inspect
import weakref
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import copies, every_dtype, random_arrays
from exchange import Foreign, Plain
from fusedopt import reference
from meanwhile import until_it_is_met

SHAPES: list[Any] = [3, (2, 5), 0, (), 17, 260, 3]
NAMES = [f"p{i}" for i in range(len(SHAPES))]
METHOD: Any = inspect.getattr_static(fusedopt.Optimizer, "step_some")
#: What is stepped, one after the other.
CALLS = [(1,), (0, 4), (), (6, 2, 5), (1, 4), (3,), (0, 1, 2, 3, 4, 5, 6), (4, 0), (1,), (1,)]
both_ways = pytest.mark.parametrize("native", [True, False], ids=["native", "Python"])


def step_some(opt: Any, grads: Any, native: bool, **options: Any) -> None:
    (METHOD if native else METHOD.__wrapped__)(opt, grads, **options)


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours.step_counts.tolist() == theirs.step_counts.tolist()
    assert ours.completed_steps == theirs.completed_steps
    for i in range(len(SHAPES)):
        assert ours.state[i].keys() == theirs.state[i].keys()
        for name, array in ours.state[i].items():
            np.testing.assert_array_equal(array, theirs.state[i][name])
    for ours_group, theirs_group in zip(ours.param_groups, theirs.param_groups, strict=True):
        for p, q in zip(ours_group["params"], theirs_group["params"], strict=True):
            np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("cls", ["SGD", "RMSprop", "Adam"])
@pytest.mark.parametrize("by_name", [False, True], ids=["index", "name"])
@every_dtype
@both_ways
def test_it_is_a_step_without_gradients_for_the_others(
    cls: str, by_name: bool, dtype: Any, native: bool
) -> None:
    options = {"SGD": {"momentum": 0.5}, "RMSprop": {"centered": True}, "Adam": {"amsgrad": True}}
    params = random_arrays(0, dtype, SHAPES)

    def made(module: Any) -> Any:
        arrays = copies(params)
        named: Any = dict(zip(NAMES, arrays, strict=True)) if by_name else arrays
        groups = (
            [{"params": named}]
            if by_name
            else [{"params": named[:4]}, {"params": named[4:], "lr": 0.3, "ema_decay": 0.5}]
        )
        return getattr(module, cls)(groups, lr=lambda k: 0.1 + 0.01 * k, **options[cls])

    ours, theirs, whole = made(fusedopt), made(reference), made(reference)
    for k, chosen in enumerate(CALLS):
        grads = random_arrays(1 + k, dtype, SHAPES)
        given: dict[Any, Any] = {NAMES[i] if by_name else i: grads[i] for i in chosen}
        if k == 4:
            given[NAMES[5] if by_name else 5] = None  # is one that isn't there
        step_some(ours, given, native)
        theirs.step_some(given)
        whole.step([grads[i] if i in chosen else None for i in range(len(SHAPES))])
        assert_same(ours, theirs)
        assert_same(ours, whole)
        if k % 3 == 1:  # and whole ones in between
            for opt in (ours, theirs, whole):
                opt.step(grads)
            assert_same(ours, whole)


@both_ways
def test_what_completes_a_step(native: bool) -> None:
    """Schedules go on with completed steps; each parameter counts its own."""
    p, q = np.zeros(2), np.zeros(2)
    opt = fusedopt.SGD({"p": p, "q": q}, lr=lambda step: 1.0 + step)
    for _ in range(3):
        step_some(opt, {"q": np.ones(2)}, native, completes=False)
        step_some(opt, {"p": np.ones(2)}, native, completes=True)
    assert opt.completed_steps == 3
    assert opt.step_counts.tolist() == [3, 3]
    assert p.tolist() == q.tolist() == [-6.0] * 2
    step_some(opt, {}, native)
    assert opt.completed_steps == 4
    step_some(opt, {}, native, completes=False)
    assert opt.completed_steps == 4
    assert opt.step_counts.tolist() == [3, 3]


def test_the_usual_call_takes_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    params = dict(zip(NAMES, random_arrays(0, np.float32, SHAPES), strict=True))
    grads = dict(zip(NAMES, random_arrays(1, np.float32, SHAPES), strict=True))
    opt = fusedopt.Adam(params, lr=0.1)
    opt.step(grads)

    def refused() -> None:
        raise AssertionError("asked Python")

    monkeypatch.setattr(opt, "_configure", refused)
    opt.param_groups[0]["lr"] = 0.2
    opt.step_some({"p1": grads["p1"], "p4": grads["p4"]})
    opt.step_some({0: Plain(grads["p0"]).array}, completes=False)
    assert opt.step_counts.tolist() == [2, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("kind", [Foreign, Plain])
def test_arrays_of_other_libraries(kind: Any) -> None:
    p, q = np.zeros(3), np.zeros(2)
    params = [kind(p), kind(q)]
    opt = fusedopt.SGD(params, lr=1.0, momentum=0.5)
    for _ in range(3):
        opt.step_some({0: kind(np.ones(3))})
    opt.step([kind(np.ones(3)), kind(np.ones(2))])
    opt.step_some({1: np.ones(2), 0: kind(np.ones(3))})
    moved = params[1].array = np.zeros(2)
    opt.step_some({1: kind(np.ones(2))})
    assert p.tolist() == [-(1 + 1.5 + 1.75 + 1.875 + 1.9375)] * 3
    assert q.tolist() == [-2.5] * 2
    assert moved.tolist() == [-1.75] * 2


def test_a_whole_step_after_one_of_some_counts_each_for_itself() -> None:
    """Though the last whole one was like the one before."""
    params = random_arrays(0, np.float32, SHAPES)
    ours, theirs = fusedopt.Adam(params, lr=0.1), reference.Adam(copies(params), lr=0.1)
    for k in range(12):
        grads = random_arrays(k, np.float32, SHAPES)
        for opt in (ours, theirs):
            if k % 4 == 3:
                opt.step_some({1 + k // 4: grads[1 + k // 4]})
            else:
                opt.step(grads)
        assert_same(ours, theirs)


def test_a_frozen_parameter_is_refused() -> None:
    p, q = np.ones(3), np.ones(3)
    opt = fusedopt.SGD([p, q], lr=1.0)
    opt.step([np.ones(3), np.ones(3)])
    p.flags.writeable = False
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^params\[0\]: expected a writeable array"):
            opt.step_some({0: np.ones(3)})
    opt.step_some({1: np.ones(3)})
    assert p.tolist() == [0.0] * 3
    assert q.tolist() == [-1.0] * 3


def test_the_native_half_names_what_is_not_there() -> None:
    opt = fusedopt.SGD([np.ones(3)])
    for index in (1, 99):
        with pytest.raises(IndexError, match=r"^step_some\(\): there is no such parameter"):
            opt._engine.step_some([(index, np.ones(3))], True)


def test_parameters_that_moved_are_followed() -> None:
    """One that lies elsewhere is found there, and gradients over it are refused."""
    p, q = np.ones(3), np.ones(4)
    opt = fusedopt.SGD([p, q], lr=1.0)
    opt.step([np.ones(3), np.ones(4)])
    q.resize(4000, refcheck=False)
    q.resize(4, refcheck=False)
    opt.step_some({1: np.ones(4)})
    assert q.tolist() == [-1.0] * 4
    with pytest.raises(ValueError, match=r"^grads\[0\] overlaps params\[1\]"):
        opt.step_some({0: q[:3]})


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ({"x": np.ones(3)}, {}, ValueError, r"^grads\['x'\]: there is no such parameter"),
    ({2: np.ones(3)}, {}, ValueError, r"^grads\[2\]: there is no such parameter"),
    ({-1: np.ones(3)}, {}, ValueError, r"^grads\[-1\]: there is no such parameter"),
    ({2**70: np.ones(3)}, {}, ValueError, "there is no such parameter"),
    ({1.0: np.ones(3)}, {}, ValueError, r"^grads\[1.0\]: there is no such parameter"),
    ({None: np.ones(3)}, {}, ValueError, r"^grads\[None\]: there is no such parameter"),
    ({"w": np.ones(3), 0: np.ones(3)}, {}, ValueError, r"^grads\[0\]: params\['w'\] is there"),
    ({"w": np.ones(4)}, {}, ValueError, r"^grads\['w'\]: expected shape"),
    ({"b": np.ones(2, np.float32)}, {}, TypeError, r"^grads\['b'\]: expected dtype"),
    ({"b": [1.0, 2.0]}, {}, TypeError, r"^grads\['b'\]: expected a NumPy array, got list"),
    ({"b": np.ones(4)[::2]}, {}, ValueError, r"^grads\['b'\]: expected a C-contiguous"),
    ([np.ones(3), None], {}, TypeError, "^grads: expected a dict of indices or names"),
    (None, {}, TypeError, "^grads: expected a dict of indices or names"),
    ({"w": np.ones(3)}, {"completes": 1}, TypeError, "^completes: expected True or False"),
    ({"w": np.ones(3)}, {"complete": True}, TypeError, "complete"),
]


@pytest.mark.parametrize(("grads", "options", "error", "text"), BAD)
def test_what_is_wrong_is_named_and_nothing_has_changed(
    grads: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    w, b = np.ones(3), np.ones(2)
    opt = fusedopt.Adam({"w": w, "b": b}, lr=0.5)
    for _ in range(2):
        for bad in (grads, {"b": np.ones(2), **grads} if isinstance(grads, dict) else grads):
            with pytest.raises(error, match=text):
                opt.step_some(bad, **options)
        steps = opt.completed_steps
        assert opt.step_counts.tolist() == [steps, steps]
        np.testing.assert_allclose([*w, *b], [1.0 - 0.5 * steps] * 5)
        opt.step([np.ones(3), np.ones(2)])
    assert opt.completed_steps == 2


def test_other_mappings_and_keys() -> None:
    p, q = np.zeros(2), np.zeros(2)
    opt = fusedopt.SGD({"p": p, "q": q}, lr=1.0)

    class Name(str):
        pass

    opt.step_some(MappingProxyType({"p": np.ones(2)}))
    opt.step_some({np.int64(1): np.ones(2)})
    opt.step_some({Name("q"): np.ones(2), "p": np.ones(2)})
    opt.step_some({0: np.ones(2), "q": np.ones(2)})
    assert p.tolist() == q.tolist() == [-3.0] * 2


def test_it_is_refused_where_a_step_is() -> None:
    p = np.ones(3)
    refused = []

    def lr(step: int) -> float:
        if step == 1:
            with pytest.raises(RuntimeError, match=r"^step_some\(\): called from within"):
                opt.step_some({0: np.ones(3)})
            refused.append(step)
        return 0.5

    opt = fusedopt.SGD([p], lr=lr, ema_decay=0.5)
    opt.step_some({0: np.ones(3)})
    opt.step_some({0: np.ones(3)})
    assert refused == [1]
    for _ in range(2):
        with (
            opt.swap_ema(),
            pytest.raises(RuntimeError, match=r"^step_some\(\): not inside swap_ema\(\)"),
        ):
            opt.step_some({0: np.ones(3)})
        with (
            opt.swap_ema(),
            pytest.raises(RuntimeError, match=r"^step_some\(\): not inside swap_ema\(\)"),
        ):
            opt.step_some(MappingProxyType({0: np.ones(3)}))
    assert opt.completed_steps == 2


def test_large_ones_keep_what_they_read() -> None:
    """The GIL is released: what was given may be gone before the step has ended."""
    size = 1_200_000
    p, q = np.zeros(size), Foreign(np.zeros(size))
    opt = fusedopt.SGD([p, q], lr=1.0)
    opt.step([np.ones(size), np.ones(size)])
    grads: dict[int, Any] = {}
    met: list[tuple[bool, ...]] = []

    def begin() -> None:
        grads.update({0: np.ones(size), 1: Foreign(np.ones(size))})

    def meet() -> None:
        foreign, left = grads[1], weakref.ref(grads[0])
        grads.clear()
        met.append((left() is not None, bool(foreign.owned), bool(q.owned)))

    steps = until_it_is_met(begin, lambda: opt.step_some(grads), meet)
    assert met == [(True, True, True)]
    assert (p == -1 - steps).all()
    assert (q.array == -1 - steps).all()
    assert not q.owned
