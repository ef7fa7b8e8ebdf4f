"""Python in a process of its own, for what is settled when a process starts or ends."""

import os
import subprocess
import sys
from pathlib import Path


def run_python(
    code: str, *arguments: str, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code, which can import the tests' modules."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=os.environ | {"PYTHON_COLORS": "0"} | environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def own_memory(kind: str) -> int:
    """Return the bytes that Linux counts for this process: VmRSS, VmSize or VmData."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) << 10


def output_of(code: str, *arguments: str, timeout: float = 300, **environment: str) -> str:
    """Return what code prints; it must succeed."""
    done = run_python(code, *arguments, timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
