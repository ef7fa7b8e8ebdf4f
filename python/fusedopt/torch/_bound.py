"""An optimizer of the core, bound to what one of torch's holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import _core
from .._hyperparameters import in_kind
from .._step_options import StepResult
from .._types import Array
from ..optimizer import Optimizer
from ._layout import Layout, Tensor

Groups = list[dict[str, Any]]
State = Mapping[Any, dict[str, Any]]


class Kind(NamedTuple):
    """What there is to know of a class of optimizers."""

    core: type[Optimizer]
    states: tuple[str, ...]  # the names of its state, as torch has them
    essential: tuple[str, ...]  # those that are there from the first step on
    counts_steps: bool  # whether torch's state says how many there were

    def hyperparameters(self) -> list[str]:
        """Return the names of those that the core has."""
        return [name for name in self.core([{"params": []}]).param_groups[0] if name != "params"]

    def values_in(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters in a group of torch's that the core has."""
        return {name: group[name] for name in self.hyperparameters() if name in group}

    def require_values(self, number: int, group: Mapping[str, Any]) -> None:
        """Raise what is wrong with a group's hyperparameters."""
        values = {name: _as_number(value) for name, value in self.values_in(group).items()}
        self.core([*[{"params": []}] * number, {**values, "params": []}])


class _Seen(NamedTuple):
    """A parameter that the core can't look at by itself."""

    param: Tensor
    address: int
    copy: Tensor | None  # over the core's memory, where that isn't the parameter's
    # State that is kept in a narrower dtype, and the core's.
    state: list[tuple[Tensor, Tensor]]


class Bound:
    """An optimizer of the core over the tensors and the state of one of torch's.

    As long as these are the same objects. What is written into them the next step sees, and what a
    parameter's ``data`` became; hyperparameters are those in torch's groups.
    """

    is_swapped = False  # whether the averages are in the parameters' place

    def __init__(self, kind: Kind, groups: Groups, state: State) -> None:
        self._kind = kind
        self._groups = groups
        self._state = state
        self._params: list[Tensor] = [p for group in groups for p in group["params"]]
        self._layouts = [Layout.of(p) for p in self._params]
        self._values = [kind.values_in(group) for group in groups]
        #: Those that the core can't look at by itself, by index.
        self._seen: dict[int, _Seen] = {}
        self._core = kind.core(self._core_groups())
        # As many gradients as may be the negative of what lies in memory, and look like others.
        self._single = [
            i for i, p in enumerate(self._params) if p.numel() == 1 and i not in self._seen
        ]
        self._unpublished = set(range(len(self._params)))
        #: What each state["step"] is a view of, as torch counts: in its default dtype, or float32.
        self._steps: Array = np.zeros(len(self._params), _dtype_of_counts())
        self._adopt_state()
        self._note()

    def _core_groups(self) -> list[dict[str, Any]]:
        """Return what the core's constructor takes, with names where parameters have them."""
        arrays = [self._core_array(i) for i in range(len(self._params))]
        named = [name for group in self._groups for name in group.get("param_names", ())]
        by_name = len(set(named)) == len(arrays) == len(named)
        found: list[dict[str, Any]] = []
        first = 0
        for group, values in zip(self._groups, self._values, strict=True):
            behind = first + len(group["params"])
            own: Any = arrays[first:behind]
            if by_name:
                own = dict(zip(named[first:behind], own, strict=True))
            found.append({**{n: _as_number(v) for n, v in values.items()}, "params": own})
            first = behind
        return found

    def _core_array(self, index: int) -> Any:
        param, layout = self._params[index], self._layouts[index]
        if layout.is_plain:
            return param
        array = layout.array(param)
        is_own = array.ctypes.data == param.data_ptr()
        copy = None if is_own else layout.tensor(array)
        self._seen[index] = _Seen(param, param.data_ptr(), copy, [])
        return array

    def _adopt_state(self) -> None:
        """Make torch's state the core's."""
        found = {i: self._read_state(i) for i, p in enumerate(self._params) if self._state.get(p)}
        states = {i: entries for i, entries in found.items() if entries}
        saved = {**self._core.state_dict(), "state": states}
        del saved["completed_steps"]  # as many as one of the parameters has taken
        try:
            self._core.load_state_dict(saved, copy=False)
        except ValueError:  # as where tensors share memory; if not, it is raised again
            for entries in states.values():
                entries.update({n: a.copy() for n, a in entries.items() if hasattr(a, "copy")})
            self._core.load_state_dict(saved, copy=False)
        self._counts = self._core.step_counts
        _core.write_counts(self._steps, self._counts)
        for index, entries in states.items():
            own = self._state[self._params[index]]
            for name in self._kind.states:
                if entries.get(name) is not None:
                    self._share(own, name, index, entries[name])
            self._share_step(own, index)

    def _read_state(self, index: int) -> dict[str, Any]:
        """Return a parameter's state as the core takes it; none of ours may be there."""
        own, layout = self._state[self._params[index]], self._layouts[index]
        found: dict[str, Any] = {
            name: layout.array(own[name])
            for name in self._kind.states
            if isinstance(own.get(name), torch.Tensor)
        }
        if found:
            for name in set(self._kind.states) - set(self._kind.essential):
                found.setdefault(name, None)  # the next step makes it where it is needed
            if "step" in own:
                found["step"] = own["step"]
        return found

    def _share_step(self, own: dict[str, Any], index: int) -> None:
        if self._kind.counts_steps:
            own["step"] = torch.from_numpy(self._steps[index : index + 1]).reshape(())

    def _share(self, own: dict[str, Any], name: str, index: int, array: Any) -> None:
        """Let an entry of torch's state lie over the core's memory, or be a copy beside it."""
        layout = self._layouts[index]
        if layout.is_narrow:
            shared = layout.tensor(array)
            if name not in own:
                own[name] = shared.to(layout.dtype)
            self._seen[index].state.append((own[name], shared))
        elif name not in own or own[name].data_ptr() != array.ctypes.data:
            own[name] = layout.tensor(array)

    def _publish(self, grads: list[Tensor]) -> None:
        """Put into torch's state what the step has made, of parameters that had a gradient."""
        for index in [i for i in self._unpublished if grads[i] is not None]:
            self._unpublished.discard(index)
            made = dict(self._core.state[index])
            own = self._state[self._params[index]] if made.keys() - {"step"} else {}
            self._share_step(own, index)
            for name in self._kind.states:
                if name in made and not isinstance(own.get(name), torch.Tensor):
                    self._share(own, name, index, made[name])
        self._state_then = _core.contents(self._state)

    def _note(self) -> None:
        """Remember what there is, to see what others change."""
        self._groups_then = _core.contents(self._groups)
        self._state_then = _core.contents(self._state)

    def is_current(self, groups: Groups, state: State) -> bool:
        """Return whether that is what it is over, after taking over numbers that were assigned."""
        return (
            groups is self._groups
            and state is self._state
            and (_core.has_contents(groups, self._groups_then) or self._takes_numbers())
            and _core.has_contents(state, self._state_then)
            and (not self._kind.counts_steps or _core.are_counts(self._steps, self._counts))
            and (not self._seen or self._sees_all())
        )

    def _sees_all(self) -> bool:
        addresses = (seen.param.data_ptr() == seen.address for seen in self._seen.values())
        return self.fits() and all(addresses)

    def fits(self) -> bool:
        """Return whether parameters are laid out as they were."""
        return all(a.is_of(p) for a, p in zip(self._layouts, self._params, strict=True))

    def _takes_numbers(self) -> bool:
        """Take over hyperparameters; return False where something else has changed, too."""
        params = [p for group in self._groups for p in group["params"]]
        if len(self._groups) != len(self._values) or len(params) != len(self._params):
            return False
        if not all(p is own for p, own in zip(params, self._params, strict=True)):
            return False
        for k, (group, before) in enumerate(zip(self._groups, self._values, strict=True)):
            if not before.keys() <= group.keys():
                return False
            for name, old in before.items():
                new = group[name]
                if new is old and not isinstance(new, list):
                    continue
                if not _are_alike(new, old):
                    return False
                with _named(f"param_groups[{k}]"):
                    self._core.param_groups[k][name] = _as_number(new)
                before[name] = new
        self._groups_then = _core.contents(self._groups)
        return True

    def step(self, options: Mapping[str, Any], *, closely: bool = False) -> StepResult | None:
        """Take a step with the gradients that there are, each looked at closely if asked for.

        As is needed where one isn't laid out as its parameter, or shares memory with it.
        """
        grads, stepped = _core.attributes(self._params, "grad")
        given = self._laid_out(grads, closely) if closely or self._seen or self._single else grads
        if options:
            result: StepResult | None = self._core.step(given, **options)
            if options.get("zero_grads"):
                self._zero(grads, given)
        else:
            result = self._core.step(given)
        increment_version(stepped)
        if self._seen:
            self._write_copies(grads)
        if self._unpublished:
            self._publish(grads)
        if self._kind.counts_steps:
            _core.write_counts(self._steps, self._counts)
        return result

    def _laid_out(self, grads: list[Tensor], closely: bool) -> list[Any]:
        """Return gradients as the core takes them, and bring its copies up to date."""
        given = grads.copy()
        for i in range(len(grads)) if closely else (*self._single, *self._seen):
            gradient = grads[i]
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                raise RuntimeError(
                    f"{self._kind.core.__name__} does not support sparse gradients, "
                    f"as grads[{i}], of layout {gradient.layout}"
                )
            if closely or i in self._seen or gradient.is_neg():
                given[i] = self._layouts[i].array(gradient)
        if closely:
            written = self._written_storages()
            for i, gradient in enumerate(grads):
                if gradient is not None and gradient.untyped_storage().data_ptr() in written:
                    given[i] = given[i].copy()
        for i, seen in self._seen.items():
            if seen.copy is not None and grads[i] is not None:
                seen.copy.copy_(seen.param.detach())
                for own, copy in seen.state:
                    copy.copy_(own)
        return given

    def _written_storages(self) -> set[int]:
        entries = [self._state[p] for p in self._params if self._state.get(p)]
        states = [t for own in entries for t in own.values() if isinstance(t, torch.Tensor)]
        return {t.untyped_storage().data_ptr() for t in (*self._params, *states)}

    def _zero(self, grads: list[Tensor], given: list[Any]) -> None:
        """Zero the gradients of which the core had copies, and say that all were written."""
        for gradient, taken in zip(grads, given, strict=True):
            if taken is not gradient and taken.ctypes.data != gradient.data_ptr():
                gradient.detach().zero_()
        increment_version([gradient for gradient in grads if gradient is not None])

    def _write_copies(self, grads: list[Tensor]) -> None:
        """Write back what the core has copies of."""
        with torch.no_grad():
            for i, seen in self._seen.items():
                if seen.copy is not None and grads[i] is not None:
                    seen.param.copy_(seen.copy)
                    for own, copy in seen.state:
                        own.copy_(copy)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Hold the averages in the parameters' place, for a block."""
        every = [p.detach() for p in self._params]
        self._laid_out(every, closely=False)
        try:
            with self._core.swap_ema():
                self.is_swapped = True
                self._write_copies(every)
                increment_version(self._params)
                yield
        finally:
            if self.is_swapped:
                self.is_swapped = False
                self._write_copies(every)
                increment_version(self._params)


def increment_version(tensors: list[Tensor]) -> None:
    """Tell torch's graphs that these tensors were written."""
    if _TAKES_MANY:
        torch.autograd.graph.increment_version(tensors)
    else:
        for tensor in tensors:
            torch.autograd.graph.increment_version(tensor)


_TAKES_MANY = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5)


def _dtype_of_counts() -> type[np.floating[Any]]:
    return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise in_kind(error, f"{place}: {error}") from None


def _as_number(value: Any) -> Any:
    """Return a hyperparameter as the core takes it: a tensor's number is read at each step."""
    if isinstance(value, torch.Tensor):
        return lambda _: value.item()
    if isinstance(value, tuple | list):
        return tuple(map(_as_number, value))
    return value


def _are_alike(new: Any, old: Any) -> bool:
    """Return whether one may take the other's place and need the same state and rule."""
    if isinstance(new, tuple | list) and isinstance(old, tuple | list) and len(new) == len(old):
        return all(map(_are_alike, new, old))
    if isinstance(new, torch.Tensor) or isinstance(old, torch.Tensor):
        return isinstance(new, torch.Tensor) and isinstance(old, torch.Tensor)
    numbers = (isinstance(value, Real) and not isinstance(value, bool) for value in (new, old))
    return all(numbers) and (new == 0) == (old == 0)
