"""Adam, AMSGrad and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._hyperparameters import Check, decay_rates, flag, non_negative
from ._types import Params
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam, or AMSGrad if asked for; as `torch.optim.Adam`.

    With g the gradient (−g if ``maximize``), p the parameter, t the parameter's step count from 1,
    and all state zero at first::

        g ← g + weight_decay·p
        m ← β₁·m + (1 − β₁)·g
        v ← β₂·v + (1 − β₂)·g²
        w = v, or with amsgrad w ← max(w, v)
        p ← p − lr · m/(1 − β₁ᵗ) / (√(w/(1 − β₂ᵗ)) + eps)

    Parameters
    ----------
    params : list of arrays, or dict of names and arrays
        float32 or float64 arrays of any shape, C-contiguous, aligned, writeable and sharing no
        memory. They are updated in place.
    lr : float, default 1e-3
        Learning rate, >= 0.
    betas : pair of float, default (0.9, 0.999)
        Decay rates (β₁, β₂) of the moments, each in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0. With 0, an element whose gradients were all zero becomes NaN (0/0).
    weight_decay : float, default 0
        L2 penalty, >= 0. For decoupled weight decay see `AdamW`.
    amsgrad : bool, default False
        Divide by the largest second moment so far.
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a parameter not a float32 or float64 array.
    ValueError
        If a hyperparameter is out of range, or a parameter can't be updated in place.

    Notes
    -----
    For ``step``, ``state`` and ``param_groups`` see `Optimizer`.

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v), ``max_exp_avg_sq`` (w, only with amsgrad).

    D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. S. J. Reddi,
    S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018; here with bias
    correction, and the maximum taken before it, as in torch.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> params = {"x": np.array([4.0, -2.0])}
    >>> opt = fusedopt.Adam(params, lr=0.1)
    >>> for _ in range(300):
    ...     opt.step({"x": 2 * params["x"]})  # the gradient of x²
    >>> bool(np.all(abs(params["x"]) < 1e-3))
    True
    >>> opt.state["x"]["step"], list(opt.state["x"])
    (300, ['step', 'exp_avg', 'exp_avg_sq'])
    """

    _checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "betas": decay_rates,
        "eps": non_negative,
        "weight_decay": non_negative,
        "amsgrad": flag,
        "maximize": flag,
    }
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    @classmethod
    def _rule(cls, group: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        beta1, beta2 = group["betas"]
        names = ["lr", "eps", "weight_decay", "maximize"]
        return "amsgrad" if group["amsgrad"] else "adam", {
            **{name: group[name] for name in names},
            "beta1": beta1,
            "beta2": beta2,
            "decoupled_weight_decay": cls._decoupled,
        }


class AdamW(Adam):
    """Adam with decoupled weight decay; as `torch.optim.AdamW`.

    As `Adam`, but instead of adding ``weight_decay·p`` to the gradient, each step begins with::

        p ← (1 − lr·weight_decay)·p

    Parameters
    ----------
    params : list of arrays, or dict of names and arrays
        float32 or float64 arrays of any shape, C-contiguous, aligned, writeable and sharing no
        memory. They are updated in place.
    lr : float, default 1e-3
        Learning rate, >= 0.
    betas : pair of float, default (0.9, 0.999)
        Decay rates (β₁, β₂) of the moments, each in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0. With 0, an element whose gradients were all zero becomes NaN (0/0).
    weight_decay : float, default 1e-2
        Decoupled weight decay, >= 0.
    amsgrad : bool, default False
        Divide by the largest second moment so far.
    maximize : bool, default False
        Go up the gradient instead of down.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a parameter not a float32 or float64 array.
    ValueError
        If a hyperparameter is out of range, or a parameter can't be updated in place.

    Notes
    -----
    For ``step``, ``state`` and ``param_groups`` see `Optimizer`.

    State as for `Adam`.

    I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR
    2019; the decay is multiplied by ``lr``, as in torch.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> p = np.array([1.0], np.float32)
    >>> opt = fusedopt.AdamW([p], lr=0.1, weight_decay=0.5)
    >>> opt.step([np.zeros(1, np.float32)])
    >>> p  # decayed by 1 - 0.1 * 0.5, though the gradient is zero
    array([0.95], dtype=float32)
    """

    _decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
