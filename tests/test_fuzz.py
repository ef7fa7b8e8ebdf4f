"""Contract: whatever is done to an optimizer, in any order, its reference is the same by bits.

The quick run is the same each time. FUSEDOPT_FUZZ=1000 takes so many random runs of up to 50
operations and prints how often each was done; `python tests/fuzz 1000` does so for every
instruction set of this machine.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fuzz.base import COUNTS
from fuzz.machine import Machine

EXAMPLES = int(os.environ.get("FUSEDOPT_FUZZ", "0"))


def test_every_operation_in_any_order() -> None:
    COUNTS.clear()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 150,
            stateful_step_count=50 if EXAMPLES else 40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    for what, count in sorted(COUNTS.items()):
        print(f"{count:9,} {what}")
    print(f"{COUNTS.total():9,} operations")
    if not EXAMPLES:  # a few random ones may be short
        assert COUNTS.total() >= 3000
        assert COUNTS["step, taken"] >= 450
