"""Contract: `import fusedopt` brings NumPy and nothing else, and a front says what it lacks."""

import pytest

from subprocesses import output_of, run_python

BROUGHT = """
import sys
import numpy
before = {*sys.modules}
import fusedopt
names = {name.partition(".")[0] for name in {*sys.modules} - before}
print(*sorted(names - sys.stdlib_module_names))
"""

FRONTS = ["autograd", "jax", "sklearn", "thinc", "torch"]  # named as what they are for


def test_nothing_else_is_imported() -> None:
    # threadpoolctl, where it is, is told of our threads.
    assert set(output_of(BROUGHT).split()) - {"numpy", "threadpoolctl"} == {"fusedopt"}


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_without_its_library(front: str) -> None:
    code = f"import sys; sys.modules[{front!r}] = None; import fusedopt.{front}"
    done = run_python(code)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: ")
    assert front in last
