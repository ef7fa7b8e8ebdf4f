"""Contract: what the lists of mutation testing name is there: no edit can leave them behind.

The mutants themselves are tried by `python tests/mutation/run.py`, which takes long.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "mutation"


def mutants() -> list[str]:
    code = "import run; print(*(mutant.name for mutant in run.all_mutants()), sep='\\n')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def listed(name: str) -> list[str]:
    code = f"import lists; print(*lists.{name}(), sep='\\n')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_mutant_of_a_list_is_there() -> None:
    names = mutants()
    assert len(names) == len(set(names)) > 1000
    assert set(listed("equivalent")) <= set(names)
    assert set(listed("quick")) <= set(names)
