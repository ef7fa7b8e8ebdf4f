"""An optimizer's state as plain data, in torch's layout, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from .. import _core
from .._hyperparameters import MOST_STEPS, in_kind
from .._param_group import ParamGroup
from .._types import Array, GroupRule, Updates
from ..schedules import Schedule
from .persisted import Persisted

# What torch's groups hold besides hyperparameters: how to compute, and notes of its schedulers.
TORCHS_OWN = frozenset(
    {
        *("foreach", "fused", "capturable", "differentiable"),
        *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"),
    }
)


# The state arrays of every rule.
_STATES = {rule: states for rule, (_, states) in _core.rules().items()}


@dataclass(frozen=True)
class Loaded:
    """State that was checked and fits an optimizer, but for finiteness in its dtypes."""

    groups: list[ParamGroup]
    rules: list[GroupRule]  # of each part of a group
    states: list[dict[str, Array]]
    steps: list[int]
    completed_steps: int


def to_state_dict(opt: Persisted) -> dict[str, Any]:
    """Return all there is; arrays are the live ones."""
    opt._engine.require_home("state_dict()")
    states: dict[int, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    for group, indices, names in opt._groups_in_order():
        values = {name: _encoded(value) for name, value in group.hyperparameters().items()}
        needed = _needed_states(opt, group)
        groups.append({**values, "params": indices})
        if names is not None:
            groups[-1]["param_names"] = list(names)
        for i in indices:
            entries = opt._states[i]._entries()
            if entries:
                # As torch has it: what was needed since the last step isn't there yet.
                states[i] = {**entries, **{n: None for n in needed if n not in entries}}
    return {
        "state": states,
        "param_groups": groups,
        "optimizer": type(opt).__name__,
        "completed_steps": opt.completed_steps,
    }


def _needed_states(opt: Persisted, group: ParamGroup) -> tuple[str, ...]:
    try:
        rule, _, _ = opt._unasked_rule(group)
    except ValueError:  # what was assigned doesn't fit, as the next step will say
        return ()
    return _STATES[rule]


def _encoded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_encoded, value))
    if type(value) in Schedule._kinds.values():
        return value.to_dict()
    if callable(value):
        return {"callable": str(getattr(value, "__qualname__", type(value).__qualname__))}
    return value


def read_state_dict(opt: Persisted, state: Any, *, strict: bool, adopts: bool = False) -> Loaded:
    """Return what a state_dict means for an optimizer, or raise what is wrong with it.

    Where it adopts arrays they have to be such as can be updated in place.
    """
    for key in ("state", "param_groups"):
        if not isinstance(state, Mapping) or key not in state:
            got = f"keys {list(state)}" if isinstance(state, Mapping) else type(state).__name__
            raise TypeError(f"state_dict: expected a dict with {key!r}, got {got}")
    name = state.get("optimizer", type(opt).__name__)
    if strict and name != type(opt).__name__:
        raise ValueError(f"state_dict['optimizer']: expected {type(opt).__name__!r}, got {name!r}")
    saved = state["param_groups"]
    if not isinstance(saved, list | tuple) or not all(isinstance(g, Mapping) for g in saved):
        raise TypeError("state_dict['param_groups']: expected a list of dicts")
    if len(saved) != len(opt._groups):
        raise ValueError(
            f"state_dict['param_groups']: expected {len(opt._groups)}, as the optimizer has, "
            f"got {len(saved)}"
        )
    if not isinstance(state["state"], Mapping):
        raise TypeError(f"state_dict['state']: expected a dict, got {type(state['state'])}")
    keys = _keys_in_order(opt, saved, strict)
    if len(set(keys)) != len(keys):
        raise ValueError("state_dict['param_groups']: expected another number for each parameter")
    groups = [
        _read_group(opt, group, saved[k], f"state_dict['param_groups'][{k}]", strict)
        for k, group in enumerate(opt._groups)
    ]
    entries = _entries_in_order(opt, state["state"], keys, strict)
    steps = _read_steps(opt, state.get("completed_steps"), entries, strict)
    completed_steps = _completed(state.get("completed_steps"), steps)
    rules = []
    for k, group in enumerate(groups):
        try:
            rules.append(opt._unasked_rule(group))
        except (TypeError, ValueError) as error:
            raise in_kind(error, f"state_dict['param_groups'][{k}]: {error}") from None
    states = [
        {
            name: _read_array(value, param, f"{saved.label}[{name!r}]", saved.param_label, adopts)
            for name, value in _known_entries(opt, saved, rule[0], strict)
        }
        for param, rule, saved in zip(
            opt._engine.arrays, _rules_of_params(opt, rules), entries, strict=True
        )
    ]
    return Loaded(groups, [rules[k] for k, _ in opt._parts], states, steps, completed_steps)


def _completed(saved: Any, steps: list[int]) -> int:
    if saved is None:
        return max(steps, default=0)
    return _as_count("state_dict['completed_steps']", saved)


def _rules_of_params(opt: Persisted, rules: list[GroupRule]) -> Iterator[GroupRule]:
    for k, indices in opt._parts:
        for _ in indices:
            yield rules[k]


def load(
    opt: Persisted, loaded: Loaded, params: list[Array] | None, *, adopts: bool = False
) -> None:
    """Put state that was read, and parameters if there are any, in the place of what there is.

    Or take the state's arrays themselves.
    """
    pairs = zip(opt._groups, loaded.groups, strict=False)  # the engine compares their numbers
    updates: Updates = [(group._values, new._values) for group, new in pairs]
    numbers = loaded.steps, loaded.completed_steps
    opt._engine.load(loaded.states, *numbers, loaded.rules, params, updates, adopts)


def _keys_in_order(opt: Persisted, saved: Any, strict: bool) -> list[Any]:
    """Return what the saved state calls each parameter: numbers."""
    found: dict[int, Any] = {}
    for k, ((_, indices, ours), data) in enumerate(zip(opt._groups_in_order(), saved, strict=True)):
        label = f"state_dict['param_groups'][{k}]"
        keys = data.get("params")
        count = len(indices)
        if not isinstance(keys, list | tuple) or len(keys) != count:
            got = len(keys) if isinstance(keys, list | tuple) else type(keys).__name__
            raise ValueError(
                f"{label}['params']: expected {count}, as the optimizer has in that group, "
                f"got {got}"
            )
        theirs = data.get("param_names")
        if strict and ours is not None and theirs is not None:
            _require_names(f"{label}['param_names']", ours, theirs)
        found.update(zip(indices, keys, strict=True))
    return [found[i] for i in range(len(found))]


def _require_names(label: str, ours: tuple[str, ...], theirs: Any) -> None:
    if not isinstance(theirs, list | tuple) or len(theirs) != len(ours):
        raise ValueError(f"{label}: expected {list(ours)}, got {theirs!r}")
    for own, other in zip(ours, theirs, strict=True):
        if own != other:
            raise ValueError(f"{label}: expected {own!r}, got {other!r}")


def _read_group(
    opt: Persisted, group: ParamGroup, data: Mapping[str, Any], label: str, strict: bool
) -> ParamGroup:
    values = group.hyperparameters()
    for name, value in data.items():
        if name in values:
            values[name] = _decoded(value, values[name], f"{label}[{name!r}]")
        elif strict and name not in {"params", "param_names", *TORCHS_OWN}:
            raise ValueError(
                f"{label}[{name!r}]: {type(opt).__name__} has no such hyperparameter; "
                f"it has {', '.join(values)}"
            )
    for name, otherwise in opt._lasting.items():
        saved = data.get(name, otherwise)
        if saved != group[name]:
            raise ValueError(
                f"{label}[{name!r}]: expected {group[name]!r}, as the optimizer has, got "
                f"{saved!r}: it says what the state means"
            )
    return group._with(values, label)


def _decoded(value: Any, own: Any, label: str) -> Any:
    if isinstance(value, Mapping) and _is_name_of_function(value):
        if not callable(own):
            raise ValueError(
                f"{label}: was a function, {value['callable']}, which state can't hold; make the "
                "optimizer with one"
            )
        return own
    if isinstance(value, Mapping):
        try:
            return Schedule.from_dict(value)
        except (TypeError, ValueError) as error:
            raise in_kind(error, f"{label}: {error}") from None
    if isinstance(value, list | tuple):
        owns = own if isinstance(own, tuple) and len(own) == len(value) else [None] * len(value)
        return tuple(
            _decoded(part, its, f"{label}[{k}]")
            for k, (part, its) in enumerate(zip(value, owns, strict=True))
        )
    # torch's learning rates may be tensors.
    return value.item() if getattr(value, "shape", None) == () else value


def _is_name_of_function(value: Mapping[str, Any]) -> bool:
    """Return whether it is what `_encoded` puts where a function was."""
    return value.keys() == {"callable"} and isinstance(value["callable"], str)


@dataclass(frozen=True)
class _Entries:
    """What a parameter has in the saved state, and what errors call it."""

    values: Mapping[str, Any]
    label: str
    param_label: str


def _entries_in_order(
    opt: Persisted, saved: Mapping[Any, Any], keys: list[Any], strict: bool
) -> list[_Entries]:
    known = set(keys)
    unknown = [key for key in saved if key not in known]
    if strict and unknown:
        raise ValueError(f"state_dict['state'][{unknown[0]!r}]: there is no parameter of that key")
    found = []
    for i, key in enumerate(keys):
        label = f"state_dict['state'][{key!r}]"
        values = saved.get(key, {})
        if not isinstance(values, Mapping):
            raise TypeError(f"{label}: expected a dict, got {type(values).__name__}")
        found.append(_Entries(values, label, opt._param_label(i)))
    return found


def _read_steps(opt: Persisted, completed: Any, entries: list[_Entries], strict: bool) -> list[int]:
    steps = []
    for saved in entries:
        step = saved.values.get("step")
        if step is not None:
            steps.append(_as_count(f"{saved.label}['step']", step))
            continue
        if strict and saved.values and not opt._step_may_be_missing:
            raise ValueError(f"{saved.label}['step']: missing, for {saved.param_label}")
        steps.append(_completed(completed, []) if saved.values else 0)
    return steps


def _known_entries(
    opt: Persisted, saved: _Entries, rule: str, strict: bool
) -> Iterator[tuple[str, Any]]:
    """Yield the arrays among a parameter's entries; None stands for one that isn't there yet."""
    known = {name for own in opt._rules for name in _STATES[own]} | {"ema"}
    for name, value in saved.values.items():
        if name not in {"step", *known}:
            if strict:
                raise ValueError(
                    f"{saved.label}[{name!r}]: {type(opt).__name__} has no such state; it has "
                    f"{', '.join(sorted(known))}"
                )
        elif name != "step" and value is not None:
            yield name, value
    for name in _STATES[rule]:
        if strict and saved.values and name not in saved.values:
            raise ValueError(f"{saved.label}[{name!r}]: missing, for {saved.param_label}")


def _read_array(value: Any, param: Array, label: str, param_label: str, adopts: bool) -> Array:
    if adopts and not isinstance(value, np.ndarray):
        raise TypeError(
            f"{label}: expected a NumPy array, as it isn't copied, got {type(value).__name__}"
        )
    if isinstance(value, np.ma.MaskedArray) or not hasattr(value, "__array__"):
        raise TypeError(f"{label}: expected a NumPy array, got {type(value).__name__}")
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever another library raises for a tensor that isn't here
        raise TypeError(f"{label}: can't be read as a NumPy array: {error}") from None
    if array.dtype != param.dtype:
        raise TypeError(
            f"{label}: expected dtype {param.dtype}, as {param_label} has, got {array.dtype}"
        )
    if array.shape != param.shape:
        raise ValueError(
            f"{label}: expected shape {param.shape}, as {param_label} has, got {array.shape}"
        )
    if adopts and not array.flags.carray:
        raise ValueError(
            f"{label}: expected a C-contiguous, aligned and writeable array, as it isn't copied"
        )
    return np.asarray(array, order="C")


def _as_count(label: str, value: Any) -> int:
    """Return a number of steps, which torch keeps as a float without dimensions."""
    if not isinstance(value, Real) and getattr(value, "shape", None) in ((), (1,)):
        value = value.item()
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{label}: expected a number of steps, got {value!r}")
    number = int(value) if isinstance(value, Integral) else float(value)
    if not (0 <= number <= MOST_STEPS and number == math.floor(number)):
        raise ValueError(f"{label}: expected a number of steps up to 2**53, got {value!r:.50}")
    return int(number)
