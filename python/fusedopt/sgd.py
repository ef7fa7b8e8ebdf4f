"""Gradient descent, plain, with momentum and with Nesterov's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._hyperparameters import Check, finite, flag, non_negative
from ._types import Params
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for; as `torch.optim.SGD`.

    With g the gradient (−g if ``maximize``), p the parameter and μ the momentum::

        g ← g + weight_decay·p

        p ← p − lr·g                        if momentum = 0

        b ← g                               at the first step with momentum
        b ← μ·b + (1 − dampening)·g         after it
        p ← p − lr·b
        p ← p − lr·(g + μ·b)                with nesterov

    Parameters
    ----------
    params : list of arrays, or dict of names and arrays
        float32 or float64 arrays of any shape, C-contiguous, aligned, writeable and sharing no
        memory. They are updated in place.
    lr : float, default 1e-3
        Learning rate, >= 0.
    momentum : float, default 0
        Momentum factor μ, >= 0. Where 0, there is no momentum buffer.
    dampening : float, default 0
        Dampening of the gradient in the momentum buffer; any finite number.
    weight_decay : float, default 0
        L2 penalty, >= 0.
    nesterov : bool, default False
        Nesterov momentum; needs a momentum and no dampening.
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a parameter not a float32 or float64 array.
    ValueError
        If a hyperparameter is out of range or doesn't fit the others, or a parameter can't be
        updated in place.

    Notes
    -----
    For ``step``, ``state`` and ``param_groups`` see `Optimizer`.

    State: ``momentum_buffer``, only with momentum.

    Momentum: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods",
    1964. Nesterov momentum in the form of I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the
    importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> x = np.array([4.0, -2.0])
    >>> opt = fusedopt.SGD([x], lr=0.1, momentum=0.5)
    >>> for _ in range(100):
    ...     opt.step([2 * x])  # the gradient of x²
    >>> bool(np.all(abs(x) < 1e-6))
    True
    >>> opt
    SGD(lr=0.1, momentum=0.5, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False; \
1 array, 2 elements, float64)
    """

    _checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "momentum": non_negative,
        "dampening": finite,
        "weight_decay": non_negative,
        "nesterov": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )

    @staticmethod
    def _rule(group: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "nesterov: needs a momentum above 0 and a dampening of 0, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )
        if group["momentum"] == 0:
            names = ["lr", "weight_decay", "maximize"]
            return "sgd", {name: group[name] for name in names}
        names = ["lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"]
        return "momentum", {name: group[name] for name in names}
