"""The optimizers in NumPy as tutorials write them: the equations, one array expression per line.

Arguments are named as in `fusedopt`, so that one dict of hyperparameters makes either. Python
floats don't widen float32 arrays, so all arithmetic stays in the dtype of the parameters.
"""

from typing import Any

import numpy as np

from ..contest import Contestant, WithOptimizer
from ..workloads import RULES, Arrays


class SGD:
    """Gradient descent, plain, with momentum or with Nesterov's."""

    def __init__(
        self, params: Arrays, lr: float = 1e-3, momentum: float = 0, nesterov: bool = False
    ) -> None:
        self.params = params
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.b = [np.zeros_like(p) for p in params]

    def step(self, grads: Arrays) -> None:
        """Update the parameters in place."""
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            if self.momentum == 0:
                p -= self.lr * g
                continue
            self.b[i] = self.momentum * self.b[i] + g
            if self.nesterov:
                p -= self.lr * (g + self.momentum * self.b[i])
            else:
                p -= self.lr * self.b[i]


class RMSprop:
    """RMSProp, plain or centered."""

    def __init__(
        self,
        params: Arrays,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        centered: bool = False,
    ) -> None:
        self.params = params
        self.lr = lr
        self.alpha = alpha
        self.eps = eps
        self.centered = centered
        self.v = [np.zeros_like(p) for p in params]
        self.a = [np.zeros_like(p) for p in params]

    def step(self, grads: Arrays) -> None:
        """Update the parameters in place."""
        alpha = self.alpha
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            self.v[i] = alpha * self.v[i] + (1 - alpha) * g**2
            variance = self.v[i]
            if self.centered:
                self.a[i] = alpha * self.a[i] + (1 - alpha) * g
                # Rounding may take the difference below zero, and its root is then NaN.
                variance = np.maximum(variance - self.a[i] ** 2, 0)
            p -= self.lr * g / (np.sqrt(variance) + self.eps)


class Adam:
    """Adam, or AMSGrad."""

    def __init__(
        self,
        params: Arrays,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
    ) -> None:
        self.params = params
        self.lr = lr
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.amsgrad = amsgrad
        self.t = 0
        self.m = [np.zeros_like(p) for p in params]
        self.v = [np.zeros_like(p) for p in params]
        self.w = [np.zeros_like(p) for p in params]

    def step(self, grads: Arrays) -> None:
        """Update the parameters in place."""
        self.t += 1
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * g
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g**2
            second_moment = self.v[i]
            if self.amsgrad:
                second_moment = self.w[i] = np.maximum(self.w[i], self.v[i])
            m_hat = self.m[i] / (1 - self.beta1**self.t)
            v_hat = second_moment / (1 - self.beta2**self.t)
            p -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    def __init__(self, params: Arrays, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
        super().__init__(params, lr)
        self.weight_decay = weight_decay

    def step(self, grads: Arrays) -> None:
        """Update the parameters in place."""
        for p in self.params:
            p *= 1 - self.lr * self.weight_decay
        super().step(grads)


_CLASSES: dict[str, Any] = {"SGD": SGD, "RMSprop": RMSprop, "Adam": Adam, "AdamW": AdamW}


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    name, options = RULES[rule]
    own = [p.copy() for p in params]
    return WithOptimizer(_CLASSES[name](own, **options), own, grads)
