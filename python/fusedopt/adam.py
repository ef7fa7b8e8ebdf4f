"""Adam, AMSGrad and AdamW."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from ._hyperparameters import Check, decay_rates, flag, non_negative, one_of, only_true
from ._types import Grads, Number, Pair, Params
from .optimizer import Optimizer, arguments_of_caller


class Adam(Optimizer):
    """Adam, or AMSGrad if asked for; by default as `torch.optim.Adam`.

    With g the gradient (−g if ``maximize``), p the parameter, t the parameter's step count from 1,
    and all state zero at first::

        # an L2 penalty, the default form of weight decay
        g ← g + weight_decay·p
        # decoupled_weight_decay, in place of it
        p ← (1 − lr·weight_decay)·p

        m ← β₁·m + (1 − β₁)·g
        v ← β₂·v + (1 − β₂)·g²
        m̂ = m/(1 − β₁ᵗ)
        v̂ = v/(1 − β₂ᵗ)
        p ← p − lr·m̂ / (√(v̂ + eps_root) + eps)

        # with amsgrad, w/(1 − β₂ᵗ) in place of v̂
        w ← max(w, v)
        # or, with amsgrad_max="corrected", w itself
        w ← max(w, v̂)

        # with eps_hat
        p ← p − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + eps)

    Without ``bias_correction`` m̂ = m and v̂ = v.

    Parameters
    ----------
    params : list of arrays, dict or pairs of names and arrays, or list of groups
        float32 or float64 arrays, updated in place: see `Optimizer`.
    lr : float, default 1e-3
        Learning rate, >= 0.
    betas : pair of float, default (0.9, 0.999)
        Decay rates (β₁, β₂) of the moments, each in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0. With 0 here and in ``eps_root``, an element whose gradients were
        all zero becomes NaN (0/0).
    weight_decay : float, default 0
        Weight decay, >= 0: an L2 penalty, or decoupled.
    amsgrad : bool, default False
        Divide by the largest second moment so far.
    maximize : bool, default False
        Go up the gradient instead of down.
    decoupled_weight_decay : bool, default False
        Shrink the parameter before the step instead of adding to the gradient: `AdamW`.
    bias_correction : bool, default True
        Correct the moments for having started from zero.
    eps_root : float, default 0
        Added under the root, to v̂, >= 0.
    eps_hat : bool, default False
        Add ``eps`` before the correction of v, not after it: the "more efficient" order of the
        paper, whose ε̂ it is. Only with bias correction and without ``eps_root``.
    amsgrad_max : {"raw", "corrected"}, default "raw"
        What AMSGrad's maximum is taken of: v, or v̂, only with bias correction and without
        ``eps_hat``. It can't be changed later.
    grads, ema_decay, state_dir, cast_grads
        As for every optimizer: see `Optimizer`.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a parameter not a float32 or float64 array.
    ValueError
        If a hyperparameter is out of range or doesn't fit the others, or a parameter can't be
        updated in place.

    Notes
    -----
    For ``step``, ``state`` and ``param_groups`` see `Optimizer`. Every number may be a schedule:
    see `fusedopt.schedules`.

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v), ``max_exp_avg_sq`` (w, only with amsgrad).

    D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. S. J. Reddi,
    S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018, there without bias
    correction. docs/forms.md says which library has which form.

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
        "decoupled_weight_decay": flag,
        "bias_correction": flag,
        "eps_root": non_negative,
        "eps_hat": flag,
        "amsgrad_max": one_of("raw", "corrected"),
    }
    _lasting: ClassVar[Mapping[str, Any]] = {"amsgrad_max": "raw"}
    _rules: ClassVar[tuple[str, ...]] = ("adam", "amsgrad")

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: Pair = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        eps_root: Number = 0,
        eps_hat: bool = False,
        amsgrad_max: str = "raw",
        grads: Grads | None = None,
        ema_decay: Number | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        cast_grads: bool = False,
    ) -> None:
        super().__init__(**arguments_of_caller())

    @staticmethod
    def _rule(
        group: Mapping[str, Any], scheduled: frozenset[str] = frozenset()
    ) -> tuple[str, dict[str, float]]:
        _require_fitting(group)
        beta1, beta2 = group["betas"]
        names = Adam._checks.keys() - {"betas", "amsgrad", "amsgrad_max"}
        return "amsgrad" if group["amsgrad"] else "adam", {
            **{name: group[name] for name in names},
            "beta1": beta1,
            "beta2": beta2,
            "corrected_max": group["amsgrad_max"] == "corrected",
        }


def _require_fitting(group: Mapping[str, Any]) -> None:
    if group["eps_hat"] and group["eps_root"] != 0:
        raise ValueError(f"eps_hat: needs an eps_root of 0, got eps_root={group['eps_root']}")
    if group["eps_hat"] and not group["bias_correction"]:
        raise ValueError("eps_hat: needs bias correction, got bias_correction=False")
    if group["amsgrad_max"] == "corrected":
        for name, needed in [("amsgrad", True), ("bias_correction", True), ("eps_hat", False)]:
            if group[name] != needed:
                raise ValueError(
                    f"amsgrad_max: 'corrected' needs {name}={needed}, got {not needed}"
                )


class AdamW(Adam):
    """Adam with decoupled weight decay; by default as `torch.optim.AdamW`.

    As `Adam`, but instead of adding ``weight_decay·p`` to the gradient, each step begins with::

        p ← (1 − lr·weight_decay)·p

    Parameters
    ----------
    params : list of arrays, dict or pairs of names and arrays, or list of groups
        float32 or float64 arrays, updated in place: see `Optimizer`.
    lr : float, default 1e-3
        Learning rate, >= 0.
    weight_decay : float, default 1e-2
        Decoupled weight decay, >= 0.
    betas, eps, amsgrad, maximize, bias_correction, eps_root, eps_hat, amsgrad_max
        As for `Adam`.
    grads, ema_decay, state_dir, cast_grads
        As for every optimizer: see `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        As `Adam` does.

    Notes
    -----
    For ``step``, ``state`` and ``param_groups`` see `Optimizer`. Every number may be a schedule:
    see `fusedopt.schedules`.

    State as for `Adam`. ``decoupled_weight_decay`` stands in ``param_groups``, as in torch, and is
    always True.

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

    _checks: ClassVar[Mapping[str, Check]] = {
        **Adam._checks,
        "decoupled_weight_decay": only_true("it is what AdamW means; for an L2 penalty use Adam"),
    }

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: Pair = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        eps_root: Number = 0,
        eps_hat: bool = False,
        amsgrad_max: str = "raw",
        grads: Grads | None = None,
        ema_decay: Number | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        cast_grads: bool = False,
    ) -> None:
        super().__init__(decoupled_weight_decay=True, **arguments_of_caller())
