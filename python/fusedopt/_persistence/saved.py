"""What a file's header must be, and which of its arrays is what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._types import Array

#: How deep extra data may be nested, and a schedule: whoever copies, compares or prints it may be
#: deep in a recursion of its own.
MOST_DEPTH = 100

_KINDS: dict[str, type] = {
    "state": dict,
    "param_groups": list,
    "optimizer": str,
    "completed_steps": int,
    "params": bool,
}


def require_header(header: dict[str, Any], *, strict: bool) -> None:
    """Raise ValueError unless a header is one that `save` writes, as far as that can be said here.

    What state and hyperparameters mean for an optimizer is looked at later.
    """
    if _is_deeper(header, MOST_DEPTH + 2):
        raise ValueError(f"header: nested more than {MOST_DEPTH} deep")
    for key in (*_KINDS, "extra"):
        if key not in header:
            raise ValueError(f"header[{key!r}]: missing")
    for key, kind in _KINDS.items():
        if type(header[key]) is not kind:
            raise ValueError(f"header[{key!r}]: expected {kind.__name__}, got {_kind(header[key])}")
    unknown = sorted(header.keys() - {*_KINDS, "extra"})
    if strict and unknown:
        raise ValueError(f"header[{unknown[0]!r}]: there is no such entry")
    for k, group in enumerate(header["param_groups"]):
        _require_group(f"header['param_groups'][{k}]", group)
    # Those of a group that was added to have others in between.
    of_groups = [group.get("params", []) for group in header["param_groups"]]
    numbers = [number for own in of_groups for number in own]
    if sorted(numbers) != list(range(len(numbers))) or any(own != sorted(own) for own in of_groups):
        raise ValueError("header['param_groups']: expected the numbers of parameters, in order")
    for key, values in header["state"].items():
        _require_entries(f"header['state'][{key!r}]", key, values)


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether dicts and lists lie more than so deep in each other."""
    inside = [value]
    for _ in range(depth):
        inside = [
            item
            for outer in inside
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(inside)


def _require_group(label: str, group: Any) -> None:
    if type(group) is not dict:
        raise ValueError(f"{label}: expected dict, got {_kind(group)}")
    for key, kind in (("params", int), ("param_names", str)):
        items = group.get(key, [])
        if type(items) is not list or not all(type(item) is kind for item in items):
            raise ValueError(f"{label}[{key!r}]: expected a list of {kind.__name__}")


def _require_entries(label: str, key: str, values: Any) -> None:
    """Look at what a file holds of a parameter besides arrays."""
    if not _is_number(key):
        raise ValueError(f"{label}: expected the number of a parameter")
    if type(values) is not dict:
        raise ValueError(f"{label}: expected dict, got {_kind(values)}")
    for name, value in values.items():
        kind = int if name == "step" else type(None)
        if type(value) is not kind:
            raise ValueError(f"{label}[{name!r}]: expected {kind.__name__}, got {_kind(value)}")


def sorted_out(
    arrays: Mapping[str, Array], header: Mapping[str, Any], *, strict: bool
) -> tuple[dict[int, dict[str, Any]], dict[int, Array]]:
    """Return each parameter's state, and the parameters that were saved."""
    states: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in header["state"].items()}
    params: dict[int, Array] = {}
    for key, array in arrays.items():
        kind, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        if kind == "params" and _is_number(rest) and header["params"]:
            params[int(number)] = array
        elif kind == "state" and _is_number(number):
            state = states.get(int(number))
            if state is None or name in state:
                raise ValueError(f"{key!r}: an array that its header doesn't know")
            state[name] = array
        elif strict:
            raise ValueError(f"{key!r}: an array of another kind")
    return states, params


def _is_number(text: str) -> bool:
    """Return whether it is a number as Python writes it, and one that parameters can have."""
    return text.isdecimal() and len(text) < 20 and str(int(text)) == text


def _kind(value: Any) -> str:
    return type(value).__name__
