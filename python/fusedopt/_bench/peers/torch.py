"""torch.optim: fused, foreach, default (a loop over tensors), and compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import swa_utils

import fusedopt.torch

from .. import whole_step
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
        self, optimizer: Callable[[list[torch.nn.Parameter]], Any], params: Arrays, grads: Arrays
    ) -> None:
        super().__init__(grads)
        self.tensors = [torch.nn.Parameter(torch.tensor(p)) for p in params]
        self.renew([g.copy() for g in grads])  # foreach with Nesterov writes into gradients
        self._optimizer = optimizer(self.tensors)
        self._step = self._optimizer.step

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
        self, optimizer: Callable[[list[torch.nn.Parameter]], Any], params: Arrays, grads: Arrays
    ) -> None:
        super().__init__(optimizer, params, grads)
        torch.compiler.reset()  # it remembers, and limits, what it compiled for others
        self._step = torch.compile(self._step)


class WholeStep(WithTensors):
    """As torch's documentation puts it together, with the variants that are fastest here.

    Unscaling is a plain multiplication: `torch.amp.GradScaler` looks for infinities besides.
    """

    def __init__(self, params: Arrays, grads: Arrays) -> None:
        name, options = RULES[whole_step.RULE]
        optimizer = partial(getattr(torch.optim, name), **options, **_VARIANTS["fused"])
        super().__init__(optimizer, params, grads)
        self._model = torch.nn.ParameterList(self.tensors)
        average = swa_utils.get_ema_multi_avg_fn(whole_step.DECAY)
        self._averaged = swa_utils.AveragedModel(self._model, multi_avg_fn=average)
        self._averaged.update_parameters(self._model)  # the first time it copies

    def bare_step(self) -> Callable[[], object]:
        return self._whole_step

    def _whole_step(self) -> None:
        grads = [tensor.grad for tensor in self.tensors]
        torch._foreach_mul_(grads, 1 / whole_step.LOSS_SCALE)
        torch.nn.utils.clip_grad_norm_(self.tensors, whole_step.MAX_NORM)
        self._optimizer.step()
        self._averaged.update_parameters(self._model)
        self._optimizer.zero_grad(set_to_none=False)


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    name, options = RULES[rule]
    optimizer = partial(getattr(torch.optim, name), **options, **_VARIANTS[variant])
    contestant = Compiled if variant == "compile" else WithTensors
    return contestant(optimizer, params, grads)


def make_front(rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return fusedopt.torch's optimizer over copies of the parameters."""
    name, options = RULES[rule]
    return WithTensors(partial(getattr(fusedopt.torch, name), **options), params, grads)


def set_threads(count: int) -> None:
    """Set how many threads torch uses."""
    torch.set_num_threads(count)
