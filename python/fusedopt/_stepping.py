"""How an optimizer steps."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import _core
from ._hyperparameters import flag
from ._state import Engine, States
from ._step_options import (
    GivenOptions,
    GroupStats,
    StepResult,
    check_step_options,
    result_of,
)
from ._types import AnyArray, Grads

if sys.version_info >= (3, 11):
    from typing import Unpack
elif TYPE_CHECKING:
    from typing_extensions import Unpack

_T = TypeVar("_T")


class Stepping:
    """The part of an optimizer that steps its parameters."""

    _engine: Engine
    _states: States

    @abstractmethod
    def _configure(self) -> None:
        """Tell the engine what hyperparameters mean that have changed since the last step."""

    @abstractmethod
    def _param_label(self, index: int) -> str:
        """Return what errors call a parameter."""

    def _by_own_index(self, argument: str, arrays: Mapping[Any, _T]) -> dict[int, _T]:
        """Return what is given by index or name by index; ValueError where one is there twice."""
        found: dict[int, _T] = {}
        for key, array in arrays.items():
            try:
                index = self._states.index_of(key)
            except (KeyError, TypeError):
                raise ValueError(f"{argument}[{key!r}]: there is no such parameter") from None
            if index in found:
                raise ValueError(f"{argument}[{key!r}]: {self._param_label(index)} is there twice")
            found[index] = array
        return found

    @overload
    def step(self, grads: Grads | None = None) -> None: ...

    @overload
    def step(
        self,
        grads: Grads | None = None,
        *,
        loss_scale: float | None = ...,
        max_norm: float,
        max_array_norm: None = ...,
        clip_value: float | None = ...,
        on_nonfinite: str = ...,
        zero_grads: bool = ...,
        stats: bool = ...,
    ) -> StepResult: ...

    @overload
    def step(
        self,
        grads: Grads | None = None,
        *,
        loss_scale: float | None = ...,
        max_norm: float | None = ...,
        max_array_norm: float | None = ...,
        clip_value: float | None = ...,
        on_nonfinite: Literal["skip", "raise"],
        zero_grads: bool = ...,
        stats: bool = ...,
    ) -> StepResult: ...

    @overload
    def step(
        self,
        grads: Grads | None = None,
        *,
        loss_scale: float = ...,
        max_norm: float = ...,
        max_array_norm: float = ...,
        clip_value: float = ...,
        on_nonfinite: Literal["skip", "raise"] = ...,
        zero_grads: Literal[True] = ...,
        stats: Literal[True] = ...,
    ) -> StepResult: ...

    @overload
    def step(
        self,
        grads: Grads | None = None,
        *,
        loss_scale: float | None = None,
        max_norm: float | None = None,
        max_array_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: str = "propagate",
        zero_grads: bool = False,
        stats: bool = False,
    ) -> StepResult | None: ...

    @_core.step_method(StepResult, GroupStats)  # what it usually does, natively
    def step(
        self,
        grads: Grads | None = None,
        *,
        loss_scale: float | None = None,
        max_norm: float | None = None,
        max_array_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: str = "propagate",
        zero_grads: bool = False,
        stats: bool = False,
    ) -> StepResult | None:
        """Update all parameters in place.

        A step happens whole or, when it raises, not at all; threads that share an optimizer take
        turns. What it does to gradients first, it
        does as it reads them, in this order and without writing them: divide by the loss scale,
        find the norm, scale down to ``max_norm`` or each gradient to ``max_array_norm``, cut off at
        ``clip_value``; weight decay and the
        rule follow. The division and the scaling are one multiplication, by a number that is
        rounded once to the dtype of the arrays.

        Parameters
        ----------
        grads : list, or dict with the names of params
            In the order of ``params``, or by name. For each parameter its gradient, an array of the
            parameter's shape and dtype, C-contiguous and aligned, that shares no memory with a
            parameter or the state; or None, which leaves the parameter and its state as they are.
            Not given where gradients are bound to the optimizer.
        loss_scale : float, optional
            Gradients are those of a loss times this number, > 0: they count as divided by it.
        max_norm : float, optional
            If the L2 norm of all gradients of all groups together is larger than this, > 0, they
            count as scaled down to it, as by `torch.nn.utils.clip_grad_norm_`. With ``math.inf``
            the norm is only found.
        max_array_norm : float, optional
            Each gradient whose own L2 norm is larger than this, > 0, counts as scaled down to it,
            as by Keras' ``clipnorm`` and thinc's ``grad_clip``. Not together with ``max_norm``.
        clip_value : float, optional
            Elements of gradients count as no larger than this in magnitude, > 0.
        on_nonfinite : {"propagate", "skip", "raise"}, default "propagate"
            What to do where an element of a gradient is infinite or NaN: go on; update nothing, and
            not count the step; or raise FloatingPointError.
        zero_grads : bool, default False
            Fill the gradients with zeros behind the update, also where it is skipped.
        stats : bool, default False
            Measure the norms of gradients, updates and parameters of each group on the way.

        Returns
        -------
        None or StepResult
            None without any of these options, else the gradients' norm, if ``max_norm``,
            ``max_array_norm`` or ``stats`` was given, whether the step was skipped, and what
            ``stats`` measured.

        Raises
        ------
        TypeError
            If a gradient is not an array of the parameter's dtype, or an option is of another type.
        ValueError
            If a gradient is missing or too many, has another shape or a layout that the kernels
            can't read, or overlaps memory that the step writes; if a parameter can no longer be
            updated in place; if hyperparameters assigned since the last step don't fit each other;
            if an option is out of range; with ``zero_grads``, if a gradient is read-only or
            overlaps another.
        FloatingPointError
            With ``on_nonfinite="raise"``, if an element of a gradient is not finite.
        RuntimeError
            If the parameters are elsewhere, inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> params = [np.array([1.0, 2.0]), np.array([3.0])]
        >>> opt = fusedopt.SGD(params, lr=0.5)
        >>> opt.step([np.array([2.0, 4.0]), None])
        >>> params
        [array([0., 0.]), array([3.])]
        >>> opt.step([np.array([np.nan, 1.0]), None], on_nonfinite="skip")
        StepResult(grad_norm=None, skipped=True, stats=None)
        """
        options = check_step_options(
            "step",
            {
                "loss_scale": loss_scale,
                "max_norm": max_norm,
                "max_array_norm": max_array_norm,
                "clip_value": clip_value,
                "on_nonfinite": on_nonfinite,
                "zero_grads": zero_grads,
                "stats": stats,
            },
        )
        with self._engine.held("step()"):
            self._configure()
            if options is None:
                self._engine.step(grads)
                return None
            return result_of(self._engine.step_with(grads, options))

    @_core.step_some_method(StepResult, GroupStats)  # what it usually does, natively
    def step_some(
        self,
        grads: Mapping[Any, AnyArray | None],
        *,
        completes: bool = True,
        **options: Unpack[GivenOptions],
    ) -> StepResult | None:
        """Update some parameters in place, at the cost of these.

        Each parameter that has a gradient here takes a step, with its group's hyperparameters, and
        counts it; the others and their state stay as they are. With ``completes`` it is also one of
        the optimizer's ``completed_steps``, which is what schedules are asked about. Where one
        training step updates parameters by several calls, as during the backward pass, all but the
        last have ``completes=False``.

        Parameters
        ----------
        grads : dict
            Gradients by the index or the name of their parameters, each as `step` takes it.
        completes : bool, default True
            Whether the optimizer has completed a step with this.
        **options
            As for `step`, for these parameters: ``max_norm`` is about the norm of their gradients.

        Returns
        -------
        None or StepResult
            As from `step`.

        Raises
        ------
        TypeError, ValueError
            If there is no such parameter, or one is there twice, by index and by name; for all that
            `step` raises them for. Nothing has changed then.
        FloatingPointError
            With ``on_nonfinite="raise"``, if an element of a gradient is not finite.
        RuntimeError
            If the parameters are elsewhere, inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> params = {"w": np.ones(2), "b": np.ones(1)}
        >>> opt = fusedopt.SGD(params, lr=0.5)
        >>> opt.step_some({"w": np.ones(2)}, completes=False)
        >>> opt.step_some({"b": np.ones(1)})
        >>> params, opt.completed_steps
        ({'w': array([0.5, 0.5]), 'b': array([0.5])}, 1)
        """
        completes = flag("completes", completes)
        if not isinstance(grads, Mapping):
            raise TypeError(
                f"grads: expected a dict of indices or names and arrays, got {type(grads).__name__}"
            )
        checked = check_step_options("step_some", options)
        with self._engine.held("step_some()"):
            self._configure()
            by_index = list(self._by_own_index("grads", grads).items())
            if checked is None:
                self._engine.step_some(by_index, completes)
                return None
            return result_of(self._engine.step_some_with(by_index, completes, checked))

    def zero_grad(self) -> None:
        """Fill the gradients that are bound to the optimizer with zeros.

        Raises
        ------
        RuntimeError
            If no gradients are bound to it.
        TypeError, ValueError
            If one of them can't be a gradient any more, or is read-only.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> p, g = np.ones(2), np.ones(2)
        >>> opt = fusedopt.SGD([p], lr=0.5, grads=[g])
        >>> opt.step()
        >>> opt.zero_grad()
        >>> p, g
        (array([0.5, 0.5]), array([0., 0.]))
        """
        self._engine.zero_grad()
