"""DeepSpeedCPUAdam. It compiles its kernel, for this CPU, when it is first made."""

import ctypes
from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

from ..contest import Contestant
from ..workloads import RULES, Arrays
from .torch import Torch


class DeepSpeed(Torch):
    def __init__(self, rule: str, params: Arrays, grads: Arrays) -> None:
        Contestant.__init__(self, grads)
        options: dict[str, Any] = RULES[rule].options
        self.tensors = [torch.tensor(p, requires_grad=True) for p in params]
        self.renew(grads)
        self.optimizer = DeepSpeedCPUAdam(self.tensors, adamw_mode=rule == "AdamW", **options)
        self._step = self.optimizer.step


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    return DeepSpeed(rule, params, grads)


def set_threads(count: int) -> None:
    """Set how many threads its kernel uses: that of OpenMP's runtime, which may not be torch's."""
    torch.set_num_threads(count)
    ctypes.CDLL("libgomp.so.1").omp_set_num_threads(count)
