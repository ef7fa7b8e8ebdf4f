"""What there is to know of a class of optimizers, and how torch's numbers are the core's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from numbers import Real
from typing import Any, NamedTuple

import torch

from ..optimizer import Optimizer


class Kind(NamedTuple):
    """A class of the core, and the state that it has as torch calls it."""

    core: type[Optimizer]
    states: tuple[str, ...]
    essential: tuple[str, ...]  # those that are there from the first step on
    counts_steps: bool  # whether torch's state says how many there were

    def hyperparameters(self) -> list[str]:
        """Return the names of those that the core has."""
        core: Any = self.core  # mypy doesn't take a class for what it can hash
        return _hyperparameters_of(core)

    def values_in(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters in a group of torch's that the core has."""
        return {name: group[name] for name in self.hyperparameters() if name in group}

    def require_values(self, number: int, group: Mapping[str, Any]) -> None:
        """Raise what is wrong with the hyperparameters of the group with this number."""
        values = {name: as_number(value) for name, value in self.values_in(group).items()}
        self.core([*[{"params": []}] * number, {**values, "params": []}])


@cache
def _hyperparameters_of(core: type[Optimizer]) -> list[str]:
    return [name for name in core([{"params": []}]).param_groups[0] if name != "params"]


def as_number(value: Any) -> Any:
    """Return a hyperparameter as the core takes it: a tensor's number is read at each step."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return lambda _: value.item()
    if isinstance(value, torch.Tensor):
        return tuple(value.tolist())
    if isinstance(value, tuple | list):
        return tuple(map(as_number, value))
    return value


def are_alike(new: Any, old: Any) -> bool:
    """Return whether one may take the other's place and need the same state and rule."""
    if isinstance(new, tuple | list) and isinstance(old, tuple | list) and len(new) == len(old):
        return all(map(are_alike, new, old))
    if isinstance(new, torch.Tensor) or isinstance(old, torch.Tensor):
        return False
    numbers = (isinstance(value, Real) and not isinstance(value, bool) for value in (new, old))
    return all(numbers) and (new == 0) == (old == 0)
