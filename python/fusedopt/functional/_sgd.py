"""Gradient descent, plain, with momentum and with Nesterov's."""

from __future__ import annotations

from typing import Any

from ..sgd import SGD
from ._call import Arrays, GradArrays, Steps, checks_of, function_of, require_together


def _group(checked: dict[str, Any]) -> dict[str, Any]:
    require_together(checked)
    return checked


_sgd = function_of(
    SGD,
    ["momentum_buffer"],
    checks_of(
        SGD,
        *("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"),
        *("decoupled_weight_decay", "momentum_init", "velocity", "has_buffers"),
    ),
    _group,
)


def sgd_(
    params: Arrays,
    grads: GradArrays,
    momentum_buffers: Arrays | None = None,
    *,
    step: Steps,
    lr: float,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    momentum_init: str | None = None,
    velocity: bool = False,
) -> None:
    """Take one step of `fusedopt.SGD`, whose documentation has the equations.

    Parameters
    ----------
    params : array or list of arrays
        float32 or float64 arrays, C-contiguous, aligned, writeable; updated in place.
    grads : array or list of arrays
        The gradients, each of its parameter's shape and dtype; None in the list for a parameter
        without a gradient, which stays as it is.
    momentum_buffers : array or list of arrays, optional
        The momentum buffers, updated in place; given if and only if ``momentum`` is not 0 or
        ``velocity`` is True. At step 1 they are overwritten with the gradient, unless they start
        from zero: then they must be zeros.
    step : int or list of int
        The count of this step, from 1; for a list of arrays also one for each.
    lr : float
        Learning rate, >= 0.
    momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay
        As for `fusedopt.SGD`.
    momentum_init : {None, "gradient", "zeros"}, default None
        What momentum starts from at step 1: the gradient, undamped, which None means too, or zero.
    velocity : bool, default False
        Keep the learning rate in the momentum buffers, which must be zeros before the first step.

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
    >>> from fusedopt.functional import sgd_
    >>> x, buffer = np.array([4.0, -2.0]), np.zeros(2)
    >>> for step in range(1, 101):
    ...     sgd_(x, 2 * x, buffer, step=step, lr=0.1, momentum=0.5)
    >>> bool(np.all(abs(x) < 1e-6))
    True
    """
    values = (
        *(lr, momentum, dampening, weight_decay, nesterov, maximize),
        *(decoupled_weight_decay, momentum_init, velocity, momentum_buffers is not None),
    )
    _sgd(values, step, params, grads, momentum_buffers)
