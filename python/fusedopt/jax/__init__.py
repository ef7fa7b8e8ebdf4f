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

A number may be a function of the count of completed steps, from 0, as optax's schedules are, or an
array of JAX's without dimensions, traced or not. Such a number is as precise as JAX computes it, in
float32 unless it has float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .._types import Number, Pair
from ..adam import Adam, AdamW
from ..optimizer import Optimizer as Core
from ..rmsprop import RMSprop
from ..sgd import SGD
from ._rule import Rule, State, Tree

__all__ = ["Optimizer", "adam", "adamw", "rmsprop", "sgd"]


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
    return _of(SGD, locals())


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
    return _of(RMSprop, locals())


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
    return _of(Adam, locals())


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
    return _of(AdamW, {**locals(), "decoupled_weight_decay": True})


def _of(kind: type[Core], settings: Mapping[str, Any]) -> Optimizer:
    rule = Rule(kind, settings)
    return Optimizer(rule.init, rule.step)
