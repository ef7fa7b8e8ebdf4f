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
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from thinc import optimizers, schedules

from . import adam, sgd
from ._borrowing import borrow_state, set_hyperparameters
from .optimizer import Optimizer as Core

__all__ = ["SGD", "Adam", "Optimizer"]

#: Before thinc 9 a setting is a number, which the schedule replaces.
_SETTINGS_ARE_SCHEDULES = hasattr(schedules, "Schedule")
_STEPS = ("_adam", "_radam")  # what a subclass may have of its own


class Optimizer(optimizers.Optimizer):
    """thinc's optimizer, that steps by fused kernels.

    Parameters
    ----------
    learn_rate, L2, beta1, beta2, eps, grad_clip, use_averages, use_radam, L2_is_weight_decay
        As in thinc: numbers, or thinc's schedules. RAdam's steps are thinc's own.

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

    __slots__ = ("_has_steps_of_its_own", "_kernels")

    def __init__(self, learn_rate: Any, **settings: Any) -> None:
        theirs = optimizers.Optimizer
        self._has_steps_of_its_own = any(
            getattr(type(self), name) is not getattr(theirs, name) for name in _STEPS
        )
        self._kernels: dict[tuple[bool, bool], _Kernels] = {}
        super().__init__(learn_rate, **settings)

    def __call__(
        self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0
    ) -> tuple[Any, Any]:
        """Take a step of a parameter, and fill its gradient with zeros."""
        if len(gradient) < 1:
            return weights, gradient
        settings = self._settings_for(key)
        kernels = self._kernels_for(settings)
        if kernels is None:
            return self._step_by_thinc(key, weights, gradient, lr_scale)
        with kernels.lock:
            if kernels.has(key, weights, self._state_of):
                count = self.nr_update[key] + 1
                made_of = settings, self.L2_is_weight_decay, lr_scale, count
                if kernels.step(key, gradient, *made_of):
                    self.nr_update[key] = count
                    return weights, gradient
            stepped = self._step_by_thinc(key, weights, gradient, lr_scale)
            kernels.expect(key, stepped[0])
            return stepped

    def _step_by_thinc(
        self, key: Any, weights: Any, gradient: Any, lr_scale: float
    ) -> tuple[Any, Any]:
        stepped: tuple[Any, Any] = super().__call__(key, weights, gradient, lr_scale=lr_scale)
        return stepped

    def _settings_for(self, key: Any) -> _Settings:
        """Return what thinc's settings are for a key now; asks no schedule that thinc doesn't."""
        b1, b2 = float(self._asked(self.b1, key)), float(self._asked(self.b2, key))
        is_adam = b1 > 0 and b2 > 0
        return _Settings(
            float(self._asked(self.learn_rate, key)),
            b1,
            b2,
            float(self._asked(self.eps, key)) if is_adam else 0.0,
            float(self._asked(self.L2, key)),
            float(self._asked(self.grad_clip, key) or 0.0),
        )

    def _asked(self, setting: Any, key: Any) -> Any:
        if not _SETTINGS_ARE_SCHEDULES:
            return setting
        if getattr(setting, "_schedule", None) is schedules._constant_schedule:
            return setting.attrs["rate"]
        return setting(self.step, key=key, last_score=self.last_score)

    def _kernels_for(self, settings: _Settings) -> _Kernels | None:
        """Return what takes such steps; None where only thinc says what they are."""
        is_adam = settings.b1 > 0 and settings.b2 > 0
        is_other = self.use_radam or self._has_steps_of_its_own or (settings.b2 > 0 and not is_adam)
        if is_other or not settings.are_usual():
            return None
        kind = is_adam, self.averages is not None
        if kind not in self._kernels:
            self._kernels[kind] = _Kernels(*kind)
        return self._kernels[kind]

    def _state_of(self, key: Any) -> tuple[Any, ...]:
        """Return thinc's arrays for a key: moments and average, None for one that isn't there."""
        average = None if self.averages is None else self.averages.get(key)
        return self.mom1.get(key), self.mom2.get(key), average


class _Settings(NamedTuple):
    learn_rate: float
    b1: float
    b2: float
    eps: float
    L2: float
    grad_clip: float

    def are_usual(self) -> bool:
        """Return whether they are such as the core takes."""
        finite = all(0 <= number < math.inf for number in self[:-1])
        return finite and self.b1 < 1 and self.b2 < 1 and self.grad_clip >= 0


class _Kernels:
    """An optimizer of the core's over thinc's arrays, which takes Adam's steps, or SGD's.

    It has a parameter for each key of which thinc has taken a step, and so has made the state.
    """

    def __init__(self, is_adam: bool, has_averages: bool) -> None:
        names = ["exp_avg", "exp_avg_sq"] if is_adam else [None, None]
        self._names = (*names, "ema" if has_averages else None)  # of what _state_of() gives
        self._kind = is_adam, has_averages
        self._core = self._make([])
        self._places: dict[Any, int] = {}
        self._weights: list[Any] = []
        self._state: list[tuple[Any, ...]] = []
        self._expected: dict[Any, Any] = {}  # keys, and their weights
        self._refused: set[Any] = set()
        self._last: Any = None  # what the core's hyperparameters were made of
        self.lock = threading.RLock()  # threads may step parameters of their own

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy to one without parameters: it finds the copies of thinc's arrays by and by."""
        return _Kernels, self._kind

    def _make(self, weights: list[Any]) -> Core:
        is_adam, has_averages = self._kind
        group: list[Any] = [{"params": weights}]
        decay = 0.5 if has_averages else None  # some number, as all others
        if is_adam:
            return adam.Adam(
                group, bias_correction=False, decoupled_weight_decay=True, ema_decay=decay
            )
        return sgd.SGD(group, decoupled_weight_decay=True, ema_decay=decay)

    def expect(self, key: Any, weights: Any) -> None:
        """Take the state that there is of a parameter by now before its next step."""
        if key not in self._refused:
            self._expected[key] = weights

    def has(self, key: Any, weights: Any, state_of: Callable[[Any], tuple[Any, ...]]) -> bool:
        """Return whether it has these weights, and the state that thinc has for them."""
        if key in self._expected:
            expected, self._expected = self._expected, {}
            self._adopt_what_fits(expected, state_of)
        place = self._places.get(key)
        if place is None:
            return False
        theirs = zip(self._names, self._state[place], state_of(key), strict=True)
        if any(name and mine is not now for name, mine, now in theirs):
            return False
        if weights is self._weights[place] or _are_the_same(weights, self._weights[place]):
            return True
        try:
            self._core.rebind({place: weights})
        except (TypeError, ValueError):
            return False
        self._weights[place] = weights
        return True

    def _adopt_what_fits(
        self, expected: dict[Any, Any], state_of: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        """Adopt all of them, or but for those that thinc will have to step: two halves apart."""
        try:
            self._adopt(expected, state_of)
        except (TypeError, ValueError):
            keys = list(expected)
            if len(keys) == 1:
                self._refused.add(keys[0])
                return
            for half in keys[: len(keys) // 2], keys[len(keys) // 2 :]:
                self._adopt_what_fits({key: expected[key] for key in half}, state_of)

    def _adopt(
        self, parameters: dict[Any, Any], state_of: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        places, weights, state = dict(self._places), [*self._weights], [*self._state]
        for key, own in parameters.items():
            place = places.setdefault(key, len(weights))
            weights[place : place + 1] = [own]
            state[place : place + 1] = [state_of(key)]
        entries = {i: self._entry(weights[i], state[i]) for i in range(len(weights))}
        core = self._make(weights)
        borrow_state(core, entries)
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

    def step(
        self,
        key: Any,
        gradient: Any,
        settings: _Settings,
        decays: bool,
        lr_scale: float,
        count: int,
    ) -> bool:
        """Take the step of this number of a parameter; False where thinc has to."""
        place = self._places[key]
        penalty = 0.0 if decays else settings.L2
        clip = settings.grad_clip if 0 < settings.grad_clip < math.inf else None
        try:
            self._set((settings, decays, lr_scale, count))
            if penalty:
                given = _penalized(gradient, self._weights[place], penalty)
                self._core.step_some({place: given}, max_array_norm=clip)
                gradient[...] = 0
            else:
                self._core.step_some({place: gradient}, max_array_norm=clip, zero_grads=True)
        except (ArithmeticError, TypeError, ValueError):  # nothing has changed
            return False
        return True

    def _set(self, made_of: tuple[_Settings, bool, float, int]) -> None:
        if made_of == self._last:
            return
        self._last = None
        set_hyperparameters(self._core, self._hyperparameters(*made_of))
        self._last = made_of

    def _hyperparameters(
        self, settings: _Settings, decays: bool, lr_scale: float, count: int
    ) -> dict[str, Any]:
        """Return the core's, so that its step is thinc's.

        The core decays a parameter before the step, and thinc (1 − r)·(p − lr·d) after it: that is
        (1 − r)·p − (1 − r)·lr·d.
        """
        is_adam, has_averages = self._kind
        lr = settings.learn_rate * float(lr_scale)
        shrinks = lr * settings.L2 if decays else 0.0
        if not 0 <= shrinks < 1:
            raise ValueError("learn_rate times L2: expected less than 1")
        found: dict[str, Any] = {}
        if is_adam:
            b1, b2 = settings.b1, settings.b2
            lr *= (1 - b2**count) ** 0.5 / (1 - b1**count)
            # thinc's loop has them in float32, where 1 − 0.999 is 1.3e-5 of it less.
            found = {"betas": (_in_float32(b1), _in_float32(b2)), "eps": settings.eps}
        lr *= 1 - shrinks
        found |= {"lr": lr, "weight_decay": shrinks / lr if shrinks else 0.0}
        if has_averages:
            found["ema_decay"] = min((1 + count) / (10 + count), 0.9999)
        return found


def _in_float32(number: float) -> float:
    return float(np.float32(number))


def _penalized(gradient: Any, weights: Any, penalty: float) -> Any:
    """Return the gradient with an L2 penalty, if what was given can be zeroed afterwards."""
    alike = type(gradient) is np.ndarray and gradient.shape == weights.shape
    if not alike or gradient.dtype != weights.dtype or not gradient.flags.writeable:
        raise ValueError("expected a writeable array like the weights")
    return gradient + np.float32(penalty) * weights


def _are_the_same(weights: Any, known: Any) -> bool:
    """Return whether two arrays are the same memory, in the same way."""
    return (
        type(weights) is np.ndarray
        and weights.dtype == known.dtype
        and weights.shape == known.shape
        and weights.flags.c_contiguous
        and weights.flags.writeable
        and weights.__array_interface__["data"] == known.__array_interface__["data"]
    )


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
) -> Optimizer:
    """Return what thinc's ``SGD.v1`` does, stepping by fused kernels: see `Optimizer`."""
    return Optimizer(beta1=0.0, beta2=0.0, **locals())
