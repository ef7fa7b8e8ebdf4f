"""Hyperparameters, schedules and options of a step: right ones and wrong ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusedopt import schedules

CLASSES = ["SGD", "RMSprop", "Adam", "AdamW"]

# Numbers that a hyperparameter may be, the usual ones first and twice as often.
NUMBERS: dict[str, list[Any]] = {
    "lr": [0.013, 1e-3, 1.0, 0.0, -0.0, 1e-42, 1e30, np.float32(0.1)],
    "momentum": [0.9, 0.5, 0.0, 1.0, 1.7, 1e-40],
    "dampening": [0.0, 0.3, 1.0, -0.5, 1e20],
    "weight_decay": [0.0, 0.03, 1e-3, 1e-46, 1e10, 5],
    "alpha": [0.99, 0.5, 0.0, 1 - 2**-53],
    "eps": [1e-8, 1e-3, 0.0, 1e-45, 1e30],
    "eps_root": [0.0, 1e-5, 1.0, 1e-46],
    "initial_square_avg": [0.0, 1.1, 1e-40, 1e38],
    "betas": [(0.9, 0.999), (0.5, 0.75), (0.0, 0.0), (0.3, 1 - 2**-53), [0.9, np.float32(0.5)]],
    "ema_decay": [None, 0.9, 0.5, 0.0, 1.0],
}
FLAGS = {"maximize", "decoupled_weight_decay", "nesterov", "velocity", "centered"}
FLAGS |= {"amsgrad", "bias_correction", "eps_hat"}
LASTING = {"velocity", "amsgrad_max"}

NAMES = {
    "SGD": ["lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"],
    "RMSprop": ["lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize"],
    "Adam": ["lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"],
}
NAMES["SGD"] += ["decoupled_weight_decay", "momentum_init", "velocity", "ema_decay"]
NAMES["RMSprop"] += ["decoupled_weight_decay", "eps_root", "initial_square_avg", "velocity"]
NAMES["RMSprop"] += ["ema_decay"]
NAMES["Adam"] += ["bias_correction", "eps_root", "eps_hat", "amsgrad_max", "ema_decay"]
NAMES["AdamW"] = list(NAMES["Adam"])
NAMES["Adam"] += ["decoupled_weight_decay"]


def number(rng: np.random.Generator, name: str) -> Any:
    choices = NUMBERS[name]
    return choices[int(len(choices) * rng.random() ** 2)]


def fitting(rng: np.random.Generator, cls: str, lasting: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters that fit each other, and those that can't change."""
    values: dict[str, Any] = {}
    for name in NAMES[cls]:
        if name in NUMBERS:
            values[name] = number(rng, name)
        elif name in FLAGS:
            values[name] = bool(rng.random() < 0.35)
    if cls == "SGD":
        values["velocity"] = lasting.get("velocity", values["velocity"])
        if values["velocity"] or values["nesterov"]:
            values["dampening"] = 0
        if values["nesterov"]:
            values["momentum"] = values["momentum"] or 0.8
        starts = [None, "zeros"] if values["velocity"] else [None, "gradient", "zeros"]
        can_start = values["momentum"] != 0 or values["velocity"]
        values["momentum_init"] = starts[rng.integers(len(starts))] if can_start else None
    elif cls == "RMSprop":
        values["velocity"] = lasting.get("velocity", values["velocity"])
    else:
        corrected = "corrected" if rng.random() < 0.2 else "raw"
        values["amsgrad_max"] = lasting.get("amsgrad_max", corrected)
        if values["amsgrad_max"] == "corrected":
            values |= {"amsgrad": True, "bias_correction": True, "eps_hat": False}
        if values["eps_hat"]:
            values |= {"eps_root": 0, "bias_correction": True}
    return values


def assignment(rng: np.random.Generator, cls: str) -> tuple[str, Any]:
    """Return a hyperparameter and a value that it may have, if it fits the others."""
    names = [name for name in NAMES[cls] if name not in LASTING]
    name = names[rng.integers(len(names))]
    if name == "momentum_init":
        return name, [None, "gradient", "zeros"][rng.integers(3)]
    return name, bool(rng.integers(2)) if name in FLAGS else number(rng, name)


def bad_assignment(rng: np.random.Generator, cls: str) -> tuple[str, Any]:
    """Return a hyperparameter and a value that it can't have, or the name of none."""
    pairs: list[tuple[str, Any]] = [
        ("lr", -1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", "0.1"),
        ("lr", None),
        ("lr", True),
        ("lr", 1j),
        ("lr", 10**400),
        ("lr", np.ones(2)),
        ("lr", (0.1, 0.2)),
        ("weight_decay", -1e-300),
        ("maximize", 1),
        ("maximize", lambda step: True),
        ("maximize", np.ones(1, bool)),
        ("ema_decay", 1.5),
        ("ema_decay", -0.1),
        ("params", []),
        ("no_such", 1),
    ]
    pairs += {
        "SGD": [("velocity", 3), ("momentum", -1), ("momentum_init", np.array(["zeros"]))],
        "RMSprop": [("alpha", 1.0), ("velocity", None), ("centered", "yes"), ("eps", -1)],
        "Adam": [("betas", 0.9), ("betas", (0.9, 1.0)), ("betas", (0.9,)), ("amsgrad_max", "x")],
        "AdamW": [("betas", "ab"), ("betas", (0.1, 0.2, 0.3)), ("decoupled_weight_decay", False)],
    }[cls]
    return pairs[rng.integers(len(pairs))]


@dataclass(frozen=True)
class Wave:
    """A schedule of the user's own, which can be pickled."""

    low: float
    high: float

    def __call__(self, step: int) -> float:
        return self.low if step % 3 else self.high


@dataclass(frozen=True, eq=False)
class Breaks:
    """A schedule that gives after some steps what a hyperparameter can't be."""

    after: int
    value: Any

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)  # NaN is NaN, also where it was pickled

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, step: int) -> Any:
        return 0.5 if step < self.after else self.value


def schedule(rng: np.random.Generator) -> Callable[[int], Any]:
    """Return a schedule whose values every number may have."""
    steps = int(rng.integers(1, 20))
    slow = schedules.linear(0.5, 0.125, steps)
    choices: list[Callable[[int], Any]] = [
        schedules.constant(0.25),
        slow,
        schedules.polynomial(0.5, 0.0, steps=steps, power=2.0),
        schedules.exponential(0.75, 0.9),
        schedules.cosine(0.9, steps),
        schedules.warmup(schedules.cosine(0.9, steps), steps=3),
        schedules.join([slow, schedules.constant(0.01)], [steps]),
        schedules.piecewise([steps], [0.5, 0.1]),
        schedules.one_cycle(0.5, steps=steps + 2),
        Wave(0.0, 0.9),
        Wave(0.3, np.float32(0.7)),
        lambda step: 1 / (step + 2),
    ]
    return choices[rng.integers(len(choices))]


def scheduled(rng: np.random.Generator, cls: str) -> tuple[str, Any]:
    """Return a hyperparameter and a schedule for it."""
    names = [name for name in NAMES[cls] if name in NUMBERS]
    name = names[rng.integers(len(names))]
    if name == "betas" and rng.random() < 0.7:
        return name, (schedule(rng), 0.999) if rng.random() < 0.5 else (0.9, schedule(rng))
    if name == "betas":
        return name, Breaks(10**6, None)  # a number is no pair
    if rng.random() < 0.1:
        return name, Breaks(int(rng.integers(0, 8)), [-1.0, "0.1", math.nan, None][rng.integers(4)])
    return name, schedule(rng)


def step_options(rng: np.random.Generator) -> dict[str, Any]:
    """Return options of a step; often only few of them."""
    choices: dict[str, list[Any]] = {
        "loss_scale": [1024.0, 3.0, 1e-3, 1e30, 1],
        "max_norm": [1.0, 1e-3, math.inf, 1e30, 5e-324],
        "max_array_norm": [1.0, 1e-3, 1e30, 2],
        "clip_value": [0.5, 1e-3, 1e30, 1e-50, 1],
        "on_nonfinite": ["skip", "raise", "propagate"],
        "zero_grads": [True],
        "stats": [True],
    }
    del choices[str(rng.choice(["max_norm", "max_array_norm"]))]  # only one of them goes
    share = rng.choice([0.2, 0.5, 0.9])
    return {
        name: values[rng.integers(len(values))]
        for name, values in choices.items()
        if rng.random() < share
    }


def bad_step_options(rng: np.random.Generator) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [
        {"loss_scale": 0},
        {"loss_scale": math.inf},
        {"loss_scale": "2"},
        {"max_norm": -1.0},
        {"max_norm": math.nan},
        {"max_norm": 1.0, "max_array_norm": 1.0},
        {"clip_value": 0.0},
        {"clip_value": math.inf},
        {"on_nonfinite": "ignore"},
        {"on_nonfinite": None},
        {"on_nonfinite": np.array(["skip"])},
        {"zero_grads": 1},
        {"stats": None},
    ]
    return {**step_options(rng), **choices[rng.integers(len(choices))]}
