"""An optimizer in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Array
from . import files
from .persisted import Persisted
from .saved import MOST_DEPTH, require_header, sorted_out
from .state_dict import Loaded, load, read_state_dict, to_state_dict


def save(opt: Persisted, path: str | os.PathLike[str], *, params: bool, extra: Any) -> None:
    """Write an optimizer's state, and the parameters if wanted, to a file."""
    file = _as_path(path)
    _require_plain("extra", extra)
    with opt._engine.held(None):
        try:
            state = to_state_dict(opt)
        except RecursionError:
            raise ValueError("save(): a schedule is nested too deep") from None
        arrays: dict[str, Array] = {}
        entries: dict[str, dict[str, Any]] = {}
        for i, values in state["state"].items():
            entries[str(i)] = {}
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    arrays[f"state.{i}.{name}"] = value
                else:
                    entries[str(i)][name] = value
        if params:
            for i, param in enumerate(opt._engine.arrays):
                arrays[f"params.{i}"] = np.asarray(param)
        header = {**state, "state": entries, "params": params, "extra": extra}
        text = _readable(opt, arrays, header)
        files.write(file, arrays, text)


def _readable(opt: Persisted, arrays: Mapping[str, Array], header: Mapping[str, Any]) -> str:
    """Return a header as it stands in a file, or raise where `load_file` couldn't take it.

    Nothing else finds what was assigned since the last step, and done to arrays in place.
    """
    try:
        for i, param in enumerate(opt._engine.arrays):
            if param.dtype not in (np.float32, np.float64):
                raise ValueError(f"{opt._param_label(i)}: it has become an array of {param.dtype}")
        text = files.to_text(header)
        loaded, _ = _read(opt, arrays, files.from_text(text), strict=True)
        for k, rule in enumerate(loaded.rules):
            # The engine knows what a number may be in the dtypes of a group's parameters.
            opt._engine.check(k, rule)
    except (TypeError, ValueError) as error:
        raise ValueError(f"save(): no file, as none could load it: {error}") from None
    return text


def load_file(opt: Persisted, path: str | os.PathLike[str], *, strict: bool) -> Any:
    """Read what `save` wrote; return the extra data."""
    arrays, header = files.read(_as_path(path), opt._state_files or _in_memory)
    with opt._engine.held("load()"):
        try:
            loaded, params = _read(opt, arrays, header, strict=strict)
        except (TypeError, ValueError) as error:
            # Whatever is wrong with it is what a file says.
            raise ValueError(f"{os.fspath(path)}: {error}") from None
        load(opt, loaded, params)
    return header["extra"]


def _read(
    opt: Persisted, arrays: Mapping[str, Array], header: dict[str, Any], *, strict: bool
) -> tuple[Loaded, list[Array] | None]:
    """Return what a file's content means for an optimizer, or raise TypeError or ValueError."""
    try:
        require_header(header, strict=strict)
        states, saved = sorted_out(arrays, header, strict=strict)
        loaded = read_state_dict(opt, {**header, "state": states}, strict=strict)
        return loaded, _fitting(opt, saved, strict) if header["params"] else None
    except RecursionError:
        raise ValueError("its header is nested too deep") from None


def _as_path(path: object) -> Path:
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path: expected a str or Path, got {type(path).__name__}")
    if not os.fspath(path):
        raise ValueError("path: expected the name of a file, got ''")
    return Path(path)


def _in_memory(size: int) -> Any:
    return np.empty(size, np.uint8)


def _fitting(opt: Persisted, saved: Mapping[int, Array], strict: bool) -> list[Array]:
    """Return saved parameters, or raise where one can't take the place of the optimizer's."""
    own = opt._engine.arrays
    for i, param in enumerate(own):
        label = opt._param_label(i)
        if i not in saved:
            raise ValueError(f"{label}: missing")
        if saved[i].dtype != param.dtype:
            raise TypeError(
                f"{label}: the optimizer's is {param.dtype}, the saved one {saved[i].dtype}"
            )
        if saved[i].shape != param.shape:
            raise ValueError(
                f"{label}: the optimizer's is of shape {param.shape}, the saved one of "
                f"{saved[i].shape}"
            )
    if strict and len(saved) > len(own):
        raise ValueError(f"params[{max(saved)}]: the optimizer has {len(own)} parameters")
    return [saved[i] for i in range(len(own))]


def _require_plain(label: str, value: Any, depth: int = 0) -> None:
    """Raise unless JSON gives back what it is given."""
    if depth > MOST_DEPTH:
        raise ValueError(f"extra: expected plain data, nested {MOST_DEPTH} deep at most")
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _require_plain(f"{label}[{key!r}]", item, depth + 1)
    elif isinstance(value, list):
        for k, item in enumerate(value):
            _require_plain(f"{label}[{k}]", item, depth + 1)
    elif value is not None and not isinstance(value, str | int | float):
        what = "a dict with other keys" if isinstance(value, dict) else str(type(value))
        raise TypeError(
            f"{label}: expected plain data, as for JSON: a dict with str as keys, a list, a str, "
            f"a number, True, False or None; got {what}"
        )
