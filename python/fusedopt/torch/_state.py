"""State as torch has it, over the memory of the core's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .. import _core
from .._hyperparameters import in_kind
from .._types import Array
from ..optimizer import Optimizer
from ._kind import Kind
from ._layout import Layout, Tensor, is_expanded

StateDict = Mapping[Any, dict[str, Any]]  # as torch has it: by parameter


class SharedState:
    """The entries of torch's state, each over the memory of the core's, or a copy of it."""

    def __init__(
        self, kind: Kind, state: StateDict, params: list[Tensor], layouts: list[Layout]
    ) -> None:
        self._kind = kind
        self._state = state
        self._params = params
        self._layouts = layouts
        #: What each state["step"] is a view of, as torch counts: in its default dtype, or float32.
        self._steps: Array = np.zeros(len(params), _dtype_of_counts())
        #: In their place tensors that processes share, by index.
        self._shared_steps: list[tuple[int, Tensor]] = []
        #: What others may move, and where it was.
        self._published: list[Tensor] = []
        self._addresses: list[int] = []
        #: Of parameters of a narrow dtype what is kept in that, and the core's, by index.
        self._narrow: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._unpublished = set(range(len(params)))

    def adopt(self, core: Optimizer, *, copies: bool) -> None:
        """Make what there is the core's, or raise and change nothing.

        With ``copies`` no memory of torch's becomes the core's, but for what processes share.
        """
        self._core = core
        found = {i: self._read(i, copies) for i, p in enumerate(self._params) if self._state.get(p)}
        states = {i: entries for i, entries in found.items() if entries}
        saved = {**core.state_dict(), "state": states}
        del saved["completed_steps"]  # as many as one of the parameters has taken
        try:
            try:
                core.load_state_dict(saved, copy=False)
            except ValueError:  # as where tensors share memory; if not, it is raised again
                for entries in states.values():
                    entries.update({n: a.copy() for n, a in entries.items() if _is_array(a)})
                core.load_state_dict(saved, copy=False)
        except (TypeError, ValueError) as error:
            raise in_kind(error, str(error).replace("state_dict['state']", "state")) from None
        self._counts = core.step_counts
        _core.write_counts(self._steps, self._counts)
        for index, entries in states.items():
            own = self._state[self._params[index]]
            for name in self._kind.states:
                if _is_array(entries.get(name)):
                    self._share(own, name, index, entries[name])
            self._share_step(own, index)
        self._note()

    def _read(self, index: int, copies: bool) -> dict[str, Any]:
        """Return a parameter's state as the core takes it; none of ours may be there."""
        own, layout = self._state[self._params[index]], self._layouts[index]
        found: dict[str, Any] = {}
        for name in self._kind.states:
            tensor = own.get(name)
            if not isinstance(tensor, torch.Tensor):
                continue
            array = layout.laid_out(tensor, f"state[{index}][{name!r}]").numpy()
            found[name] = array.copy() if copies and not tensor.is_shared() else array
        if found:
            for name in set(self._kind.states) - set(self._kind.essential):
                found.setdefault(name, None)  # the next step makes it where it is needed
            if "step" in own:
                found["step"] = own["step"]
        return found

    def _share(self, own: dict[str, Any], name: str, index: int, array: Array) -> None:
        """Let an entry lie over the core's memory, or be a copy beside it."""
        layout, tensor = self._layouts[index], self._layouts[index].tensor(array)
        # The average is ours, and in a narrow dtype it would stand still.
        if layout.is_narrow and name != "ema":
            if name not in own or is_expanded(own[name]):
                own[name] = tensor.to(layout.dtype)
            self._narrow.setdefault(index, []).append((own[name], tensor))
        elif name not in own or own[name].data_ptr() != array.ctypes.data:
            own[name] = tensor
        self._published.append(own[name])

    def _share_step(self, own: dict[str, Any], index: int) -> None:
        step = own.get("step")
        if not self._kind.counts_steps:
            return
        if isinstance(step, torch.Tensor) and step.is_shared():
            self._shared_steps.append((index, step))
        else:
            own["step"] = torch.from_numpy(self._steps[index : index + 1]).reshape(())
            self._published.append(own["step"])

    def _note(self) -> None:
        """Remember what there is, to see what others change."""
        self._then = _core.contents(self._state)
        self._addresses = [tensor.data_ptr() for tensor in self._published]

    def is_current(self, state: StateDict, *, was_seen: bool) -> bool:
        """Return whether nothing has changed but by steps; what others have seen they may move."""
        return (
            state is self._state
            and _core.has_contents(state, self._then)
            and (not self._kind.counts_steps or _core.are_counts(self._steps, self._counts))
            and not (self._shared_steps and self._others_have_stepped())
            and not (was_seen and self._was_moved())
        )

    def _others_have_stepped(self) -> bool:
        return any(step.item() != self._counts[i] for i, step in self._shared_steps)

    def _was_moved(self) -> bool:
        return [tensor.data_ptr() for tensor in self._published] != self._addresses

    def read_copies(self, index: int) -> None:
        """Bring the core's copies of a parameter's state up to date."""
        for own, copy in self._narrow.get(index, ()):
            copy.copy_(own)

    def write_copies(self, index: int) -> None:
        """Write back what the core has copies of."""
        for own, copy in self._narrow.get(index, ()):
            own.copy_(copy)

    def follow(self, grads: list[Tensor]) -> None:
        """Show what the step has made, of parameters that had a gradient, and what it counted."""
        if self._unpublished:
            self._publish(grads)
        if self._kind.counts_steps:
            _core.write_counts(self._steps, self._counts)
            for index, step in self._shared_steps:
                step.fill_(int(self._counts[index]))

    def _publish(self, grads: list[Tensor]) -> None:
        for index in [i for i in self._unpublished if grads[i] is not None]:
            made = dict(self._core.state[index])
            if not made:
                continue  # the step was skipped
            self._unpublished.discard(index)
            if made.keys() == {"step"} and not self._kind.counts_steps:
                continue
            param = self._params[index]
            own = self._state.get(param)
            if own is None:
                own = self._state.setdefault(param, {})  # type: ignore[attr-defined]
            if "step" not in own:
                self._share_step(own, index)
            for name in self._kind.states:
                if name in made and not isinstance(own.get(name), torch.Tensor):
                    self._share(own, name, index, made[name])
        self._note()

    def storages(self) -> set[int]:
        """Return the addresses of the memory that entries lie in."""
        entries = [self._state[p] for p in self._params if self._state.get(p)]
        tensors = [t for own in entries for t in own.values() if isinstance(t, torch.Tensor)]
        return {t.untyped_storage().data_ptr() for t in tensors}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _dtype_of_counts() -> type[np.floating[Any]]:
    return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
