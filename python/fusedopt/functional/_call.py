"""What all functions do: check hyperparameters, and hand the arrays to the kernels."""

from __future__ import annotations

from typing import Any, TypeAlias

from .. import _core
from .._types import Array
from ..optimizer import Optimizer

#: One array, or a list with one array for each parameter.
Arrays: TypeAlias = Array | list[Array]
#: One array, or a list with an array or None for each parameter.
GradArrays: TypeAlias = Array | list[Array | None]

# What each rule takes: the names of its state arrays are those of the optimizers, in the plural.
_ARGUMENTS = {
    rule: ("params", "grads", *(f"{state}s" for state in states))
    for rule, (_, states) in _core.rules().items()
}


def checked(optimizer: type[Optimizer], **values: Any) -> dict[str, Any]:
    """Return hyperparameters as they are kept."""
    return {name: optimizer._checks[name](name, value) for name, value in values.items()}


def require_together(momentum_buffers: Arrays | None, momentum: float, velocity: bool) -> None:
    """Raise ValueError unless there are buffers if and only if a step needs them."""
    if momentum_buffers is None and (momentum != 0 or velocity):
        why = "velocity is True" if velocity else f"momentum is {momentum}"
        raise ValueError(f"momentum_buffers: needed, as {why}")
    if momentum_buffers is not None and momentum == 0 and not velocity:
        raise ValueError("momentum_buffers: expected None, as momentum is 0")


def require_maximum(group: dict[str, Any]) -> None:
    """Raise ValueError where a maximum is to be of what is corrected, and there is none."""
    if group["amsgrad_max"] == "corrected" and not group["amsgrad"]:
        raise ValueError("max_exp_avg_sqs: needed, as amsgrad_max is 'corrected'")


def apply(
    rule: str,
    hyperparameters: dict[str, float],
    step: int = 1,  # rules that don't count steps take none
    **arguments: Any,
) -> None:
    """Update the arrays that the rule takes."""
    needed = {name: arguments[name] for name in _ARGUMENTS[rule]}
    for name, arrays in needed.items():
        if arrays is None:
            raise TypeError(f"{name}: expected an array or a list of arrays, got None")
    _core.apply(rule, hyperparameters, step, needed)
