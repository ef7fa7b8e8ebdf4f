"""Arrays and plain data in one file that is whole or not there: safetensors with a checksum."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _safetensors
from ._replacing import replacing, require_file
from ._types import Array

VERSION = 1
_DTYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_AT_ONCE = 1 << 24  # bytes that are hashed or read


def write(path: Path, arrays: Mapping[str, Array], header: Mapping[str, Any]) -> None:
    """Write a file in the place of what was there, at once: see `replacing`.

    The arrays are of float32 or float64.
    """
    text = json.dumps({"version": VERSION, **header})
    ordered = _safetensors.in_order(arrays)
    metadata = {"fusedopt": text, "sha256": _digest(text, arrays)}
    try:
        index = _safetensors.index_of(ordered, metadata)
    except ValueError as error:
        raise ValueError(f"{path}: can't be written: {error}") from None
    with replacing(path) as file:
        _write_all(file, len(index).to_bytes(8, "little"))
        _write_all(file, index)
        for _, array in ordered:
            _write_all(file, _safetensors.bytes_of(array).data)


def _write_all(file: FileIO, content: bytes | memoryview) -> None:
    """Write what may be more than one call takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def read(
    path: Path, allocate: Callable[[int], npt.NDArray[np.uint8]]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays, in memory that `allocate` gives, and the header.

    Not by safetensors' own reader: that maps the file, and where one is overwritten in place it
    would see another, or end the process.

    Raises
    ------
    ValueError
        If the file is damaged, or not one of ours.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        require_file(path, os.fstat(file.fileno()).st_mode)
        try:
            size = int.from_bytes(file.read(8), "little")
            length = os.fstat(file.fileno()).st_size - 8 - size
            if length < 0:
                raise ValueError("it is shorter than its header says")
            index = json.loads(file.read(size))
            metadata = index.pop("__metadata__", {})
            if "fusedopt" in metadata:
                _require_version(path, metadata["fusedopt"])
            content = allocate(length)
            if file.readinto(content[:length].data) != length or file.read(1):
                raise ValueError("its length has changed")
            arrays = _arrays_in(content[:length], index)
        except _WrongVersionError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            what = str(error) or type(error).__name__
            raise ValueError(f"{path}: damaged, or no safetensors file: {what}") from None
    if not {"fusedopt", "sha256"} <= metadata.keys():
        raise ValueError(f"{path}: a safetensors file, but not one that an optimizer has saved")
    if _digest(metadata["fusedopt"], arrays) != metadata["sha256"]:
        raise ValueError(f"{path}: damaged: its content doesn't fit its checksum")
    header: dict[str, Any] = json.loads(metadata["fusedopt"])
    return arrays, header


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, or a pipe without waiting for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _WrongVersionError(ValueError):
    """A file of another version; to users a ValueError."""


def _require_version(path: Path, text: str) -> None:
    version = json.loads(text)["version"]
    if version != VERSION:
        raise _WrongVersionError(
            f"{path}: expected a file of version {VERSION}, got {version}: a newer fusedopt may "
            "read it, or the file is damaged"
        )


def _arrays_in(content: npt.NDArray[np.uint8], index: dict[str, Any]) -> dict[str, Array]:
    """Return views of a file's content; together they are all of it."""
    arrays: dict[str, Array] = {}
    end = 0
    for name, entry in sorted(index.items(), key=lambda item: item[1]["data_offsets"]):
        dtype = _DTYPES[entry["dtype"]]
        begin, after = entry["data_offsets"]
        if begin != end or after - begin != dtype.itemsize * math.prod(entry["shape"]):
            raise ValueError("its arrays don't lie one behind the other")
        arrays[name] = np.ndarray(entry["shape"], dtype, buffer=content, offset=begin)
        end = after
    if end != content.size:
        raise ValueError("its arrays aren't all that it holds")
    return arrays


def _digest(text: str, arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        content = _safetensors.bytes_of(array)
        for at in range(0, content.size, _AT_ONCE):
            digest.update(content[at : at + _AT_ONCE].data)
    return digest.hexdigest()
