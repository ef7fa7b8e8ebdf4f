"""scikit-learn's optimizers for its multilayer perceptrons."""

from typing import Any

from sklearn.neural_network import _stochastic_optimizers as optimizers

from ..contest import Contestant, WithOptimizer
from ..workloads import RULES, Arrays


class _Steps:
    def __init__(self, optimizer: Any, params: Arrays) -> None:
        self.update = optimizer.update_params
        self.params = params

    def step(self, grads: Arrays) -> None:
        self.update(self.params, grads)


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    own = [p.copy() for p in params]
    options = RULES[rule].options
    optimizer: Any
    if rule == "Adam":
        optimizer = optimizers.AdamOptimizer(own, options["lr"])
    else:
        optimizer = optimizers.SGDOptimizer(
            own, options["lr"], momentum=options["momentum"], nesterov=rule == "Nesterov"
        )
    return WithOptimizer(_Steps(optimizer, own), own, grads)
