"""What the optimizers have in common: all is torch's, but the step itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch.autograd import profiler
from torch.optim import optimizer

from .._step_options import StepResult
from ..optimizer import Optimizer
from ._bound import Bound
from ._kind import Kind
from ._layout import require_usable

#: torch 2.2 can't say so.
_is_compiling = getattr(torch.compiler, "is_compiling", lambda: False)

_OPTIONS = frozenset(inspect.signature(Optimizer.step).parameters) - {"self", "grads"}


def _hooked_where_watched(step: Callable[..., Any]) -> Callable[..., Any]:
    """Put torch's hooks and its profiler around a step only where there are any: they take 6 us."""
    with_hooks = torch.optim.Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def wrapper(self: Front, *args: Any, **kwargs: Any) -> Any:
        if _is_compiling():
            return Front._untraced_step(self, *args, **kwargs)
        is_watched = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or optimizer._global_optimizer_pre_hooks
            or optimizer._global_optimizer_post_hooks
            or profiler._is_profiler_enabled
            or args
            or "closure" in kwargs  # which may be about to add one
        )
        # Where a subclass has a step of its own, torch has put them around that.
        if is_watched and type(self).step is wrapper:
            return with_hooks(self, *args, **kwargs)
        return step(self, *args, **kwargs)

    wrapper.hooked = True  # type: ignore[attr-defined]  # torch need do no more
    return wrapper


class Front(torch.optim.Optimizer):
    """Stands before one of torch's classes, whose constructor, groups and state it keeps."""

    _kind: ClassVar[Kind]
    _untraced_step: ClassVar[Any] = None  # what torch.compile calls
    _bound: Bound | None = None
    _state_was_seen = False  # by others
    _was_loaded = False

    #: What the last step with options did; None where it had none.
    step_result: StepResult | None = None

    def __init__(self, params: Any, **arguments: Any) -> None:
        for name in ("differentiable", "capturable"):
            if arguments.get(name):
                raise ValueError(
                    f"{name}: expected False, as a step is one kernel on the CPU, got True"
                )
        known = _arguments_of(super().__init__)
        theirs = {name: value for name, value in arguments.items() if name in known}
        # Before the groups are made, which get them, too. What an older torch doesn't have is ours.
        self._forms = {}
        for name, value in arguments.items():
            if name in known:
                continue
            if name in self._kind.hyperparameters():
                self._forms[name] = value
            elif value:
                raise TypeError(f"{name}: torch {torch.__version__} doesn't have it")
        super().__init__(params, **theirs)
        # torch's GradScaler is to unscale gradients itself, as it does where this isn't there.
        self.__dict__.pop("_step_supports_amp_scaling", None)
        if Front._untraced_step is None:  # which torch has imported now for itself
            Front._untraced_step = torch.compiler.disable(Front.step)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own, as torch does.

        Raises
        ------
        TypeError
            If a parameter isn't on the CPU, or of another dtype than a floating or complex one.
        ValueError
            If a hyperparameter is out of range, or doesn't fit others.
        """
        self.defaults.update(self.__dict__.pop("_forms", {}))
        super().add_param_group(param_group)
        try:
            self._require_usable(self.param_groups[-1])
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    def _require_usable(self, group: dict[str, Any]) -> None:
        number = len(self.param_groups) - 1
        for i, p in enumerate(group["params"]):
            if not torch.nn.parameter.is_lazy(p):
                require_usable(p, f"param_groups[{number}]['params'][{i}]")
        self._kind.require_values(number, group)

    @property
    def state(self) -> Any:
        """The state of each parameter, as in torch."""
        self._state_was_seen = True  # and may be moved from now on
        return self.__dict__["state"]

    @state.setter
    def state(self, state: Any) -> None:
        self.__dict__["state"] = state

    def __getstate__(self) -> dict[str, Any]:
        self._require_home("copying an optimizer")
        found: dict[str, Any] = super().__getstate__()
        return found

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._require_home("load_state_dict()")
        before: list[dict[str, Any]] = self.__dict__.get("param_groups", [])
        super().__setstate__(state)
        self._bound = None
        self._was_loaded = True
        # State of torch's own doesn't say which form it is of: that stays.
        forms = set(self._kind.hyperparameters()) - set(_arguments_of(super().__init__))
        for k, group in enumerate(self.param_groups):
            own = before[k] if k < len(before) else self.defaults
            for name in sorted(forms & own.keys()):
                group.setdefault(name, own[name])

    @_hooked_where_watched
    def step(self, closure: Callable[[], Any] | None = None, **options: Any) -> Any:
        """Take a step, as torch's, or one with options.

        Parameters
        ----------
        closure : callable, optional
            Computes gradients and returns the loss.
        **options
            ``loss_scale``, ``max_norm``, ``max_array_norm``, ``clip_value``, ``on_nonfinite``,
            ``zero_grads`` and ``stats``, as in `fusedopt.Optimizer.step`; what it returns is then
            ``step_result``.

        Returns
        -------
        loss
            What the closure returned, or None.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As `fusedopt.Optimizer.step`. Nothing has changed then.
        RuntimeError
            If a gradient is sparse.
        """
        for name in options.keys() - _OPTIONS:
            raise TypeError(
                f"{type(self).__name__}.step() got an unexpected keyword argument {name!r}"
            )
        self.step_result = None
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        bound = self._current()
        try:
            self.step_result = bound.step(options)
        except (TypeError, ValueError):
            looks_closely = True  # nothing has changed; it is wrong, or there is more to do
        else:
            looks_closely = False
        if looks_closely:
            if not bound.fits():
                bound = self._bind()
            self.step_result = bound.step(options, closely=True)
        return loss

    def _current(self) -> Bound:
        """Return what is bound to what there is now."""
        self._require_home("step()")
        bound = self._bound
        state = self.__dict__["state"]
        if bound is None or not bound.is_current(
            self.param_groups, state, state_was_seen=self._state_was_seen
        ):
            bound = self._bind()
        return bound

    def _bind(self) -> Bound:
        self._bound = None
        for k, group in enumerate(self.param_groups):
            for name in ("differentiable", "capturable"):
                if group.get(name):
                    raise ValueError(f"param_groups[{k}][{name!r}]: expected False, got True")
        state = self.__dict__["state"]
        self._bound = Bound(self._kind, self.param_groups, state, copies=self._was_loaded)
        self._was_loaded = False
        return self._bound

    def _require_home(self, action: str) -> None:
        if self._bound is not None and self._bound.is_swapped:
            raise RuntimeError(f"{action}: the parameters are elsewhere, inside swap_ema()")

    @contextmanager
    def swap_ema(self) -> Iterator[None]:
        """Put the averages in the parameters' place, for a ``with`` block.

        As `fusedopt.Optimizer.swap_ema`, where groups have an ``ema_decay``; the averages are
        ``state[p]["ema"]``.

        Raises
        ------
        ValueError
            If no group has an ``ema_decay`` and no parameter an average.
        RuntimeError
            If the parameters are elsewhere already; ``step``, ``state_dict``, ``load_state_dict``
            and copying raise it inside the block.
        """
        self._require_home("swap_ema()")
        with self._current().swapped():
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return torch's, whose groups hold our forms, too.

        Raises
        ------
        RuntimeError
            Inside ``with opt.swap_ema()``.
        """
        self._require_home("state_dict()")
        found: dict[str, Any] = super().state_dict()
        return found


def _arguments_of(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)
