"""What goes wrong with arrays: gradients that are none, parameters that were changed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def _misaligned(g: Any) -> Any:
    copy = np.zeros(g.nbytes + 1, np.uint8)[1:][: g.nbytes].view(g.dtype).reshape(g.shape)
    copy[...] = g
    return copy


def _strided(g: Any) -> Any:
    return np.repeat(g, 2, axis=-1)[..., ::2] if g.ndim and g.shape[-1] > 1 else None


def _fortran(g: Any) -> Any:
    return np.asfortranarray(g) if sum(n > 1 for n in g.shape) > 1 else None


def _transposed(g: Any) -> Any:
    return np.ascontiguousarray(g.T) if g.T.shape != g.shape else None


def _reversed(g: Any) -> Any:
    return g[::-1] if g.ndim and g.shape[0] > 1 else None


# From a right gradient one that is none; None where this one has no such form.
BAD_GRADIENTS: dict[str, Callable[[Any], Any]] = {
    "a list": lambda g: g.tolist(),
    "a number": lambda g: 1.0,
    "another float": lambda g: g.astype(np.float64 if g.itemsize == 4 else np.float32),
    "half": lambda g: np.zeros(g.shape, np.float16),
    "integers": lambda g: np.zeros(g.shape, np.int32),
    "long double": lambda g: g.astype(np.longdouble),
    "complex": lambda g: np.zeros(g.shape, np.complex64),
    "objects": lambda g: g.astype(object),
    "masked": lambda g: np.ma.array(g),
    "byte-swapped": lambda g: g.astype(g.dtype.newbyteorder()),
    "misaligned": _misaligned,
    "strided": _strided,
    "Fortran's order": _fortran,
    "transposed": _transposed,
    "reversed": _reversed,
    "one dimension more": lambda g: g.reshape((1, *g.shape)),
    "one element more": lambda g: np.zeros(g.size + 1, g.dtype),
    "flat": lambda g: g.ravel() if g.ndim != 1 else None,
    "broadcast": lambda g: np.broadcast_to(g.ravel()[:1], g.shape) if g.size > 1 else None,
}


def overlapping(rng: np.random.Generator, opt: Any, params: list[Any], i: int) -> Any:
    """Return an array like a parameter, over memory that the optimizer writes; None: there is none.

    A whole one, or one that reaches into another by a single element.
    """
    wanted = params[i]
    written = [p for p in params if p.size]
    written += [a for s in opt.state.values() for n, a in s.items() if n != "step" and a.size]
    places = [a for a in written if a.nbytes >= wanted.nbytes]
    if not places or wanted.size == 0:
        return None
    place = places[rng.integers(len(places))]
    end = (place.nbytes - wanted.nbytes) // wanted.itemsize * wanted.itemsize
    start = [0, end][rng.integers(2)]
    within = place.reshape(-1).view(np.uint8)[start : start + wanted.nbytes]
    array = within.view(wanted.dtype).reshape(wanted.shape)
    return array if array.flags.aligned else None


def _resize(p: Any) -> None:
    p.resize(p.size + 3, refcheck=False)


def _shrink(p: Any) -> None:
    p.resize(0, refcheck=False)


def _freeze(p: Any) -> None:
    p.flags.writeable = False


def _reshape(p: Any) -> None:
    p.shape = (1, *p.shape)


def _flatten(p: Any) -> None:
    p.shape = (p.size,) if p.ndim != 1 else (p.size, 1)


def _swap_bytes(p: Any) -> None:
    p.dtype = p.dtype.newbyteorder()


def _retype(p: Any) -> None:
    p.dtype = np.int32 if p.itemsize == 4 else np.int64


def _halve(p: Any) -> None:
    p.dtype = np.float32 if p.itemsize == 8 else np.float16


def _owns(p: Any) -> bool:
    return bool(p.flags.owndata)


def _can_be_frozen(p: Any) -> bool:
    """Whether it can be set free again: not what pickle makes over bytes."""
    return _owns(p) or isinstance(p.base, np.ndarray)


MISHAPS: dict[str, tuple[Callable[[Any], bool], Callable[[Any], None]]] = {
    "resized": (_owns, _resize),
    "emptied": (lambda p: _owns(p) and p.size > 0, _shrink),
    "frozen": (_can_be_frozen, _freeze),
    "reshaped": (lambda p: True, _reshape),
    "flattened": (lambda p: True, _flatten),
    "byte-swapped": (lambda p: True, _swap_bytes),
    "retyped": (lambda p: True, _retype),
    "of halves": (lambda p: p.ndim > 0 and p.size > 0, _halve),
}


@contextmanager
def mishap(p: Any, kind: str) -> Iterator[None]:
    """Do to a parameter what a step can't go along with, for a block; then mend it.

    Its memory may be elsewhere afterwards.
    """
    values, shape, dtype = p.copy(), p.shape, p.dtype
    _, change = MISHAPS[kind]
    _in_place(change, p)
    try:
        yield
    finally:
        if kind == "frozen":
            p.flags.writeable = True
        if p.dtype != dtype:
            _in_place(lambda p: setattr(p, "dtype", dtype), p)
        if p.flags.owndata and p.size != values.size:
            p.resize(shape, refcheck=False)
        _in_place(lambda p: setattr(p, "shape", shape), p)
        assert p.tobytes() == values.tobytes() or kind == "emptied"
        p[...] = values


def _in_place(change: Callable[[Any], None], p: Any) -> None:
    with warnings.catch_warnings():  # newer versions of NumPy wish that nobody did
        warnings.simplefilter("ignore", DeprecationWarning)
        change(p)


def move(p: Any) -> range:
    """Have an array's memory elsewhere, its content as it was; return the addresses of the old.

    None of them where it isn't its own memory, or didn't move.
    """
    old = range(p.ctypes.data, p.ctypes.data + p.nbytes)
    if not p.flags.owndata:
        return range(0)
    values, shape = p.copy(), p.shape
    p.resize(p.size + 4096, refcheck=False)
    p.resize(shape, refcheck=False)
    p[...] = values
    return range(0) if p.ctypes.data in old else old


def like(p: Any, places: list[range]) -> Any:
    """Return an array like another; if it can be had, where something has been before."""
    tried = [np.empty_like(p)]
    while len(tried) < 8 and not any(tried[-1].ctypes.data in place for place in places):
        tried.append(np.empty_like(p))
    return tried[-1]
