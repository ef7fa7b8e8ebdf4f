"""Contract: what a state_dict holds may be of the types that other libraries and files have."""

from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import reference, schedules

MODULES = pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])


def stepped(module: Any, count: int = 3, kind: str = "Adam", **options: Any) -> Any:
    opt = getattr(module, kind)([np.ones(3), np.ones(2)], **{"lr": 0.1, **options})
    for _ in range(count):
        opt.step([np.ones(3), None])
    return opt


class Scalar:
    """As other libraries have numbers: an array of one element, or without dimensions."""

    def __init__(self, value: float, shape: tuple[int, ...]) -> None:
        self.value, self.shape = value, shape

    def item(self) -> float:
        return self.value


@MODULES
@pytest.mark.parametrize(
    "seven",
    [
        7,
        7.0,
        np.int8(7),
        np.float32(7),
        np.array(7),
        np.array([7.0]),
        Scalar(7, ()),
        Scalar(7, (1,)),
    ],
)
def test_numbers_of_steps(module: Any, seven: Any) -> None:
    state = stepped(module).state_dict()
    state["state"][0]["step"] = seven
    state["completed_steps"] = seven
    opt = stepped(module, 0)
    opt.load_state_dict(state)
    assert opt.step_counts.tolist() == [7, 0]
    assert opt.completed_steps == 7
    assert type(opt.completed_steps) is int


@MODULES
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (True, TypeError),
        ("7", TypeError),
        (np.array([7, 7]), TypeError),
        (np.array([[7]]), TypeError),
        (Scalar(7, (2,)), TypeError),
        (Scalar(True, ()), TypeError),
        (7j, TypeError),
        (-1, ValueError),
        (0.5, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        (2**53 + 1, ValueError),
        (10**400, ValueError),
    ],
)
def test_what_is_no_number_of_steps(module: Any, wrong: Any, error: type[Exception]) -> None:
    for key in ("step", "completed_steps"):
        state = stepped(module).state_dict()
        (state["state"][0] if key == "step" else state)[key] = wrong
        opt = stepped(module, 0)
        with pytest.raises(error, match=rf"\['{key}'\]: expected a number of steps"):
            opt.load_state_dict(state)
        assert opt.completed_steps == 0


@MODULES
def test_as_many_steps_as_there_can_be(module: Any) -> None:
    for most in (2**53, float(2**53), 0, 0.0):
        state = stepped(module).state_dict()
        state["state"][0]["step"] = state["completed_steps"] = most
        opt = stepped(module, 0)
        opt.load_state_dict(state)
        assert opt.step_counts[0] == opt.completed_steps == int(most)


@MODULES
def test_numbers_of_steps_that_are_not_there(module: Any) -> None:
    """As in torch's: those of all of it are the most of any; SGD's own are those of all."""
    state = stepped(module).state_dict()
    del state["completed_steps"]
    opt = stepped(module, 0)
    opt.load_state_dict(state)
    assert opt.completed_steps == 3
    opt.load_state_dict({**state, "completed_steps": None})
    assert opt.completed_steps == 3
    opt.load_state_dict({**state, "state": {}})
    assert opt.completed_steps == 0
    del state["state"][0]["step"]
    with pytest.raises(ValueError, match=r"^state_dict\['state'\]\[0\]\['step'\]: missing"):
        opt.load_state_dict(state)
    opt.load_state_dict({**state, "completed_steps": 5}, strict=False)
    assert opt.step_counts.tolist() == [5, 0]

    state = stepped(module, kind="SGD", momentum=0.9).state_dict()
    state["completed_steps"] = 5
    del state["state"][0]["step"]
    opt = stepped(module, 0, kind="SGD", momentum=0.9)
    opt.load_state_dict(state)
    assert opt.step_counts.tolist() == [5, 0]
    del state["completed_steps"]
    opt.load_state_dict(state)
    assert opt.step_counts.tolist() == [0, 0]
    assert opt.completed_steps == 0


@MODULES
def test_hyperparameters_of_other_types(module: Any) -> None:
    state = stepped(module).state_dict()
    group = state["param_groups"][0]
    for lr in (0.5, np.float64(0.5), np.array(0.5), Scalar(0.5, ())):
        opt = stepped(module, 0)
        opt.load_state_dict({**state, "param_groups": [{**group, "lr": lr, "betas": [0.5, lr]}]})
        assert opt.param_groups[0]["lr"] == 0.5
        assert type(opt.param_groups[0]["lr"]) is float
        assert opt.param_groups[0]["betas"] == (0.5, 0.5)
    for betas in ([0.5], [0.5, 0.5, 0.5], 0.5, []):
        opt = stepped(module, 0)
        with pytest.raises((TypeError, ValueError), match=r"\['param_groups'\]\[0\]\['betas'\]: "):
            opt.load_state_dict({**state, "param_groups": [{**group, "betas": betas}]})
        assert opt.param_groups[0]["betas"] == (0.9, 0.999)


@MODULES
def test_what_state_means_is_torchs_where_it_is_not_said(module: Any) -> None:
    meanings: list[tuple[str, dict[str, Any], str, Any]] = [
        ("SGD", {"momentum": 0.9}, "velocity", True),
        ("RMSprop", {"momentum": 0.9}, "velocity", True),
        ("Adam", {"amsgrad": True}, "amsgrad_max", "corrected"),
        ("AdamW", {"amsgrad": True}, "amsgrad_max", "corrected"),
    ]
    for kind, options, name, other in meanings:
        state = stepped(module, kind=kind, **options).state_dict()
        del state["param_groups"][0][name]
        opt = stepped(module, 0, kind, **options)
        opt.load_state_dict(state)
        assert opt.completed_steps == 3
        opt = stepped(module, 0, kind, **options, **{name: other})
        with pytest.raises(
            ValueError, match=rf"\['{name}'\]: expected {other!r}, as the optimizer"
        ):
            opt.load_state_dict(state)


@MODULES
def test_an_optimizer_without_parameters(module: Any) -> None:
    params: Any
    for params, names in (([], None), ({}, [])):
        opt = module.SGD(params, lr=0.1)
        groups = opt.state_dict()["param_groups"]
        assert [group.get("param_names") for group in groups] == [names]
        opt.step(params)


@MODULES
def test_a_function_in_a_pair_stays_where_it_was(module: Any) -> None:
    def own(step: int) -> float:
        return 0.5

    state = stepped(module, betas=(own, schedules.constant(0.75))).state_dict()
    opt = stepped(module, 0, betas=(own, 0.25))
    opt.load_state_dict(state)
    assert opt.param_groups[0]["betas"] == (own, schedules.constant(0.75))
    for betas in ((0.5, own), (0.5, 0.5)):
        opt = stepped(module, 0, betas=betas)
        with pytest.raises(ValueError, match=r"\['betas'\]\[0\]: was a function"):
            opt.load_state_dict(state)
        assert opt.param_groups[0]["betas"] == betas


@MODULES
def test_names(module: Any) -> None:
    def named(*names: str) -> Any:
        return module.Adam({name: np.ones(3) for name in names}, lr=0.1)

    state = named("a", "b").state_dict()
    group = state["param_groups"][0]
    for theirs in (["a", "c"], ["b", "a"], ["a"], ["a", "b", "c"], "ab", 5, {"a": 1, "b": 2}):
        with pytest.raises(ValueError, match=r"\['param_names'\]: expected"):
            named("a", "b").load_state_dict(
                {**state, "param_groups": [{**group, "param_names": theirs}]}
            )
    for theirs in (["a", "b"], ("a", "b"), None):
        named("a", "b").load_state_dict(
            {**state, "param_groups": [{**group, "param_names": theirs}]}
        )
    with pytest.raises(ValueError, match=r"\['param_names'\]: expected 'b', got 'c'"):
        named("a", "b").load_state_dict(named("a", "c").state_dict())
    named("a", "b").load_state_dict(named("a", "c").state_dict(), strict=False)
    without = module.Adam([np.ones(3), np.ones(3)], lr=0.1)
    without.load_state_dict(state)
    named("a", "b").load_state_dict(without.state_dict())


@MODULES
@pytest.mark.parametrize(
    "wrong", [5, None, "text", {"state": {}}, {"param_groups": []}, [("state", {})]]
)
def test_what_is_no_state_dict(module: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="^state_dict: expected a dict with '"):
        stepped(module).load_state_dict(wrong)


@MODULES
@pytest.mark.parametrize("wrong", [5, "text", {}, [5], ["params"], [[("params", [0, 1])]]])
def test_what_are_no_groups(module: Any, wrong: Any) -> None:
    state = {**stepped(module).state_dict(), "param_groups": wrong}
    with pytest.raises(TypeError, match=r"^state_dict\['param_groups'\]: expected a list of dicts"):
        stepped(module).load_state_dict(state)


@MODULES
def test_masked_arrays_are_none(module: Any) -> None:
    state = stepped(module).state_dict()
    state["state"][0]["exp_avg"] = np.ma.MaskedArray(np.ones(3), [0, 1, 0])
    with pytest.raises(TypeError, match=r"\['exp_avg'\]: expected a NumPy array, got MaskedArray"):
        stepped(module).load_state_dict(state)
