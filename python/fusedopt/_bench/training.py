"""Whole training loops with torch: what of them is the optimizer's step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

Call = Callable[[], object]

#: Parameters of networks with two hidden layers that are trained with torch, about.
NETWORKS = (85_000, 301_000, 1_100_000, 4_300_000)


@dataclass
class Training:
    """Seconds in the optimizer's step, in each round of a whole training loop."""

    parameters: int
    ours: list[float]
    theirs: list[float]

    def ratio(self) -> float:
        """Return how many times as long torch's takes, in a median round."""
        return median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def train(parameters: int, seconds: float) -> Training:
    """Train two equal networks in turn, one with our Adam and one with torch's, fused."""
    import torch

    import fusedopt.torch

    torch.set_num_threads(fusedopt.get_num_threads())
    torch.manual_seed(0)
    width = round((math.sqrt(796**2 + 4 * parameters) - 796) / 2)
    x, y = torch.randn(64, 784), torch.randint(10, (64,))

    def network() -> Any:
        nn = torch.nn
        hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(width, 10))

    def side(make_step: Callable[[list[Any]], Call]) -> Callable[[], list[float]]:
        net = network()
        params = list(net.parameters())
        step = make_step(params)

        def run() -> list[float]:
            times = []
            for _ in range(25):
                for p in params:
                    p.grad = None
                torch.nn.functional.cross_entropy(net(x), y).backward()
                begin = time.perf_counter()
                step()
                times.append(time.perf_counter() - begin)
            return times[5:]

        return run

    def ours(params: list[Any]) -> Call:
        step: Call = fusedopt.torch.Adam(params).step
        return step

    def theirs(params: list[Any]) -> Call:
        step: Call = torch.optim.Adam(params, fused=True).step
        return step

    contestants = (side(ours), side(theirs))
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for k in (0, 1) if len(times[0]) % 2 else (1, 0):
            times[k].append(median(contestants[k]()))
    return Training(width**2 + 796 * width + 10, *times)
