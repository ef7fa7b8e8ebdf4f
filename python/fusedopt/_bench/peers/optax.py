"""optax, compiled by JAX, with parameters and state donated so that they are updated in place."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from ..contest import Contestant
from ..workloads import RULES, Arrays


def _transformation(rule: str) -> Any:
    options = dict(RULES[rule].options)
    lr = options.pop("lr")
    if rule in ("SGD", "momentum", "Nesterov"):
        return optax.sgd(lr, momentum=options.get("momentum"), nesterov=rule == "Nesterov")
    if rule.startswith("RMSprop"):
        centered = rule == "RMSprop-centered"
        return optax.rmsprop(lr, decay=0.99, eps=1e-8, centered=centered, eps_in_sqrt=False)
    if rule == "Adam":
        return optax.adam(lr)
    return optax.adamw(lr, weight_decay=options["weight_decay"])


class Optax(Contestant):
    def __init__(self, rule: str, params: Arrays, grads: Arrays) -> None:
        super().__init__(grads)
        transformation = _transformation(rule)

        def update(arrays: Any, state: Any, gradients: Any) -> Any:
            updates, state = transformation.update(gradients, state, arrays)
            return optax.apply_updates(arrays, updates), state

        self._update = jax.jit(update, donate_argnums=(0, 1))
        self.arrays = [jax.numpy.array(p) for p in params]
        self.state = transformation.init(self.arrays)
        self.renew(grads)

    def bare_step(self) -> Callable[[], object]:
        return self._step

    def _step(self) -> None:
        self.arrays, self.state = self._update(self.arrays, self.state, self.grads)

    def finish(self) -> None:
        jax.block_until_ready((self.arrays, self.state))

    def renew(self, grads: Arrays) -> None:
        self.grads = [jax.numpy.array(g) for g in grads]
        jax.block_until_ready(self.grads)

    def params(self) -> Arrays:
        return [np.asarray(a) for a in self.arrays]


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    return Optax(rule, params, grads)
