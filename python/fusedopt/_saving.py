"""An optimizer in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _files
from ._hyperparameters import in_kind
from ._state_dict import load, read_state_dict, to_state_dict
from ._types import Array

if TYPE_CHECKING:
    from .optimizer import Optimizer


def save(opt: Optimizer, path: str | os.PathLike[str], *, params: bool, extra: Any) -> None:
    """Write an optimizer's state, and the parameters if wanted, to a file."""
    file = _as_path(path)
    _require_plain("extra", extra)
    with opt._engine.held(None):
        state = to_state_dict(opt)
        arrays: dict[str, Array] = {}
        entries: dict[int, dict[str, Any]] = {}
        for i, values in state["state"].items():
            entries[i] = {}
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    arrays[f"state.{i}.{name}"] = value
                else:
                    entries[i][name] = value
        if params:
            for i, param in enumerate(_params_of(opt)):
                arrays[f"params.{i}"] = np.asarray(param)
        header = {**state, "state": entries, "params": params, "extra": extra}
        _files.write(file, arrays, header)


def load_file(opt: Optimizer, path: str | os.PathLike[str], *, strict: bool) -> Any:
    """Read what `save` wrote; return the extra data."""
    arrays, header = _files.read(_as_path(path), opt._state_files or _in_memory)
    states: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in header["state"].items()}
    saved: dict[int, Array] = {}
    for key, array in arrays.items():
        kind, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        if kind == "params":
            saved[int(index)] = array
        else:
            states[int(index)][name] = array
    with opt._engine.held("load()"):
        try:
            loaded = read_state_dict(opt, {**header, "state": states}, strict=strict)
            params = _fitting(opt, saved) if header["params"] else None
        except (TypeError, ValueError) as error:
            raise in_kind(error, f"{os.fspath(path)}: {error}") from None
        load(opt, loaded, params)
    return header["extra"]


def _as_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path: expected a str or Path, got {type(path).__name__}")
    if not os.fspath(path):
        raise ValueError("path: expected the name of a file, got ''")
    return Path(path)


def _in_memory(size: int) -> Any:
    return np.empty(size, np.uint8)


def _params_of(opt: Optimizer) -> list[Array]:
    return [param for group in opt._groups for param in group["params"]]


def _fitting(opt: Optimizer, saved: Mapping[int, Array]) -> list[Array]:
    """Return saved parameters, or raise where one can't take the place of the optimizer's."""
    own = _params_of(opt)
    for i, param in enumerate(own):
        label = opt._param_label(i)
        if saved[i].dtype != param.dtype:
            raise TypeError(
                f"{label}: the optimizer's is {param.dtype}, the saved one {saved[i].dtype}"
            )
        if saved[i].shape != param.shape:
            raise ValueError(
                f"{label}: the optimizer's is of shape {param.shape}, the saved one of "
                f"{saved[i].shape}"
            )
    return [saved[i] for i in range(len(own))]


def _require_plain(label: str, value: Any) -> None:
    """Raise unless JSON gives back what it is given."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _require_plain(f"{label}[{key!r}]", item)
    elif isinstance(value, list):
        for k, item in enumerate(value):
            _require_plain(f"{label}[{k}]", item)
    elif value is not None and not isinstance(value, str | int | float):
        what = "a dict with other keys" if isinstance(value, dict) else str(type(value))
        raise TypeError(
            f"{label}: expected plain data, as for JSON: a dict with str as keys, a list, a str, "
            f"a number, True, False or None; got {what}"
        )
