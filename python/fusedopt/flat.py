"""Many arrays in one block of memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ._types import Array

Shape: TypeAlias = int | Iterable[int]

_CACHE_LINE = 64  # bytes


@overload
def flat_views(
    shapes: Mapping[str, Shape], dtype: npt.DTypeLike = ...
) -> tuple[Array, dict[str, Array]]: ...
@overload
def flat_views(
    shapes: Iterable[Shape], dtype: npt.DTypeLike = ...
) -> tuple[Array, list[Array]]: ...
def flat_views(
    shapes: Iterable[Shape] | Mapping[str, Shape], dtype: npt.DTypeLike = np.float32
) -> tuple[Array, list[Array] | dict[str, Array]]:
    """Return one flat array of zeros, and views of the given shapes that fill it from end to end.

    The fastest way to have many small parameters: make parameters and gradients like this, let the
    model work with the views and the optimizer with the flat arrays. A step then looks at one array
    and runs one loop, however many parameters there are.

    An optimizer that gets the views is nearly as fast, and shows their state one by one:
    parameters that lie side by side get their state side by side, and if their gradients do, too,
    one loop goes over all of them. Results are the same bits in each case.

    Parameters
    ----------
    shapes : list of shapes, or dict of names and shapes
        A shape is an int or a sequence of ints, >= 0.
    dtype : data type, default float32
        float32 or float64.

    Returns
    -------
    flat : array
        One-dimensional, aligned to 64 bytes.
    views : list of arrays, or dict of names and arrays
        In the order of ``shapes``. What is written into one is in ``flat``, and vice versa.

    Raises
    ------
    TypeError
        If ``dtype`` is another, a name is not a str, or a shape is not made of ints.
    ValueError
        If a shape has a negative number.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> shapes = {"weight": (3, 2), "bias": 2}
    >>> flat, params = fusedopt.flat_views(shapes, np.float64)
    >>> flat_grad, grads = fusedopt.flat_views(shapes, np.float64)
    >>> opt = fusedopt.SGD([flat], lr=0.5)
    >>> grads["bias"][:] = [2.0, 4.0]
    >>> opt.step([flat_grad])
    >>> params["bias"]
    array([-1., -2.])
    """
    number_type = np.dtype(dtype)
    if number_type not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype: expected float32 or float64, got {number_type}")
    if isinstance(shapes, Mapping):
        for name in shapes:
            if not isinstance(name, str):
                raise TypeError(f"shapes: expected str as names, got {name!r}")
        sizes = [_as_shape(f"shapes[{name!r}]", shape) for name, shape in shapes.items()]
    else:
        sizes = [_as_shape(f"shapes[{i}]", shape) for i, shape in enumerate(shapes)]
    flat = _aligned_zeros(sum(map(math.prod, sizes)), number_type)
    views = []
    begin = 0
    for shape in sizes:
        end = begin + math.prod(shape)
        views.append(flat[begin:end].reshape(shape))
        begin = end
    if isinstance(shapes, Mapping):
        return flat, dict(zip(shapes, views, strict=True))
    return flat, views


def _as_shape(name: str, shape: Shape) -> tuple[int, ...]:
    try:
        numbers = tuple(map(index, shape)) if isinstance(shape, Iterable) else (index(shape),)
    except TypeError:
        raise TypeError(f"{name}: expected an int or ints, got {shape!r}") from None
    if any(number < 0 for number in numbers):
        raise ValueError(f"{name}: expected numbers >= 0, got {shape!r}")
    return numbers


def _aligned_zeros(size: int, dtype: np.dtype[Any]) -> Array:
    block = np.zeros(size * dtype.itemsize + _CACHE_LINE, np.uint8)
    begin = -block.ctypes.data % _CACHE_LINE
    flat: Array = block[begin : begin + size * dtype.itemsize].view(dtype)
    return flat
