"""Everything at once, for minutes: nothing may be wrong, and nothing may grow.

    python tests/soak.py --minutes 10

Threads live lives (`soak_lives.py`): optimizers of every class with options, schedules, groups,
files, copies, averages and errors, each compared with the reference by ==. Beside them two
optimizers are stepped, saved, changed and read by several threads at a time, children are forked
that step and exit, the number of threads changes, and the garbage collector runs. Every few seconds
all of them rest, and what the process holds is counted: memory (resident and virtual), Python's
blocks, file descriptors, threads and files. In the end it must be what it was after the first
fifth of the time, which is to warm up.
"""

import argparse
import faulthandler
import gc
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import fusedopt
from fusedopt import schedules
from soak_lives import Life

# How much more it may be at the end, as a part of what it was and besides. What is resident still
# moves after a minute, by as much as 20 MiB up and down, with what the allocators give back.
MARGINS = {
    "resident MiB": (0.03, 20),
    "virtual MiB": (0.01, 16),
    "blocks": (0.005, 600),
    "descriptors": (0, 0),
    "threads": (0, 0),
    "files": (0, 0),
}
Sample = dict[str, float]


class Gate:
    """Where workers rest between two rounds while it is closed."""

    def __init__(self, workers: int) -> None:
        self.workers, self.resting, self.open, self.over = workers, 0, True, False
        self.errors: list[str] = []
        self.changed = threading.Condition()

    def go_on(self) -> bool:
        with self.changed:
            self.resting += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.open or self.errors)
            self.resting -= 1
            return not self.over and not self.errors

    def fail(self, error: str) -> None:
        with self.changed:
            self.errors.append(error)
            self.changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        with self.changed:
            self.open = False
            ready = self.changed.wait_for(
                lambda: self.resting == self.workers or self.errors, timeout=300
            )
            if not ready:
                faulthandler.dump_traceback()
                self.errors.append("a worker hangs")
        yield
        with self.changed:
            self.open = True
            self.changed.notify_all()


class Shared:
    """An optimizer for all threads. Whatever they do, its parameters are its number of steps."""

    def __init__(self, size: int) -> None:
        self.params = [np.zeros(size), np.zeros(3)]
        self.grads = [np.full(size, -1.0), np.full(3, -1.0)]
        self.opt = fusedopt.SGD(self.params, lr=1.0, ema_decay=0.5)
        self.opt.step(self.grads)  # those that others take first may all be skipped

    def step(self) -> None:
        choice = random.randrange(3)
        if choice == 0:
            self.opt.step(self.grads)
        elif choice == 1:
            self.opt.step(self.grads, max_norm=1e9, stats=True)
        else:
            self.opt.step([np.full_like(g, np.nan) for g in self.grads], on_nonfinite="skip")

    def change(self) -> None:
        """Assign what is the same, as a number or a schedule, and read what others write."""
        rates = [1.0, schedules.constant(1.0), lambda step: 1.0]
        self.opt.param_groups[0]["lr"] = random.choice(rates)
        assert self.opt.param_groups[0].values_at(3)["lr"] == 1
        assert set(self.opt.ema) <= {0, 1}
        assert set(self.opt.state[0]) >= {"step"}

    def save(self, path: Path) -> None:
        self.opt.param_groups[0]["lr"] = 1.0
        self.opt.save(path, params=True)
        params = [np.zeros_like(p) for p in self.params]
        # A schedule for the case that another thread has assigned a function since.
        opt = fusedopt.SGD(params, lr=lambda step: 1.0, ema_decay=0.5)
        opt.load(path)
        assert all((p == opt.completed_steps).all() for p in params), "saved within a step"
        path.unlink()

    def check(self) -> None:
        steps = self.opt.completed_steps
        assert (self.opt.step_counts == steps).all()
        assert all((p == steps).all() for p in self.params), "steps were lost or done twice"


def child(shared: Shared) -> None:
    """Fork; the child steps an optimizer of its own, and a shared one if it wasn't in a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faulthandler.register(signal.SIGALRM, chain=True)
            signal.alarm(60)  # rather than to hang: say where, and die
            p = np.zeros(100_000, np.float32)
            opt = fusedopt.SGD([p], lr=1)
            opt.step([np.full_like(p, -1)])
            assert (p == 1).all()
            try:
                shared.opt.step(shared.grads)
            except RuntimeError as error:
                if "forked while another thread was inside" not in str(error):
                    raise
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"a child ended with {status}"


def sample(folder: Path) -> Sample:
    gc.collect()
    fusedopt.set_num_threads(4)
    p = np.zeros(200_000)
    fusedopt.SGD([p], lr=1).step([np.ones_like(p)])  # with as many threads as there may be
    lines = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    return {
        "resident MiB": int(lines["VmRSS"].split()[0]) / 1024,
        "virtual MiB": int(lines["VmSize"].split()[0]) / 1024,
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(lines["Threads"]),
        "files": sum(path.is_file() for path in folder.rglob("*")),
    }


def grown(samples: list[Sample]) -> list[str]:
    """Print what was held after warming up and at the end, and return what grew."""
    fifth = max(len(samples) // 5, 1)
    warm, last = samples[fifth : 2 * fifth], samples[-fifth:]
    complaints = []
    for name, (part, besides) in MARGINS.items():
        before, after = (statistics.median(s[name] for s in some) for some in (warm, last))
        limit = before * (1 + part) + besides
        print(f"{name:>14}: {samples[0][name]:12,.1f} at first, {before:12,.1f} warm, "
              f"{after:12,.1f} at the end, at most {limit:12,.1f}")  # fmt: skip
        if after > limit:
            complaints.append(f"{name} grew from {before:,.1f} to {after:,.1f}")
    return complaints


def soak(seconds: float, folder: Path, seed: int) -> list[str]:
    """Return complaints; none is good."""
    shared = [Shared(33), Shared(70_000)]
    counts = dict.fromkeys(["lives", "shared steps", "changes", "saves", "children"], 0)
    counting = threading.Lock()

    def worker(number: int, work: Callable[[int], None], what: str, rest: float) -> None:
        done = 0
        while gate.go_on():
            try:
                work(seed * 1_000_000 + done * 1000 + number)
            except BaseException:
                gate.fail(f"{what}: {traceback.format_exc()}")
            done += 1
            with counting:
                counts[what] += 1
            time.sleep(rest)

    def change(_: int) -> None:
        fusedopt.set_num_threads(random.randint(1, 4))
        for each in shared:
            each.change()
        gc.collect(0)

    works: list[tuple[Callable[[int], None], str, float]] = [
        (lambda n: Life(n, "small", folder).live(12), "lives", 0),
        (lambda n: Life(n, "small", folder).live(12), "lives", 0),
        (lambda n: Life(n, "large", folder).live(6), "lives", 0),
        *[(lambda n, s=s: s.step(), "shared steps", 0.001) for s in [*shared, *shared]],
        (change, "changes", 0.01),
        (lambda n: shared[n % 2].save(folder / "shared"), "saves", 0.1),
        (lambda n: child(random.choice(shared)), "children", 0.3),
    ]
    gate = Gate(len(works))
    threads = [
        threading.Thread(target=worker, args=(n, *work), daemon=True)
        for n, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    samples: list[Sample] = []
    begin = time.monotonic()
    while not gate.over and not gate.errors:
        time.sleep(min(3, seconds / 40))
        with gate.closed():
            gate.over = time.monotonic() >= begin + seconds
            if not gate.errors:
                samples.append(sample(folder))
                for each in shared:
                    each.check()
    print(", ".join(f"{count:,} {what}" for what, count in counts.items()),
          f"in {time.monotonic() - begin:.0f} s; {len(samples)} samples")  # fmt: skip
    missing = [what for what, count in counts.items() if not count]
    return gate.errors[:1] or [*(f"no {what}" for what in missing), *grown(samples)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    arguments = parser.parse_args()
    print(f"--minutes {arguments.minutes} --seed {arguments.seed}", flush=True)
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        complaints = soak(60 * arguments.minutes, Path(folder), arguments.seed)
    print(*(complaints or ["all right, and nothing grew"]), sep="\n", flush=True)
    os._exit(bool(complaints))  # a worker may hang


if __name__ == "__main__":
    main()
