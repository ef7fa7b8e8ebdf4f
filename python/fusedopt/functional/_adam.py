"""Adam, AMSGrad and AdamW."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._hyperparameters import Check, decay_rate
from ..adam import Adam, AdamW
from ._call import Arrays, GradArrays, Steps, checks_of, function_of


def _group(checked: dict[str, Any]) -> dict[str, Any]:
    if checked["amsgrad_max"] == "corrected" and not checked["amsgrad"]:
        raise ValueError("max_exp_avg_sqs: needed, as amsgrad_max is 'corrected'")
    return {**checked, "betas": (checked["beta1"], checked["beta2"])}


def _function_of(optimizer: type[Adam]) -> _core.RuleFunction:
    numbers: dict[str, Check] = {
        **checks_of(optimizer, "lr"),
        "beta1": decay_rate,
        "beta2": decay_rate,
        **checks_of(
            optimizer,
            *("eps", "weight_decay", "maximize", "decoupled_weight_decay", "bias_correction"),
            *("eps_root", "eps_hat", "amsgrad_max", "amsgrad"),
        ),
    }
    return function_of(optimizer, ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"], numbers, _group)


_adam = _function_of(Adam)
_adamw = _function_of(AdamW)


def adam_(
    params: Arrays,
    grads: GradArrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    step: Steps,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    eps_root: float = 0,
    eps_hat: bool = False,
    amsgrad_max: str = "raw",
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
    step : int or list of int
        The count of this step, from 1; for a list of arrays also one for each.
    lr : float
        Learning rate, >= 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay rates of the moments, in [0, 1).
    eps, weight_decay, maximize, decoupled_weight_decay, bias_correction, eps_root, eps_hat
        As for `fusedopt.Adam`.
    amsgrad_max : {"raw", "corrected"}, default "raw"
        What the largest second moments are taken of: the moments, or the corrected ones.

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
    >>> from fusedopt.functional import adam_
    >>> x, m, v = np.array([4.0, -2.0]), np.zeros(2), np.zeros(2)
    >>> for step in range(1, 301):
    ...     adam_(x, 2 * x, m, v, step=step, lr=0.1)
    >>> bool(np.all(abs(x) < 1e-3))
    True
    """
    values = (
        *(lr, beta1, beta2, eps, weight_decay, maximize, decoupled_weight_decay),
        *(bias_correction, eps_root, eps_hat, amsgrad_max, max_exp_avg_sqs is not None),
    )
    _adam(values, step, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs)


def adamw_(
    params: Arrays,
    grads: GradArrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    step: Steps,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    maximize: bool = False,
    bias_correction: bool = True,
    eps_root: float = 0,
    eps_hat: bool = False,
    amsgrad_max: str = "raw",
) -> None:
    """Take one step of `fusedopt.AdamW`, whose documentation has the equations.

    Parameters
    ----------
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step
        As for `adam_`.
    lr : float
        Learning rate, >= 0.
    weight_decay : float, default 1e-2
        Decoupled weight decay, >= 0.
    beta1, beta2, eps, maximize, bias_correction, eps_root, eps_hat, amsgrad_max
        As for `adam_`.

    Raises
    ------
    TypeError, ValueError
        As `adam_` does.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.functional import adamw_
    >>> p, m, v = np.ones(1), np.zeros(1), np.zeros(1)
    >>> adamw_(p, np.zeros(1), m, v, step=1, lr=0.1, weight_decay=0.5)
    >>> p
    array([0.95])
    """
    values = (
        *(lr, beta1, beta2, eps, weight_decay, maximize, True),
        *(bias_correction, eps_root, eps_hat, amsgrad_max, max_exp_avg_sqs is not None),
    )
    _adamw(values, step, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs)
