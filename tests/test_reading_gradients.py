"""Contract: gradients are what their own iterator gives, held against where parameters are now."""

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same
from fusedopt.functional import sgd_

OPTIONS = [{}, {"max_norm": 1e9}, {"stats": True}, {"zero_grads": True}]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)


class Doubling(list[Any]):
    """A list that gives something else than it holds."""

    def __iter__(self) -> Iterator[Any]:
        return (2 * g for g in super().__iter__())


class Twice(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return (2 * g for g in super().__iter__())


@options
@pytest.mark.parametrize("kind", [Doubling, Twice])
def test_a_subclass_with_its_own_iterator(kind: Any, options: dict[str, Any]) -> None:
    p, q = np.zeros(3), np.zeros(3)
    opt = fusedopt.SGD([p, q], lr=1.0)
    for _ in range(3):
        opt.step(kind([np.ones(3), np.full(3, 2.0)]), **options)
    assert p.tolist() == [-6.0] * 3
    assert q.tolist() == [-12.0] * 3


@pytest.mark.parametrize("kind", [Doubling, Twice])
def test_functions_bound_gradients_and_groups_read_them_alike(kind: Any) -> None:
    p, q = np.zeros(3), np.zeros(3)
    sgd_([p, q], kind([np.ones(3), np.ones(3)]), step=1, lr=1.0)
    assert p.tolist() == q.tolist() == [-2.0] * 3
    opt = fusedopt.SGD([p], lr=1.0, grads=kind([np.ones(3)]))
    opt.add_param_group({"params": [q]}, grads=kind([np.full(3, 2.0)]))
    opt.step()
    assert p.tolist() == [-4.0] * 3
    assert q.tolist() == [-6.0] * 3


@options
def test_a_key_that_fails_changes_nothing(options: dict[str, Any]) -> None:
    """A dict asks it whether it is the name that is looked for."""

    class Key:
        def __hash__(self) -> int:
            return hash("w")

        def __eq__(self, other: object) -> bool:
            raise ArithmeticError("who knows")

    p = np.zeros(3)
    opt = fusedopt.SGD({"w": p}, lr=1.0)
    with pytest.raises(ArithmeticError, match="^who knows$"):
        opt.step({Key(): np.ones(3)}, **options)
    assert not p.any()
    opt.step({"w": np.ones(3)}, **options)
    assert p.tolist() == [-1.0] * 3


def test_what_has_keys_and_no_values_is_no_mapping() -> None:
    class Keys:
        keys = ("w",)

    opt = fusedopt.SGD({"w": np.zeros(3)}, lr=1.0)
    with pytest.raises(TypeError, match="^grads: expected a dict or list of arrays, got Keys$"):
        opt.step(Keys())  # type: ignore[call-overload]
    assert opt.completed_steps == 0


@options
def test_an_iterator_is_asked_once(options: dict[str, Any]) -> None:
    class Counting(list[Any]):
        asked = 0

        def __iter__(self) -> Iterator[Any]:
            self.asked += 1
            return super().__iter__()

    opt = fusedopt.SGD([np.zeros(3)], lr=1.0)
    for lr in (1.0, 0.5, 0.5, 0.25):  # whether anything has changed, or nothing
        opt.param_groups[0]["lr"] = lr
        for _ in range(2):
            grads = Counting([np.ones(3)])
            opt.step(grads, **options)
            assert grads.asked == 1


@options
def test_an_iterator_that_fails_changes_nothing(options: dict[str, Any]) -> None:
    class Failing(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield np.ones(3)
            raise KeyError("no more")

    p = np.zeros(3)
    opt = fusedopt.SGD([p, np.zeros(3)], lr=1.0)
    with pytest.raises(KeyError, match="no more"):
        opt.step(Failing([1, 2]), **options)
    assert not p.any()
    assert opt.completed_steps == 0


@options
def test_an_optimizer_that_was_never_made(options: dict[str, Any]) -> None:
    class Own(fusedopt.SGD):
        def __init__(self) -> None:  # which forgot to call the one above
            pass

    with pytest.raises(AttributeError, match="'Own' object has no attribute"):
        Own().step([np.ones(3)], **options)


@options
def test_keys_that_fail_to_be_shown_or_compared(options: dict[str, Any]) -> None:
    class Key:
        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            return hash("a")

        def __eq__(self, other: object) -> bool:
            if self.name == "compared":
                raise KeyError(self.name)
            return False

        def __repr__(self) -> str:
            if self.name == "shown":
                raise OSError(self.name)
            return self.name

    p = np.zeros(3)
    opt = fusedopt.SGD({"a": p}, lr=1.0)
    expected = [("compared", KeyError), ("shown", OSError), ("odd", ValueError)]
    for name, error in expected:
        key = Key("not yet")
        grads = {"a": np.ones(3), key: np.ones(3)}  # which compares keys, too
        key.name = name
        with pytest.raises(error, match=name):
            opt.step(grads, **options)
    assert not p.any()


def point_to(array: Any, place: Any) -> None:
    """Let an array have its data at a place of ours, as resizing it in place puts it anywhere."""
    address_of_data = id(array) + 2 * ctypes.sizeof(ctypes.c_void_p)
    assert ctypes.c_void_p.from_address(address_of_data).value == array.ctypes.data
    ctypes.c_void_p.from_address(address_of_data).value = place.ctypes.data
    assert array.ctypes.data == place.ctypes.data


@options
@pytest.mark.parametrize("size", [1, 16, 1000, 50_000])
@pytest.mark.parametrize("which", [0, 1])
def test_a_gradient_may_lie_where_a_parameter_was(
    size: int, which: int, options: dict[str, Any]
) -> None:
    """At the step after the move, and from then on; where it went, a gradient is refused."""
    case = Case("Adam", {"lr": 0.1})
    first, second, elsewhere = (np.zeros(size) for _ in range(3))
    params = [first.view(), second.view()]
    grads = [np.full(size, 0.5), np.full(size, 0.25)]
    opt, expected = case.make(params), case.make_reference([p.copy() for p in params])
    for _ in range(3):
        opt.step([g.copy() for g in grads], **options)
        expected.step(grads)

    was = (first, second)[which]
    elsewhere[...] = was
    point_to(params[which], elsewhere)
    for _ in range(3):
        there = [g.copy() for g in grads]
        there[1 - which] = was
        was[...] = grads[1 - which]
        opt.step(there, **options)
        expected.step(grads)
    there = [g.copy() for g in grads]
    there[1 - which] = params[which][:]
    with pytest.raises(ValueError, match=rf"^grads\[{1 - which}\] overlaps params\[{which}\]"):
        opt.step(there, **options)
    assert_same(opt, expected)


@pytest.mark.parametrize("size", [1, 16, 1000, 50_000])
@pytest.mark.parametrize("between", ["swap_ema", "lookahead", "load", "ahead and averages"])
def test_a_parameter_that_moved_is_written_where_it_is(size: int, between: str) -> None:
    """Also where something else than a step is the first to see it there."""
    options = {"lr": 0.1, "momentum": 0.5, "velocity": True, "ema_decay": 0.5}
    case = Case("SGD", options)
    first, second, elsewhere = (np.zeros(size) for _ in range(3))
    params = [first.view(), second.view()]
    grads = [np.full(size, 0.5), np.full(size, 0.25)]
    opt, expected = case.make(params), case.make_reference([p.copy() for p in params])
    for _ in range(3):
        opt.step(grads)
        expected.step(grads)

    elsewhere[...] = first
    point_to(params[0], elsewhere)
    first[...] = 7
    for _ in range(2):
        for this in (opt, expected):
            if between != "lookahead":
                with this.swap_ema():
                    pass
            if between != "swap_ema":
                with this.lookahead():
                    pass
            if between == "load":
                this.load_state_dict(this.state_dict())
            this.step(grads)
    assert_same(opt, expected)
    assert (first == 7).all()
