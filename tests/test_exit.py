"""Contract: a process may end while daemon threads are anywhere inside the library; it ends well.

Each trial is a process: a fork of one that has imported everything. FUSEDOPT_STRESS=50 is that many
for every entry point, and takes minutes; without it there are a few.
"""

import os
import sys

import pytest

import fusedopt
from entry_points import ENTRY_POINTS
from subprocesses import output_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TRIALS = os.environ.get("FUSEDOPT_STRESS", "2")

# Prints how the processes ended, and how many did so. Each ends as Python does, at the end of all
# code, while 3 threads work: each on its own, or all on one optimizer, where they take turns.
END = """
import os, random, sys, threading, time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
import fusedopt
from entry_points import ENTRY_POINTS

name, trials, together = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "together"
layer = sys.argv[4]

def wait(pid):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hangs"

def repeat(work, begun):
    while True:
        try:
            work()
        except RuntimeError:  # another thread is inside lookahead()
            pass
        begun.set()

def run_trials(folder):
    ends = Counter()
    for trial in range(trials):
        pid = os.fork()
        if pid == 0:
            return trial
        ends[wait(pid)] += 1
    print(dict(ends))

folder = TemporaryDirectory()
trial = run_trials(folder.name)
if trial is not None:
    folder._finalizer.detach()  # the parent's
    fusedopt.set_threading_layer(layer)
    fusedopt.set_num_threads(2)
    random.seed(trial)
    make = ENTRY_POINTS[name]
    works = [make(Path(folder.name))] * 3 if together else [make(Path(folder.name)) for _ in "123"]
    events = [threading.Event() for _ in works]
    for work, begun in zip(works, events):
        threading.Thread(target=repeat, args=[work, begun], daemon=True).start()
    for begun in events:
        assert begun.wait(60)
    time.sleep(random.uniform(0, 0.02))
"""


def assert_ends_well(code: str, name: str, threads: str) -> None:
    # Chosen by each process, not by the one that it is a fork of: OpenMP doesn't follow into those.
    layer = fusedopt.get_threading_layer()
    ends = output_of(code, name, TRIALS, threads, layer, FUSEDOPT_THREADING_LAYER="")
    assert eval(ends) == {0: int(TRIALS)}


@pytest.mark.parametrize("threads", ["apart", "together"])
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_exit(name: str, threads: str) -> None:
    assert_ends_well(END, name, threads)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize("name", ["max_norm and stats", "save", "state_dir"])
def test_exit_by_an_exception(name: str) -> None:
    """As by Ctrl-C: SystemExit and KeyboardInterrupt end the process as its end does."""
    code = END + "\n    raise SystemExit(0 if trial % 2 else None)\n"
    assert_ends_well(code, name, "apart")
