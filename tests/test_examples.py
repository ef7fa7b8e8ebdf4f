"""Contract: every example runs, and says what it is there to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "examples"

# What each has to print. train_digits.py needs more than the tests do: .ci/run runs it.
EXAMPLES = {
    "groups.py": ["Same parameters, bit for bit: True", "99.0% correct"],
    "schedules.py": ["Warmup, then a cosine", "0.400     0.900"],
    "mixed_precision.py": ["skipped, scale to 8,388,608", "301 tries, 297 completed steps"],
    "averaged_weights.py": ["they are back, bit for bit: True", "And so is the average: True"],
    "telemetry.py": ["A NaN was found", "300 completed steps; all parameters are finite: True"],
    "checkpoints.py": [
        "bit for bit: True",
        "a truncated file: damaged",
        "nothing has changed: True",
    ],
    "larger_than_memory.py": ["State in files: 89", "the optimizer's state:             16 MB"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / name)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for text in EXAMPLES[name]:
        assert text in done.stdout


def test_all_are_tested() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {*EXAMPLES, "train_digits.py"}
