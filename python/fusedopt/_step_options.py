"""What a step may do besides the update, and what it then tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypedDict

from ._hyperparameters import Check, flag, one_of, positive, positive_or_infinite
from ._types import Stats


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


class GivenOptions(TypedDict, total=False):
    """The options as a caller may give them; None and the defaults ask for nothing."""

    loss_scale: float | None
    max_norm: float | None
    max_array_norm: float | None
    clip_value: float | None
    on_nonfinite: str
    zero_grads: bool
    stats: bool


class StepOptions(NamedTuple):
    """The options as an engine takes them."""

    loss_scale: float = 1.0
    max_norm: float | None = None
    max_array_norm: float | None = None
    clip_value: float = math.inf
    on_nonfinite: str = "propagate"
    zero_grads: bool = False
    stats: bool = False


#: What a step with options tells: the norm, whether it was skipped, and what was measured.
Done: TypeAlias = tuple[float | None, bool, Stats | None]

_CHECKS: dict[str, Check] = {
    "loss_scale": positive,
    "max_norm": positive_or_infinite,
    "max_array_norm": positive,
    "clip_value": positive,
    "on_nonfinite": one_of("propagate", "skip", "raise"),
    "zero_grads": flag,
    "stats": flag,
}
_MAY_BE_NONE = ("loss_scale", "max_norm", "max_array_norm", "clip_value")


def check_step_options(function: str, given: Mapping[str, Any]) -> StepOptions | None:
    """Return what the engine takes, None where nothing is asked for, or raise what is wrong."""
    for name in given:
        if name not in _CHECKS:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    if given.get("max_norm") is not None and given.get("max_array_norm") is not None:
        raise ValueError("max_array_norm: expected None, as max_norm was given, too")
    options = StepOptions(
        **{
            name: _CHECKS[name](name, value)
            for name, value in given.items()
            if value is not None or name not in _MAY_BE_NONE
        }
    )
    # A loss scale of 1 was asked for, and so is what the step tells.
    asked = any(given.get(name) is not None for name in _MAY_BE_NONE)
    return options if asked or options != StepOptions() else None


def result_of(done: Done) -> StepResult:
    """Return what a step tells its caller."""
    norm, skipped, measured = done
    stats = None if measured is None else tuple(GroupStats(*group) for group in measured)
    return StepResult(norm, skipped, stats)
