"""Contract: the automatic threading layer costs next to nothing, and finds the layer that helps.

tests/native/automatic.cpp runs its decisions in companies that are made up; the last test is real.
The rule stands once more here, as a reference for random ones.
"""

import os
import random
import subprocess
from pathlib import Path
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
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    return built("automatic", tmp_path_factory.mktemp("native"))


def output_for(program: Path, what: str, lines: list[str]) -> list[str]:
    """Return the lines that it prints for those that it reads."""
    done = subprocess.run(
        [program, what], input="\n".join(lines), check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def outcomes(program: Path) -> dict[str, Outcome]:
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


class Trial:
    """What has been seen of a layer."""

    def __init__(self) -> None:
        self.recently = 0.0
        self.account = 8.0
        self.in_vain = self.pause = self.last_pause = 0
        self.strictness = 16

    def saw(self, time: float, enough: float, alone: float, patience: int) -> None:
        self.recently = self.recently + (time - self.recently) / 4 if self.recently else time
        self.account = min(self.account + alone - time, 256)
        if self.account == 256:
            self.strictness = 16
        if time < enough:
            self.in_vain = self.last_pause = 0
        else:
            self.in_vain += 1
            if self.in_vain >= patience:
                self.pause = self.last_pause = min(2 * self.last_pause + 1, 255)
        if self.pause or self.account < -4:
            self.in_vain = 0
            if self.account < 0:
                self.pause += int(self.strictness * min(-self.account, 1000))
                self.strictness = min(2 * self.strictness, 128)
                self.account = 0.0


class Automatic:
    """Which layer a job goes to."""

    def __init__(self) -> None:
        self.pool, self.openmp = Trial(), Trial()
        self.alone = 1.0

    def next(self) -> str:
        """Return it where all are there."""
        if not self.pool.pause:
            return "pool"
        return "serial" if self.openmp.pause else "openmp"

    def job(self, times: dict[str, float], has: dict[str, bool], waking: int) -> str:
        helps = 0.9 * self.alone
        if has["pool"] and not self.pool.pause:
            other = self.openmp.recently
            enough = min(helps, 1.1 * other) if other else helps
            self.pool.saw(times["pool"], enough, self.alone, waking)
            return "pool"
        self.pool.pause = max(self.pool.pause - 1, 0)
        if has["openmp"] and not self.openmp.pause:
            self.openmp.saw(times["openmp"], helps, self.alone, waking)
            return "openmp"
        self.openmp.pause = max(self.openmp.pause - 1, 0)
        self.alone += (min(2.0, times["serial"]) - self.alone) / 4
        return "serial"


#: What jobs may take; each company has some of them.
TIMES = (0.4, 0.5, 0.625, 0.9, 0.95, 1, 1, 1.0625, 1.25, 3, 5, 17, 60, 300, 1500)


def test_random_companies(program: Path) -> None:
    """Decides as the rule says, whatever jobs take; companies change now and then."""
    chosen = set()
    for seed in range(40):
        choose = random.Random(seed)
        expected, lines, company = Automatic(), [], {}
        layers = []
        for k in range(4000):
            if k % 500 == 0:
                # Mostly mixed; some help, and go on helping, for long.
                company = {
                    name: [0.4] if choose.random() < 0.2 else choose.choices(TIMES, k=3)
                    for name in ("pool", "openmp")
                }
                company["serial"] = [1] if choose.random() < 0.6 else choose.choices(TIMES, k=3)
                has = {name: choose.random() < 0.8 for name in ("pool", "openmp")}
                waking = choose.randint(1, 4)
            times = {name: float(choose.choice(among)) for name, among in company.items()}
            layers.append((expected.job(times, has, waking), expected.alone))
            numbers = (*times.values(), int(has["pool"]), int(has["openmp"]), waking)
            lines.append(" ".join(map(str, numbers)))
        decided = [line.split() for line in output_for(program, "jobs", lines)]
        assert [(name, float(alone)) for name, alone in decided] == layers
        chosen |= {name for name, _ in layers}
    assert chosen == {"pool", "openmp", "serial"}


def expected_pace(expected: int, times: list[int]) -> int:
    """Return the median of up to eight chunks, spread over as many as were expected."""
    seen = sorted(times[:: expected // 8 + 1][:8])
    return seen[(len(seen) - 1) // 2] if len(seen) > 1 else 0


def test_pace(program: Path) -> None:
    """What a chunk takes on this thread, by a few of those that it did."""
    choose = random.Random(0)
    lines, wanted = [], []
    for expected in range(40):
        for count in (0, 1, 2, 3, 7, 8, 9, expected, 2 * expected, 100):
            times = [choose.randint(1, 10**6) for _ in range(count)]
            lines.append(" ".join(map(str, (expected, count, *times))))
            wanted.append(expected_pace(expected, times))
    assert list(map(int, output_for(program, "pace", lines))) == wanted
    assert 0 in wanted


def test_experience(program: Path) -> None:
    """What a job takes is counted in times of what the thread would have taken at its own pace."""
    layers = ("pool", "openmp", "serial")
    chosen = set()
    for seed in range(20):
        choose = random.Random(seed)
        expected, lines, decided = Automatic(), [], []
        pace, last = 0, -1
        for k in range(3000):
            if k % 500 == 0:
                company = {name: choose.choices((0.3, 0.5, 1, 1.2, 5, 70), k=2) for name in layers}
                each_of = choose.choices((3, 1000, 40_000), k=2)
            kind, count = choose.choices((0, 1), (3, 1))[0], choose.choice((2, 5, 100))
            on = {}
            for name in layers:
                chunks, each = choose.choice((0, 1, 2, 5)), each_of[kind]
                whole = int(count * each * choose.choice(company[name]))
                on[name] = (whole, int(choose.random() < 0.8), chunks, each)
            lines.append(" ".join(map(str, (kind, count, *sum(on.values(), ())))))

            layer = expected.next()
            whole, shared, chunks, each = on[layer]
            pace = each if chunks > 1 else pace if kind == last else 0
            known = pace > 0 and (shared or layer == "serial")
            time = whole / (count * pace) if known else expected.alone
            patience = min(max(1_000_000 // (whole + 1), 1), 4)
            expected.job(dict.fromkeys(layers, time), {"pool": True, "openmp": True}, patience)
            last = kind
            decided.append((layer, expected.alone))
        printed = [line.split() for line in output_for(program, "experience", lines)]
        assert [(name, float(alone)) for name, alone in printed] == decided
        chosen |= {name for name, _ in decided}
    assert chosen == set(layers)


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
