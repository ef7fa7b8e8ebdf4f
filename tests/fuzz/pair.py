"""An optimizer and its reference, over copies of the same arrays."""

import copy
import pickle
from collections import UserList
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import fusedopt
from fusedopt import reference

from .layouts import Gradients, copies, draw_dtypes, draw_shapes, fill, place
from .options import fitting
from .same import params_of, require_same, require_same_array, require_same_value, snapshot


def outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        with np.errstate(all="ignore"):
            return call(), None
    except Exception as error:
        return None, error


class Backwards(list[Any]):
    """A list with an iterator of its own, which is what counts."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items[::-1])

    def __iter__(self) -> Iterator[Any]:
        return reversed(self)


class Pair:
    """What is done to both, and has to be the same."""

    def __init__(
        self,
        rng: np.random.Generator,
        cls: str,
        bound: bool,
        named: bool,
        state_dir: Path | None = None,
    ) -> None:
        self.cls, self.named, self.names_given = cls, named, 0
        self.gradients = Gradients()
        count = int(rng.integers(1, 9))
        arrays = place(rng, draw_shapes(rng, count), draw_dtypes(rng, count))
        # Half of all SGD has velocities everywhere, as lookahead() needs.
        lasting = {"velocity": True} if cls == "SGD" and rng.random() < 0.5 else {}
        defaults = fitting(rng, cls, lasting)
        groups = [{"params": arrays}]
        if count > 1 and rng.random() < 0.4:
            other = fitting(rng, cls, lasting)
            if rng.random() < 0.5:  # lasting ones of its own, too
                groups = [{"params": arrays[:1], **other}, {"params": arrays[1:]}]
            else:
                groups = [{"params": arrays[:1]}, {"params": arrays[1:], "lr": other["lr"]}]
        grads = self.gradients.draw(rng, arrays) if bound else None
        self.bound = grads and [None if g is None else np.array(g) for g in grads]
        self.their_bound = self.bound and copies(self.bound)
        names = [self.argument(group) for group in groups]
        self.ours = getattr(fusedopt, cls)(
            [own for own, _ in names],
            **self._known(defaults),
            grads=self.bound,
            state_dir=state_dir,
        )
        self.theirs = getattr(reference, cls)(
            [other for _, other in names], **self._known(defaults), grads=self.their_bound
        )

    def _known(self, values: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in values.items() if k != "decoupled_weight_decay" or self.has_l2}

    @property
    def has_l2(self) -> bool:
        return self.cls != "AdamW"

    def argument(self, group: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a group for each of both, over the arrays and over copies of them."""
        arrays = group["params"]
        pair: list[dict[str, Any]] = []
        for own in (arrays, copies(arrays)):
            params: Any = own
            if self.named:
                start = self.names_given
                params = {f"p{start + k}": array for k, array in enumerate(own)}
            pair.append({**group, "params": params})
        self.names_given += len(arrays)
        return pair[0], pair[1]

    @property
    def params(self) -> list[Any]:
        return params_of(self.ours)

    def require_same(self) -> None:
        require_same(self.ours, self.theirs)
        for i, g in enumerate(self.bound or ()):
            if g is not None:
                require_same_array(g, self.their_bound[i], f"grads[{i}]")

    def both(self, call: Callable[[Any], Any]) -> tuple[Any, Any, bool]:
        """Return what a call returns for each, and whether it raised: the same error, for both.

        Nothing has changed then.
        """
        before = snapshot(self.ours, self.bound or [])
        expected, refused = outcome(lambda: call(self.theirs))
        got, error = outcome(lambda: call(self.ours))
        texts = str(error), str(refused)
        alike = texts[0] == texts[1] or isinstance(error, FloatingPointError)
        if type(error) is not type(refused) or not alike:
            raise AssertionError(f"{error!r}, the reference: {refused!r}") from error or refused
        if error is not None:
            assert snapshot(self.ours, self.bound or []) == before, error
        return got, expected, error is not None

    def refused(self, call: Callable[[Any], Any], arrays: list[Any] = []) -> None:  # noqa: B006
        """Do what only fusedopt checks, and must refuse, without a change."""
        arrays = [*arrays, *(self.bound or [])]
        before = snapshot(self.ours, arrays)
        _, error = outcome(lambda: call(self.ours))
        assert isinstance(error, TypeError | ValueError | RuntimeError), f"not refused: {error!r}"
        assert snapshot(self.ours, arrays) == before, error

    def draw_gradients(self, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
        """Return gradients for both; those that are bound are given other numbers."""
        if self.bound is None:
            grads = self.gradients.draw(rng, self.params)
            return grads, copies(grads)
        fill(rng, self.bound)
        for g, theirs in zip(self.bound, self.their_bound, strict=True):
            if g is not None:
                theirs[...] = g
        return self.bound, self.their_bound

    def argument_of(self, grads: list[Any], form: int = 0) -> list[Any]:
        """Return the positional arguments of a step, in one of the forms that there are."""
        if self.bound is not None:
            return []
        if form > 3 and self.named:
            named = dict(zip(self.ours.state, grads, strict=True))
            return [named if form == 4 else MappingProxyType(named)]
        return [(list, tuple, UserList, Backwards)[form % 4](grads)]

    def step(self, rng: np.random.Generator, options: dict[str, Any]) -> str:
        """Take a step; return what became of it."""
        grads, theirs = self.draw_gradients(rng)
        form = int(rng.integers(6))
        if options.get("zero_grads") and not all_writeable_and_apart(grads):
            self.refused(lambda opt: opt.step(*self.argument_of(grads, form), **options), grads)
            options = {k: v for k, v in options.items() if k != "zero_grads"}
        got, expected, failed = self.both(
            lambda opt: opt.step(
                *self.argument_of(grads if opt is self.ours else theirs, form), **options
            )
        )
        for i, (g, h) in enumerate(zip(grads, theirs, strict=True)):
            if g is not None:
                require_same_array(g, h, f"grads[{i}]")
        if failed:
            return "refused"
        require_same_value(_plain(got), _plain(expected), "result")
        return "skipped" if got is not None and got.skipped else "taken"

    def make_fitting(self, rng: np.random.Generator) -> None:
        """Give every group hyperparameters that fit each other and float32."""
        for k, group in enumerate(self.ours.param_groups):
            values = fitting(rng, self.cls, group.hyperparameters())
            for name, value in self._known(values).items():
                self.both(lambda opt, k=k, n=name, v=value: assign(opt, k, n, v))

    def add_group(self, rng: np.random.Generator) -> bool:
        count = int(rng.integers(0, 4))
        arrays = place(rng, draw_shapes(rng, count), draw_dtypes(rng, count))
        first = self.ours.param_groups[0].hyperparameters()
        own = fitting(rng, self.cls, first if rng.random() < 0.8 else {})
        overrides = self._known(own) if rng.random() < 0.5 else {"lr": own["lr"]}
        group, other = self.argument({"params": arrays, **overrides})
        grads: list[Any] | None = None
        if self.bound is not None:
            grads = [None if g is None else np.array(g) for g in Gradients().draw(rng, arrays)]
        theirs = grads and copies(grads)
        if grads is not None and not count and rng.random() < 0.5:
            grads = theirs = None

        def add(opt: Any) -> None:
            if opt is self.ours:
                opt.add_param_group(group, grads)
            else:
                opt.add_param_group(other, theirs)

        _, _, failed = self.both(add)
        if not failed and grads:
            self.bound, self.their_bound = [*self.bound, *grads], [*self.their_bound, *theirs]
        return failed

    def copy(self, pickled: bool) -> bool:
        """Go on with copies of both."""

        def copied(opt: Any) -> Any:
            whole = (self.bound if opt is self.ours else self.their_bound), opt
            return pickle.loads(pickle.dumps(whole)) if pickled else copy.deepcopy(whole)

        got, expected, failed = self.both(copied)
        if not failed:
            (self.bound, self.ours), (self.their_bound, self.theirs) = got, expected
            self.gradients = Gradients()
        return failed


def assign(opt: Any, group: int, name: str, value: Any) -> None:
    opt.param_groups[group][name] = value


def _plain(result: Any) -> Any:
    if result is None:
        return None
    stats = result.stats and [list(vars(group).values()) for group in result.stats]
    return [result.grad_norm, result.skipped, stats]


def all_writeable_and_apart(grads: list[Any]) -> bool:
    given = [g for g in grads if g is not None]
    filled = [id(g) for g in given if g.size]
    return all(g.flags.writeable for g in given) and len(set(filled)) == len(filled)
