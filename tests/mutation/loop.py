"""Trials of many mutants of one library: tests are collected once, and each mutant has a fork.

Mostly, what a test needs takes longer than the test: Python, NumPy, pytest and the tests' modules.
So one process gets as far as the first test, and then branches off for every mutant, which the
library in that branch is told to be.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trial import OPTIONS, end_with_parent, function_of, prepare, turns_of


@dataclass
class _Branch:
    number: int
    process: int
    progress: Path
    began: float
    moved: float
    test: str = ""


class Loop:
    """In the place of pytest's own loop over the tests."""

    def __init__(
        self, numbers: list[int], library: Path, scratch: Path, jobs: int, hang: float
    ) -> None:
        self.waiting, self.library, self.scratch = list(reversed(numbers)), library, scratch
        self.jobs, self.hang = jobs, hang
        self.killers: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}  # that tests took, as far as known
        self.report = os.fdopen(os.dup(1), "w", buffering=1)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        running: dict[int, _Branch] = {}
        free = list(range(self.jobs))
        while self.waiting or running:
            while self.waiting and free:
                place = free.pop()
                progress = self.scratch / f"{place}.txt"
                running[place] = self._branch(session, self.waiting.pop(), progress)
            for place, branch in list(running.items()):
                if self._ended(branch):
                    del running[place]
                    free.append(place)
            time.sleep(0.005)
        return True

    def _branch(self, session: pytest.Session, number: int, progress: Path) -> _Branch:
        progress.write_text("")
        _times_beside(progress).write_text("")
        now = time.monotonic()
        process = os.fork()
        if process == 0:
            code = 70
            try:
                os.setsid()
                end_with_parent()
                os.environ["FUSEDOPT_MUTANT"] = str(number)
                ctypes.CDLL(str(self.library)).fusedopt_choose(number)
                code = self._run(session, progress)
            finally:
                os._exit(code)
        return _Branch(number, process, progress, now, now)

    def _run(self, session: pytest.Session, progress: Path) -> int:
        """Run the tests, those first that found others; return 1 at a failure.

        Then one of each function, and the short ones among them first.
        """
        rank = {name: k for k, (name, _) in enumerate(self.killers.most_common(16))}
        turns = turns_of(item.nodeid for item in session.items)

        def order(item: pytest.Item) -> tuple[int, int, int, float]:
            test = item.nodeid
            by_function = rank.get(function_of(test), 99)
            return rank.get(test, 99), turns[test], by_function, self.seconds.get(test, 0.0)

        items = sorted(session.items, key=order)
        with open(_times_beside(progress), "w", buffering=1) as times:
            for item, following in zip(items, [*items[1:], None], strict=True):
                progress.write_text(item.nodeid)
                began = time.monotonic()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.testsfailed:
                    return 1
                times.write(json.dumps([item.nodeid, time.monotonic() - began]) + "\n")
        return 0

    def _ended(self, branch: _Branch) -> bool:
        now = time.monotonic()
        test = branch.progress.read_text()
        if test != branch.test:
            branch.test, branch.moved = test, now
        ended, status = os.waitpid(branch.process, os.WNOHANG)
        kind = "survived" if status == 0 else "killed"
        if not ended:
            if now - branch.moved < self.hang:
                return False
            kind = "hung"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(branch.process, signal.SIGKILL)  # or what a test has left behind
        if not ended:
            os.waitpid(branch.process, 0)
        if kind != "survived":
            self.killers.update({branch.test, function_of(branch.test)})
        for line in _times_beside(branch.progress).read_text().splitlines():
            test, seconds = json.loads(line)
            self.seconds[test] = min(seconds, self.seconds.get(test, seconds))
        self.report.write(json.dumps([branch.number, kind, branch.test, now - branch.began]) + "\n")
        return True


def _times_beside(progress: Path) -> Path:
    return progress.with_suffix(".times")


def outcomes(
    package: Path, library: str, tests: list[str], numbers: list[int], scratch: Path, **how: Any
) -> Iterator[tuple[int, str, str, float]]:
    """Yield for each mutant its number, how it ended, at which test, and after how long."""
    scratch.mkdir(exist_ok=True)
    reading, writing = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        try:
            end_with_parent()
            os.close(reading)
            os.dup2(writing, 1)
            loop = Loop(numbers, package / "fusedopt" / library, scratch, **how)
            prepare(package, 0, scratch / "log.txt")
            pytest.main([*OPTIONS, *tests], plugins=[loop])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        for line in lines:
            number, kind, test, seconds = json.loads(line)
            yield number, kind, test, seconds
    os.waitpid(process, 0)
