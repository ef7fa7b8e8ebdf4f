"""What all rules of the machine share."""

import collections
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

import fusedopt
from fusedopt import _core

from . import options
from .pair import Pair, assign, outcome

#: How often each thing was done.
COUNTS: collections.Counter[str] = collections.Counter()

SEEDS = st.integers(0, 2**32 - 1)


class Base(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        fusedopt.set_flush_denormal(False)
        self.saved: list[tuple[Any, Any]] = []
        self.files: list[tuple[Path, Path]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="fusedopt-fuzz-"))

    def teardown(self) -> None:
        fusedopt.set_flush_denormal(True)
        fusedopt.set_num_threads(1)
        _core.set_grid(chunk=8192, serial_below=32768)
        shutil.rmtree(self.folder)

    @initialize(
        seed=SEEDS,
        cls=st.sampled_from(options.CLASSES),
        bound=st.booleans(),
        named=st.booleans(),
        in_files=st.sampled_from([False, False, True]),
    )
    def make(self, seed: int, cls: str, bound: bool, named: bool, in_files: bool) -> None:
        state_dir = self.folder / "state" if in_files else None
        self.pair = Pair(np.random.default_rng(seed), cls, bound, named, state_dir)
        COUNTS[f"make{', state in files' if in_files else ''}"] += 1

    @invariant()
    def both_are_the_same(self) -> None:
        if hasattr(self, "pair"):
            self.pair.require_same()

    def _step(self, rng: np.random.Generator, chosen: dict[str, Any]) -> None:
        became = self.pair.step(rng, chosen)
        COUNTS[f"step{' with options' if chosen else ''}, {became}"] += 1
        if became == "refused" and chosen.get("on_nonfinite") != "raise":
            self.pair.make_fitting(rng)

    def _misfits(self) -> bool:
        """Whether a step would be refused for hyperparameters, whatever the gradients."""
        opt = self.pair.theirs
        for group in opt.param_groups:
            values, error = outcome(lambda g=group: g.values_at(opt.completed_steps))
            if error or outcome(lambda g=group, v=values: opt._rule(v, g.unasked()[1]))[1]:
                return True
        return False

    def _assign(self, rng: np.random.Generator, name: str, value: Any) -> bool:
        k = int(rng.integers(len(self.pair.ours.param_groups)))
        return self.pair.both(lambda opt: assign(opt, k, name, value))[2]
