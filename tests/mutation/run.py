"""Mutation testing: does a test fail when a line is wrong?

    python tests/mutation/run.py            every mutant; takes hours
    python tests/mutation/run.py --quick    a few of every kind, for CI: minutes
    python tests/mutation/run.py --only stepper.cpp --resume

Each mutant is one small change: another operator or number, a check or a call that is gone, a lock
that isn't taken. The mutants of C++ are all in one library, which is told at its start which of
them it is (see instrument.py); what can't be there gets a build of its own. Then the tests that
matter run (see targets.py), in a process of their own, until one fails.

Every mutant has to die, or stand in equivalent.toml with an argument why it changes nothing that is
promised. One that survives without an argument is an error, and so is an argument for one that dies
or isn't there any more.

Needs cmake, ninja, pybind11, pytest and what the tests need; not that fusedopt is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import by_hand
import cpp_operators
import lists
import python_operators
from build import LIBRARY, ROOT, Build, BuildError, package
from loop import outcomes
from mutants import Mutant
from targets import AT_START, LEFT_OUT, files, is_performance, tests_of
from trial import Outcome, Trial


def all_mutants() -> list[Mutant]:
    """Return every mutant, file by file."""
    found: list[Mutant] = []
    for file in files():
        source = (ROOT / file).read_text()
        kind = python_operators if file.endswith(".py") else cpp_operators
        found += [m for m in kind.mutants_of(file, source) if not is_performance(file, m.line)]
        found += by_hand.mutants_of(file, source)
    return found


def _all_tests(*files: str) -> list[str]:
    tests = dict.fromkeys(test for file in files for test in tests_of(file))
    return [*tests, *LEFT_OUT]


@dataclass
class Run:
    """All that a run knows: what it has to do, and what it has found out."""

    options: argparse.Namespace
    folder: Path
    results: dict[str, dict[str, object]]
    killers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def remember(self, mutant: Mutant, outcome: Outcome) -> None:
        self.results[mutant.name] = {
            "outcome": outcome.kind,
            "test": outcome.test,
            "seconds": round(outcome.seconds, 1),
        }
        if outcome.kind in ("killed", "hung") and outcome.test:
            self.killers[mutant.file][outcome.test.partition("[")[0]] += 1
        if self.options.results:
            beside = self.options.results.with_suffix(".new")
            beside.write_text(json.dumps(self.results, indent=1, ensure_ascii=False))
            os.replace(beside, self.options.results)
        left = f"{len(self.results)}: {outcome.kind:9} {outcome.seconds:5.1f} s  {mutant.name}"
        print(left + (f"  ({outcome.test})" if outcome.test else ""), flush=True)

    def stages(self, mutant: Mutant) -> list[list[str]]:
        """Return the tests for a mutant: first those that found others in its file."""
        before = str(self.results.get(mutant.name, {}).get("test", ""))
        killers = [before, *(test for test, _ in self.killers[mutant.file].most_common(5))]
        first = [t for t in dict.fromkeys(killers) if t and (ROOT / t.partition("::")[0]).exists()]
        return [*([first] if first else []), _all_tests(mutant.file)]

    def try_all(self, jobs: list[tuple[Mutant, int, Path]]) -> None:
        """Run the trials of mutants, each with its number and the package that it is in."""
        waiting, running = list(reversed(jobs)), {}
        free = [self.folder / f"scratch{k}" for k in range(self.options.jobs)]
        for scratch in free:
            scratch.mkdir(exist_ok=True)
        while waiting or running:
            while waiting and free:
                mutant, number, where = waiting.pop()
                scratch = free.pop()
                if mutant.file.endswith(".py"):
                    where = self._python_package(mutant, where, scratch)
                trial = Trial(where, self.stages(mutant), number, scratch, self.options.hang)
                running[scratch] = mutant, trial
            for scratch, (mutant, trial) in list(running.items()):
                if outcome := trial.poll():
                    self.remember(mutant, outcome)
                    del running[scratch]
                    free.append(scratch)
            time.sleep(0.02)

    def try_branches(self, mutants: dict[int, Mutant], where: Path) -> None:
        """Run the trials of mutants that a loaded library can be told to be, file by file."""
        for file in dict.fromkeys(m.file for m in mutants.values()):
            numbers = [n for n, m in mutants.items() if m.file == file]
            tests = _all_tests(file)
            how = {"jobs": self.options.jobs, "hang": self.options.hang}
            scratch = self.folder / "branches"
            for number, *outcome in outcomes(where, LIBRARY, tests, numbers, scratch, **how):
                self.remember(mutants[number], Outcome(*outcome))

    def _python_package(self, mutant: Mutant, original: Path, scratch: Path) -> Path:
        where = scratch / "package"
        if where.exists():
            shutil.rmtree(where)
        shutil.copytree(original, where)
        changed = where / Path(mutant.file).relative_to("python")
        changed.write_text(mutant.applied_to(changed.read_text()))
        return where


def run(
    options: argparse.Namespace, mutants: list[Mutant], chosen: list[Mutant], folder: Path
) -> Run:
    """Build the mutants and run the trials of those that are chosen."""
    results = {}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text())
    this = Run(options, folder, results if options.resume else {})
    for name, result in results.items():
        if result["outcome"] in ("killed", "hung") and result["test"]:
            this.killers[name.partition(" | ")[0]][str(result["test"]).partition("[")[0]] += 1
    done = {name for name, r in this.results.items() if r["outcome"] in ("killed", "hung")}
    todo = [m for m in chosen if m.name not in done]
    # All are built, whichever are tried: the next run then finds the same library.
    every = {n: m for n, m in enumerate(mutants, 1) if not m.file.endswith(".py")}
    begin = time.monotonic()
    build = Build(folder / "all", options.build_jobs, {m.file for m in every.values()})
    apart = build.with_all(every)
    wanted = {m.name for m in todo}
    native = {n: m for n, m in every.items() if m.name in wanted}
    apart &= native.keys()
    os.environ["FUSEDOPT_NATIVE"] = str(build.programs())
    original = package(folder / "package", build.library())
    print(
        f"{len(todo)} mutants, {len(apart)} of which need a build of their own; "
        f"built in {time.monotonic() - begin:.0f} s",
        flush=True,
    )
    _require_passing(this, todo, original)
    this.try_all([(m, 0, original) for m in todo if m.file.endswith(".py")])
    here = {n: m for n, m in native.items() if n not in apart}
    this.try_all([(m, n, original) for n, m in here.items() if m.name.startswith(AT_START)])
    branches = {n: m for n, m in here.items() if not m.name.startswith(AT_START)}
    this.try_branches(branches, original)
    if apart:
        _try_apart(this, [native[n] for n in sorted(apart)])
    return this


def _require_passing(this: Run, todo: list[Mutant], original: Path) -> None:
    """Exit unless the tests pass without a mutant."""
    if not todo or this.options.no_baseline or this.options.quick:
        return
    scratch = this.folder / "baseline"
    scratch.mkdir(exist_ok=True)
    trial = Trial(original, [_all_tests(*(m.file for m in todo))], 0, scratch, 600)
    while not (outcome := trial.poll()):
        time.sleep(0.1)
    if outcome.kind != "survived":
        sys.exit(f"{outcome.test} fails without a mutant:\n{(scratch / 'log.txt').read_text()}")
    print(f"without a mutant: all tests pass, in {outcome.seconds:.0f} s", flush=True)


def _try_apart(this: Run, mutants: list[Mutant]) -> None:
    """Build and try those that need a build of their own, one by one."""
    build = Build(this.folder / "one", this.options.build_jobs)
    build.configure()
    if errors := build.compile():
        raise BuildError(errors)
    for mutant in mutants:
        source = (ROOT / mutant.file).read_text()
        build.put(mutant.file, mutant.applied_to(source))
        if build.compile():
            this.remember(mutant, Outcome("no build", "", 0))
        else:
            this.try_all([(mutant, 0, package(this.folder / "one-package", build.library()))])
        build.put(mutant.file, source)


def main() -> int:
    """Run, and say what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="PATTERN", help="mutants with this in their names")
    parser.add_argument("--quick", action="store_true", help="those of quick.txt, known to die")
    parser.add_argument(
        "--part", default="1/1", metavar="K/N", help="the Kth of N parts, each of all kinds"
    )
    parser.add_argument("--list", action="store_true", help="only print their names")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="trials at a time")
    parser.add_argument("--build-jobs", type=int, default=2, metavar="N")
    parser.add_argument("--hang", type=float, default=60, metavar="SECONDS", help="for one test")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep them, as JSON")
    parser.add_argument("--resume", action="store_true", help="leave out those that died before")
    parser.add_argument("--no-baseline", action="store_true", help="trust that the tests pass")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep what is built here")
    options = parser.parse_args()
    # What is installed beside this Python, as cmake and ninja may be.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mutants = all_mutants()
    chosen = lists.chosen(mutants, options.only, options.part, is_quick=options.quick)
    if options.list:
        print(*(m.name for m in chosen), sep="\n")
        print(f"{len(chosen)} mutants", file=sys.stderr)
        return 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        this = run(options, mutants, chosen, folder)
    return lists.report(mutants, chosen, this.results, time.monotonic() - begin)


if __name__ == "__main__":
    sys.exit(main())
