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

Where leaves of ``x0`` aren't float64, or numbers are such as kernels don't take, autograd's own
function steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from autograd.misc import optimizers as theirs

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
        Returns the gradient at x: as many numbers, in a tree like x. The arrays of x are updated
        in place afterwards, and can't be written to, unless x0 is one array.
    x0 : tree
        Where to start: lists, tuples and dicts, nested, of arrays and floats; stays as it is.
    callback : function of x, the iteration's number, and the gradient, optional
        Called at every iteration before x is updated, with copies. Where x0 is one array, what it
        writes into them counts.
    num_iters : int, default 200
        How many iterations.
    step_size : float, default 0.1
        The learning rate; a negative one goes up the gradient.
    mass : float, default 0.9
        How much of the average stays.

    Returns
    -------
    tree
        Like x0, with an array for each float.

    Raises
    ------
    TypeError, ValueError
        If a gradient doesn't fit x, or as autograd does.

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

    def make(params: list[Any]) -> Optimizer:
        rate, up = _rate(step_size)
        init = "zeros" if mass else None
        return SGD(params, rate, mass, mass, maximize=up, momentum_init=init)

    call = grad, x0, callback, num_iters
    opt = _made(make, x0)
    return _minimize(opt, *call) if opt else theirs.sgd(*call, step_size, mass)


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
        How much of the average stays.
    eps : float, default 1e-8
        Added to the average's root.

    Returns
    -------
    tree
        Like x0, with an array for each float.

    Raises
    ------
    TypeError, ValueError
        If a gradient doesn't fit x, or as autograd does.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fusedopt.autograd import rmsprop
    >>> x = rmsprop(grad(lambda x, i: np.sum((x - 3) ** 2)), np.zeros(2), step_size=0.05)
    >>> bool(np.allclose(x, 3, atol=0.1))
    True
    """

    def make(params: list[Any]) -> Optimizer:
        rate, up = _rate(step_size)
        return RMSprop(params, rate, gamma, eps, initial_square_avg=1, maximize=up)

    call = grad, x0, callback, num_iters
    opt = _made(make, x0)
    return _minimize(opt, *call) if opt else theirs.rmsprop(*call, step_size, gamma, eps)


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
        How much of the averages of the gradient and of its square stays.
    eps : float, default 1e-8
        Added to the root of the second.

    Returns
    -------
    tree
        Like x0, with an array for each float.

    Raises
    ------
    TypeError, ValueError
        If a gradient doesn't fit x, or as autograd does.

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

    def make(params: list[Any]) -> Optimizer:
        rate, up = _rate(step_size)
        return Adam(params, rate, (b1, b2), eps, maximize=up)

    call = grad, x0, callback, num_iters
    opt = _made(make, x0)
    return _minimize(opt, *call) if opt else theirs.adam(*call, step_size, b1, b2, eps)


def _rate(step_size: Any) -> tuple[float, bool]:
    """Return a learning rate, and whether it is to go up the gradient."""
    if not isinstance(step_size, Real):
        raise TypeError("step_size: expected a number")
    return abs(float(step_size)), step_size < 0


def _made(make: Callable[[list[Any]], Optimizer], x0: Tree) -> Optimizer | None:
    """Return what optimizes a copy of x0; None where that is autograd's."""
    leaves = [*_leaves(x0)]
    if not leaves or not all(map(_is_double, leaves)):
        return None
    _, params = flat_views([np.shape(leaf) for leaf in leaves], np.float64)
    for array, leaf in zip(params, leaves, strict=True):
        array[...] = leaf
    try:
        return make(params)
    except (TypeError, ValueError):
        return None


def _is_double(leaf: Any) -> bool:
    return isinstance(leaf, float) or (type(leaf) is np.ndarray and leaf.dtype == np.float64)


def _minimize(
    opt: Optimizer,
    grad: Callable[[Tree, int], Tree],
    x0: Tree,
    callback: Callback | None,
    num_iters: int,
) -> Tree:
    params = list(opt.param_groups[0]["params"])
    is_one = not isinstance(x0, dict | list | tuple)
    shown = params if is_one else [_read_only(array) for array in params]
    for i in range(num_iters):
        # In containers of its own, as it may put something else there.
        grads = [*_leaves(grad(_like(x0, shown), i))]
        if callback or not all(map(_fits, grads, params)) or len(grads) != len(params):
            grads = _copies_like(params, grads)
        if callback:
            seen = [array.copy() for array in params], [array.copy() for array in grads]
            callback(_like(x0, seen[0]), i, _like(x0, seen[1]))
            if is_one:
                params[0][...], grads = seen[0][0], seen[1]
        try:
            opt.step(grads)
        except ValueError:  # it lies in x, or not in order
            opt.step(_copies_like(params, grads))
    return _like(x0, params)


def _read_only(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


def _fits(grad: Any, param: Any) -> bool:
    return type(grad) is np.ndarray and grad.dtype == np.float64 and grad.shape == param.shape


def _copies_like(params: list[Any], grads: list[Any]) -> list[Any]:
    """Return arrays like params with all numbers of a gradient, in their order."""
    for grad in grads:
        if not isinstance(grad, Real) and type(grad) is not np.ndarray:
            kind = type(grad).__name__
            raise TypeError(f"grad: expected it to return arrays and floats, got {kind}")
    numbers = np.concatenate([np.ravel(grad) for grad in grads]) if grads else np.empty(0)
    if not np.can_cast(numbers.dtype, np.float64, "same_kind"):
        raise TypeError(f"grad: expected real numbers, got {numbers.dtype}")
    expected = sum(param.size for param in params)
    if numbers.size != expected:
        raise ValueError(f"grad: expected {expected} numbers, as many as x has, got {numbers.size}")
    ends = np.cumsum([param.size for param in params])[:-1]
    parts = np.split(numbers.astype(np.float64), ends)
    return [part.reshape(param.shape) for part, param in zip(parts, params, strict=True)]


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


def _like(tree: Tree, leaves: Iterable[Any]) -> Tree:
    """Return a tree of the same form, with other leaves."""
    return _filled(tree, iter(leaves))


def _filled(tree: Tree, leaves: Iterator[Any]) -> Tree:
    if type(tree) is dict:
        made = {key: _filled(tree[key], leaves) for key in sorted(tree)}
        return {key: made[key] for key in tree}
    if type(tree) in (list, tuple):
        return type(tree)([_filled(branch, leaves) for branch in tree])
    return next(leaves)
