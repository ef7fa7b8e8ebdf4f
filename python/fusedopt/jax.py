"""Optimizers for JAX on the CPU: a step is one call inside of what `jax.jit` compiles.

Each function here returns an `Optimizer`, a pair of pure functions, with the rules, the arguments
and the defaults of the class of that name::

    opt = fusedopt.jax.adamw(lr=1e-3)
    state = opt.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def train_step(params, state, batch):
        loss, grads = jax.value_and_grad(loss_of)(params, batch)
        params, state = opt.step(params, grads, state)
        return params, state, loss

Parameters and state are trees of arrays, like any of JAX's. XLA updates the memory of what is
donated, or carried by a loop such as `jax.lax.scan`, in place; of anything else it makes a copy
first. Results are those of `fusedopt.reference`, bit for bit.

A number may be a function of the count of completed steps, from 0, as optax's schedules are: it is
traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from . import _core
from . import adam as _adam
from . import rmsprop as _rmsprop
from . import sgd as _sgd
from ._hyperparameters import Pair as PairCheck
from ._hyperparameters import numbers_of
from ._types import Number, Pair
from .optimizer import Optimizer as Core

__all__ = ["Optimizer", "adam", "adamw", "rmsprop", "sgd"]

Tree: TypeAlias = Any
State: TypeAlias = Mapping[str, Any]

_TARGET = "fusedopt_step"
_MOST_STEPS = np.iinfo(np.int32).max

jax.ffi.register_ffi_target(_TARGET, _core.xla_step(), platform="cpu")


class Optimizer(NamedTuple):
    """What initializes the state of parameters, and what takes a step.

    Attributes
    ----------
    init : function of params
        Returns the state: a dict with the count of completed steps, an int32 as ``"step"``, and for
        each state array of the rule, as ``"exp_avg"``, a tree like params.
    step : function of params, grads and state
        Returns new params and the new state.

    Examples
    --------
    >>> import jax, fusedopt.jax
    >>> opt = fusedopt.jax.sgd(lr=0.25)
    >>> params = {"w": jax.numpy.ones(2)}
    >>> state = opt.init(params)
    >>> params, state = opt.step(params, {"w": jax.numpy.ones(2)}, state)
    >>> params["w"].tolist(), int(state["step"])
    ([0.75, 0.75], 1)
    """

    init: Callable[[Tree], State]
    step: Callable[[Tree, Tree, State], tuple[Tree, State]]


def sgd(
    lr: Number = 1e-3,
    momentum: Number = 0,
    dampening: Number = 0,
    weight_decay: Number = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    momentum_init: str | None = None,
    velocity: bool = False,
) -> Optimizer:
    """Return gradient descent, plain, with momentum or Nesterov's: see `fusedopt.SGD`.

    Parameters
    ----------
    lr, momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay, \
momentum_init, velocity
        As for `fusedopt.SGD`.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is of the wrong type, out of range, or doesn't fit the others.

    Examples
    --------
    >>> import jax, fusedopt.jax
    >>> opt = fusedopt.jax.sgd(lr=0.1, momentum=0.5)
    >>> x = jax.numpy.array([4.0, -2.0])
    >>> state = opt.init(x)
    >>> step = jax.jit(lambda x, state: opt.step(x, 2 * x, state))  # the gradient of x²
    >>> for _ in range(100):
    ...     x, state = step(x, state)
    >>> bool(abs(x).max() < 1e-6)
    True
    """
    return _of(_sgd.SGD, locals())


def rmsprop(
    lr: Number = 1e-2,
    alpha: Number = 0.99,
    eps: Number = 1e-8,
    weight_decay: Number = 0,
    momentum: Number = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    eps_root: Number = 0,
    initial_square_avg: Number = 0,
    velocity: bool = False,
) -> Optimizer:
    """Return RMSProp: see `fusedopt.RMSprop`.

    Parameters
    ----------
    lr, alpha, eps, weight_decay, momentum, centered, maximize, decoupled_weight_decay, eps_root, \
initial_square_avg, velocity
        As for `fusedopt.RMSprop`.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is of the wrong type, out of range, or doesn't fit the others.

    Examples
    --------
    >>> import jax, fusedopt.jax
    >>> opt = fusedopt.jax.rmsprop(lr=lambda step: 0.3 * 0.95**step)
    >>> x = jax.numpy.array([4.0, -2.0])
    >>> state = opt.init(x)
    >>> step = jax.jit(lambda x, state: opt.step(x, 2 * x, state))  # the gradient of x²
    >>> for _ in range(100):
    ...     x, state = step(x, state)
    >>> bool(abs(x).max() < 0.1)
    True
    """
    return _of(_rmsprop.RMSprop, locals())


def adam(
    lr: Number = 1e-3,
    betas: Pair = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    eps_root: Number = 0,
    eps_hat: bool = False,
    amsgrad_max: str = "raw",
) -> Optimizer:
    """Return Adam, or AMSGrad: see `fusedopt.Adam`.

    Parameters
    ----------
    lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay, bias_correction, \
eps_root, eps_hat, amsgrad_max
        As for `fusedopt.Adam`.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is of the wrong type, out of range, or doesn't fit the others.

    Examples
    --------
    >>> import jax, fusedopt.jax
    >>> opt = fusedopt.jax.adam(lr=0.1)
    >>> def step(carried, _):
    ...     x, state = carried
    ...     return opt.step(x, 2 * x, state), None  # the gradient of x²
    >>> x = jax.numpy.array([4.0, -2.0])
    >>> (x, state), _ = jax.lax.scan(step, (x, opt.init(x)), length=300)
    >>> bool(abs(x).max() < 1e-3)
    True
    """
    return _of(_adam.Adam, locals())


def adamw(
    lr: Number = 1e-3,
    betas: Pair = (0.9, 0.999),
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    bias_correction: bool = True,
    eps_root: Number = 0,
    eps_hat: bool = False,
    amsgrad_max: str = "raw",
) -> Optimizer:
    """Return AdamW, Adam with decoupled weight decay: see `fusedopt.AdamW`.

    Parameters
    ----------
    lr, betas, eps, weight_decay, amsgrad, maximize, bias_correction, eps_root, eps_hat, amsgrad_max
        As for `fusedopt.AdamW`.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is of the wrong type, out of range, or doesn't fit the others.

    Examples
    --------
    >>> import jax, fusedopt.jax
    >>> opt = fusedopt.jax.adamw(lr=0.1)
    >>> x = jax.numpy.array([4.0, -2.0])
    >>> state = opt.init(x)
    >>> step = jax.jit(lambda x, state: opt.step(x, 2 * x, state))  # the gradient of x²
    >>> for _ in range(300):
    ...     x, state = step(x, state)
    >>> bool(abs(x).max() < 1e-3)
    True
    """
    return _of(_adam.AdamW, locals())


def _of(kind: type[Core], settings: Mapping[str, Any]) -> Optimizer:
    rule = _Rule(kind, settings)
    return Optimizer(rule.init, rule.step)


class _Rule:
    """A native rule, and the hyperparameters that it has."""

    def __init__(self, kind: type[Core], settings: Mapping[str, Any]) -> None:
        [self._group] = kind([{"params": []}], **settings).param_groups
        values, scheduled = self._group.unasked()
        self._name, numbers = kind._rule(values, scheduled)
        names, self._states = _core.rules()[self._name]
        self._initial = {"square_avg": values.get("initial_square_avg", 0)}  # others are zeros
        self._scheduled = sorted(scheduled)
        computed = [
            (names.index(number), low, high, f"{number}: expected {_expected(kind._checks[name])}")
            for name in self._scheduled
            for number, low, high in numbers_of(name, kind._checks[name])
        ]
        places, low, high, expected = zip(*computed, strict=True) if computed else [()] * 4
        self._attributes = {
            "rule": self._name,
            "hyperparameters": np.array([numbers[name] for name in names], np.float64),
            "computed": np.array(places, np.int64),
            "low": np.array(low, np.float64),
            "high": np.array(high, np.float64),
            "expected": "\n".join(expected),
        }

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
        if not isinstance(state, dict) or state.keys() != {"step", *self._states}:
            keys = ", ".join(repr(name) for name in ("step", *self._states))
            raise ValueError(f"state: expected what init returns, a dict with {keys}")
        own = [[leaf for _, leaf in leaves]]
        own += [_like(f"state[{name!r}]", state[name], leaves, form) for name in self._states]
        before = jnp.asarray(state["step"], jnp.int32)
        after = jnp.minimum(before, _MOST_STEPS - 1) + 1
        if leaves:
            own = self._call(after, self._computed_at(before), own, gradients)
        new, *states = map(form.unflatten, own)
        return new, {"step": after, **dict(zip(self._states, states, strict=True))}

    def _call(
        self, step: Any, numbers: list[Any], own: list[list[Any]], gradients: list[Any]
    ) -> list[list[Any]]:
        updated = [array for arrays in own for array in arrays]
        call = jax.ffi.ffi_call(
            _TARGET,
            [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in updated],
            input_output_aliases={1 + len(numbers) + i: i for i in range(len(updated))},
            vmap_method="sequential",
        )
        found = call(step, *numbers, *updated, *gradients, **self._attributes)
        count = len(gradients)
        return [[*found[k : k + count]] for k in range(0, len(found), count)]

    def _computed_at(self, step: Any) -> list[Any]:
        """Return the numbers that functions give, traced, each an array without dimensions."""
        found = []
        for name in self._scheduled:
            value = self._group[name]
            parts = value if isinstance(value, tuple) else (value,)
            given = [part(step) if callable(part) else part for part in parts]
            if isinstance(given[0], tuple | list):
                [given] = given
            for number in given:
                if jnp.shape(number) != ():
                    shape = jnp.shape(number)
                    raise TypeError(f"{name}: expected a number, got an array of shape {shape}")
                found.append(jnp.asarray(number, float))
        return found


def _expected(check: Any) -> str:
    return str((check.number if isinstance(check, PairCheck) else check).expected)


def _flattened(params: Tree) -> tuple[list[tuple[str, Any]], Any]:
    """Return the leaves, each with what errors call it, and the tree's form."""
    pairs, form = jax.tree_util.tree_flatten_with_path(params)
    leaves = [(f"params{jax.tree_util.keystr(path)}", jnp.asarray(leaf)) for path, leaf in pairs]
    for label, leaf in leaves:
        if leaf.dtype not in (jnp.float32, jnp.float64):
            raise TypeError(f"{label}: expected float32 or float64, got {leaf.dtype}")
    return leaves, form


def _like(name: str, tree: Tree, leaves: list[tuple[str, Any]], form: Any) -> list[Any]:
    """Return the leaves of a tree that has to be like params."""
    arrays, own = jax.tree.flatten(tree)
    if own != form:
        raise ValueError(f"{name}: expected a tree like params, {form}, got {own}")
    arrays = [jnp.asarray(array) for array in arrays]
    for (label, leaf), array in zip(leaves, arrays, strict=True):
        where = name + label.removeprefix("params")
        if array.dtype != leaf.dtype:
            raise TypeError(f"{where}: expected {leaf.dtype}, as {label} is, got {array.dtype}")
        if array.shape != leaf.shape:
            raise ValueError(f"{where}: expected shape {leaf.shape}, got {array.shape}")
    return arrays
