"""What all functions do: say what hyperparameters mean, and hand the arrays to the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from .. import _core
from .._hyperparameters import Check, flag, numbers_of, step_count
from .._types import Array
from ..optimizer import Optimizer

#: One array, or a list with one array for each parameter.
Arrays: TypeAlias = Array | list[Array]
#: One array, or a list with an array or None for each parameter.
GradArrays: TypeAlias = Array | list[Array | None]
#: The count of this step, or one for each parameter.
Steps: TypeAlias = int | Sequence[int]


def function_of(
    optimizer: type[Optimizer],
    states: Sequence[str],
    numbers: Mapping[str, Check],
    group: Callable[[dict[str, Any]], dict[str, Any]],
) -> _core.RuleFunction:
    """Return what takes a step as an optimizer does: hyperparameters, the step, and the arrays.

    Its hyperparameters are a tuple of those numbers, and of others, in their order. They are
    checked, and asked what they mean, only where they are neither the last ones nor other numbers
    in their place. What they are in a group of the optimizer, `group` says.
    """

    def meaning(values: tuple[Any, ...]) -> tuple[str, dict[str, float]]:
        checked = {
            name: check(name, value)
            for (name, check), value in zip(numbers.items(), values, strict=True)
        }
        return optimizer._rule(group(checked))

    names = ["params", "grads", *(f"{state}s" for state in states)]
    bounds = [numbers_of(name, check) for name, check in numbers.items()]
    return _core.rule_function(names, bounds, meaning, step_count)


def checks_of(optimizer: type[Optimizer], *names: str) -> dict[str, Check]:
    """Return an optimizer's checks of these hyperparameters; one it doesn't have is a flag."""
    return {name: optimizer._checks.get(name, flag) for name in names}


def require_together(group: Mapping[str, Any]) -> None:
    """Raise ValueError unless there are buffers if and only if a step needs them."""
    momentum, velocity = group["momentum"], group["velocity"]
    if not group["has_buffers"] and (momentum != 0 or velocity):
        why = "velocity is True" if velocity else f"momentum is {momentum}"
        raise ValueError(f"momentum_buffers: needed, as {why}")
    if group["has_buffers"] and momentum == 0 and not velocity:
        raise ValueError("momentum_buffers: expected None, as momentum is 0")
