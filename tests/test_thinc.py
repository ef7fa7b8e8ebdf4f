"""The forms that thinc publishes; it works in float32 alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import Case
from published import (
    STEPS,
    Arrays,
    Form,
    assert_published,
    distance,
    gradients,
    learning_rate,
    peer,
    start,
)

optimizers = peer("thinc.api")

TOLERANCE = {np.float32: 1e-5}


def theirs(name: str, **options: Any) -> Callable[[Arrays], Arrays]:
    def run(params: Arrays) -> Arrays:
        optimizer = getattr(optimizers, name)(1.0, grad_clip=0.0, use_averages=False, **options)
        for step in range(STEPS):
            grads = gradients(step, np.float32)
            for i, (p, g) in enumerate(zip(params, grads, strict=True)):
                # The rate of a step is that of the optimizer times this.
                params[i], _ = optimizer((i, "p"), p, g, lr_scale=learning_rate(step))
            optimizer.step_schedules()
        return params

    return run


adam = {"betas": (0.8, 0.99), "eps": 1e-6, "eps_hat": True}
betas = {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}
FORMS = {
    "sgd": Form(Case("SGD", {}), theirs("SGD")),
    "sgd-L2": Form(
        Case("SGD", {"weight_decay": 0.3}), theirs("SGD", L2=0.3, L2_is_weight_decay=False)
    ),
    "adam-eps_hat": Form(Case("Adam", adam), theirs("Adam", **betas)),
    "adam-eps_hat-L2": Form(
        Case("Adam", {**adam, "weight_decay": 0.3}),
        theirs("Adam", **betas, L2=0.3, L2_is_weight_decay=False),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_form(form: str) -> None:
    assert_published(FORMS[form], np.float32, TOLERANCE)


def test_decoupled_weight_decay_comes_after_the_step_there() -> None:
    """What docs/forms.md says of it: another form, if not by much."""
    decay = {"weight_decay": 0.3, "decoupled_weight_decay": True}
    case = Case("Adam", {**adam, **decay})
    far = distance(case, np.float32, theirs("Adam", **betas, L2=0.3)(start(np.float32)))
    assert 1e-4 < far < 1e-2
