"""Every way into the library that lets go of the GIL or waits, as work that a thread can repeat."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fusedopt
from fusedopt import functional

ONE_THREAD = 40_000  # elements: just over what keeps the GIL
LARGE = 300_000  # for the workers

Work = Callable[[], Any]


def pair(size: int = ONE_THREAD) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(size, np.float32), np.full(size, 0.5, np.float32)


def stepped(folder: Path, **options: Any) -> tuple[fusedopt.Adam, list[np.ndarray]]:
    p, g = pair()
    opt = fusedopt.Adam([p], **options)
    opt.step([g])
    return opt, [g]


def step_with(size: int = ONE_THREAD, value: float = 0.5, **options: Any) -> Callable[[Path], Work]:
    def make(folder: Path) -> Work:
        p, g = np.zeros(size, np.float32), np.full(size, value, np.float32)
        opt = fusedopt.Adam([p])
        return lambda: opt.step([g], **options)

    return make


def step_that_raises(folder: Path) -> Work:
    step = step_with(value=np.nan, on_nonfinite="raise", stats=True)(folder)

    def work() -> None:
        try:
            step()
        except FloatingPointError:
            return

    return work


def call_functional(folder: Path) -> Work:
    p, g = pair()
    m, v = np.zeros_like(p), np.zeros_like(p)

    def work() -> None:
        functional.adam_(p, g, m, v, step=1, lr=0.1)
        functional.sgd_(p, g, step=1, lr=0.1)
        functional.ema_(m, p, decay=0.9)

    return work


def global_norm(folder: Path) -> Work:
    arrays = [*pair(), *pair(LARGE)]
    return lambda: functional.global_norm(arrays)


def zero_grad(folder: Path) -> Work:
    p, g = pair()
    return fusedopt.SGD([p], lr=0.1, grads=[g]).zero_grad


def swap_ema(folder: Path) -> Work:
    opt, grads = stepped(folder, ema_decay=0.9)

    def work() -> None:
        with opt.swap_ema():
            pass
        opt.step(grads)

    return work


def lookahead(folder: Path) -> Work:
    p, g = pair()
    opt = fusedopt.SGD([p], lr=0.1, momentum=0.9, velocity=True)
    opt.step([g])

    def work() -> None:
        with opt.lookahead():
            pass
        opt.step([g])

    return work


def load_state_dict(folder: Path) -> Work:
    opt, _ = stepped(folder)
    saved = stepped(folder)[0].state_dict()
    return lambda: opt.load_state_dict(saved)


def save(folder: Path) -> Work:
    opt, _ = stepped(folder)
    numbers = itertools.count()
    return lambda: opt.save(folder / f"{next(numbers) % 2}.safetensors", params=True)


def load(folder: Path) -> Work:
    opt, _ = stepped(folder)
    opt.save(folder / "loaded.safetensors", params=True)
    return lambda: opt.load(folder / "loaded.safetensors")


def state_in_files(folder: Path) -> Work:
    p, g = pair()
    return lambda: fusedopt.Adam([p.copy()], state_dir=folder).step([g], max_norm=1)


def traffic(folder: Path) -> Work:
    opt, grads = stepped(folder)
    return lambda: opt._engine.traffic(grads)


def add_param_group(folder: Path) -> Work:
    arrays = [pair()[0] for _ in range(8)]

    def work() -> None:
        opt = fusedopt.Adam(arrays[:1])
        for array in arrays[1:]:
            opt.add_param_group({"params": [array]})

    return work


def schedule(folder: Path) -> Work:
    p, g = pair()
    opt = fusedopt.Adam([p], lr=fusedopt.schedules.cosine(0.1, 90))

    def work() -> None:
        opt.step([g])
        opt.param_groups[0]["weight_decay"] = 0.1

    return work


class FromFiles(list[Any]):
    """Arrays over files, to which nobody else refers: the system takes each back at its end."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.memmap(*place) for place in super().__iter__())


def from_file(folder: Path, size: int = ONE_THREAD) -> FromFiles:
    file = folder / f"{size}.bin"
    np.full(size, 0.5, np.float32).tofile(file)
    return FromFiles([(file, np.float32, "r", 0, size)])


def over_files(size: int, **options: Any) -> Callable[[Path], Work]:
    def make(folder: Path) -> Work:
        grads = from_file(folder, size)
        opt = fusedopt.Adam([np.zeros(size, np.float32)])
        return lambda: opt.step(grads, **options)

    return make


def functional_over_files(folder: Path) -> Work:
    p, grads = pair()[0], from_file(folder)

    def work() -> None:
        functional.sgd_([p], grads, step=1, lr=0.1)
        functional.global_norm(grads)

    return work


def optimizers_over_files(folder: Path) -> Work:
    arrays = from_file(folder)

    def work() -> None:
        fusedopt.SGD([np.memmap(arrays[0][0], np.float32, "c")], lr=0.1, grads=arrays).step()

    return work


ENTRY_POINTS: dict[str, Callable[[Path], Work]] = {
    "small step": step_with(16),
    "step": step_with(),
    "large step": step_with(LARGE),
    "max_norm and stats": step_with(max_norm=1, stats=True),
    "large, max_norm and stats": step_with(LARGE, max_norm=1, stats=True),
    "clip_value and zero_grads": step_with(clip_value=0.1, zero_grads=True),
    "skipped": step_with(value=np.inf, on_nonfinite="skip", stats=True),
    "raises": step_that_raises,
    "functional": call_functional,
    "global_norm": global_norm,
    "zero_grad": zero_grad,
    "swap_ema": swap_ema,
    "lookahead": lookahead,
    "load_state_dict": load_state_dict,
    "save": save,
    "load": load,
    "state_dir": state_in_files,
    "traffic": traffic,
    "add_param_group": add_param_group,
    "schedule": schedule,
    "gradients over files": over_files(16),
    "large gradients over files": over_files(ONE_THREAD),
    "gradients over files, options": over_files(ONE_THREAD, max_norm=1, stats=True),
    "functions over files": functional_over_files,
    "optimizers over files": optimizers_over_files,
}
