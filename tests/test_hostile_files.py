"""Contract: a hostile file is a ValueError, changes nothing, and takes no memory.

Every part of good files replaced by values of every type that JSON has, missing, twice, or under
another name, all with right checksums; and bytes at random. Loaded by a process that may have 32
MiB more than it takes to begin with. What is loaded must mean what the file says.

One file of 16, and 1,500 at random; with FUSEDOPT_HOSTILE_FILES=N all of them, and N at random, and
with FUSEDOPT_SEED=K others.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_hostile_files(tmp_path: Path) -> None:
    mutations = int(os.environ.get("FUSEDOPT_HOSTILE_FILES", "0"))
    seed = os.environ.get("FUSEDOPT_SEED", "0")
    one_of = "1" if mutations else "16"
    worker = Path(__file__).with_name("hostile_worker.py")
    arguments = [str(tmp_path), one_of, str(mutations or 1500), seed]
    done = subprocess.run(
        [sys.executable, worker, *arguments], capture_output=True, text=True, timeout=3000
    )
    last = done.stderr[-3000:]
    assert done.returncode == 0, last
    result = json.loads(done.stdout)
    print({key: value for key, value in result.items() if key != "wrong"})
    assert result["wrong"] == []
    assert result["distinct"] >= 1500
    assert result["made"] >= 500
    assert result["refused"] >= 1000
    assert result["loaded"] >= 20  # what isn't wrong isn't refused
    assert result["grown"] < 32 << 20
