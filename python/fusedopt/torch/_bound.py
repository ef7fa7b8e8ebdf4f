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
from ._kind import Kind, are_alike, as_number
from ._layout import CAN_LOOK, Layout, Tensor, require_usable, share_memory
from ._state import SharedState, StateDict

Groups = list[dict[str, Any]]


class _Seen(NamedTuple):
    """A parameter that the core can't look at by itself."""

    param: Tensor
    address: int
    view: Tensor  # of the core's memory, laid out as torch's state
    is_copy: bool  # whether that isn't the parameter's memory


class Bound:
    """An optimizer of the core over the tensors and the state of one of torch's.

    As long as these are the same objects. What is written into them the next step sees, and what a
    parameter's ``data`` became; hyperparameters are those in torch's groups. With ``copies`` no
    memory of torch's is used for state.
    """

    def __init__(self, kind: Kind, groups: Groups, state: StateDict, *, copies: bool) -> None:
        self.is_swapped = False  # whether the averages are in the parameters' place
        self._kind = kind
        self._groups = groups
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
        self._shared = SharedState(kind, state, self._params, self._layouts)
        self._shared.adopt(self._core, copies=copies)
        self._groups_then = _core.contents(groups)

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
        self._seen[index] = _Seen(param, param.data_ptr(), view, is_copy)
        return array

    def _require_apart(self) -> None:
        """Raise where two parameters share memory; the core has said so of all but copies."""
        for i, seen in self._seen.items():
            for j, other in enumerate(self._params):
                if seen.is_copy and i != j and share_memory(seen.param, other):
                    own, others = self._label("params", i), self._label("params", j)
                    raise ValueError(f"{own}: overlaps {others}")

    def is_current(self, groups: Groups, state: StateDict, *, state_was_seen: bool) -> bool:
        """Return whether that is what it is over, after taking over numbers that were assigned.

        What others have seen of the state they may have moved.
        """
        return (
            groups is self._groups
            and (_core.has_contents(groups, self._groups_then) or self._takes_numbers())
            and self._shared.is_current(state, was_seen=state_was_seen)
            and (not self._seen or self._sees_all())
            and not (self._lazy and not all(map(_is_lazy, self._lazy)))
        )

    def _sees_all(self) -> bool:
        addresses = (seen.param.data_ptr() == seen.address for seen in self._seen.values())
        return self.fits() and all(addresses)

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
        self._shared.follow(grads)
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
        if closely or zeroes:
            for i in self._sharing_memory(grads):
                if zeroes:
                    label = self._label("grads", i)
                    raise ValueError(
                        f"{label}: shares memory with a parameter or the state, and can't be zeroed"
                    )
                given[i] = given[i].clone() if CAN_LOOK else given[i].copy()
        self._read_copies(grads)
        return given

    def _sharing_memory(self, grads: list[Tensor]) -> list[int]:
        """Return which gradients lie in memory that a step may write."""
        written = self._shared.storages()
        written |= {p.untyped_storage().data_ptr() for p in self._params}
        there = ((i, g) for i, g in enumerate(grads) if g is not None)
        return [i for i, g in there if g.untyped_storage().data_ptr() in written]

    def _read_copies(self, grads: list[Tensor]) -> None:
        """Bring up to date what the core has copies of."""
        for i, seen in self._seen.items():
            if seen.is_copy and grads[i] is not None:
                seen.view.copy_(seen.param.detach())
                self._shared.read_copies(i)

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
                    self._shared.write_copies(i)

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
                    self._shared.write_copies(i)
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


def _address(taken: Any) -> int:
    address: int = taken.ctypes.data if isinstance(taken, np.ndarray) else taken.data_ptr()
    return address


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise in_kind(error, f"{place}: {error}") from None
