"""What all optimizers share: parameters, hyperparameters, state and step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from . import _core
from ._hyperparameters import Check
from ._param_group import ParamGroup
from ._state import Engine, States
from ._types import Array, Grads, Params


class Optimizer:
    """The base of all optimizers; use one of its subclasses.

    A subclass names its hyperparameters with their checks in ``_checks``, those that can't change
    because they say what the state means in ``_lasting``, and says in ``_rule`` which native rule a
    group's hyperparameters mean.

    Attributes
    ----------
    param_groups : tuple of ParamGroup
        The hyperparameters: read and assign ``opt.param_groups[0]["lr"]`` between steps.
    state : mapping
        For each parameter, by index (or by name, where ``params`` was a dict), a read-only mapping
        of its state: ``"step"`` and live arrays. Empty before the parameter's first step.
    step_counts : array of int64
        How many steps each parameter has taken; live and read-only.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> isinstance(fusedopt.SGD([np.zeros(3)]), fusedopt.Optimizer)
    True
    """

    _checks: ClassVar[Mapping[str, Check]] = {}
    _lasting: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, params: Params, **hyperparameters: Any) -> None:
        arrays, names = _collect(params)
        self._group = ParamGroup(tuple(arrays), self._checks, self._lasting, hyperparameters)
        self._moved_by: str | None = None
        self._engine = self._make_engine(arrays, names)
        self._configure()
        self._states = States(self._engine, len(arrays), names)

    @staticmethod
    def _rule(group: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        """Return the native rule for a group's hyperparameters, and the rule's own.

        Raises ValueError where hyperparameters don't fit each other.
        """
        raise NotImplementedError("Optimizer is a base class: use one of its subclasses")

    def _make_engine(self, params: list[Array], names: tuple[str, ...] | None) -> Engine:
        return _core.Stepper(params, names)

    def _configure(self) -> None:
        if self._moved_by:
            raise RuntimeError(
                f"step(): not inside {self._moved_by}, where the parameters are elsewhere"
            )
        # First, so that an assignment by another thread in the meantime is seen at the next step.
        self._group._changed = False
        try:
            self._engine.configure(*self._rule(self._group))
        except BaseException:
            self._group._changed = True
            raise

    @contextmanager
    def _elsewhere(self, what: str, move: Callable[[], None]) -> Iterator[None]:
        """Have parameters elsewhere inside the block, where a step is an error."""
        if self._moved_by:
            raise RuntimeError(f"{what}: not inside {self._moved_by}")
        self._configure()
        self._moved_by = what
        self._group._changed = True  # so that a step looks
        try:
            move()
            try:
                yield
            finally:
                self._engine.move_back()
        finally:
            self._moved_by = None

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """The hyperparameters: read and assign ``opt.param_groups[0]["lr"]`` between steps."""
        return (self._group,)

    @property
    def state(self) -> States:
        """The state of each parameter, by index, or by name where ``params`` was a dict."""
        return self._states

    @property
    def step_counts(self) -> npt.NDArray[np.int64]:
        """How many steps each parameter has taken; live and read-only."""
        return self._engine.step_counts

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "an optimizer can't be copied or pickled; to save and resume a run, keep the state "
            "yourself, with fusedopt.functional"
        )

    def step(self, grads: Grads) -> None:
        """Update all parameters in place.

        A step happens whole or, when it raises, not at all.

        Parameters
        ----------
        grads : list, or dict with the names of params
            In the order of ``params``, or by name. For each parameter its gradient, an array of the
            parameter's shape and dtype, C-contiguous and aligned, that shares no memory with a
            parameter or the state; or None, which leaves the parameter and its state as they are.

        Raises
        ------
        TypeError
            If a gradient is not an array of the parameter's dtype.
        ValueError
            If a gradient is missing or too many, has another shape or a layout that the kernels
            can't read, or overlaps memory that the step writes; if a parameter can no longer be
            updated in place; if hyperparameters assigned since the last step don't fit each other.
        RuntimeError
            If the parameters are elsewhere, inside ``with opt.lookahead()``.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> params = [np.array([1.0, 2.0]), np.array([3.0])]
        >>> opt = fusedopt.SGD(params, lr=0.5)
        >>> opt.step([np.array([2.0, 4.0]), None])
        >>> params
        [array([0., 0.]), array([3.])]
        """
        if self._group._changed:
            self._configure()
        self._engine.step(grads)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._group.describe()})"


def _collect(params: Params) -> tuple[list[Array], tuple[str, ...] | None]:
    if isinstance(params, Mapping):
        items = list(params.items())
        for name, _ in items:
            if not isinstance(name, str):
                raise TypeError(f"params: expected str as names, got {name!r}")
        return [array for _, array in items], tuple(str.__str__(name) for name, _ in items)
    if isinstance(params, np.ndarray | str) or not isinstance(params, Iterable):
        hint = "; for one array, write [array]" if isinstance(params, np.ndarray) else ""
        raise TypeError(
            "params: expected a list of arrays, or a dict of names and arrays, "
            f"got {type(params).__name__}{hint}"
        )
    arrays = list(params)
    for i, array in enumerate(arrays):
        if isinstance(array, Mapping):
            raise TypeError(
                f"params[{i}]: expected a NumPy array, got {type(array).__name__}; "
                "for groups with hyperparameters of their own, use an optimizer for each"
            )
    return arrays, None
