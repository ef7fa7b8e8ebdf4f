"""In-place updates for callers who own their state.

The same kernels and checks as the optimizer classes, without an object: each function takes the
parameters, their gradients and their state arrays, each as one array or as a list of arrays, and
updates parameters and state in place. A call happens whole or, when it raises, not at all.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from . import _core
from ._hyperparameters import decay_rate, step_count
from ._types import Array
from .adam import Adam, AdamW
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["adam_", "adamw_", "rmsprop_", "sgd_"]

#: One array, or a list with one array for each parameter.
Arrays: TypeAlias = Array | list[Array]
#: One array, or a list with an array or None for each parameter.
GradArrays: TypeAlias = Array | list[Array | None]


def sgd_(
    params: Arrays,
    grads: GradArrays,
    momentum_buffers: Arrays | None = None,
    *,
    step: int,
    lr: float,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    maximize: bool = False,
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
        The momentum buffers, updated in place; given if and only if ``momentum`` is not 0. At step
        1 they are overwritten with the gradient.
    step : int
        The count of this step, from 1.
    lr : float
        Learning rate, >= 0.
    momentum : float, default 0
        Momentum factor, >= 0.
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
    group = _checked(
        SGD,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
    )
    _require_together(momentum_buffers, group["momentum"])
    rule, hyperparameters = SGD._rule(group)
    _apply(
        rule,
        hyperparameters,
        step_count("step", step),
        params=params,
        grads=grads,
        momentum_buffers=momentum_buffers,
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
        The averages of squared gradients, updated in place; zeros before the first step.
    grad_avgs : array or list of arrays, optional
        The averages of gradients, updated in place; zeros before the first step. Where given, the
        step is centered.
    momentum_buffers : array or list of arrays, optional
        The momentum buffers, updated in place; zeros before the first step. Given if and only if
        ``momentum`` is not 0.
    lr : float
        Learning rate, >= 0.
    alpha : float, default 0.99
        Decay rate of the averages, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0.
    weight_decay : float, default 0
        L2 penalty, >= 0.
    momentum : float, default 0
        Momentum factor, >= 0.
    maximize : bool, default False
        Go up the gradient instead of down.

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
    group = _checked(
        RMSprop,
        lr=lr,
        alpha=alpha,
        eps=eps,
        weight_decay=weight_decay,
        momentum=momentum,
        centered=grad_avgs is not None,
        maximize=maximize,
    )
    _require_together(momentum_buffers, group["momentum"])
    rule, hyperparameters = RMSprop._rule(group)
    _apply(
        rule,
        hyperparameters,
        params=params,
        grads=grads,
        square_avgs=square_avgs,
        grad_avgs=grad_avgs,
        momentum_buffers=momentum_buffers,
    )


def adam_(
    params: Arrays,
    grads: GradArrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0,
    maximize: bool = False,
) -> None:
    """Take one step of `fusedopt.Adam`, whose documentation has the equations.

    Parameters
    ----------
    params : array or list of arrays
        float32 or float64 arrays, C-contiguous, aligned, writeable; updated in place.
    grads : array or list of arrays
        The gradients, each of its parameter's shape and dtype; None in the list for a parameter
        without a gradient, which stays as it is.
    exp_avgs, exp_avg_sqs : array or list of arrays
        The first and second moments, updated in place; zeros before the first step.
    max_exp_avg_sqs : array or list of arrays, optional
        The largest second moments, updated in place; zeros before the first step. Where given, the
        step is AMSGrad's.
    step : int
        The count of this step, from 1.
    lr : float
        Learning rate, >= 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay rates of the moments, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0.
    weight_decay : float, default 0
        L2 penalty, >= 0.
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or an array of the wrong dtype.
    ValueError
        If an array is missing, has the wrong shape or layout, or overlaps another that is written;
        if a hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.functional import adam_
    >>> x, m, v = np.array([4.0, -2.0]), np.zeros(2), np.zeros(2)
    >>> for step in range(1, 301):
    ...     adam_(x, 2 * x, m, v, step=step, lr=0.1)
    >>> bool(np.all(abs(x) < 1e-3))
    True
    """
    group = _checked(Adam, lr=lr, eps=eps, weight_decay=weight_decay, maximize=maximize)
    group["betas"] = decay_rate("beta1", beta1), decay_rate("beta2", beta2)
    group["amsgrad"] = max_exp_avg_sqs is not None
    _apply(
        *Adam._rule(group),
        step_count("step", step),
        params=params,
        grads=grads,
        exp_avgs=exp_avgs,
        exp_avg_sqs=exp_avg_sqs,
        max_exp_avg_sqs=max_exp_avg_sqs,
    )


def adamw_(
    params: Arrays,
    grads: GradArrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    maximize: bool = False,
) -> None:
    """Take one step of `fusedopt.AdamW`, whose documentation has the equations.

    Parameters
    ----------
    params : array or list of arrays
        float32 or float64 arrays, C-contiguous, aligned, writeable; updated in place.
    grads : array or list of arrays
        The gradients, each of its parameter's shape and dtype; None in the list for a parameter
        without a gradient, which stays as it is.
    exp_avgs, exp_avg_sqs : array or list of arrays
        The first and second moments, updated in place; zeros before the first step.
    max_exp_avg_sqs : array or list of arrays, optional
        The largest second moments, updated in place; zeros before the first step. Where given, the
        step is AMSGrad's.
    step : int
        The count of this step, from 1.
    lr : float
        Learning rate, >= 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay rates of the moments, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0.
    weight_decay : float, default 1e-2
        Decoupled weight decay, >= 0.
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or an array of the wrong dtype.
    ValueError
        If an array is missing, has the wrong shape or layout, or overlaps another that is written;
        if a hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.functional import adamw_
    >>> p, m, v = np.ones(1), np.zeros(1), np.zeros(1)
    >>> adamw_(p, np.zeros(1), m, v, step=1, lr=0.1, weight_decay=0.5)
    >>> p
    array([0.95])
    """
    group = _checked(AdamW, lr=lr, eps=eps, weight_decay=weight_decay, maximize=maximize)
    group["betas"] = decay_rate("beta1", beta1), decay_rate("beta2", beta2)
    group["amsgrad"] = max_exp_avg_sqs is not None
    _apply(
        *AdamW._rule(group),
        step_count("step", step),
        params=params,
        grads=grads,
        exp_avgs=exp_avgs,
        exp_avg_sqs=exp_avg_sqs,
        max_exp_avg_sqs=max_exp_avg_sqs,
    )


# What each rule takes: the names of its state arrays are those of the optimizers, in the plural.
_ARGUMENTS = {
    rule: ("params", "grads", *(f"{state}s" for state in states))
    for rule, (_, states) in _core.rules().items()
}


def _checked(optimizer: type[Optimizer], **values: Any) -> dict[str, Any]:
    return {name: optimizer._checks[name](name, value) for name, value in values.items()}


def _require_together(momentum_buffers: Arrays | None, momentum: float) -> None:
    if momentum_buffers is None and momentum != 0:
        raise ValueError(f"momentum_buffers: needed, as momentum is {momentum}")
    if momentum_buffers is not None and momentum == 0:
        raise ValueError("momentum_buffers: expected None, as momentum is 0")


def _apply(
    rule: str,
    hyperparameters: dict[str, float],
    step: int = 1,  # rules that don't count steps take none
    **arguments: Any,
) -> None:
    needed = {name: arguments[name] for name in _ARGUMENTS[rule]}
    for name, arrays in needed.items():
        if arrays is None:
            raise TypeError(f"{name}: expected an array or a list of arrays, got None")
    _core.apply(rule, hyperparameters, step, needed)
