"""What can be done to an optimizer, in any order."""

import copy
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

import fusedopt
from fusedopt import _core

from . import options, states
from .base import COUNTS, SEEDS
from .layouts import copies, draw_dtypes, draw_shapes, place
from .pair import assign, outcome
from .same import require_same_value, snapshot
from .step_rules import StepRules

MOST_GROUPS, MOST_PARAMETERS = 4, 14


class Machine(StepRules):
    # Hyperparameters --------------------------------------------------------------------------

    @rule(seed=SEEDS, count=st.integers(1, 3))
    def assign(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            failed = self._assign(rng, *options.assignment(rng, self.pair.cls))
            COUNTS[f"hyperparameter assigned{', refused' if failed else ''}"] += 1

    @rule(seed=SEEDS)
    def assign_what_fits(self, seed: int) -> None:
        self.pair.make_fitting(np.random.default_rng(seed))
        COUNTS["all hyperparameters assigned"] += 1

    @rule(seed=SEEDS)
    def assign_bad(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        assert self._assign(rng, *options.bad_assignment(rng, self.pair.cls))
        COUNTS["bad hyperparameter"] += 1

    @rule(seed=SEEDS)
    def assign_what_float32_cannot_be(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        opt = self.pair.ours
        k = int(rng.integers(len(opt.param_groups)))
        group = opt.param_groups[k]
        if not any(p.dtype == np.float32 for p in group["params"]) or self._misfits():
            return
        before = group["lr"]
        assign(opt, k, "lr", 3.5e38)
        grads, _ = self.pair.draw_gradients(rng)
        self.pair.refused(lambda opt: opt.step(*self.pair.argument_of(grads)), grads)
        assign(opt, k, "lr", before)
        COUNTS["hyperparameter too large for float32"] += 1

    @rule(seed=SEEDS)
    def schedule(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._assign(rng, *options.scheduled(rng, self.pair.cls))
        COUNTS["schedule assigned"] += 1

    @precondition(lambda self: len(self.pair.ours.param_groups) < MOST_GROUPS)
    @precondition(lambda self: len(self.pair.params) < MOST_PARAMETERS)
    @rule(seed=SEEDS)
    def add_group(self, seed: int) -> None:
        failed = self.pair.add_group(np.random.default_rng(seed))
        COUNTS[f"group added{', refused' if failed else ''}"] += 1

    @rule(seed=SEEDS, kind=st.integers(0, 6))
    def add_bad_group(self, seed: int, kind: int) -> None:
        rng = np.random.default_rng(seed)
        pair = self.pair
        arrays = place(rng, draw_shapes(rng, 2), draw_dtypes(rng, 2))
        given, _ = pair.argument({"params": arrays})
        grads = None if pair.bound is None else copies(arrays)
        params = [p for p in pair.params if p.size]
        if kind == 0:
            given["params"] = dict(enumerate(arrays)) if pair.named else {"a": arrays[0]}
        elif kind == 1:
            given["lr"] = -1.0
        elif kind == 2:
            given["no_such"] = 1
        elif kind == 3:
            grads = copies(arrays) if pair.bound is None else None
        else:
            strided = np.zeros((4, 6), np.float32)[:, ::2]
            odd = [params[0] if params else None, np.zeros(3, np.int32), strided][kind - 4]
            given = {"params": {"x": arrays[0], "y": odd} if pair.named else [arrays[0], odd]}
            grads = grads and [arrays[0].copy(), np.zeros(3)]
        pair.refused(lambda opt: opt.add_param_group(given, grads), arrays)
        COUNTS["bad group"] += 1
        self._step(rng, {})

    # State ------------------------------------------------------------------------------------

    @rule()
    def state_dict(self) -> None:
        got, expected, _ = self.pair.both(lambda opt: opt.state_dict())
        require_same_value(got, expected, "state_dict")
        self.saved = [*self.saved[-2:], (copy.deepcopy(got), copy.deepcopy(expected))]
        COUNTS["state_dict"] += 1

    @precondition(lambda self: self.saved)
    @rule(seed=SEEDS, which=st.integers(0, 2), strict=st.booleans())
    def load_state_dict(self, seed: int, which: int, strict: bool) -> None:
        """Perhaps another than it was, and perhaps the other's."""
        rng = np.random.default_rng(seed)
        saved = copy.deepcopy(self.saved[which % len(self.saved)][rng.integers(2)])
        states.VALID[rng.integers(len(states.VALID))](rng, saved)
        _, _, failed = self.pair.both(lambda opt: opt.load_state_dict(saved, strict))
        COUNTS[f"load_state_dict{', refused' if failed else ''}"] += 1

    @rule(seed=SEEDS, strict=st.booleans())
    def load_own_state(self, seed: int, strict: bool) -> None:
        """As it is, over its own arrays; or with two of them in each other's place."""
        rng = np.random.default_rng(seed)
        change = [states.VALID[0], states.exchanged, states.one_forgotten][rng.integers(3)]
        seed = int(rng.integers(2**32))

        def load(opt: Any) -> None:
            state = opt.state_dict()
            change(np.random.default_rng(seed), state)
            opt.load_state_dict(state, strict)

        self.pair.both(load)
        COUNTS["load_state_dict of its own arrays"] += 1

    @rule(seed=SEEDS, strict=st.booleans())
    def load_bad_state(self, seed: int, strict: bool) -> None:
        rng = np.random.default_rng(seed)
        kinds = states.INVALID + (states.STRICTLY_INVALID if strict else [])
        change = kinds[rng.integers(len(kinds))]
        state = copy.deepcopy(self.pair.ours.state_dict())
        if not change(rng, state):
            return
        self.pair.refused(lambda opt: opt.load_state_dict(state, strict))
        COUNTS["bad state"] += 1
        if rng.random() < 0.3:
            self._step(rng, {})

    @rule(params=st.booleans(), extra=st.sampled_from([None, {"epoch": 3}, [1.5, "two"]]))
    def save(self, params: bool, extra: Any) -> None:
        paths = [self.folder / f"{len(self.files)}-{whose}" for whose in ("ours", "theirs")]
        _, _, failed = self.pair.both(
            lambda opt: opt.save(paths[opt is self.pair.theirs], params=params, extra=extra)
        )
        if not failed:
            self.files.append((paths[0], paths[1]))
        COUNTS[f"save{', refused' if failed else ''}"] += 1

    @precondition(lambda self: self.files)
    @rule(which=st.integers(0, 99), crosswise=st.booleans(), strict=st.booleans())
    def load(self, which: int, crosswise: bool, strict: bool) -> None:
        paths = self.files[which % len(self.files)]
        before = snapshot(self.pair.ours)
        results = [
            outcome(lambda o=opt, k=k: o.load(paths[k ^ crosswise], strict=strict))
            for k, opt in enumerate([self.pair.ours, self.pair.theirs])
        ]
        (got, error), (expected, refused) = results
        assert (type(error), got) == (type(refused), expected), results
        if error is not None:
            assert snapshot(self.pair.ours) == before, error
        COUNTS[f"load{', refused' if error else ''}"] += 1

    @rule(pickled=st.booleans())
    def go_on_with_a_copy(self, pickled: bool) -> None:
        failed = self.pair.copy(pickled)
        COUNTS[f"{'pickle' if pickled else 'deepcopy'}{', refused' if failed else ''}"] += 1

    # Parameters elsewhere ---------------------------------------------------------------------

    @rule(seed=SEEDS, ahead=st.booleans())
    def elsewhere(self, seed: int, ahead: bool) -> None:
        """Inside they are where they should be, nothing is allowed, and they come back."""
        pair = self.pair
        rng = np.random.default_rng(seed)
        ahead = ahead and pair.cls == "SGD"
        for k in range(len(pair.ours.param_groups) if ahead and rng.random() < 0.7 else 0):
            fits = {"nesterov": False, "dampening": 0, "momentum_init": None, "momentum": 0.75}
            for name, value in fits.items():
                pair.both(lambda opt, k=k, n=name, v=value: assign(opt, k, n, v))
        before = snapshot(pair.ours)
        blocks, _, failed = pair.both(lambda opt: opt.lookahead() if ahead else opt.swap_ema())
        name = "lookahead" if ahead else "swap_ema"
        COUNTS[f"{name}{', refused' if failed else ''}"] += 1
        if failed:
            return
        theirs = pair.theirs.lookahead() if ahead else pair.theirs.swap_ema()
        with blocks, theirs:
            pair.require_same()
            grads, other = pair.draw_gradients(rng)
            forbidden = [
                lambda opt: opt.step(*pair.argument_of(grads if opt is pair.ours else other)),
                lambda opt: opt.state_dict(),
                lambda opt: opt.load_state_dict({"state": {}, "param_groups": []}),
                lambda opt: copy.deepcopy(opt),
            ]
            _, _, failed = pair.both(forbidden[rng.integers(len(forbidden))])
            assert failed
            COUNTS["refused elsewhere"] += 1
        assert snapshot(pair.ours) == before

    # The machine's side -----------------------------------------------------------------------

    @rule(
        threads=st.integers(1, 4),
        chunk=st.sampled_from([1, 7, 64, 1000, 8192]),
        serial_below=st.sampled_from([0, 0, 100, 32768]),
    )
    def threads(self, threads: int, chunk: int, serial_below: int) -> None:
        fusedopt.set_num_threads(threads)
        _core.set_grid(chunk=chunk, serial_below=serial_below)
        COUNTS["threads and grid"] += 1
