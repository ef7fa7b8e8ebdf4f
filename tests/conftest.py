"""Settings of the whole library are put back after every test."""

from collections.abc import Iterator

import pytest

import fusedopt
from fusedopt import _core

DEFAULT_GRID = {"chunk": 8192, "serial_below": 32768}


@pytest.fixture(autouse=True)
def _restore_settings() -> Iterator[None]:
    threads = fusedopt.get_num_threads()
    yield
    fusedopt.set_num_threads(threads)
    fusedopt.set_flush_denormal(True)
    _core.set_grid(**DEFAULT_GRID)
