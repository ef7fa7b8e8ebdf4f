"""Fused, multi-threaded SIMD optimizers that update NumPy arrays in place."""

from contextlib import suppress

from . import functional, reference, schedules
from ._config import (
    get_num_threads,
    get_threading_layer,
    set_flush_denormal,
    set_num_threads,
    set_threading_layer,
    show_config,
)
from ._core import __version__
from ._step_options import GroupStats, StepResult
from .adam import Adam, AdamW
from .flat import flat_views
from .loss_scaler import LossScaler
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

with suppress(ImportError):  # where it is installed, and new enough to take others' libraries
    from . import _threadpoolctl  # noqa: F401

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "GroupStats",
    "LossScaler",
    "Optimizer",
    "RMSprop",
    "StepResult",
    "__version__",
    "flat_views",
    "functional",
    "get_num_threads",
    "get_threading_layer",
    "reference",
    "schedules",
    "set_flush_denormal",
    "set_num_threads",
    "set_threading_layer",
    "show_config",
]
