"""Hyperparameters that change as training goes on: schedules.

A schedule is a function: it gets how many steps were completed, and returns the value for the next
one. Any number may be one, not only the learning rate. Here a logistic regression is trained on
mini-batches four times: with constant values, with schedules of fusedopt.schedules, with one
schedule after the other (join) beside a function of our own, and with a lambda.

    pip install .    # in the root of the repository
    python examples/schedules.py
"""

from collections.abc import Callable

import numpy as np

import fusedopt
from fusedopt.schedules import cosine, join, linear, warmup

STEPS = 300
SHOWN = (0, 15, 30, 75, 150, 225, 300)  # completed steps at which the table has a line

Number = float | Callable[[int], float]


def train(title: str, lr: Number, momentum: Number) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 20))
    true_weights = rng.standard_normal(20)
    y = (rng.random(1000) < 1 / (1 + np.exp(-x @ true_weights))).astype(float)
    w = np.zeros(20)

    def loss() -> float:
        return float(np.mean(np.logaddexp(0, x @ w) - y * (x @ w)))

    opt = fusedopt.SGD([w], lr=lr, momentum=momentum)
    print(f"\n{title}\n{'step':>6}{'lr':>8}{'momentum':>10}{'loss':>8}")
    for step in range(STEPS + 1):
        if step in SHOWN:
            now = opt.param_groups[0].values_at(opt.completed_steps)
            print(f"{step:6}{now['lr']:8.3f}{now['momentum']:10.3f}{loss():8.4f}")
        batch = rng.integers(0, 1000, 16)
        error = 1 / (1 + np.exp(-x[batch] @ w)) - y[batch]
        opt.step([x[batch].T @ error / 16])


def sutskever(step: int) -> float:
    """Momentum that rises from 0.5 to 0.9, as in Sutskever et al., 2013."""
    return min(1 - 0.5 / (step // 25 + 1), 0.9)


def main() -> None:
    train("Constant", lr=0.4, momentum=0.9)
    train(
        "Warmup, then a cosine; momentum in equal steps from 0.5 to 0.9",
        lr=warmup(cosine(0.4, steps=270), steps=30),
        momentum=linear(0.5, 0.9, steps=150),
    )
    # A part of join counts its steps from the boundary before it.
    train(
        "Up, flat and down again; momentum from a function of our own",
        lr=join([linear(0, 0.4, steps=30), 0.4, linear(0.4, 0, steps=100)], boundaries=[30, 200]),
        momentum=sutskever,
    )
    # This one halves the learning rate every 50 steps.
    train("A lambda", lr=lambda step: 0.4 * 0.5 ** (step / 50), momentum=0.9)


if __name__ == "__main__":
    main()
