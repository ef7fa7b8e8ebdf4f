"""Contract: every threading layer gives the same bits, is there where it can be, or says why not.

The automatic one's decisions are in test_automatic.py.
"""

import itertools
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, copies, random_arrays
from fusedopt import _core
from layers import BUILT, HAS_OPENMP, HAS_POOL, active
from native_programs import COMPILER
from subprocesses import output_of, run_python

NAMES = ["auto", "pool", "openmp", "serial"]
needs_openmp = pytest.mark.skipif(not HAS_OPENMP, reason="a build without OpenMP")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# A step of 200,000 elements on 2 threads, right or not; and which OpenMP runtimes there are.
STEP = """
import os, sys, numpy as np, fusedopt
from layers import active
fusedopt.set_num_threads(2)
p, q, g = (np.full(200_000, k, np.float32) for k in (1, 1, 3))
opt = fusedopt.SGD([p], lr=0.5)
def step():
    q.__isub__(np.float32(0.5) * g)
    opt.step([g])
    return bool((p == q).all())
def runtimes():
    lines = open("/proc/self/maps").read().split()
    return sorted({line for line in lines if "libgomp" in line or "libomp" in line})
def layers():
    return fusedopt.show_config(mode="dict")["threading layers"]
def seen_beside_blas(steps):
    product, seen = np.ones((300, 300)), set()
    for _ in range(steps):
        product @ product
        seen.add(active())
        assert step()
    return seen
"""


@pytest.mark.parametrize("name", NAMES)
def test_set_and_get(name: str) -> None:
    fusedopt.set_num_threads(2)
    if name in (*BUILT, "auto"):
        fusedopt.set_threading_layer(name)
        assert fusedopt.get_threading_layer() == name
        assert active() == name if name != "auto" else active() in BUILT
        assert fusedopt.show_config(mode="dict")["threading layers"]["fallback"] is None
    else:
        before = fusedopt.get_threading_layer()
        only = f"^threading layer '{name}': this build has only {', '.join(BUILT)}$"
        with pytest.raises(RuntimeError, match=only):
            fusedopt.set_threading_layer(name)
        assert fusedopt.get_threading_layer() == before


def test_names_that_are_none() -> None:
    names = "'auto' or 'pool' or 'openmp' or 'serial'"
    with pytest.raises(ValueError, match=f"^layer: expected {names}, got 'Pool'$"):
        fusedopt.set_threading_layer("Pool")
    with pytest.raises(TypeError, match=rf"^layer: expected {names}, got None \(NoneType\)$"):
        fusedopt.set_threading_layer(None)
    with pytest.raises(ValueError, match="^layer: unknown$"):
        _core.set_threading_layer("Pool")


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_chooses(name: str) -> None:
    code = "import fusedopt; print(fusedopt.get_threading_layer())"
    done = run_python(code, FUSEDOPT_THREADING_LAYER=name)
    if name in (*BUILT, "auto"):
        assert done.stdout.strip() == name
    else:
        message = f"FUSEDOPT_THREADING_LAYER: threading layer '{name}': this build has only "
        assert f"ImportError: {message}" in done.stderr


def test_the_environment_chooses_nothing_or_nonsense() -> None:
    code = "import fusedopt; print(fusedopt.get_threading_layer())"
    assert output_of(code, FUSEDOPT_THREADING_LAYER="") == "auto"
    done = run_python(code, FUSEDOPT_THREADING_LAYER="tbb")
    assert "ImportError: FUSEDOPT_THREADING_LAYER: expected 'auto' or 'pool'" in done.stderr
    assert "got 'tbb'" in done.stderr


@pytest.mark.parametrize("name", ["auto", *BUILT])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_same_bits(name: str, threads: int) -> None:
    fusedopt.set_threading_layer(name)
    fusedopt.set_num_threads(threads)
    _core.set_grid(chunk=64, serial_below=0)
    for case in (Case("AdamW", {"lr": 0.01}), Case("SGD", {"lr": 0.1, "momentum": 0.9})):
        arrays = random_arrays(threads, np.float32, [1, 63, 64, 65, 2000, 17, 1])
        actual, expected = case.make(arrays), case.make_reference(copies(arrays))
        for k in range(10):
            grads = random_arrays(100 + k, np.float32, [a.size for a in arrays])
            result, wanted = (
                opt.step(grads, max_norm=0.5, stats=True) for opt in (actual, expected)
            )
            assert result == wanted
            actual.step(grads)
            expected.step(grads)
            assert_same(actual, expected)


def test_layers_in_turn() -> None:
    """Changed between steps."""
    fusedopt.set_num_threads(3)
    case = Case("Adam", {"lr": 0.01})
    p, g = random_arrays(0, np.float32, [200_000, 200_000])
    actual, expected = case.make([p]), case.make_reference(copies([p]))
    for name in itertools.islice(itertools.cycle(["auto", *BUILT]), 12):
        fusedopt.set_threading_layer(name)
        actual.step([g])
        expected.step([g])
        assert_same(actual, expected)


def test_another_thread_changes_them() -> None:
    """While steps run; a few optimizers at once, so that some find the layers busy."""
    fusedopt.set_num_threads(3)
    done = threading.Event()

    def steps(seed: int) -> None:
        case = Case("Adam", {"lr": 0.01})
        p, g = random_arrays(seed, np.float32, [50_000, 50_000])
        actual, expected = case.make([p]), case.make_reference(copies([p]))
        for _ in range(100):
            actual.step([g])
            expected.step([g])
        assert_same(actual, expected)

    def change() -> int:
        for changes, name in enumerate(itertools.cycle(["auto", *BUILT])):
            fusedopt.set_threading_layer(name)
            if done.wait(1e-4):
                return changes
        raise AssertionError

    with ThreadPoolExecutor() as threads:
        changing = threads.submit(change)
        try:
            list(threads.map(steps, range(3)))
        finally:
            done.set()
        assert changing.result() > 10


@needs_linux
def test_nothing_needs_a_runtime_until_it_is_asked_for() -> None:
    code = STEP + "print(*(step() for _ in range(300)), runtimes())"
    *right, runtimes = output_of(code, FUSEDOPT_THREADING_LAYER="auto").split()
    assert set(right) == {"True"}
    assert runtimes == "[]"


@needs_linux
@needs_openmp
def test_openmp_does_its_share() -> None:
    code = (
        STEP
        + """
import time
def time_of(thread):
    with open(f"/proc/self/task/{thread}/schedstat") as file:
        return int(file.read().split()[0])
before = set(os.listdir("/proc/self/task"))
fusedopt.set_threading_layer("openmp")
assert all(step() for _ in range(300))
threads = set(os.listdir("/proc/self/task")) - before
runtime = os.path.realpath(layers()["runtime"])
print(len(threads), min(map(time_of, threads)) > 1e6, [runtime] == runtimes())
"""
    )
    assert output_of(code, OMP_NUM_THREADS="3").split() == ["2", "True", "True"]


@needs_openmp
@pytest.mark.parametrize(
    "limits", [{"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "2"}]
)
def test_a_smaller_team_than_expected(limits: dict[str, str]) -> None:
    code = (
        STEP
        + """
fusedopt.set_num_threads(4)
print(layers()["active"], all(step() for _ in range(20)))
"""
    )
    assert output_of(code, FUSEDOPT_THREADING_LAYER="openmp", **limits) == "openmp True"


@needs_openmp
@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["openmp", "auto"])
def test_inside_a_parallel_region_of_somebody_else(name: str, tmp_path: Path) -> None:
    source = tmp_path / "region.cpp"
    source.write_text("""
extern "C" void in_region(int (*call)(), int* result) {
#pragma omp parallel
#pragma omp master
  *result = call();
}
""")
    options = ["-std=c++20", "-fopenmp", "-shared", "-fPIC", "-o", str(tmp_path / "region.so")]
    subprocess.run([str(COMPILER), *options, str(source)], check=True)
    code = (
        STEP
        + """
import ctypes
fusedopt.set_threading_layer("openmp")
assert step()
fusedopt.set_threading_layer(sys.argv[2])
def call():
    print(active(), step())
    return 7
result = ctypes.c_int()
ctypes.CDLL(sys.argv[1]).in_region(ctypes.CFUNCTYPE(ctypes.c_int)(call), ctypes.byref(result))
print(result.value, active() != "serial", step())
"""
    )
    assert output_of(code, str(tmp_path / "region.so"), name) == "serial True\n7 True True"


# Prints what comes of it in the child, which an alarm ends where it hangs, and then in the parent.
FORK = """
import signal
def child(call):
    sys.stdout.flush()
    if os.fork() == 0:
        signal.alarm(60)
        try:
            call()
        finally:
            sys.stdout.flush()
            os._exit(0)
    assert os.wait()[1] == 0
def try_openmp():
    try:
        fusedopt.set_threading_layer("openmp")
    except RuntimeError as error:
        print(error)
"""


@needs_openmp
@needs_fork
def test_the_child_of_a_fork_falls_back() -> None:
    code = (
        STEP
        + FORK
        + """
assert step()
def call():
    print(layers()["chosen"], layers()["active"], layers()["fallback"])
    print(all(step() for _ in range(50)))
    try_openmp()
    child(lambda: print(layers()["active"], step()))
child(call)
print(layers()["active"], step())
"""
    )
    lines = output_of(code, FUSEDOPT_THREADING_LAYER="openmp").splitlines()
    instead = "pool" if HAS_POOL else "serial"
    why = "this process is a fork: threads of OpenMP may have stayed behind in its parent"
    assert lines == [
        f"openmp {instead} openmp: {why}",
        "True",
        f"threading layer 'openmp': {why}",
        f"{instead} True",
        "openmp True",
    ]


@needs_openmp
@needs_fork
def test_the_child_of_a_process_without_a_runtime() -> None:
    """It has what any process has; and its own children what theirs have."""
    code = (
        STEP
        + FORK
        + """
def call():
    try_openmp()
    print(layers()["active"], all(step() for _ in range(50)))
    child(lambda: print(layers()["active"], step()))
child(call)
"""
    )
    instead = "pool" if HAS_POOL else "serial"
    assert output_of(code, FUSEDOPT_THREADING_LAYER="auto") == f"openmp True\n{instead} True"


@needs_openmp
@needs_linux
@needs_fork
def test_a_child_of_a_process_with_a_runtime_leaves_it_alone() -> None:
    """Loaded by the parent, fusedopt by the child: auto would wait for ever."""
    code = (
        "import ctypes, os, sys; ctypes.CDLL('libgomp.so.1')"
        + FORK
        + """
def call():
    exec(sys.argv[1], globals())
    try_openmp()
    fusedopt.set_threading_layer("auto")
    print("openmp" in seen_beside_blas(300))
child(call)
"""
    )
    lines = output_of(code, STEP, FUSEDOPT_THREADING_LAYER="").splitlines()
    assert lines[0].startswith("threading layer 'openmp': this process is a fork")
    assert lines[1:] == ["False"]


@needs_openmp
@needs_linux
@needs_fork
def test_a_worker_is_not_to_fail_for_what_its_parent_has() -> None:
    """The environment asks for OpenMP, and the runtime was there before the fork."""
    code = (
        "import ctypes, os, sys; ctypes.CDLL('libgomp.so.1')"
        + FORK
        + """
def call():
    exec(sys.argv[1], globals())
    now = layers()
    print(now["chosen"], now["active"], step())
    print(now["fallback"])
    try_openmp()
child(call)
"""
    )
    lines = output_of(code, STEP, FUSEDOPT_THREADING_LAYER="openmp").splitlines()
    why = "this process is a fork: threads of OpenMP may have stayed behind in its parent"
    assert lines == [
        f"openmp {'pool' if HAS_POOL else 'serial'} True",
        f"openmp: {why}",
        f"threading layer 'openmp': {why}",
    ]


@needs_openmp
@needs_linux
@pytest.mark.parametrize("content", [None, b"not a library"])
def test_without_its_module(tmp_path: Path, content: bytes | None) -> None:
    """By name it's an error that says so; auto does without, also where a runtime is at hand."""
    copy = tmp_path / "fusedopt"
    shutil.copytree(Path(fusedopt.__file__).parent, copy)
    (module,) = copy.glob("_openmp*")
    module.unlink()
    if content:
        module.write_bytes(content)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ctypes; ctypes.CDLL('libgomp.so.1')"
        + STEP
        + """
try:
    fusedopt.set_threading_layer("openmp")
except RuntimeError as error:
    print(error)
print("openmp" in seen_beside_blas(200))
"""
    )
    first, second = output_of(code, str(tmp_path), FUSEDOPT_THREADING_LAYER="").splitlines()
    assert first.startswith(f"threading layer 'openmp': {copy}/_openmp")
    assert first.endswith("file too short" if content else "No such file or directory")
    assert second == "False"


def test_threadpoolctl() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs threadpoolctl")

    def ours() -> dict[str, object]:
        (info,) = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "fusedopt"]
        return info

    fusedopt.set_threading_layer("serial")
    fusedopt.set_num_threads(3)
    assert ours()["filepath"] == str(Path(_core.__file__).resolve())
    assert ours()["version"] == fusedopt.__version__
    assert (ours()["num_threads"], ours()["threading_layer"]) == (3, "serial")
    with threadpoolctl.threadpool_limits(2, user_api="fusedopt"):
        assert fusedopt.get_num_threads() == ours()["num_threads"] == 2
    with threadpoolctl.threadpool_limits(1):
        assert fusedopt.get_num_threads() == 1
    assert fusedopt.get_num_threads() == 3
