"""In-place updates for callers who own their state.

The same kernels and checks as the optimizer classes, without an object: each function takes the
parameters, their gradients and their state arrays, each as one array or as a list of arrays, and
updates parameters and state in place. A call happens whole or, when it raises, not at all.
"""

from ._adam import adam_, adamw_
from ._average import ema_, global_norm
from ._rmsprop import rmsprop_
from ._sgd import sgd_

__all__ = ["adam_", "adamw_", "ema_", "global_norm", "rmsprop_", "sgd_"]
