"""Python in a process of its own, for what is settled when a process starts or ends."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


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


def stepping_threads(optimizer: Any, grads: Any, threads: int, steps: int) -> None:
    """Let threads step at the same time; each has to end, and none may fail."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(steps):
                optimizer.step(grads)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors, errors


def output_of(code: str, *arguments: str, timeout: float = 300, **environment: str) -> str:
    """Return what code prints; it must succeed."""
    done = run_python(code, *arguments, timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
