"""All that a training step does behind backpropagation: fused, and as passes of their own.

Gradients are divided by a loss scale, clipped by their norm and, once AdamW has used them, zeroed;
an average of the parameters follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fusedopt
from fusedopt.functional import ema_, global_norm

from .contest import Contestant, WithOptimizer
from .peers import peer_module
from .workloads import RULES, Arrays, make_optimizer

RULE = "AdamW"
LOSS_SCALE = 1024.0
MAX_NORM = 1.0
DECAY = 0.999

#: What each pass loads and stores, in arrays.
PASSES: dict[str, dict[str, int]] = {
    "fused": {"norm": 1, "all else: p, m, v, average and gradient, to and fro": 10},
    "separate": {"unscale": 2, "norm": 1, "clip": 2, "AdamW": 7, "average": 3, "zero": 1},
}


def bytes_per_element(implementation: str) -> int:
    """Return how many bytes of float32 arrays are loaded and stored for each element."""
    return 4 * sum(PASSES["fused" if implementation == "fused" else "separate"].values())


class Fused(WithOptimizer):
    """One call."""

    def bare_step(self) -> Callable[[], object]:
        return partial(
            self.optimizer.step,
            self.grads,
            loss_scale=LOSS_SCALE,
            max_norm=MAX_NORM,
            zero_grads=True,
        )


class Separate(WithOptimizer):
    """Each pass alone: our own kernels, and NumPy on as many threads where it does the same."""

    def __init__(self, optimizer: Any, params: Arrays, grads: Arrays) -> None:
        super().__init__(optimizer, params, grads)
        self._averages = [p.copy() for p in params]
        self._pool = ThreadPoolExecutor(fusedopt.get_num_threads())

    def bare_step(self) -> Callable[[], object]:
        return self._step

    def _step(self) -> None:
        tiles = list(_tiles(self.grads))
        self._on_all_threads(partial(_scale, 1 / LOSS_SCALE), tiles)
        norm = global_norm(self.grads)
        self._on_all_threads(partial(_scale, min(1.0, MAX_NORM / (norm + 1e-6))), tiles)
        self.optimizer.step(self.grads)
        ema_(self._averages, self.params(), decay=DECAY)
        self._on_all_threads(_zero, tiles)

    def _on_all_threads(
        self, function: Callable[[Arrays], None], tiles: list[npt.NDArray[Any]]
    ) -> None:
        count = fusedopt.get_num_threads()
        if count == 1:
            function(tiles)
            return
        list(self._pool.map(function, [tiles[k::count] for k in range(count)]))


def _tiles(arrays: Arrays) -> Iterator[npt.NDArray[Any]]:
    """Yield pieces of a megabyte, so that threads have equal shares."""
    for array in arrays:
        flat = array.reshape(-1)
        for at in range(0, flat.size, 1 << 18):
            yield flat[at : at + (1 << 18)]


def _scale(factor: float, tiles: Arrays) -> None:
    for tile in tiles:
        np.multiply(tile, tile.dtype.type(factor), out=tile)


def _zero(tiles: Arrays) -> None:
    for tile in tiles:
        tile.fill(0)


def make(implementation: str, params: Arrays, grads: Arrays, threads: int) -> Contestant:
    """Return a contestant: "fused", "separate passes" or "torch"."""
    if implementation == "torch":
        torch = peer_module("torch fused")
        torch.set_threads(threads)
        contestant: Contestant = torch.WholeStep(params, grads)
        return contestant
    if implementation == "fused":
        optimizer, options = RULES[RULE]
        averaged = getattr(fusedopt, optimizer)(params, ema_decay=DECAY, **options)
        return Fused(averaged, params, grads)
    return Separate(make_optimizer(fusedopt, RULE, params), params, grads)
