"""Loads the native module, and with it the OpenMP runtime, in an environment that suits both.

OpenMP runtimes take their settings from the environment once, when they are loaded. Only for that
moment:

- ``OMP_NUM_THREADS`` is hidden where it is no list of positive numbers. LLVM's runtime ends the
  process over some such values.
- Waiting threads are told to fall asleep soon, unless the user has a setting of their own. By
  default GNU's runtime spins for milliseconds and LLVM's for 200 of them, which pays only while
  nobody else wants the processor. But the threads of NumPy's BLAS do: they spin, too, after each
  matrix product. On two cores, a step of a million elements between two products took 1.9 ms, and
  the product after it 6.1 ms instead of 2.7; with threads that sleep it is 0.7 ms and 2.7 ms. In a
  loop of steps alone, where waits are shorter than this, nothing was lost.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# GNU counts turns of a loop, a thousand of which take 20 to 60 us; LLVM milliseconds.
_WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


def _settings() -> dict[str, str | None]:
    """Return what to change in the environment; None stands for a variable to hide."""
    changes: dict[str, str | None] = {}
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and not re.fullmatch(
        r"\s*0*[1-9]\d{0,8}\s*(,\s*0*[1-9]\d{0,8}\s*)*", threads
    ):
        changes["OMP_NUM_THREADS"] = None
    if not os.environ.keys() & {"OMP_WAIT_POLICY", *_WAITING}:
        changes |= _WAITING
    return changes


@contextmanager
def _environment(changes: dict[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set(changes)
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


with _environment(_settings()):
    from . import _core as _core
