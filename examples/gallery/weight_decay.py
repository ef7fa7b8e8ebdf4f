"""
L2 penalty and decoupled weight decay
=====================================

Two ways to shrink weights: add them to the gradient (an L2 penalty), or shrink them beside the
step (decoupled weight decay). Under SGD both are the same. Adam divides the gradient by its usual
size, and the penalty with it: where gradients are large, an L2 penalty hardly shrinks anything,
and where they are small, too much. AdamW shrinks all weights alike.

Whether that makes a better network is another question. In the small experiment at the end the
gain over no decay is one to three percent, and the best value of either hardly depends on the
learning rate.

"Decoupled Weight Decay Regularization", I. Loshchilov and F. Hutter, ICLR 2019.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, picture
from network import (
    accuracy,
    batches,
    initial_params,
    load_data,
    loss_and_gradients,
    steps_per_epoch,
)

import fusedopt
from fusedopt import schedules

# %%
# Weights whose gradients are only noise, from small to large: there is nothing to learn, and all
# that moves them away from 1 on average is the decay. Half of the gradients are the other half's
# negatives, so that the average is sharp.

rng = np.random.default_rng(0)
SCALES = np.logspace(-2, 2, 9)
COPIES, STEPS = 400, 1500
LEARNING_RATE, DECAY = 0.001, 0.5
noise = rng.standard_normal((STEPS, len(SCALES), COPIES // 2)) * SCALES[:, None]
noise = np.concatenate([noise, -noise], axis=2)


def left_of_weights(optimizer, **hyperparameters):
    """Return the mean of what is left of weights of 1, for each scale of gradients."""
    weights = np.ones((len(SCALES), COPIES))
    opt = optimizer([weights], lr=LEARNING_RATE, weight_decay=DECAY, **hyperparameters)
    for gradient in noise:
        opt.step([gradient])
    return weights.mean(axis=1)


decoupled = {"decoupled_weight_decay": True}
left = {
    "SGD, L2": left_of_weights(fusedopt.SGD),
    "SGD, decoupled": left_of_weights(fusedopt.SGD, **decoupled),
    "Adam, L2": left_of_weights(fusedopt.Adam),
    "Adam, decoupled: AdamW": left_of_weights(fusedopt.AdamW),
}
expected = (1 - LEARNING_RATE * DECAY) ** STEPS
print(f"(1 - lr · weight_decay) ** {STEPS} = {expected:.3f}")
print(f"{'left of a weight, gradients near':34} 0.01     1   100")
for name, seen in left.items():
    print(f"{name:32}", *(f"{seen[k]:5.2f}" for k in (0, 4, 8)))

# %%
# The digits, few of them and three in ten with a wrong label, so that there is something to gain by
# keeping weights small: test accuracy over a grid. The first column is without any decay.

QUICK = "--quick" in sys.argv
IMAGES, EPOCHS, SEEDS = (300, 10, 1) if QUICK else (300, 40, 3)
RATES = np.logspace(-3, -1, 3 if QUICK else 5)
GRIDS = {
    "Adam, L2 penalty": (np.logspace(-4, -1, 4 if QUICK else 7), {}),
    "Adam, decoupled: AdamW": (np.logspace(-2, 1, 4 if QUICK else 7), decoupled),
}
digits = load_data()
labels = digits.train_labels[:IMAGES].copy()
wrong = rng.random(IMAGES) < 0.3
labels[wrong] = rng.integers(0, 10, wrong.sum())
few = digits._replace(train_images=digits.train_images[:IMAGES], train_labels=labels)
STEPS_OF_A_RUN = EPOCHS * steps_per_epoch(few)


def mean_accuracy(lr, weight_decay, **hyperparameters):
    """Return it over some initial weights."""
    seen = []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed)
        params = initial_params(order, (64, 64, 10))
        opt = fusedopt.Adam(
            params,
            lr=schedules.cosine(lr, steps=STEPS_OF_A_RUN),
            weight_decay=weight_decay,
            **hyperparameters,
        )
        for _ in range(EPOCHS):
            for images, labels in batches(few, order):
                _, gradients = loss_and_gradients(params, images, labels)
                opt.step(gradients)
        seen.append(accuracy(params, few.test_images, few.test_labels))
    return np.mean(seen)


maps = {
    name: np.array([[mean_accuracy(lr, decay, **more) for decay in (0, *decays)] for lr in RATES])
    for name, (decays, more) in GRIDS.items()
}
for name, (decays, _) in GRIDS.items():
    row, column = np.unravel_index(maps[name].argmax(), maps[name].shape)
    at = f"at lr={RATES[row]:.2g}, weight_decay={(0, *decays)[column]:.2g}"
    print(f"{name:24} best {maps[name].max():.1%} {at}; without decay {maps[name][:, 0].max():.1%}")

# %%
figure, ((axes,),) = picture(8, 4)
# Three of them lie upon each other: a wide line, rings and crosses.
styles = {
    "SGD, L2": {"color": COLORS["SGD"], "lw": 7, "alpha": 0.35},
    "SGD, decoupled": {"color": COLORS["SGD"], "ls": "", "marker": "o", "ms": 11, "mfc": "none"},
    "Adam, L2": {"color": COLORS["Adam"], "lw": 2.5},
    "Adam, decoupled: AdamW": {"color": "black", "ls": "", "marker": "x", "ms": 6},
}
for name, seen in left.items():
    axes.semilogx(SCALES, seen, label=name, **styles[name])
axes.set(xlabel="scale of the gradient", ylabel="what is left of a weight of 1", ylim=(0, 1.1))
axes.set_title(f"After {STEPS} steps of noise, with lr · weight_decay = {LEARNING_RATE * DECAY}")
axes.legend()

figure, (axes,) = picture(11, 4.4, columns=2)
everything = np.array([*maps.values()])
lowest, highest = np.quantile(everything, 0.2), everything.max()
for each, (name, (decays, _)) in zip(axes, GRIDS.items(), strict=True):
    between = {"vmin": 100 * lowest, "vmax": 100 * highest}
    mesh = each.imshow(100 * maps[name], **between, cmap="viridis", origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(maps[name]):
        weight = "bold" if value == maps[name].max() else "normal"
        color = "white" if value < (lowest + highest) / 2 else "black"
        each.text(
            column, row, f"{100 * value:.0f}", ha="center", va="center", color=color, weight=weight
        )
    each.set_xticks(range(len(decays) + 1), [f"{decay:.2g}" for decay in (0, *decays)], rotation=45)
    each.set_yticks(range(len(RATES)), [f"{lr:.2g}" for lr in RATES])
    each.set(xlabel="weight_decay", ylabel="learning rate", title=f"{name}: test accuracy in %")
    each.grid(False)
figure.colorbar(mesh, ax=list(axes))
plt.show()
