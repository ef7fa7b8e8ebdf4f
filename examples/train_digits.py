"""Train a network on handwritten digits with seven optimizers, and compare them.

The network is a multi-layer perceptron in plain NumPy (gallery/network.py). Each optimizer trains
it twice, from the same initial weights and with the same mini-batches: with fusedopt, and with the
class of the same name in fusedopt.reference, which does the same arithmetic in NumPy. Prints a
table and saves a plot of the training losses.

    pip install '.[examples]'    # in the root of the repository
    python examples/train_digits.py
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gallery.network import (
    Images,
    Params,
    accuracy,
    batches,
    initial_params,
    load_data,
    loss_and_gradients,
)
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn
from rich.table import Table

import fusedopt
from fusedopt import reference

LAYER_SIZES = (64, 512, 256, 10)  # 8x8 pixels, two hidden layers, ten digits
BATCH_SIZE = 64
EPOCHS = 30
QUICK_EPOCHS = 3

# For each optimizer: its class, in fusedopt and in fusedopt.reference, and the class's arguments.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.3}),
    "Momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "Nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "RMSProp": ("RMSprop", {"lr": 0.0005}),
    "Adam": ("Adam", {"lr": 0.001}),
    "AMSGrad": ("Adam", {"lr": 0.001, "amsgrad": True}),
    "AdamW": ("AdamW", {"lr": 0.001, "weight_decay": 0.1}),
}


class Run(NamedTuple):
    """What one training run leaves behind."""

    params: Params
    losses: list[float]  # mean training loss of each epoch
    accuracy: float  # on the test images, from 0 to 1
    step_seconds: float  # spent in opt.step


# --- Training ---


def train(
    optimizer_class: Callable[..., fusedopt.Optimizer],
    arguments: dict[str, Any],
    digits: Images,
    epochs: int,
    seed: int,
    after_epoch: Callable[[], None],
) -> Run:
    """Train a new network; the seed decides its initial weights and the mini-batches."""
    rng = np.random.default_rng(seed)
    params = initial_params(rng, LAYER_SIZES)
    opt = optimizer_class(params, **arguments)
    losses = []
    step_seconds = 0.0
    for _ in range(epochs):
        loss_sum = 0.0
        for images, labels in batches(digits, rng, BATCH_SIZE):
            loss, grads = loss_and_gradients(params, images, labels)
            loss_sum += loss * len(labels)  # weighted, as the last batch is smaller
            start = time.perf_counter()
            opt.step(grads)  # updates the arrays in params
            step_seconds += time.perf_counter() - start
        losses.append(loss_sum / len(digits.train_labels))
        after_epoch()
    right = accuracy(params, digits.test_images, digits.test_labels)
    return Run(params, losses, right, step_seconds)


def train_all(epochs: int, seed: int, console: Console) -> dict[str, tuple[Run, Run]]:
    """Train with each optimizer, and return its run with fusedopt and its run in NumPy."""
    digits = load_data(seed)
    results = {}
    timer = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress("{task.description:18}", BarColumn(), timer, console=console) as progress:
        task = progress.add_task("", total=2 * len(OPTIMIZERS) * epochs)

        def advance() -> None:
            progress.advance(task)

        for name, (class_name, arguments) in OPTIMIZERS.items():
            progress.update(task, description=f"{name}, fusedopt")
            fused_class = getattr(fusedopt, class_name)
            fused = train(fused_class, arguments, digits, epochs, seed, advance)
            progress.update(task, description=f"{name}, NumPy")
            numpy_class = getattr(reference, class_name)
            in_numpy = train(numpy_class, arguments, digits, epochs, seed, advance)
            results[name] = fused, in_numpy
        progress.update(task, description="Trained")
    return results


# --- The report ---


def print_report(results: dict[str, tuple[Run, Run]], console: Console) -> None:
    """Print a row for each optimizer, and for how many both runs ended alike."""
    table = Table(title="Handwritten digits", caption="Seconds: in opt.step alone, on one thread")
    table.add_column("\nOptimizer")
    for heading in ("Test\naccuracy", "Seconds,\nfusedopt", "Seconds,\nNumPy", "\nSpeed-up"):
        table.add_column(heading, justify="right")
    same_accuracy = same_params = 0
    for name, (fused, in_numpy) in results.items():
        table.add_row(
            name,
            f"{fused.accuracy:.1%}",
            f"{fused.step_seconds:.3f}",
            f"{in_numpy.step_seconds:.3f}",
            f"{in_numpy.step_seconds / fused.step_seconds:.1f}x",
        )
        same_accuracy += fused.accuracy == in_numpy.accuracy
        same_params += all(np.array_equal(p, in_numpy.params[k]) for k, p in fused.params.items())
    console.print(table)
    console.print(f"Same test accuracy with fusedopt and NumPy: {same_accuracy} of {len(results)}")
    console.print(f"Same parameters too, bit for bit: {same_params} of {len(results)}")


def save_plot(results: dict[str, tuple[Run, Run]], path: Path) -> None:
    """Plot the training losses of the runs with fusedopt."""
    # A Figure made without pyplot is drawn by the Agg backend, which needs no display.
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, (fused, _)) in enumerate(results.items()):
        epochs = range(1, len(fused.losses) + 1)
        # Some curves nearly coincide: dashes and dots let those below show.
        axes.semilogy(epochs, fused.losses, linestyle=(":", "-", "--")[i % 3], lw=2, label=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(left=0.5)
    axes.set(title="Training on handwritten digits", xlabel="Epoch", ylabel="Mean training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format="png", dpi=150)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train on handwritten digits with 7 optimizers.")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"train {QUICK_EPOCHS} epochs only")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default="digits.png", help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    if not arguments.output.absolute().parent.is_dir():
        parser.error(f"--output: there is no folder {arguments.output.parent}")
    return arguments


def main() -> None:
    """Train, print the table and save the plot."""
    arguments = parse_arguments()
    epochs = QUICK_EPOCHS if arguments.quick else arguments.epochs
    console = Console()
    # For a fair comparison: the reference steps on one thread. More would gain little on a network
    # this small.
    fusedopt.set_num_threads(1)
    results = train_all(epochs, arguments.seed, console)
    print_report(results, console)
    save_plot(results, arguments.output)
    console.print(f"Loss curves: {arguments.output}")


if __name__ == "__main__":
    main()
