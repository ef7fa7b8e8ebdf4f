"""What native methods are called with, where tests call them themselves."""

import math
from typing import Any

from fusedopt import _core


def native_rule(name: str, ema_decay: float | None = None, **values: float) -> Any:
    """Return a rule as an optimizer's native half takes it; hyperparameters not given are 0."""
    return name, {**dict.fromkeys(_core.rules()[name][0], 0.0), **values}, ema_decay


# Of step_with: nothing is asked for.
NO_OPTIONS: dict[str, Any] = {
    "loss_scale": 1.0,
    "max_norm": None,
    "clip_value": math.inf,
    "on_nonfinite": "propagate",
    "zero_grads": False,
    "stats": False,
}


def apply_rule(
    rule: str, hyperparameters: dict[str, float], step: Any, arguments: dict[str, Any]
) -> None:
    """Take a step of a rule, with arrays by their arguments' names."""
    function = _core.rule_function(
        list(arguments), [], lambda _: (rule, hyperparameters), lambda _, value: int(value)
    )
    function((), step, *arguments.values())
