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
        env=os.environ | environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def output_of(code: str, *arguments: str, **environment: str) -> str:
    """Return what code prints; it must succeed."""
    done = run_python(code, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
