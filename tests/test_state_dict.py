"""Contract: state_dict() is all there is, in torch's layout, and a run continues from it."""

import copy
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import CASES, Case, assert_same, copies, every_case, every_dtype, random_arrays
from fusedopt import LossScaler, reference, schedules

SHAPES = [(3, 5), 257, 0, (), 1, 8193]
MODULES = pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])


def train(opt: Any, steps: range, **options: Any) -> None:
    """Take steps whose gradients depend on nothing but the step and the parameter's place."""
    params = [p for group in opt.param_groups for p in group["params"]]
    for step in steps:
        grads: list[Any] = [
            random_arrays(1 + step, p.dtype.type, [p.shape], scale=1 + i)[0]
            for i, p in enumerate(params)
        ]
        if step % 3 == 1:
            grads[step % len(grads)] = None
        opt.step(grads, **options)


def parameters(dtype: Any) -> list[Any]:
    return random_arrays(0, dtype, SHAPES)


@every_dtype
@every_case
def test_a_run_continues_bit_for_bit(case: Case, dtype: type) -> None:
    options: dict[str, Any] = {"ema_decay": 0.9}
    whole = case.make(parameters(dtype), **options)
    train(whole, range(5))
    first = case.make(parameters(dtype), **options)
    train(first, range(5))
    state = copy.deepcopy(first.state_dict())
    second = case.make([p.copy() for p in first.param_groups[0]["params"]])
    second.load_state_dict(state)
    train(first, range(5, 7))  # the copy is a copy
    train(whole, range(5, 12))
    train(second, range(5, 12))
    assert_same(second, whole)
    assert second.completed_steps == whole.completed_steps == 12
    assert second.param_groups[0].hyperparameters() == whole.param_groups[0].hyperparameters()


def everything(module: Any, dtype: Any, own: Any = None) -> Any:
    """Return an optimizer with all there is: groups, names, schedules, an average."""
    params = parameters(dtype)
    return module.AdamW(
        [
            {"params": {"a": params[0], "b": params[1]}, "weight_decay": 0.1},
            {"params": {"c": params[2], "d": params[3]}, "betas": (own or 0.8, 0.99)},
            {"params": {}},
            {"params": {"e": params[4], "f": params[5]}, "amsgrad": True, "ema_decay": 0.5},
        ],
        lr=schedules.warmup(schedules.cosine(0.01, steps=9), steps=3),
        ema_decay=schedules.linear(0.5, 0.99, steps=10),
    )


@every_dtype
@MODULES
def test_groups_names_schedules_and_the_scaler(module: Any, dtype: type) -> None:
    def rising(step: int) -> float:
        return 0.5 + step / 100

    whole, first = everything(module, dtype, rising), everything(module, dtype, rising)
    scalers = LossScaler(8.0, growth_interval=2), LossScaler(8.0, growth_interval=2)
    pipeline: dict[str, Any] = {"max_norm": 3.0, "on_nonfinite": "skip", "stats": True}

    def run(opt: Any, scaler: LossScaler, steps: range) -> None:
        for step in steps:
            grads = random_arrays(1 + step, dtype, SHAPES)
            for g in grads:
                g *= dtype(scaler.scale)
            if step in (3, 8):
                grads[1][5] = np.inf
            scaler.update(opt.step(grads, loss_scale=scaler.scale, **pipeline))

    run(whole, scalers[0], range(12))
    run(first, scalers[1], range(6))
    second = everything(module, dtype, rising)
    for ours, theirs in zip(every_parameter(second), every_parameter(first), strict=True):
        ours[...] = theirs
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    scaler = LossScaler()
    scaler.load_state_dict(scalers[1].state_dict())
    run(second, scaler, range(6, 12))
    assert scaler.state_dict() == scalers[0].state_dict()
    assert second.completed_steps == whole.completed_steps == 10
    for p, q in zip(every_parameter(second), every_parameter(whole), strict=True):
        np.testing.assert_array_equal(p, q)
    assert_equal_states(second, whole)


def every_parameter(opt: fusedopt.Optimizer) -> list[Any]:
    return [p for group in opt.param_groups for p in group["params"]]


def assert_equal_states(actual: Any, expected: Any) -> None:
    assert list(actual.step_counts) == list(expected.step_counts)
    for key, state in expected.state.items():
        assert list(actual.state[key]) == list(state)
        for name, value in state.items():
            np.testing.assert_array_equal(actual.state[key][name], value)


def test_layout() -> None:
    opt = everything(fusedopt, np.float32, lambda step: 0.5)
    assert opt.state_dict()["state"] == {}
    grads: list[Any] = random_arrays(1, np.float32, SHAPES)
    grads[1] = None
    opt.step(grads)
    state = opt.state_dict()
    assert list(state) == ["state", "param_groups", "optimizer", "completed_steps"]
    assert (state["optimizer"], state["completed_steps"]) == ("AdamW", 1)
    assert list(state["state"]) == [0, 2, 3, 4, 5]
    assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq", "ema"]
    assert type(state["state"][0]["step"]) is int
    assert state["state"][0]["exp_avg"].ctypes.data == opt.state["a"]["exp_avg"].ctypes.data
    groups = state["param_groups"]
    assert [group["params"] for group in groups] == [[0, 1], [2, 3], [], [4, 5]]
    assert [group["param_names"] for group in groups] == [["a", "b"], ["c", "d"], [], ["e", "f"]]
    assert groups[0]["lr"] == {
        "kind": "warmup",
        "schedule": {"kind": "cosine", "start": 0.01, "steps": 9, "end": 0.0},
        "steps": 3,
        "start": 0.0,
    }
    assert groups[1]["betas"][1] == 0.99
    assert list(groups[1]["betas"][0]) == ["callable"]
    assert "<lambda>" in groups[1]["betas"][0]["callable"]
    assert groups[3]["amsgrad"] is True
    assert "param_names" not in fusedopt.SGD([np.ones(1)]).state_dict()["param_groups"][0]


def test_what_is_needed_and_not_made_yet_is_none() -> None:
    p = np.ones(2)
    opt = fusedopt.SGD([p], lr=0.5)
    opt.step([np.ones(2)])
    opt.param_groups[0]["momentum"] = 0.9
    state = opt.state_dict()
    assert state["state"] == {0: {"step": 1, "momentum_buffer": None}}
    other = fusedopt.SGD([p.copy()], dampening=0.5)
    other.load_state_dict(state)
    for each in (opt, other):
        each.param_groups[0]["dampening"] = 0.5
        each.step([np.ones(2)])
    assert_same(other, opt)


def test_loading_writes_into_live_arrays_and_takes_away_what_is_not_there() -> None:
    p = np.ones(3)
    opt = fusedopt.Adam([p, np.ones(2)], ema_decay=0.5)
    empty = copy.deepcopy(opt.state_dict())
    opt.step([np.ones(3), np.ones(2)])
    live = opt.state[0]["exp_avg"]
    saved = copy.deepcopy(opt.state_dict())
    opt.step([np.ones(3), np.ones(2)])
    opt.load_state_dict(saved)
    np.testing.assert_array_equal(live, saved["state"][0]["exp_avg"])
    assert np.shares_memory(live, opt.state[0]["exp_avg"])
    opt.load_state_dict(empty)
    assert dict(opt.state[0]) == {}
    assert (opt.completed_steps, list(opt.step_counts)) == (0, [0, 0])
    fresh = fusedopt.Adam([p.copy(), np.ones(2)], ema_decay=0.5)
    fresh.param_groups[0]["params"][1][...] = opt.param_groups[0]["params"][1]
    for each in (opt, fresh):
        each.step([np.ones(3), np.ones(2)])
    assert_same(opt, fresh)


def test_arrays_may_be_those_of_the_optimizer_itself() -> None:
    """In any order: what is about to be overwritten is read before."""
    opt = fusedopt.Adam([np.ones(3), np.ones(3)])
    opt.step([np.arange(3.0), np.arange(3.0) + 5])
    opt.load_state_dict(opt.state_dict())
    state = opt.state_dict()
    before = copy.deepcopy(state["state"])
    first, second = state["state"][0], state["state"][1]
    state["state"] = {0: second, 1: {**first, "exp_avg_sq": first["exp_avg"]}}
    opt.load_state_dict(state)
    np.testing.assert_array_equal(opt.state[0]["exp_avg"], before[1]["exp_avg"])
    np.testing.assert_array_equal(opt.state[0]["exp_avg_sq"], before[1]["exp_avg_sq"])
    np.testing.assert_array_equal(opt.state[1]["exp_avg"], before[0]["exp_avg"])
    np.testing.assert_array_equal(opt.state[1]["exp_avg_sq"], before[0]["exp_avg"])


@MODULES
def test_loaded_hyperparameters_count_at_once(module: Any) -> None:
    """In the next step and in lookahead(), though the optimizer has stepped with others."""
    p = np.ones(2)
    opt = module.SGD([p], lr=0.5, momentum=0.5, velocity=True)
    opt.step([np.ones(2)])
    state = copy.deepcopy(opt.state_dict())
    state["param_groups"][0].update(lr=2.0, momentum=0.75)
    opt.load_state_dict(state)
    with opt.lookahead():
        assert (p == 0.5 - 0.75 * 0.5).all()
    opt.step([np.full(2, 0.25)])
    assert (p == 0.5 - 0.75 * 0.5 - 2 * 0.25).all()


# What is wrong with a state.


def changed(change: Callable[[Any], Any]) -> Any:
    opt = make_two()
    opt.step([np.ones((2, 3), np.float32), np.ones(4)])
    state = copy.deepcopy(opt.state_dict())
    result = change(state)
    return state if result is None else result


def make_two() -> Any:
    params = {"w": np.ones((2, 3), np.float32), "b": np.ones(4)}
    return fusedopt.Adam(params, lr=0.5)


GROUP = r"state_dict\['param_groups'\]\[0\]"
STATE = r"state_dict\['state'\]\[0\]"
BAD: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda s: [s], TypeError, "state_dict: expected a dict with 'state', got list"),
    (lambda s: {"state": {}}, TypeError, "state_dict: expected a dict with 'param_groups', got k"),
    (lambda s: {**s, "state": []}, TypeError, r"state_dict\['state'\]: expected a dict"),
    (lambda s: {**s, "param_groups": {}}, TypeError, r"state_dict\['param_groups'\]: expected a"),
    (
        lambda s: {**s, "param_groups": s["param_groups"] * 2},
        ValueError,
        r"state_dict\['param_groups'\]: expected 1, as the optimizer has, got 2",
    ),
    (
        lambda s: s["param_groups"][0].update(params=[0]),
        ValueError,
        GROUP + r"\['params'\]: expected 2, as the optimizer has in that group, got 1",
    ),
    (lambda s: s["param_groups"][0].pop("params") and None, ValueError, GROUP + r"\['params'\]: e"),
    (lambda s: s["param_groups"][0].update(lr=-1), ValueError, GROUP + r"\['lr'\]: expected a fin"),
    (lambda s: s["param_groups"][0].update(lr="1"), TypeError, GROUP + r"\['lr'\]: expected a fi"),
    (
        lambda s: s["param_groups"][0].update(eps_hat=True, eps_root=0.1),
        ValueError,
        GROUP + ": eps_hat: needs an eps_root of 0",
    ),
    (
        lambda s: s["param_groups"][0].update(lr=1e39),
        ValueError,
        "lr: expected a number that is fi",
    ),
    (
        lambda s: s["param_groups"][0].update(lr={"kind": "sine"}),
        ValueError,
        GROUP + r"\['lr'\]: schedule: there is none named 'sine'",
    ),
    (
        lambda s: s["param_groups"][0].update(lr={"callable": "mine"}),
        ValueError,
        GROUP + r"\['lr'\]: was a function, mine, which state can't hold; make the optimizer with",
    ),
    (
        lambda s: s["param_groups"][0].update(amsgrad=True, amsgrad_max="corrected"),
        ValueError,
        GROUP + r"\['amsgrad_max'\]: expected 'raw', as the optimizer has, got 'corrected'",
    ),
    (
        lambda s: s["state"][0].update(exp_avg=np.ones((2, 3))),
        TypeError,
        STATE + r"\['exp_avg'\]: expected dtype float32, as params\['w'\] has, got float64",
    ),
    (
        lambda s: s["state"][0].update(exp_avg=np.ones((3, 2), np.float32)),
        ValueError,
        STATE + r"\['exp_avg'\]: expected shape \(2, 3\), as params\['w'\] has, got \(3, 2\)",
    ),
    (
        lambda s: s["state"][0].update(exp_avg=[1.0]),
        TypeError,
        STATE + r"\['exp_avg'\]: expected a NumPy array, got list",
    ),
    (lambda s: s["state"].update({0: 5}), TypeError, STATE + ": expected a dict, got int"),
    (lambda s: s["state"][0].update(step=-1), ValueError, STATE + r"\['step'\]: expected a number"),
    (lambda s: s["state"][0].update(step=1.5), ValueError, STATE + r"\['step'\]: expected a numb"),
    (lambda s: s["state"][0].update(step=math.nan), ValueError, STATE + r"\['step'\]: expected a"),
    (lambda s: s["state"][0].update(step=10**400), ValueError, STATE + r"\['step'\]: expected a n"),
    (lambda s: s["state"][0].update(step=2**53 + 1), ValueError, STATE + r"\['step'\]: expected a"),
    (
        lambda s: s["param_groups"][0].update(params=[0, 0]),
        ValueError,
        r"state_dict\['param_groups'\]: expected another number for each parameter",
    ),
    (lambda s: s["state"][0].update(step="1"), TypeError, STATE + r"\['step'\]: expected a number"),
    (lambda s: {**s, "completed_steps": -1}, ValueError, r"state_dict\['completed_steps'\]: expe"),
]
ONLY_STRICT: list[tuple[Callable[[Any], Any], str]] = [
    (lambda s: {**s, "optimizer": "SGD"}, r"state_dict\['optimizer'\]: expected 'Adam', got 'SGD'"),
    (
        lambda s: s["param_groups"][0].update(alpha=0.9),
        GROUP + r"\['alpha'\]: Adam has no such hyperparameter; it has lr, betas",
    ),
    (
        lambda s: s["param_groups"][0].update(param_names=["w", "c"]),
        GROUP + r"\['param_names'\]: expected 'b', got 'c'",
    ),
    (
        lambda s: s["param_groups"][0].update(param_names=5),
        GROUP + r"\['param_names'\]: expected \['w', 'b'\], got 5",
    ),
    (
        lambda s: s["state"].update({7: {}}),
        r"state_dict\['state'\]\[7\]: there is no parameter of that key",
    ),
    (
        lambda s: s["state"][0].update(square_avg=np.ones((2, 3), np.float32)),
        STATE + r"\['square_avg'\]: Adam has no such state; it has ema, exp_avg, exp_avg_sq, max",
    ),
    (
        lambda s: s["state"][0].pop("exp_avg") is None or None,
        STATE + r"\['exp_avg'\]: missing, for params\['w'\]",
    ),
    (
        lambda s: s["state"][0].pop("step") and None,
        STATE + r"\['step'\]: missing, for params\['w'\]",
    ),
]


def assert_refused(state: Any, error: type[Exception], text: str) -> None:
    opt, same = make_two(), make_two()
    for each in (opt, same):
        each.step([np.full((2, 3), 2, np.float32), np.full(4, 2.0)])
    with pytest.raises(error, match=f"^{text}"):
        opt.load_state_dict(state)
    assert_same(opt, same)
    assert opt.param_groups[0].hyperparameters() == same.param_groups[0].hyperparameters()
    assert opt.completed_steps == 1
    for each in (opt, same):
        each.step([np.full((2, 3), 2, np.float32), np.full(4, 2.0)])
    assert_same(opt, same)


@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_bad_state_changes_nothing(
    change: Callable[[Any], Any], error: type[Exception], text: str
) -> None:
    assert_refused(changed(change), error, text)
    with pytest.raises(error, match=f"^{text}"):
        make_two().load_state_dict(changed(change), strict=False)


@pytest.mark.parametrize(("change", "text"), ONLY_STRICT)
def test_what_strict_means(change: Callable[[Any], Any], text: str) -> None:
    assert_refused(changed(change), ValueError, text)
    opt = make_two()
    opt.load_state_dict(changed(change), strict=False)
    opt.step([np.ones((2, 3), np.float32), np.ones(4)])
    assert opt.param_groups[0]["lr"] == 0.5


def test_another_optimizers_state() -> None:
    sgd = fusedopt.SGD([np.ones(3)], momentum=0.9)
    sgd.step([np.ones(3)])
    state = sgd.state_dict()
    del state["optimizer"]  # as torch's
    with pytest.raises(ValueError, match=r"\['momentum'\]: Adam has no such hyperparameter; it"):
        fusedopt.Adam([np.ones(3)]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"\['velocity'\]: expected True, as the optimizer has, g"):
        fusedopt.SGD([np.ones(3)], momentum=0.9, velocity=True).load_state_dict(state)


@MODULES
def test_where_parameters_are_elsewhere(module: Any) -> None:
    opt = module.SGD([np.ones(3)], momentum=0.9, velocity=True, ema_decay=0.5)
    opt.step([np.ones(3)])
    state = copy.deepcopy(opt.state_dict())
    for block in (opt.swap_ema, opt.lookahead):
        with block():
            with pytest.raises(RuntimeError, match=r"^state_dict\(\): not inside"):
                opt.state_dict()
            with pytest.raises(RuntimeError, match=r"^load_state_dict\(\): not inside"):
                opt.load_state_dict(state)
            with pytest.raises(RuntimeError, match=r"^copying an optimizer: not inside"):
                copy.deepcopy(opt)


def test_a_function_is_kept_and_a_number_replaces_one() -> None:
    opt = fusedopt.SGD([np.ones(1)], lr=lambda step: 0.5)
    state = opt.state_dict()
    other = fusedopt.SGD([np.ones(1)], lr=lambda step: 0.25)
    own = other.param_groups[0]["lr"]
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] is own
    other.load_state_dict(fusedopt.SGD([np.ones(1)], lr=0.125).state_dict())
    assert other.param_groups[0]["lr"] == 0.125


# torch.


def torch_cases() -> list[Case]:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    found = []
    for case in CASES:
        parameters = inspect.signature(getattr(torch.optim, case.optimizer)).parameters
        if case.options.keys() <= parameters.keys():
            found.append(case)
    return found


def as_numpy(state: dict[str, Any]) -> dict[str, Any]:
    """Return torch's state with NumPy arrays in the place of tensors."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")

    def convert(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.numpy().copy()
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        return [convert(item) for item in value] if isinstance(value, list) else value

    converted: dict[str, Any] = convert(state)
    return converted


def as_torch(state: dict[str, Any]) -> dict[str, Any]:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    states = {
        i: {
            name: torch.tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in entries.items()
        }
        for i, entries in state["state"].items()
    }
    return {**state, "state": states}


@every_dtype
def test_a_run_continues_on_either_side_of_torch(dtype: type) -> None:
    """7 steps there and 50 here, and 7 here and 50 there: equal to rounding."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    shapes = [1, (3, 5), 257, (40, 30)]
    tolerance = 8e-6 if dtype == np.float32 else 2e-13
    cases = torch_cases()
    assert len(cases) > 40
    for case in cases:

        def tensors_of(arrays: list[Any]) -> list[Any]:
            return [torch.tensor(a, requires_grad=True) for a in arrays]

        def step(ours: Any, theirs: Any, steps: range) -> None:
            for t in steps:
                grads = random_arrays(1 + t, dtype, shapes)
                if ours is not None:
                    ours.step(grads)
                if theirs is not None:
                    for tensor, g in zip(theirs.param_groups[0]["params"], grads, strict=True):
                        tensor.grad = torch.tensor(g)
                    theirs.step()

        make_theirs = getattr(torch.optim, case.optimizer)
        params = random_arrays(0, dtype, shapes)
        theirs = make_theirs(tensors_of(params), **case.options)
        step(None, theirs, range(7))
        here = [t.detach().numpy().copy() for t in theirs.param_groups[0]["params"]]
        ours = getattr(fusedopt, case.optimizer)(here)  # hyperparameters come with the state
        ours.load_state_dict(as_numpy(theirs.state_dict()))
        for name, value in case.options.items():
            assert ours.param_groups[0][name] == value
        step(ours, theirs, range(7, 57))
        for p, tensor in zip(here, theirs.param_groups[0]["params"], strict=True):
            expected = tensor.detach().numpy()
            difference = np.max(np.abs(p - expected) / (np.abs(expected) + 1))
            assert difference < tolerance, (str(case), difference)

        there = tensors_of(here)
        back = make_theirs(there, lr=0.5)
        back.load_state_dict(as_torch(copy.deepcopy(ours.state_dict())))
        step(ours, back, range(57, 107))
        for p, tensor in zip(here, there, strict=True):
            expected = tensor.detach().numpy()
            difference = np.max(np.abs(p - expected) / (np.abs(expected) + 1))
            assert difference < tolerance, (str(case), difference)


def test_what_torch_leaves_in_its_state() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    tensor = torch.ones(3, requires_grad=True)
    sgd = torch.optim.SGD([("w", tensor)], lr=0.5)
    torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=1.0, total_steps=10, cycle_momentum=False)
    tensor.grad = torch.ones(3)
    sgd.step()
    state = as_numpy(sgd.state_dict())
    assert state["state"] == {}
    state["state"] = {0: {"momentum_buffer": None}}  # as older ones have it
    opt = fusedopt.SGD({"w": np.ones(3)}, momentum=0.9)
    with pytest.raises(ValueError, match=r"\['param_names'\]: expected 'v', got 'w'"):
        fusedopt.SGD({"v": np.ones(3, np.float32)}).load_state_dict(state)
    opt.load_state_dict(state)
    assert opt.param_groups[0]["momentum"] == 0
    assert dict(opt.state["w"]) == {}
    sgd = torch.optim.SGD([tensor], lr=0.5, momentum=0.9)
    for _ in range(3):
        sgd.step()
    opt = fusedopt.SGD([np.ones(3, np.float32)])
    opt.load_state_dict(sgd.state_dict())  # tensors on the CPU are read as they are
    np.testing.assert_array_equal(
        opt.state[0]["momentum_buffer"], sgd.state[tensor]["momentum_buffer"]
    )
    assert opt.state[0]["step"] == 0  # torch's SGD doesn't count


def test_the_optimizers_own_options_stay_where_torch_has_none() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    tensor = torch.ones(3, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.AdamW([tensor], lr=0.5, amsgrad=True)
    tensor.grad = torch.ones(3, dtype=torch.float64)
    theirs.step()
    p = tensor.detach().numpy().copy()
    opt = fusedopt.AdamW([p], ema_decay=0.9)
    opt.load_state_dict(theirs.state_dict())
    assert (opt.param_groups[0]["ema_decay"], opt.param_groups[0]["amsgrad"]) == (0.9, True)
    before = p.copy()
    opt.step([np.ones(3)])
    np.testing.assert_array_equal(opt.ema[0], before + (1 - 0.9) * (p - before))
    assert (opt.completed_steps, opt.state[0]["step"]) == (2, 2)
    assert_unequal = copies([p])[0] != before
    assert assert_unequal.all()


def test_odd_torch_states() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    tensor = torch.ones(3, requires_grad=True)
    theirs = torch.optim.Adam([tensor], lr=torch.tensor(0.25))
    torch.optim.swa_utils.SWALR(theirs, swa_lr=0.5)
    tensor.grad = torch.ones(3)
    theirs.step()
    state = copy.deepcopy(theirs.state_dict())
    state["state"][0]["step"] = torch.tensor([1.0])
    opt = fusedopt.Adam([np.ones(3, np.float32)])
    opt.load_state_dict(state)
    assert (opt.param_groups[0]["lr"], opt.state[0]["step"]) == (0.25, 1)
    for bad in (torch.ones(3, dtype=torch.bfloat16), torch.ones(3, requires_grad=True)):
        state["state"][0]["exp_avg"] = bad
        with pytest.raises(TypeError, match=STATE + r"\['exp_avg'\]: can't be read as a NumPy arr"):
            opt.load_state_dict(state)


def test_memory_of_state_that_is_gone_is_free() -> None:
    """It is neither kept nor forbidden to gradients."""
    opt = fusedopt.Adam([np.ones(3)])
    empty = copy.deepcopy(opt.state_dict())
    opt.step([np.ones(3)])
    view = opt.state[0]["exp_avg"]
    with pytest.raises(ValueError, match=r"^grads\[0\] overlaps the optimizer's own state"):
        opt.step([view])
    opt.load_state_dict(empty)
    opt.step([view])
    assert not np.shares_memory(opt.state[0]["exp_avg"], view)


@MODULES
def test_a_run_that_is_over_can_be_saved(module: Any) -> None:
    """Schedules are asked by steps, and by nothing else."""
    table = [0.5, 0.25]
    opt = module.SGD([np.ones(1)], lr=lambda step: table[step], momentum=lambda step: table[step])
    for _ in range(2):
        opt.step([np.ones(1)])

    def failing(step: int) -> float:
        return 1 / 0 if step else 0.5

    other = module.SGD([np.ones(1)], lr=failing, momentum=failing)
    other.load_state_dict(opt.state_dict())
    assert other.completed_steps == copy.deepcopy(opt).completed_steps == 2
    with pytest.raises(IndexError):
        opt.step([np.ones(1)])
    with pytest.raises(ZeroDivisionError):
        other.step([np.ones(1)])


def test_what_does_not_fit_just_now_can_be_saved() -> None:
    opt = fusedopt.SGD([np.ones(1)], momentum=0.9, nesterov=True)
    opt.step([np.ones(1)])
    opt.param_groups[0]["momentum"] = 0
    state = opt.state_dict()
    other = copy.deepcopy(opt)
    for each in (opt, other):
        with pytest.raises(ValueError, match="^nesterov: needs a momentum above 0"):
            each.step([np.ones(1)])
    assert_same(other, opt)
    with pytest.raises(ValueError, match=GROUP + ": nesterov: needs a momentum above 0"):
        other.load_state_dict(state)


def test_a_parameter_of_another_shape_by_now() -> None:
    p = np.ones((2, 3))
    opt = fusedopt.SGD([p])
    state = opt.state_dict()
    p.resize((4, 3), refcheck=False)
    with pytest.raises(ValueError, match=r"^params\[0\]: expected shape \(2, 3\) as before"):
        opt.load_state_dict(state)


def test_what_is_loaded_beats_what_was_assigned_before() -> None:
    p = np.zeros(1)
    opt = fusedopt.SGD([p], lr=0.25)
    state = copy.deepcopy(opt.state_dict())
    opt.param_groups[0]["lr"] = 0.5  # and no step in between
    opt.load_state_dict(state)
    opt.step([np.ones(1)])
    assert (opt.param_groups[0]["lr"], p[0]) == (0.25, -0.25)


@pytest.mark.timed
def test_state_is_fast_to_load() -> None:
    """Its time grows as the number of parameters does."""
    opt = fusedopt.SGD([np.ones(1) for _ in range(20_000)], momentum=0.9)
    opt.step([np.ones(1)] * 20_000)
    begin = time.process_time()  # whatever else the machine does
    opt.load_state_dict(opt.state_dict())
    assert time.process_time() - begin < 2  # it took 3 s when it was quadratic, else 0.2
