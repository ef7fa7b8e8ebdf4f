"""Contract: whoever owns an array's memory, overlap is found; and kinds of arrays are told apart.

Where gradients move from step to step, their owners stand for their memory; an array may have an
owner that is no array, or none at all. And masked arrays are told from other subclasses whatever
has become of `numpy.ma`.
"""

import ctypes
import sys
from collections import deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusedopt


class Memory(deque[Any]):
    """Says where memory is. Its maxlen stands where an array has its flags."""

    where = (0, 0)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address, count = self.where
        return {"version": 3, "data": (address, False), "shape": (count,), "typestr": "<f8"}


def of_an_object(array: Any) -> Any:
    memory = Memory(maxlen=(1 << 31) - 1)
    memory.where = array.ctypes.data, array.size
    made = np.asarray(memory)
    assert made.base is memory
    return made


def of_nobody(array: Any) -> Any:
    """Return what a C library makes of a pointer, without a word about its memory."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    core = (
        sys.modules.get("numpy._core._multiarray_umath")
        or sys.modules["numpy.core._multiarray_umath"]
    )
    table = ctypes.cast(get(core._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    kinds = [ctypes.py_object, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    more = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    new = ctypes.PYFUNCTYPE(ctypes.py_object, *kinds, *more)(table[93])  # PyArray_New
    shape = (ctypes.c_ssize_t * 1)(array.size)
    float64, carray = np.dtype(np.float64).num, 0x0501  # NPY_ARRAY_CARRAY
    made = new(np.ndarray, 1, shape, float64, None, array.ctypes.data, 0, carray, None)
    assert made.base is None
    assert not made.flags.owndata
    return made


def of_bytes(array: Any) -> Any:
    made = np.frombuffer(memoryview(array).cast("B"), array.dtype)
    assert not isinstance(made.base, np.ndarray)
    return made


def a_view(array: Any) -> Any:
    return array[:]


@pytest.mark.parametrize("seen_as", [of_an_object, of_nobody, of_bytes, a_view])
@pytest.mark.parametrize("parameter_as", [a_view, of_an_object, of_nobody, of_bytes])
def test_overlap_is_found_whoever_owns_the_memory(
    seen_as: Callable[[Any], Any], parameter_as: Callable[[Any], Any]
) -> None:
    memory = np.arange(1.0, 65.0)
    other = np.arange(100.0, 140.0)
    params = [parameter_as(memory[:8]), memory[20:28], other[:8]]
    opt = fusedopt.SGD(params, lr=0.5)
    apart = [memory[40:48], np.ones(8), np.ones(8)]
    for _ in range(3):
        opt.step(apart)
    kept, count = memory.copy(), opt.completed_steps
    # Each time one that the step before hasn't seen: no stretch of memory is known to be free.
    for which, begin in [(0, 0), (1, 20), (2, 4), (0, 26), (1, 1)]:
        grads = [np.ones(8), np.ones(8), np.ones(8)]
        opt.step(grads)
        kept, count = memory.copy(), opt.completed_steps
        grads = [np.ones(8), np.ones(8), np.ones(8)]
        grads[which] = seen_as(memory[begin : begin + 8])
        with pytest.raises(ValueError, match=r"overlaps params\[\d\] in memory"):
            opt.step(grads)
        assert opt.completed_steps == count
        assert np.array_equal(memory, kept)
    grads[which] = seen_as(memory[48:56])
    opt.step(grads)
    assert opt.completed_steps == count + 1


@pytest.mark.parametrize("parameter_as", [of_an_object, of_nobody, of_bytes])
def test_a_parameter_whose_owner_nobody_knows(parameter_as: Callable[[Any], Any]) -> None:
    """Its owner may be a gradient's: then it is no use that this one is known."""
    for among in range(3):
        memory = np.arange(1.0, 33.0)
        params = [np.ones(8), np.ones(8)][:among]
        params.insert(among // 2, parameter_as(memory[:8]))
        opt = fusedopt.SGD(params, lr=0.5)
        for _ in range(3):
            opt.step([np.ones(8) for _ in params])
        kept = memory.copy()
        for which in range(len(params)):
            grads = [np.ones(8) for _ in params]
            grads[which] = memory[4:12]
            with pytest.raises(ValueError, match=rf"^grads\[{which}\] overlaps params"):
                opt.step(grads)
        assert np.array_equal(memory, kept)
        assert opt.completed_steps == 3


@pytest.mark.parametrize("seen_as", [of_an_object, of_nobody, of_bytes, a_view])
def test_a_gradient_over_a_parameter_that_owns_its_memory(seen_as: Callable[[Any], Any]) -> None:
    params = [np.arange(1.0, 9.0), np.arange(11.0, 19.0)]
    opt = fusedopt.SGD(params, lr=0.5)
    for k in (0, 1):
        for _ in range(2):
            opt.step([np.ones(8), np.ones(8)])
        kept = [p.copy() for p in params]
        grads = [np.ones(8), np.ones(8)]
        grads[1 - k] = seen_as(params[k])
        with pytest.raises(ValueError, match=rf"overlaps params\[{k}\] in memory"):
            opt.step(grads)
        for p, q in zip(params, kept, strict=True):
            np.testing.assert_array_equal(p, q)


class Plain(np.ndarray[Any, Any]):
    """A subclass that means nothing special."""


NOT_OURS = [
    None,
    SimpleNamespace(MaskedArray=Plain),
    ModuleType("numpy.ma"),
    ModuleType("numpy.ma with something else of that name"),
]
NOT_OURS[-1].MaskedArray = "Plain"  # type: ignore[union-attr]


@pytest.mark.parametrize("found", ["nothing", *NOT_OURS], ids=str)
def test_a_subclass_is_no_masked_array_because_of_what_stands_for_numpy_ma(
    found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if found == "nothing":
        monkeypatch.delitem(sys.modules, "numpy.ma", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "numpy.ma", found)
    param = np.ones(3).view(Plain)
    opt = fusedopt.SGD([param], lr=0.5)
    for _ in range(2):
        opt.step([np.ones(3).view(Plain)])
    assert np.array_equal(param, np.zeros(3))
