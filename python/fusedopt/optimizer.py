"""What all optimizers share: parameters, hyperparameters, state and step."""

from __future__ import annotations

import copyreg
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from numbers import Integral
from typing import Any, ClassVar, Literal, NoReturn, TypeVar, overload

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
from ._persistence.copying import rebuild, refuse_joblib, to_parts
from ._persistence.saving import load_file, save
from ._persistence.state_dict import load, read_state_dict, to_state_dict
from ._persistence.state_files import StateFiles
from ._state import Averages, Engine, States
from ._step_options import GroupStats, StepResult, check_step_options
from ._types import AnyArray, Grads, GroupRule, Number, Params, Updates

_T = TypeVar("_T")


class Optimizer:
    """The base of all optimizers; use one of its subclasses.

    A subclass names its hyperparameters with their checks in ``_checks``, those that can't change
    because they say what the state means in ``_lasting``, each with what it is where saved state
    doesn't say, as torch's. It says in ``_rule`` which native rule a group's hyperparameters mean,
    and in ``_rules`` which there are.

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

    #: What the constructor makes anew in a copy; a subclass's other attributes are copied.
    _own_attributes: ClassVar[tuple[str, ...]] = (
        *("_defaults", "_groups", "_parts", "_names", "_engine", "_states", "_state_files"),
        "_cast_grads",
    )

    def __copy__(self) -> NoReturn:
        raise TypeError(
            "a shallow copy would step the same parameters; copy.deepcopy copies an optimizer, "
            "with its parameters or, as in deepcopy([params, opt]), beside them"
        )

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        refuse_joblib()
        return copyreg.__newobj__, (type(self),), to_parts(self)  # type: ignore[attr-defined]

    def __setstate__(self, parts: dict[str, Any]) -> None:
        rebuild(self, parts)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, in torch's layout.

        Returns
        -------
        dict
            ``"state"``: for each parameter that has taken a step, by number, a dict of ``"step"``,
            an int, and its state arrays. None stands for an array that the next step will make.
            ``"param_groups"``: for each group a dict of hyperparameters, the numbers of its
            parameters as ``"params"`` and, where they have names, ``"param_names"``. A schedule of
            `fusedopt.schedules` is there as what `Schedule.to_dict` gives, another function as
            ``{"callable": its name}``. Besides, which torch ignores, ``"optimizer"`` and
            ``"completed_steps"``.

            As in torch, arrays are the live ones: for a snapshot take a `copy.deepcopy`.

        Raises
        ------
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> opt = fusedopt.SGD([np.ones(2)], lr=0.5, momentum=0.9)
        >>> opt.step([np.array([1.0, 2.0])])
        >>> opt.state_dict()["state"]
        {0: {'step': 1, 'momentum_buffer': array([1., 2.])}}
        """
        with self._engine.held(None):
            return to_state_dict(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, *, copy: bool = True
    ) -> None:
        """Continue where another optimizer was, of this class or of torch's.

        State arrays are copied, or adopted; dtypes are kept exactly; other threads wait with their
        steps.
        Hyperparameters and schedules in ``state_dict`` replace those that the optimizer was made
        with: to change one, assign it afterwards. Those that aren't there, as ours in torch's
        state, stay. Where there was a function that no state can hold, the optimizer's own stays.
        Averages that aren't there begin at the next step. Of torch's state, ``foreach``,
        ``fused``, ``capturable``, ``differentiable`` and what its schedulers left in groups are
        ignored; its learning rate is a number, and replaces a schedule.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returns, or torch's, whose tensors may be NumPy arrays.
        strict : bool, default True
            If False, ignore entries and hyperparameters that the optimizer doesn't have, names of
            parameters, and the class that the state is from; make state arrays that are missing.
        copy : bool, default True
            If False, the NumPy arrays in ``state_dict`` are the state from now on, and updated in
            place: C-contiguous, aligned, writeable, and sharing no memory with each other or a
            parameter.

        Raises
        ------
        TypeError
            If something is of the wrong type, or an array of another dtype than its parameter.
        ValueError
            If the number of groups or parameters, or the shape of an array, is another; if a
            hyperparameter is out of range, or can't change, as it says what the state means; with
            ``strict``, for all that is then not ignored. Nothing has changed then.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import copy, numpy as np, fusedopt
        >>> p = np.ones(2)
        >>> opt = fusedopt.Adam([p], lr=0.5)
        >>> opt.step([p * 2])
        >>> saved = copy.deepcopy(opt.state_dict())
        >>> other = fusedopt.Adam([np.ones(2)])
        >>> other.load_state_dict(saved)
        >>> other.param_groups[0]["lr"], other.state[0]["step"]
        (0.5, 1)
        """
        with self._engine.held("load_state_dict()"):
            adopts = not flag("copy", copy)
            loaded = read_state_dict(self, state_dict, strict=flag("strict", strict), adopts=adopts)
            load(self, loaded, None, adopts=adopts)

    def save(
        self, path: str | os.PathLike[str], *, params: bool = False, extra: Any = None
    ) -> None:
        """Save the state to a file, which `load` reads; the parameters only if asked for.

        The file is a safetensors file with a checksum of all its content. It is written beside and
        then renamed: whenever the process or the machine stops, the old file is there whole, or the
        new one. A process that is killed while it saves may leave a hidden ``.tmp`` file beside,
        which the next one that saves into that folder removes. Other threads wait with their steps
        until it is written.

        Parameters
        ----------
        path : str or path
            The file; the folder has to exist.
        params : bool, default False
            Save the parameters, too, so that one file holds all that a run is at.
        extra : plain data, optional
            Anything that JSON can hold, as ``{"epoch": 3, "scaler": scaler.state_dict(), "rng":
            rng.bit_generator.state}``: `load` returns it.

        Raises
        ------
        TypeError
            If ``extra`` is something else.
        ValueError
            If no optimizer could load the file, because hyperparameters that were assigned don't
            fit each other, or a parameter was given another type or shape; if its header, with
            ``extra`` and all names, were larger than 100 MB. The old file is there then.
        OSError
            If the file can't be written, or what is there is no file but a folder, a pipe, a socket
            or a device. What was there is there then.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import os, tempfile, numpy as np, fusedopt
        >>> p = np.ones(2)
        >>> opt = fusedopt.SGD([p], lr=0.5, momentum=0.9)
        >>> opt.step([np.array([1.0, 2.0])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.safetensors")
        ...     opt.save(path, params=True, extra={"epoch": 3})
        ...     other = fusedopt.SGD([np.zeros(2)], lr=0.5, momentum=0.9)
        ...     other.load(path)
        {'epoch': 3}
        >>> other.param_groups[0]["params"][0]
        array([0.5, 0. ])
        """
        save(self, path, params=flag("params", params), extra=extra)

    def load(self, path: str | os.PathLike[str], *, strict: bool = True) -> Any:
        """Continue from a file that `save` wrote; parameters are restored if it has them.

        Parameters
        ----------
        path : str or path
            The file.
        strict : bool, default True
            As for `load_state_dict`.

        Returns
        -------
        plain data or None
            What was given to `save` as ``extra``.

        Raises
        ------
        OSError
            If the file can't be read.
        ValueError
            If the file is damaged, as truncated or with a bit flipped, or not one that an optimizer
            has saved, or doesn't fit this one, for every reason for which `load_state_dict` raises.
            Nothing has changed then.
        TypeError
            If an argument is of the wrong type.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.
        MemoryError
            If there is no memory for the file's content, which is read before it is used.

        Notes
        -----
        Whatever a file says, no code runs that it names, and it takes as much memory as it is long,
        and a multiple of its header, which has at most 100 MB.
        """
        return load_file(self, path, strict=flag("strict", strict))

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
        if (
            loss_scale is None
            and max_norm is None
            and max_array_norm is None
            and clip_value is None
            and type(on_nonfinite) is str  # before == is asked, which may be anything's
            and on_nonfinite == "propagate"
            and zero_grads is False
            and stats is False
        ):
            with self._engine.held("step()"):
                self._configure()
                self._engine.step(grads)
            return None
        options = check_step_options(
            loss_scale, max_norm, max_array_norm, clip_value, on_nonfinite, zero_grads, stats
        )
        with self._engine.held("step()"):
            self._configure()
            norm, skipped, measured = self._engine.step_with(grads, **options._asdict())
        groups = None if measured is None else tuple(GroupStats(*group) for group in measured)
        return StepResult(norm, skipped, groups)

    @_core.step_some_method  # what it usually does, natively
    def step_some(self, grads: Mapping[Any, AnyArray | None], *, completes: bool = True) -> None:
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

        Raises
        ------
        TypeError, ValueError
            If there is no such parameter, or one is there twice, by index and by name; for all that
            `step` raises them for. Nothing has changed then.
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
        with self._engine.held("step_some()"):
            self._configure()
            by_index = self._by_own_index("grads", grads)
            self._engine.step_some(list(by_index.items()), completes)

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

    def __repr__(self) -> str:
        groups = " | ".join(group.describe() for group in self._groups)
        return f"{type(self).__name__}({groups})"
