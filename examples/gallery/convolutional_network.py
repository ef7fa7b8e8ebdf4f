"""
A convolutional network, SGD against Adam
=========================================

The network of torch's CIFAR-10 tutorial, two convolutions and three linear layers, trained in
batches of four images by SGD with momentum and by Adam, from the same weights, both with the
tutorial's learning rate of 0.001. That is Adam's usual one, and a small one for SGD, which nobody
has tuned here: with ``lr=0.01`` it is nearly as fast. It trains on the handwritten digits that
come with scikit-learn, with backpropagation in plain NumPy: 98% or so, on images of 8x8 pixels
that are much easier than CIFAR's.

For CIFAR-10 itself, fetch "CIFAR-10 python version", unpack it, and name the folder; ``--torch``
leaves the gradients to torch, where it is installed, and the steps to fusedopt:

.. code-block:: sh

    python examples/gallery/convolutional_network.py --data cifar-10-batches-py --torch
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from convolution import CIFAR, DIGITS, accuracy, initial_params, loss_and_gradients
from images import load_cifar, load_digits
from look import COLORS, picture
from rich.console import Console
from rich.progress import Progress

import fusedopt

parser = argparse.ArgumentParser(description="Train a convolutional network by SGD and Adam.")
parser.add_argument("--data", type=Path, metavar="FOLDER", help="CIFAR-10's python batches")
parser.add_argument("--batches", type=int, help="how many, of four images; default: 8000")
parser.add_argument("--torch", action="store_true", help="gradients by torch")
parser.add_argument("--quick", action="store_true", help="600 batches")
options = parser.parse_args()
count = options.batches or (600 if options.quick else 8000)
if count < 4:
    parser.error("--batches must be at least 4")
shape, images = (CIFAR, load_cifar(options.data)) if options.data else (DIGITS, load_digits())

# %%
# Gradients by torch: tensors that share memory with the arrays, so that fusedopt's steps change
# both. The parameters have the names and shapes of ``torch.nn.Conv2d`` and ``Linear``.


def torch_gradients(params):
    """Return a function like `loss_and_gradients`, and the same network in torch."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in params.items()}

    def layer(name):
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def gradients_by_torch(_, batch, labels, padding):
        values = torch.from_numpy(batch)
        for name in ("conv1", "conv2"):
            values = F.max_pool2d(F.relu(F.conv2d(values, *layer(name), padding=padding)), 2)
        values = values.flatten(1)
        for name in ("fc1", "fc2", "fc3"):
            values = F.linear(values if name == "fc1" else F.relu(values), *layer(name))
        loss = F.cross_entropy(values, torch.from_numpy(labels))
        found = torch.autograd.grad(loss, list(tensors.values()))
        gradients = {name: g.numpy() for name, g in zip(tensors, found, strict=True)}
        return loss.item(), gradients

    return gradients_by_torch


# %%
# Training: the loss, and the accuracy on images that aren't trained on, after every 1,000 batches,
# or a quarter of them where there are few.

OPTIMIZERS = {
    "Momentum": ("SGD, momentum 0.9", fusedopt.SGD, {"lr": 0.001, "momentum": 0.9}),
    "Adam": ("Adam", fusedopt.Adam, {"lr": 0.001}),
}
BATCH = 4
EVERY = 1000 if count >= 2000 else count // 4


def train(optimizer, hyperparameters, after_batch):
    """Return the mean losses and accuracies, and the trained parameters."""
    rng = np.random.default_rng(0)
    params = initial_params(shape, rng)
    gradients_of = torch_gradients(params) if options.torch else loss_and_gradients
    opt = optimizer(params, **hyperparameters)
    means, accuracies, seen = [], [], []
    rows = np.empty(0, np.int64)
    for batch in range(1, count + 1):
        if len(rows) < BATCH:
            rows = rng.permutation(len(images.train_labels))
        chosen, rows = rows[:BATCH], rows[BATCH:]
        loss, gradients = gradients_of(
            params, images.train_images[chosen], images.train_labels[chosen], shape.padding
        )
        opt.step(gradients)
        seen.append(loss)
        if batch % EVERY == 0:
            means.append(np.mean(seen))
            seen = []
            right = accuracy(params, images.test_images, images.test_labels, shape.padding)
            accuracies.append(right)
        after_batch()
    return means, accuracies, params


runs = {}
console = Console()
with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
    for name, (label, optimizer, hyperparameters) in OPTIMIZERS.items():
        task = progress.add_task(label, total=count)
        runs[name] = train(optimizer, hyperparameters, lambda task=task: progress.advance(task))

print(f"{'':20}", *(f"{k * EVERY:>7}" for k in range(1, count // EVERY + 1)), "batches")
for name, (means, accuracies, _) in runs.items():
    label = OPTIMIZERS[name][0]
    print(f"{label:18} loss", *(f"{loss:7.3f}" for loss in means))
    print(f"{'accuracy':>23}", *(f"{right:7.1%}" for right in accuracies))

# %%
figure, (axes,) = picture(11, 4.2, columns=2)
ticks = np.arange(1, count // EVERY + 1) * EVERY
for name, (means, accuracies, _) in runs.items():
    axes[0].semilogy(ticks, means, "o-", color=COLORS[name], label=OPTIMIZERS[name][0])
    axes[1].plot(ticks, 100 * np.array(accuracies), "o-", color=COLORS[name])
data = "CIFAR-10" if options.data else "handwritten digits, 8x8 pixels"
axes[0].set(xlabel="batches of 4", ylabel="training loss", title=f"Loss: {data}")
axes[1].set(xlabel="batches of 4", ylabel="accuracy in %", title="Test accuracy", ylim=(None, 100))
axes[0].legend(title="both with lr=0.001")
plt.show()
