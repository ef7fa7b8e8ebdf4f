"""The rules as their papers write them, for numbers of any precision.

What the error of an optimizer is measured against. It shares no line with `fusedopt` or
`fusedopt.reference`: one type of numbers throughout, and nothing is rounded but by that type.
Hyperparameters are the doubles that a user passes: 0.9 is the double next to 0.9.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

State = dict[str, Any]
Update = Callable[[dict[str, Any], Any, Any, State, int], Any]

# A long double with more bits than a double has. Elsewhere (macOS on Arm, Windows) there is none.
HAS_LONG_DOUBLE = np.finfo(np.longdouble).nmant >= 63


def _sgd(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    return p - h["lr"] * g


def _momentum(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    s["momentum_buffer"] = b = h["momentum"] * s.get("momentum_buffer", 0 * g) + g
    return p - h["lr"] * b


def _nesterov(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    s["momentum_buffer"] = b = h["momentum"] * s.get("momentum_buffer", 0 * g) + g
    return p - h["lr"] * (g + h["momentum"] * b)


def _rmsprop_direction(h: dict[str, Any], g: Any, s: State) -> Any:
    alpha = h["alpha"]
    s["square_avg"] = v = alpha * s.get("square_avg", 0 * g) + (1 - alpha) * g * g
    if h["centered"]:
        s["grad_avg"] = a = alpha * s.get("grad_avg", 0 * g) + (1 - alpha) * g
        v = v - a * a
    return g / (np.sqrt(v) + h["eps"])


def _rmsprop(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    return p - h["lr"] * _rmsprop_direction(h, g, s)


def _rmsprop_momentum(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    direction = _rmsprop_direction(h, g, s)
    s["momentum_buffer"] = b = h["momentum"] * s.get("momentum_buffer", 0 * g) + direction
    return p - h["lr"] * b


def _adam(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    beta1, beta2 = h["beta1"], h["beta2"]
    s["exp_avg"] = m = beta1 * s.get("exp_avg", 0 * g) + (1 - beta1) * g
    s["exp_avg_sq"] = v = beta2 * s.get("exp_avg_sq", 0 * g) + (1 - beta2) * g * g
    if h["amsgrad"]:
        s["max_exp_avg_sq"] = v = np.maximum(s.get("max_exp_avg_sq", v), v)
    m_hat, v_hat = m / (1 - beta1[0] ** t), v / (1 - beta2[0] ** t)
    return p - h["lr"] * m_hat / (np.sqrt(v_hat) + h["eps"])


def _adamw(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    return _adam(h, p - h["lr"] * h["weight_decay"] * p, g, s, t)


def _average(h: dict[str, Any], p: Any, g: Any, s: State, t: int) -> Any:
    """Here g is where the parameter goes, and its average follows from there."""
    s["ema"] = h["ema_decay"] * s.get("ema", g) + (1 - h["ema_decay"]) * g
    return g


class Rule(NamedTuple):
    """What it is called here, in fusedopt and in torch, and its equations."""

    name: str
    optimizer: str
    options: dict[str, Any]
    update: Update

    def exact(self, p: Any, number: Callable[[Any], Any]) -> "Trajectory":
        """Start from arrays of exact numbers, which `number` makes of arrays of doubles."""
        values = {"eps": 1e-8, "amsgrad": False, "centered": False, **self.options}
        if "betas" in values:
            values["beta1"], values["beta2"] = values.pop("betas")
        h = {
            name: value if isinstance(value, bool) else number(np.full(len(p), value))
            for name, value in values.items()
        }
        return Trajectory(self.update, h, number(p), {}, 0)


class Trajectory:
    """Where exact arithmetic takes a parameter and its state."""

    def __init__(self, update: Update, h: dict[str, Any], p: Any, state: State, t: int) -> None:
        self.update, self.h, self.p, self.state, self.t = update, h, p, state, t

    def step(self, g: Any) -> None:
        self.t += 1
        self.p = self.update(self.h, self.p, g, self.state, self.t)


_RATE = {"lr": 1e-3}
_BETAS = {"betas": (0.9, 0.999)}
_ALPHA = {**_RATE, "alpha": 0.99}
RULES = [
    Rule("SGD", "SGD", _RATE, _sgd),
    Rule("momentum", "SGD", {**_RATE, "momentum": 0.9}, _momentum),
    Rule("Nesterov", "SGD", {**_RATE, "momentum": 0.9, "nesterov": True}, _nesterov),
    Rule("RMSprop", "RMSprop", _ALPHA, _rmsprop),
    Rule("centered RMSprop", "RMSprop", {**_ALPHA, "centered": True}, _rmsprop),
    Rule("RMSprop, momentum", "RMSprop", {**_ALPHA, "momentum": 0.9}, _rmsprop_momentum),
    Rule("Adam", "Adam", {**_RATE, **_BETAS}, _adam),
    Rule("AMSGrad", "Adam", {**_RATE, **_BETAS, "amsgrad": True}, _adam),
    Rule("AdamW", "AdamW", {**_RATE, **_BETAS, "weight_decay": 0.01}, _adamw),
    Rule("average", "SGD", {"ema_decay": 0.999}, _average),
]
STARTS = np.float32([0.5, -0.75, 1, -1.25, 1.5, -1.75, 2, -2.5] * 2)
_PERIOD = 5000  # steps
_BLOCK = 10_000


def gradients(block: int) -> np.ndarray:
    """Return so many steps' gradients from step block * 10,000 on: a slow wave and noise.

    They are float32 numbers, of magnitudes from 0.1 to 3: every precision is given the same.
    """
    n = len(STARTS)
    rng = np.random.default_rng([11, block])
    steps = np.arange(block * _BLOCK, (block + 1) * _BLOCK)[:, None]
    wave = np.sin(2 * np.pi * (steps / _PERIOD + np.arange(n) / n))
    noise = rng.standard_normal((_BLOCK, n))
    return np.float32((0.5 * wave + noise) * np.geomspace(0.1, 3, n))


def inputs(rule: Rule, steps: int) -> Any:
    """Yield (blocks of) what each step of the rule is given, and of an average where p goes."""
    for block in range(-(-steps // _BLOCK)):
        given = gradients(block)[: steps - block * _BLOCK]
        yield np.float32(1 + 0.1 * given) if rule.name == "average" else given
