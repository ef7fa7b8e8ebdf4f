"""So many random runs of the fuzzer for each instruction set: python tests/fuzz 1000."""

import os
import subprocess
import sys
from pathlib import Path

import fusedopt

TEST = Path(__file__).parents[1] / "test_fuzz.py"


def main(examples: str) -> int:
    failed = 0
    for name in fusedopt.show_config(mode="dict")["instruction sets"]["available"]:
        print(f"FUSEDOPT_ISA={name}", flush=True)
        environment = {**os.environ, "FUSEDOPT_ISA": name, "FUSEDOPT_FUZZ": examples}
        command = [sys.executable, "-m", "pytest", "-q", "-s", str(TEST)]
        failed |= subprocess.run(command, env=environment, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "1000"))
