"""Train a small network on handwritten digits with seven optimizers, and compare them.

The network is a multi-layer perceptron in plain NumPy. Each optimizer trains it twice, from the
same initial weights and with the same mini-batches: once with fusedopt and once with the class of
the same name in fusedopt.reference, which is the same arithmetic written in NumPy.

    pip install "fusedopt[examples]"
    python train_digits.py

It prints a table and saves a plot of the training losses.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fusedopt
from fusedopt import reference

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Params = dict[str, Array]

LAYER_SIZES = (64, 512, 256, 10)  # 8x8 pixels in, two hidden layers, ten digits out
BATCH_SIZE = 64
EPOCHS, QUICK_EPOCHS = 40, 3


class Recipe(NamedTuple):
    """An optimizer: the name of its class, in fusedopt and in fusedopt.reference, and arguments."""

    class_name: str
    arguments: dict[str, Any]


RECIPES = {
    "SGD": Recipe("SGD", {"lr": 0.2}),
    "Momentum": Recipe("SGD", {"lr": 0.05, "momentum": 0.9}),
    "Nesterov": Recipe("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "RMSProp": Recipe("RMSprop", {"lr": 3e-4}),
    "Adam": Recipe("Adam", {"lr": 1e-3}),
    "AMSGrad": Recipe("Adam", {"lr": 1e-3, "amsgrad": True}),
    "AdamW": Recipe("AdamW", {"lr": 1e-3, "weight_decay": 0.1}),
}


class Digits(NamedTuple):
    """Images, one per row with pixels from 0 to 1, and the digits they show."""

    train_images: Array
    train_labels: Labels
    test_images: Array
    test_labels: Labels


class Run(NamedTuple):
    """What one training run leaves behind."""

    params: Params
    losses: list[float]  # mean training loss of each epoch
    accuracy: float  # on the test images, from 0 to 1
    step_seconds: float  # in the optimizer alone


class Result(NamedTuple):
    """The two runs of one optimizer."""

    fused: Run
    numpy: Run


# The data


def load_data(seed: int) -> Digits:
    """Load the digits that come with scikit-learn, and keep a quarter of each digit for testing."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)  # pixels come as 0 to 16
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    return Digits(train_images, train_labels, test_images, test_labels)


# The network


def initial_params(seed: int) -> Params:
    """Draw the weights so that signals keep their scale through ReLU layers (He et al., 2015)."""
    rng = np.random.default_rng(seed)
    params: Params = {}
    for layer, (inputs, outputs) in enumerate(zip(LAYER_SIZES, LAYER_SIZES[1:], strict=False), 1):
        scale = np.float32(np.sqrt(2 / inputs))
        params[f"W{layer}"] = scale * rng.standard_normal((inputs, outputs), dtype=np.float32)
        params[f"b{layer}"] = np.zeros(outputs, np.float32)
    return params


def forward(params: Params, images: Array) -> tuple[Array, Array, Array]:
    """Return the activations of both hidden layers and the ten scores of each image."""
    hidden1 = np.maximum(images @ params["W1"] + params["b1"], 0)
    hidden2 = np.maximum(hidden1 @ params["W2"] + params["b2"], 0)
    return hidden1, hidden2, hidden2 @ params["W3"] + params["b3"]


def loss_and_gradients(params: Params, images: Array, labels: Labels) -> tuple[float, Params]:
    """Return the mean cross-entropy of a mini-batch, and its gradient for each parameter."""
    hidden1, hidden2, scores = forward(params, images)
    # Softmax doesn't change when scores shift; with the largest at 0, exp can't overflow.
    scores -= scores.max(axis=1, keepdims=True)
    log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    loss = -log_probabilities[rows, labels].mean()

    d_scores = np.exp(log_probabilities)
    d_scores[rows, labels] -= 1
    d_scores /= len(labels)
    d_hidden2 = (d_scores @ params["W3"].T) * (hidden2 > 0)
    d_hidden1 = (d_hidden2 @ params["W2"].T) * (hidden1 > 0)
    return float(loss), {
        "W1": images.T @ d_hidden1,
        "b1": d_hidden1.sum(axis=0),
        "W2": hidden1.T @ d_hidden2,
        "b2": d_hidden2.sum(axis=0),
        "W3": hidden2.T @ d_scores,
        "b3": d_scores.sum(axis=0),
    }


def test_accuracy(params: Params, digits: Digits) -> float:
    """Return the fraction of test images whose largest score is that of the right digit."""
    scores = forward(params, digits.test_images)[-1]
    return float((scores.argmax(axis=1) == digits.test_labels).mean())


# Training


def train(
    make_optimizer: Callable[..., fusedopt.Optimizer],
    arguments: dict[str, Any],
    digits: Digits,
    epochs: int,
    seed: int,
    after_epoch: Callable[[], None],
) -> Run:
    """Train a fresh network with one optimizer; the seed fixes its weights and mini-batches."""
    params = initial_params(seed)
    opt = make_optimizer(params, **arguments)
    rng = np.random.default_rng(seed)
    losses = []
    step_seconds = 0.0
    for _ in range(epochs):
        order = rng.permutation(len(digits.train_labels))
        loss_sum = 0.0
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            loss, grads = loss_and_gradients(
                params, digits.train_images[batch], digits.train_labels[batch]
            )
            loss_sum += loss * len(batch)  # the last batch may be smaller
            started = time.perf_counter()
            opt.step(grads)  # updates the arrays in params
            step_seconds += time.perf_counter() - started
        losses.append(loss_sum / len(order))
        after_epoch()
    return Run(params, losses, test_accuracy(params, digits), step_seconds)


def train_all(digits: Digits, epochs: int, seed: int, console: Console) -> dict[str, Result]:
    """Train with each optimizer, in fusedopt and in NumPy, behind a progress bar."""
    results = {}
    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=2 * len(RECIPES) * epochs)
        for name, (class_name, arguments) in RECIPES.items():
            runs = []
            for module, label in ((fusedopt, "fusedopt"), (reference, "NumPy")):
                progress.update(task, description=f"{name}, {label}")
                make_optimizer = getattr(module, class_name)
                runs.append(
                    train(
                        make_optimizer,
                        arguments,
                        digits,
                        epochs,
                        seed,
                        after_epoch=lambda: progress.advance(task),
                    )
                )
            results[name] = Result(*runs)
        progress.update(task, description="Done")
    return results
