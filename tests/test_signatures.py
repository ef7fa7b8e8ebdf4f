"""Contract: an option has one name, one default and one description, wherever it is an argument."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import functional, reference
from published import peer

NAMES = ["SGD", "RMSprop", "Adam", "AdamW"]
COMMON = ["grads", "ema_decay", "state_dir", "cast_grads"]
#: What a class has fixed: it is no argument of it.
FIXED = {"AdamW": {"decoupled_weight_decay"}}


def arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(function).parameters.items() if name != "self"}


def described(function: Any) -> list[str]:
    """Return the arguments that a docstring describes, in order."""
    text = inspect.getdoc(function) or ""
    section = text.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip("* ") for head in heads for name in head.split(" : ")[0].split(",")]


@pytest.mark.parametrize("name", NAMES)
def test_a_constructor_has_every_hyperparameter(name: str) -> None:
    optimizer = getattr(fusedopt, name)
    own = arguments(optimizer.__init__)
    hyperparameters = optimizer._checks.keys() - FIXED.get(name, set())
    assert next(iter(own)) == "params"
    assert set(own) == {"params", *hyperparameters, *COMMON}
    assert list(own)[-len(COMMON) :] == COMMON
    assert sorted(described(optimizer)) == sorted(own)
    assert list(arguments(getattr(reference, name).__init__)) == list(own)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_constructor_is_given_stands_in_its_group(name: str) -> None:
    """It hands on its arguments unseen: each arrives under its own name."""
    optimizer = getattr(fusedopt, name)
    given = {"lr": 0.125, "weight_decay": 0.25, "maximize": True, "ema_decay": 0.5}
    group = optimizer([np.ones(2)], **given).param_groups[0]
    assert {key: group[key] for key in given} == given
    for key, parameter in arguments(optimizer.__init__).items():
        if key in group and key != "params":
            default = parameter.default
            assert optimizer([np.ones(2)]).param_groups[0][key] == default, key
    assert optimizer([np.ones(2)]).param_groups[0]["decoupled_weight_decay"] == (name == "AdamW")


@pytest.mark.parametrize("name", NAMES)
def test_a_function_has_the_defaults_of_its_class(name: str) -> None:
    function = getattr(functional, f"{name.lower()}_")
    of_class = arguments(getattr(fusedopt, name).__init__)
    own = arguments(function)
    assert sorted(described(function)) == sorted(own)
    options = {key: p.default for key, p in own.items() if p.default not in (p.empty, None)}
    betas = of_class["betas"].default if "betas" in of_class else (0, 0)
    known = {"beta1": betas[0], "beta2": betas[1]}
    assert options == {key: known.get(key, of_class.get(key, own[key]).default) for key in options}
    # What arrays say, or would be too many: an array that is there, and the step.
    in_arrays = {"amsgrad", "centered", "initial_square_avg", "betas"}
    assert of_class.keys() - {"params", *COMMON} - in_arrays <= own.keys()


@pytest.mark.parametrize("name", NAMES)
def test_torchs_class_has_torchs_defaults_and_ours(name: str) -> None:
    torch = peer("torch")
    import_module("fusedopt.torch")
    own = arguments(getattr(fusedopt.torch, name).__init__)
    theirs = arguments(getattr(torch.optim, name).__init__)
    ours = arguments(getattr(fusedopt, name).__init__)
    assert list(theirs) == [key for key in own if key in theirs]
    for key, parameter in own.items():
        expected = theirs.get(key, ours.get(key))
        assert expected is not None
        assert (parameter.default, parameter.kind) == (expected.default, expected.kind), key
    # Bound gradients, a place for state and casts are what torch has of its own.
    assert ours.keys() - own.keys() == set(COMMON) - {"ema_decay"}
    assert sorted(described(getattr(fusedopt.torch, name))) == sorted(own)


@pytest.mark.parametrize("name", NAMES)
def test_jaxs_function_has_what_the_class_has(name: str) -> None:
    peer("jax")
    import_module("fusedopt.jax")
    function = getattr(fusedopt.jax, name.lower())
    ours = arguments(getattr(fusedopt, name).__init__)
    for key in ["params", *COMMON]:
        del ours[key]
    own = arguments(function)
    assert [(p.name, p.default, p.kind) for p in own.values()] == [
        (p.name, p.default, p.kind) for p in ours.values()
    ]
    assert described(function) == list(own)
