"""One trial: the tests in a process of its own, until one fails, or none comes to an end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # what every trial needs, before it branches off
import pytest
from build import ROOT

_KEPT = np, pytest
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=short"]
# To import one of these takes longer than all else that a trial does.
_NOT_IMPORTED = ("torch", "jax", "keras", "optax", "autograd", "thinc", "sklearn")


def function_of(test: str) -> str:
    """Return the name of a test without its parameters."""
    return test.partition("[")[0]


def turns_of(tests: Iterable[str]) -> dict[str, int]:
    """Return for each test how many of the same function are before it."""
    seen: Counter[str] = Counter()
    turns = {}
    for test in tests:
        turns[test] = seen[function_of(test)]
        seen[function_of(test)] += 1
    return turns


class _Progress:
    """Writes down which test runs, so that the one that is under way at the end is known.

    And has one of each function run before the others: what one of them doesn't find another with
    other parameters seldom does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        turns = turns_of(item.nodeid for item in items)
        items.sort(key=lambda item: turns[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self.path.write_text(nodeid)


@dataclass
class Outcome:
    """How a trial ended: killed, survived or hung, and at which test."""

    kind: str
    test: str
    seconds: float


class Trial:
    """Tests that run in another process, those of one stage after those of the one before."""

    def __init__(
        self, package: Path, stages: list[list[str]], number: int, scratch: Path, hang: float
    ) -> None:
        self.progress, self.log, self.hang = scratch / "test.txt", scratch / "log.txt", hang
        self.progress.write_text("")
        self._begin = self._moved = time.monotonic()
        self._last = ""
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            _run(package, stages, number, self.progress, self.log)

    def poll(self) -> Outcome | None:
        """Return how it ended, or None while it runs."""
        now = time.monotonic()
        test = self.progress.read_text()
        if test != self._last:
            self._last, self._moved = test, now
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if ended:
            kind = "survived" if status == 0 else "killed"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process, signal.SIGKILL)  # what a test has left behind
            return Outcome(kind, test, now - self._begin)
        if now - self._moved > self.hang:
            os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            return Outcome("hung", test, now - self._begin)
        return None


def end_with_parent() -> None:
    """Have this process killed when the one that made it ends, however it does: it may hang."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def prepare(package: Path, number: int, log: Path) -> None:
    """Make this process one in which the tests of a package can run."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {
        "FUSEDOPT_MUTANT": str(number),
        "PYTHONPATH": str(package),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they take longer than most tests
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
    sys.path[0] = str(package)
    sys.modules |= dict.fromkeys(_NOT_IMPORTED)  # type: ignore[arg-type]
    os.chdir(ROOT)


def _run(package: Path, stages: list[list[str]], number: int, progress: Path, log: Path) -> None:
    code = 70
    try:
        os.setsid()
        end_with_parent()
        prepare(package, number, log)
        for tests in stages:
            code = int(pytest.main([*OPTIONS, *tests], plugins=[_Progress(progress)]))
            if code != 0:
                break
    finally:
        sys.stdout.flush()
        os._exit(code)
