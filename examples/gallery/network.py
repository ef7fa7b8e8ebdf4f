"""Handwritten digits, and a multi-layer perceptron for them in plain NumPy."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Params = dict[str, Array]


class Images(NamedTuple):
    """Images and their classes, to train on and for the test."""

    train_images: Array
    train_labels: Labels
    test_images: Array
    test_labels: Labels


def load_data(seed: int = 0) -> Images:
    """Load the digits that come with scikit-learn; a quarter is for the test.

    They have 8x8 pixels from 0 to 1, in a row for each.
    """
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)  # pixels come as 0 to 16
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    return Images(train_images, train_labels, test_images, test_labels)


def batches(
    digits: Images, rng: np.random.Generator, size: int = 64
) -> Iterator[tuple[Array, Labels]]:
    """Go over the images for training once, in a new order."""
    order = rng.permutation(len(digits.train_labels))
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        yield digits.train_images[rows], digits.train_labels[rows]


def steps_per_epoch(digits: Images, size: int = 64) -> int:
    """Return how many batches there are."""
    return -(-len(digits.train_labels) // size)


def initial_params(rng: np.random.Generator, layer_sizes: Sequence[int]) -> Params:
    """Draw weights that keep the scale of signals through ReLU layers (He et al., 2015)."""
    params: Params = {}
    for layer in range(1, len(layer_sizes)):
        inputs, outputs = layer_sizes[layer - 1 : layer + 1]
        weights = rng.standard_normal((inputs, outputs), dtype=np.float32)
        params[f"W{layer}"] = weights * np.float32(np.sqrt(2 / inputs))
        params[f"b{layer}"] = np.zeros(outputs, np.float32)
    return params


def forward(params: Params, images: Array) -> list[Array]:
    """Return what each layer gives: at first the images, at last the scores of the ten digits."""
    layers = len(params) // 2
    values = [images]
    for layer in range(1, layers + 1):
        signal = values[-1] @ params[f"W{layer}"] + params[f"b{layer}"]
        values.append(signal if layer == layers else np.maximum(signal, 0))
    return values


def cross_entropy(scores: Array, labels: Labels) -> tuple[float, Array]:
    """Return the mean over a mini-batch, and its gradient for each score."""
    scores = scores - scores.max(axis=1, keepdims=True)  # no change to the softmax, no overflow
    log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    loss = -log_probabilities[rows, labels].mean()
    d_scores = np.exp(log_probabilities)
    d_scores[rows, labels] -= 1
    d_scores /= len(labels)
    return float(loss), d_scores


def loss_and_gradients(params: Params, images: Array, labels: Labels) -> tuple[float, Params]:
    """Return the mean cross-entropy of a mini-batch, and its gradient for each parameter."""
    values = forward(params, images)
    loss, d_signal = cross_entropy(values[-1], labels)
    gradients = {}
    for layer in range(len(values) - 1, 0, -1):
        inputs = values[layer - 1]
        gradients[f"W{layer}"] = inputs.T @ d_signal
        gradients[f"b{layer}"] = d_signal.sum(axis=0)
        if layer > 1:
            d_signal = (d_signal @ params[f"W{layer}"].T) * (inputs > 0)
    return loss, gradients


def accuracy(params: Params, images: Array, labels: Labels) -> float:
    """Return the share of images whose digit has the highest score."""
    return float(np.mean(forward(params, images)[-1].argmax(axis=1) == labels))
