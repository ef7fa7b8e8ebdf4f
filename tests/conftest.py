"""Settings of the whole library are put back after every test."""

import os
from collections.abc import Iterator

import pytest

import fusedopt
from fusedopt import _core
from layers import BUILT, HAS_POOL

# Threads have their part in each step, where the automatic layer may find that they don't help.
# Child processes have the same. FUSEDOPT_THREADING_LAYER=openmp runs all tests on that one.
fusedopt.set_threading_layer(
    os.environ.setdefault("FUSEDOPT_THREADING_LAYER", "pool" if HAS_POOL else BUILT[-1])
)

DEFAULT_GRID = {"chunk": 8192, "serial_below": 32768}


@pytest.fixture(autouse=True)
def _restore_settings() -> Iterator[None]:
    threads, layer = fusedopt.get_num_threads(), fusedopt.get_threading_layer()
    yield
    fusedopt.set_num_threads(threads)
    fusedopt.set_threading_layer(layer)
    fusedopt.set_flush_denormal(True)
    _core.set_grid(**DEFAULT_GRID)
    _core.set_asks_ahead(None)
