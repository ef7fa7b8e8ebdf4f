"""What fronts share whose parameters and state belong to another library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .optimizer import Optimizer


def borrow_state(core: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Let an optimizer that took no step go on from these arrays, in these arrays."""
    groups = core.state_dict()["param_groups"]
    core.load_state_dict({"state": state, "param_groups": groups}, copy=False)


def set_hyperparameters(core: Optimizer, values: Mapping[str, Any]) -> None:
    """Set what differs of an optimizer with one group."""
    [group] = core.param_groups
    for name, value in values.items():
        if group[name] != value:
            group[name] = value
