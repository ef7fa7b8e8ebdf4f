"""Parameters in every form that users give them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._types import AnyArray


@dataclass(frozen=True)
class GroupSpec:
    """Arrays, their names if they have any, and hyperparameters that aren't the defaults."""

    arrays: list[AnyArray]
    names: tuple[str, ...] | None
    overrides: dict[str, Any]


def read_groups(params: Any) -> list[GroupSpec]:
    """Return the groups that `params` means: several where it is a list of dicts, else one."""
    if isinstance(params, Mapping):
        if isinstance(params.get("params"), Mapping | list | tuple):
            raise TypeError("params: expected arrays by name, got a group; write [{'params': ...}]")
        return [read_arrays(params, {})]
    items = _as_list(params)
    if items and all(isinstance(item, Mapping) for item in items):
        groups = [read_group(item) for item in items]
        filled = [group for group in groups if group.arrays]
        for group in filled[1:]:
            require_alike(filled[0].names, group.names)
        require_distinct(name for group in groups for name in group.names or ())
        return groups
    return [read_arrays(items, {})]


def read_group(group: Any) -> GroupSpec:
    """Return what one dict with "params" and hyperparameters means."""
    if not isinstance(group, Mapping):
        raise TypeError(f"param_group: expected a dict with 'params', got {type(group).__name__}")
    if "params" not in group:
        raise ValueError(f"param_group: expected a dict with 'params', got keys {list(group)}")
    return read_arrays(group["params"], {k: v for k, v in group.items() if k != "params"})


def read_arrays(params: Any, overrides: dict[str, Any]) -> GroupSpec:
    """Return a list of arrays, a dict by name, or pairs of names and arrays, as a group."""
    pairs = list(params.items()) if isinstance(params, Mapping) else None
    items = _as_list(params) if pairs is None else []
    if pairs is None and items and all(isinstance(item, tuple) for item in items):
        for item in items:
            if len(item) != 2:
                raise ValueError(
                    f"params: expected pairs of a name and an array, got {len(item)} items"
                )
        pairs = items
    if pairs is None:
        for i, array in enumerate(items):
            if isinstance(array, Mapping | tuple):
                raise TypeError(
                    f"params[{i}]: expected a NumPy array, as the others are, "
                    f"got {type(array).__name__}; arrays, pairs and groups can't be mixed"
                )
        return GroupSpec(items, None, overrides)
    for name, _ in pairs:
        if not isinstance(name, str):
            raise TypeError(f"params: expected str as names, got {name!r}")
    names = tuple(str.__str__(name) for name, _ in pairs)
    require_distinct(names)
    return GroupSpec([array for _, array in pairs], names, overrides)


def require_distinct(names: Iterable[str]) -> None:
    """Raise ValueError where a name is given twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"params[{name!r}]: the name is given twice")
        seen.add(name)


def require_alike(names: tuple[str, ...] | None, others: tuple[str, ...] | None) -> None:
    """Raise ValueError where some parameters have names and others don't."""
    if (names is None) != (others is None):
        raise ValueError("params: expected names for the parameters of all groups, or of none")


def _as_list(params: Any) -> list[Any]:
    is_array = isinstance(params, np.ndarray) or hasattr(params, "__dlpack__")
    if is_array or isinstance(params, str) or not isinstance(params, Iterable):
        hint = "; for one array, write [array]" if is_array else ""
        raise TypeError(
            "params: expected a list of arrays, or a dict of names and arrays, "
            f"got {type(params).__name__}{hint}"
        )
    return list(params)
