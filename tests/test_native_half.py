"""Contract: the native half checks what it is given, also where Python has done so before."""

from collections import deque
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import copies
from fusedopt import LossScaler, _core
from fusedopt._step_options import StepOptions
from native_calls import apply_rule, native_rule

SGD = native_rule("sgd", lr=1.0)
MOMENTUM = native_rule("momentum", lr=0.5)


def stepped() -> tuple[fusedopt.SGD, list[Any]]:
    params = [np.arange(1.0, 7.0).reshape(2, 3), np.arange(3.0, 7.0)]
    opt = fusedopt.SGD(params, lr=0.5, momentum=0.9)
    opt.step([np.ones((2, 3)), np.ones(4)])
    return opt, params


def contents(opt: fusedopt.SGD, params: list[Any]) -> list[Any]:
    states = [opt.state[i]["momentum_buffer"] for i in range(len(params))]
    return copies([*params, *states, opt.step_counts])


@pytest.mark.parametrize("step", [0, -1])
def test_steps_count_from_1(step: int) -> None:
    p = np.ones(3)
    arguments = {"params": p, "grads": np.ones(3)}
    with pytest.raises(ValueError, match=f"^step: expected 1 or more, got {step}$"):
        apply_rule(*SGD[:2], step, arguments)
    assert np.array_equal(p, np.ones(3))
    apply_rule(*SGD[:2], 1, arguments)
    assert np.array_equal(p, np.zeros(3))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_rule_gets_as_many_arguments_as_it_has(count: int) -> None:
    rule, values, _ = MOMENTUM
    names = ["params", "grads", "momentum_buffers"]
    arrays = {name: np.ones(3) for name in names[: min(count, 2)]}
    with pytest.raises(ValueError, match="^names: expected those of rule 'momentum'$"):
        apply_rule(rule, values, 1, arrays)
    assert all((array == 1).all() for array in arrays.values())
    function = _core.rule_function(names, [], lambda _: (rule, values), lambda _, value: int(value))
    given = [np.ones(3) for _ in range(count)]
    with pytest.raises(ValueError, match="^arguments: expected 3$"):
        function((), 1, *given)
    assert all((array == 1).all() for array in given)


def test_a_step_that_is_refused_leaves_no_state() -> None:
    """Though it was made before the gradients turn out to be read-only."""
    p, g = np.ones(3), np.ones(3)
    g.flags.writeable = False
    stepper = _core.Stepper()
    stepper.add_group([p], None, MOMENTUM, None)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^grads\[0\]: expected a writeable array"):
            stepper.step_with([g], StepOptions(zero_grads=True))
        assert stepper.state(0) == (0, {})
    assert (p == 1).all()


def test_as_many_names_as_parameters() -> None:
    stepper = _core.Stepper()
    for names in ((), ("a",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="^names: expected one for each parameter"):
            stepper.add_group([np.ones(3), np.ones(2)], names, SGD, None)
    assert stepper.step_counts.size == 0
    stepper.add_group([np.ones(3), np.ones(2)], ("a", "b"), SGD, None)
    assert stepper.step_counts.size == 2


def test_no_group_is_added_while_parameters_are_elsewhere() -> None:
    opt = fusedopt.SGD([np.ones(3)], ema_decay=0.5)
    opt.step([np.ones(3)])
    with (
        opt.swap_ema(),
        pytest.raises(RuntimeError, match=r"^add_param_group\(\): not inside swap"),
    ):
        opt._engine.add_group([np.ones(2)], None, SGD, None)
    opt._engine.add_group([np.ones(2)], None, SGD, None)
    assert opt.step_counts.tolist() == [1, 0]


def test_a_count_that_is_too_large_is_shown() -> None:
    for count, shown in [(2**63, "9.22337e+18"), (-(2**63), "-9.22337e+18"), (0, "0")]:
        with pytest.raises(
            ValueError, match=f"^growth_interval: .*, got {shown.replace('+', '.')}$"
        ):
            LossScaler(growth_interval=count)
    for count in (10**5000, -(10**5000)):
        with pytest.raises(ValueError, match="^growth_interval: expected a count from 1, got"):
            LossScaler(growth_interval=count)


STATES = [{"momentum_buffer": np.full((2, 3), 5.0)}, {"momentum_buffer": np.full(4, 6.0)}]
PARAMS = [np.full((2, 3), 7.0), np.full(4, 8.0)]
GOOD: dict[str, Any] = {
    "states": STATES,
    "steps": [3, 4],
    "completed_steps": 5,
    "rules": [MOMENTUM],
    "params": PARAMS,
    "updates": [],
}


def test_what_is_loaded_is_there() -> None:
    opt, params = stepped()
    opt._engine.load(**GOOD)
    arrays = [*PARAMS, *(state["momentum_buffer"] for state in STATES), np.array([3, 4])]
    for actual, expected in zip(contents(opt, params), arrays, strict=True):
        assert np.array_equal(actual, expected)
    assert opt.completed_steps == 5


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: GOOD[name][:1]} for name in ("states", "steps", "params")),
        *({name: GOOD[name] * 2} for name in ("states", "steps", "params", "rules")),
        {"rules": []},
    ],
    ids=lambda wrong: f"{len(next(iter(wrong.values())))} {next(iter(wrong))}",
)
def test_as_much_is_loaded_as_there_is(wrong: dict[str, Any]) -> None:
    opt, params = stepped()
    before = contents(opt, params)
    with pytest.raises(RuntimeError, match="parameters were added since it was called"):
        opt._engine.load(**{**GOOD, **wrong})
    for actual, expected in zip(contents(opt, params), before, strict=True):
        assert np.array_equal(actual, expected)


OTHERS = {
    "another dtype": np.full(4, 6, np.int64),
    "byte-swapped": np.full(4, 6.0).astype(">f8"),
    "another shape": np.full((2, 2), 6.0),
    "longer": np.full(5, 6.0),
    "strided": np.full((4, 2), 6.0)[:, 0],
    "a list": [6.0] * 4,
}


@pytest.mark.parametrize("of", ["states", "params"])
@pytest.mark.parametrize("kind", OTHERS)
def test_only_what_is_like_a_parameter_is_loaded(kind: str, of: str) -> None:
    opt, params = stepped()
    before = contents(opt, params)
    array = OTHERS[kind]
    values = [STATES[0], {"momentum_buffer": array}] if of == "states" else [PARAMS[0], array]
    with pytest.raises(ValueError, match=r"\[1\]: expected arrays like the parameter, C-contig"):
        opt._engine.load(**{**GOOD, of: values})
    for actual, expected in zip(contents(opt, params), before, strict=True):
        assert np.array_equal(actual, expected)


@pytest.mark.parametrize("moved", [False, True])
def test_what_is_loaded_is_read_before_anything_is_written(moved: bool) -> None:
    params = [np.arange(1.0, 9.0), np.arange(11.0, 19.0)]
    opt = fusedopt.SGD(params, lr=0.5, momentum=0.9)
    opt.step([np.ones(8), np.ones(8)])
    if moved:  # where the last step didn't see them
        for p in params:
            p.resize(200_000, refcheck=False)
            p.resize(8, refcheck=False)
    before = copies(params)
    buffers = [opt.state[i]["momentum_buffer"] for i in range(2)]
    buffers[0][:], buffers[1][:] = 5.0, 6.0
    states = [{"momentum_buffer": buffers[1]}, {"momentum_buffer": buffers[0]}]
    opt._engine.load(**{**GOOD, "states": states, "params": params[::-1]})
    assert np.array_equal(params[0], before[1])
    assert np.array_equal(params[1], before[0])
    assert (opt.state[0]["momentum_buffer"] == 6.0).all()
    assert (opt.state[1]["momentum_buffer"] == 5.0).all()


def test_a_rule_that_is_loaded_counts_at_once() -> None:
    opt, params = stepped()
    rule, values, _ = MOMENTUM
    opt._engine.load(**{**GOOD, "rules": [(rule, {**values, "lr": 2.0, "zero_init": 1.0}, None)]})
    opt._engine.step([np.ones((2, 3)), np.ones(4)])
    assert (params[0] == 7.0 - 2.0).all()  # no momentum, but the gain of the gradient
    assert (params[1] == 8.0 - 2.0).all()


@pytest.mark.parametrize("loaded", [False, True])
def test_gradients_in_memory_of_the_optimizer_itself(loaded: bool) -> None:
    params = [np.arange(1.0, 9.0), np.arange(11.0, 14.0)]
    opt = fusedopt.SGD(params, lr=0.5, momentum=0.9)
    if loaded:  # into an optimizer that had no state
        states = [{"momentum_buffer": np.full(8, 5.0)}, {"momentum_buffer": np.full(3, 6.0)}]
        opt._engine.load(**{**GOOD, "states": states, "params": None})
    else:
        opt.step([np.ones(8), np.ones(3)])
    before = contents(opt, params)
    counts = opt.step_counts.view(np.float64)
    buffer = opt.state[0]["momentum_buffer"]
    text = r"^grads\[1\] overlaps the optimizer's own state in memory"
    for gradient in (buffer[:3], buffer[5:], counts):
        grad = gradient if gradient.size == 3 else np.lib.stride_tricks.as_strided(counts, (3,))
        with pytest.raises(ValueError, match=text):
            opt.step([np.ones(8), grad])
        for actual, expected in zip(contents(opt, params), before, strict=True):
            assert np.array_equal(actual, expected)


def _read_only(size: int) -> Any:
    array = np.zeros(size, np.uint8)
    array.flags.writeable = False
    return array


MEMORY: dict[str, Any] = {
    "no array": bytearray,
    "something else": lambda size: deque(maxlen=(1 << 31) - 1),  # where an array's flags would be
    "read-only": _read_only,
    "with gaps": lambda size: np.zeros((size, 2), np.uint8)[:, 0],
    "too short": lambda size: np.zeros(size - 1, np.uint8),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_memory_for_state_has_to_be_an_array_of_so_many_bytes(kind: str) -> None:
    p = np.ones(3)
    stepper = _core.Stepper(MEMORY[kind])
    stepper.add_group([p], None, MOMENTUM, None)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="^state_dir: expected an array of bytes$"):
            stepper.step([np.ones(3)])
        assert (p == 1).all()
        assert stepper.completed_steps == 0


def test_what_the_function_for_memory_raises_comes_out() -> None:
    def fails(size: int) -> Any:
        raise InterruptedError("not now")

    stepper = _core.Stepper(fails)
    stepper.add_group([np.ones(3)], None, MOMENTUM, None)
    with pytest.raises(InterruptedError, match="^not now$"):
        stepper.step([np.ones(3)])


def test_one_is_one() -> None:
    text = repr(fusedopt.SGD([np.zeros(1)]))
    assert text.endswith("; 1 array, 1 element, float64)")
    text = repr(fusedopt.SGD([np.zeros(2), np.zeros(1000)]))
    assert text.endswith("; 2 arrays, 1,002 elements, float64)")


@pytest.mark.parametrize("params", [PARAMS, None], ids=["with params", "without"])
def test_nothing_is_loaded_where_a_parameter_has_changed(params: Any) -> None:
    opt, own = stepped()
    own[1].resize(2, refcheck=False)
    before = contents(opt, own)
    with pytest.raises(ValueError, match=r"^params\[1\]: expected shape \(4,\) as before"):
        opt._engine.load(**{**GOOD, "params": params})
    for actual, expected in zip(contents(opt, own), before, strict=True):
        assert np.array_equal(actual, expected)
