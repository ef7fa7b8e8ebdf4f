"""
Five optimizers, by the clock
=============================

One network, five optimizers: the loss over steps says which rule learns faster; the loss over
seconds, what you wait for. The same rules in NumPy, a line of arithmetic after the other as in
`fusedopt.reference`, which is written to be read, go the same way bit for bit, but later: several
passes over memory for each step instead of one.
"""

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, picture
from network import batches, initial_params, load_data, loss_and_gradients

import fusedopt
from fusedopt import reference

# %%
# Steps are on one thread, as those in NumPy are. Of several runs the fastest counts: what else the
# machine does can only make them slower.

QUICK = "--quick" in sys.argv
EPOCHS, ROUNDS = (2, 1) if QUICK else (12, 3)
RULES = {
    "SGD": ("SGD", {"lr": 0.3}),
    "Momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "Nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "RMSProp": ("RMSprop", {"lr": 0.0005}),
    "Adam": ("Adam", {"lr": 0.001}),
}
digits = load_data()
fusedopt.set_num_threads(1)


def train(optimizer, hyperparameters):
    """Return the loss of each step, seconds until its end, and the share of them in step()."""
    rng = np.random.default_rng(0)
    params = initial_params(rng, (64, 512, 256, 10))
    opt = optimizer(params, **hyperparameters)
    losses, ends, in_steps = [], [], 0.0
    begin = time.perf_counter()
    for _ in range(EPOCHS):
        for images, labels in batches(digits, rng):
            loss, gradients = loss_and_gradients(params, images, labels)
            before = time.perf_counter()
            opt.step(gradients)
            ends.append(time.perf_counter() - begin)
            in_steps += ends[-1] + begin - before
            losses.append(loss)
    return np.array(losses), np.array(ends), in_steps / ends[-1]


runs = {name: {} for name in RULES}
for _ in range(ROUNDS):
    for name, (rule, hyperparameters) in RULES.items():
        for library in (fusedopt, reference):
            run = train(getattr(library, rule), hyperparameters)
            fastest = runs[name].setdefault(library.__name__, run)
            runs[name][library.__name__] = min(run, fastest, key=lambda run: run[1][-1])
same = all(
    np.array_equal(seen["fusedopt"][0], seen["fusedopt.reference"][0]) for seen in runs.values()
)
print(f"same losses, bit for bit: {same}")
print("            loss at the end   seconds: fusedopt  NumPy   in steps: fusedopt  NumPy")
for name, seen in runs.items():
    (losses, ends, share), (_, numpy_ends, numpy_share) = seen.values()
    print(
        f"{name:10} {losses[-20:].mean():16.4f} {ends[-1]:18.2f} {numpy_ends[-1]:6.2f} "
        f"{share:19.0%} {numpy_share:6.0%}"
    )

# %%
# Over time two of the rules will do: ten lines would hide each other.

figure, (axes,) = picture(12, 4.2, columns=3)


def smooth(losses, width=15):
    return np.convolve(losses, np.ones(width) / width, "valid")


for name, seen in runs.items():
    (losses, ends, _), (_, numpy_ends, _) = seen.values()
    curve = smooth(losses)
    skipped = len(losses) - len(curve)
    axes[0].semilogy(np.arange(skipped, len(losses)), curve, color=COLORS[name], label=name)
    if name in ("Momentum", "Adam"):
        axes[1].semilogy(ends[skipped:], curve, color=COLORS[name], label=f"{name}, fusedopt")
        axes[1].semilogy(
            numpy_ends[skipped:], curve, color=COLORS[name], ls=":", label=f"{name}, NumPy"
        )
axes[0].set(xlabel="step", ylabel="training loss", title="Over steps: the same for both")
axes[0].legend()
axes[1].set(xlabel="seconds", title="Over time: fusedopt is there first")
axes[1].legend()
for place, (name, seen) in enumerate(runs.items()):
    for shift, (library, alpha) in enumerate(zip(seen, (1, 0.35), strict=True)):
        share = 100 * seen[library][2]
        bar = axes[2].barh(place + 0.4 * shift, share, 0.38, color=COLORS[name], alpha=alpha)
        axes[2].bar_label(bar, [f"{share:.0f}%  {('fusedopt', 'NumPy')[shift]}"], padding=3)
axes[2].set_yticks(np.arange(len(runs)) + 0.2, list(runs))
axes[2].invert_yaxis()
axes[2].set(title="Share of time in the optimizer", xlim=(0, 100), xlabel="%")
axes[2].grid(False)
plt.show()
