"""The optimizers of ``autograd.misc.optimizers``, with the same arguments, by fused kernels.

They update a copy of ``x0`` in place, in one pass over memory, instead of making one vector of the
parameters and one of the gradients each time. With g = ``grad(x, i)`` and t = i + 1 an iteration
is::

    v ← mass·v + (1 − mass)·g                      # sgd
    x ← x − step_size·v

    v ← gamma·v + (1 − gamma)·g²                   # rmsprop, from v = 1
    x ← x − step_size·g / (√v + eps)

    m ← b1·m + (1 − b1)·g                          # adam
    v ← b2·v + (1 − b2)·g²
    x ← x − step_size·(m/(1 − b1ᵗ)) / (√(v/(1 − b2ᵗ)) + eps)

Where leaves of ``x0`` aren't float64, autograd's own function steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from autograd.misc import optimizers as theirs

from ._hyperparameters import decay_rate, finite, fraction, non_negative
from .adam import Adam
from .flat import flat_views
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["adam", "rmsprop", "sgd"]

Tree: TypeAlias = Any  # of lists, tuples and dicts, with arrays and floats for leaves
Callback: TypeAlias = Callable[[Tree, int, Tree], object]


def sgd(
    grad: Callable[[Tree, int], Tree],
    x0: Tree,
    callback: Callback | None = None,
    num_iters: int = 200,
    step_size: float = 0.1,
    mass: float = 0.9,
) -> Tree:
    """Minimize by gradient descent along a moving average of the gradient.

    Parameters
    ----------
    grad : function of x and the iteration's number from 0
        Returns the gradient at x, a tree like x. x is updated in place afterwards.
    x0 : tree
        Where to start: lists, tuples and dicts, nested, of arrays and floats; stays as it is.
    callback : function of x, the iteration's number, and the gradient, optional
        Called at every iteration before x is updated, with a copy of x.
    num_iters : int, default 200
        How many iterations.
    step_size : float, default 0.1
        The learning rate; a negative one goes up the gradient.
    mass : float, default 0.9
        How much of the average stays, in [0, 1].

    Returns
    -------
    tree
        Like x0, with an array for each float.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type or out of range, or a gradient doesn't fit x.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fusedopt.autograd import sgd
    >>> loss = lambda x, i: np.sum((x["a"] - 3) ** 2) + x["b"] ** 2
    >>> x = sgd(grad(loss), {"a": np.zeros(2), "b": 1.0}, num_iters=300)
    >>> bool(np.allclose(x["a"], 3) and np.allclose(x["b"], 0, atol=1e-6))
    True
    """
    rate, goes_up = _rate(step_size)
    kept = fraction("mass", mass)
    init = "zeros" if kept else None

    def make(params: list[Any]) -> Optimizer:
        return SGD(params, rate, kept, kept, maximize=goes_up, momentum_init=init)

    if not _is_ours(x0):
        return theirs.sgd(grad, x0, callback, num_iters, step_size, mass)
    return _minimize(make, grad, x0, callback, num_iters)


def rmsprop(
    grad: Callable[[Tree, int], Tree],
    x0: Tree,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: float = 0.1,
    gamma: float = 0.9,
    eps: float = 10**-8,
) -> Tree:
    """Minimize by RMSProp, whose average of the squared gradient begins with ones.

    Parameters
    ----------
    grad, x0, callback, step_size
        As for `sgd`.
    num_iters : int, default 100
        How many iterations.
    gamma : float, default 0.9
        How much of the average stays, in [0, 1).
    eps : float, default 1e-8
        Added to the average's root, >= 0.

    Returns
    -------
    tree
        Like x0, with an array for each float.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type or out of range, or a gradient doesn't fit x.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fusedopt.autograd import rmsprop
    >>> x = rmsprop(grad(lambda x, i: np.sum((x - 3) ** 2)), np.zeros(2), step_size=0.05)
    >>> bool(np.allclose(x, 3, atol=0.1))
    True
    """
    rate, goes_up = _rate(step_size)
    alpha, smallest = decay_rate("gamma", gamma), non_negative("eps", eps)

    def make(params: list[Any]) -> Optimizer:
        return RMSprop(params, rate, alpha, smallest, initial_square_avg=1, maximize=goes_up)

    if not _is_ours(x0):
        return theirs.rmsprop(grad, x0, callback, num_iters, step_size, gamma, eps)
    return _minimize(make, grad, x0, callback, num_iters)


def adam(
    grad: Callable[[Tree, int], Tree],
    x0: Tree,
    callback: Callback | None = None,
    num_iters: int = 100,
    step_size: float = 0.001,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 10**-8,
) -> Tree:
    """Minimize by Adam.

    Parameters
    ----------
    grad, x0, callback, step_size
        As for `sgd`; ``step_size`` is 0.001 by default.
    num_iters : int, default 100
        How many iterations.
    b1, b2 : float, default 0.9 and 0.999
        How much of the averages of the gradient and of its square stays, in [0, 1).
    eps : float, default 1e-8
        Added to the root of the second, >= 0.

    Returns
    -------
    tree
        Like x0, with an array for each float.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type or out of range, or a gradient doesn't fit x.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fusedopt.autograd import adam
    >>> def callback(x, i, g):
    ...     if i % 100 == 0:
    ...         print(i, x.round(2))
    >>> gradient = grad(lambda x, i: np.sum((x - 3) ** 2))
    >>> x = adam(gradient, np.zeros(2), callback, num_iters=201, step_size=0.1)
    0 [0. 0.]
    100 [2.98 2.98]
    200 [3. 3.]
    """
    rate, goes_up = _rate(step_size)
    betas = decay_rate("b1", b1), decay_rate("b2", b2)
    smallest = non_negative("eps", eps)

    def make(params: list[Any]) -> Optimizer:
        return Adam(params, rate, betas, smallest, maximize=goes_up)

    if not _is_ours(x0):
        return theirs.adam(grad, x0, callback, num_iters, step_size, b1, b2, eps)
    return _minimize(make, grad, x0, callback, num_iters)


def _rate(step_size: float) -> tuple[float, bool]:
    """Return a learning rate, and whether it is to go up the gradient."""
    number = finite("step_size", step_size)
    return abs(number), number < 0


def _minimize(
    make: Callable[[list[Any]], Optimizer],
    grad: Callable[[Tree, int], Tree],
    x0: Tree,
    callback: Callback | None,
    num_iters: int,
) -> Tree:
    leaves = [*_leaves(x0)]
    _, params = flat_views([np.shape(leaf) for leaf in leaves], np.float64)
    for array, leaf in zip(params, leaves, strict=True):
        array[...] = leaf
    x = _like(x0, iter(params))
    opt = make(params)
    for i in range(num_iters):
        gradient = grad(x, i)
        if callback:
            callback(_like(x0, (array.copy() for array in params)), i, gradient)
        _step(opt, params, [*_leaves(gradient)])
    return x


def _step(opt: Optimizer, params: list[Any], grads: list[Any]) -> None:
    if any(g is None for g in grads):  # which is no gradient to the core, and none is an error here
        raise TypeError("grad: expected it to return arrays and floats, in a tree like x, got None")
    try:
        opt.step(grads)
    except (TypeError, ValueError):  # a number for an array of none, another layout, x itself
        if len(grads) != len(params):
            raise
        opt.step([_copy_like(p, g) for p, g in zip(params, grads, strict=True)])


def _copy_like(param: Any, grad: Any) -> Any:
    return np.array(grad).astype(np.float64, order="C", casting="same_kind").reshape(param.shape)


def _leaves(tree: Tree) -> Iterator[Any]:
    """Go through a tree in autograd's order."""
    if type(tree) is dict:
        for key in sorted(tree):
            yield from _leaves(tree[key])
    elif type(tree) in (list, tuple):
        for branch in tree:
            yield from _leaves(branch)
    else:
        yield tree


def _like(tree: Tree, leaves: Iterator[Any]) -> Tree:
    """Return a tree of the same form, with other leaves."""
    if type(tree) is dict:
        made = {key: _like(tree[key], leaves) for key in sorted(tree)}
        return {key: made[key] for key in tree}
    if type(tree) in (list, tuple):
        return type(tree)([_like(branch, leaves) for branch in tree])
    return next(leaves)


def _is_ours(tree: Tree) -> bool:
    """Return whether there are leaves, all of them such as autograd keeps in float64, and we do."""
    leaves = [*_leaves(tree)]
    return bool(leaves) and all(
        isinstance(leaf, float) or (type(leaf) is np.ndarray and leaf.dtype == np.float64)
        for leaf in leaves
    )
