"""Steps, right and wrong, and what happens to arrays between them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from . import mishaps, options, states
from .base import COUNTS, SEEDS, Base
from .layouts import fill
from .same import params_of


class StepRules(Base):
    # Steps ------------------------------------------------------------------------------------

    @rule(seed=SEEDS, steps=st.integers(1, 4))
    def step(self, seed: int, steps: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            self._step(rng, {})

    @rule(seed=SEEDS, steps=st.integers(1, 3))
    def step_with_options(self, seed: int, steps: int) -> None:
        rng = np.random.default_rng(seed)
        chosen = options.step_options(rng)
        for _ in range(steps):
            self._step(rng, chosen)

    @precondition(lambda self: self.pair.bound is None)
    @rule(seed=SEEDS, steps=st.integers(1, 4), completes=st.booleans())
    def step_some(self, seed: int, steps: int, completes: bool) -> None:
        rng = np.random.default_rng(seed)
        pair = self.pair
        keys = list(pair.ours.state) if rng.random() < 0.5 else range(len(pair.params))
        chosen = [i for i in range(len(pair.params)) if rng.random() < 0.4]
        for _ in range(steps):
            grads, theirs = pair.draw_gradients(rng)
            _, _, failed = pair.both(
                lambda opt, own=grads, other=theirs: opt.step_some(
                    {keys[i]: (own if opt is pair.ours else other)[i] for i in chosen},
                    completes=completes,
                )
            )
            COUNTS[f"step of some, {'refused' if failed else 'taken'}"] += 1

    @rule(seed=SEEDS)
    def rebind(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pair = self.pair
        chosen = [i for i in range(len(pair.params)) if rng.random() < 0.5]
        fresh = {i: np.array(pair.params[i]) for i in chosen}
        copies = {i: array.copy() for i, array in fresh.items()}
        _, _, failed = pair.both(lambda opt: opt.rebind(fresh if opt is pair.ours else copies))
        COUNTS[f"parameters replaced{', refused' if failed else ''}"] += 1

    @rule(seed=SEEDS)
    def step_with_bad_options(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        chosen = options.bad_step_options(rng)
        grads, theirs = self.pair.draw_gradients(rng)
        _, _, failed = self.pair.both(
            lambda opt: opt.step(
                *self.pair.argument_of(grads if opt is self.pair.ours else theirs), **chosen
            )
        )
        assert failed
        COUNTS["step with a bad option"] += 1

    @rule(seed=SEEDS)
    def bad_gradient(self, seed: int) -> None:
        """The step is refused, and nothing changed; the next one is as if it had never been."""
        rng = np.random.default_rng(seed)
        pair, chosen = self.pair, options.step_options(rng)
        if pair.bound is not None:
            return
        grads, _ = pair.draw_gradients(rng)
        places = [i for i, g in enumerate(grads) if g is not None and g.size]
        if not places or self._misfits():
            return
        i = places[rng.integers(len(places))]
        kinds = [*mishaps.BAD_GRADIENTS, "overlap", "overlap", "overlap"]
        kind = kinds[rng.integers(len(kinds))]
        if kind == "overlap":
            bad = mishaps.overlapping(rng, pair.ours, pair.params, i)
        else:
            with np.errstate(all="ignore"):
                bad = mishaps.BAD_GRADIENTS[kind](grads[i])
        if bad is None:
            return
        wrong = [*grads[:i], bad, *grads[i + 1 :]]
        pair.refused(lambda opt: opt.step(*pair.argument_of(wrong), **chosen), grads)
        COUNTS[f"bad gradient: {kind}"] += 1
        self._step(rng, chosen if rng.random() < 0.5 else {})

    @rule(seed=SEEDS)
    def meddle(self, seed: int) -> None:
        """A schedule that does something to its own optimizer."""
        rng = np.random.default_rng(seed)
        pair = self.pair
        if self._misfits():
            return
        grads, _ = pair.draw_gradients(rng)
        group = pair.ours.param_groups[0]
        before = group["lr"]
        meddling: list[Callable[[Any], Any]] = [
            lambda opt: opt.step(*pair.argument_of(grads)),
            lambda opt: opt.step(*pair.argument_of(grads), max_norm=1.0),
            lambda opt: opt.add_param_group({"params": []}),
            lambda opt: opt.load_state_dict(opt.state_dict()),
        ]
        does = meddling[rng.integers(len(meddling))]
        group["lr"] = lambda step: does(pair.ours) or 0.5
        chosen = options.step_options(rng) if rng.random() < 0.5 else {}
        pair.refused(lambda opt: opt.step(*pair.argument_of(grads), **chosen), grads)
        group["lr"] = before
        COUNTS["schedule that steps or adds"] += 1

    @rule(seed=SEEDS, kind=st.integers(0, 4))
    def bad_list(self, seed: int, kind: int) -> None:
        rng = np.random.default_rng(seed)
        pair = self.pair
        grads, _ = pair.draw_gradients(rng)
        if self._misfits():
            return
        wrong: Any = [
            [*grads, None],
            grads[:-1],
            np.ones(3),
            {f"q{k}": g for k, g in enumerate(grads)},
            None if pair.bound is None else grads,
        ][kind]
        pair.refused(lambda opt: opt.step(wrong), grads)
        COUNTS["bad list of gradients"] += 1

    @precondition(lambda self: self.pair.bound is not None)
    @rule(seed=SEEDS)
    def zero_grad(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pair = self.pair
        pair.draw_gradients(rng)
        # Not over a pickle's bytes, as after a copy: what is frozen there can't be thawed.
        frozen = [g for g in pair.bound if g is not None and g.flags.owndata]
        if frozen and rng.random() < 0.3:
            g = frozen[rng.integers(len(frozen))]
            g.flags.writeable = False
            pair.refused(lambda opt: opt.zero_grad())
            g.flags.writeable = True
            COUNTS["zero_grad, refused"] += 1
        pair.both(lambda opt: opt.zero_grad())
        COUNTS["zero_grad"] += 1

    # What happens to parameters ---------------------------------------------------------------

    @rule(seed=SEEDS)
    def mishap(self, seed: int) -> None:
        """A parameter isn't what it was: refused; mended, it is as if nothing had been."""
        rng = np.random.default_rng(seed)
        pair = self.pair
        grads, _ = pair.draw_gradients(rng)
        places = [i for i, g in enumerate(grads) if g is not None]
        if not places or self._misfits():
            return
        p = pair.params[places[rng.integers(len(places))]]
        kinds = [kind for kind, (can, _) in mishaps.MISHAPS.items() if can(p)]
        kind = kinds[rng.integers(len(kinds))]
        chosen = options.step_options(rng) if rng.random() < 0.5 else {}
        with mishaps.mishap(p, kind):
            pair.refused(lambda opt: opt.step(*pair.argument_of(grads), **chosen), grads)
        COUNTS[f"parameter {kind}"] += 1
        self._step(rng, chosen)

    @rule(seed=SEEDS)
    def move_parameters(self, seed: int) -> None:
        """Their memory is elsewhere, as after a resize and another; a gradient may get the old."""
        rng = np.random.default_rng(seed)
        params = self.pair.params
        moved = [mishaps.move(p) for p in params if rng.random() < 0.5]
        COUNTS["parameter moved"] += sum(map(bool, moved))
        if rng.random() < 0.7:
            self.pair.gradients.arrays = [mishaps.like(p, moved) for p in params]
        self._step(rng, {})

    @rule(seed=SEEDS, states_too=st.booleans())
    def write_numbers(self, seed: int, states_too: bool) -> None:
        """The user may write into parameters and state."""
        rng = np.random.default_rng(seed)
        pair = self.pair
        fill(rng, pair.params)
        for p, q in zip(pair.params, params_of(pair.theirs), strict=True):
            q[...] = p
        for key, state in pair.ours.state.items() if states_too else ():
            for name, array in state.items():
                if name != "step":
                    array[...] = states.state_numbers(rng, name, array)
                    pair.theirs.state[key][name][...] = array
        COUNTS["numbers written"] += 1
