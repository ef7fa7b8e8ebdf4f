"""The forms that scikit-learn publishes, in the optimizers of its neural networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import DTYPES, Case
from published import STEPS, Arrays, Form, assert_published, gradients, learning_rate, peer

optimizers = peer("sklearn.neural_network._stochastic_optimizers")

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def theirs(name: str, **options: Any) -> Callable[[Arrays], Arrays]:
    def run(params: Arrays) -> Arrays:
        optimizer = getattr(optimizers, name)(params, **options)
        for step in range(STEPS):
            # The second is what the first comes to, where no schedule of its own changes it.
            optimizer.learning_rate_init = optimizer.learning_rate = learning_rate(step)
            optimizer.update_params(params, gradients(step, params[0].dtype))
        return params

    return run


FORMS = {
    "velocity": Form(
        Case("SGD", {"momentum": 0.9, "velocity": True}),
        theirs("SGDOptimizer", momentum=0.9, nesterov=False),
    ),
    "velocity-nesterov": Form(
        Case("SGD", {"momentum": 0.9, "velocity": True, "nesterov": True}),
        theirs("SGDOptimizer", momentum=0.9, nesterov=True),
    ),
    "adam-eps_hat": Form(
        Case("Adam", {"betas": (0.8, 0.99), "eps": 1e-6, "eps_hat": True}),
        theirs("AdamOptimizer", beta_1=0.8, beta_2=0.99, epsilon=1e-6),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_form(form: str, dtype: type) -> None:
    assert_published(FORMS[form], dtype, TOLERANCE)
