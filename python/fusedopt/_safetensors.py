"""The format of safetensors files, as far as it is needed: https://github.com/huggingface/safetensors.

Such a file is the length of an index, the index, which is JSON, and arrays one behind the other. It
is written and read here, not by the library: its writer says of a full disk only that something
failed, and its reader maps the file, so that where one is overwritten in place it would see
another, or end the process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ._types import Array

MOST_BYTES = 100_000_000  # of an index; the library reads no more

_DTYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


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
