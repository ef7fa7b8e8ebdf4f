"""
Momentum from 0.5 to 0.9
========================

At the beginning gradients can be large, and much momentum throws the weights about; later it
carries them along. So it was usual to begin with 0.5 and to raise it to 0.9 over the first epochs.
Here that is a schedule: any number among an optimizer's hyperparameters may be one.

It helps where the beginning is rough: with pixels from 0 to 16, as they come, the raised momentum
is best in nearly every epoch. With pixels from 0 to 1, which bear a learning rate eight times
larger, 0.9 all the time is better. Look at your own curves before you reach for it.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from look import picture
from network import batches, initial_params, load_data, loss_and_gradients, steps_per_epoch

import fusedopt
from fusedopt import schedules

# %%
# A small network on handwritten digits, from several initial weights. With ``velocity=True`` the
# learning rate is in the velocity, as in the papers that did this.

QUICK = "--quick" in sys.argv
EPOCHS = 8 if QUICK else 20
SEEDS = 5
RISE = 5
digits = load_data()
MOMENTA = {
    "0.5": 0.5,
    "0.9": 0.9,
    f"0.5 to 0.9 in {RISE} epochs": schedules.linear(
        0.5, 0.9, steps=RISE * steps_per_epoch(digits)
    ),
}
BEGINNINGS = {
    "rough: pixels from 0 to 16, lr=0.008": {"brightest": 16, "lr": 0.008},
    "smoother: pixels from 0 to 1, lr=0.06": {"brightest": 1, "lr": 0.06},
}


def losses(momentum, seed, brightest, lr):
    """Return the mean loss of each epoch."""
    rng = np.random.default_rng(seed)
    params = initial_params(rng, (64, 64, 32, 10))
    opt = fusedopt.SGD(params, lr=lr, momentum=momentum, velocity=True)
    means = []
    for _ in range(EPOCHS):
        seen = []
        for images, labels in batches(digits, rng):
            loss, gradients = loss_and_gradients(params, images * np.float32(brightest), labels)
            opt.step(gradients)
            seen.append(loss)
        means.append(np.mean(seen))
    return means


runs = {
    beginning: {
        name: np.array([losses(momentum, seed, **settings) for seed in range(SEEDS)])
        for name, momentum in MOMENTA.items()
    }
    for beginning, settings in BEGINNINGS.items()
}
for beginning, of_momenta in runs.items():
    print(f"{beginning:38} epoch 1  epoch 5  epoch {EPOCHS}")
    for name, seen in of_momenta.items():
        mean = seen.mean(axis=0)
        print(f"  momentum {name:27}  {mean[0]:8.3f} {mean[4]:8.3f} {mean[-1]:9.4f}")

# %%
figure, (axes,) = picture(11, 4.4, columns=2)
colors = plt.get_cmap("plasma")([0.1, 0.75, 0.45])
epochs = np.arange(1, EPOCHS + 1)
for each, (beginning, of_momenta) in zip(axes, runs.items(), strict=True):
    for (name, seen), color in zip(of_momenta.items(), colors, strict=True):
        each.semilogy(epochs, seen.mean(axis=0), color=color, lw=2, label=name)
        low, high = seen.min(axis=0), seen.max(axis=0)
        each.fill_between(epochs, low, high, color=color, alpha=0.12, lw=0)
    each.set(xlabel="epoch", title=beginning.capitalize(), xticks=range(0, EPOCHS + 1, 5))
axes[0].set_ylabel("training loss")
axes[0].legend(title="momentum", loc="lower left")
figure.suptitle(f"Mean, and range, over {SEEDS} initial weights", color="#777777", fontsize=10)
plt.show()
