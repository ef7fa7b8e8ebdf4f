"""A loss scale that finds its own size, for gradients in low precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._hyperparameters import positive, step_count
from ._step_options import StepResult


class LossScaler:
    """A loss scale that grows while gradients are finite and backs off when they aren't.

    As `torch.amp.GradScaler`: the loss is multiplied by ``scale``, so that small gradients don't
    vanish in low precision; the step divides by it again, and is skipped where a gradient became
    infinite. ``update`` then changes the scale::

        scale ← scale·backoff_factor            after a step that was skipped
        scale ← scale·growth_factor             after growth_interval steps in a row that weren't

    Parameters
    ----------
    init_scale : float, default 65536
        The first scale, > 0.
    growth_factor : float, default 2
        What the scale grows by, > 1.
    backoff_factor : float, default 0.5
        What it shrinks by, in (0, 1).
    growth_interval : int, default 2000
        After how many steps in a row it grows, >= 1.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If one is out of range.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> opt = fusedopt.SGD([np.zeros(2)], lr=0.1)
    >>> scaler = fusedopt.LossScaler(init_scale=8.0)
    >>> for gradient in (1.0, np.inf, 1.0):
    ...     grads = [np.array([gradient, 0.5]) * scaler.scale]  # of the loss times the scale
    ...     scaler.update(opt.step(grads, loss_scale=scaler.scale, on_nonfinite="skip"))
    >>> scaler.scale, opt.completed_steps
    (4.0, 2)
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._scale = positive("init_scale", init_scale)
        self._growth_factor = positive("growth_factor", growth_factor)
        self._backoff_factor = positive("backoff_factor", backoff_factor)
        self._growth_interval = step_count("growth_interval", growth_interval)
        self._growth_tracker = 0
        if self._growth_factor <= 1:
            raise ValueError(f"growth_factor: expected a number > 1, got {self._growth_factor}")
        if self._backoff_factor >= 1:
            raise ValueError(
                f"backoff_factor: expected a number in (0, 1), got {self._backoff_factor}"
            )

    @property
    def scale(self) -> float:
        """What the loss is multiplied by, and what goes into ``step`` as ``loss_scale``."""
        return self._scale

    def update(self, result: StepResult | None) -> None:
        """Change the scale after a step, given what it returned.

        The step has to be one with ``on_nonfinite="skip"``: otherwise none is ever skipped, and the
        scale only grows.

        Raises
        ------
        TypeError
            If that is not the result of a step with options.
        """
        if not isinstance(result, StepResult):
            raise TypeError(
                "result: expected what step(..., loss_scale=scaler.scale, on_nonfinite='skip') "
                f"returned, got {type(result).__name__}"
            )
        if result.skipped:
            # Its inverse, what gradients are multiplied by, stays finite in float32.
            self._scale = max(self._scale * self._backoff_factor, min(self._scale, 2.0**-126))
            self._growth_tracker = 0
            return
        self._growth_tracker += 1
        if self._growth_tracker >= self._growth_interval:
            grown = self._scale * self._growth_factor
            if grown != float("inf"):
                self._scale = grown
            self._growth_tracker = 0

    def state_dict(self) -> dict[str, Any]:
        """Return all there is, under the names that `torch.amp.GradScaler` uses."""
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another scaler, or torch's, was.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value can't be; nothing has changed then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict, got {type(state).__name__}")
        expected = self.state_dict().keys()
        if state.keys() != expected:
            raise ValueError(f"state: expected the keys {list(expected)}, got {list(state)}")
        tracker = state["_growth_tracker"]
        if isinstance(tracker, bool) or not isinstance(tracker, int):
            raise TypeError(f"_growth_tracker: expected an int, got {tracker!r}")
        if tracker < 0:
            raise ValueError(f"_growth_tracker: expected 0 or more, got {tracker}")
        other = LossScaler(
            positive("scale", state["scale"]),
            state["growth_factor"],
            state["backoff_factor"],
            state["growth_interval"],
        )
        self.__dict__.update(other.__dict__)
        self._growth_tracker = tracker

    def __repr__(self) -> str:
        return (
            f"LossScaler(scale={self._scale}, growth_factor={self._growth_factor}, "
            f"backoff_factor={self._backoff_factor}, growth_interval={self._growth_interval})"
        )
