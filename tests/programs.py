"""The system's programs, for what is run as a script."""

import os
import shutil
import subprocess


def output(*command: object, **more: str) -> str:
    """Run it, and return what it printed; or print that, and end."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=os.environ | more, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}failed: {' '.join(words)}")
    return done.stdout.strip()


def need(program: str, package: str) -> str:
    """Return where it is, or end with what to install; on Debian it is installed if we are root."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        output("apt-get", "update", "-qq")
        output("apt-get", "install", "-y", "-qq", package)
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is needed: on Debian, install {package}")
    return found
