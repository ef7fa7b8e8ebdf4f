"""The specification: every rule in plain NumPy, with the constructors, step and state of fusedopt.

`fusedopt` computes the same, bit for bit, in the dtype of the parameters, as long as intermediate
values are normal numbers (and for subnormals too after ``fusedopt.set_flush_denormal(False)``).
The order of operations below is therefore exact, and so is where a scalar is rounded: scalars are
computed in double precision and rounded once, by ``T``, to the dtype of the arrays.

Nothing here is written for speed, and arrays are not checked as `fusedopt` checks them. Use it to
read, to test against, and to compare with.
"""

import math

import numpy as np

from .. import adam, rmsprop, sgd
from .._types import Array
from ._engine import InNumPy
from ._power import power

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]


def _regularize(
    p: Array, g: Array, lr: float, weight_decay: float, decoupled: bool, maximize: bool
) -> tuple[Array, Array]:
    """Return what the parameter is before the step, and the gradient to descend along."""
    T = p.dtype.type
    if maximize:
        g = -g
    if decoupled:
        return T(1 - lr * weight_decay) * p, g
    if T(weight_decay) != 0:
        g = g + T(weight_decay) * p
    return p, g


class SGD(InNumPy, sgd.SGD):
    """The specification of `fusedopt.SGD`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt import reference
    >>> p = np.array([1.0, 2.0])
    >>> reference.SGD([p], lr=0.5).step([np.array([1.0, 2.0])])
    >>> p
    array([0.5, 1. ])
    """

    @classmethod
    def _update(
        cls,
        p: Array,
        g: Array,
        state: dict[str, Array],
        t: int,
        rule: str,
        *,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
        decoupled_weight_decay: bool,
        momentum_init: str | None,
        velocity: bool,
    ) -> None:
        T = p.dtype.type
        start, g = _regularize(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
        if rule == "sgd":
            p[...] = start - T(lr) * g
            return
        missing = "momentum_buffer" not in state
        b = state.setdefault("momentum_buffer", np.zeros_like(p))
        if velocity:
            b[...] = T(momentum) * b - T(lr) * g
            p[...] = start + (T(momentum) * b - T(lr) * g if nesterov else b)
            return
        if missing and momentum_init != "zeros":
            b[...] = g
        else:
            b[...] = T(momentum) * b + T(1 - dampening) * g
        p[...] = start - T(lr) * (g + T(momentum) * b if nesterov else b)


class RMSprop(InNumPy, rmsprop.RMSprop):
    """The specification of `fusedopt.RMSprop`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt import reference
    >>> p = np.array([1.0, 2.0])
    >>> reference.RMSprop([p], lr=0.5, alpha=0, eps=0).step([np.array([1.0, -2.0])])
    >>> p
    array([0.5, 2.5])
    """

    @classmethod
    def _update(
        cls,
        p: Array,
        g: Array,
        state: dict[str, Array],
        t: int,
        rule: str,
        *,
        lr: float,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
        centered: bool,
        maximize: bool,
        decoupled_weight_decay: bool,
        eps_root: float,
        initial_square_avg: float,
        velocity: bool,
    ) -> None:
        T = p.dtype.type
        start, g = _regularize(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
        v = state.setdefault("square_avg", np.full_like(p, T(initial_square_avg)))
        v[...] = T(alpha) * v + T(1 - alpha) * (g * g)
        variance: Array = v
        if centered:
            a = state.setdefault("grad_avg", np.zeros_like(p))
            a[...] = a + T(1 - alpha) * (g - a)
            variance = np.maximum(v - a * a, T(0))
        direction: Array = g / (np.sqrt(variance + T(eps_root)) + T(eps))
        if not rule.endswith("momentum"):
            p[...] = start - T(lr) * direction
            return
        b = state.setdefault("momentum_buffer", np.zeros_like(p))
        if velocity:
            b[...] = T(momentum) * b - T(lr) * direction
            p[...] = start + b
        else:
            b[...] = T(momentum) * b + direction
            p[...] = start - T(lr) * b


class Adam(InNumPy, adam.Adam):
    """The specification of `fusedopt.Adam`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt import reference
    >>> p = np.array([1.0, 2.0])
    >>> reference.Adam([p], lr=0.5, eps=0).step([np.array([1.0, -2.0])])
    >>> p
    array([0.5, 2.5])
    """

    @classmethod
    def _update(
        cls,
        p: Array,
        g: Array,
        state: dict[str, Array],
        t: int,
        rule: str,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        maximize: bool,
        decoupled_weight_decay: bool,
        bias_correction: bool,
        eps_root: float,
        eps_hat: bool,
        amsgrad_max: str,
    ) -> None:
        T = p.dtype.type
        beta1, beta2 = betas
        correction1 = 1 - power(beta1, t) if bias_correction else 1
        correction2 = 1 - power(beta2, t) if bias_correction else 1
        start, g = _regularize(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
        m = state.setdefault("exp_avg", np.zeros_like(p))
        v = state.setdefault("exp_avg_sq", np.zeros_like(p))
        m[...] = T(beta1) * m + T(1 - beta1) * g
        v[...] = T(beta2) * v + T(1 - beta2) * (g * g)
        if amsgrad:
            w = state.setdefault("max_exp_avg_sq", np.zeros_like(p))
            if amsgrad_max == "corrected":
                w[...] = np.maximum(w, T(1 / correction2) * v)
                correction2 = 1  # what w needs yet
            else:
                w[...] = np.maximum(w, v)
            v = w
        if eps_hat:
            step_size = T(lr * math.sqrt(correction2) / correction1)
            p[...] = start - step_size * m / (np.sqrt(v) + T(eps))
            return
        # The root of v / correction2 + eps_root, without a division of the array.
        root = T(1 / math.sqrt(correction2)) * np.sqrt(v + T(eps_root * correction2))
        p[...] = start - T(lr / correction1) * m / (root + T(eps))


class AdamW(Adam, adam.AdamW):
    """The specification of `fusedopt.AdamW`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt import reference
    >>> p = np.array([1.0, 2.0])
    >>> reference.AdamW([p], lr=0.5, weight_decay=0.5).step([np.zeros(2)])
    >>> p
    array([0.75, 1.5 ])
    """
