"""States as state_dict() gives them, changed into others, and into what can't be loaded."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .values import numbers

Rng = np.random.Generator


def _arrays(state: Any) -> list[tuple[dict[str, Any], str]]:
    """Return where arrays are, in an order that doesn't depend on which optimizer it is from."""
    return [
        (entries, name)
        for entries in state["state"].values()
        for name, value in sorted(entries.items())
        if isinstance(value, np.ndarray)
    ]


def state_numbers(rng: Rng, name: str, array: Any) -> Any:
    """Return other numbers for a state array.

    Means of squares are at least 0, and not -0: NumPy's maximum may be either zero of two.
    """
    values = numbers(rng, array.dtype, array.shape)
    return np.abs(values) if "sq" in name else values


def _one_array(rng: Rng, state: Any) -> tuple[dict[str, Any], str] | None:
    found = _arrays(state)
    return found[rng.integers(len(found))] if found else None


def _one_entry(rng: Rng, state: Any) -> dict[str, Any] | None:
    entries = list(state["state"].values())
    return entries[rng.integers(len(entries))] if entries else None


# Each changes a state and returns whether there was anything to change.


def other_numbers(rng: Rng, state: Any) -> bool:
    found = _arrays(state)
    for entries, name in found:
        entries[name][...] = state_numbers(rng, name, entries[name])
    return bool(found)


def other_steps(rng: Rng, state: Any) -> bool:
    for entries in state["state"].values():
        entries["step"] = int(rng.choice([0, 1, 7, 400, 2**24 + 1, 2**53]))
        if rng.random() < 0.2:
            entries["step"] = float(entries["step"])
    return bool(state["state"])


def other_completed(rng: Rng, state: Any) -> bool:
    state["completed_steps"] = int(rng.integers(0, 30))
    return True


def no_completed(rng: Rng, state: Any) -> bool:
    del state["completed_steps"]
    return True


def one_forgotten(rng: Rng, state: Any) -> bool:
    keys = list(state["state"])
    if keys:
        del state["state"][keys[rng.integers(len(keys))]]
    return bool(keys)


def array_to_be_made(rng: Rng, state: Any) -> bool:
    found = _one_array(rng, state)
    if found:
        entries, name = found
        entries[name] = None
    return found is not None


def without_average(rng: Rng, state: Any) -> bool:
    found = [entries for entries in state["state"].values() if "ema" in entries]
    for entries in found:
        del entries["ema"]
    return bool(found)


def exchanged(rng: Rng, state: Any) -> bool:
    """Two arrays of one name, shape and dtype in each other's place."""
    found = _arrays(state)
    for entries, name in found:
        for others, other in found[::-1]:
            a, b = entries[name], others[other]
            if a is not b and (name, a.shape, a.dtype) == (other, b.shape, b.dtype):
                entries[name], others[other] = b, a
                return True
    return False


def odd_layout(rng: Rng, state: Any) -> bool:
    found = [(e, n) for e, n in _arrays(state) if e[n].size > 1 and e[n].ndim]
    for entries, name in found:
        entries[name] = np.repeat(entries[name], 2, axis=-1)[..., ::2]
    return bool(found)


VALID: list[Callable[[Rng, Any], bool]] = [
    lambda rng, state: True,
    other_numbers,
    other_steps,
    other_completed,
    no_completed,
    one_forgotten,
    array_to_be_made,
    without_average,
    exchanged,
    odd_layout,
]


def _in_group(**values: Any) -> Callable[[Rng, Any], bool]:
    def change(rng: Rng, state: Any) -> bool:
        groups = state["param_groups"]
        groups[rng.integers(len(groups))].update(values)
        return True

    return change


def _in_state(**values: Any) -> Callable[[Rng, Any], bool]:
    def change(rng: Rng, state: Any) -> bool:
        state.update(values)
        return True

    return change


def _in_entry(**values: Any) -> Callable[[Rng, Any], bool]:
    def change(rng: Rng, state: Any) -> bool:
        entries = _one_entry(rng, state)
        if entries is not None:
            entries.update(values)
        return entries is not None

    return change


def _other_array(make: Callable[[Rng, Any], Any]) -> Callable[[Rng, Any], bool]:
    def change(rng: Rng, state: Any) -> bool:
        found = _one_array(rng, state)
        if found:
            entries, name = found
            entries[name] = make(rng, entries[name])
        return found is not None

    return change


def _one_group_more(rng: Rng, state: Any) -> bool:
    state["param_groups"] = [*state["param_groups"], copy.copy(state["param_groups"][0])]
    return True


def _unknown_parameter(rng: Rng, state: Any) -> bool:
    state["state"][10**6] = {}
    return True


def _without_step(rng: Rng, state: Any) -> bool:
    """Only where the step has to be there: torch's SGD doesn't count."""
    entries = _one_entry(rng, state)
    if entries is None or state["optimizer"] == "SGD":
        return False
    return entries.pop("step", None) is not None


# Refused whatever strict is; and with strict only.
INVALID: list[Callable[[Rng, Any], bool]] = [
    _in_group(lr=-1),
    _in_group(lr="0.1"),
    _in_group(lr={"kind": "sine"}),
    _in_group(lr={"kind": "cosine", "start": "a", "steps": 3, "end": 0}),
    _in_group(ema_decay=2),
    _in_group(params=[0] * 99),
    _in_group(params=5),
    _in_group(maximize=1),
    _in_state(state=[]),
    _in_state(param_groups={}),
    _in_state(param_groups=[]),
    _in_state(completed_steps=-1),
    _in_state(completed_steps="3"),
    _one_group_more,
    _in_entry(step=-1),
    _in_entry(step=1.5),
    _in_entry(step=math.nan),
    _in_entry(step=2**53 + 2),
    _in_entry(step=None, ema=3),
    _in_entry(ema=[1.0]),
    _other_array(lambda rng, a: np.zeros(a.shape, np.float16)),
    _other_array(lambda rng, a: numbers(rng, a.dtype, (*a.shape, 1))),
    _other_array(lambda rng, a: a.astype(a.dtype.newbyteorder())),
    _other_array(lambda rng, a: a.tolist()),
    _other_array(lambda rng, a: np.ma.array(a)),
    _other_array(lambda rng, a: "an array"),
]
STRICTLY_INVALID: list[Callable[[Rng, Any], bool]] = [
    _in_state(optimizer="Adagrad"),
    _in_group(no_such=1),
    _in_entry(no_such=np.ones(1)),
    _unknown_parameter,
    _without_step,
]
