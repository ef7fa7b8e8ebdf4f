"""torch's optimizers with steps of ours, for parameters on the CPU.

`SGD`, `RMSprop`, `Adam` and `AdamW` are subclasses of those in `torch.optim`: what isn't the step
itself is torch's. `docs/torch.md` says more.
"""

from .._config import suggest_threading_layer
from ._optimizers import SGD, Adam, AdamW, RMSprop

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]

# Right after torch's operations its threads are awake, and the cores are theirs.
suggest_threading_layer("openmp")
