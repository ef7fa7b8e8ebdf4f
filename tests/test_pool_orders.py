"""Contract: the pool is right in every order of its atomic operations.

tests/native/pool_orders.cpp runs it in orders that random numbers choose, the same ones each time.
A weaker order, an exchange that is a load and a store, a wake-up too few: each is found within some
thousands of runs. FUSEDOPT_STRESS=50 is ten times as many.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
RUNS = "3000" if int(os.environ.get("FUSEDOPT_STRESS", "0")) < 50 else "30000"


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_every_order(tmp_path: Path) -> None:
    made = os.environ.get("FUSEDOPT_POOL_ORDERS")  # by tests/mutation, of the pool's mutants
    program = Path(made) if made else _built(tmp_path / "pool_orders")
    done = subprocess.run([program, RUNS], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    scenarios = ["callers", "all are needed", "a fork"]
    assert done.stdout == "".join(f"{name}: {RUNS} runs\n" for name in scenarios)


def _built(program: Path) -> Path:
    source = ROOT / "tests" / "native" / "pool_orders.cpp"
    include = [f"-I{ROOT / 'csrc'}", f"-I{source.parent}"]
    options = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror"]
    assert COMPILER is not None
    subprocess.run([COMPILER, *options, *include, source, "-o", program], check=True)
    return program
