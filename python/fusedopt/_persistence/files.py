"""Arrays and plain data in one file that is whole or not there: safetensors with a checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import Array
from . import safetensors
from .replacing import replacing, require_file
from .safetensors import read_json, require

VERSION = 1
_AT_ONCE = 1 << 24  # bytes that are hashed


def to_text(header: Mapping[str, Any]) -> str:
    """Return plain data as it stands in a file, or raise ValueError where it can't."""
    try:
        return json.dumps({"version": VERSION, **header})
    except (TypeError, RecursionError) as error:
        raise ValueError(f"can't be written as JSON: {error}") from None


def from_text(text: str) -> dict[str, Any]:
    """Return what `to_text` was given, or raise ValueError."""
    header: dict[str, Any] = read_json(text)
    require(type(header) is dict and type(header.get("version")) is int, "no version")
    if header["version"] != VERSION:
        raise _ForeignError(
            f"expected a file of version {VERSION}, got {header['version']}: a newer fusedopt may "
            "read it, or the file is damaged"
        )
    del header["version"]
    return header


def write(path: Path, arrays: Mapping[str, Array], text: str) -> None:
    """Write a file in the place of what was there, at once: see `replacing`.

    The arrays are of float32 or float64.
    """
    ordered = safetensors.in_order(arrays)
    metadata = {"fusedopt": text, "sha256": _digest(text, arrays)}
    try:
        index = safetensors.index_of(ordered, metadata)
    except ValueError as error:
        raise ValueError(f"{path}: can't be written: {error}") from None
    with replacing(path) as file:
        _write_all(file, len(index).to_bytes(8, "little"))
        _write_all(file, index)
        for _, array in ordered:
            _write_all(file, safetensors.bytes_of(array).data)


def _write_all(file: FileIO, content: bytes | memoryview) -> None:
    """Write what may be more than one call takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def read(
    path: Path, allocate: Callable[[int], npt.NDArray[np.uint8]]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays, in memory that `allocate` gives, and the header, of whatever content.

    Whatever the file says, that is as much memory as it is long, and what Python needs for the
    index as JSON.

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If the file is damaged, or not one of ours.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        size = os.fstat(file.fileno())
        require_file(path, size.st_mode)
        try:
            length = int.from_bytes(file.read(8), "little")
            rest = size.st_size - 8 - length
            require(rest >= 0, "it is shorter than its header says")
            require(length <= safetensors.MOST_BYTES, f"a header of {length:,} bytes")
            entries, metadata = safetensors.read_index(file.read(length), rest)
            if metadata.keys() != {"fusedopt", "sha256"}:
                raise _ForeignError("a safetensors file, but not one that an optimizer has saved")
            header = from_text(metadata["fusedopt"])
            content = allocate(rest)[:rest]
            require(file.readinto(content.data) == rest, "its length has changed")
            require(not file.read(1), "its length has changed")
            arrays = {entry.name: safetensors.view_of(content, entry) for entry in entries}
            digest = _digest(metadata["fusedopt"], arrays)
        except _ForeignError as error:
            raise ValueError(f"{path}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}: damaged, or no safetensors file: {error}") from None
    if digest != metadata["sha256"]:
        raise ValueError(f"{path}: damaged: its content doesn't fit its checksum")
    return {name: _in_this_order(array) for name, array in arrays.items()}, header


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, or a pipe without waiting for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _in_this_order(array: Array) -> Array:
    """Return an array in the order of bytes of this machine; a view where it is so already."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class _ForeignError(ValueError):
    """A file that is whole, but not for us; to users a ValueError."""


def _digest(text: str, arrays: Mapping[str, Array]) -> str:
    import hashlib  # with OpenSSL behind it: longer to import than most of fusedopt

    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        content = safetensors.bytes_of(array)
        for at in range(0, content.size, _AT_ONCE):
            digest.update(content[at : at + _AT_ONCE].data)
    return digest.hexdigest()
