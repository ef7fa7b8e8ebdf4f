"""A process that loads hostile files, with little more memory than it needs itself."""

import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fusedopt
from fusedopt import schedules
from hostile import Case, hostile_files, mutated
from made_files import taken_apart

MARGIN = 32 << 20  # bytes


def some_lr(step: int) -> float:
    return 0.1


def optimizers() -> list[fusedopt.Optimizer]:
    """Return optimizers that have every kind of thing in their files."""
    lr = schedules.join(
        [0.1, schedules.warmup(schedules.cosine(0.2, 10), 5), schedules.linear(0.1, 0.2, 3)],
        boundaries=[2, 7],
    )
    rng = np.random.default_rng(0)
    w, b, c = rng.normal(size=(3, 2)).astype("f"), rng.normal(size=3), np.array(0.7)
    groups = [
        {"params": {"w": w, "b": b}, "momentum": 0.9},
        {"params": {"c": c, "unused": np.ones((2, 0, 3))}, "lr": 0.5, "dampening": 0.1},
    ]
    first = fusedopt.SGD(groups, lr=lr, ema_decay=schedules.piecewise([2], [0.5, 0.9]))
    p, q = rng.normal(size=5).astype("f"), rng.normal(size=(1, 4))
    second = fusedopt.Adam([p, q], lr=some_lr, betas=(schedules.constant(0.9), 0.99), amsgrad=True)
    for _ in range(3):
        first.step({"w": np.ones_like(w), "b": b * 2, "c": np.array(0.3), "unused": None})
        second.step([p * 2, q * 2])
    return [first, second]


def everything_of(opt: fusedopt.Optimizer) -> Any:
    """Return all that an optimizer is, to be compared by ==."""
    return (
        [dict(group.hyperparameters()) for group in opt.param_groups],
        [p.tobytes() for group in opt.param_groups for p in group["params"]],
        [
            {name: (a if name == "step" else a.tobytes()) for name, a in state.items()}
            for state in opt.state.values()
        ],
        opt.step_counts.tolist(),
        opt.completed_steps,
    )


def means(said: Any, is_now: Any) -> bool:
    """Return whether what a header says is what an optimizer saves that has loaded it.

    It may leave out what has a default, or isn't there yet, and give a number for a schedule of it.
    Where it says no more than that there was a function, the optimizer keeps what it has.
    """
    if isinstance(said, dict) and set(said) == {"callable"}:
        return True
    if isinstance(said, dict) and isinstance(is_now, dict):
        return all(
            means(item, is_now[key]) if key in is_now else item is None or says_nothing(item)
            for key, item in said.items()
        )
    if isinstance(said, list) and isinstance(is_now, list):
        return len(said) == len(is_now) and all(map(means, said, is_now))
    if isinstance(said, int | float) and not isinstance(said, bool):
        if isinstance(is_now, dict) and is_now.get("kind") == "constant":
            is_now = is_now["value"]
        if not isinstance(is_now, int | float) or isinstance(is_now, bool):
            return False
        # A long whole number may be kept as the float next to it.
        return said == is_now or (abs(said) < 1e308 and float(said) == is_now)
    return type(said) is type(is_now) and said == is_now


def says_nothing(item: Any) -> bool:
    """Return whether a parameter's entry is one of before its first step."""
    return isinstance(item, dict) and all(value in (0, None) for value in item.values())


class Attack:
    """Loads files into an optimizer, and keeps what went wrong."""

    def __init__(self, folder: Path, opt: fusedopt.Optimizer) -> None:
        self.opt = opt
        self.file, self.good, self.again = (folder / name for name in ("file", "good", "again"))
        opt.save(self.good, params=True, extra={"epoch": 3, "best": [0.5, None, "ä"]})
        self.content = self.good.read_bytes()
        self.parts = taken_apart(self.content)
        self.counts: Counter[str] = Counter()
        self.seen: set[int] = set()
        self.wrong: list[str] = []

    def load(self, case: Case, strict: bool) -> None:
        label, content = case
        self.file.write_bytes(content)
        self.counts["files"] += 1
        self.seen.add(hash(content))
        before = everything_of(self.opt)
        # Where this process ends, its last line says at what.
        print(label, strict, file=sys.stderr)
        try:
            extra = self.opt.load(self.file, strict=strict)
        except ValueError as error:
            self.counts["refused"] += 1
            if not str(error):
                self.wrong.append(f"{label}: {error!r}")
        except BaseException as error:
            self.wrong.append(f"{label}: {type(error).__name__}: {error}"[:300])
        else:
            self.counts["loaded"] += 1
            if strict:
                self.require_meaning(label, content, extra)
            for group, values in zip(self.opt.param_groups, before[0], strict=True):
                group.update(values)  # also the function that no file holds
            self.opt.load(self.good)
        if everything_of(self.opt) != before:
            self.wrong.append(f"{label}: the optimizer has changed")
            raise SystemExit(self.wrong)

    def require_meaning(self, label: str, content: bytes, extra: Any) -> None:
        """Save what was loaded: it has to say what the file said."""
        try:
            said = taken_apart(content)
            self.opt.save(self.again, params=said.header["params"], extra=extra)
            now = taken_apart(self.again.read_bytes())
        except Exception as error:
            self.wrong.append(f"{label}: was loaded, and then {type(error).__name__}: {error}")
            return
        # As text, since NaN isn't equal to itself.
        headers = [
            {**header, "extra": json.dumps(header["extra"], sort_keys=True)}
            for header in (said.header, now.header)
        ]
        same = means(*headers) and headers[0].keys() == headers[1].keys()
        if not same or now.arrays != said.arrays:
            self.wrong.append(f"{label}: was loaded, and means something else")


def chosen(cases: Iterator[Case], one_of: int) -> Iterator[Case]:
    """Yield one of so many."""
    return (case for k, case in enumerate(cases) if k % one_of == 0)


def main(folder: str, one_of: int, mutations: int, seed: int) -> None:
    os.fsync = lambda descriptor: None  # what is saved here needn't outlive the machine
    attacks = []
    for number, opt in enumerate(optimizers()):
        (Path(folder) / str(number)).mkdir()
        attacks.append(Attack(Path(folder) / str(number), opt))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MARGIN
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = np.random.default_rng(seed)
    for attack, other in zip(attacks, attacks[::-1], strict=True):
        for k, case in enumerate(chosen(hostile_files(attack.parts), one_of)):
            attack.load(case, strict=k % 4 != 3)
        attack.counts["made"] = attack.counts["files"]
        for _ in range(mutations // 2):
            case = mutated(rng, attack.parts, attack.content, other.content)
            attack.load(case, strict=rng.random() < 0.75)
    counts = sum((attack.counts for attack in attacks), Counter())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    result = {
        **counts,
        "distinct": sum(len(attack.seen) for attack in attacks),
        "grown": grown << 10,
        "wrong": [line for attack in attacks for line in attack.wrong],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
