"""Types that signatures share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: A float32 or float64 array.
Array: TypeAlias = npt.NDArray[np.floating[Any]]
#: Parameters: arrays in order, or by name.
Params: TypeAlias = Iterable[Array] | Mapping[str, Array]
#: One gradient, or None, for each parameter.
Grads: TypeAlias = Sequence[Array | None] | Mapping[str, Array | None]
