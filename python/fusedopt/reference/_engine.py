"""What the specifications of all rules share: a step around the rule, in plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from .._param_group import ParamGroup
from .._state import Engine
from .._step_options import Done, StepOptions
from .._types import AnyArray, Array, Grads, GroupRule, Stats, Updates, Written
from ..optimizer import Optimizer


class InNumPy(Optimizer):
    """An optimizer that steps in NumPy: one `_update` for each parameter that has a gradient."""

    #: (p, g, state, t, rule, **hyperparameters): updates p and its state in place at step t >= 1.
    _update: ClassVar[Callable[..., None]]

    def _make_engine(self) -> Engine:
        if self._state_files is not None:
            raise ValueError("state_dir: expected None, as the reference keeps its state in memory")
        return NumPyEngine(self)

    def _group_rule(self, group: ParamGroup, made_of: tuple[Any, ...]) -> GroupRule:
        values, scheduled = group.asked(self.completed_steps, made_of)
        assert isinstance(self._engine, NumPyEngine)
        self._engine.present[group] = values
        return self._rule_of(values, scheduled)


class NumPyEngine:
    """The engine of an optimizer in NumPy."""

    def __init__(self, optimizer: InNumPy) -> None:
        self._optimizer = optimizer
        self._params: list[Array] = []
        self._groups: list[int] = []  # that of each parameter
        self._parts: list[int] = []  # that of each part
        self.bound: list[Array | None] | None = None
        self._rules: dict[int, str] = {}
        self.present: dict[ParamGroup, dict[str, Any]] = {}  # hyperparameters at this step
        self._names: tuple[str, ...] = ()
        self._states: list[dict[str, Array]] = []
        self._block = ""  # what the parameters are inside, elsewhere
        self._held = 0  # blocks that the caller is inside
        self.completed_steps = 0
        self.step_counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)

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
        group = len(self._optimizer.param_groups) if of is None else of
        self._parts.append(group)
        self._rules[group] = rule[0]
        self._groups += [group for _ in params]
        self._params += map(_in_numpy, params)
        self._names += names or ()
        if self.bound is not None and grads is not None:
            more = [grads[n] for n in names or ()] if isinstance(grads, Mapping) else grads
            self.bound += [None if g is None else _in_numpy(g) for g in more]
        self._states += [{} for _ in params]
        self.step_counts = np.append(self.step_counts, np.zeros(len(params), np.int64))
        _bring_up_to_date(updates)

    def rebind(self, arrays: list[tuple[int, AnyArray]], updates: Updates) -> None:
        self.require_home("rebind()")
        for i, array in arrays:
            self._params[i] = _in_numpy(array)
        _bring_up_to_date(updates)

    def configure(self, group: int, rule: GroupRule, made_of: tuple[Any, ...]) -> None:
        """Remember the rule: its hyperparameters are read from the group at each step."""
        self._rules[self._parts[group]] = rule[0]

    def is_current(self, group: int) -> bool:
        return False

    def check(self, group: int, rule: GroupRule) -> None:
        """Take any rule: here numbers become infinite."""

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
        self.require_home("load_state_dict()")
        self._states = [
            {n: a if adopts else a.copy() for n, a in state.items()} for state in states
        ]
        for p, value in zip(self._params, params or (), strict=False):
            p[...] = value
        self.step_counts[...] = steps
        self.completed_steps = completed_steps
        self._rules = {group: name for group, (name, _, _) in enumerate(rules)}
        _bring_up_to_date(updates)

    @property
    def arrays(self) -> list[Array]:
        return list(self._params)

    def state(self, index: int) -> tuple[int, dict[str, Array]]:
        return int(self.step_counts[index]), dict(self._states[index])

    @contextmanager
    def held(self, action: str | None) -> Iterator[None]:
        if action:
            self._require_outside(action)
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def _require_outside(self, action: str) -> None:
        if self._held:
            raise RuntimeError(
                f"{action}: called from within the same optimizer's work, as by a schedule; "
                "nothing was changed"
            )

    @contextmanager
    def lookahead(self, momenta: list[float]) -> Iterator[None]:
        self._require_outside("lookahead()")
        self.require_home("lookahead()")
        origins = [p.copy() for p in self._params]
        of_group = dict(zip(self._parts, momenta, strict=True))
        with np.errstate(all="ignore"):
            for p, state, group in zip(self._params, self._states, self._groups, strict=True):
                if "momentum_buffer" in state:
                    p[...] = p + p.dtype.type(of_group[group]) * state["momentum_buffer"]
        self._block = "lookahead()"
        try:
            yield
        finally:
            self._block = ""
            for p, origin in zip(self._params, origins, strict=True):
                p[...] = origin

    @contextmanager
    def swap_ema(self) -> Iterator[None]:
        self._require_outside("swap_ema()")
        self.require_home("swap_ema()")
        self._exchange()
        self._block = "swap_ema()"
        try:
            yield
        finally:
            self._block = ""
            self._exchange()

    def _exchange(self) -> None:
        for p, state in zip(self._params, self._states, strict=True):
            if "ema" in state:
                before = p.copy()
                p[...] = state["ema"]
                state["ema"][...] = before

    def require_home(self, action: str) -> None:
        if self._block:
            raise RuntimeError(
                f"{action}: not inside {self._block}, where the parameters are elsewhere"
            )

    def bind(self, grads: Grads) -> None:
        self.bound = self._in_order(grads)

    def zero_grad(self) -> None:
        for g in self._in_order(None):
            if g is not None:
                g[...] = 0

    def step(self, grads: Grads | None) -> None:
        self._update_all(self._cast(self._in_order(grads)))

    def step_some(self, grads: list[tuple[int, AnyArray | None]], completes: bool) -> None:
        before = self.completed_steps
        self._update_all(self._cast(self._some_in_order(grads)))
        if not completes:
            self.completed_steps = before

    def step_with(self, grads: Grads | None, options: StepOptions) -> Done:
        return self._step_with(self._in_order(grads), options)

    def step_some_with(
        self, grads: list[tuple[int, AnyArray | None]], completes: bool, options: StepOptions
    ) -> Done:
        before = self.completed_steps
        done = self._step_with(self._some_in_order(grads), options)
        if not completes:
            self.completed_steps = before
        return done

    def _step_with(self, originals: list[Array | None], options: StepOptions) -> Done:
        in_order = self._cast(originals)
        given = [g for g in in_order if g is not None]
        moved = [p for p, g in zip(self._params, in_order, strict=True) if g is not None]
        before = [p.copy() for p in moved]
        found = [g.copy() for g in given]
        skipped = options.on_nonfinite != "propagate" and not all(
            np.isfinite(g).all() for g in given
        )
        if skipped and options.on_nonfinite == "raise":
            raise FloatingPointError("grads: not finite; nothing was updated")
        scale, norm = 1 / options.loss_scale, None
        if options.max_norm is not None or options.max_array_norm is not None or options.stats:
            norm = _norm(given) / options.loss_scale
        if norm is not None and options.max_norm is not None and options.max_norm != math.inf:
            coefficient = options.max_norm / (norm + 1e-6)
            scale = (1.0 if coefficient > 1 else coefficient) / options.loss_scale
        scales = [scale] * len(in_order)
        if options.max_array_norm is not None:
            norms_of_each = [
                0.0 if g is None else _norm([g]) / options.loss_scale for g in in_order
            ]
            scales = [
                (
                    options.max_array_norm / norm_of_it
                    if norm_of_it > options.max_array_norm
                    else 1.0
                )
                / options.loss_scale
                for norm_of_it in norms_of_each
            ]
        if not skipped:
            self._update_all(
                [
                    None if g is None else _scaled(g, its_scale, options.clip_value)
                    for g, its_scale in zip(in_order, scales, strict=True)
                ]
            )
        if options.zero_grads:
            for original in originals:
                if original is not None:
                    original[...] = 0
        if not options.stats:
            return norm, skipped, None
        groups = [k for k, g in zip(self._groups, in_order, strict=True) if g is not None]
        measured: Stats = []
        for group in range(len(self._optimizer.param_groups)):
            own = [i for i, k in enumerate(groups) if k == group]
            changes = [] if skipped else [moved[i].astype(float) - before[i] for i in own]
            gradients = [found[i] for i in own]
            nonfinite = sum(int(np.count_nonzero(~np.isfinite(g))) for g in gradients)
            norms = (
                _norm(gradients) / options.loss_scale,
                _norm(changes),
                _norm([moved[i] for i in own]),
            )
            measured.append((*norms, nonfinite))
        return norm, skipped, measured

    def _in_order(self, grads: Grads | None) -> list[Array | None]:
        self.require_home("step()")
        if grads is None:
            if self.bound is None:
                raise TypeError("grads: expected arrays, got None, and none were bound")
            return self.bound
        items = [grads[n] for n in self._names] if isinstance(grads, Mapping) else list(grads)
        if len(grads) != len(items):
            raise ValueError(f"grads: expected {len(items)}, got {len(grads)}")
        return self._as_given(items)

    def _some_in_order(self, grads: list[tuple[int, AnyArray | None]]) -> list[Array | None]:
        given: list[AnyArray | None] = [None] * len(self._params)
        for i, g in grads:
            given[i] = g
        return self._as_given(given)

    def _as_given(self, items: list[AnyArray | None]) -> list[Array | None]:
        """Return gradients as NumPy arrays that fit the parameters."""
        self.require_home("step()")
        in_order = [None if g is None else _in_numpy(g) for g in items]
        casts = self._optimizer._cast_grads
        if len(items) != len(self._params):
            raise ValueError(f"grads: expected {len(self._params)}, got {len(items)}")
        for i, (p, g) in enumerate(zip(self._params, in_order, strict=True)):
            fits = g is None or g.dtype == p.dtype or (casts and g.dtype.kind == "f")
            if g is not None and not (fits and g.shape == p.shape):
                raise ValueError(
                    f"grads[{i}]: expected {p.dtype} {p.shape}, got {g.dtype} {g.shape}"
                )
        return in_order

    def _cast(self, grads: list[Array | None]) -> list[Array | None]:
        """Return gradients in their parameters' dtypes."""
        with np.errstate(all="ignore"):
            return [
                None if g is None else g.astype(p.dtype, copy=False)
                for p, g in zip(self._params, grads, strict=True)
            ]

    def _update_all(self, grads: list[Array | None]) -> None:
        hyper = [self.present[group] for group in self._optimizer.param_groups]
        with np.errstate(all="ignore"):
            for i, (p, g) in enumerate(zip(self._params, grads, strict=True)):
                if g is not None:
                    self.step_counts[i] += 1
                    t = int(self.step_counts[i])
                    k = self._groups[i]
                    decay = hyper[k]["ema_decay"]
                    if decay is not None:
                        self._states[i].setdefault("ema", p.copy())
                    rule = {name: hyper[k][name] for name in self._optimizer._checks}
                    self._optimizer._update(p, g, self._states[i], t, self._rules[k], **rule)
                    if decay is not None:
                        ema = self._states[i]["ema"]
                        ema[...] = ema + p.dtype.type(1 - decay) * (p - ema)
        self.completed_steps += 1


def _bring_up_to_date(updates: Updates) -> None:
    for own, update in updates:
        if isinstance(own, list):
            own[:] = update
        else:
            own.update(update)


def _in_numpy(array: AnyArray) -> Array:
    if isinstance(array, np.ndarray):
        return array
    viewed: Any = np.from_dlpack(array)  # type: ignore[arg-type]  # takes more arguments
    return cast(Array, viewed)


def _scaled(g: Array, scale: float, clip_value: float) -> Array:
    """Return what a gradient counts as."""
    T = g.dtype.type
    with np.errstate(all="ignore"):
        return np.clip(T(scale) * g, T(-clip_value), T(clip_value))


def _norm(grads: Sequence[Array]) -> float:
    """Return the L2 norm of all gradients together, summed in float64, array by array."""
    total = 0.0
    with np.errstate(all="ignore"):
        for g in grads:
            total = total + _sum_of_squares(g.astype(np.float64).ravel())
    return math.sqrt(total)


def _sum_of_squares(g: Array) -> float:
    """Return the sum over blocks of 4096 elements, in each in 16 lanes that are added by halves."""
    total = 0.0
    for start in range(0, g.size, 4096):
        block = g[start : start + 4096]
        lanes = np.zeros(16)
        for at in range(0, block.size, 16):
            row = block[at : at + 16]
            lanes[: row.size] += row * row
        for width in (8, 4, 2, 1):
            lanes[:width] += lanes[width : 2 * width]
        total = total + float(lanes[0])
    return total
