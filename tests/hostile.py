"""Files that nobody should have written: every part of a good one replaced, and bytes at random."""

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from made_files import Parts, Stored, index_of, put_together, with_index

#: What a case is called, and the file.
Case: TypeAlias = tuple[str, bytes]


def nested(begin: str, end: str, levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if begin == "[" else {begin: value}
    return value


WARMUP = {"kind": "warmup", "steps": 1, "start": 0.0}
#: Of every type that JSON has, and such as are a number, a name or a schedule elsewhere.
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 0.5, -0.0, 1.5, 1e308, 1e-320, math.nan, math.inf),
    *(-math.inf, 2**31, 2**53, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, -(10**4000)),
    *("", "x", "0", "1", "lr", "F64", "F16", "params.0", "\ud800", "\0", "ä" * 300, "NaN"),
    *([], [0], [1, 2], [[0], 300_000_000], [None], ["w"], [[]] * 70, [1] * 65, [0.9, 0.99]),
    *([-1, 1], [2**62, 2**62], [2**63, 0], {}, {"a": 1}, {"0": {"step": 1}}, {"step": 1}),
    *({"kind": "constant", "value": 0.5}, {"kind": "constant"}, {"kind": ["linear"]}),
    *({"kind": "linear", "start": 0.1, "end": 0.2, "steps": 0}, {"callable": "f"}),
    *({"callable": 5}, {"callable": "f", "kind": "constant", "value": 1}, {"kind": "Schedule"}),
    nested("[", "]", 50),
    nested("a", "}", 50),
    *({"kind": "join", "schedules": [0.1, {"kind": "join"}], "boundaries": [1]},),
    {**WARMUP, "schedule": {**WARMUP, "schedule": {**WARMUP, "schedule": 0.5}}},
    {"kind": "one_cycle", "peak": 1.0, "steps": 10**400, "self": 1},
    {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
]
KINDS: dict[str, dict[str, Any]] = {
    "constant": {"value": 0.1},
    "linear": {"start": 0.1, "end": 0.2, "steps": 5},
    "polynomial": {"start": 0.1, "end": 0.2, "steps": 5, "power": 2.0},
    "exponential": {"start": 0.1, "gamma": 0.5},
    "step": {"start": 0.1, "step_size": 3, "gamma": 0.5},
    "piecewise": {"boundaries": [2, 4], "values": [0.1, 0.2, 0.3]},
    "cosine": {"start": 0.1, "steps": 5, "end": 0.0},
    "cosine_restarts": {"start": 0.1, "period": 5, "mult": 2, "end": 0.0},
    "one_cycle": {"peak": 0.1, "steps": 9, "pct_start": 0.3, "div_factor": 2.0},
    "warmup": {"schedule": 0.1, "steps": 5, "start": 0.0},
    "join": {"schedules": [0.1, {"kind": "constant", "value": 0.2}], "boundaries": [3]},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything inside plain data."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy, in which the container of a place was changed."""
    result = copy.deepcopy(value)
    parent = result
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return result


def variants(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield plain data with one thing replaced, missing, renamed, doubled or too much."""
    for path in places(value):
        name = "/".join(map(str, path)) or "all"
        if not path:
            for k, odd in enumerate(ODD):
                yield f"{name} = odd {k}", odd
            continue
        for k, odd in enumerate(ODD):

            def put(parent: Any, key: Any, odd: Any = odd) -> None:
                parent[key] = odd

            yield f"{name} = odd {k}", changed(value, path, put)

        def delete(parent: Any, key: Any) -> None:
            del parent[key]

        yield f"without {name}", changed(value, path, delete)

        def rename(parent: Any, key: Any) -> None:
            if isinstance(parent, dict):
                parent[f"{key}0"] = parent.pop(key)
            else:
                parent.insert(key, parent[key])

        yield f"{name} under another name, or twice", changed(value, path, rename)

        def add(parent: Any, key: Any) -> None:
            item = parent[key]
            if isinstance(item, dict):
                item["nobody knows"] = 1
            elif isinstance(item, list):
                item.append(item[-1] if item else 0)
            else:
                parent[key] = [item]

        yield f"{name} with more in it", changed(value, path, add)

        def turn(parent: Any, key: Any) -> None:
            item = parent[key]
            if isinstance(item, dict):
                parent[key] = dict(reversed(item.items()))
            elif isinstance(item, list):
                item.reverse()
            elif isinstance(item, int | float) and not isinstance(item, bool):
                parent[key] = -item
            else:
                parent[key] = str(item)

        yield f"{name} turned", changed(value, path, turn)


def hostile_headers(parts: Parts) -> Iterator[Case]:
    """Yield files with right checksums whose header isn't what it should be."""
    for name, header in variants(parts.header):
        yield f"header: {name}", put_together(header, parts.arrays)


def hostile_schedules(parts: Parts) -> Iterator[Case]:
    for (kind, arguments), name in itertools.product(KINDS.items(), ("lr", "momentum", "betas")):
        if name not in parts.header["param_groups"][0]:
            continue
        for what, schedule in variants({"kind": kind, **arguments}):
            header = copy.deepcopy(parts.header)
            header["param_groups"][0][name] = schedule
            yield f"{name}: {what} of {kind}", put_together(header, parts.arrays)


def hostile_indices(parts: Parts) -> Iterator[Case]:
    """Yield files whose index isn't what it should be."""
    text = json.dumps(parts.header)
    index = index_of(text, parts.arrays)
    for name, other in variants(index):
        yield f"index: {name}", with_index(other, parts.arrays)
    names = list(parts.arrays)
    for a, b in itertools.combinations(names, 2):
        swapped = {**index, a: index[b], b: index[a]}
        yield f"index: {a} and {b} swapped", with_index(swapped, parts.arrays)
        same = {**index, a: index[b]}
        yield f"index: {a} is {b}", with_index(same, parts.arrays)
    for name, shift, (i, j) in itertools.product(
        names, (-8, -4, -1, 1, 4, 8), ((1, 1), (1, 0), (0, 1))
    ):
        begin, end = index[name]["data_offsets"]
        moved = {**index[name], "data_offsets": [begin + i * shift, end + j * shift]}
        yield f"index: {name} moved {shift}", with_index({**index, name: moved}, parts.arrays)


def hostile_arrays(parts: Parts) -> Iterator[Case]:
    """Yield files with right checksums whose arrays aren't what they should be."""
    for name, array in parts.arrays.items():
        rest = {key: other for key, other in parts.arrays.items() if key != name}
        yield f"arrays: without {name}", put_together(parts.header, rest)
        kinds = {
            "another type": Stored("F32", [len(array.content) // 4], array.content),
            "flat": Stored(array.dtype, [math.prod(array.shape)], array.content),
            "another rank": Stored(array.dtype, [*array.shape, 1], array.content),
            "of many": Stored(array.dtype, [*array.shape, *[1] * 63], array.content),
            "empty": Stored(array.dtype, [0], b""),
            "empty, and large": Stored(array.dtype, [0, 2**62, 2**62], b""),
            "NaN": Stored(array.dtype, array.shape, b"\xff" * len(array.content)),
            "longer": Stored(array.dtype, [len(array.content)], array.content * 8),
        }
        for kind, other in kinds.items():
            yield f"arrays: {name} {kind}", put_together(parts.header, {**rest, name: other})
        for other in ("params.99", "params.-1", "state.0.nosuch", "state.99.ema", "x", "", "."):
            found = put_together(parts.header, {**parts.arrays, other: array})
            yield f"arrays: {name} as {other}, too", found
            yield f"arrays: {name} as {other}", put_together(parts.header, {**rest, other: array})


def hostile_texts(parts: Parts) -> Iterator[Case]:
    """Yield files whose JSON is none, or says something that plain data can't hold."""
    text = json.dumps(parts.header)
    index = json.dumps(index_of(text, parts.arrays))
    for name, begin, end in (("list", "[", "]"), ("dict", '{"a":', "}"), ("kind", '{"kind":', "}")):
        for levels in (100, 900, 1100, 10_000, 100_000):
            deep = begin * levels + "1" + end * levels
            for key in parts.header:
                wrong = f'{{"{key}": {deep}, {text[1:]}'
                yield f"text: {key} twice, a deep {name}", put_together(wrong, parts.arrays)
            for key in ("extra", "state", "optimizer", "completed_steps", "param_groups"):
                wrong = json.dumps({**parts.header, key: "HERE"}).replace('"HERE"', deep)
                yield f"text: {key}, a {name} {levels} deep", put_together(wrong, parts.arrays)
            yield f"index: a deep {name}", with_index(deep.encode(), parts.arrays)
            wrong = f'{{"x": {deep}, {index[1:]}'
            yield f"index: an array is a deep {name}", with_index(wrong.encode(), parts.arrays)
    for k, piece in enumerate(('"lr"', '"params"', '"step"', '"F32"', '"shape"', "[0", "{", '": ')):
        for j, other in enumerate(
            (f"{piece}{piece}", f'{piece}: 1, "lr"', "", " ", "\0", "9" * 5000, "NaN", "-", "1e999")
        ):
            if piece in text:
                wrong = text.replace(piece, other, 1)
                yield f"text: {k} becomes {j}", put_together(wrong, parts.arrays)
            if piece in index:
                wrong = index.replace(piece, other, 1)
                yield f"index: {k} becomes {j}", with_index(wrong.encode(), parts.arrays)
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "utf-7", "cp037"):
        yield f"index: {encoding}", with_index(index.encode(encoding), parts.arrays)
    whole = with_index(index.encode(), parts.arrays)
    sizes = [0, 1, 2, 7, 8, len(index) - 1, len(index) + 1, len(whole) - 8, len(whole)]
    for size in (*sizes, 10**8, 10**8 + 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1):
        yield f"a header of {size} bytes", size.to_bytes(8, "little") + whole[8:]
    for size in (*range(40), *range(40, len(whole), 101)):
        yield f"the first {size} bytes", whole[:size]


def hostile_files(parts: Parts) -> Iterator[Case]:
    for kind in (
        *(hostile_headers, hostile_schedules, hostile_indices, hostile_arrays, hostile_texts),
    ):
        yield from kind(parts)


BYTES = b'\0\x01\x7f\x80\xff"\\{}[],:.-+0159eEnNtTfF \n'


def mutated_bytes(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Return a file with a few things done to it."""
    data = bytearray(content)
    for _ in range(1 + int(rng.integers(3))):
        # Most of what there is to say stands at the beginning.
        end = len(data) if rng.random() < 0.3 else min(len(data), 3000)
        at = int(rng.integers(max(end, 1)))
        size = int(rng.integers(1, 40))
        what = int(rng.integers(8))
        if what == 0 and data:
            data[at] ^= 1 << int(rng.integers(8))
        elif what == 1 and data:
            data[at] = BYTES[int(rng.integers(len(BYTES)))]
        elif what == 2:
            del data[at : at + size]
        elif what == 3:
            data[at:at] = data[at : at + size]
        elif what == 4:
            start = int(rng.integers(len(other)))
            data[at : at + size] = other[start : start + size]
        elif what == 5:
            del data[at:]
        elif what == 6:
            data[at:] = other[at:]
        else:
            data[at:at] = rng.bytes(size)
    return bytes(data)


def mutated(rng: np.random.Generator, parts: Parts, content: bytes, other: bytes) -> Case:
    """Return a file of random mutations: of all of it, or of a part with the others put right."""
    kind = int(rng.integers(3))
    if kind == 0:
        return "bytes", mutated_bytes(rng, content, other)
    if kind == 1:
        text = mutated_bytes(rng, json.dumps(parts.header).encode(), other)
        return "header", put_together(text.decode("latin-1"), parts.arrays)
    index = json.dumps(index_of(json.dumps(parts.header), parts.arrays)).encode()
    return "index", with_index(mutated_bytes(rng, index, other), parts.arrays)
