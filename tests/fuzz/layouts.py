"""Arrays in memory: apart, side by side, or at odd places within a cache line."""

from typing import Any

import numpy as np

from .values import numbers

LINE = 64  # bytes

Array = Any


def draw_shapes(rng: np.random.Generator, count: int) -> list[tuple[int, ...]]:
    """Return shapes of few elements, around the widths of vectors; now and then a long one."""
    shapes: list[tuple[int, ...]] = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.08:
            shapes.append(())
        elif kind < 0.3:
            shapes.append(tuple(int(n) for n in rng.integers(0, 7, rng.integers(2, 5))))
        elif kind < 0.36:
            shapes.append((int(rng.integers(71, 9001)),))
        else:
            shapes.append((int(rng.integers(0, 71)),))
    return shapes


def draw_dtypes(rng: np.random.Generator, count: int) -> list[Any]:
    mode = rng.integers(4)
    if mode < 2:
        return [np.dtype(np.float32 if mode else np.float64)] * count
    return [np.dtype(rng.choice([np.float32, np.float64])) for _ in range(count)]


def place(rng: np.random.Generator, shapes: list[Any], dtypes: list[Any]) -> list[Array]:
    """Return arrays of these shapes and dtypes, with numbers in them.

    All on their own, all in one block one behind the other, or in one block with gaps here and
    there. A block begins anywhere in a cache line where an item may.
    """
    apart = rng.random() < 0.3
    gaps = rng.random() < 0.5
    offset = int(rng.integers(0, LINE // 4)) * 4
    places = []
    for shape, dtype in zip(shapes, dtypes, strict=True):
        if gaps and rng.random() < 0.4:
            offset += int(rng.integers(0, 5)) * dtype.itemsize
        offset += -offset % dtype.itemsize
        places.append(offset)
        offset += int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    block = np.zeros(offset + 2 * LINE, np.uint8)
    block = block[-block.ctypes.data % LINE :]
    arrays = []
    for shape, dtype, at in zip(shapes, dtypes, places, strict=True):
        values = numbers(rng, dtype, shape)
        if apart:
            arrays.append(np.array(values))
            continue
        view = block[at : at + values.nbytes].view(dtype).reshape(shape)
        view[...] = values
        arrays.append(view)
    return arrays


def fill(rng: np.random.Generator, arrays: list[Any]) -> None:
    """Write other numbers into arrays."""
    for array in arrays:
        if array is not None and array.flags.writeable:
            array[...] = numbers(rng, array.dtype, array.shape)


def copies(arrays: list[Any]) -> list[Any]:
    return [None if array is None else array.copy() for array in arrays]


class Gradients:
    """Gradients for some parameters: where the last ones were, or elsewhere."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []

    def draw(self, rng: np.random.Generator, params: list[Any]) -> list[Any]:
        fits = len(self.arrays) == len(params) and all(
            g is None or (g.shape, g.dtype) == (p.shape, p.dtype)
            for g, p in zip(self.arrays, params, strict=True)
        )
        if fits and rng.random() < 0.6:
            fill(rng, self.arrays)
        else:
            shapes, dtypes = [p.shape for p in params], [p.dtype for p in params]
            self.arrays = place(rng, shapes, dtypes)
        grads = list(self.arrays)
        kind = rng.random()
        if kind < 0.15:  # none in any pattern
            some = rng.random()
            grads = [None if rng.random() < some else g for g in grads]
        elif kind < 0.25:  # one array for all parameters of its shape and dtype
            first: dict[Any, Any] = {}
            grads = [first.setdefault((g.shape, g.dtype), g) if g is not None else g for g in grads]
        elif kind < 0.3:
            grads = copies(grads)
            for g in grads:
                if g is not None:
                    g.flags.writeable = False
        return grads
