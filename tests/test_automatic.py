"""Contract: the automatic threading layer costs next to nothing, and finds the layer that helps.

tests/native/automatic.cpp runs its decisions in companies that are made up; the last test is real.
"""

import os
import subprocess
from typing import NamedTuple

import pytest

from layers import HAS_OPENMP, HAS_POOL
from native_programs import COMPILER, built
from subprocesses import output_of


class Outcome(NamedTuple):
    """Shares of the jobs, and what one took in the mean, in times of one thread's that is alone."""

    pool: float
    openmp: float
    serial: float
    time: float


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    program = built("automatic", tmp_path_factory.mktemp("native"))
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    companies = (line.split(": ") for line in lines.splitlines())
    return {name: Outcome(*map(float, numbers.split())) for name, numbers in companies}


# The layer that most jobs go to, which share of them, and the longest that they may take. What
# would be best: a little less.
EXPECTED = {
    "alone": ("pool", 1, 0.61),
    "alone with hiccups": ("pool", 0.99, 0.75),
    "torch": ("openmp", 0.98, 0.57),
    "torch, long jobs": ("openmp", 0.99, 0.56),
    "torch, where the pool helps a little": ("openmp", 0.98, 0.51),
    "BLAS": ("serial", 0.98, 1.04),
    "BLAS that pauses": ("pool", 0.7, 0.96),  # 0.91 on the pool alone
    "busy cores": ("serial", 0.95, 1.09),  # 1.06 on one thread, 1.24 on the pool, 2.6 on OpenMP
    "its core is shared": ("pool", 0.99, 1.21),  # 1.6 on one thread
    "torch, then alone": ("pool", 0.49, 0.54),
    "alone, then BLAS": ("pool", 0.5, 0.81),
    "no runtime": ("serial", 0.98, 1.01),
    "no pool": ("openmp", 1, 0.51),
    "no pool, BLAS": ("serial", 0.99, 1.04),
}


@pytest.mark.parametrize("company", EXPECTED)
def test_companies(outcomes: dict[str, Outcome], company: str) -> None:
    assert set(outcomes) == set(EXPECTED)
    layer, share, longest = EXPECTED[company]
    outcome = outcomes[company]
    assert getattr(outcome, layer) >= share
    assert outcome.time <= longest
    assert outcome.pool + outcome.openmp + outcome.serial == pytest.approx(1, abs=2e-4)


@pytest.mark.timed
@pytest.mark.skipif(not (HAS_POOL and HAS_OPENMP), reason="needs the pool and OpenMP")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_beside_torch() -> None:
    """Its threads keep the cores for a while after each of its operations."""
    pytest.importorskip("torch", reason="torch: in extra 'peers'")
    code = """
import torch, numpy as np, fusedopt
from collections import Counter
from layers import active
torch.set_num_threads(2)
fusedopt.set_num_threads(2)
x = torch.ones(512, 512)
p, g = np.ones(300_000, np.float32), np.ones(300_000, np.float32)
opt = fusedopt.Adam([p])
seen = Counter()
for _ in range(500):
    x @ x
    seen[active()] += 1
    opt.step([g])
print(seen["openmp"])
"""
    assert int(output_of(code, FUSEDOPT_THREADING_LAYER="auto")) > 50
