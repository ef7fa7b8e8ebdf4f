"""Contract: nothing is read or written beside an array, whatever its size, side and options.

Parameters, gradients and states lie so that they end, or begin, at a page that nobody may touch:
a process that does is ended. FUSEDOPT_GUARD_PAGES=1 is the long run: more sizes, every side of each
stream, and several distances from the page.
"""

import os
import signal
import sys

import pytest

from subprocesses import run_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")

LONG = bool(os.environ.get("FUSEDOPT_GUARD_PAGES"))


@pytest.mark.parametrize("side", ["end", "begin"])
@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
def test_a_guard_is_one(side: str, writes: bool) -> None:
    """Else the test below would prove nothing."""
    code = """
import ctypes, sys
import numpy as np
from guarded_memory import Guarded
side, writes = sys.argv[1], sys.argv[2] == "True"
array = Guarded(4000).array(np.arange(1.0, 8.0), side)
assert array.sum() == 28
beside = array.ctypes.data + (array.nbytes if side == "end" else -8)
element = ctypes.c_double.from_address(beside)
print("here", flush=True)
if writes:
    element.value = 0.0
print("read", element.value)
"""
    done = run_python(code, side, str(writes))
    assert done.stdout == "here\n"
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS), done.stderr


def test_what_is_written_beside_is_seen() -> None:
    code = """
import numpy as np
from guarded_memory import Store
for side, at in ("end", 1000), ("begin", 8):
    store = Store()
    array, = store.copies([np.ones(3)], side, gap=1)
    assert store.take_back() == 1
    array, = store.copies([np.ones(3)], side, gap=1)
    place = store._taken[0]
    beside = place.size - 8 if side == "end" else 0
    place.bytes[beside] = 0
    try:
        store.take_back()
    except AssertionError as error:
        print(error)
"""
    done = run_python(code)
    assert done.stdout == "written beside an array\n" * 2, done.stderr


def test_nothing_is_touched_beside_an_array() -> None:
    code = "import sys; from guarded_calls import run; run(sys.argv[1] == 'True')"
    done = run_python(code, str(LONG), timeout=7200 if LONG else 1800, PYTHONFAULTHANDLER="1")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    counts: dict[str, int] = {}
    for line in done.stdout.splitlines():
        count, what = line.split(" ", 1)
        counts[what] = int(count.replace(",", ""))
    assert counts["calls of a rule"] >= 300
    assert counts["steps of an optimizer"] >= 300
    assert counts["arrays guarded"] >= 100_000
