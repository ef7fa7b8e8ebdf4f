"""DeepSpeedCPUAdam. It compiles its kernel, for this CPU, when it is first made."""

import ctypes
from functools import partial
from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

from ..contest import Contestant
from ..workloads import RULES, Arrays
from .torch import WithTensors


def make(variant: str, rule: str, params: Arrays, grads: Arrays) -> Contestant:
    """Return an optimizer over copies of the parameters."""
    options: dict[str, Any] = RULES[rule].options
    optimizer = partial(DeepSpeedCPUAdam, adamw_mode=rule == "AdamW", **options)
    return WithTensors(optimizer, params, grads)


def set_threads(count: int) -> None:
    """Set how many threads its kernel uses: that of OpenMP's runtime, which may not be torch's."""
    torch.set_num_threads(count)
    ctypes.CDLL("libgomp.so.1").omp_set_num_threads(count)
