"""Contract: every threading layer gives the same bits, is there where it can be, or says why not.

The automatic one's decisions are in test_automatic.py.
"""

import ctypes
import ctypes.util
import itertools
import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, copies, random_arrays
from fusedopt import _core
from layers import BUILT, STEP, active
from subprocesses import output_of, run_python

NAMES = ["auto", "pool", "openmp", "serial"]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


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


@pytest.mark.parametrize("name", ["auto", *BUILT])
def test_one_thread_is_no_layer(name: str) -> None:
    fusedopt.set_threading_layer(name)
    fusedopt.set_num_threads(1)
    assert active() == "serial"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64", "arm64"), reason="needs a known processor"
)
@pytest.mark.parametrize("name", ["auto", *BUILT])
def test_no_floating_point_flag_is_left(name: str) -> None:
    """Neither by kernels nor by what auto reckons: others may ask for theirs."""
    math, every_one = ctypes.CDLL(ctypes.util.find_library("m")), 0x3F  # on x86-64
    fusedopt.set_threading_layer(name)
    fusedopt.set_num_threads(2)
    grads = [np.full(100_000, 1 / 3, np.float32)]
    opt = fusedopt.Adam([np.ones(100_000, np.float32)])
    left = 0
    for _ in range(50):
        math.feclearexcept(every_one)
        opt.step(grads)
        left |= math.fetestexcept(every_one)
    assert left == 0


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
    for limit, threads in ((1, 1), (0, 1), (2000, 1024)):  # as other libraries take them
        with threadpoolctl.threadpool_limits(limit):
            assert fusedopt.get_num_threads() == threads
    assert fusedopt.get_num_threads() == 3
