"""Contract: step_some() has the options of step(), and they are about what it steps."""

import inspect
import math
import sys
import typing
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import copies, every_dtype, random_arrays
from exchange import Plain
from fusedopt import reference

SHAPES: list[Any] = [3, (2, 5), 0, (), 17, 260, 40_000]
METHOD: Any = inspect.getattr_static(fusedopt.Optimizer, "step_some")
both_ways = pytest.mark.parametrize("native", [True, False], ids=["native", "Python"])
CHOSEN = [(1,), (6, 0, 4), (), (3, 2), (5,), (0, 1, 2, 3, 4, 5, 6), (4, 6)]
OPTIONS: list[dict[str, Any]] = [
    {"max_norm": 0.5},
    {"max_norm": math.inf, "loss_scale": 4.0},
    {"max_array_norm": 1.5},
    {"max_array_norm": 0.25, "stats": True, "clip_value": 0.1},
    {"stats": True},
    {"stats": True, "max_norm": 2.0, "zero_grads": True},
    {"zero_grads": True},
    {"on_nonfinite": "skip", "stats": True},
    {"on_nonfinite": "raise"},
]


def step_some(opt: Any, grads: Any, native: bool, **options: Any) -> Any:
    return (METHOD if native else METHOD.__wrapped__)(opt, grads, **options)


def made(module: Any, params: Any) -> Any:
    """Two groups, with a parameter of the first behind the second's."""
    opt = module.Adam([{"params": params[:3]}, {"params": params[3:6], "lr": 0.3}], lr=0.1)
    opt.add_params(params[6:])
    opt.step([np.ones_like(p) for p in params])
    return opt


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours.step_counts.tolist() == theirs.step_counts.tolist()
    assert ours.completed_steps == theirs.completed_steps
    for i in range(len(SHAPES)):
        for name, array in ours.state[i].items():
            np.testing.assert_array_equal(array, theirs.state[i][name])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@every_dtype
@both_ways
def test_they_are_those_of_a_step(options: dict[str, Any], dtype: Any, native: bool) -> None:
    params = random_arrays(0, dtype, SHAPES)
    others, wholes = copies(params), copies(params)
    ours, theirs, whole = made(fusedopt, params), made(reference, others), made(fusedopt, wholes)
    for k, chosen in enumerate(CHOSEN):
        grads = random_arrays(1 + k, dtype, SHAPES)
        given = {i: grads[i].copy() for i in chosen}
        result = step_some(ours, given, native, completes=k % 2 == 0, **options)
        expected = theirs.step_some(
            {i: grads[i].copy() for i in chosen}, completes=k % 2 == 0, **options
        )
        as_a_step = whole.step([grads[i] if i in chosen else None for i in range(7)], **options)
        assert result == as_a_step
        assert (result.skipped, result.grad_norm) == (expected.skipped, expected.grad_norm)
        for i, grad in given.items():
            left = np.zeros_like(grad) if options.get("zero_grads") else grads[i]
            np.testing.assert_array_equal(grad, left)
        for p, q, r in zip(params, others, wholes, strict=True):
            np.testing.assert_array_equal(p, r)
            np.testing.assert_array_equal(p, q)
        assert_same(ours, theirs)
        assert ours.step_counts.tolist() == whole.step_counts.tolist()
    assert ours.completed_steps == 1 + 4


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.Unpack came with Python 3.11")
def test_its_types_can_be_read() -> None:
    assert "options" in typing.get_type_hints(fusedopt.Optimizer.step_some)


@pytest.mark.parametrize("action", ["skip", "raise"])
@both_ways
def test_what_isnt_finite(action: str, native: bool) -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = made(fusedopt, params)
    before = copies(params)
    grads = random_arrays(1, np.float32, SHAPES)
    grads[4][3:5] = np.nan, np.inf
    given = {6: grads[6], 4: grads[4]}
    if action == "skip":
        result = step_some(opt, given, native, on_nonfinite=action, stats=True)
        assert result.skipped
        assert [group.nonfinite for group in result.stats] == [0, 2]
        assert result.stats[0].update_norm == 0
        assert result.stats[0].param_norm == pytest.approx(np.linalg.norm(params[6].astype(float)))
    else:
        text = r"^grads\[4\]: 2 of 17 elements not finite; nothing was updated$"
        with pytest.raises(FloatingPointError, match=text):
            step_some(opt, given, native, on_nonfinite=action)
    assert opt.completed_steps == 1
    assert opt.step_counts.tolist() == [1] * 7
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)
    assert not step_some(opt, {6: grads[6]}, native, on_nonfinite=action).skipped
    assert opt.step_counts.tolist() == [1] * 6 + [2]


def test_norms_dont_depend_on_the_order_of_a_dict() -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = made(fusedopt, params)
    grads = dict(enumerate(random_arrays(1, np.float32, SHAPES)))
    norms = {
        opt.step_some(dict(order), max_norm=math.inf).grad_norm
        for order in (
            list(grads.items()),
            list(grads.items())[::-1],
            sorted(grads.items(), key=lambda x: -x[0] % 3),
        )
    }
    assert len(norms) == 1


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"max_norm": -1.0}, ValueError, "^max_norm"),
    ({"max_norm": "1"}, TypeError, "^max_norm"),
    ({"max_norm": 1.0, "max_array_norm": 1.0}, ValueError, "^max_array_norm: expected None"),
    ({"stats": 1}, TypeError, "^stats: expected True or False"),
    ({"on_nonfinite": "stop"}, ValueError, "^on_nonfinite"),
    ({"maximum": 1.0}, TypeError, r"^step_some\(\) got an unexpected keyword argument 'maximum'"),
    ({"completes": None, "stats": True}, TypeError, "^completes: expected True or False"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD)
def test_wrong_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    p = np.ones(3)
    opt = fusedopt.SGD([p], lr=1.0)
    with pytest.raises(error, match=text):
        opt.step_some({0: np.ones(3)}, **options)
    assert p.tolist() == [1.0] * 3
    assert opt.completed_steps == 0


@both_ways
def test_gradients_that_cant_be_zeroed(native: bool) -> None:
    params = [np.ones(3), np.ones(3)]
    opt = fusedopt.SGD(params, lr=1.0)
    frozen, both = np.ones(3), np.ones(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"^grads\[1\]: expected a writeable array"):
        step_some(opt, {1: frozen, 0: np.ones(3)}, native, zero_grads=True)
    with pytest.raises(ValueError, match=r"^grads\[1\] overlaps grads\[0\]"):
        step_some(opt, {0: both, 1: both}, native, zero_grads=True)
    assert [p.tolist() for p in params] == [[1.0] * 3] * 2
    assert opt.step_counts.tolist() == [0, 0]


def test_the_usual_call_takes_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = made(fusedopt, params)
    grads = random_arrays(1, np.float32, SHAPES)

    def refused() -> None:
        raise AssertionError("asked Python")

    monkeypatch.setattr(opt, "_configure", refused)
    result = opt.step_some({1: grads[1], 0: Plain(grads[0]).array}, max_norm=1.0, completes=False)
    norm = math.hypot(
        np.linalg.norm(grads[1].astype(float)), np.linalg.norm(grads[0].astype(float))
    )
    assert result.grad_norm == pytest.approx(norm)
    assert opt.step_some({1: grads[1]}, max_norm=None, stats=False) is None
    assert opt.completed_steps == 2
