"""Every rule, option and pass over arrays that end or begin at a page that nobody may touch."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fusedopt
from cases import CASES, DTYPES, RULE_CASES, Case, copies, random_arrays
from fusedopt import _core
from fusedopt.functional import global_norm
from guarded_memory import Store
from native_calls import apply_rule

# What the code compares sizes with, in bytes of one array: blocks that are asked for ahead, their
# distance, arrays that are worth it, and where state is laid out by pages.
BYTES = [256, 1024, 1024 + 256, 2048, 16384, 16384 + 256, 16384 + 1024]
# And in elements: what is clipped at once, measured or summed at once, a chunk, and serial work.
ELEMENTS = [2048, 4096, 8192, 32768]
AROUND = [-1, 0, 1]

SIDES = ["end", "begin"]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"max_norm": 1.0},
    {"clip_value": 0.5},
    {"stats": True},
    {"zero_grads": True},
    {"on_nonfinite": "skip"},
    {"loss_scale": 8.0, "max_norm": math.inf, "clip_value": 0.3, "zero_grads": True},
    {"loss_scale": 8.0, "max_norm": 2.0, "clip_value": 0.3, "zero_grads": True, "stats": True},
]

AHEAD = [
    case
    for case in CASES
    if case.optimizer == "SGD" and case.options.get("velocity") and not case.options.get("nesterov")
]

#: How many arrays were guarded, calls made, and of which kind.
COUNTS: Counter[str] = Counter()


def sizes(dtype: Any, long: bool) -> list[int]:
    """Return 0 to 66 elements, and those around everything that the code compares with."""
    item = np.dtype(dtype).itemsize
    found = {*range(67), *(n // item + k for n in BYTES for k in AROUND)}
    found |= {n + k for n in ELEMENTS for k in AROUND}
    if long:
        found |= {n // item + k for n in [*BYTES, 16384 + 512] for k in range(-17, 18)}
    return sorted(found)


class Calls:
    """Calls over guarded arrays, which end the process where one leaves its own."""

    def __init__(self, long: bool) -> None:
        self.long = long
        self.store = Store()
        self.random = random.Random(0)

    def sides(self, streams: int, both: bool) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield where each stream lies, and how many elements from its guard.

        At the end, or at both, all together; then so that they aren't aligned to each other.
        """
        every = list(itertools.product(SIDES, repeat=streams))
        if self.long:
            for sides in every:
                yield sides, 0
                yield sides, self.random.randint(1, 15)
            return
        yield ("end",) * streams, 0
        if both:
            yield ("begin",) * streams, 0
        yield self.random.choice(every), self.random.randint(0, 15)

    def dtypes(self, case: Case) -> list[Any]:
        """Return every dtype for every rule; in the quick run one of them for a rule's options."""
        return DTYPES if self.long or case in RULE_CASES else [self.random.choice(DTYPES)]

    def finish(self, kind: str) -> None:
        COUNTS["arrays guarded"] += self.store.take_back()
        COUNTS[kind] += 1

    # Functions: every stream is the caller's --------------------------------------------------

    def rules(self) -> None:
        for case in CASES:
            for dtype in self.dtypes(case):
                self.rule(case, dtype)

    def rule(self, case: Case, dtype: Any) -> None:
        """Two steps, the second one over what the first one left."""
        most = 40_000 if self.long or case in RULE_CASES else 9000
        shapes = tuple(n for n in sizes(dtype, self.long) if n <= most)
        given = random_arrays(0, dtype, shapes)
        steps = [random_arrays(1 + step, dtype, shapes) for step in range(2)]
        opt = case.make_reference(copies(given))
        rule, hyper = type(opt)._rule(opt.param_groups[0].hyperparameters())
        names = _core.rules()[rule][1]
        initial = {"square_avg": case.options.get("initial_square_avg", 0)}
        before = {n: [np.full_like(p, initial.get(n, 0)) for p in given] for n in names}
        params = given
        for t, grads in enumerate(steps, start=1):
            opt.step(grads)
            after = copies(opt.param_groups[0]["params"])
            expected = {n: [opt.state[i][n].copy() for i in range(len(given))] for n in names}

            def call(arrays: list[list[Any]], t: int = t) -> None:
                named = ["params", "grads", *(f"{n}s" for n in names)]
                apply_rule(rule, hyper, t, dict(zip(named, arrays, strict=True)))

            self.guarded(
                f"{case}",
                [params, grads, *before.values()],
                [after, grads, *expected.values()],
                call,
                "calls of a rule",
                case in RULE_CASES,
            )
            params, before = after, expected

    def guarded(
        self,
        label: str,
        before: list[list[Any]],
        after: list[list[Any]],
        call: Callable[[list[list[Any]]], None],
        kind: str,
        both: bool = True,
    ) -> None:
        """Call it with arrays at every side; after it they hold what is expected, by ==."""
        for sides, gap in self.sides(len(before), both):
            arrays = [
                self.store.copies(stream, side, gap)
                for stream, side in zip(before, sides, strict=True)
            ]
            call(arrays)
            for stream, expected in zip(arrays, after, strict=True):
                for a, b in zip(stream, expected, strict=True):
                    assert np.array_equal(a, b), (label, sides, gap, a.shape)
            self.finish(kind)

    def passes(self) -> None:
        """What is no step of an optimizer: averages, exchange, lookahead, norms."""
        for dtype in DTYPES:
            p, q, r = (random_arrays(k, dtype, sizes(dtype, self.long)) for k in range(3))
            mu = dtype(0.75)
            ahead = [a + mu * b for a, b in zip(p, q, strict=True)]
            passes: list[tuple[str, dict[str, float], list[Any], list[Any]]] = [
                (
                    "ema",
                    {"decay": 0.25},
                    [p, q],
                    [p, [b + mu * (a - b) for a, b in zip(p, q, strict=True)]],
                ),
                ("exchange", {}, [p, q], [q, p]),
                ("lookahead", {"momentum": 0.75, "back": 0}, [p, q, r], [ahead, q, p]),
                ("lookahead", {"momentum": 0.75, "back": 1}, [p, q, r], [r, q, r]),
            ]
            for name, hyper, before, after in passes:
                arguments = ["params", *(f"{n}s" for n in _core.rules()[name][1])]

                def call(
                    arrays: list[Any],
                    name: str = name,
                    hyper: Any = hyper,
                    arguments: Any = arguments,
                ) -> None:
                    apply_rule(name, hyper, 1, dict(zip(arguments, arrays, strict=True)))

                self.guarded(name, before, after, call, f"calls of {name}")
            one_by_one = [global_norm(a) for a in p]

            def norms(arrays: list[Any], norms: Any = one_by_one) -> None:
                assert [global_norm(a) for a in arrays[0]] == norms

            self.guarded("global_norm", [p], [p], norms, "calls of global_norm")

    # Optimizers: parameters and gradients one by one, state in one block -----------------------

    def steps(self) -> None:
        for k, (case, chosen) in enumerate(itertools.product(CASES, OPTIONS)):
            if self.long or not chosen or k % 11 == 0:
                for dtype in self.dtypes(case):
                    self.steps_of(case, dtype, chosen)

    def steps_of(self, case: Case, dtype: Any, chosen: dict[str, Any]) -> None:
        """Three steps of an optimizer with an average: arrays apart, or side by side."""
        some = random.Random(self.random.randrange(64 if self.long else 4))
        shapes = tuple(some.sample([n for n in sizes(dtype, self.long) if n <= 9000], 40))
        given = random_arrays(0, dtype, shapes)
        theirs = case.make_reference(copies(given), ema_decay=0.75)
        flat = self.random.random() < 0.4
        side, other, third = (self.random.choice(SIDES) for _ in range(3))
        lay_out = self.store.side_by_side if flat else self.store.copies
        params = lay_out(given, side)
        ours = self.make(case, params, third, ema_decay=0.75)
        fusedopt.set_num_threads(self.random.choice([1, 3]))
        _core.set_grid(
            chunk=self.random.choice([8192, 8192, 100]),
            serial_below=self.random.choice([0, 32768]),
        )
        for step in range(3):
            expected = random_arrays(1 + step, dtype, shapes)
            grads = lay_out(expected, other)
            if step == 1:
                expected[1] = grads[1] = None
            results = ours.step(grads, **chosen), theirs.step(expected, **chosen)
            assert results[0] == results[1], (case, chosen)
            require_equal(params, theirs.param_groups[0]["params"])
            require_equal(grads, expected)
        with ours.swap_ema(), theirs.swap_ema():
            require_equal(params, theirs.param_groups[0]["params"])
        if case in AHEAD:
            with ours.lookahead(), theirs.lookahead():
                require_equal(params, theirs.param_groups[0]["params"])
        require_equal(params, theirs.param_groups[0]["params"])
        for i in range(len(given)):
            mine, reference = dict(ours.state[i]), dict(theirs.state[i])
            assert set(mine) == set(reference)
            for name in mine:
                assert np.array_equal(mine[name], reference[name]), (case, name)
        self.finish("optimizers")
        COUNTS["steps of an optimizer"] += 3

    def make(self, case: Case, params: list[Any], side: str, **options: Any) -> Any:
        """Return an optimizer whose state lies in guarded blocks."""

        def engine(self_: Any) -> Any:
            return _core.Stepper(lambda size: self.store.zeros(size, side))

        cls = getattr(fusedopt, case.optimizer)
        guarded = type(cls.__name__, (cls,), {"_make_engine": engine})
        return guarded(params, **case.options, **options)


def require_equal(actual: list[Any], expected: list[Any]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert (a is None and b is None) or np.array_equal(a, b), a.shape


def run(long: bool) -> None:
    """Do all of it, and print how much that was."""
    calls = Calls(long)
    for threads in (1, 3):
        fusedopt.set_num_threads(threads)
        calls.passes()
    calls.rules()
    calls.steps()
    for what, count in sorted(COUNTS.items()):
        print(f"{count:,} {what}")
