"""The forms that Keras publishes, with its JAX backend."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import DTYPES, Case
from published import STEPS, Arrays, Form, assert_published, gradients, learning_rate, peer

jax = peer("jax")
jax.config.update("jax_enable_x64", True)
os.environ["KERAS_BACKEND"] = "jax"
keras = peer("keras")

# Keras keeps hyperparameters in float32, and computes with them.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-7}


def theirs(name: str, **options: Any) -> Callable[[Arrays], Arrays]:
    def run(params: Arrays) -> Arrays:
        dtype = params[0].dtype.name
        variables = [keras.Variable(p, dtype=dtype) for p in params]
        optimizer = getattr(keras.optimizers, name)(learning_rate=1.0, **options)
        optimizer.build(variables)
        for step in range(STEPS):
            optimizer.learning_rate = learning_rate(step)
            grads = [jax.numpy.asarray(g) for g in gradients(step, dtype)]
            optimizer.apply(grads, variables)
        return [np.asarray(v) for v in variables]

    return run


momentum = {"momentum": 0.9, "velocity": True}
decay = {"weight_decay": 0.3, "decoupled_weight_decay": True}
rho = {"rho": 0.9, "epsilon": 1e-6}
rmsprop = {"alpha": 0.9, "eps": 0, "eps_root": 1e-6}
betas = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6}
adam = {"betas": (0.8, 0.99), "eps": 1e-6, "eps_hat": True}
FORMS = {
    "sgd-decoupled_weight_decay": Form(Case("SGD", decay), theirs("SGD", weight_decay=0.3)),
    "velocity": Form(Case("SGD", momentum), theirs("SGD", momentum=0.9)),
    "velocity-nesterov": Form(
        Case("SGD", {**momentum, "nesterov": True}), theirs("SGD", momentum=0.9, nesterov=True)
    ),
    "velocity-decoupled_weight_decay": Form(
        Case("SGD", {**momentum, **decay}), theirs("SGD", momentum=0.9, weight_decay=0.3)
    ),
    "rmsprop-eps_root": Form(Case("RMSprop", rmsprop), theirs("RMSprop", **rho)),
    "rmsprop-velocity": Form(
        Case("RMSprop", {**rmsprop, "momentum": 0.7, "velocity": True}),
        theirs("RMSprop", **rho, momentum=0.7),
    ),
    "rmsprop-centered-velocity": Form(
        Case(
            "RMSprop",
            {**rmsprop, "eps_root": 1e-3, "momentum": 0.7, "velocity": True, "centered": True},
        ),
        theirs("RMSprop", rho=0.9, epsilon=1e-3, momentum=0.7, centered=True),
    ),
    "rmsprop-decoupled_weight_decay": Form(
        Case("RMSprop", {**rmsprop, **decay}), theirs("RMSprop", **rho, weight_decay=0.3)
    ),
    "adam-eps_hat": Form(Case("Adam", adam), theirs("Adam", **betas)),
    "amsgrad-raw-eps_hat": Form(
        Case("Adam", {**adam, "amsgrad": True}), theirs("Adam", **betas, amsgrad=True)
    ),
    "adam-decoupled_weight_decay-eps_hat": Form(
        Case("Adam", {**adam, **decay}), theirs("Adam", **betas, weight_decay=0.3)
    ),
    "adamw-eps_hat": Form(
        Case("AdamW", {**adam, "weight_decay": 0.3}), theirs("AdamW", **betas, weight_decay=0.3)
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_form(form: str, dtype: type) -> None:
    assert_published(FORMS[form], dtype, TOLERANCE)
