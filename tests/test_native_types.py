"""Contract: native objects can't be had half made, and don't keep themselves alive."""

import gc
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import _core
from native_calls import native_rule
from subprocesses import output_of

RULE = native_rule("sgd", lr=1.0)


class Held(np.ndarray):
    """An array that can have attributes."""


def held(size: int = 3) -> Any:
    return np.zeros(size).view(Held)


def with_a_parameter_that_knows_it() -> Any:
    p = held()
    p.owner = fusedopt.Adam([p], lr=lambda step: 0.1)
    p.owner.step([np.ones(3)])
    return p


def with_a_gradient_that_knows_it() -> Any:
    g = held()
    g.owner = fusedopt.SGD([np.zeros(3)], grads=[g])
    g.owner.step()
    return g


def with_a_block_that_it_is_inside_of() -> Any:
    p = held()
    p.owner = fusedopt.SGD([p], ema_decay=0.5)
    p.owner.step([np.ones(3)])
    p.block = p.owner.swap_ema()
    return p


def with_a_function_for_its_memory() -> Any:
    p = held()

    class Stepper(fusedopt.SGD):
        def _make_engine(self) -> Any:
            def allocate(size: int) -> Any:
                return np.zeros(size + self.spare, np.uint8)

            return _core.Stepper(allocate)

    opt = Stepper([np.zeros(3)])
    opt.spare, opt.p = 64, p  # type: ignore[attr-defined]
    p.owner = opt
    return p


def with_a_function_that_knows_it() -> Any:
    p = held()

    def meaning(_: Any) -> Any:
        return "sgd", {**RULE[1], "lr": float(p.size)}

    p.function = _core.rule_function(["params", "grads"], [], meaning, lambda *_: 1)
    p.function((), 1, p, np.ones(3))
    assert (p == -3).all()
    return p


def test_a_function_that_was_let_go_of() -> None:
    reference = later()
    function = _core.rule_function(
        ["params", "grads"], [], types.MethodType(lambda *_: RULE[:2], reference), lambda *_: 1
    )
    both = (function, types.MethodType(len, reference))
    reference.__init__(tuple, both)
    address = id(function)
    del function, both, reference
    gc.collect()
    [found] = [o for o in gc.get_objects() if id(o) == address]
    assert type(found) is _core.RuleFunction
    with pytest.raises(RuntimeError, match="let go"):
        found((), 1, np.ones(3), np.ones(3))


@pytest.mark.parametrize("make", [_core.RuleFunction, _core.RuleFunction.__new__])
def test_functions_are_made_whole(make: Any) -> None:
    arguments = [_core.RuleFunction] if make is not _core.RuleFunction else []
    with pytest.raises(TypeError, match="create|not safe"):
        make(*arguments)


@pytest.mark.parametrize(
    "make",
    [
        with_a_function_that_knows_it,
        with_a_parameter_that_knows_it,
        with_a_gradient_that_knows_it,
        with_a_block_that_it_is_inside_of,
        with_a_function_for_its_memory,
    ],
    ids=lambda make: make.__name__,
)
def test_cycles_are_collected(make: Callable[[], Any]) -> None:
    array = make()
    gone = weakref.ref(array)
    gc.collect()
    assert gone() is not None
    del array
    gc.collect()
    assert gone() is None


def later() -> Any:
    """A reference whose object comes later, and that no collector can make let go of it."""
    return super.__new__(super)


def test_a_stepper_lets_go_where_nothing_else_can() -> None:
    # The collector can't look into this one, and leaves weak references to it alone.
    p = np.zeros(3)
    gone = weakref.ref(p)
    reference = later()
    stepper = _core.Stepper(types.MethodType(len, reference))
    stepper.add_group([p], None, RULE, None, [])
    reference.__init__(_core.Stepper, stepper)
    del p, stepper, reference
    gc.collect()
    assert gone() is None


def test_the_collector_comes_again() -> None:
    """To one that has let go of its objects, and that is still there: what refers to it is."""
    p = np.zeros(3)
    gone = weakref.ref(p)
    reference = later()
    stepper = _core.Stepper()
    stepper.add_group([p], None, RULE, None, [])
    both = (stepper, types.MethodType(len, reference))
    reference.__init__(tuple, both)
    del p, stepper, both, reference
    for _ in range(3):
        gc.collect()
        assert gone() is None


def test_one_that_has_let_go_is_a_new_one() -> None:
    """But for what it counts: there are no parameters, no state, and no block that it is inside."""
    rule = native_rule("momentum", 0.5, lr=1.0, velocity=1.0, zero_init=1.0)
    memory: list[weakref.ref[Any]] = []

    def allocate(size: int) -> Any:
        given = np.zeros(size + 64, np.uint8)
        memory.append(weakref.ref(given))
        begin = -given.ctypes.data % 64
        return given[begin : begin + size]

    p, g = np.ones(100), np.ones(100)
    reference = later()
    stepper = _core.Stepper(allocate)
    stepper.add_group([p], None, rule, None, [])
    stepper.bind([g])
    stepper.step(None)
    stepper.step(None)
    stepper.lookahead([1.0]).__enter__()
    assert (p == -2).all()
    address = id(stepper)
    both = (stepper, types.MethodType(len, reference))
    reference.__init__(tuple, both)
    del stepper, both, reference
    gc.collect()
    (stepper,) = (
        found for found in gc.get_objects() if type(found) is _core.Stepper and id(found) == address
    )
    assert memory
    assert all(reference() is None for reference in memory)
    assert stepper.bound is None
    for _ in range(2):
        stepper.step([])
    assert (p == -2).all()
    with pytest.raises(IndexError):
        stepper.configure(0, rule)
    with pytest.raises(IndexError):
        stepper.state(0)
    new = [np.zeros(1000), np.zeros(10)]
    stepper.add_group(new, None, rule, None, [])
    stepper.step([np.ones_like(q) for q in new])
    assert all((q == -1).all() for q in new)
    assert stepper.state(0)[0] == 1
    assert (p == -2).all()


def test_what_the_collector_sees() -> None:
    p, q = held(), held()
    stepper = _core.Stepper(len)
    stepper.add_group([p, q], None, RULE, None, [])
    seen = {id(found) for found in gc.get_referents(stepper)}
    assert {id(found) for found in (_core.Stepper, p, q, len)} <= seen
    for array in (p, q):
        assert any(found is stepper for found in gc.get_referrers(array))


def test_what_is_in_use_is_not_collected() -> None:
    p = held()
    opt = fusedopt.Adam([p], ema_decay=0.5)
    p.owner = opt
    gone = weakref.ref(p)
    del p
    for _ in range(3):
        opt.step([np.ones(3)])
        gc.collect()
    assert gone() is opt.param_groups[0]["params"][0]
    assert opt.state[0]["step"] == 3


def test_a_finalizer_may_still_look_at_it() -> None:
    """The collector has taken its objects from it by then: it has no parameters any more."""
    found = []

    class Last(np.ndarray):
        def __del__(self) -> None:
            opt = getattr(self, "owner", None)
            if opt is not None:
                found.append(opt.completed_steps)
                opt._engine.step([] if opt.step_counts.size == 0 else [None])

    p = np.zeros(3).view(Last)
    p.owner = fusedopt.SGD([p], momentum=0.9)  # type: ignore[attr-defined]
    p.owner.step([np.ones(3)])  # type: ignore[attr-defined]
    del p
    gc.collect()
    assert found == [1]


def test_the_collector_at_any_moment() -> None:
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        arrays = [with_a_parameter_that_knows_it() for _ in range(20)]
        for p in arrays:
            p.owner.add_param_group({"params": [held(2)]})
            p.owner.load_state_dict(p.owner.state_dict())
            assert p.owner.state[0]["step"] == 1
            with pytest.raises(ValueError, match="overlaps"):
                p.owner.add_param_group({"params": [p]})
    finally:
        gc.set_threshold(*thresholds)


NATIVE = """
import sys
import numpy as np
from fusedopt import _core
from test_native_types import RULE
"""


def test_no_stepper_is_half_made() -> None:
    """What __new__ gives is whole; __init__ makes nothing anew."""
    code = """
stepper = _core.Stepper.__new__(_core.Stepper)
assert stepper.completed_steps == 0 and stepper.bound is None
stepper.step([])
assert stepper.step_counts.size == 0
p = np.ones(3)
stepper.add_group([p], None, RULE, None, [])
stepper.__init__()
stepper.step([np.ones(3)])
assert not p.any() and stepper.state(0) == (1, {})
for wrong in (lambda: _core.Stepper(1, 2), lambda: _core.Stepper(unknown=1),
              lambda: _core.Stepper.__new__(int), lambda: object.__new__(_core.Stepper),
              lambda: _core.Stepper.__mro__[1].__new__(_core.Stepper)):
    try:
        wrong()
    except TypeError:
        continue
    raise AssertionError("no TypeError")
print("done")
"""
    assert output_of(NATIVE + code) == "done"


def test_no_block_is_made_by_hand() -> None:
    code = """
for make in (lambda: _core.Block(), lambda: _core.Block.__new__(_core.Block),
             lambda: object.__new__(_core.Block),
             lambda: _core.Block.__mro__[1].__new__(_core.Block)):
    try:
        make().__enter__()
    except TypeError as error:
        print(error)
        continue
    raise AssertionError("no TypeError")
print("done")
"""
    assert output_of(NATIVE + code).splitlines()[-1] == "done"


def test_references_to_types_are_counted() -> None:
    before = sys.getrefcount(_core.Stepper)
    for _ in range(1000):
        _core.Stepper()
        fusedopt.SGD([np.zeros(2)], ema_decay=0.5)
    assert abs(sys.getrefcount(_core.Stepper) - before) < 10


def test_memory_that_a_function_gives_may_be_an_arrays() -> None:
    """A gradient over it is refused, though no parameter has the same owner."""
    block = np.zeros(4096, np.uint8)
    aligned = -block.ctypes.data % 64

    class Momentum(fusedopt.SGD):
        def _make_engine(self) -> Any:
            return _core.Stepper(lambda size: block[aligned : aligned + size])

    p = np.ones(8)
    opt = Momentum([p], momentum=0.9)
    opt.step([np.ones(8)])
    buffer = opt.state[0]["momentum_buffer"]
    within = (buffer.ctypes.data - block.ctypes.data) // 8
    for first in range(max(within - 7, aligned // 8), within + 8):
        over = block[8 * first : 8 * first + 64].view(np.float64)
        for g in (over, over[:]):
            with pytest.raises(ValueError, match=r"^grads\[0\] overlaps the optimizer's own state"):
                opt.step([g])
    assert opt.completed_steps == 1
