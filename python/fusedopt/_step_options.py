"""What a step may do besides the update, and what it then tells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._hyperparameters import flag, one_of, positive


@dataclass(frozen=True)
class StepResult:
    """What a step with options did.

    Attributes
    ----------
    grad_norm : float or None
        The L2 norm of all gradients together, unscaled and before clipping; None where ``max_norm``
        wasn't given.
    skipped : bool
        Whether nothing was updated, because a gradient wasn't finite.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> opt = fusedopt.SGD([np.zeros(2)], lr=0.1)
    >>> opt.step([np.array([3.0, 4.0])], max_norm=1.0)
    StepResult(grad_norm=5.0, skipped=False)
    """

    grad_norm: float | None
    skipped: bool


class StepOptions(NamedTuple):
    """The options as an engine takes them."""

    loss_scale: float
    max_norm: float | None
    clip_value: float
    on_nonfinite: str
    zero_grads: bool


_on_nonfinite = one_of("propagate", "skip", "raise")


def check_step_options(
    loss_scale: Any, max_norm: Any, clip_value: Any, on_nonfinite: Any, zero_grads: Any
) -> StepOptions:
    """Return what the engine takes, or raise what is wrong with it."""
    return StepOptions(
        loss_scale=1.0 if loss_scale is None else positive("loss_scale", loss_scale),
        max_norm=None if max_norm is None else positive("max_norm", max_norm, infinite=True),
        clip_value=math.inf if clip_value is None else positive("clip_value", clip_value),
        on_nonfinite=str(_on_nonfinite("on_nonfinite", on_nonfinite)),
        zero_grads=flag("zero_grads", zero_grads),
    )
