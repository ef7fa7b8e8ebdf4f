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
