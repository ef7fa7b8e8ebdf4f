"""thinc, which spaCy trains with: one call for each parameter, in compiled code."""

from collections.abc import Callable

from thinc.api import NumpyOps, set_current_ops
from thinc.optimizers import Optimizer

from ..contest import Contestant
from ..workloads import RULES, Arrays


class Thinc(Contestant):
    def __init__(self, rule: str, params: Arrays, grads: Arrays) -> None:
        super().__init__(grads)
        set_current_ops(NumpyOps())
        self.optimizer = Optimizer(
            RULES[rule].options["lr"],
            L2=0.0,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            grad_clip=0.0,
            use_averages=False,
        )
        self.arrays = [p.copy() for p in params]
        self.grads = [g.copy() for g in grads]

    def bare_step(self) -> Callable[[], object]:
        return self._step

    def _step(self) -> None:
        update = self.optimizer
        for i, (p, g) in enumerate(zip(self.arrays, self.grads, strict=True)):
            update((i, "p"), p, g)

    def renew(self, grads: Arrays) -> None:
        self.grads = grads

    def run(self, count: int) -> float:
        # It sets gradients to zero as it goes: give it real ones again.
        for g, original in zip(self.grads, self._originals, strict=True):
            g[...] = original
        return super().run(count)

    def params(self) -> Arrays:
        return self.arrays


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    return Thinc(rule, params, grads)
