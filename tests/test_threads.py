"""Contract: threads are counted, counted on, fork-safe, and never hold up Python."""

import copy
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, copies, random_arrays
from fusedopt import _core, functional
from layers import HAS_POOL, ON_THE_POOL
from meanwhile import until_it_is_met
from subprocesses import output_of

LARGE = 200_000  # elements: more than stay on the calling thread


@pytest.fixture(autouse=True)
def _no_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes see the setting of their test, and no other."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize("count", [1, 2, 1024, np.int64(3)])
def test_set_and_get(count: int) -> None:
    fusedopt.set_num_threads(count)
    assert fusedopt.get_num_threads() == count


@pytest.mark.parametrize("count", [0, -1, 1025, 10**30, -(10**30)])
def test_numbers_out_of_range(count: int) -> None:
    got = count if abs(count) < 2**63 else "a number far outside"
    with pytest.raises(ValueError, match=f"num_threads: expected 1 to 1024, got {got}"):
        fusedopt.set_num_threads(count)


@pytest.mark.parametrize("count", [1.0, "2", None, True])
def test_not_an_int(count: object) -> None:
    with pytest.raises(TypeError, match="num_threads: expected an int, got"):
        fusedopt.set_num_threads(count)


def test_what_an_int_raises_comes_out() -> None:
    class Own:
        def __index__(self) -> int:
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        fusedopt.set_num_threads(Own())


@pytest.mark.parametrize(
    ("grid", "error"),
    [
        ((0, 0), "chunk: expected 1 or more"),
        ((-1, 0), "chunk: expected 1 or more"),
        ((1, -1), "serial_below: expected 0 or more"),
    ],
)
def test_grids_out_of_range(grid: tuple[int, int], error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}$"):
        _core.set_grid(chunk=grid[0], serial_below=grid[1])
    _core.set_grid(chunk=1, serial_below=0)


SHOW_THREADS = "import fusedopt; print(fusedopt.get_num_threads())"


@pytest.mark.parametrize(
    ("setting", "threads"),
    [("1", 1), ("3", 3), (" 03 ", 3), ("3,2", 3), ("4 , 1", 4), ("9999", 1024)],
)
def test_omp_num_threads_is_honoured(setting: str, threads: int) -> None:
    expected = threads if fusedopt.show_config(mode="dict")["threading"] else 1
    assert output_of(SHOW_THREADS, OMP_NUM_THREADS=setting) == str(expected)


@pytest.mark.parametrize(
    "garbage", ["many", "-2", "+2", "0", "", " ", "1e3", "2,x", "2,", "2,0", "9" * 20]
)
def test_garbage_in_omp_num_threads_breaks_nothing(garbage: str) -> None:
    code = f"""
import numpy as np, fusedopt
p = np.ones({LARGE}); fusedopt.SGD([p], lr=1).step([np.ones({LARGE})])
print(fusedopt.get_num_threads(), p.any())
"""
    without_setting = output_of(SHOW_THREADS)
    assert output_of(code, OMP_NUM_THREADS=garbage) == f"{without_setting} False"


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_large_steps_run_on_so_many_threads() -> None:
    code = f"""
import os, numpy as np, fusedopt
p, g = np.ones({LARGE}), np.ones({LARGE})
opt = fusedopt.SGD([p])
counts = []
for threads in (1, 2, 4):
    fusedopt.set_num_threads(threads)
    opt.step([g])
    counts.append(len(os.listdir("/proc/self/task")))
print(np.diff(counts))
"""
    assert output_of(code, **ON_THE_POOL) == ("[1 2]" if HAS_POOL else "[0 0]")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("threads", [2, 4])
def test_workers_do_their_share(threads: int) -> None:
    """Also where they have slept since the last step; on a busy machine they get some time, too.

    Without threads there are none.
    """
    code = f"""
import os, time, numpy as np, fusedopt
before = set(os.listdir("/proc/self/task"))  # BLAS has threads, too

def time_of(thread):
    with open(f"/proc/self/task/{{thread}}/schedstat") as file:
        return int(file.read().split()[0])

fusedopt.set_num_threads({threads})
p, g = np.ones(1_000_000, np.float32), np.ones(1_000_000, np.float32)
opt = fusedopt.Adam([p])
own = -time_of(os.getpid())
for _ in range(200):
    opt.step([g])
    time.sleep(0.001)
own += time_of(os.getpid())
print([time_of(thread) / own for thread in set(os.listdir("/proc/self/task")) - before])
"""
    shares = eval(output_of(code, **ON_THE_POOL))
    if HAS_POOL:
        assert len(shares) == threads - 1
        assert max(shares) > 0.05
    else:
        assert shares == []


def test_workers_without_work_sleep() -> None:
    code = f"""
import time, numpy as np, fusedopt
fusedopt.set_num_threads(4)
p, g = np.ones({LARGE}, np.float32), np.ones({LARGE}, np.float32)
opt = fusedopt.SGD([p])
for _ in range(3):
    opt.step([g])
    time.sleep(0.1)
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)
"""
    assert float(output_of(code, **ON_THE_POOL)) < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="limits addresses")
def test_where_no_thread_can_be_made_the_caller_does_it_all() -> None:
    code = f"""
import os, resource, numpy as np, fusedopt
from fusedopt import reference
from subprocesses import own_memory
fusedopt.set_num_threads(4)
p, q, g = (np.full({LARGE}, k, np.float32) for k in (1, 1, 3))
ours, theirs = fusedopt.SGD([p], lr=0.5), reference.SGD([q], lr=0.5)
theirs.step([g])

def made():
    return len(os.listdir("/proc/self/task")) - before

before = len(os.listdir("/proc/self/task"))
limit = own_memory("VmSize") + (1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
ours.step([g])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((p == q).all(), made())
ours.step([g])
print(made())
"""
    assert output_of(code, **ON_THE_POOL).split() == ["True", "0", "3" if HAS_POOL else "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_the_grid_says_what_is_shared() -> None:
    code = """
import os, numpy as np, fusedopt
from fusedopt import _core
fusedopt.set_num_threads(4)
opt = fusedopt.SGD([np.ones(20)])
for chunk, serial_below in [(1, 21), (20, 0), (1, 20)]:
    _core.set_grid(chunk=chunk, serial_below=serial_below)
    opt.step([np.ones(20)])
    print(len(os.listdir("/proc/self/task")), end=" ")
"""
    counts = [int(count) for count in output_of(code, **ON_THE_POOL).split()]
    assert [count - counts[0] for count in counts] == ([0, 0, 3] if HAS_POOL else [0, 0, 0])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_cpu_affinity_is_honoured() -> None:
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    assert output_of(pin + SHOW_THREADS) == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_and_grandchildren_step_after_a_parallel_step() -> None:
    code = f"""
import os, numpy as np, fusedopt
fusedopt.set_num_threads(3)
p = np.zeros({LARGE}, np.float32)
opt = fusedopt.SGD([p], lr=1)
def step():
    opt.step([np.full({LARGE}, -1, np.float32)])
def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
def grandchild():
    step()
    assert (p == 3).all()
def child():
    step()
    assert (p == 2).all()
    in_child(grandchild)
step()
in_child(child)
in_child(child)
step()
assert (p == 2).all() and opt.state[0]["step"] == 2
print("done")
"""
    assert output_of(code) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_during_a_step_of_another_thread() -> None:
    """The child gets half-updated arrays and a lock nobody will give back: an error, not a hang."""
    code = """
import os, threading, time, numpy as np, fusedopt
p = np.zeros(30_000_000, np.float32)
g = np.ones_like(p)
opt = fusedopt.Adam([p])
opt.step([g])
stop = False
def work():
    while not stop:
        opt.step([g])
thread = threading.Thread(target=work)
thread.start()
time.sleep(0.2)
statuses = set()
for _ in range(300):
    pid = os.fork()
    if pid == 0:
        try:
            opt.step([g])
            os._exit(0)  # forked between two steps
        except RuntimeError as error:
            os._exit(7 if "forked while another thread was inside step()" in str(error) else 1)
    statuses.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if 7 in statuses:
        break
stop = True
thread.join()
print(statuses <= {0, 7} and 7 in statuses)
"""
    assert output_of(code) == "True"


def test_the_gil_is_released() -> None:
    """Not for a moment only: all the while."""
    p, g = np.zeros(30_000_000, np.float32), np.ones(30_000_000, np.float32)
    opt = fusedopt.Adam([p])
    opt.step([g])
    begin = end = 0.0

    def step() -> None:
        nonlocal begin, end
        begin = time.perf_counter()
        opt.step([g])
        end = time.perf_counter()

    thread = threading.Thread(target=step)
    thread.start()
    moments = []
    while thread.is_alive():
        moments.append(time.perf_counter())
    thread.join()
    margin = (end - begin) / 4
    assert sum(begin + margin < moment < end - margin for moment in moments) > 10


def large() -> Any:
    return np.ones(4_000_000, np.float32)


def call_without_the_gil(name: str) -> Callable[[], Any]:
    p, g, m = large(), large(), large()
    bound = fusedopt.SGD([large()], grads=[large()])
    ahead = fusedopt.SGD([large()], momentum=0.9, velocity=True, ema_decay=0.5)
    ahead.step([g])
    state = copy.deepcopy(ahead.state_dict())

    def inside(block: Any) -> None:
        with block:
            pass

    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: bound.step(),
        "step with options": lambda: bound.step(stats=True),
        "zero_grad": lambda: bound.zero_grad(),
        "lookahead": lambda: inside(ahead.lookahead()),
        "swap_ema": lambda: inside(ahead.swap_ema()),
        "load_state_dict": lambda: ahead.load_state_dict(state),
        "function": lambda: functional.sgd_(p, g, m, step=1, lr=0.1, momentum=0.9),
        "average": lambda: functional.ema_(m, p, decay=0.5),
        "norm": lambda: functional.global_norm([g]),
    }
    return calls[name]


@pytest.mark.parametrize(
    "name",
    [
        *("step", "step with options", "zero_grad", "lookahead", "swap_ema", "load_state_dict"),
        *("function", "average", "norm"),
    ],
)
def test_other_threads_run_meanwhile(name: str) -> None:
    until_it_is_met(lambda: None, call_without_the_gil(name), lambda: None)


def test_gradients_are_not_zeroed_while_a_step_reads_them() -> None:
    g = np.ones(8_000_000, np.float32)
    p = np.zeros_like(g)
    opt = fusedopt.SGD([p], lr=1.0, grads=[g])
    opt.step()
    for _ in range(10):
        p.fill(0)
        g.fill(1)
        inside = threading.Event()

        def step(inside: threading.Event = inside) -> None:
            inside.set()
            opt.step()

        thread = threading.Thread(target=step)
        thread.start()
        inside.wait()
        opt.zero_grad()
        thread.join()
        # Before the step or after it.
        assert float(p.min()) == float(p.max())
        assert not g.any()


def run_together(*functions) -> None:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "deadlock"


@pytest.mark.parametrize("size", [16, LARGE])
def test_steps_of_one_optimizer_are_serialized(size: int) -> None:
    case = Case("Adam", {"lr": 0.01})
    p, g = random_arrays(0, np.float32, [size, size])
    actual, expected = case.make([p]), case.make_reference(copies([p]))

    def work() -> None:
        for _ in range(25):
            actual.step([g])

    run_together(work, work, work, work)
    for _ in range(100):
        expected.step([g])
    assert_same(actual, expected)


def test_two_optimizers_at_once() -> None:
    cases = [Case("Adam", {"lr": 0.01}), Case("SGD", {"lr": 0.01, "momentum": 0.9})]
    arrays = [random_arrays(k, np.float32, [LARGE, LARGE]) for k in range(2)]
    pairs = [
        (case.make([p]), case.make_reference(copies([p])), g)
        for case, (p, g) in zip(cases, arrays, strict=True)
    ]

    def work(opt: fusedopt.Optimizer, g: np.ndarray) -> None:
        for _ in range(30):
            opt.step([g])

    run_together(*(lambda actual=actual, g=g: work(actual, g) for actual, _, g in pairs))
    for actual, expected, g in pairs:
        work(expected, g)
        assert_same(actual, expected)


def test_gradients_may_be_dropped_by_another_thread() -> None:
    """The step keeps what it reads alive while the GIL is released."""
    p = np.zeros(3_000_000, np.float32)
    opt = fusedopt.SGD([p], lr=1)
    grads = []

    def drop() -> None:
        while opt.step_counts[0] < 30:
            grads.clear()
            try:
                opt.step(grads)
            except ValueError:
                continue

    def step() -> None:
        taken = 0
        while taken < 30:
            grads[:] = [np.ones(p.size, np.float32)]
            try:
                opt.step(grads)
                taken += 1
            except ValueError:
                continue

    run_together(step, drop)
    assert (p == -opt.step_counts[0]).all()


@pytest.mark.parametrize("size", [16, 8000, LARGE])
def test_the_process_may_end_while_a_daemon_thread_steps(size: int) -> None:
    code = f"""
import threading, time, numpy as np, fusedopt
opts = [fusedopt.Adam([np.zeros({size}, np.float32)]) for _ in range(2)]
g = [np.ones({size}, np.float32)]
def work(opt):
    while True:
        opt.step(g)
for opt in (*opts, opts[0]):
    threading.Thread(target=work, args=[opt], daemon=True).start()
time.sleep(0.2)
print("done")
"""
    for _ in range(5):
        assert output_of(code) == "done"


def test_as_many_threads_as_there_may_be() -> None:
    code = """
import numpy as np, fusedopt
from fusedopt import _core
fusedopt.set_num_threads(1024)
_core.set_grid(chunk=1, serial_below=0)
p, g = np.zeros(3000), np.arange(3000.0)
opt = fusedopt.SGD([p], lr=1)
for _ in range(20):
    opt.step([g])
print(np.array_equal(p, -20 * g))
"""
    assert output_of(code, **ON_THE_POOL) == "True"


def test_few_chunks_for_many_threads() -> None:
    """More threads than chunks, as many, one fewer; and one chunk, which needs no other thread."""
    case = Case("AdamW", {"lr": 0.01})
    for threads in (2, 3, 7, 64):
        fusedopt.set_num_threads(threads)
        for chunks in (1, 2, threads - 1, threads, threads + 1):
            p, g = random_arrays(chunks, np.float32, [100 * chunks - 1] * 2)
            actual, expected = case.make([p]), case.make_reference(copies([p]))
            _core.set_grid(chunk=100, serial_below=0)
            for _ in range(20):  # at a run, or few chunks wake nobody
                actual.step([g])
            for _ in range(20):
                expected.step([g])
            assert_same(actual, expected)


def test_thousands_of_small_steps_on_several_threads_at_once() -> None:
    """Callers that find the workers taken, workers that come when a step is over."""
    fusedopt.set_num_threads(4)
    _core.set_grid(chunk=16, serial_below=0)
    steps = 3000
    params = [np.zeros(size, np.float32) for size in (33, 250, 1000, 4500)]

    def work(p: np.ndarray) -> None:
        opt, g = fusedopt.SGD([p], lr=1), [np.full(p.size, -1, np.float32)]
        for done in range(1, steps + 1):
            opt.step(g)
            if not (p == done).all():
                return
            if done % 500 == 0:
                time.sleep(0.001)  # workers fall asleep

    run_together(*(lambda p=p: work(p) for p in params))
    assert all((p == steps).all() for p in params)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_workers_spin_or_sleep() -> None:
    code = """
import os, time, numpy as np, fusedopt
from fusedopt import _core
fusedopt.set_num_threads(4)
_core.set_grid(chunk=64, serial_below=0)
p, g = np.zeros(4000), np.full(4000, -1.0)
opt = fusedopt.SGD([p], lr=1)
for k in range(60):
    opt.step([g])
    if k % 2:
        time.sleep(0.002)  # now they sleep
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            opt.step([g])
        os._exit(0 if (p == k + 21).all() else 1)
    opt.step([g])
    p -= 1
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print((p == 60).all())
"""
    assert output_of(code) == "True"


# Prints how long a step takes on 4 threads, in times of what it takes on one.
RATIO = """
import time, numpy as np, fusedopt
product = np.ones((500, 500), np.float32)
p, g = np.zeros(500_000, np.float32), np.ones(500_000, np.float32)
opt = fusedopt.Adam([p])
def median(threads, before_step):
    fusedopt.set_num_threads(threads)
    times = []
    for _ in range(40):
        before_step()
        begin = time.perf_counter()
        opt.step([g])
        times.append(time.perf_counter() - begin)
    return sorted(times)[20]
def ratio(before_step):  # the smallest of some, as others may disturb
    return min(median(4, before_step) / median(1, before_step) for _ in range(8))
"""


# Others take the cores: neither waits for threads that have none.
PATIENT = pytest.mark.parametrize("layer", ["auto", "pool"] if HAS_POOL else ["auto"])


@pytest.mark.timed
@PATIENT
def test_threads_of_blas_do_not_hold_up_a_step(layer: str) -> None:
    """They keep their cores for a while after each product."""
    code = RATIO + "print(ratio(lambda: product @ product))"
    assert float(output_of(code, FUSEDOPT_THREADING_LAYER=layer)) < 1.5


@pytest.mark.timed
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@PATIENT
def test_a_step_does_not_wait_for_threads_that_cannot_run(layer: str) -> None:
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code = pin + RATIO + "print(ratio(lambda: None))"
    assert float(output_of(code, FUSEDOPT_THREADING_LAYER=layer)) < 1.5


@pytest.mark.timed
@PATIENT
def test_a_step_does_not_wait_for_cores_that_others_keep_busy(layer: str) -> None:
    code = """
import subprocess, sys, os
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
          for _ in range(os.cpu_count() or 1)]
time.sleep(0.3)  # until they run
try:
    print(ratio(lambda: None))
finally:
    for other in others:
        other.kill()
"""
    assert float(output_of(RATIO + code, FUSEDOPT_THREADING_LAYER=layer)) < 2
