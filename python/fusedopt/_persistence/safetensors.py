"""The format of safetensors files, as far as it is needed: https://github.com/huggingface/safetensors.

Such a file is the length of an index, the index, which is JSON, and arrays one behind the other. It
is written and read here, not by the library: its writer says of a full disk only that something
failed, and its reader maps the file, so that where one is overwritten in place it would see
another, or end the process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._types import Array

MOST_BYTES = 100_000_000  # of an index; the library reads no more

_DTYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


class Entry(NamedTuple):
    """Where an array lies behind the index."""

    name: str
    dtype: Any
    shape: tuple[int, ...]
    begin: int
    end: int


def in_order(arrays: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """Return arrays as they are written: the larger types first, so that all are aligned."""
    return sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))


def index_of(arrays: list[tuple[str, Array]], metadata: Mapping[str, str]) -> bytes:
    """Return the index of arrays that lie one behind the other, or raise ValueError."""
    index: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays:
        begin, end = end, end + array.nbytes
        index[name] = {
            "dtype": _name_of(array.dtype),
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(index, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_BYTES:
        raise ValueError(f"a header of {len(text):,} bytes; {MOST_BYTES:,} are possible")
    return text


def _name_of(dtype: Any) -> str:
    return next(name for name, own in _DTYPES.items() if own == dtype.newbyteorder("<"))


def bytes_of(array: Array) -> npt.NDArray[np.uint8]:
    """Return an array's elements as they lie in a file; a view where they lie so."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8)


def read_index(text: bytes, length: int) -> tuple[list[Entry], dict[str, str]]:
    """Return what an index says of so many bytes behind it, and its metadata.

    Raises
    ------
    ValueError
        If it says anything but where arrays lie that are one behind the other, and all there is.
    """
    index = read_json(text.decode())
    require(type(index) is dict, "no index")
    metadata = index.pop("__metadata__", {})
    require(
        type(metadata) is dict and all(type(value) is str for value in metadata.values()),
        "metadata that isn't text",
    )
    entries = sorted(
        (_entry_of(name, entry) for name, entry in index.items()),
        key=lambda entry: (entry.begin, entry.end),
    )
    end = 0
    for entry in entries:
        require(entry.begin == end, "its arrays don't lie one behind the other")
        end = entry.end
    require(end == length, "its arrays aren't all that it holds")
    return entries, metadata


def _entry_of(name: str, entry: Any) -> Entry:
    keys = {"dtype", "shape", "data_offsets"}
    require(type(entry) is dict and set(entry) == keys, "an array of another kind")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    require(type(dtype) is str and dtype in _DTYPES, "an array of another type")
    require(_are_counts(shape), "an array without a shape")
    require(_are_counts(offsets) and len(offsets) == 2, "an array without a place")
    begin, end = offsets
    require(
        end - begin == _DTYPES[dtype].itemsize * math.prod(shape),
        "an array that is larger or smaller than its place",
    )
    return Entry(name, _DTYPES[dtype], tuple(shape), begin, end)


def _are_counts(values: Any) -> bool:
    """Return whether this is a list of whole numbers as sizes and places in memory are.

    A shape has up to 64 of them, with NumPy 1 up to 32; one that it can't have is found when it is
    made.
    """
    return (
        type(values) is list
        and len(values) <= 64
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def view_of(content: npt.NDArray[np.uint8], entry: Entry) -> Array:
    """Return an array of what lies behind an index, or raise ValueError."""
    return np.ndarray(entry.shape, entry.dtype, content, entry.begin)


def read_json(text: str) -> Any:
    """Return what JSON says, or raise ValueError, also where it says something twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    require(len(found) == len(pairs), "JSON that says something twice")
    return found


def require(condition: bool, otherwise: str) -> None:
    """Raise ValueError where a file isn't what it should be."""
    if not condition:
        raise ValueError(otherwise)
