"""Contract: the pool, and the layers around it, are right in every order of atomic operations.

tests/native/pool_orders.cpp runs it in orders that random numbers choose, the same ones each time.
A weaker order, an exchange that is a load and a store, a wake-up too few: each is found within some
thousands of runs. FUSEDOPT_STRESS=50 is ten times as many.
"""

import os
import subprocess
from pathlib import Path

import pytest

from native_programs import COMPILER, built

RUNS = "3000" if int(os.environ.get("FUSEDOPT_STRESS", "0")) < 50 else "30000"


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_every_order(tmp_path: Path) -> None:
    program = built("pool_orders", tmp_path)
    done = subprocess.run([program, RUNS], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    scenarios = ["callers", "all are needed", "a fork"]
    assert done.stdout == "".join(f"{name}: {RUNS} runs\n" for name in scenarios)
