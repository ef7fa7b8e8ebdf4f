"""What updates arrays, and what there is to see of it."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from contextlib import AbstractContextManager
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ._step_options import Done, StepOptions
from ._types import AnyArray, Array, Grads, GroupRule, Updates, Written


class Engine(Protocol):
    """What updates the arrays: the native stepper, or plain NumPy in `fusedopt.reference`."""

    def add_group(
        self,
        params: list[AnyArray],
        names: tuple[str, ...] | None,
        rule: GroupRule,
        grads: Grads | None,
        updates: Updates,
        written: Written,
        of: int | None = None,
    ) -> None:
        """Add parameters, with their gradients where these are bound, or raise and add none.

        They are what the engine's other methods call a group, by number: a group of the
        optimizer's, or more parameters of the one with that number.
        Each dict or list is brought up to date by the other, at the same moment. An engine may read
        numbers where they are written.
        """

    def rebind(self, arrays: list[tuple[int, AnyArray]], updates: Updates) -> None:
        """Put other arrays in the place of parameters, or raise and change nothing.

        Each dict is brought up to date by the other, at the same moment.
        """

    def bind(self, grads: Grads) -> None:
        """Take these gradients at every step, or raise what a step with them would."""

    @property
    def bound(self) -> Sequence[AnyArray | None] | None:
        """The gradients that are bound, or None."""
        ...

    def zero_grad(self) -> None:
        """Fill the gradients that are bound with zeros."""

    def configure(self, group: int, rule: GroupRule, made_of: tuple[Any, ...]) -> None:
        """Use this rule for a group, from the next step on; it was made of what was written."""

    def is_current(self, group: int) -> bool:
        """Return whether a group's rule is what is written, whatever step it is."""
        ...

    def check(self, group: int, rule: GroupRule) -> None:
        """Raise what `configure` would, and change nothing."""

    def load(
        self,
        states: list[dict[str, Array]],
        steps: list[int],
        completed_steps: int,
        rules: list[GroupRule],
        params: list[Array] | None,
        updates: Updates,
        adopts: bool = False,
    ) -> None:
        """Continue from copies of these states and parameters, or raise and change nothing.

        Where it adopts states, from these themselves.

        Each dict or list is brought up to date by the other, at the same moment.
        """

    def held(self, action: str | None) -> AbstractContextManager[None]:
        """Keep other threads from stepping, for a block.

        Raises RuntimeError inside another such block of this thread, in the name of an action that
        changes what there is; None only looks at it.
        """
        ...

    def require_home(self, action: str) -> None:
        """Raise RuntimeError inside `lookahead` and `swap_ema`, in the name of an action."""

    def step(self, grads: Grads | None) -> None:
        """Update all parameters, or raise and change nothing."""

    def step_with(self, grads: Grads | None, options: StepOptions) -> Done:
        """Do so with options; return the norm, whether it was skipped, and what was measured."""
        ...

    def step_some(self, grads: list[tuple[int, AnyArray | None]], completes: bool) -> None:
        """Update some parameters, by index, or raise and change nothing."""

    def step_some_with(
        self, grads: list[tuple[int, AnyArray | None]], completes: bool, options: StepOptions
    ) -> Done:
        """Do so with options, as `step_with`."""
        ...

    def lookahead(self, momenta: list[float]) -> AbstractContextManager[None]:
        """Hold parameters ahead by their group's momentum times their velocity, for a block."""
        ...

    def swap_ema(self) -> AbstractContextManager[None]:
        """Hold parameters and their averages in each other's place, for a block."""
        ...

    @property
    def arrays(self) -> list[Array]:
        """The parameters as NumPy arrays, over the same memory."""
        ...

    def state(self, index: int) -> tuple[int, dict[str, Array]]:
        """Return how many steps a parameter has taken, and its live state arrays, by name."""
        ...

    @property
    def completed_steps(self) -> int:
        """How many steps were completed."""
        ...

    @property
    def step_counts(self) -> npt.NDArray[np.int64]:
        """How many steps each parameter has taken; live."""
        ...


class ParameterState(Mapping[str, Any]):
    """The state of one parameter: its step count and its live state arrays; empty at first.

    Arrays may be read and written in place; entries can't be replaced.
    """

    def __init__(self, engine: Engine, index: int) -> None:
        self._engine = engine
        self._index = index

    def _entries(self) -> dict[str, Any]:
        step, arrays = self._engine.state(self._index)
        return {"step": step, **arrays} if step or arrays else {}

    def __getitem__(self, name: str) -> Any:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    # Of one moment, whatever other threads do meanwhile.
    def items(self) -> ItemsView[str, Any]:
        return self._entries().items()

    def values(self) -> ValuesView[Any]:
        return self._entries().values()

    def __repr__(self) -> str:
        return repr(self._entries())


class States(Mapping[int | str, ParameterState]):
    """The states of all parameters, by index, or by name where they have names."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._states: list[ParameterState] = []
        self._names: dict[str, int] = {}

    def _with_more(self, count: int, names: tuple[str, ...] | None) -> Updates:
        """Return what there is to bring up to date for so many more."""
        indices = range(len(self._states), len(self._states) + count)
        more = [ParameterState(self._engine, index) for index in indices]
        named: dict[str, Any] = dict(zip(names or (), indices, strict=False))
        return [(vars(self), {"_states": self._states + more}), (self._names, named)]

    def index_of(self, key: int | str) -> int:
        """Return the number of a parameter; KeyError where there is none."""
        index = self._names[key] if isinstance(key, str) else key
        if not isinstance(index, Integral) or not 0 <= index < len(self._states):
            raise KeyError(key)
        return int(index)

    def __getitem__(self, key: int | str) -> ParameterState:
        return self._states[self.index_of(key)]

    def __iter__(self) -> Iterator[int | str]:
        return iter(tuple(self._names) or range(len(self._states)))

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return repr(dict(self))


class Averages(Mapping[int | str, Array]):
    """The averages of those parameters that have one: live arrays, by index or name."""

    def __init__(self, states: States) -> None:
        self._states = states

    def _arrays(self) -> dict[int | str, Array]:
        entries = {key: state._entries() for key, state in self._states.items()}
        return {key: found["ema"] for key, found in entries.items() if "ema" in found}

    def __getitem__(self, key: int | str) -> Array:
        average: Array | None = self._states[key]._entries().get("ema")
        if average is None:
            raise KeyError(key)
        return average

    def __iter__(self) -> Iterator[int | str]:
        return iter(self._arrays())

    def __len__(self) -> int:
        return len(self._arrays())

    # Each average with what there is at that moment.
    def items(self) -> ItemsView[int | str, Array]:
        return self._arrays().items()

    def values(self) -> ValuesView[Array]:
        return self._arrays().values()

    def __repr__(self) -> str:
        return repr(self._arrays())
