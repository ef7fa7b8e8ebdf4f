"""Meeting a call while it runs, from another thread."""

import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def until_it_is_met(begin: Callable[[], None], step: Callable[[], Any], meet: Callable) -> int:
    """Begin and step until meet() has run on another thread within a step; return how many.

    Threads take turns only where one of them gives the GIL up: the other waits for it from before
    the step on, and gets it as soon as the step does; on a busy machine it may come too late for
    many steps.
    """
    inside = met = done = False
    deadline = time.monotonic() + 60

    def other() -> None:
        nonlocal met
        while not done:
            if inside and not met:
                meet()
                met = True
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=other)
    thread.start()
    try:
        for count in itertools.count(1):
            begin()
            inside = True
            step()
            inside = False
            if met:
                return count
            assert time.monotonic() < deadline, "no step let another thread run"
    finally:
        done = True
        thread.join()
        sys.setswitchinterval(interval)
