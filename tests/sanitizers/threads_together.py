"""For ThreadSanitizer: every entry point, on several threads at once."""

import threading
from pathlib import Path

import pytest

import fusedopt
from entry_points import ENTRY_POINTS

WITHOUT_OBJECT = {"functional", "global_norm", "functions over files"}


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_threads(name: str, together: bool, tmp_path: Path) -> None:
    if name in WITHOUT_OBJECT:
        together = False  # whose arrays are the caller's, who would have to lock them
    fusedopt.set_num_threads(3)
    make = ENTRY_POINTS[name]
    works = [make(tmp_path)] * 4 if together else [make(tmp_path) for _ in range(4)]
    failed = []

    def repeat(work) -> None:
        for _ in range(6):
            try:
                work()
            except RuntimeError as error:
                if "not inside" not in str(error):
                    failed.append(error)

    threads = [threading.Thread(target=repeat, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
