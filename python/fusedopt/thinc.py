"""thinc's optimizers, with which spaCy trains: the step of a parameter in one pass over memory.

They are thinc's own, `isinstance` and all, with its schedules and its state; where kernels can't
step, as on a GPU, its arithmetic steps over the same arrays. In a config they are ``@optimizers =
"fusedopt.Adam.v1"`` and ``"fusedopt.SGD.v1"``, with the settings of ``Adam.v1`` and ``SGD.v1``.

With g the gradient, p the parameter, and t the parameter's step count from 1, a step is::

    g ← g + L2·p                                        # unless L2_is_weight_decay
    g ← g·min(1, grad_clip/‖g‖)                         # where grad_clip isn't 0
    m ← β₁·m + (1 − β₁)·g
    v ← β₂·v + (1 − β₂)·g²
    p ← p − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + eps)    # Adam
    p ← p − lr·g                                        # SGD
    p ← p − lr·L2·p                                     # with L2_is_weight_decay
    a ← a + (1 − min((1 + t)/(10 + t), 0.9999))·(p − a) # with use_averages, from a = 0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from thinc import optimizers, schedules

from . import adam, sgd
from ._hyperparameters import flag
from .optimizer import Optimizer as Core

__all__ = ["SGD", "Adam", "Optimizer"]

_NUMBERS = ("learn_rate", "b1", "b2", "eps", "L2", "grad_clip")


class Optimizer(optimizers.Optimizer):
    """thinc's optimizer, that steps by fused kernels.

    Parameters
    ----------
    learn_rate, L2, beta1, beta2, eps, grad_clip, use_averages, L2_is_weight_decay
        As in thinc: numbers, or thinc's schedules.
    deferred : bool, default False
        Take steps not at each call but together, in ``step_schedules()``, which every training loop
        has to call then after its last ``finish_update()``, as spaCy's does: fewer microseconds for
        each parameter. Before that weights are as they were.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.thinc import Adam
    >>> optimizer = Adam(0.1, grad_clip=0.0)
    >>> x = np.array([4.0, -2.0], "f")
    >>> for _ in range(300):
    ...     x, _ = optimizer((1, "x"), x, 2 * x)  # the gradient of x²
    >>> bool((abs(x) < 1e-3).all())
    True
    """

    __slots__ = ("_deferred", "_kernels", "_waiting")

    def __init__(self, learn_rate: Any, *, deferred: bool = False, **settings: Any) -> None:
        self._deferred = flag("deferred", deferred)
        self._kernels: dict[bool, _Kernels] = {}  # of Adam's steps, and of SGD's
        self._waiting: dict[Any, _Call] = {}  # what is deferred
        super().__init__(learn_rate, **settings)

    def __call__(
        self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0
    ) -> tuple[Any, Any]:
        """Take a step of a parameter, now or in ``step_schedules()``, and zero its gradient."""
        if self._waiting and key in self._waiting:
            self._take_deferred()
        if len(gradient) < 1:
            return weights, gradient
        numbers = self._numbers_for(key)
        kernels = self._kernels_for(numbers)
        call = _Call(key, weights, gradient, lr_scale, numbers)
        if kernels is None or not kernels.has(call, self._state_of):
            stepped = self._step_by_thinc(call)
            if kernels is not None:
                kernels.expect(key, stepped[0])
            return stepped
        if self._deferred:
            self._waiting[key] = call
        else:
            self._step_by_kernels(kernels, [call])
        return weights, gradient

    def step_schedules(self) -> None:
        """Take the steps that were deferred, and go on with the schedules."""
        self._take_deferred()
        super().step_schedules()

    def _take_deferred(self) -> None:
        waiting, self._waiting = self._waiting, {}
        together: dict[Any, list[_Call]] = {}
        for call in waiting.values():
            kernels = self._kernels_for(call.numbers)
            if kernels is None or not kernels.has(call, self._state_of):
                self._step_by_thinc(call)  # its state was replaced meanwhile
                continue
            alike = call.numbers, call.lr_scale, self.nr_update[call.key]
            together.setdefault(alike, []).append(call)
        for (numbers, *_), calls in together.items():
            kernels = self._kernels_for(numbers)
            assert kernels is not None  # by these very numbers
            self._step_by_kernels(kernels, calls)

    def _step_by_kernels(self, kernels: _Kernels, calls: list[_Call]) -> None:
        """Take a step of parameters that are at the same one, or the more thorough way."""
        count = self.nr_update[calls[0].key] + 1
        try:
            kernels.step(self.L2_is_weight_decay, count, calls)
        except (TypeError, ValueError):  # nothing has changed
            for call in calls:
                self._step_by_thinc(call)
            return
        for call in calls:
            self.nr_update[call.key] = count

    def _step_by_thinc(self, call: _Call) -> tuple[Any, Any]:
        stepped: tuple[Any, Any] = super().__call__(
            call.key, call.weights, call.gradient, lr_scale=call.lr_scale
        )
        return stepped

    def _numbers_for(self, key: Any) -> _Numbers:
        return _Numbers(*[self._number(getattr(self, name), key) for name in _NUMBERS])

    def _number(self, setting: Any, key: Any) -> float:
        if not callable(setting):  # before thinc 9 a number, whatever the schedule
            return float(setting)
        if getattr(setting, "_schedule", None) is schedules._constant_schedule:
            return float(setting.attrs["rate"])
        return float(setting(self.step, key=key, last_score=self.last_score))

    def _kernels_for(self, numbers: _Numbers) -> _Kernels | None:
        """Return what takes such steps; None where only thinc says what they are."""
        is_adam = numbers.b1 > 0 and numbers.b2 > 0
        if self.use_radam or (numbers.b2 > 0 and not is_adam) or not numbers.are_usual():
            return None
        if is_adam not in self._kernels:
            self._kernels[is_adam] = _Kernels(is_adam, self.averages is not None)
        return self._kernels[is_adam]

    def _state_of(self, key: Any) -> tuple[Any, ...]:
        """Return thinc's arrays for a key: moments and average, None for one that isn't there."""
        average = None if self.averages is None else self.averages.get(key)
        return self.mom1.get(key), self.mom2.get(key), average


class _Numbers(NamedTuple):
    """What thinc's settings are for a key at this step."""

    learn_rate: float
    b1: float
    b2: float
    eps: float
    L2: float
    grad_clip: float

    def are_usual(self) -> bool:
        """Return whether they are such as the core takes."""
        return all(0 <= number < math.inf for number in self) and self.b1 < 1 and self.b2 < 1


class _Call(NamedTuple):
    """What thinc asks for, of a parameter."""

    key: Any
    weights: Any
    gradient: Any
    lr_scale: float
    numbers: _Numbers


class _Kernels:
    """An optimizer of the core's over thinc's arrays, which takes Adam's steps, or SGD's.

    It has a parameter for each key of which thinc has taken a step, and so has made the state.
    """

    def __init__(self, is_adam: bool, has_averages: bool) -> None:
        names = ["exp_avg", "exp_avg_sq"] if is_adam else [None, None]
        self._names = (*names, "ema" if has_averages else None)  # of what _state_of() gives
        self._is_adam = is_adam
        self._core = self._make([])
        self._places: dict[Any, int] = {}
        self._weights: list[Any] = []
        self._state: list[tuple[Any, ...]] = []
        self._expected: dict[Any, Any] = {}  # keys, and their weights
        self._refused: set[Any] = set()
        self._last: Any = None  # what the core's hyperparameters were made of

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy to one without parameters: it finds the copies of thinc's arrays by and by."""
        return _Kernels, (self._is_adam, self._names[-1] is not None)

    def _make(self, weights: list[Any]) -> Core:
        group: list[Any] = [{"params": weights}]
        decay = 0.5 if self._names[-1] else None  # some number, as all others
        if self._is_adam:
            return adam.Adam(
                group, bias_correction=False, decoupled_weight_decay=True, ema_decay=decay
            )
        return sgd.SGD(group, decoupled_weight_decay=True, ema_decay=decay)

    def expect(self, key: Any, weights: Any) -> None:
        """Take the state that there is of a parameter by now before its next step."""
        if key not in self._refused:
            self._expected[key] = weights

    def has(self, call: _Call, state_of: Callable[[Any], tuple[Any, ...]]) -> bool:
        """Return whether it has these weights, and the state that thinc has for them."""
        if call.key in self._expected:
            self._adopt_expected(state_of)
        place = self._places.get(call.key)
        if place is None:
            return False
        theirs = zip(self._names, self._state[place], state_of(call.key), strict=True)
        if any(name and mine is not now for name, mine, now in theirs):
            return False
        if call.weights is not self._weights[place]:
            try:
                self._core.rebind({place: call.weights})
            except (TypeError, ValueError):
                return False
            self._weights[place] = call.weights
        return True

    def _adopt_expected(self, state_of: Callable[[Any], tuple[Any, ...]]) -> None:
        expected, self._expected = self._expected, {}
        try:
            self._adopt(expected, state_of)
        except (TypeError, ValueError):
            for key, weights in expected.items():
                try:
                    self._adopt({key: weights}, state_of)
                except (TypeError, ValueError):
                    self._refused.add(key)

    def _adopt(
        self, parameters: dict[Any, Any], state_of: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        places, weights, state = dict(self._places), [*self._weights], [*self._state]
        for key, own in parameters.items():
            if key in places:
                state[places[key]] = state_of(key)
            else:
                places[key] = len(weights)
                weights.append(own)
                state.append(state_of(key))
        entries = {i: self._entry(weights[i], state[i]) for i in range(len(weights))}
        core = self._make(weights)
        groups = core.state_dict()["param_groups"]
        core.load_state_dict({"state": entries, "param_groups": groups}, copy=False)
        self._core, self._last = core, None
        self._places, self._weights, self._state = places, weights, state

    def _entry(self, weights: Any, state: tuple[Any, ...]) -> dict[str, Any]:
        """Return a parameter's state as the core has it; thinc's moments have one dimension."""
        entry: dict[str, Any] = {"step": 1}  # what isn't used: thinc counts
        for name, array in zip(self._names, state, strict=True):
            if name:
                _require_usable(array, weights)
                entry[name] = array.reshape(weights.shape)
        return entry

    def step(self, decays: bool, count: int, calls: list[_Call]) -> None:
        """Take the step of this number of parameters, or raise and change nothing."""
        numbers = calls[0].numbers
        made_of = numbers, decays, count, calls[0].lr_scale
        if made_of != self._last:
            self._last = None
            self._set(self._hyperparameters(*made_of))
            self._last = made_of
        penalty = 0.0 if decays else numbers.L2
        grads = {
            self._places[key]: gradient + np.float32(penalty) * weights if penalty else gradient
            for key, weights, gradient, *_ in calls
        }
        clip = numbers.grad_clip or None
        self._core.step_some(grads, max_array_norm=clip, zero_grads=not penalty)
        if penalty:
            for call in calls:
                call.gradient[...] = 0

    def _set(self, hyperparameters: dict[str, Any]) -> None:
        [group] = self._core.param_groups
        for name, value in hyperparameters.items():
            if group[name] != value:
                group[name] = value

    def _hyperparameters(
        self, numbers: _Numbers, decays: bool, count: int, lr_scale: float
    ) -> dict[str, Any]:
        """Return the core's, so that its step is thinc's.

        The core decays a parameter before the step, and thinc (1 − r)·(p − lr·d) after it: that is
        (1 − r)·p − (1 − r)·lr·d.
        """
        lr = numbers.learn_rate * lr_scale
        shrinks = lr * numbers.L2 if decays else 0.0
        if not 0 <= shrinks < 1:
            raise ValueError("learn_rate times L2: expected less than 1")
        found: dict[str, Any] = {}
        if self._is_adam:
            b1, b2 = numbers.b1, numbers.b2
            lr *= (1 - b2**count) ** 0.5 / (1 - b1**count)
            found = {"betas": (b1, b2), "eps": numbers.eps}
        lr *= 1 - shrinks
        found |= {"lr": lr, "weight_decay": shrinks / lr if shrinks else 0.0}
        if self._names[-1]:
            found["ema_decay"] = min((1 + count) / (10 + count), 0.9999)
        return found


def _require_usable(array: Any, weights: Any) -> None:
    """Raise ValueError unless a parameter's state can lie in an array."""
    if type(array) is not np.ndarray or array.size != weights.size:
        raise ValueError("expected NumPy arrays of as many elements as the weights")


def Adam(  # noqa: N802  # as thinc calls it
    learn_rate: Any = 0.001,
    *,
    L2: Any = 0.0,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
    grad_clip: Any = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    deferred: bool = False,
) -> Optimizer:
    """Return what thinc's ``Adam.v1`` does, stepping by fused kernels: see `Optimizer`."""
    return Optimizer(**locals())


def SGD(  # noqa: N802
    learn_rate: Any,
    *,
    L2: Any = 0.0,
    grad_clip: Any = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    deferred: bool = False,
) -> Optimizer:
    """Return what thinc's ``SGD.v1`` does, stepping by fused kernels: see `Optimizer`."""
    return Optimizer(beta1=0.0, beta2=0.0, **locals())
