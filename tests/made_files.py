"""Files as an optimizer saves them, taken apart and put together again with a right checksum."""

import hashlib
import json
from typing import Any, NamedTuple

NAMES = {"F32": "float32", "F64": "float64"}


class Stored(NamedTuple):
    """An array in a file."""

    dtype: str
    shape: list[int]
    content: bytes


class Parts(NamedTuple):
    """What a file is made of."""

    header: dict[str, Any]
    arrays: dict[str, Stored]


def taken_apart(content: bytes) -> Parts:
    length = int.from_bytes(content[:8], "little")
    index = json.loads(content[8 : 8 + length])
    header = json.loads(index.pop("__metadata__")["fusedopt"])
    arrays = {}
    for name, entry in index.items():
        begin, end = entry["data_offsets"]
        data = content[8 + length :][begin:end]
        arrays[name] = Stored(entry["dtype"], entry["shape"], data)
    return Parts(header, arrays)


def checksum(text: str, arrays: dict[str, Stored]) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name, array in sorted(arrays.items()):
        shape = tuple(array.shape)
        line = f"\n{name} {NAMES.get(array.dtype, array.dtype)} {shape}\n"
        digest.update(line.encode("utf-8", "surrogatepass") + array.content)
    return digest.hexdigest()


def index_of(text: str, arrays: dict[str, Stored]) -> dict[str, Any]:
    """Return the index of a file with this header."""
    metadata = {"fusedopt": text, "sha256": checksum(text, arrays)}
    index: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + len(array.content)
        index[name] = {"dtype": array.dtype, "shape": array.shape, "data_offsets": [begin, end]}
    return index


def with_index(index: Any, arrays: dict[str, Stored]) -> bytes:
    """Return a file with an index of whatever kind: plain data, or text."""
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    data = b"".join(array.content for array in arrays.values())
    return len(text).to_bytes(8, "little") + text + data


def put_together(header: Any, arrays: dict[str, Stored]) -> bytes:
    """Return a file with a right checksum and a header of whatever kind: plain data, or text."""
    text = header if isinstance(header, str) else json.dumps(header)
    return with_index(index_of(text, arrays), arrays)
