"""Gradient descent, plain, with momentum and with Nesterov's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from ._hyperparameters import Check, finite, flag, non_negative, one_of
from ._types import Grads, Number, Params
from .optimizer import Optimizer, arguments_of_caller


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for; by default as `torch.optim.SGD`.

    With g the gradient (−g if ``maximize``), p the parameter and μ the momentum::

        # an L2 penalty, the default form of weight decay
        g ← g + weight_decay·p
        # decoupled_weight_decay, in place of it
        p ← (1 − lr·weight_decay)·p

        # if momentum = 0
        p ← p − lr·g

        # with momentum, at the first step (unless momentum_init="zeros")
        b ← g
        # and then
        b ← μ·b + (1 − dampening)·g
        p ← p − lr·b
        # with nesterov
        p ← p − lr·(g + μ·b)

        # with velocity, from b = 0
        b ← μ·b − lr·g
        p ← p + b
        # with nesterov
        p ← p + μ·b − lr·g

    Parameters
    ----------
    params : list of arrays, dict or pairs of names and arrays, or list of groups
        float32 or float64 arrays, updated in place: see `Optimizer`.
    lr : float, default 1e-3
        Learning rate, >= 0.
    momentum : float, default 0
        Momentum factor μ, >= 0. Where 0, there is no momentum buffer.
    dampening : float, default 0
        Dampening of the gradient in the momentum buffer; any finite number.
    weight_decay : float, default 0
        Weight decay, >= 0: an L2 penalty, or decoupled.
    nesterov : bool, default False
        Nesterov momentum; needs a momentum and no dampening.
    maximize : bool, default False
        Go up the gradient instead of down.
    decoupled_weight_decay : bool, default False
        Shrink the parameter before the step instead of adding to the gradient.
    momentum_init : {None, "gradient", "zeros"}, default None
        What a momentum buffer starts from when it is made: the first gradient, undamped, which None
        means too, or zero. Differs only with dampening; needs a momentum.
    velocity : bool, default False
        Keep the learning rate in the buffer. The same steps while ``lr`` is constant; when it
        falls, steps of the past keep their size. There is a buffer then whatever the momentum; it
        starts from zero, and without dampening. It can't be changed later.
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

    State: ``momentum_buffer`` (b), only with momentum.

    A moving average of the gradient, b ← a·b + (1 − a)·g, is ``momentum=a, dampening=a,
    momentum_init="zeros"``.

    Momentum: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods",
    1964. Nesterov momentum, and the velocity: I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On
    the importance of initialization and momentum in deep learning", ICML 2013. Decoupled weight
    decay (SGDW): I. Loshchilov and F. Hutter, ICLR 2019; here multiplied by ``lr``, as in Keras.
    docs/forms.md says which library has which form.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> x = np.array([4.0, -2.0])
    >>> opt = fusedopt.SGD([x], lr=0.1, momentum=0.5)
    >>> for _ in range(100):
    ...     opt.step([2 * x])  # the gradient of x²
    >>> bool(np.all(abs(x) < 1e-6))
    True
    >>> fusedopt.SGD([x], lr=0.1)
    SGD(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, \
decoupled_weight_decay=False, momentum_init=None, velocity=False, ema_decay=None; 1 array, \
2 elements, float64)
    """

    _checks: ClassVar[Mapping[str, Check]] = {
        "lr": non_negative,
        "momentum": non_negative,
        "dampening": finite,
        "weight_decay": non_negative,
        "nesterov": flag,
        "maximize": flag,
        "decoupled_weight_decay": flag,
        "momentum_init": one_of(None, "gradient", "zeros"),
        "velocity": flag,
    }
    _lasting: ClassVar[Mapping[str, Any]] = {"velocity": False}
    _rules: ClassVar[tuple[str, ...]] = ("sgd", "momentum")
    _step_may_be_missing: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        momentum: Number = 0,
        dampening: Number = 0,
        weight_decay: Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        momentum_init: str | None = None,
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
        has_momentum = group["momentum"] != 0 or "momentum" in scheduled
        _require_fitting(group, has_momentum)
        names = ["lr", "weight_decay", "decoupled_weight_decay", "maximize"]
        if not has_momentum and not group["velocity"]:
            return "sgd", {name: group[name] for name in names}
        names += ["momentum", "dampening", "nesterov", "velocity"]
        zero_init = group["velocity"] or group["momentum_init"] == "zeros"
        return "momentum", {**{name: group[name] for name in names}, "zero_init": zero_init}

    def lookahead(self) -> AbstractContextManager[None]:
        """Hold the parameters ahead, where Nesterov evaluates the gradient, for a ``with`` block.

        Inside the block each parameter is p + μ·v, where its velocity v alone would carry it; at
        its end they are what they were, bit for bit, also where it ends by an exception.
        The step that follows is then Nesterov's own::

            v ← μ·v − lr·∇f(p + μ·v)
            p ← p + v

        A copy of the parameters is kept from the first time on.

        Raises
        ------
        ValueError
            If the optimizer isn't one with ``velocity=True``, ``nesterov=False`` and a momentum
            above 0; if a parameter can no longer be updated in place.
        RuntimeError
            If the parameters are ahead already; ``step`` raises it inside the block.

        Notes
        -----
        Y. Nesterov, "A method of solving a convex programming problem with convergence rate
        O(1/k²)", 1983. ``nesterov=True`` needs no second look at the gradient: it keeps the
        parameters ahead all the time, p + μ·v in place of p.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> x = np.array([4.0, -2.0])
        >>> opt = fusedopt.SGD([x], lr=0.1, momentum=0.5, velocity=True)
        >>> for _ in range(100):
        ...     with opt.lookahead():
        ...         grads = [2 * x]  # the gradient of x², ahead
        ...     opt.step(grads)
        >>> bool(np.all(abs(x) < 1e-6))
        True
        """
        for group in self._groups:
            momentum = group["momentum"]
            if not group["velocity"] or group["nesterov"] or momentum == 0:
                raise ValueError(
                    "lookahead(): needs velocity=True, nesterov=False and a momentum above 0, got "
                    f"velocity={group['velocity']}, nesterov={group['nesterov']}, "
                    f"momentum={momentum}"
                )
        with self._engine.held("lookahead()"):
            self._configure()
            step = self.completed_steps
            momenta = [group.values_at(step)["momentum"] for group in self._groups]
            return self._engine.lookahead([momenta[k] for k, _ in self._parts])


def _require_fitting(group: Mapping[str, Any], has_momentum: bool) -> None:
    dampening = group["dampening"]
    if group["nesterov"] and not has_momentum:
        raise ValueError("nesterov: needs a momentum above 0, got momentum=0.0")
    if group["nesterov"] and dampening != 0:
        raise ValueError(f"nesterov: needs a dampening of 0, got dampening={dampening}")
    if group["velocity"] and dampening != 0:
        raise ValueError(f"velocity: needs a dampening of 0, got dampening={dampening}")
    init = group["momentum_init"]
    if group["velocity"] and init == "gradient":
        raise ValueError("momentum_init: a velocity starts from zero, got 'gradient'")
    if init is not None and not has_momentum and not group["velocity"]:
        raise ValueError(f"momentum_init: needs a momentum above 0, got {init!r} with momentum=0.0")
