"""Two contestants in turn: what travels from machine to machine is the ratio of their times."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .contest import Contestant

#: Steps in a row: with fewer, each would find the caches full of what the other left behind.
STEPS = 20
#: Long enough for threads that wait by spinning, as those of OpenMP do, to fall asleep.
REST = 0.015


@dataclass(frozen=True)
class Paired:
    """Seconds per step, medians; and how many times as long theirs take, in a median round."""

    ours: float
    theirs: float
    ratio: float
    low: float  # quartiles of the ratio
    high: float
    rounds: int


def measure_pair(
    ours: Contestant, theirs: Contestant, *, seconds: float, fresh: bool = False, threads: int = 1
) -> Paired:
    """Run both in turn for about so many seconds, and at least five rounds.

    Each comes first in every other round, and takes a step that isn't timed before those that are.
    """
    sides = (ours, theirs)
    once = [min(_block(side, 1, fresh) for _ in range(2)) for side in sides]
    steps = int(np.clip(0.2 / max(once), 2, STEPS))
    rest = REST if threads > 1 else 0.0
    per_round = (steps + 1) * sum(once) + 2 * rest
    rounds = int(np.clip(seconds / per_round, 5, 60))
    times = np.empty((rounds, 2))
    for k in range(rounds):
        for side in (0, 1) if k % 2 else (1, 0):
            time.sleep(rest)
            _block(sides[side], 1, fresh)
            times[k, side] = _block(sides[side], steps, fresh) / steps
    low, ratio, high = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
    first, second = np.median(times, axis=0)
    return Paired(float(first), float(second), float(ratio), float(low), float(high), rounds)


def _block(side: Contestant, steps: int, fresh: bool) -> float:
    return side.run_fresh(steps) if fresh else side.run(steps)
