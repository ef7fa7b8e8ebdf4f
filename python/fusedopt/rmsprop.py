"""RMSProp, plain, centered and with momentum."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from ._hyperparameters import Check, decay_rate, flag, non_negative
from ._types import Grads, Number, Params
from .optimizer import Optimizer, arguments_of_caller


class RMSprop(Optimizer):
    """RMSProp, centered and with momentum if asked for; by default as `torch.optim.RMSprop`.

    With g the gradient (−g if ``maximize``), p the parameter, μ the momentum, and all state zero at
    first (v ``initial_square_avg``)::

        # an L2 penalty, the default form of weight decay
        g ← g + weight_decay·p
        # decoupled_weight_decay, in place of it
        p ← (1 − lr·weight_decay)·p

        v ← alpha·v + (1 − alpha)·g²
        d = g / (√(v + eps_root) + eps)

        # if centered
        a ← a + (1 − alpha)·(g − a)
        d = g / (√(max(v − a², 0) + eps_root) + eps)

        # if momentum = 0
        p ← p − lr·d

        # with momentum
        b ← μ·b + d
        p ← p − lr·b

        # with velocity
        b ← μ·b − lr·d
        p ← p + b

    Parameters
    ----------
    params : list of arrays, dict or pairs of names and arrays, or list of groups
        float32 or float64 arrays, updated in place: see `Optimizer`.
    lr : float, default 1e-2
        Learning rate, >= 0.
    alpha : float, default 0.99
        Decay rate of the averages, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0. With 0 here and in ``eps_root``, an element whose gradients were
        all zero becomes NaN (0/0).
    weight_decay : float, default 0
        Weight decay, >= 0: an L2 penalty, or decoupled.
    momentum : float, default 0
        Momentum factor μ, >= 0. Where 0, there is no momentum buffer.
    centered : bool, default False
        Divide by the standard deviation of the gradient rather than its root mean square.
    maximize : bool, default False
        Go up the gradient instead of down.
    decoupled_weight_decay : bool, default False
        Shrink the parameter before the step instead of adding to the gradient.
    eps_root : float, default 0
        Added under the root, >= 0. TensorFlow's form is ``eps=0, eps_root=1e-7``.
    initial_square_avg : float, default 0
        What v is when it is made, at a parameter's first step, >= 0. autograd and TensorFlow 1
        start from 1.
    velocity : bool, default False
        Keep the learning rate in the momentum buffer, which there is then whatever the momentum. It
        can't be changed later.
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

    State: ``square_avg`` (v), ``grad_avg`` (a, only centered), ``momentum_buffer`` (b, only with
    momentum). The max differs from torch only where torch's difference is negative by rounding and
    its root NaN.

    T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", COURSERA, 2012; centered:
    A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013. docs/forms.md says which
    library has which form.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> x = np.array([4.0, -2.0])
    >>> opt = fusedopt.RMSprop([x], lr=0.01, centered=True)
    >>> for _ in range(1000):
    ...     opt.step([2 * x])  # the gradient of x²
    >>> bool(np.all(abs(x) < 0.05))
    True
    >>> list(opt.state[0])
    ['step', 'square_avg', 'grad_avg']
    """

    _checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "alpha": decay_rate,
        "eps": non_negative,
        "weight_decay": non_negative,
        "momentum": non_negative,
        "centered": flag,
        "maximize": flag,
        "decoupled_weight_decay": flag,
        "eps_root": non_negative,
        "initial_square_avg": non_negative,
        "velocity": flag,
    }
    _lasting: ClassVar[Mapping[str, Any]] = {"velocity": False}
    _rules: ClassVar[tuple[str, ...]] = (
        "rmsprop",
        "rmsprop_momentum",
        "rmsprop_centered",
        "rmsprop_centered_momentum",
    )

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        alpha: Number = 0.99,
        eps: Number = 1e-8,
        weight_decay: Number = 0,
        momentum: Number = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        eps_root: Number = 0,
        initial_square_avg: Number = 0,
        velocity: bool = False,
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
        centered = "_centered" if group["centered"] else ""
        has_momentum = group["momentum"] != 0 or group["velocity"] or "momentum" in scheduled
        momentum = "_momentum" if has_momentum else ""
        return f"rmsprop{centered}{momentum}", {
            name: group[name] for name in RMSprop._checks if name != "centered"
        }
