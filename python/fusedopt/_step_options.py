"""What a step may do besides the update, and what it then tells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._hyperparameters import flag, one_of, positive, positive_or_infinite


@dataclass(frozen=True)
class GroupStats:
    """What was measured in a parameter group, of those parameters that had a gradient.

    Norms are L2 norms of all elements together, summed in double precision in a fixed order: they
    depend on nothing but the numbers.

    Attributes
    ----------
    grad_norm : float
        Of the gradients, unscaled and before clipping.
    update_norm : float
        Of what the step added to the parameters, weight decay included; 0 where it was skipped.
    param_norm : float
        Of the parameters after the step.
    nonfinite : int
        How many elements of the gradients are infinite or NaN.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> opt = fusedopt.SGD([np.array([3.0, 8.0])], lr=0.5)
    >>> opt.step([np.array([0.0, 8.0])], stats=True).stats
    (GroupStats(grad_norm=8.0, update_norm=4.0, param_norm=5.0, nonfinite=0),)
    """

    grad_norm: float
    update_norm: float
    param_norm: float
    nonfinite: int

    @property
    def update_ratio(self) -> float:
        """``update_norm / param_norm``: about 1e-3 where a learning rate suits, often.

        NaN where both are 0, and infinite where only the parameters are.
        """
        if self.param_norm == 0:
            return math.nan if self.update_norm == 0 else math.inf
        return self.update_norm / self.param_norm


@dataclass(frozen=True)
class StepResult:
    """What a step with options did.

    Attributes
    ----------
    grad_norm : float or None
        The L2 norm of all gradients together, unscaled and before clipping; None where none of
        ``max_norm``, ``max_array_norm`` and ``stats`` was given.
    skipped : bool
        Whether nothing was updated, because a gradient wasn't finite.
    stats : tuple of GroupStats, or None
        What was measured in each parameter group; None without ``stats=True``.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> opt = fusedopt.SGD([np.zeros(2)], lr=0.1)
    >>> opt.step([np.array([3.0, 4.0])], max_norm=1.0)
    StepResult(grad_norm=5.0, skipped=False, stats=None)
    """

    grad_norm: float | None
    skipped: bool
    stats: tuple[GroupStats, ...] | None = None


class StepOptions(NamedTuple):
    """The options as an engine takes them."""

    loss_scale: float
    max_norm: float | None
    max_array_norm: float | None
    clip_value: float
    on_nonfinite: str
    zero_grads: bool
    stats: bool


_on_nonfinite = one_of("propagate", "skip", "raise")


def check_step_options(
    loss_scale: Any,
    max_norm: Any,
    max_array_norm: Any,
    clip_value: Any,
    on_nonfinite: Any,
    zero_grads: Any,
    stats: Any,
) -> StepOptions:
    """Return what the engine takes, or raise what is wrong with it."""
    if max_norm is not None and max_array_norm is not None:
        raise ValueError("max_array_norm: expected None, as max_norm was given, too")
    return StepOptions(
        loss_scale=1.0 if loss_scale is None else positive("loss_scale", loss_scale),
        max_norm=None if max_norm is None else positive_or_infinite("max_norm", max_norm),
        max_array_norm=(
            None if max_array_norm is None else positive("max_array_norm", max_array_norm)
        ),
        clip_value=math.inf if clip_value is None else positive("clip_value", clip_value),
        on_nonfinite=_on_nonfinite("on_nonfinite", on_nonfinite),
        zero_grads=flag("zero_grads", zero_grads),
        stats=flag("stats", stats),
    )
