"""A rule of ours as a call in a program of XLA's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .. import _core
from .._hyperparameters import Check, numbers_of
from .._hyperparameters import Pair as PairCheck
from .._param_group import ParamGroup
from ..optimizer import Optimizer

Tree: TypeAlias = Any
State: TypeAlias = Mapping[str, Any]

_TARGET = "fusedopt_step"
_MOST_STEPS = np.iinfo(np.int32).max
#: Of one call: the time that XLA takes to compile a call grows with the square of their number.
_MOST_LEAVES = 32

jax.ffi.register_ffi_target(_TARGET, _core.xla_step(), platform="cpu")


class Rule:
    """A native rule, and the hyperparameters that it has."""

    def __init__(self, kind: type[Optimizer], settings: Mapping[str, Any]) -> None:
        given = {name: _scheduled_if_traced(value) for name, value in settings.items()}
        group = ParamGroup((), {name: kind._checks[name] for name in given}, (), given, "")
        values, scheduled = group.unasked()
        self._name, numbers = kind._rule(values, scheduled)
        names, self._states = _core.rules()[self._name]
        self._initial = {"square_avg": values.get("initial_square_avg", 0)}  # others are zeros
        self._numbers = np.array([numbers[name] for name in names], np.float64)
        self._scheduled = [
            _Scheduled(name, group[name], kind._checks[name], names) for name in sorted(scheduled)
        ]

    def init(self, params: Tree) -> State:
        leaves, form = _flattened(params)
        state: dict[str, Any] = {"step": jnp.zeros((), jnp.int32)}
        for name in self._states:
            first = self._initial.get(name, 0)
            state[name] = form.unflatten([jnp.full_like(leaf, first) for _, leaf in leaves])
        return state

    def step(self, params: Tree, grads: Tree, state: State) -> tuple[Tree, State]:
        leaves, form = _flattened(params)
        gradients = _like("grads", grads, leaves, form)
        if not hasattr(state, "keys") or {*state.keys()} != {"step", *self._states}:
            keys = ", ".join(repr(name) for name in ("step", *self._states))
            raise ValueError(f"state: expected what init returns, a dict with {keys}")
        own = [[leaf for _, leaf in leaves]]
        own += [_like(f"state[{name!r}]", state[name], leaves, form) for name in self._states]
        before = _count(state["step"])
        after = jnp.minimum(before, _MOST_STEPS - 1) + 1
        numbers, attributes = self._numbers_at(before)
        updated: list[list[Any]] = [[] for _ in own]
        for k in range(0, len(leaves), _MOST_LEAVES):
            some = slice(k, k + _MOST_LEAVES)
            parts = [arrays[some] for arrays in own]
            found = _call(after, numbers, parts, gradients[some], attributes)
            for arrays, part in zip(updated, found, strict=True):
                arrays += part
        new, *states = map(form.unflatten, updated)
        return new, {"step": after, **dict(zip(self._states, states, strict=True))}

    def _numbers_at(self, step: Any) -> tuple[list[Any], dict[str, Any]]:
        """Return the numbers that the program computes, and what is known of a step before it runs.

        What a function returns may be a number already, and is one of those then.
        """
        known = self._numbers.copy()
        computed: list[_Computed] = []
        for scheduled in self._scheduled:
            computed += scheduled.numbers_at(step, known)
        return [number.value for number in computed], {
            "rule": self._name,
            "hyperparameters": known,
            "computed": np.array([number.place for number in computed], np.int64),
            "low": np.array([number.low for number in computed], np.float64),
            "high": np.array([number.high for number in computed], np.float64),
            "expected": "\n".join(number.expected for number in computed),
        }


class _Computed(NamedTuple):
    """A number that the program computes, and its place among the rule's numbers."""

    value: Any
    place: int
    low: float
    high: float
    expected: str


class _Scheduled:
    """A hyperparameter that is a function, or a pair with functions."""

    def __init__(self, name: str, value: Any, check: Check, names: Sequence[str]) -> None:
        self._name, self._value = name, value
        self._check: Any = check.number if isinstance(check, PairCheck) else check
        self._numbers = [
            (number, names.index(number), low, high)
            for number, low, high in numbers_of(name, check)
        ]

    def numbers_at(self, step: Any, known: Any) -> Iterator[_Computed]:
        """Yield those that are computed, and write those that are numbers already."""
        given = self._given(step)
        for part, (name, place, low, high) in zip(given, self._numbers, strict=True):
            if isinstance(part, jax.Array):
                expected = f"{name}: expected {self._check.expected}"
                yield _Computed(_scalar(expected, part), place, low, high, expected)
            else:
                known[place] = self._check(name, part)

    def _given(self, step: Any) -> list[Any]:
        parts = self._value if isinstance(self._value, tuple) else (self._value,)
        given = [part(step) if callable(part) else part for part in parts]
        expected = len(self._numbers)
        if expected > 1 and len(given) == 1:
            [pair] = given
            given = [*pair] if isinstance(pair, tuple | list) else [pair]
        if len(given) != expected:
            text = f"{self._name}: expected {expected} numbers from its schedule, got {len(given)}"
            raise ValueError(text)
        return given


def _call(
    step: Any,
    numbers: list[Any],
    own: list[list[Any]],
    gradients: list[Any],
    attributes: dict[str, Any],
) -> list[list[Any]]:
    updated = [array for arrays in own for array in arrays]
    call = jax.ffi.ffi_call(
        _TARGET,
        [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in updated],
        input_output_aliases={1 + len(numbers) + i: i for i in range(len(updated))},
        vmap_method="sequential",
    )
    found = call(step, *numbers, *updated, *gradients, **attributes)
    count = len(gradients)
    return [[*found[k : k + count]] for k in range(0, len(found), count)]


def _scheduled_if_traced(value: Any) -> Any:
    """Return a function in the place of each number that is JAX's."""
    if isinstance(value, jax.Array):
        return lambda step: value
    if isinstance(value, tuple | list):
        return tuple(map(_scheduled_if_traced, value))
    return value


def _scalar(expected: str, number: Any) -> Any:
    real = jnp.issubdtype(number.dtype, jnp.floating) or jnp.issubdtype(number.dtype, jnp.integer)
    if number.shape != () or not real:
        got = f"{number.dtype} of shape {number.shape}"
        raise TypeError(f"{expected}, got {got}, from its schedule")
    return number.astype(float)


def _count(step: Any) -> Any:
    """Return the count of completed steps as an int32."""
    given = step if isinstance(step, jax.Array) else np.asarray(step)
    if given.shape != () or not jnp.issubdtype(given.dtype, jnp.integer):
        got = f"{given.dtype} of shape {given.shape}"
        raise TypeError(f"state['step']: expected an int without dimensions, got {got}")
    if isinstance(given, np.ndarray):  # of more bits, maybe, than JAX takes
        given = jnp.asarray(min(max(int(given), -1), _MOST_STEPS))
    return given.astype(jnp.int32)


def _array(label: str, leaf: Any) -> Any:
    try:
        return jnp.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{label}: expected an array, got {type(leaf).__name__}") from error


def _flattened(params: Tree) -> tuple[list[tuple[str, Any]], Any]:
    """Return the leaves, each with what errors call it, and the tree's form."""
    pairs, form = jax.tree_util.tree_flatten_with_path(params)
    labels = [f"params{jax.tree_util.keystr(path)}" for path, _ in pairs]
    leaves = [(label, _array(label, leaf)) for label, (_, leaf) in zip(labels, pairs, strict=True)]
    for label, leaf in leaves:
        if leaf.dtype not in (jnp.float32, jnp.float64):
            raise TypeError(f"{label}: expected float32 or float64, got {leaf.dtype}")
    return leaves, form


def _like(name: str, tree: Tree, leaves: list[tuple[str, Any]], form: Any) -> list[Any]:
    """Return the leaves of a tree that has to be like params."""
    items, own = jax.tree.flatten(tree)
    if own != form:
        raise ValueError(f"{name}: expected a tree like params, {form}, got {own}")
    arrays = []
    for (label, leaf), item in zip(leaves, items, strict=True):
        where = name + label.removeprefix("params")
        array = _array(where, item)
        if array.dtype != leaf.dtype:
            raise TypeError(f"{where}: expected {leaf.dtype}, as {label} is, got {array.dtype}")
        if array.shape != leaf.shape:
            raise ValueError(f"{where}: expected shape {leaf.shape}, got {array.shape}")
        arrays.append(array)
    return arrays
