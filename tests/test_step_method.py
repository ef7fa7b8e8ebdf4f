"""Contract: step() is a method like any other, though it is native where nothing is unusual."""

import dataclasses
import gc
import inspect
import itertools
import math
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import _core

METHOD: Any = inspect.getattr_static(fusedopt.Optimizer, "step")
STEP_METHOD: Any = _core.step_method(fusedopt.StepResult, fusedopt.GroupStats)


def made(**options: Any) -> tuple[fusedopt.SGD, Any]:
    p = np.zeros(3)
    return fusedopt.SGD([p], lr=1.0, **options), p


def test_ways_to_call_it() -> None:
    g = np.ones(3)
    ways: list[Callable[[Any], Any]] = [
        lambda opt: opt.step([g]),
        lambda opt: opt.step(grads=[g]),
        lambda opt: opt.step(*[[g]]),
        lambda opt: (lambda bound: bound([g]))(opt.step),
        lambda opt: fusedopt.SGD.step(opt, [g]),
        lambda opt: fusedopt.Optimizer.step(opt, grads=[g]),
        lambda opt: METHOD.__get__(opt, fusedopt.SGD)([g]),
        lambda opt: METHOD.__get__(None, fusedopt.SGD)(opt, [g]),
        lambda opt: super(fusedopt.SGD, opt).step([g]),
        lambda opt: METHOD.__wrapped__(opt, [g]),
    ]
    for way in ways:
        opt, p = made()
        assert way(opt) is None
        assert p.tolist() == [-1.0] * 3
    assert fusedopt.SGD.step is METHOD
    assert next(iter(inspect.signature(made()[0].step).parameters)) == "grads"
    assert "Update" in inspect.getdoc(fusedopt.SGD.step)


def test_ways_not_to_call_it() -> None:
    opt, p = made()
    bound, q = made(grads=[np.ones(3)])
    g = np.ones(3)
    for call in (
        lambda: fusedopt.SGD.step(),
        lambda: opt.step([g], None),
        lambda: opt.step([g], 1.0),
        lambda: opt.step([g], [g], [g]),
        lambda: opt.step([g], scale=2.0),
        lambda: opt.step([g], grads=[g]),
        lambda: opt.step(),
        lambda: bound.step([g]),
        lambda: bound.step(None, None),
        lambda: bound.step([g], [g], [g]),
        lambda: type(METHOD)(),
    ):
        with pytest.raises(TypeError):
            call()
    assert not p.any()
    assert not q.any()
    bound.step()
    assert q.tolist() == [-1.0] * 3


def test_it_is_called_as_directly_as_a_function() -> None:
    """Without a bound method that is made for the call, and without a tuple of its arguments."""
    have_vectorcall, method_descriptor = 1 << 11, 1 << 17  # of Python's object.h
    for flag in (have_vectorcall, method_descriptor):
        assert type(lambda: None).__flags__ & flag
        assert type(METHOD).__flags__ & flag


def test_what_a_property_raises_comes_out() -> None:
    """But one that it hasn't makes the call an unusual one."""
    opt, p = made()
    engine = opt._engine
    errors = [KeyboardInterrupt("now"), AttributeError("not yet")]
    answers = itertools.chain(errors, itertools.repeat(engine))

    class Own(fusedopt.SGD):
        @property
        def _engine(self) -> Any:
            answer = next(answers)
            if answer is not engine:
                raise answer
            return answer

    own = Own.__new__(Own)
    own.__dict__ |= {name: value for name, value in vars(opt).items() if name != "_engine"}
    with pytest.raises(KeyboardInterrupt, match="now"):
        own.step([np.ones(3)])
    own.step([np.ones(3)])
    assert p.tolist() == [-1.0] * 3


def test_an_engine_that_is_none_of_ours() -> None:
    class Engine:
        changed = False

        def __getattr__(self, name: str) -> Any:
            raise LookupError(name)

    opt, p = made()
    opt._engine = Engine()  # type: ignore[assignment]
    with pytest.raises(LookupError):
        opt.step([np.ones(3)])
    assert not p.any()


class Function:
    """One that weak references and cycles can be made with."""

    def __call__(self) -> None: ...


def test_one_that_goes_leaves_nothing() -> None:
    function = Function()
    before = sys.getrefcount(function), sys.getrefcount(type(METHOD))
    method: Any = STEP_METHOD(function)
    assert sys.getrefcount(function) > before[0]
    gone: list[Any] = []
    reference = weakref.ref(method, gone.append)
    del method
    assert gone == [reference]
    assert (sys.getrefcount(function), sys.getrefcount(type(METHOD))) == before


def test_many_that_go_leave_no_memory() -> None:
    function = Function()

    def make(count: int) -> None:
        for _ in range(count):
            STEP_METHOD(function)

    make(100)
    before = sys.getallocatedblocks()
    make(10_000)
    assert sys.getallocatedblocks() - before < 1000


def test_the_collector_knows_it() -> None:
    method: Any = STEP_METHOD(Function())
    method.itself = method
    gone = weakref.ref(method)
    assert gc.is_tracked(method)
    referents = gc.get_referents(method)
    for known in (method.__wrapped__, type(method), vars(method)):
        assert any(found is known for found in referents)
    del method, referents, known
    gc.collect()
    assert gone() is None


def test_the_collector_comes_while_it_goes() -> None:
    class Collecting:
        def __del__(self) -> None:
            gc.collect()
            ended.append(True)

    ended: list[bool] = []
    for _ in range(20):
        method: Any = STEP_METHOD(Function())
        method.own = Collecting()
        del method
    assert len(ended) == 20


OPTIONS: list[dict[str, Any]] = [
    {"max_norm": 0.5},
    {"max_array_norm": 0.5},
    {"max_norm": math.inf},
    {"loss_scale": 4.0},
    {"clip_value": 0.25},
    {"on_nonfinite": "skip"},
    {"on_nonfinite": "raise"},
    {"zero_grads": True},
    {"stats": True},
    {"stats": True, "max_norm": 0.5, "loss_scale": 2.0, "clip_value": 0.5, "zero_grads": True},
    {"max_norm": 1, "loss_scale": np.float32(2), "zero_grads": np.True_},
    {"max_norm": None, "loss_scale": None, "clip_value": None, "on_nonfinite": "propagate"},
    {"zero_grads": False, "stats": False},
    {"".join(("max", "_norm")): 0.5},  # a name that isn't interned
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_are_read_natively_as_in_python(options: dict[str, Any]) -> None:
    """Both give the same result, of the same type, and the same parameters, bit for bit."""
    results = []
    for step in (METHOD, METHOD.__wrapped__):
        opt, p = made(momentum=0.5)
        g = np.array([1.0, -2.0, 4.0])
        found = [step(opt, [g], **options) for _ in range(3)]
        results.append((found, p.tolist(), g.tolist(), opt.state[0]["momentum_buffer"].tolist()))
    native, python = results
    assert native == python
    for a, b in zip(native[0], python[0], strict=True):
        assert type(a) is type(b)
        assert repr(a) == repr(b)
        if a is not None:
            assert hash(a) == hash(b)
            assert pickle.loads(pickle.dumps(a)) == a
            assert [type(value) for value in vars(a).values()] == list(map(type, vars(b).values()))
            with pytest.raises(dataclasses.FrozenInstanceError):
                a.skipped = True


def test_options_are_read_natively_after_a_number_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opt, p = made()
    opt.step([p * 0])

    def refused() -> None:
        raise AssertionError("asked Python")

    monkeypatch.setattr(opt, "_configure", refused)
    opt.param_groups[0]["lr"] = 0.5
    assert opt.step(grads=[np.ones(3)], max_norm=math.inf) == fusedopt.StepResult(3**0.5, False)
    assert p.tolist() == [-0.5] * 3
    assert opt.step(grads=[np.full(3, np.nan)], on_nonfinite="skip").skipped
    assert opt.step(grads=[np.ones(3)], zero_grads=False) is None
    assert p.tolist() == [-1.0] * 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_norm": 0.0}, ValueError),
        ({"max_norm": math.nan}, ValueError),
        ({"max_norm": "1"}, TypeError),
        ({"loss_scale": math.inf}, ValueError),
        ({"loss_scale": -1.0}, ValueError),
        ({"clip_value": math.inf}, ValueError),
        ({"clip_value": True}, TypeError),
        ({"on_nonfinite": "ignore"}, ValueError),
        ({"on_nonfinite": None}, TypeError),
        ({"zero_grads": 1}, TypeError),
        ({"stats": None}, TypeError),
        ({"stat": True}, TypeError),
    ],
    ids=str,
)
def test_bad_options_are_named(options: dict[str, Any], error: type[Exception]) -> None:
    opt, p = made()
    for _ in range(2):
        with pytest.raises(error, match=next(iter(options))):
            opt.step([np.ones(3)], **options)
    assert not p.any()
    assert opt.completed_steps == 0
