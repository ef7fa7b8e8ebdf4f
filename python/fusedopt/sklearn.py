"""scikit-learn's networks, with the steps of their training in one pass over memory.

They are scikit-learn's own estimators, with its arguments, its attributes and its results; with
``solver="adam"`` or ``"sgd"`` the parameters are updated by fused kernels. With g the gradient, p a
parameter and t the step count from 1, a step of ``solver="adam"`` is::

    m ← beta_1·m + (1 − beta_1)·g
    v ← beta_2·v + (1 − beta_2)·g²
    p ← p − learning_rate_init·√(1 − beta_2ᵗ)/(1 − beta_1ᵗ) · m / (√v + epsilon)

and one of ``solver="sgd"``, where ``learning_rate`` is what the schedule says::

    v ← momentum·v − learning_rate·g
    p ← p + v                                  # without nesterovs_momentum
    p ← p + momentum·v − learning_rate·g       # with it
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any

from sklearn import neural_network
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from . import adam, sgd
from ._borrowing import borrow_state, set_hyperparameters
from .optimizer import Optimizer

__all__ = ["MLPClassifier", "MLPRegressor"]


class _Kernels:
    """An optimizer of the core's over the arrays of one of scikit-learn's."""

    def __init__(self, make: Callable[[list[Any]], Optimizer]) -> None:
        self._make = make
        self._params: list[Any] = []
        self._state: list[Any] = []
        self._core: Optimizer | None = None

    def step(
        self,
        params: list[Any],
        grads: list[Any],
        state: Mapping[str, list[Any]],
        hyperparameters: Mapping[str, Any],
    ) -> bool:
        """Take a step; False where kernels can't, and then nothing has changed."""
        arrays = [array for each in state.values() for array in each]
        if len(grads) != len(params) or len(arrays) != len(params) * len(state):
            return False
        if params and not grads[0].dtype == arrays[0].dtype == params[0].dtype:
            return False  # soon, as it may be so at every step
        try:
            core = self._core
            if not core or not (_are_same(params, self._params) and _are_same(arrays, self._state)):
                core = self._borrow(params, state)
                self._core, self._params, self._state = core, [*params], arrays
            set_hyperparameters(core, hyperparameters)
            core.step(grads)
        except (TypeError, ValueError):
            return False
        return True

    def _borrow(self, params: list[Any], state: Mapping[str, list[Any]]) -> Optimizer:
        core = self._make(params)
        entries: dict[int, dict[str, Any]] = {i: {"step": 1} for i in range(len(params))}
        for name, arrays in state.items():
            for i, array in enumerate(arrays):
                entries[i][name] = array
        borrow_state(core, entries)
        return core


def _are_same(arrays: list[Any], others: list[Any]) -> bool:
    return len(arrays) == len(others) and all(map(is_, arrays, others))


class _WithKernels:
    """An optimizer of scikit-learn's: its state lies in its own arrays, as it was."""

    def __init__(self, made: Any) -> None:
        """Go on from where another one is, apart from it."""
        self.__setstate__({name: _copied(value) for name, value in vars(made).items()})

    def __copy__(self) -> Any:
        return type(self)(self)

    @staticmethod
    @abstractmethod
    def _over(params: list[Any]) -> Optimizer:
        """Return what steps these parameters."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what finds the arrays again, in a copy and after a file."""
        return {name: value for name, value in vars(self).items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._kernels = _Kernels(self._over)


def _copied(value: Any) -> Any:
    """Return lists with copies of their arrays, which scikit-learn replaces and kernels don't."""
    return [array.copy() for array in value] if isinstance(value, list) else value


class _Adam(_WithKernels, AdamOptimizer):
    t: int

    @staticmethod
    def _over(params: list[Any]) -> Optimizer:
        return adam.Adam([{"params": params}], bias_correction=False)

    def update_params(self, params: list[Any], grads: list[Any]) -> None:
        t = self.t + 1
        rate = self.learning_rate_init * (1 - self.beta_2**t) ** 0.5 / (1 - self.beta_1**t)
        settings = {"lr": rate, "betas": (self.beta_1, self.beta_2), "eps": self.epsilon}
        state = {"exp_avg": self.ms, "exp_avg_sq": self.vs}
        if self._kernels.step(params, grads, state, settings):
            self.t, self.learning_rate = t, rate
        else:
            super().update_params(params, grads)


class _SGD(_WithKernels, SGDOptimizer):
    @staticmethod
    def _over(params: list[Any]) -> Optimizer:
        return sgd.SGD([{"params": params}], velocity=True)

    def update_params(self, params: list[Any], grads: list[Any]) -> None:
        settings = {
            "lr": self.learning_rate,
            "momentum": self.momentum,
            "nesterov": self.nesterov and self.momentum > 0,  # the same without a momentum
        }
        if not self._kernels.step(params, grads, {"momentum_buffer": self.velocities}, settings):
            super().update_params(params, grads)


class _Stepping:
    """What makes the optimizer that scikit-learn gives an estimator one that steps by kernels."""

    @property
    def _optimizer(self) -> Any:
        try:
            return vars(self)["_optimizer"]
        except KeyError:
            raise AttributeError("_optimizer: there is none before a fit") from None

    @_optimizer.setter
    def _optimizer(self, made: Any) -> None:
        kinds: dict[type, Any] = {AdamOptimizer: _Adam, SGDOptimizer: _SGD}
        kind = kinds.get(type(made))
        vars(self)["_optimizer"] = kind(made) if kind else made

    @_optimizer.deleter
    def _optimizer(self) -> None:
        vars(self).pop("_optimizer", None)


class MLPClassifier(_Stepping, neural_network.MLPClassifier):
    """scikit-learn's ``MLPClassifier``, whose solvers ``adam`` and ``sgd`` step by fused kernels.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, ...
        All as in scikit-learn, with its defaults.

    Raises
    ------
    TypeError, ValueError
        As scikit-learn does.

    Notes
    -----
    Attributes are scikit-learn's, too. Results agree to within rounding; where a step overflows,
    NumPy's warning of it is missing. ``solver="lbfgs"``, and a ``partial_fit`` in another precision
    than the first, step as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.sklearn import MLPClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = X[:, 0] > X[:, 1]
    >>> model = MLPClassifier((10,), learning_rate_init=0.05, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """


class MLPRegressor(_Stepping, neural_network.MLPRegressor):
    """scikit-learn's ``MLPRegressor``, whose solvers ``adam`` and ``sgd`` step by fused kernels.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, ...
        All as in scikit-learn, with its defaults.

    Raises
    ------
    TypeError, ValueError
        As scikit-learn does.

    Notes
    -----
    Attributes are scikit-learn's, too. Results agree to within rounding; where a step overflows,
    NumPy's warning of it is missing. ``solver="lbfgs"``, and a ``partial_fit`` in another precision
    than the first, step as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.sklearn import MLPRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = X[:, 0] * X[:, 1]
    >>> model = MLPRegressor(hidden_layer_sizes=(40,), learning_rate_init=0.02, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """
