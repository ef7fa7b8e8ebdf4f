"""What the soak is made of: lives of optimizers, each checked against the reference by ==."""

import copy
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fusedopt
from cases import CASES, Case
from fusedopt import schedules

SIZES = {"small": [(3, 5), 7, (), (2, 0), 33], "large": [17, 40_001, (300, 200)]}


class Life:
    """An optimizer, the reference beside it, and everything that may happen to both."""

    def __init__(self, seed: int, sizes: str, folder: Path) -> None:
        self.random, self.rng = random.Random(seed), np.random.default_rng(seed)
        self.file = folder / f"{seed % 1000}-{sizes}.safetensors"
        self.dtype = self.random.choice([np.float32, np.float64])
        self.case: Case = self.random.choice(CASES)
        more: dict[str, Any] = {"ema_decay": self.random.choice([None, 0.9])}
        params = self.arrays(SIZES[sizes])
        self.state_dir = folder / "state" if self.random.random() < 0.3 else None
        self.theirs = self.case.make_reference([p.copy() for p in params], **more)
        if self.random.random() < 0.3:
            _, views = fusedopt.flat_views([p.shape for p in params], self.dtype)
            for view, p in zip(views, params, strict=True):
                view[...] = p
            params = views
        self.ours = self.case.make(params, state_dir=self.state_dir, **more)

    def arrays(self, shapes: Any) -> list[np.ndarray]:
        return [np.asarray(self.rng.normal(size=shape), self.dtype) for shape in shapes]

    def live(self, steps: int) -> None:
        """Take steps, with something else in between, and compare."""
        for _ in range(steps):
            self.random.choice(WAYS_TO_STEP)(self)
            if self.random.random() < 0.5:
                self.random.choice(EVENTS)(self)
        self.compare()
        self.file.unlink(missing_ok=True)

    def params(self, opt: fusedopt.Optimizer) -> list[np.ndarray]:
        """Return them in the order of their numbers: a group's may have been added later."""
        numbers = [group["params"] for group in opt.state_dict()["param_groups"]]
        found: dict[int, np.ndarray] = {}
        for group, own in zip(opt.param_groups, numbers, strict=True):
            found.update(zip(own, group["params"], strict=True))
        return [found[i] for i in range(len(found))]

    def grads(self) -> list[Any]:
        grads: list[Any] = self.arrays([p.shape for p in self.params(self.theirs)])
        if self.random.random() < 0.2:
            grads[self.random.randrange(len(grads))] = None
        return grads

    def compare(self) -> None:
        ours, theirs = self.ours, self.theirs
        assert ours.completed_steps == theirs.completed_steps, self.case
        assert (ours.step_counts == theirs.step_counts).all(), self.case
        for i, (p, q) in enumerate(zip(self.params(ours), self.params(theirs), strict=True)):
            assert np.array_equal(p, q), (self.case, i)
            assert set(ours.state[i]) == set(theirs.state[i]), (self.case, i)
            for name, array in theirs.state[i].items():
                assert np.array_equal(ours.state[i][name], array), (self.case, i, name)

    def refuses(self, kind: Any, action: Callable[[], Any]) -> None:
        try:
            action()
        except kind:
            return
        raise AssertionError(f"{self.case}: no error")

    # Steps.

    def step(self) -> None:
        grads = self.grads()
        self.ours.step(grads)
        self.theirs.step([g if g is None else g.copy() for g in grads])

    def step_with_options(self) -> None:
        grads = self.grads()
        norm = self.random.choice(["max_norm", "max_array_norm"])
        options = {
            norm: self.random.choice([None, 0.5, 1e3]),
            "clip_value": self.random.choice([None, 0.25]),
            "loss_scale": self.random.choice([None, 8.0]),
            "zero_grads": self.random.random() < 0.5,
            "stats": True,
        }
        expected = self.theirs.step([g if g is None else g.copy() for g in grads], **options)
        assert self.ours.step(grads, **options) == expected

    def step_some(self) -> None:
        """Some of them by number, at once or by several calls of which the last completes."""
        all_grads = list(enumerate(self.grads()))
        some = self.random.sample(all_grads, self.random.randrange(len(all_grads) + 1))
        cut = self.random.randrange(len(some) + 1)
        for part, completes in [(some[:cut], False), (some[cut:], self.random.random() < 0.8)]:
            self.ours.step_some(dict(part), completes=completes)
            self.theirs.step_some({i: copy.copy(g) for i, g in part}, completes=completes)

    def skip(self) -> None:
        grads = self.arrays([p.shape for p in self.params(self.theirs)])
        grads[0].flat[-1] = np.nan
        for opt in (self.ours, self.theirs):
            assert opt.step(grads, on_nonfinite="skip").skipped

    # Events.

    def fail(self) -> None:
        """Everything that is refused, and changes nothing."""
        ours, grads = self.ours, self.arrays([p.shape for p in self.params(self.theirs)])
        other = np.float32 if self.dtype == np.float64 else np.float64
        p = self.params(ours)
        wrong = [
            (TypeError, [g.astype(other) for g in grads]),
            (TypeError, [*grads[:-1], "gradient"]),
            (ValueError, grads[1:]),
            (ValueError, [*grads[:-1], np.ones(2, self.dtype)]),
            (ValueError, [p[0], *grads[1:]]),
        ]
        for kind, given in wrong:
            self.refuses(kind, lambda given=given: ours.step(given))
        bad = [g.copy() for g in grads]
        bad[0].flat[0] = np.inf
        self.refuses(FloatingPointError, lambda: ours.step(bad, on_nonfinite="raise"))
        self.refuses(ValueError, lambda: ours.step(grads, max_norm=-1))
        self.refuses(ValueError, lambda: ours.param_groups[0].update(lr=-1.0))
        self.refuses(ValueError, lambda: ours.param_groups[0].update(nothing=1))
        self.refuses(ValueError, lambda: ours.add_param_group({"params": [p[0]]}))
        new = np.ones(30_000, self.dtype)
        self.refuses(ValueError, lambda: ours.add_param_group({"params": [new], "lr": -1}))
        self.file.write_bytes(b"no optimizer's")
        self.refuses(ValueError, lambda: ours.load(self.file))
        self.refuses(OSError, lambda: ours.load(self.file.with_name("none")))
        self.refuses(OSError, lambda: ours.save(self.file.parent / "no" / "folder"))

    def assign(self) -> None:
        lr = self.random.choice([0.01, 0.02, schedules.cosine(0.02, 30), lambda step: 0.01])
        for opt in (self.ours, self.theirs):
            opt.param_groups[-1]["lr"] = lr

    def add_group(self) -> None:
        if len(self.ours.param_groups) > 3:
            return
        new = self.arrays([self.random.choice([5, 100, 9000])])
        self.ours.add_param_group({"params": new, "lr": 0.03})
        self.theirs.add_param_group({"params": [new[0].copy()], "lr": 0.03})

    def add_params(self) -> None:
        """More in a group that is there, in the midst of all."""
        if len(self.params(self.ours)) > 12:
            return
        group = self.random.randrange(len(self.ours.param_groups))
        new = self.arrays([self.random.choice([3, 64, 5000]) for _ in range(2)])
        self.ours.add_params(new, group)
        self.theirs.add_params([p.copy() for p in new], group)
        self.refuses(ValueError, lambda: self.ours.add_params([new[0]], group))

    def rebind(self) -> None:
        params = self.params(self.ours)
        some = self.random.sample(range(len(params)), self.random.randrange(len(params)))
        self.ours.rebind({i: params[i].copy() for i in some})
        i = self.random.randrange(len(params))
        self.refuses(ValueError, lambda: self.ours.rebind({i: np.ones(77, self.dtype)}))

    def adopt(self) -> None:
        """Its state in arrays of somebody else's from now on."""
        if self.state_dir is None:
            self.ours.load_state_dict(copy.deepcopy(self.ours.state_dict()), copy=False)

    def save(self) -> None:
        """Save, go astray, load."""
        self.no_function()
        self.ours.save(self.file, params=True, extra={"n": 1})
        self.ours.step(self.arrays([p.shape for p in self.params(self.ours)]))
        assert self.ours.load(self.file) == {"n": 1}

    def no_function(self) -> None:
        """Schedules that are functions of the user's are no data: none in files and pickles."""
        for opt in (self.ours, self.theirs):
            for group in opt.param_groups:
                group["lr"] = group.values_at(0)["lr"] if callable(group["lr"]) else group["lr"]

    def load_state(self) -> None:
        state = copy.deepcopy(self.ours.state_dict())
        params = [p.copy() for p in self.params(self.ours)]
        self.ours.step(self.arrays([p.shape for p in params]))
        self.ours.load_state_dict(state)
        for p, before in zip(self.params(self.ours), params, strict=True):
            p[...] = before

    def deepcopy(self) -> None:
        self.ours = copy.deepcopy(self.ours)

    def pickle(self) -> None:
        self.no_function()
        self.ours = pickle.loads(pickle.dumps(self.ours))

    def elsewhere(self) -> None:
        """Inside swap_ema and lookahead the parameters are where the reference's are."""
        options = self.case.options
        ways = ["swap_ema"] if self.theirs.ema else []
        if self.case.optimizer == "SGD" and options.get("velocity") and not options.get("nesterov"):
            ways.append("lookahead")
        for way in ways:
            both = list(zip(self.params(self.ours), self.params(self.theirs), strict=True))
            with getattr(self.ours, way)(), getattr(self.theirs, way)():
                assert all(np.array_equal(p, q) for p, q in both), self.case
                self.refuses(RuntimeError, lambda: self.ours.step([]))


WAYS_TO_STEP = [
    *(Life.step, Life.step, Life.step, Life.step_with_options, Life.step_some, Life.skip),
]
EVENTS = [
    *(Life.fail, Life.assign, Life.add_group, Life.save, Life.load_state),
    *(Life.deepcopy, Life.pickle, Life.elsewhere, Life.add_params, Life.rebind, Life.adopt),
]
