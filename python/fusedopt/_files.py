"""Arrays and plain data in one file that is whole or not there: safetensors with a checksum."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ._types import Array

VERSION = 1
_HASH_BYTES = 1 << 24  # that are hashed at a time


def write(path: Path, arrays: Mapping[str, Array], header: Mapping[str, Any]) -> None:
    """Write a file in the place of what was there, at once.

    It is written beside, brought to the disk and then renamed: whenever the process or the machine
    stops, the old file is there, or the new one.
    """
    numpy = _safetensors().numpy
    text = json.dumps({"version": VERSION, **header})
    metadata = {"fusedopt": text, "sha256": _digest(text, arrays)}
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with open(beside, "xb") as file:
        permissions = os.stat(file.fileno()).st_mode
    try:
        numpy.save_file(dict(arrays), beside, metadata)
        # Newer versions of safetensors put a file there that only its owner can read.
        os.chmod(beside, permissions)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return arrays, which stay on the disk until they are read, and the header.

    Raises
    ------
    ValueError
        If the file is damaged, or not one of ours.
    """
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: damaged, or no safetensors file: {error}") from None
    if not {"fusedopt", "sha256"} <= metadata.keys():
        raise ValueError(f"{path}: a safetensors file, but not one that an optimizer has saved")
    arrays = _map_arrays(path)
    if _digest(metadata["fusedopt"], arrays) != metadata["sha256"]:
        raise ValueError(f"{path}: damaged: its content doesn't fit its checksum")
    header: dict[str, Any] = json.loads(metadata["fusedopt"])
    if header["version"] != VERSION:
        raise ValueError(
            f"{path}: expected a file of version {VERSION}, got {header['version']}; "
            "a newer fusedopt may read it"
        )
    return arrays, header


def _map_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of a file that safetensors has found to be in order, read-only.

    Its own reader would copy all of them to memory, where there may be no room.
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        index = json.loads(file.read(size))
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    dtypes: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
    arrays: dict[str, Array] = {}
    for name, entry in index.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in dtypes:
            raise ValueError(f"{path}: expected arrays of F32 and F64, got {entry['dtype']}")
        begin = 8 + size + entry["data_offsets"][0]
        dtype = dtypes[entry["dtype"]]
        arrays[name] = np.ndarray(entry["shape"], dtype, buffer=content, offset=begin)
    return arrays


def _digest(text: str, arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        content = array.reshape(-1).view(np.uint8)
        for at in range(0, content.size, _HASH_BYTES):
            digest.update(content[at : at + _HASH_BYTES].data)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where a folder can be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "save() and load() need safetensors: pip install 'fusedopt[safetensors]'"
        ) from None
    return safetensors
