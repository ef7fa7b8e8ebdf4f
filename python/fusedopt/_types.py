"""Types that signatures share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, SupportsFloat, TypeAlias

import numpy as np
import numpy.typing as npt

#: A float32 or float64 array.
Array: TypeAlias = npt.NDArray[np.floating[Any]]


class SupportsDLPack(Protocol):
    """An array of another library, as a torch tensor."""

    def __dlpack__(self) -> Any:
        """Return a capsule that says where it lies."""
        ...


#: An array that is read or updated where it lies.
AnyArray: TypeAlias = Array | SupportsDLPack
#: Parameters: arrays in order, or by name, or groups of them with hyperparameters.
Params: TypeAlias = (
    Iterable[AnyArray]
    | Mapping[str, AnyArray]
    | Iterable[tuple[str, AnyArray]]
    | Iterable[Mapping[str, Any]]
)
#: One gradient, or None, for each parameter.
Grads: TypeAlias = Sequence[AnyArray | None] | Mapping[str, AnyArray | None]
#: What an engine is told of a group: a rule, its hyperparameters, the decay rate of an average.
GroupRule: TypeAlias = tuple[str, dict[str, float], float | None]
#: A list of hyperparameters, replaced where others are assigned, and for each of them the rule's
#: numbers that it stands for: their names, and from where to where they may be.
Written: TypeAlias = tuple[list[Any], list[list[tuple[str, float, float]]]]
#: Dicts, each with what it is brought up to date by, and lists with their new items.
Updates: TypeAlias = list[tuple[dict[str, Any], dict[str, Any]] | tuple[list[Any], list[Any]]]
#: Of each group the norms of gradients, updates and parameters, and how many elements of gradients
#: aren't finite.
Stats: TypeAlias = list[tuple[float, float, float, int]]
#: A number, or a function of how many steps were completed.
Number: TypeAlias = float | Callable[[int], SupportsFloat]
#: Two of them, or a function that gives both.
Pair: TypeAlias = tuple[Number, Number] | Callable[[int], tuple[float, float]]
