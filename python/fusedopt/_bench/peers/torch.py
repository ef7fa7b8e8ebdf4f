"""torch.optim: fused, foreach, default (a loop over tensors), and compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..contest import Contestant
from ..workloads import RULES, Arrays

_VARIANTS: dict[str, dict[str, bool]] = {
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "default": {"foreach": False},
    "compile": {"foreach": True},  # as torch's documentation of compiled optimizers has it
}


class WithTensors(Contestant):
    """Copies of the parameters as tensors, and the optimizer that `optimizer` makes of them."""

    def __init__(
        self, optimizer: Callable[[list[torch.Tensor]], Any], params: Arrays, grads: Arrays
    ) -> None:
        super().__init__(grads)
        self.tensors = [torch.tensor(p, requires_grad=True) for p in params]
        self.renew([g.copy() for g in grads])  # foreach with Nesterov writes into gradients
        self._step = optimizer(self.tensors).step

    def bare_step(self) -> Callable[[], object]:
        step: Callable[[], object] = self._step
        return step

    def renew(self, grads: Arrays) -> None:
        for tensor, g in zip(self.tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(g)

    def params(self) -> Arrays:
        return [tensor.detach().numpy() for tensor in self.tensors]


class Compiled(WithTensors):
    """Its step is compiled when it is first taken."""

    def __init__(
        self, optimizer: Callable[[list[torch.Tensor]], Any], params: Arrays, grads: Arrays
    ) -> None:
        super().__init__(optimizer, params, grads)
        torch.compiler.reset()  # it remembers, and limits, what it compiled for others
        self._step = torch.compile(self._step)


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    name, options = RULES[rule]
    optimizer = partial(getattr(torch.optim, name), **options, **_VARIANTS[variant])
    contestant = Compiled if variant == "compile" else WithTensors
    return contestant(optimizer, params, grads)


def set_threads(count: int) -> None:
    """Set how many threads torch uses."""
    torch.set_num_threads(count)
