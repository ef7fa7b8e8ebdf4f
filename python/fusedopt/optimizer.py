"""What all optimizers share: parameters, hyperparameters, state and step."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import _core
from ._hyperparameters import Check, flag, fraction_or_none
from ._param_group import ParamGroup
from ._params import (
    GroupSpec,
    read_arrays,
    read_group,
    read_groups,
    require_alike,
    require_distinct,
)
from ._persistence.persistent import Persistent
from ._persistence.state_files import StateFiles
from ._state import Averages, Engine, States
from ._stepping import Stepping
from ._types import AnyArray, Grads, GroupRule, Number, Params, Updates


def arguments_of_caller() -> dict[str, Any]:
    """Return what the constructor that calls this was given, by name: it names each thing once."""
    frame = sys._getframe(1)
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    return {name: values[name] for name in code.co_varnames[1:count]}


class Optimizer(Stepping, Persistent):
    """The base of all optimizers; use one of its subclasses.

    A subclass names its hyperparameters with their checks in ``_checks``, those that can't change
    because they say what the state means in ``_lasting``, each with what it is where saved state
    doesn't say, as torch's. It says in ``_rule`` which native rule a group's hyperparameters mean,
    and in ``_rules`` which there are.

    Parameters
    ----------
    params : list of arrays, dict or pairs of names and arrays, or list of groups
        float32 or float64 arrays of any shape, C-contiguous, aligned, writeable and sharing no
        memory. They are updated in place. A group is a dict with ``"params"`` and hyperparameters
        of its own.
    grads : list, or dict with the names of params, optional
        Arrays that hold the gradients at every step, or None for a parameter without any. The step
        then takes none: see `step` and `zero_grad`.
    ema_decay : float, optional
        Keep an average of the parameters, with this decay rate in [0, 1]: see `Optimizer.ema`. It
        starts as their copy, and each step ends with ``ema ← ema + (1 − ema_decay)·(p − ema)``.
    state_dir : path, optional
        A folder, made if it isn't there, for the state, which then lies in memory-mapped files: for
        one that is larger than memory. They are the state's place, not a way to keep it: they go
        with the optimizer, and where the system allows that have no names in the folder. Parameters
        and gradients may be `np.memmap` arrays anyway.
    cast_grads : bool, default False
        Cast gradients of other floating dtypes, as float16, to that of their parameter, by a copy
        of each; otherwise they are an error.
    **defaults
        Hyperparameters, as the subclass names them, for groups that don't have their own.

    Attributes
    ----------
    param_groups : tuple of ParamGroup
        The hyperparameters: read and assign ``opt.param_groups[0]["lr"]`` between steps.
    state : mapping
        For each parameter, by index (or by name, where ``params`` was a dict), a read-only mapping
        of its state: ``"step"`` and live arrays. Empty before the parameter's first step.
    ema : mapping
        For each parameter that has one, its average: a live array.
    completed_steps : int
        How many steps the optimizer has completed, those that were skipped not among them: what
        schedules are asked about. What a hyperparameter was at the last step is
        ``param_groups[0].values_at(completed_steps - 1)["lr"]``.
    step_counts : array of int64
        How many steps each parameter has taken; read-only, and live until a group is added.

    Examples
    --------
    >>> import numpy as np, fusedopt
    >>> isinstance(fusedopt.SGD([np.zeros(3)]), fusedopt.Optimizer)
    True
    """

    _checks: ClassVar[Mapping[str, Check]] = {}
    _lasting: ClassVar[Mapping[str, Any]] = {}
    _rules: ClassVar[tuple[str, ...]] = ()
    _step_may_be_missing: ClassVar[bool] = False  # from state: torch's SGD doesn't count
    #: What the constructor makes anew in a copy; a subclass's other attributes are copied.
    _own_attributes: ClassVar[tuple[str, ...]] = (
        *("_defaults", "_groups", "_parts", "_names", "_engine", "_states", "_state_files"),
        "_cast_grads",
    )

    def __init__(
        self,
        params: Params,
        *,
        grads: Grads | None = None,
        ema_decay: Number | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        cast_grads: bool = False,
        **defaults: Any,
    ) -> None:
        casts = flag("cast_grads", cast_grads)
        self._begin({**defaults, "ema_decay": ema_decay}, state_dir, casts)
        specs = read_groups(params)
        with self._engine.held(f"{type(self).__name__}()"):
            for spec in specs:
                self._add(spec, f"param_groups[{len(self._groups)}]" if spec.overrides else "")
            if grads is not None:
                self._engine.bind(grads)

    def _begin(
        self,
        defaults: dict[str, Any],
        state_dir: str | os.PathLike[str] | None,
        cast_grads: bool,
    ) -> None:
        self._cast_grads = cast_grads
        self._state_files = None if state_dir is None else StateFiles(state_dir)
        self._defaults = defaults
        self._groups: list[ParamGroup] = []
        #: What was added at once, in order: to which group, and the numbers of the parameters.
        self._parts: list[tuple[int, range]] = []
        self._names: tuple[str, ...] | None = None
        self._engine = self._make_engine()
        self._states = States(self._engine)

    def _add(
        self,
        spec: GroupSpec,
        label: str,
        grads: Grads | None = None,
        rule: GroupRule | None = None,
        to: int | None = None,
    ) -> None:
        """Add a group, or its parameters to the group with this number."""
        values = {**self._defaults, **spec.overrides}
        checks: dict[str, Check] = {**self._checks, "ema_decay": fraction_or_none}
        if to is None:
            group = ParamGroup(spec.arrays, checks, self._lasting, values, label)
        else:
            group = self._groups[to]
        rule = rule or self._group_rule(group, tuple(group._values))
        # The first arrays decide whether parameters have names; a group without any goes along.
        if spec.arrays or not len(self._states):
            names = spec.names
        else:
            names = None if self._names is None else ()
        all_names = None if names is None else (self._names or ()) + names
        before = len(self._states)
        part = len(self._groups) if to is None else to, range(before, before + len(spec.arrays))
        own: dict[str, Any] = {"_names": all_names, "_parts": [*self._parts, part]}
        if to is None:
            own["_groups"] = [*self._groups, group]
        updates: Updates = [(vars(self), own), *self._states._with_more(len(spec.arrays), names)]
        if to is not None:
            updates.append((vars(group), {"_params": (*group["params"], *spec.arrays)}))
        self._engine.add_group(spec.arrays, names, rule, grads, updates, group.written(), to)

    @staticmethod
    def _rule(
        group: Mapping[str, Any], scheduled: frozenset[str] = frozenset()
    ) -> tuple[str, dict[str, float]]:
        """Return the native rule for a group's hyperparameters, and the rule's own.

        Those that are scheduled will be something else at another step. Raises ValueError where
        hyperparameters don't fit each other.

        A number of the rule has its hyperparameter's name and value (see `numbers_of`), and what
        the method returns or raises besides may depend on whether a number is 0, but on nothing
        else about it: it isn't asked again where another number is assigned.
        """
        raise NotImplementedError("Optimizer is a base class: use one of its subclasses")

    def _group_rule(self, group: ParamGroup, made_of: tuple[Any, ...]) -> GroupRule:
        """Return the rule that a group's hyperparameters mean at the next step."""
        return self._rule_of(*group.asked(self.completed_steps, made_of))

    def _unasked_rule(self, group: ParamGroup) -> GroupRule:
        """Return the rule of a group with zeros for what is scheduled, which no schedule is asked.

        Until the next step, which asks them.
        """
        return self._rule_of(*group.unasked())

    def _rule_of(self, values: Mapping[str, Any], scheduled: frozenset[str]) -> GroupRule:
        return (*self._rule(values, scheduled), values["ema_decay"])

    def _groups_in_order(self) -> Iterator[tuple[ParamGroup, list[int], tuple[str, ...] | None]]:
        """Yield each group, and the numbers and names of its parameters."""
        indices: list[list[int]] = [[] for _ in self._groups]
        for k, added in self._parts:
            indices[k] += added
        for group, own in zip(self._groups, indices, strict=True):
            yield group, own, None if self._names is None else tuple(self._names[i] for i in own)

    def _param_label(self, index: int) -> str:
        """Return what errors call a parameter."""
        return f"params[{repr(self._names[index]) if self._names else index}]"

    def _make_engine(self) -> Engine:
        return _core.Stepper(self._state_files, self._cast_grads)

    def _configure(self) -> None:
        """Tell the engine what hyperparameters mean that have changed since the last step."""
        for number, (k, _) in enumerate(self._parts):
            if not self._engine.is_current(number):
                self._configure_part(number, k)

    def _configure_part(self, number: int, k: int) -> None:
        group = self._groups[k]
        made_of = tuple(group._values)  # at once: another thread may assign meanwhile
        try:
            self._engine.configure(number, self._group_rule(group, made_of), made_of)
        except (TypeError, ValueError) as error:
            if len(self._groups) == 1 or type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(f"param_groups[{k}]: {error}") from None

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """The hyperparameters: read and assign ``opt.param_groups[0]["lr"]`` between steps."""
        return tuple(self._groups)

    @property
    def state(self) -> States:
        """The state of each parameter, by index, or by name where ``params`` was a dict."""
        return self._states

    @property
    def ema(self) -> Averages:
        """The averages of the parameters, by index or name, where there is an ``ema_decay``.

        Live arrays, each from its parameter's first step on. Inside ``with opt.swap_ema()`` they
        hold what the parameters were.
        """
        return Averages(self._states)

    def swap_ema(self) -> AbstractContextManager[None]:
        """Put the averages in the parameters' place, for a ``with`` block.

        Inside the block each parameter that has an average holds it, as to evaluate a model with;
        one that has taken no step yet stays. At the block's end parameters and averages are what
        they were, bit for bit, also where it ends by an exception. No further memory is needed: the
        two are exchanged.

        Raises
        ------
        ValueError
            If no group has an ``ema_decay`` and no parameter an average; if a parameter can no
            longer be updated in place.
        RuntimeError
            If the parameters are elsewhere already; ``step`` raises it inside the block.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> p = np.array([1.0, 2.0])
        >>> opt = fusedopt.SGD([p], lr=1.0, ema_decay=0.5)
        >>> opt.step([np.array([1.0, 1.0])])
        >>> opt.ema[0]
        array([0.5, 1.5])
        >>> with opt.swap_ema():
        ...     print(p)
        [0.5 1.5]
        >>> p
        array([0., 1.])
        """
        if all(group["ema_decay"] is None for group in self._groups) and not self.ema:
            raise ValueError("swap_ema(): there are no averages; give the optimizer an ema_decay")
        return self._engine.swap_ema()

    @property
    def completed_steps(self) -> int:
        """How many steps the optimizer has completed, but for skipped ones: what schedules get."""
        return self._engine.completed_steps

    @property
    def step_counts(self) -> npt.NDArray[np.int64]:
        """How many steps each parameter has taken; read-only, and live until a group is added."""
        return self._engine.step_counts

    def rebind(self, params: Sequence[AnyArray] | Mapping[Any, AnyArray]) -> None:
        """Put other arrays in the place of parameters, which keep their state.

        For models whose parameters become other arrays: loaded from bytes, unpickled, moved into
        one block of memory. Other threads wait with their steps.

        Parameters
        ----------
        params : list of arrays, or dict
            Of all parameters, in order, or of some by index or name, each an array of the shape and
            dtype of the one in whose place it is put.

        Raises
        ------
        TypeError, ValueError
            If there is no such parameter, or an array isn't like the one before, can't be updated
            in place, or overlaps another. Nothing has changed then.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import copy, numpy as np, fusedopt
        >>> model = {"w": np.ones(2), "b": np.ones(1)}
        >>> opt = fusedopt.SGD(model, lr=0.5)
        >>> model = copy.deepcopy(model)
        >>> opt.rebind(model)
        >>> opt.step({"w": np.ones(2), "b": None})
        >>> model["w"]
        array([0.5, 0.5])
        """
        with self._engine.held("rebind()"):
            arrays = self._by_index(params)
            groups: Updates = []
            for group, indices, _ in self._groups_in_order():
                own = tuple(arrays.get(i, p) for i, p in zip(indices, group["params"], strict=True))
                groups.append((vars(group), {"_params": own}))
            self._engine.rebind(list(arrays.items()), groups)

    def _by_index(self, arrays: Sequence[AnyArray] | Mapping[Any, AnyArray]) -> dict[int, AnyArray]:
        """Return arrays by the index of the parameter that each is meant for."""
        if isinstance(arrays, Mapping):
            return self._by_own_index("params", arrays)
        if not isinstance(arrays, list | tuple):
            raise TypeError(
                "params: expected a list of arrays, or a dict of indices or names and arrays, "
                f"got {type(arrays).__name__}"
            )
        if len(arrays) != len(self._states):
            raise ValueError(
                f"params: expected {len(self._states)} arrays, one for each parameter, "
                f"got {len(arrays)}"
            )
        return dict(enumerate(arrays))

    def add_param_group(self, group: Mapping[str, Any], grads: Grads | None = None) -> None:
        """Add parameters with hyperparameters of their own.

        Parameters
        ----------
        group : dict
            ``"params"``, in any form but groups that the constructor takes, and any
            hyperparameters; the others are the optimizer's.
        grads : list, or dict with the names of params, optional
            The new parameters' gradients, where the optimizer has gradients bound to it.

        Raises
        ------
        TypeError
            If something is of the wrong type.
        ValueError
            If a hyperparameter doesn't exist or is out of range, a name is given twice, or a
            parameter can't be updated in place or overlaps another. Nothing has changed then.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> opt = fusedopt.SGD({"w": np.ones(2)}, lr=0.5)
        >>> opt.add_param_group({"params": {"b": np.ones(1)}, "lr": 0.1})
        >>> [group["lr"] for group in opt.param_groups]
        [0.5, 0.1]
        """
        with self._engine.held("add_param_group()"):
            self._add_spec(read_group(group), grads)

    def _add_spec(self, spec: GroupSpec, grads: Grads | None, to: int | None = None) -> None:
        if len(self._states) and spec.arrays:
            require_alike(self._names, spec.names)
        require_distinct((*(self._names or ()), *(spec.names or ())))
        self._add(spec, "param_group", grads, to=to)

    def add_params(self, params: Params, group: int = 0, grads: Grads | None = None) -> None:
        """Add parameters to a group that is there, with its hyperparameters.

        Parameters
        ----------
        params : list of arrays, dict or pairs of names and arrays
            As for the constructor; with names where the others have names. Their numbers follow
            those of all others, as do their places in a list of gradients.
        group : int, default 0
            Which one of ``param_groups``.
        grads : list, or dict with the names of params, optional
            Their gradients, where the optimizer has gradients bound to it.

        Raises
        ------
        TypeError
            If something is of the wrong type.
        ValueError
            If there is no such group, a name is given twice, or a parameter can't be updated in
            place or overlaps another. Nothing has changed then.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> opt = fusedopt.SGD({"w": np.ones(2)}, lr=0.5)
        >>> b = np.ones(1)
        >>> opt.add_params({"b": b})
        >>> opt.step({"w": None, "b": np.ones(1)})
        >>> b, len(opt.param_groups)
        (array([0.5]), 1)
        """
        if not isinstance(group, Integral) or isinstance(group, bool):
            raise TypeError(f"group: expected an int, got {group!r}")
        with self._engine.held("add_params()"):
            if not 0 <= group < len(self._groups):
                raise ValueError(
                    f"group: expected the number of one of {len(self._groups)} groups, got {group}"
                )
            self._add_spec(read_arrays(params, {}), grads, int(group))

    def __repr__(self) -> str:
        groups = " | ".join(group.describe() for group in self._groups)
        return f"{type(self).__name__}({groups})"
