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
    shapes: Mapping[str, Shape], dtype: npt.DTypeLike = ..., *, align: int | None = ...
) -> tuple[Array, dict[str, Array]]: ...
@overload
def flat_views(
    shapes: Iterable[Shape], dtype: npt.DTypeLike = ..., *, align: int | None = ...
) -> tuple[Array, list[Array]]: ...
def flat_views(
    shapes: Iterable[Shape] | Mapping[str, Shape],
    dtype: npt.DTypeLike = np.float32,
    *,
    align: int | None = None,
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
    align : int, optional
        Let each view begin at a multiple of so many bytes, a power of two from 8 to 4096. There are
        zeros between views then, which stay zeros where their gradients do. JAX, for one, reads
        NumPy's arrays without a copy where they are aligned to 64 bytes.

    Returns
    -------
    flat : array
        One-dimensional, aligned to 64 bytes, or more with ``align``.
    views : list of arrays, or dict of names and arrays
        In the order of ``shapes``. What is written into one is in ``flat``, and vice versa.

    Raises
    ------
    TypeError
        If ``dtype`` is another, a name is not a str, or a shape or ``align`` is not made of ints.
    ValueError
        If a shape has a negative number, or ``align`` is another number.

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
    step = _as_alignment(align) // number_type.itemsize if align is not None else 1
    begins, end = [], 0
    for shape in sizes:
        begins.append(-(-end // step) * step)
        end = begins[-1] + math.prod(shape)
    flat = _aligned_zeros(end, number_type, max(_CACHE_LINE, align or 0))
    views = [
        flat[begin : begin + math.prod(shape)].reshape(shape)
        for begin, shape in zip(begins, sizes, strict=True)
    ]
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


def _as_alignment(align: int) -> int:
    try:
        number = index(align)
    except TypeError:
        raise TypeError(f"align: expected an int, got {align!r}") from None
    if not 8 <= number <= 4096 or number & (number - 1):
        raise ValueError(f"align: expected a power of two from 8 to 4096, got {number}")
    return number


def _aligned_zeros(size: int, dtype: np.dtype[Any], align: int) -> Array:
    block = np.zeros(size * dtype.itemsize + align, np.uint8)
    begin = -block.ctypes.data % align
    flat: Array = block[begin : begin + size * dtype.itemsize].view(dtype)
    return flat
