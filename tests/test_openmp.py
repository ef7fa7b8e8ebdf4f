"""Contract: OpenMP's threads are used where they can be, and harm nobody: no fork, and no process.

That every layer gives the same bits is in test_layers.py.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

import fusedopt
from layers import FORK, HAS_OPENMP, HAS_POOL, IN_A_FORK, STEP
from native_programs import COMPILER, ROOT, shared_library
from subprocesses import output_of

pytestmark = pytest.mark.skipif(not HAS_OPENMP, reason="a build without OpenMP")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
INSTEAD = "pool" if HAS_POOL else "serial"
WITH_A_RUNTIME = "import ctypes, os, sys; ctypes.CDLL('libgomp.so.1')"
# What follows, indented, is done in the child of such a process, by child(call). First comes STEP,
# which is its argument.
CHILD_OF_A_PROCESS_WITH_A_RUNTIME = f"""
{WITH_A_RUNTIME}
{FORK}
def call():
    exec(sys.argv[1], globals())
"""


@needs_linux
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


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library of somebody else's, which calls a function in a parallel region."""
    source = """
extern "C" void in_region(int (*call)(), int* result) {
#pragma omp parallel
#pragma omp master
  *result = call();
}
extern "C" int size_of_team() {
  int size = 0;
#pragma omp parallel reduction(+ : size)
  size += 1;
  return size;
}
"""
    return shared_library(source, tmp_path_factory.mktemp("region"), "-fopenmp")


@needs_linux
@needs_compiler
@pytest.mark.parametrize("name", ["openmp", "auto", *(["pool"] if HAS_POOL else [])])
def test_inside_a_parallel_region_of_somebody_else(name: str, region: str) -> None:
    """Each of its threads has work of its own: a step stays on the one that called."""
    code = (
        STEP
        + """
import ctypes
fusedopt.set_threading_layer("openmp")
assert step()
fusedopt.set_threading_layer(sys.argv[2])
def call():
    before = os.listdir("/proc/self/task")
    print(active(), step(), os.listdir("/proc/self/task") == before)
    return 7
result = ctypes.c_int()
ctypes.CDLL(sys.argv[1]).in_region(ctypes.CFUNCTYPE(ctypes.c_int)(call), ctypes.byref(result))
print(result.value, active() != "serial", step())
"""
    )
    assert output_of(code, region, name) == "serial True True\n7 True True"


@needs_compiler
@needs_fork
@needs_linux
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_fork_after_regions(region: str, first: str) -> None:
    """A team that is there because of us is gone before the fork: a child would wait for it.

    One that another library made is that library's.
    """
    code = (
        STEP
        + FORK
        + """
import ctypes
other = ctypes.CDLL(sys.argv[1])
fusedopt.set_threading_layer("openmp")
before = set(os.listdir("/proc/self/task"))
if sys.argv[2] == "theirs":
    other.size_of_team()
assert all(step() for _ in range(5))
team = set(os.listdir("/proc/self/task")) - before
child(lambda: print(sys.argv[2] == "theirs" or other.size_of_team()))
print(len(team), len(team & set(os.listdir("/proc/self/task"))))
print(all(step() for _ in range(5)), active(), other.size_of_team())
"""
    )
    in_child = "3" if first == "ours" else "True"
    left = 0 if first == "ours" else 2
    lines = output_of(code, region, first, OMP_NUM_THREADS="3").splitlines()
    assert lines == [in_child, f"2 {left}", "True openmp 3"]


@needs_fork
def test_a_thread_that_forks_may_end_in_the_child() -> None:
    """Its runtime's destructor would wait for the team."""
    code = (
        STEP
        + """
import signal, threading
fusedopt.set_threading_layer("openmp")
def work():
    global pid
    assert step()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
thread = threading.Thread(target=work)
thread.start()
thread.join()
if pid:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    assert output_of(code, OMP_NUM_THREADS="2") == "0"


@needs_linux
@pytest.mark.parametrize("name", ["openmp", "auto"])
def test_where_no_thread_can_be_made(name: str) -> None:
    """GCC's runtime would end the process."""
    code = (
        WITH_A_RUNTIME
        + STEP
        + """
import resource
from subprocesses import own_memory
step()
fusedopt.set_threading_layer(sys.argv[1])
limit = own_memory("VmSize") + (1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
right = all([step() for _ in range(100)])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(right, all([step() for _ in range(100)]), active())
"""
    )
    done = output_of(code, name, OMP_NUM_THREADS="4", FUSEDOPT_THREADING_LAYER="serial").split()
    assert done[:2] == ["True", "True"]
    if name == "openmp":
        assert done[2] == "openmp"


@needs_compiler
@needs_fork
@needs_linux
def test_a_fork_while_auto_looks_for_a_runtime(tmp_path: Path) -> None:
    """The child would find the lock of the dynamic linker's lists taken for ever.

    A library makes each look take long; steps that are too small to share have auto look often.
    """
    slow = """
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>
struct Call {
  int (*look)(dl_phdr_info*, size_t, void*);
  void* data;
};
extern "C" int looks = 0;
extern "C" int dl_iterate_phdr(int (*look)(dl_phdr_info*, size_t, void*), void* data) {
  static const auto original =
      reinterpret_cast<decltype(&dl_iterate_phdr)>(dlsym(RTLD_NEXT, "dl_iterate_phdr"));
  ++looks;
  Call call{look, data};
  return original([](dl_phdr_info* info, size_t size, void* made) {
    usleep(3000);
    const Call& call = *static_cast<Call*>(made);
    return call.look(info, size, call.data);
  }, &call);
}
"""
    library = shared_library(slow, tmp_path, "-ldl")
    code = (
        STEP
        + FORK
        + """
import threading, time
done = False
def steps():
    p, g = np.ones(40_000, np.float32), np.ones(40_000, np.float32)
    opt = fusedopt.SGD([p], lr=0.5)
    while not done:
        opt.step([g])
        time.sleep(0.0005)
thread = threading.Thread(target=steps)
thread.start()
time.sleep(0.5)
def call():
    import _lsprof  # to load a library needs that lock, too
    for _ in range(5):
        assert step()
        time.sleep(0.0005)
for _ in range(20):
    child(call)
done = True
thread.join()
import ctypes
print(ctypes.c_int.in_dll(ctypes.CDLL(None), "looks").value > 20)
"""
    )
    settings = {"LD_PRELOAD": library, "FUSEDOPT_THREADING_LAYER": "auto"}
    assert output_of(code, **settings) == "True"


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
    assert lines == [
        f"openmp {INSTEAD} openmp: {IN_A_FORK}",
        "True",
        f"threading layer 'openmp': {IN_A_FORK}",
        f"{INSTEAD} True",
        "openmp True",
    ]


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
    assert output_of(code, FUSEDOPT_THREADING_LAYER="auto") == f"openmp True\n{INSTEAD} True"


@needs_linux
@needs_fork
def test_a_child_of_a_process_with_a_runtime_leaves_it_alone() -> None:
    """Loaded by the parent, fusedopt by the child: auto would wait for ever."""
    code = (
        CHILD_OF_A_PROCESS_WITH_A_RUNTIME
        + """
    try_openmp()
    fusedopt.set_threading_layer("auto")
    print("openmp" in seen_beside_blas(300))
child(call)
"""
    )
    lines = output_of(code, STEP, FUSEDOPT_THREADING_LAYER="").splitlines()
    assert lines[0].startswith("threading layer 'openmp': this process is a fork")
    assert lines[1:] == ["False"]


@needs_linux
@needs_fork
def test_a_worker_is_not_to_fail_for_what_its_parent_has() -> None:
    """The environment asks for OpenMP, and the runtime was there before the fork."""
    code = (
        CHILD_OF_A_PROCESS_WITH_A_RUNTIME
        + """
    now = layers()
    print(now["chosen"], now["active"], step())
    print(now["fallback"])
    try_openmp()
child(call)
"""
    )
    lines = output_of(code, STEP, FUSEDOPT_THREADING_LAYER="openmp").splitlines()
    assert lines == [
        f"openmp {INSTEAD} True",
        f"openmp: {IN_A_FORK}",
        f"threading layer 'openmp': {IN_A_FORK}",
    ]


@needs_linux
def test_auto_finds_a_runtime_that_another_library_brings() -> None:
    code = (
        STEP
        + """
import ctypes
assert "openmp" not in seen_beside_blas(50) and not layers()["runtime"]
ctypes.CDLL("libgomp.so.1")
for _ in range(100):
    if "openmp" in seen_beside_blas(50):
        break
print([os.path.realpath(layers()["runtime"])] == runtimes())
"""
    )
    assert output_of(code, FUSEDOPT_THREADING_LAYER="auto") == "True"


def copy_without_its_module(folder: Path) -> Path:
    """Copy the package into a folder; return where its module belongs."""
    copy = folder / "fusedopt"
    shutil.copytree(Path(fusedopt.__file__).parent, copy)
    (module,) = copy.glob("_openmp*")
    module.unlink()
    return module


# In the place of the module: four threads in turn, the last first, all of them the calling one; or
# fewer than it had said. How many elements each changed, and what it was asked for, can be read.
MADE_UP_MODULE = """
#include <thread>
#include "engine/openmp_region.hpp"
extern "C" {
const float* watched = nullptr;
int size = 4, present = 4, changed[8], asked = 0, pauses = 0;
}
int count() {
  int changes = 0;
  for (int k = 0; watched && k < 200000; ++k) changes += watched[k] != 1;
  return changes;
}
void run(void (*body)(void*, int), void* context) {
  static bool first = true;
  if (first) std::thread([] { std::this_thread::sleep_for(std::chrono::hours(1)); }).detach();
  first = false;
  for (int k = present - 1; k >= 0; --k) {
    const int before = count();
    body(context, k);
    changed[k] = count() - before;
  }
}
int team() { return size; }
bool inside() { return false; }
bool can_have(int threads) { asked = threads; return true; }
#ifdef PAUSES
extern "C" int omp_pause_resource_all(int) { return ++pauses; }
#endif
extern "C" const fusedopt::OpenMPRegion fusedopt_openmp_region_2;
const fusedopt::OpenMPRegion fusedopt_openmp_region_2 = {&run, &team, &inside, &can_have};
"""


@needs_linux
@needs_compiler
@pytest.mark.parametrize("pauses", [True, False])
def test_what_a_runtime_is_asked_for(tmp_path: Path, pauses: bool) -> None:
    """No more threads than may work; room for those that are new; and at a fork, that they end.

    Where a runtime can't end them, they stay.
    """
    module = copy_without_its_module(tmp_path)
    options = [f"-I{ROOT / 'csrc'}", "-pthread", *(["-DPAUSES"] if pauses else [])]
    shutil.copy(shared_library(MADE_UP_MODULE, tmp_path, *options), module)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ctypes"
        + STEP
        + """
made_up = ctypes.CDLL(sys.argv[2])
def number(name):
    return ctypes.c_int.in_dll(made_up, name)
fusedopt.set_threading_layer("openmp")
ctypes.c_void_p.in_dll(made_up, "watched").value = p.ctypes.data
assert step()
print(list((ctypes.c_int * 8).in_dll(made_up, "changed"))[:4], number("asked").value)
number("present").value = 1
assert step()
number("size").value = number("present").value = 5
assert step() and step()
print(number("asked").value)
if os.fork() == 0:
    os._exit(0 if step() else 1)
print(os.wait()[1], number("pauses").value)
assert step()
print(number("asked").value)
"""
    )
    lines = output_of(code, str(tmp_path), str(module), FUSEDOPT_THREADING_LAYER="").splitlines()
    assert lines == ["[0, 200000, 0, 0] 3", "1", f"0 {int(pauses)}", "4" if pauses else "1"]


@needs_linux
@pytest.mark.parametrize("content", [None, b"not a library"])
def test_without_its_module(tmp_path: Path, content: bytes | None) -> None:
    """By name it's an error that says so; auto does without, also where a runtime is at hand."""
    # Which isn't UTF-8; from 3.12 on Python loads no module from such a folder.
    odd = tmp_path / ("café" if sys.version_info >= (3, 12) else os.fsdecode(b"caf\xe9"))
    module = copy_without_its_module(odd)
    if content:
        module.write_bytes(content)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        + WITH_A_RUNTIME
        + STEP
        + """
try:
    fusedopt.set_threading_layer("openmp")
except RuntimeError as error:
    print(os.fsencode(str(error)))
print("openmp" in seen_beside_blas(200))
"""
    )
    first, second = output_of(code, str(odd), FUSEDOPT_THREADING_LAYER="").splitlines()
    message = eval(first)
    assert message.startswith(
        b"threading layer 'openmp': " + os.fsencode(module.parent) + b"/_openmp"
    )
    assert (b": file too short" if content else b": No such file or directory") in message
    assert second == "False"
