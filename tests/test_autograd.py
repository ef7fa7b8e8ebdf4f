"""The forms that HIPS autograd publishes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import Case
from published import STEPS, Arrays, Form, assert_published, gradients, learning_rate, peer

optimizers = peer("autograd.misc.optimizers")

# It flattens everything into float64.
TOLERANCE = {np.float64: 1e-13}


class ChangingRate:
    """A step size that is another one at each step, where the library takes only a constant."""

    def __init__(self) -> None:
        self.step = -1

    def __mul__(self, other: np.ndarray) -> np.ndarray:
        self.step += 1
        return learning_rate(self.step) * other


def theirs(name: str, **options: Any) -> Callable[[Arrays], Arrays]:
    def run(params: Arrays) -> Arrays:
        def gradient(x: Arrays, step: int) -> Arrays:
            return gradients(step, np.float64)

        optimize = getattr(optimizers, name)
        result: Arrays = optimize(
            gradient, params, num_iters=STEPS, step_size=ChangingRate(), **options
        )
        return result

    return run


FORMS = {
    "moving-average": Form(
        Case("SGD", {"momentum": 0.9, "dampening": 0.9, "momentum_init": "zeros"}),
        theirs("sgd", mass=0.9),
    ),
    "rmsprop-initial_square_avg": Form(
        Case("RMSprop", {"alpha": 0.9, "eps": 1e-6, "initial_square_avg": 1}),
        theirs("rmsprop", gamma=0.9, eps=1e-6),
    ),
    "adam": Form(
        Case("Adam", {"betas": (0.8, 0.99), "eps": 1e-6}),
        theirs("adam", b1=0.8, b2=0.99, eps=1e-6),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_form(form: str) -> None:
    assert_published(FORMS[form], np.float64, TOLERANCE)
