"""Arrays and plain data in one file that is whole or not there: safetensors with a checksum."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ._types import Array

VERSION = 1
_DTYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_AT_ONCE = 1 << 24  # bytes that are hashed or read


def write(path: Path, arrays: Mapping[str, Array], header: Mapping[str, Any]) -> None:
    """Write a file in the place of what was there, at once.

    It is written beside, brought to the disk and then renamed: whenever the process or the machine
    stops, the old file is there, or the new one.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError:
        raise ImportError("save() needs safetensors: pip install 'fusedopt[safetensors]'") from None
    text = json.dumps({"version": VERSION, **header})
    metadata = {"fusedopt": text, "sha256": _digest(text, arrays)}
    path = Path(os.path.realpath(path))  # what a link points to
    beside = path.with_name(f".fusedopt-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "There is no such folder", str(path.parent))
    with open(beside, "xb") as file:
        permissions = os.stat(path if path.exists() else file.fileno()).st_mode
    try:
        save_file(dict(arrays), beside, metadata)
        # Newer versions of safetensors put a file there that only its owner can read.
        os.chmod(beside, permissions)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except SafetensorError as error:
        raise ValueError(f"{path}: can't be written: {error}") from None
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


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
    with open(path, "rb") as file:
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
        content = array.reshape(-1).view(np.uint8)
        for at in range(0, content.size, _AT_ONCE):
            digest.update(content[at : at + _AT_ONCE].data)
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
