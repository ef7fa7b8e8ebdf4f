"""A convolutional network in plain NumPy: that of torch's CIFAR-10 tutorial, for any images.

Two convolutions, each with ReLU and a pool of 2x2, and three linear layers. Images are in NCHW:
number, channel, row, column.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from network import cross_entropy

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
Params = dict[str, Array]

CHANNELS = (6, 16)  # of the convolutions
WIDTHS = (120, 84, 10)  # of the linear layers


class Shape(NamedTuple):
    """What the network looks like, for images of so many channels, and so many pixels a side."""

    channels: int
    pixels: int
    kernel: int
    padding: int

    def flat_size(self) -> int:
        """Return how many numbers the second pool gives for an image."""
        side = self.pixels
        for _ in CHANNELS:
            side = (side + 2 * self.padding - self.kernel + 1) // 2
        return CHANNELS[-1] * side**2


CIFAR = Shape(channels=3, pixels=32, kernel=5, padding=0)  # as in the tutorial
DIGITS = Shape(channels=1, pixels=8, kernel=3, padding=1)


def initial_params(shape: Shape, rng: np.random.Generator) -> Params:
    """Draw weights as torch does: uniform, within 1 / sqrt(how many numbers come in)."""
    params: Params = {}

    def layer(name: str, *weight: int) -> None:
        bound = 1 / np.sqrt(np.prod(weight[1:]))
        params[f"{name}.weight"] = rng.uniform(-bound, bound, weight).astype(np.float32)
        params[f"{name}.bias"] = rng.uniform(-bound, bound, weight[:1]).astype(np.float32)

    layer("conv1", CHANNELS[0], shape.channels, shape.kernel, shape.kernel)
    layer("conv2", CHANNELS[1], CHANNELS[0], shape.kernel, shape.kernel)
    layer("fc1", WIDTHS[0], shape.flat_size())
    layer("fc2", WIDTHS[1], WIDTHS[0])
    layer("fc3", WIDTHS[2], WIDTHS[1])
    return params


# --- Layers: each returns its values, and whatever its gradient needs ---


def convolve(images: Array, weight: Array, bias: Array, padding: int) -> tuple[Array, Array]:
    """Convolve by one product of matrices, of which one has a row for each place of the kernel."""
    outputs, _, kernel, _ = weight.shape
    images = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(images, (kernel, kernel), axis=(2, 3))
    count, _, rows, columns = windows.shape[:4]
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(count * rows * columns, -1)
    values = patches @ weight.reshape(outputs, -1).T + bias
    return values.reshape(count, rows, columns, outputs).transpose(0, 3, 1, 2), patches


def convolve_gradients(
    d_values: Array, patches: Array, weight: Array, padding: int, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Return the gradients of weight, bias and images, which had this shape."""
    outputs, inputs, kernel, _ = weight.shape
    count, _, rows, columns = d_values.shape
    d_rows = d_values.transpose(0, 2, 3, 1).reshape(-1, outputs)
    d_weight = (d_rows.T @ patches).reshape(weight.shape)
    d_patches = (d_rows @ weight.reshape(outputs, -1)).reshape(
        count, rows, columns, inputs, kernel, kernel
    )
    height, width = shape[2] + 2 * padding, shape[3] + 2 * padding
    d_images = np.zeros((count, inputs, height, width), d_values.dtype)
    for i in range(kernel):
        for j in range(kernel):
            part = d_patches[:, :, :, :, i, j].transpose(0, 3, 1, 2)
            d_images[:, :, i : i + rows, j : j + columns] += part
    inside = slice(padding, -padding or None)
    return d_weight, d_rows.sum(axis=0), d_images[:, :, inside, inside]


def pool(values: Array) -> tuple[Array, Array]:
    """Return the largest of each 2x2, and which of the four it was; an odd row is left out."""
    count, channels, rows, columns = (
        size // 2 * 2 if k > 1 else size for k, size in enumerate(values.shape)
    )
    squares = values[:, :, :rows, :columns].reshape(count, channels, rows // 2, 2, columns // 2, 2)
    squares = squares.transpose(0, 1, 2, 4, 3, 5).reshape(*squares.shape[:3], columns // 2, 4)
    which = squares.argmax(axis=-1)
    return np.take_along_axis(squares, which[..., None], axis=-1)[..., 0], which


def pool_gradient(d_pooled: Array, which: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient of what was pooled, which had this shape."""
    count, channels, rows, columns = d_pooled.shape
    squares = np.zeros((*d_pooled.shape, 4), d_pooled.dtype)
    np.put_along_axis(squares, which[..., None], d_pooled[..., None], axis=-1)
    squares = squares.reshape(count, channels, rows, columns, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    d_values = np.zeros(shape, d_pooled.dtype)
    d_values[:, :, : 2 * rows, : 2 * columns] = squares.reshape(count, channels, 2 * rows, -1)
    return d_values


# --- The network ---


class Seen(NamedTuple):
    """What a convolution with its pool saw on the way forward."""

    shape: tuple[int, ...]  # of its images
    patches: Array
    values: Array
    which: Array


def forward(params: Params, images: Array, padding: int) -> tuple[list[Seen], list[Array]]:
    """Return what is seen on the way, and the linear layers' values: at last the scores."""
    seen = []
    for name in ("conv1", "conv2"):
        values, patches = convolve(
            images, params[f"{name}.weight"], params[f"{name}.bias"], padding
        )
        pooled, which = pool(np.maximum(values, 0))
        seen.append(Seen(images.shape, patches, values, which))
        images = pooled
    signals = [images.reshape(len(images), -1)]
    for name in ("fc1", "fc2", "fc3"):
        signal = signals[-1] @ params[f"{name}.weight"].T + params[f"{name}.bias"]
        signals.append(signal if name == "fc3" else np.maximum(signal, 0))
    return seen, signals


def loss_and_gradients(
    params: Params, images: Array, labels: Labels, padding: int
) -> tuple[float, Params]:
    """Return the mean cross-entropy of a mini-batch, and its gradient for each parameter."""
    seen, signals = forward(params, images, padding)
    loss, d_signal = cross_entropy(signals[-1], labels)
    gradients: Params = {}
    for name, inputs in zip(("fc3", "fc2", "fc1"), signals[-2::-1], strict=True):
        gradients[f"{name}.weight"] = d_signal.T @ inputs
        gradients[f"{name}.bias"] = d_signal.sum(axis=0)
        d_signal = d_signal @ params[f"{name}.weight"]
        if name != "fc1":
            d_signal *= inputs > 0
    d_images = d_signal.reshape(len(labels), CHANNELS[-1], *seen[-1].which.shape[2:])
    for name, there in zip(("conv2", "conv1"), reversed(seen), strict=True):
        d_values = pool_gradient(d_images, there.which, there.values.shape) * (there.values > 0)
        weight = params[f"{name}.weight"]
        gradients[f"{name}.weight"], gradients[f"{name}.bias"], d_images = convolve_gradients(
            d_values, there.patches, weight, padding, there.shape
        )
    return loss, gradients


def accuracy(params: Params, images: Array, labels: Labels, padding: int) -> float:
    """Return the share of images whose digit, or class, has the highest score."""
    right = 0
    for first in range(0, len(labels), 500):
        _, signals = forward(params, images[first : first + 500], padding)
        right += (signals[-1].argmax(axis=1) == labels[first : first + 500]).sum()
    return float(right / len(labels))
