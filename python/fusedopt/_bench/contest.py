"""Who is measured: something that takes optimizer steps, and says how long they took."""

from __future__ import annotations

import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

import fusedopt
from fusedopt import reference

from .workloads import Arrays, Rule, make_optimizer


class Contestant(ABC):
    """Parameters of its own, gradients, and steps that are timed.

    What a library needs besides the step itself, as wrapping arrays, is never timed.
    """

    def __init__(self, grads: Arrays) -> None:
        self._originals = grads

    @abstractmethod
    def bare_step(self) -> Callable[[], object]:
        """Return what takes a step with the present gradients, without a layer of ours between."""

    @abstractmethod
    def renew(self, grads: Arrays) -> None:
        """Take these arrays as gradients from the next step on."""

    @abstractmethod
    def params(self) -> Arrays:
        """Return the parameters as they are now."""

    def finish(self) -> None:
        """Wait for steps that are still under way."""
        return  # for most, a step is over when it returns

    def run(self, count: int) -> float:
        """Take steps in a row with the same gradient arrays; return the seconds of all."""
        step = self.bare_step()
        with _undisturbed():
            begin = time.perf_counter()
            for _ in range(count):
                step()
            self.finish()
            return time.perf_counter() - begin

    def run_fresh(self, count: int) -> float:
        """Take steps with new gradient arrays in each, as training has them."""
        seconds = 0.0
        with _undisturbed():
            for _ in range(count):
                self.renew([g.copy() for g in self._originals])
                step = self.bare_step()
                begin = time.perf_counter()
                step()
                self.finish()
                seconds += time.perf_counter() - begin
        return seconds - count * _clock_seconds()


@contextmanager
def _undisturbed() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def _clock_seconds() -> float:
    """Return what reading the clock twice adds to the time between."""
    times = []
    for _ in range(1000):
        begin = time.perf_counter()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


class WithOptimizer(Contestant):
    """One that has an optimizer object with ``step(grads)`` which updates arrays in place."""

    def __init__(self, optimizer: Any, params: Arrays, grads: Arrays) -> None:
        super().__init__(grads)
        self.optimizer = optimizer
        self.grads = grads
        self._params = params

    def renew(self, grads: Arrays) -> None:
        self.grads = grads

    def params(self) -> Arrays:
        return self._params

    def bare_step(self) -> Callable[[], object]:
        return partial(self.optimizer.step, self.grads)


def make_fusedopt(rule: str | Rule, params: Arrays, grads: Arrays) -> WithOptimizer:
    """Return fusedopt's optimizer."""
    return WithOptimizer(make_optimizer(fusedopt, rule, params), params, grads)


def make_reference(rule: str, params: Arrays, grads: Arrays) -> WithOptimizer:
    """Return the specification."""
    return WithOptimizer(make_optimizer(reference, rule, params), params, grads)


class Roofline(WithOptimizer):
    """Moves the memory that a step of this optimizer would, from the same arrays, and no more."""

    def __init__(self, of: WithOptimizer) -> None:
        super().__init__(of.optimizer, of.params(), of.grads)

    def bare_step(self) -> Callable[[], object]:
        return partial(self.optimizer._engine.traffic, self.grads)
