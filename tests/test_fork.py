"""Contract: the child of a fork works, or says that it can't; it never hangs.

FUSEDOPT_STRESS=50 is ten times as many forks for every entry point.
"""

import os
import sys

import pytest

from entry_points import ENTRY_POINTS
from layers import HAS_POOL, ON_THE_POOL
from subprocesses import output_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TRIALS = "60" if int(os.environ.get("FUSEDOPT_STRESS", "0")) >= 50 else "4"

# Forks while 3 threads repeat an entry point, on one optimizer: the child is to do the same, once,
# or to be told. Prints how children ended: "right", "told" or what is wrong. A child that still
# runs after a while hangs: an alarm ends it.
FORK = """
import os, random, signal, sys, threading, time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
import fusedopt
from entry_points import ENTRY_POINTS

name, trials, interval = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
fusedopt.set_num_threads(2)
random.seed(name)
stop = False
TOLD = ("forked while another thread", "not inside")

def told(error):
    return any(text in str(error) for text in TOLD)

def repeat(work):
    while not stop:
        try:
            work()
        except RuntimeError as error:
            if not told(error):
                raise

def child(work):
    signal.alarm(60)
    try:
        work()
        os._exit(0)
    except RuntimeError as error:
        os._exit(7 if told(error) else 1)
    except BaseException:
        os._exit(1)

ends = {0: "right", 7: "told", 1: "fails", -signal.SIGALRM: "hangs"}
with TemporaryDirectory() as folder:
    work = ENTRY_POINTS[name](Path(folder))
    threads = [threading.Thread(target=repeat, args=[work]) for _ in range(3)]
    for thread in threads:
        thread.start()
    sys.setswitchinterval(interval)
    found = Counter()
    for _ in range(trials):
        time.sleep(random.uniform(0, 0.01))
        pid = os.fork()
        if pid == 0:
            child(work)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found[ends.get(code, code)] += 1
    stop = True
    for thread in threads:
        thread.join()
assert found.total() == trials
print(*sorted(found))
"""


@pytest.mark.parametrize("interval", ["0.005", "0.2"])
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_fork_beside_other_threads(name: str, interval: str) -> None:
    ends = set(output_of(FORK, name, TRIALS, interval).split())
    assert ends <= {"right", "told"}


def test_a_child_steps_with_every_option() -> None:
    """The same as its parent would, with workers of its own."""
    code = """
import math, os, numpy as np, fusedopt
from cases import assert_same, copies, random_arrays
fusedopt.set_num_threads(3)
p, g = random_arrays(1, np.float32, [200_003, 200_003])
ours, theirs = fusedopt.Adam([p], lr=0.01), fusedopt.reference.Adam(copies([p]), lr=0.01)
options = [
    {}, {"max_norm": 0.5}, {"stats": True}, {"clip_value": 0.1, "loss_scale": 4.0},
    {"on_nonfinite": "skip", "max_norm": math.inf}, {"zero_grads": True},
]
def steps():
    for chosen in options:
        a, b = g.copy(), g.copy()
        assert ours.step([a], **chosen) == theirs.step([b], **chosen)
        assert np.array_equal(a, b)
        assert_same(ours, theirs)
steps()
pid = os.fork()
if pid == 0:
    try:
        steps()
        os._exit(0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert output_of(code.replace("import math", "import fusedopt.reference, math")) == "0"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at threads in /proc")
def test_workers_of_a_child() -> None:
    """As many as its parent has; and none of them, of either, takes a signal but its own."""
    code = """
import os, signal, time, numpy as np, fusedopt
fusedopt.set_num_threads(3)
p, g = np.zeros(200_000), np.ones(200_000)
opt = fusedopt.SGD([p], lr=1)
before = len(os.listdir("/proc/self/task"))
ours = {str(os.getpid()), *os.listdir("/proc/self/task")}
def workers():
    opt.step([g])
    time.sleep(0.2)  # a thread begins with all of them blocked
    return set(os.listdir("/proc/self/task")) - ours - {str(os.getpid())}
def refused(worker):
    for line in open(f"/proc/self/task/{worker}/status"):
        if line.startswith("SigBlk"):
            mask = int(line.split()[1], 16)
    never = {signal.SIGKILL, signal.SIGSTOP}
    own = {getattr(signal, f"SIG{name}") for name in "BUS FPE ILL SEGV SYS TRAP".split()}
    assert not any(mask >> (s - 1) & 1 for s in own)
    return all(mask >> (s - 1) & 1 for s in signal.valid_signals() - never - own)
def show():
    print(len(workers()), all(map(refused, workers())), flush=True)
show()
pid = os.fork()
if pid == 0:
    show()
    os._exit(0)
os.waitpid(pid, 0)
"""
    line = "2 True" if HAS_POOL else "0 True"
    assert output_of(code, **ON_THE_POOL) == f"{line}\n{line}"
