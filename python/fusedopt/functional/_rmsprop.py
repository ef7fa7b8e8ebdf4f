"""RMSProp, plain, centered and with momentum."""

from __future__ import annotations

from typing import Any

from ..rmsprop import RMSprop
from ._call import Arrays, GradArrays, checks_of, function_of, require_together


def _group(checked: dict[str, Any]) -> dict[str, Any]:
    require_together(checked)
    return {**checked, "initial_square_avg": 0}  # the caller's business


_rmsprop = function_of(
    RMSprop,
    ["square_avg", "grad_avg", "momentum_buffer"],
    checks_of(
        RMSprop,
        *("lr", "alpha", "eps", "weight_decay", "momentum", "maximize", "decoupled_weight_decay"),
        *("eps_root", "velocity", "centered", "has_buffers"),
    ),
    _group,
)


def rmsprop_(
    params: Arrays,
    grads: GradArrays,
    square_avgs: Arrays,
    grad_avgs: Arrays | None = None,
    momentum_buffers: Arrays | None = None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum: float = 0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    eps_root: float = 0,
    velocity: bool = False,
) -> None:
    """Take one step of `fusedopt.RMSprop`, whose documentation has the equations.

    Parameters
    ----------
    params : array or list of arrays
        float32 or float64 arrays, C-contiguous, aligned, writeable; updated in place.
    grads : array or list of arrays
        The gradients, each of its parameter's shape and dtype; None in the list for a parameter
        without a gradient, which stays as it is.
    square_avgs : array or list of arrays
        The averages of squared gradients, updated in place; zeros before the first step, or
        whatever else they are to start from.
    grad_avgs : array or list of arrays, optional
        The averages of gradients, updated in place; zeros before the first step. Where given, the
        step is centered.
    momentum_buffers : array or list of arrays, optional
        The momentum buffers, updated in place; zeros before the first step. Given if and only if
        ``momentum`` is not 0 or ``velocity`` is True.
    lr : float
        Learning rate, >= 0.
    alpha : float, default 0.99
        Decay rate of the averages, in [0, 1).
    eps, weight_decay, momentum, maximize, decoupled_weight_decay, eps_root
        As for `fusedopt.RMSprop`.
    velocity : bool, default False
        Keep the learning rate in the momentum buffers.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or an array of the wrong dtype.
    ValueError
        If an array is missing, has the wrong shape or layout, or overlaps another that is written;
        if a hyperparameter is out of range or doesn't fit the others.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.functional import rmsprop_
    >>> x, square_avg = np.array([4.0, -2.0]), np.zeros(2)
    >>> for _ in range(1000):
    ...     rmsprop_(x, 2 * x, square_avg, lr=0.01)
    >>> bool(np.all(abs(x) < 0.05))
    True
    """
    values = (
        *(lr, alpha, eps, weight_decay, momentum, maximize, decoupled_weight_decay),
        *(eps_root, velocity, grad_avgs is not None, momentum_buffers is not None),
    )
    _rmsprop(values, 1, params, grads, square_avgs, grad_avgs, momentum_buffers)
