"""An optimizer of the core, bound to what one of torch's holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import _core
from .._hyperparameters import in_kind
from .._step_options import StepResult
from .._types import Array
from ._kind import Kind, are_alike, as_number
from ._layout import CAN_LOOK, Layout, Tensor, is_expanded, require_usable, share_memory

Groups = list[dict[str, Any]]
State = Mapping[Any, dict[str, Any]]


class _Seen(NamedTuple):
    """A parameter that the core can't look at by itself."""

    param: Tensor
    address: int
    view: Tensor  # of the core's memory, laid out as torch's state
    is_copy: bool  # whether that isn't the parameter's memory
    # State that is kept in a narrower dtype, and the core's.
    state: list[tuple[Tensor, Tensor]]


class Bound:
    """An optimizer of the core over the tensors and the state of one of torch's.

    As long as these are the same objects. What is written into them the next step sees, and what a
    parameter's ``data`` became; hyperparameters are those in torch's groups. With ``copies`` no
    memory of torch's is used for state.
    """

    def __init__(self, kind: Kind, groups: Groups, state: State, *, copies: bool) -> None:
        self.is_swapped = False  # whether the averages are in the parameters' place
        self._kind = kind
        self._groups = groups
        self._state = state
        self._copies = copies
        self._lazy = [p for group in groups for p in group["params"] if _is_lazy(p)]
        self._params = _params_of(groups)
        self._named = [name for group in groups for name in group.get("param_names", ())]
        if len({*self._named}) != len(self._params) or self._lazy:
            self._named = []
        for i, p in enumerate(self._params):
            require_usable(p, self._label("params", i))
        self._layouts = [Layout.of(p) for p in self._params]
        self._values = [kind.values_in(group) for group in groups]
        #: Those that the core can't look at by itself, by index.
        self._seen: dict[int, _Seen] = {}
        self._core = kind.core(self._core_groups())
        self._require_apart()
        # As many gradients as may be the negative of what lies in memory, and look like others.
        self._single = [
            i for i, p in enumerate(self._params) if p.numel() == 1 and i not in self._seen
        ]
        self._unpublished = set(range(len(self._params)))
        #: What state["step"] are views of, as torch counts: in its default dtype, or float32. Or
        #: tensors that processes share, with their index.
        self._steps: Array = np.zeros(len(self._params), _dtype_of_counts())
        self._shared_steps: list[tuple[int, Tensor]] = []
        #: State that others may move, and where it was.
        self._published: list[Tensor] = []
        self._addresses: list[int] = []
        self._adopt_state()
        self._note()

    def _label(self, argument: str, index: int) -> str:
        """Return what errors call a parameter, or its gradient."""
        return f"{argument}[{repr(self._named[index]) if self._named else index}]"

    def _core_groups(self) -> list[dict[str, Any]]:
        """Return what the core's constructor takes, with names where parameters have them."""
        arrays = [self._core_array(i) for i in range(len(self._params))]
        found: list[dict[str, Any]] = []
        first = 0
        for group, values in zip(self._groups, self._values, strict=True):
            behind = first + len(_params_of([group]))
            own: Any = arrays[first:behind]
            if self._named:
                own = dict(zip(self._named[first:behind], own, strict=True))
            found.append({**{n: as_number(v) for n, v in values.items()}, "params": own})
            first = behind
        return found

    def _core_array(self, index: int) -> Any:
        param, layout = self._params[index], self._layouts[index]
        if layout.is_plain:
            return param
        laid_out = layout.laid_out(param, self._label("params", index))
        is_copy = laid_out.data_ptr() != param.data_ptr()
        # NumPy's arrays make their memory's place fixed, which isn't ours to decide.
        array = laid_out.numpy() if is_copy or not CAN_LOOK else laid_out
        view = layout.tensor(array) if is_copy else param.detach()
        self._seen[index] = _Seen(param, param.data_ptr(), view, is_copy, [])
        return array

    def _require_apart(self) -> None:
        """Raise where two parameters share memory; the core has said so of all but copies."""
        for i, seen in self._seen.items():
            for j, other in enumerate(self._params):
                if seen.is_copy and i != j and share_memory(seen.param, other):
                    own, others = self._label("params", i), self._label("params", j)
                    raise ValueError(f"{own}: overlaps {others}")

    def _adopt_state(self) -> None:
        """Make torch's state the core's."""
        found = {i: self._read_state(i) for i, p in enumerate(self._params) if self._state.get(p)}
        states = {i: entries for i, entries in found.items() if entries}
        saved = {**self._core.state_dict(), "state": states}
        del saved["completed_steps"]  # as many as one of the parameters has taken
        try:
            try:
                self._core.load_state_dict(saved, copy=False)
            except ValueError:  # as where tensors share memory; if not, it is raised again
                for entries in states.values():
                    entries.update({n: a.copy() for n, a in entries.items() if _is_array(a)})
                self._core.load_state_dict(saved, copy=False)
        except (TypeError, ValueError) as error:
            raise in_kind(error, str(error).replace("state_dict['state']", "state")) from None
        self._counts = self._core.step_counts
        _core.write_counts(self._steps, self._counts)
        for index, entries in states.items():
            own = self._state[self._params[index]]
            for name in self._kind.states:
                if _is_array(entries.get(name)):
                    self._share(own, name, index, entries[name])
            self._share_step(own, index)

    def _read_state(self, index: int) -> dict[str, Any]:
        """Return a parameter's state as the core takes it; none of ours may be there."""
        own, layout = self._state[self._params[index]], self._layouts[index]
        found: dict[str, Any] = {}
        for name in self._kind.states:
            tensor = own.get(name)
            if not isinstance(tensor, torch.Tensor):
                continue
            array = layout.laid_out(tensor, f"state[{index}][{name!r}]").numpy()
            found[name] = array.copy() if self._copies and not tensor.is_shared() else array
        if found:
            for name in set(self._kind.states) - set(self._kind.essential):
                found.setdefault(name, None)  # the next step makes it where it is needed
            if "step" in own:
                found["step"] = own["step"]
        return found

    def _share(self, own: dict[str, Any], name: str, index: int, array: Array) -> None:
        """Let an entry of torch's state lie over the core's memory, or be a copy beside it."""
        layout, tensor = self._layouts[index], self._layouts[index].tensor(array)
        # The average is ours, and of a narrow dtype it would stand still.
        if layout.is_narrow and name != "ema":
            if name not in own or is_expanded(own[name]):
                own[name] = tensor.to(layout.dtype)
            self._seen[index].state.append((own[name], tensor))
        elif name not in own or own[name].data_ptr() != array.ctypes.data:
            own[name] = tensor
        self._published.append(own[name])

    def _share_step(self, own: dict[str, Any], index: int) -> None:
        if not self._kind.counts_steps:
            return
        step = own.get("step")
        if isinstance(step, torch.Tensor) and step.is_shared():
            self._shared_steps.append((index, step))
            return
        own["step"] = torch.from_numpy(self._steps[index : index + 1]).reshape(())
        self._published.append(own["step"])

    def _publish(self, grads: list[Tensor]) -> None:
        """Put into torch's state what the step has made, of parameters that had a gradient."""
        for index in [i for i in self._unpublished if grads[i] is not None]:
            made = dict(self._core.state[index])
            if not made:
                continue  # it was skipped
            self._unpublished.discard(index)
            if made.keys() == {"step"} and not self._kind.counts_steps:
                continue
            param = self._params[index]
            own = self._state.get(param)
            if own is None:
                own = self._state.setdefault(param, {})  # type: ignore[attr-defined]
            for name in self._kind.states:
                if name in made and not isinstance(own.get(name), torch.Tensor):
                    self._share(own, name, index, made[name])
            if "step" not in own:
                self._share_step(own, index)
        self._note_state()

    def _note(self) -> None:
        """Remember what there is, to see what others change."""
        self._groups_then = _core.contents(self._groups)
        self._note_state()

    def _note_state(self) -> None:
        self._state_then = _core.contents(self._state)
        self._addresses = [tensor.data_ptr() for tensor in self._published]

    def is_current(self, groups: Groups, state: State, *, state_was_seen: bool) -> bool:
        """Return whether that is what it is over, after taking over numbers that were assigned.

        What others have seen of the state they may have moved.
        """
        return (
            groups is self._groups
            and state is self._state
            and (_core.has_contents(groups, self._groups_then) or self._takes_numbers())
            and _core.has_contents(state, self._state_then)
            and (not self._kind.counts_steps or _core.are_counts(self._steps, self._counts))
            and (not self._seen or self._sees_all())
            and not (self._lazy and not all(map(_is_lazy, self._lazy)))
            and not (self._shared_steps and self._others_have_stepped())
            and not (state_was_seen and self._was_moved())
        )

    def _sees_all(self) -> bool:
        addresses = (seen.param.data_ptr() == seen.address for seen in self._seen.values())
        return self.fits() and all(addresses)

    def _others_have_stepped(self) -> bool:
        return any(step.item() != self._counts[i] for i, step in self._shared_steps)

    def _was_moved(self) -> bool:
        return [tensor.data_ptr() for tensor in self._published] != self._addresses

    def fits(self) -> bool:
        """Return whether parameters are laid out as they were."""
        return all(a.is_of(p) for a, p in zip(self._layouts, self._params, strict=True))

    def _takes_numbers(self) -> bool:
        """Take over hyperparameters; return False where something else has changed, too."""
        # is_lazy takes time, and one that has come makes these more.
        params = [p for group in self._groups for p in group["params"]]
        if self._lazy:
            params = _params_of(self._groups)
        if len(self._groups) != len(self._values) or len(params) != len(self._params):
            return False
        if not all(p is own for p, own in zip(params, self._params, strict=True)):
            return False
        for k, (group, before) in enumerate(zip(self._groups, self._values, strict=True)):
            if not before.keys() <= group.keys() or _is_for_graphs(group):
                return False
            for name, old in before.items():
                new = group[name]
                if new is old and not isinstance(new, list):
                    continue
                if not are_alike(new, old):
                    return False
                with _named(f"param_groups[{k}]"):
                    self._core.param_groups[k][name] = as_number(new)
                before[name] = new
        self._groups_then = _core.contents(self._groups)
        return True

    def step(self, options: Mapping[str, Any], *, closely: bool = False) -> StepResult | None:
        """Take a step with the gradients that there are, each looked at closely if asked for.

        As is needed where one isn't laid out as its parameter, or shares memory with it.
        """
        grads, stepped = _core.attributes(self._params, "grad")
        zeroes = bool(options and options.get("zero_grads"))
        given: list[Any] = grads
        if closely or self._seen or self._single:
            given = self._laid_out(grads, closely=closely, zeroes=zeroes)
        if options:
            result: StepResult | None = self._core.step(given, **options)
            if zeroes:
                self._zero(grads, given)
            if result is not None and result.skipped:
                return result
        else:
            result = self._core.step(given)
        increment_version(stepped)
        if self._seen:
            self._write_copies(grads)
        if self._unpublished:
            self._publish(grads)
        if self._kind.counts_steps:
            _core.write_counts(self._steps, self._counts)
            for index, step in self._shared_steps:
                step.fill_(int(self._counts[index]))
        return result

    def _laid_out(self, grads: list[Tensor], *, closely: bool, zeroes: bool) -> list[Any]:
        """Return gradients as the core takes them, and bring its copies up to date."""
        given = grads.copy()
        for i in range(len(grads)) if closely else (*self._single, *self._seen):
            gradient = grads[i]
            if gradient is None:
                continue
            label = self._label("grads", i)
            if gradient.layout is not torch.strided:
                raise RuntimeError(
                    f"{self._kind.core.__name__} does not support sparse gradients, as {label}, "
                    f"of layout {gradient.layout}"
                )
            if closely or i in self._seen or gradient.is_neg():
                given[i] = self._layouts[i].laid_out(gradient, label)
                if not CAN_LOOK:
                    given[i] = given[i].numpy()
        if closely:
            written = self._written_storages()
            for i, gradient in enumerate(grads):
                if gradient is None or gradient.untyped_storage().data_ptr() not in written:
                    continue
                if zeroes:
                    label = self._label("grads", i)
                    raise ValueError(
                        f"{label}: shares memory with a parameter or the state, and can't be zeroed"
                    )
                given[i] = given[i].clone() if CAN_LOOK else given[i].copy()
        self._read_copies(grads)
        return given

    def _read_copies(self, grads: list[Tensor]) -> None:
        """Bring up to date what the core has copies of."""
        for i, seen in self._seen.items():
            if seen.is_copy and grads[i] is not None:
                seen.view.copy_(seen.param.detach())
                for own, copy in seen.state:
                    copy.copy_(own)

    def _written_storages(self) -> set[int]:
        entries = [self._state[p] for p in self._params if self._state.get(p)]
        states = [t for own in entries for t in own.values() if isinstance(t, torch.Tensor)]
        return {t.untyped_storage().data_ptr() for t in (*self._params, *states)}

    def _zero(self, grads: list[Tensor], given: list[Any]) -> None:
        """Zero the gradients of which the core had copies, and say that all were written."""
        for gradient, taken in zip(grads, given, strict=True):
            if taken is not gradient and _address(taken) != gradient.data_ptr():
                gradient.detach().zero_()
        increment_version([gradient for gradient in grads if gradient is not None])

    def _write_copies(self, grads: list[Tensor]) -> None:
        """Write back what the core has copies of."""
        with torch.no_grad():
            for i, seen in self._seen.items():
                if seen.is_copy and grads[i] is not None:
                    seen.param.copy_(seen.view)
                    for own, copy in seen.state:
                        own.copy_(copy)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Hold the averages in the parameters' place, for a block."""
        every = [p.detach() for p in self._params]
        self._read_copies(every)
        try:
            with self._core.swap_ema():
                self.is_swapped = True
                self._write_copies(every)
                increment_version(self._params)
                yield
        finally:
            if self.is_swapped:
                self.is_swapped = False
                self._put_back()

    def _put_back(self) -> None:
        """Let parameters be what the core has put back, also where they lie elsewhere now."""
        lost = []
        with torch.no_grad():
            for i, seen in self._seen.items():
                if seen.param.shape != self._layouts[i].shape:
                    lost.append(self._label("params", i))
                elif seen.is_copy or seen.param.data_ptr() != seen.address:
                    seen.param.copy_(seen.view)
                    for own, copy in seen.state:
                        own.copy_(copy)
        increment_version(self._params)
        if lost:
            raise RuntimeError(f"{lost[0]}: was given another shape inside swap_ema(): it is lost")


def increment_version(tensors: list[Tensor]) -> None:
    """Tell torch's graphs that these tensors were written."""
    if _TAKES_MANY:
        torch.autograd.graph.increment_version(tensors)
    else:
        for tensor in tensors:
            torch.autograd.graph.increment_version(tensor)


_TAKES_MANY = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5)


def _is_for_graphs(group: Mapping[str, Any]) -> bool:
    return bool(group.get("differentiable") or group.get("capturable"))


def _params_of(groups: Groups) -> list[Tensor]:
    """Return the parameters of groups, but for those that have no shape yet."""
    return [p for group in groups for p in group["params"] if not _is_lazy(p)]


_is_lazy = torch.nn.parameter.is_lazy


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _address(taken: Any) -> int:
    address: int = taken.ctypes.data if _is_array(taken) else taken.data_ptr()
    return address


def _dtype_of_counts() -> type[np.floating[Any]]:
    return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise in_kind(error, f"{place}: {error}") from None
