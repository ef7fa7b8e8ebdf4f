"""Steps in company: right after other libraries have computed, and beside busy processes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import fusedopt

from .contest import make_fusedopt
from .machine import cores
from .training import NETWORKS, Call, train
from .workloads import gradients, weights

#: The layers that are compared with one thread, and a peer.
SIDES = ("pool", "openmp", "auto", "torch fused")
WORKLOADS = ("3e4", "1e5", "3e5", "1e6", "1e7", "GPT-2")
#: How long a cell or a network may take, by whether the report is quick.
SECONDS = {True: 0.5, False: 8.0}
#: Between two sides, for threads of the last one to fall asleep.
_REST = 0.02
_BLOCK, _FEWEST = 0.05, 8  # seconds of steps in a row, and how many at least


@dataclass
class Cell:
    """Seconds of a step, in each round: the mean of a block of steps, and its median."""

    company: str
    workload: str
    means: dict[str, list[float]] = field(default_factory=dict)
    medians: dict[str, list[float]] = field(default_factory=dict)

    def add(self, side: str, times: list[float]) -> None:
        """Add a block."""
        self.means.setdefault(side, []).append(fmean(times))
        self.medians.setdefault(side, []).append(median(times))

    def beside_one_thread(self, side: str) -> tuple[float, float]:
        """Return the ratio to one thread's time in a median round, by means and by medians."""
        by_mean, by_median = (
            median(a / b for a, b in zip(times[side], times["serial"], strict=True))
            for times in (self.means, self.medians)
        )
        return by_mean, by_median


@contextmanager
def _alone() -> Iterator[Call]:
    yield lambda: None


@contextmanager
def _after_torch() -> Iterator[Call]:
    import torch

    torch.set_num_threads(fusedopt.get_num_threads())
    a, b = torch.randn(64, 512), torch.randn(512, 512)
    yield lambda: torch.mm(a, b)


@contextmanager
def _after_numpy() -> Iterator[Call]:
    a = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    yield lambda: a @ a


@contextmanager
def _beside_busy_processes() -> Iterator[Call]:
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(cores())]
    time.sleep(0.5)  # until they run
    try:
        yield lambda: None
    finally:
        for other in others:
            other.kill()
            other.wait()


COMPANIES = {
    "alone in a loop": _alone,
    "after torch": _after_torch,
    "after NumPy": _after_numpy,
    "beside busy processes": _beside_busy_processes,
}


def sides() -> list[str]:
    """Return the layers that this process can have, and the peer."""
    chosen = fusedopt.get_threading_layer()
    found = []
    for side in SIDES:
        try:
            if side != "torch fused":
                fusedopt.set_threading_layer(side)
        except RuntimeError:
            continue
        found.append(side)
    fusedopt.set_threading_layer(chosen)
    return found


def measure(company: str, workload: str, seconds: float) -> Cell:
    """Measure all sides in turn, in another order in each round.

    In a thread of its own: what the automatic layer learns there it hasn't learnt elsewhere.
    """
    cell = Cell(company, workload)
    chosen = fusedopt.get_threading_layer()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with COMPANIES[company]() as before:
                _run_rounds(cell, before, seconds)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    fusedopt.set_threading_layer(chosen)
    if errors:
        raise errors[0]
    return cell


def _run_rounds(cell: Cell, before: Call, seconds: float) -> None:
    params, grads = weights(cell.workload, "float32"), gradients(cell.workload, "float32")
    ours = make_fusedopt("Adam", params, grads).bare_step()
    steps = dict.fromkeys(("serial", *sides()), ours)
    steps["torch fused"] = _torch_step(cell.workload)
    end = time.perf_counter() + seconds
    order = list(steps)
    shuffle = random.Random(0).shuffle
    while time.perf_counter() < end or len(cell.means.get("serial", ())) < 5:
        shuffle(order)
        for side in order:
            if side != "torch fused":
                fusedopt.set_threading_layer(side)
            time.sleep(_REST)
            cell.add(side, _block(steps[side], before))


def _torch_step(workload: str) -> Call:
    from .peers import make_peer

    threads = fusedopt.get_num_threads()
    params, grads = weights(workload, "float32"), gradients(workload, "float32")
    return make_peer("torch fused", "Adam", params, grads, threads).bare_step()


def _block(step: Call, before: Call) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + _BLOCK
    while len(times) < _FEWEST or time.perf_counter() < end:
        before()
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    # The first of them found everybody asleep.
    return times[len(times) // 4 :]


def report(*, quick: bool, console: Console) -> None:
    """Measure all, and print it as it comes."""
    threads = fusedopt.get_num_threads()
    console.print(
        f"Adam on {threads} threads: what a step takes, in times of what it takes on one of them. "
        "The mean of all steps, and in brackets that of a typical one."
    )
    workloads = [w for w in WORKLOADS if not quick or w not in ("1e7", "GPT-2")]
    compared = sides()
    for company in COMPANIES:
        table = _table(company, "elements", "one thread", *compared)
        for workload in workloads:
            cell = measure(company, workload, SECONDS[quick])
            ratios = (cell.beside_one_thread(side) for side in compared)
            one_thread = f"{median(cell.medians['serial']) * 1e6:,.0f} µs"
            table.add_row(workload, one_thread, *(f"{a:.2f} ({b:.2f})" for a, b in ratios))
        console.print(table)
    table = _table("training", "parameters", "fusedopt", "torch fused", "torch takes")
    for parameters in NETWORKS:
        run = train(parameters, SECONDS[quick])
        ours, theirs = (f"{median(times) * 1e6:,.0f} µs" for times in (run.ours, run.theirs))
        table.add_row(f"{run.parameters:,}", ours, theirs, f"{run.ratio():.2f} times as long")
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="right")
    return table
