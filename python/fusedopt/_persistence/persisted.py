"""What this package knows of an optimizer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from .._param_group import ParamGroup
from .._params import GroupSpec
from .._state import Engine, States
from .._types import GroupRule
from .state_files import StateFiles


class Persisted(Protocol):
    """An optimizer: what lasts of it, and what makes it anew."""

    _rules: ClassVar[tuple[str, ...]]
    _lasting: ClassVar[Mapping[str, Any]]
    _step_may_be_missing: ClassVar[bool]
    _own_attributes: ClassVar[tuple[str, ...]]

    _engine: Engine
    _groups: list[ParamGroup]
    _parts: list[tuple[int, range]]
    _states: States
    _defaults: dict[str, Any]
    _state_files: StateFiles | None
    _cast_grads: bool

    @property
    def completed_steps(self) -> int:
        """How many steps were completed."""
        ...

    def _groups_in_order(self) -> Iterator[tuple[ParamGroup, list[int], tuple[str, ...] | None]]:
        """Yield each group, and the numbers and names of its parameters."""
        ...

    def _param_label(self, index: int) -> str:
        """Return what errors call a parameter."""
        ...

    def _unasked_rule(self, group: ParamGroup) -> GroupRule:
        """Return the rule of a group, without asking a schedule."""
        ...

    def _begin(
        self,
        defaults: dict[str, Any],
        state_dir: str | os.PathLike[str] | None,
        cast_grads: bool,
    ) -> None:
        """Be an optimizer without parameters."""

    def _add(self, spec: GroupSpec, label: str, *, rule: GroupRule, to: int | None) -> None:
        """Add a group of parameters, or more of one, with a rule until it is configured."""
