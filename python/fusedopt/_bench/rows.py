"""The rows of the report: what is measured, and what it has to reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from . import whole_step
from .contest import Roofline, WithOptimizer, make_fusedopt
from .machine import available_memory, last_level_cache
from .paired import Paired, measure_pair
from .peers import PEERS, make_peer, peer_module
from .workloads import FORMS, RULES, Arrays, Rule, elements_of, gradients, streams_of, weights


@dataclass(frozen=True)
class Goal:
    """A bound for a figure."""

    bound: float
    at_most: bool = False

    def is_met_by(self, figure: float) -> bool:
        """Return whether the figure, as it is shown, keeps the bound."""
        return figure <= self.bound if self.at_most else figure >= self.bound


@dataclass(frozen=True)
class Row:
    """One measurement: `measure` takes the seconds it may last."""

    section: str
    rule: str
    dtype: str
    workload: str
    rival: str
    threads: int
    measure: Callable[[float], Paired]
    goal: Goal | None = None
    fresh: bool = False
    in_time: bool = False  # what counts is our time, not the ratio

    @property
    def parameters(self) -> str:
        """The workload, as people read it."""
        return self.workload.replace("x", " × ")

    def figure(self, result: Paired) -> float:
        """Return what the goal is about."""
        return result.ours if self.in_time else result.ratio


@dataclass(frozen=True)
class Scope:
    """How much to measure."""

    threads: tuple[int, ...]
    quick: bool


#: Adam against torch's fused one, by elements: at least so many times as fast.
SINGLE = {"16": 60.0, "1e3": 30.0, "1e4": 8.5, "1e5": 2.4, "1e6": 1.4, "6.4e7": 0.98}

#: (rule, workload, peer): at least so many times as fast, or nothing in particular.
LISTS: dict[tuple[str, str, str], float | None] = {
    ("Adam", "1000x16", "torch fused"): 150,
    ("Adam", "1000x256", "torch fused"): 25,
    ("Adam", "MLP", "torch fused"): 8,
    ("Adam", "MLP", "naive NumPy"): 7,
    ("Adam", "MLP", "in-place NumPy"): None,
    ("Adam", "MLP", "optax"): None,
    ("Adam", "MLP", "thinc"): None,
    ("Adam", "MLP", "scikit-learn"): None,
    ("Adam", "MLP", "autograd"): None,
    ("Adam", "MLP", "torch.compile"): None,
    ("momentum", "ResNet-50", "torch fused"): None,
    ("momentum", "ResNet-50", "torch foreach"): None,
    ("momentum", "ResNet-50", "scikit-learn"): None,
    ("Adam", "GPT-2", "torch fused"): 1,
    ("Adam", "GPT-2", "torch foreach"): None,
    ("Adam", "GPT-2", "torch default"): None,
    ("Adam", "GPT-2", "torch.compile"): None,
    ("Adam", "GPT-2", "optax"): 1.4,
    ("Adam", "GPT-2", "DeepSpeed"): 1.4,
    ("Adam", "GPT-2", "thinc"): 8,
    ("Adam", "GPT-2", "scikit-learn"): 8,
    ("Adam", "GPT-2", "naive NumPy"): 8,
    ("Adam", "GPT-2", "in-place NumPy"): None,
    ("AMSGrad", "GPT-2", "torch fused"): None,
    ("RMSprop", "GPT-2", "torch foreach"): 4,
    ("RMSprop", "GPT-2", "torch default"): 3,
    ("RMSprop", "GPT-2", "torch.compile"): 1,
}

#: torch's own tensors, Adam in fusedopt.torch, against torch's default, foreach and fused Adam.
FRONT: dict[str, dict[str, float]] = {
    "two layers": {"torch default": 8, "torch foreach": 8, "torch fused": 4},
    "policy": {"torch default": 14, "torch foreach": 14, "torch fused": 5},
    "GPT-2": {"torch default": 4, "torch foreach": 3, "torch fused": 1.2},
    "1000x16": {"torch default": 60, "torch foreach": 15, "torch fused": 20},
}

#: With more elements than this, the gradients of one step are out of the caches before the next.
FRESH_BELOW = 1_000_000
QUICK_BELOW = 2_000_000


def all_rows(scope: Scope) -> Iterator[Row]:
    """Yield the rows in the order of the report."""
    for threads in scope.threads:
        for elements, bound in SINGLE.items():
            yield from _against_peer(scope, "Adam", elements, "torch fused", threads, bound)
    # Small ones first, on all numbers of threads: what large ones do to the heap slows them down.
    for (rule, workload, peer), least in LISTS.items():
        for threads in scope.threads:
            yield from _against_peer(scope, rule, workload, peer, threads, least)
    yield from _front(scope)
    yield from _overhead()
    yield from _values()
    for threads in scope.threads:
        yield from _whole_steps(scope, threads)
    for threads in scope.threads:
        yield from _forms(scope, threads)
    for threads in scope.threads:
        yield from _rooflines(scope, threads)


def _against_peer(
    scope: Scope, rule: str, workload: str, peer: str, threads: int, bound: float | None
) -> Iterator[Row]:
    elements = elements_of(workload)
    if scope.quick and (elements > QUICK_BELOW or peer == "torch.compile"):
        return
    # One that takes all cores is compared only where fusedopt has them, too.
    if PEERS[peer].threads == "all" and threads != max(scope.threads):
        return
    section = "one array" if workload in SINGLE else "lists of arrays"
    goal = None if bound is None else Goal(bound)
    for fresh in (False, True) if elements < FRESH_BELOW else (False,):
        measure = partial(_measure_peer, rule, workload, peer, threads, fresh)
        yield Row(section, rule, "float32", workload, peer, threads, measure, goal, fresh)


def _measure_peer(
    rule: str, workload: str, peer: str, threads: int, fresh: bool, seconds: float
) -> Paired:
    params, grads = weights(workload, "float32"), gradients(workload, "float32")
    theirs = make_peer(peer, rule, params, grads, threads)
    ours = make_fusedopt(rule, params, grads)
    return measure_pair(ours, theirs, seconds=seconds, fresh=fresh, threads=threads)


def _front(scope: Scope) -> Iterator[Row]:
    """Yield fusedopt.torch against the classes that it takes the place of."""
    for workload, rivals in FRONT.items():
        large = elements_of(workload) > QUICK_BELOW
        if scope.quick and large:
            continue
        for threads, (rival, least) in product(scope.threads, rivals.items()):
            fresh = not large
            measure = partial(_measure_front, rival, workload, threads, fresh)
            section, goal = "torch's tensors", Goal(least)
            yield Row(
                section, "Adam", "float32", workload, rival, threads, measure, goal, fresh=fresh
            )


def _measure_front(rival: str, workload: str, threads: int, fresh: bool, seconds: float) -> Paired:
    params, grads = weights(workload, "float32"), gradients(workload, "float32")
    theirs = make_peer(rival, "Adam", params, grads, threads)
    ours = peer_module(rival).make_front("Adam", params, grads)
    return measure_pair(ours, theirs, seconds=seconds, fresh=fresh, threads=threads)


def _adam(workload: str) -> WithOptimizer:
    return make_fusedopt("Adam", weights(workload, "float32"), gradients(workload, "float32"))


def _overhead() -> Iterator[Row]:
    """Yield what small parameters cost: one alone, and each one more."""
    bounds = {"16": 0.5e-6, "1000x16": 15e-9}
    for workload, bound in bounds.items():
        rival = "" if workload == "16" else "each more"
        goal = Goal(bound, at_most=True)
        measure = partial(_measure_overhead, workload)
        section = "small arrays, in time"
        yield Row(section, "Adam", "float32", workload, rival, 1, measure, goal, in_time=True)


def _measure_overhead(workload: str, seconds: float) -> Paired:
    many, one = _adam("1000x16"), _adam("16")
    pair = measure_pair(many, one, seconds=seconds)
    if workload == "16":
        return replace(pair, ours=pair.theirs)
    return replace(pair, ours=(pair.ours - pair.theirs) / (len(many.grads) - 1))


def _values() -> Iterator[Row]:
    """Yield what values cost: none may be slower than others."""
    makers = {"subnormal state": _subnormal, "after 2,000 zero gradients": _faded}
    for name, maker in makers.items():
        measure = partial(_measure_values, maker)
        goal = Goal(1.05, at_most=True)
        yield Row("values", "Adam", "float32", "1e5", name, 1, measure, goal)


def _measure_values(maker: Callable[[str], WithOptimizer], seconds: float) -> Paired:
    return measure_pair(_adam("1e5"), maker("1e5"), seconds=seconds)


def _subnormal(workload: str) -> WithOptimizer:
    adam = _adam(workload)
    adam.run(1)
    tiny = np.float32(1e-41)
    for state in adam.optimizer.state.values():
        state["exp_avg"][...] = state["exp_avg_sq"][...] = tiny
    _fill(adam.grads, tiny)
    return adam


def _fill(grads: Arrays, value: np.float32) -> None:
    """In place: where arrays lie in memory changes times, too."""
    for g in grads:
        g[...] = value


def _faded(workload: str) -> WithOptimizer:
    adam = _adam(workload)
    adam.run(1)
    _fill(adam.grads, np.float32(0))
    adam.run(2000)
    return adam


def _forms(scope: Scope, threads: int) -> Iterator[Row]:
    """Yield each form of a rule against the default one; beyond the caches none may cost more."""
    workload = "1e5" if scope.quick else "6.4e7"
    goal = None if scope.quick else Goal(1.03, at_most=True)
    for form, (rule, default) in FORMS.items():
        measure = partial(_measure_form, rule, default, workload, threads)
        yield Row("forms", form, "float32", workload, "default form", threads, measure, goal)


def _measure_form(rule: Rule, default: Rule, workload: str, threads: int, seconds: float) -> Paired:
    """Return the default form as ours, and the other as theirs; over the same arrays."""
    params, grads = weights(workload, "float32"), gradients(workload, "float32")
    sides = make_fusedopt(default, params, grads), make_fusedopt(rule, params, grads)
    return measure_pair(*sides, seconds=seconds, threads=threads)


#: The whole step, fused: at least so many times as fast.
WHOLE_STEP = {"torch": 1.6, "separate passes": 1.3}


def _whole_steps(scope: Scope, threads: int) -> Iterator[Row]:
    """Yield a whole training step's update against the same in passes."""
    workload = "MLP" if scope.quick else "GPT-2"
    for rival, bound in WHOLE_STEP.items():
        goal = None if scope.quick else Goal(bound)
        measure = partial(_measure_whole_step, rival, workload, threads)
        yield Row("whole step", whole_step.RULE, "float32", workload, rival, threads, measure, goal)


def _measure_whole_step(rival: str, workload: str, threads: int, seconds: float) -> Paired:
    params, grads = weights(workload, "float32"), gradients(workload, "float32")
    theirs = whole_step.make(rival, [p.copy() for p in params], grads, threads)
    ours = whole_step.make("fused", params, grads, threads)
    # Steps zero their gradients: each gets new ones.
    return measure_pair(ours, theirs, seconds=seconds, fresh=True, threads=threads)


def _rooflines(scope: Scope, threads: int) -> Iterator[Row]:
    """Yield each rule against the movement of its memory alone, from small to beyond the caches."""
    for rule, dtype in product(RULES, ("float32", "float64")):
        largest = 10**6 if scope.quick else _beyond_caches(rule, dtype)
        for elements in [n for n in (10**3, 10**4, 10**5, 10**6, 10**7) if n < largest] + [largest]:
            goal = None if scope.quick or elements != largest else Goal(1.03, at_most=True)
            workload = f"{elements}"
            measure = partial(_measure_roofline, rule, dtype, workload, threads)
            yield Row("traffic roofline", rule, dtype, workload, "roofline", threads, measure, goal)


def _measure_roofline(rule: str, dtype: str, workload: str, threads: int, seconds: float) -> Paired:
    """Return what moving memory alone takes as ours, and the step as theirs."""
    ours = make_fusedopt(rule, weights(workload, dtype), gradients(workload, dtype))
    ours.run(1)
    return measure_pair(Roofline(ours), ours, seconds=seconds, threads=threads)


def _beyond_caches(rule: str, dtype: str) -> int:
    """Return how many elements make streams of four times the last cache, if memory has room."""
    per_element = streams_of(rule) * np.dtype(dtype).itemsize
    wanted = max(64_000_000, -(-4 * last_level_cache() // per_element))
    return int(min(wanted, available_memory() // (2 * per_element)))
