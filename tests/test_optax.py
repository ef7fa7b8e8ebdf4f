"""The forms that optax publishes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import DTYPES, Case
from published import STEPS, Arrays, Form, assert_published, gradients, learning_rate, peer

jax = peer("jax")
optax = peer("optax")
jax.config.update("jax_enable_x64", True)

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def theirs(make: Callable[..., Any], **options: Any) -> Callable[[Arrays], Arrays]:
    def run(params: Arrays) -> Arrays:
        tree: Any = [jax.numpy.asarray(p) for p in params]
        optimizer = make(lambda count: learning_rate(count).astype(tree[0].dtype), **options)
        state = optimizer.init(tree)
        for step in range(STEPS):
            grads = [jax.numpy.asarray(g) for g in gradients(step, params[0].dtype)]
            updates, state = optimizer.update(grads, state, tree)
            tree = optax.apply_updates(tree, updates)
        return [np.asarray(p) for p in tree]

    return run


rmsprop = {"decay": 0.9, "eps": 1e-6}
alpha = {"alpha": 0.9}
betas = {"b1": 0.8, "b2": 0.99, "eps": 1e-6}
adam = {"betas": (0.8, 0.99), "eps": 1e-6}
FORMS = {
    "sgd": Form(Case("SGD", {}), theirs(optax.sgd)),
    "momentum": Form(
        Case("SGD", {"momentum": 0.9, "momentum_init": "zeros"}), theirs(optax.sgd, momentum=0.9)
    ),
    "nesterov": Form(
        Case("SGD", {"momentum": 0.9, "nesterov": True}),
        theirs(optax.sgd, momentum=0.9, nesterov=True),
    ),
    "rmsprop-eps_root": Form(
        Case("RMSprop", {**alpha, "eps": 0, "eps_root": 1e-6}), theirs(optax.rmsprop, **rmsprop)
    ),
    "rmsprop-eps": Form(
        Case("RMSprop", {**alpha, "eps": 1e-6}),
        theirs(optax.rmsprop, **rmsprop, eps_in_sqrt=False),
    ),
    "rmsprop-initial_square_avg": Form(
        Case("RMSprop", {**alpha, "eps": 0, "eps_root": 1e-6, "initial_square_avg": 1}),
        theirs(optax.rmsprop, **rmsprop, initial_scale=1.0),
    ),
    "rmsprop-velocity": Form(
        Case("RMSprop", {**alpha, "eps": 0, "eps_root": 1e-6, "momentum": 0.7, "velocity": True}),
        theirs(optax.rmsprop, **rmsprop, momentum=0.7),
    ),
    "rmsprop-centered-velocity": Form(
        Case(
            "RMSprop",
            {
                **alpha,
                "eps": 0,
                "eps_root": 1e-3,
                "momentum": 0.7,
                "velocity": True,
                "centered": True,
            },
        ),
        theirs(optax.rmsprop, decay=0.9, eps=1e-3, momentum=0.7, centered=True),
    ),
    "adam": Form(Case("Adam", adam), theirs(optax.adam, **betas)),
    "adam-eps_root": Form(
        Case("Adam", {**adam, "eps_root": 1e-3}), theirs(optax.adam, **betas, eps_root=1e-3)
    ),
    "amsgrad-corrected": Form(
        Case("Adam", {**adam, "amsgrad": True, "amsgrad_max": "corrected"}),
        theirs(optax.amsgrad, **betas),
    ),
    "amsgrad-corrected-eps_root": Form(
        Case("Adam", {**adam, "amsgrad": True, "amsgrad_max": "corrected", "eps_root": 1e-3}),
        theirs(optax.amsgrad, **betas, eps_root=1e-3),
    ),
    "amsgrad-uncorrected": Form(
        Case("Adam", {**adam, "amsgrad": True, "bias_correction": False}),
        theirs(optax.amsgrad, **betas, bias_correction_mu=False, bias_correction_nu=False),
    ),
    "adamw": Form(
        Case("AdamW", {**adam, "weight_decay": 0.3}),
        theirs(optax.adamw, **betas, weight_decay=0.3),
    ),
    "adamw-eps_root": Form(
        Case("AdamW", {**adam, "weight_decay": 0.3, "eps_root": 1e-3}),
        theirs(optax.adamw, **betas, weight_decay=0.3, eps_root=1e-3),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_form(form: str, dtype: type) -> None:
    assert_published(FORMS[form], dtype, TOLERANCE)
