"""The best that NumPy alone can do: every operation writes into memory that is there already.

Long arrays are worked on in blocks that stay in the cache, so that memory is gone over once.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contest import Contestant, WithOptimizer
from ..workloads import RULES, Arrays

Array = npt.NDArray[Any]

#: Elements: all streams of a block, and two for intermediate results, fit a core's own cache.
BLOCK = 16_384


class InPlace:
    """Any of the rules."""

    def __init__(
        self,
        params: Arrays,
        rule: str,
        *,
        lr: float,
        momentum: float = 0,
        nesterov: bool = False,
        centered: bool = False,
        amsgrad: bool = False,
        weight_decay: float = 0,
    ) -> None:
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov
        self.centered, self.amsgrad, self.weight_decay = centered, amsgrad, weight_decay
        updates: dict[str, Callable[..., None]] = {"SGD": self.sgd, "RMSprop": self.rmsprop}
        self.update = updates.get(rule, self.adam)
        self.t = 0
        self.flat = [p.reshape(-1) for p in params]
        self.states = [[np.zeros_like(p) for _ in range(3)] for p in self.flat]
        size = min(BLOCK, max((p.size for p in self.flat), default=0))
        self.scratch = [np.empty(size, p.dtype) for p in self.flat[:1] for _ in range(2)]

    def step(self, grads: Arrays) -> None:
        """Update the parameters in place."""
        self.t += 1
        self.root_scale = 1 / (1 - 0.999**self.t) ** 0.5
        self.step_size = self.lr / (1 - 0.9**self.t)
        for p, g, states in zip(self.flat, grads, self.states, strict=True):
            for block in _blocks(p, g.reshape(-1), *states):
                x, y = (scratch[: block[0].size] for scratch in self.scratch)
                self.update(x, y, *block)

    def sgd(self, x: Array, y: Array, p: Array, g: Array, b: Array, *unused: Array) -> None:
        if self.momentum:
            np.multiply(b, self.momentum, out=b)
            np.add(b, g, out=b)
            if self.nesterov:
                np.multiply(b, self.momentum, out=x)
                np.add(x, g, out=x)
                g = x
            else:
                g = b
        np.multiply(g, self.lr, out=x)
        np.subtract(p, x, out=p)

    def rmsprop(self, x: Array, y: Array, p: Array, g: Array, v: Array, a: Array, _: Array) -> None:
        _average(v, 0.99, np.multiply(g, g, out=x))
        root = v
        if self.centered:
            _average(a, 0.99, np.multiply(g, 1, out=x))
            np.multiply(a, a, out=x)
            np.subtract(v, x, out=x)
            root = np.maximum(x, 0, out=x)
        np.sqrt(root, out=x)
        np.add(x, 1e-8, out=x)
        np.divide(g, x, out=x)
        np.multiply(x, self.lr, out=x)
        np.subtract(p, x, out=p)

    def adam(self, x: Array, y: Array, p: Array, g: Array, m: Array, v: Array, w: Array) -> None:
        if self.weight_decay:
            np.multiply(p, 1 - self.lr * self.weight_decay, out=p)
        np.multiply(m, 0.9, out=m)
        np.add(m, np.multiply(g, 1 - 0.9, out=x), out=m)
        _average(v, 0.999, np.multiply(g, g, out=x))
        root = np.maximum(w, v, out=w) if self.amsgrad else v
        np.sqrt(root, out=x)
        np.multiply(x, self.root_scale, out=x)
        np.add(x, 1e-8, out=x)
        np.multiply(m, self.step_size, out=y)
        np.divide(y, x, out=x)
        np.subtract(p, x, out=p)


def _average(average: Array, decay: float, x: Array) -> None:
    """Update a running average in place; x is used up."""
    np.multiply(average, decay, out=average)
    np.multiply(x, 1 - decay, out=x)
    np.add(average, x, out=average)


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    size = arrays[0].size
    if size <= BLOCK:
        yield arrays
        return
    for begin in range(0, size, BLOCK):
        yield tuple(a[begin : begin + BLOCK] for a in arrays)


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    name, options = RULES[rule]
    own = [p.copy() for p in params]
    return WithOptimizer(InPlace(own, name, **options), own, grads)
