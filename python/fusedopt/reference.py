"""The specification: every rule in plain NumPy, with the constructors, step and state of fusedopt.

`fusedopt` computes the same, bit for bit, in the dtype of the parameters, as long as intermediate
values are normal numbers (and for subnormals too after ``fusedopt.set_flush_denormal(False)``).
The order of operations below is therefore exact, and so is where a scalar is rounded: scalars are
computed in double precision and rounded once, by ``T``, to the dtype of the arrays.

Nothing here is written for speed, and arrays are not checked as `fusedopt` checks them. Use it to
read, to test against, and to compare with.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import adam, rmsprop, sgd
from ._state import Engine
from ._types import Array, Grads
from .optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]


def _objective(p: Array, g: Array, maximize: bool, weight_decay: float = 0) -> Array:
    """Return the gradient to descend along: negated to maximize, plus L2 weight decay."""
    T = p.dtype.type
    if maximize:
        g = -g
    if T(weight_decay) != 0:
        g = g + T(weight_decay) * p
    return g


class _InNumPy(Optimizer):
    """An optimizer that steps in NumPy: one `_update` for each parameter that has a gradient."""

    #: (p, g, state, t, **hyperparameters): updates p and its state in place at step t, from 1.
    _update: ClassVar[Callable[..., None]]

    def _make_engine(self, params: list[Array], names: tuple[str, ...] | None) -> Engine:
        return _NumPyEngine(self, params, names)


class _NumPyEngine:
    def __init__(self, optimizer: _InNumPy, params: list[Array], names: Any) -> None:
        self._optimizer = optimizer
        self._params = params
        self._names = names
        self._states: list[dict[str, Array]] = [{} for _ in params]
        self.step_counts: npt.NDArray[np.int64] = np.zeros(len(params), np.int64)

    def configure(self, rule: str, hyperparameters: dict[str, float]) -> None:
        """Nothing to do: the reference reads the parameter group at each step."""

    def state(self, index: int) -> dict[str, Array]:
        return self._states[index]

    def step(self, grads: Grads) -> None:
        in_order = [grads[n] for n in self._names] if isinstance(grads, Mapping) else list(grads)
        if len(grads) != len(self._params):
            raise ValueError(f"grads: expected {len(self._params)}, got {len(grads)}")
        for i, (p, g) in enumerate(zip(self._params, in_order, strict=True)):
            if g is not None and (g.shape, g.dtype) != (p.shape, p.dtype):
                raise ValueError(
                    f"grads[{i}]: expected {p.dtype} {p.shape}, got {g.dtype} {g.shape}"
                )
        hyper = self._optimizer._group.hyperparameters()
        with np.errstate(all="ignore"):
            for i, (p, g) in enumerate(zip(self._params, in_order, strict=True)):
                if g is not None:
                    self.step_counts[i] += 1
                    t = int(self.step_counts[i])
                    self._optimizer._update(p, g, self._states[i], t, **hyper)


class SGD(_InNumPy, sgd.SGD):
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
        *,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
    ) -> None:
        T = p.dtype.type
        g = _objective(p, g, maximize, weight_decay)
        if momentum != 0:
            if "momentum_buffer" not in state:
                b = state["momentum_buffer"] = np.array(g)
            else:
                b = state["momentum_buffer"]
                b[...] = T(momentum) * b + T(1 - dampening) * g
            g = g + T(momentum) * b if nesterov else b
        p[...] = p - T(lr) * g


class RMSprop(_InNumPy, rmsprop.RMSprop):
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
        *,
        lr: float,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
        centered: bool,
        maximize: bool,
    ) -> None:
        T = p.dtype.type
        g = _objective(p, g, maximize, weight_decay)
        v = state.setdefault("square_avg", np.zeros_like(p))
        v[...] = T(alpha) * v + T(1 - alpha) * (g * g)
        variance: Array = v
        if centered:
            a = state.setdefault("grad_avg", np.zeros_like(p))
            a[...] = a + T(1 - alpha) * (g - a)
            variance = np.maximum(v - a * a, T(0))
        direction: Array = g / (np.sqrt(variance) + T(eps))
        if momentum != 0:
            b = state.setdefault("momentum_buffer", np.zeros_like(p))
            b[...] = T(momentum) * b + direction
            direction = b
        p[...] = p - T(lr) * direction


class Adam(_InNumPy, adam.Adam):
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
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        maximize: bool,
    ) -> None:
        T = p.dtype.type
        beta1, beta2 = betas
        keep = 1.0
        if cls._decoupled:
            keep = 1 - lr * weight_decay
            g = _objective(p, g, maximize)
        else:
            g = _objective(p, g, maximize, weight_decay)
        m = state.setdefault("exp_avg", np.zeros_like(p))
        v = state.setdefault("exp_avg_sq", np.zeros_like(p))
        m[...] = T(beta1) * m + T(1 - beta1) * g
        v[...] = T(beta2) * v + T(1 - beta2) * (g * g)
        if amsgrad:
            w = state.setdefault("max_exp_avg_sq", np.zeros_like(p))
            w[...] = np.maximum(w, v)
            v = w
        step_size = T(lr / (1 - beta1**t))
        root_scale = T(1 / math.sqrt(1 - beta2**t))
        p[...] = T(keep) * p - step_size * m / (root_scale * np.sqrt(v) + T(eps))


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
