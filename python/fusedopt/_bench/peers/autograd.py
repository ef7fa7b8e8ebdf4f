"""autograd's Adam: a function that takes a gradient function and a number of steps.

Its other optimizers follow other equations than the rest here.
"""

import time
from collections.abc import Callable
from functools import partial

from autograd.misc import optimizers

from ..contest import Contestant
from ..workloads import RULES, Arrays


class Autograd(Contestant):
    def __init__(self, rule: str, params: Arrays, grads: Arrays) -> None:
        super().__init__(grads)
        self._lr = RULES[rule].options["lr"]
        self.arrays = [p.copy() for p in params]
        self.grads = grads

    def bare_step(self) -> Callable[[], object]:
        return partial(self._steps, 1)

    def _steps(self, count: int) -> None:
        self.arrays = optimizers.adam(
            lambda params, i: self.grads, self.arrays, num_iters=count, step_size=self._lr
        )

    def run(self, count: int) -> float:
        begin = time.perf_counter()
        self._steps(count)  # a call of its own for each step would begin anew each time
        return time.perf_counter() - begin

    def run_fresh(self, count: int) -> float:
        """As run: each step copies its gradients into one flat array, so none is an old one."""
        return self.run(count)

    def renew(self, grads: Arrays) -> None:
        self.grads = grads

    def params(self) -> Arrays:
        return self.arrays


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    return Autograd(rule, params, grads)
