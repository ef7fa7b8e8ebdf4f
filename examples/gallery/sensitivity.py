"""
How good the learning rate has to be
====================================

The same network from the same weights, trained with learning rates from 0.00001 to 10. The curves
are accuracies on images that were not trained on. Adam and RMSProp want a learning rate some
thirty times smaller than SGD does. How wide is each one's good range? Adam's and RMSProp's span a
factor of ten, momentum's one of six; plain SGD comes near the others at one rate only.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture
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
# Each falls to zero with a cosine, as is usual. A run that diverges counts as well: its accuracy is
# about that of guessing.

QUICK = "--quick" in sys.argv
EPOCHS, SEEDS = (3, 1) if QUICK else (10, 3)
RATES = np.logspace(-5, 1, 13 if QUICK else 25)
OPTIMIZERS = {
    "SGD": (fusedopt.SGD, {}),
    "Momentum": (fusedopt.SGD, {"momentum": 0.9}),
    "RMSProp": (fusedopt.RMSprop, {}),
    "Adam": (fusedopt.Adam, {}),
}
digits = load_data()
STEPS = EPOCHS * steps_per_epoch(digits)


def final_accuracy(optimizer, hyperparameters, lr, seed):
    rng = np.random.default_rng(seed)
    params = initial_params(rng, (64, 64, 32, 10))
    opt = optimizer(params, lr=schedules.cosine(lr, steps=STEPS), **hyperparameters)
    with np.errstate(all="ignore"):
        for _ in range(EPOCHS):
            for images, labels in batches(digits, rng):
                _, gradients = loss_and_gradients(params, images, labels)
                opt.step(gradients)
        return accuracy(params, digits.test_images, digits.test_labels)


accuracies = {
    name: np.array(
        [np.mean([final_accuracy(*how, lr, seed) for seed in range(SEEDS)]) for lr in RATES]
    )
    for name, how in OPTIMIZERS.items()
}

# %%
# The good range: where it is within two percent of the best that any of them reached.

best = max(seen.max() for seen in accuracies.values())
good = {name: RATES[seen > best - 0.02] for name, seen in accuracies.items()}
print(f"{'':10} best   at lr      within 2% of {best:.1%}")
for name, seen in accuracies.items():
    lowest, highest = (good[name].min(), good[name].max()) if len(good[name]) else (0, 0)
    print(
        f"{name:10} {seen.max():.1%}  {RATES[seen.argmax()]:8.2g}  {lowest:8.2g} to {highest:.2g}"
    )

# %%
figure, ((axes,),) = picture(9, 4.8)
for name, seen in accuracies.items():
    axes.semilogx(RATES, 100 * seen, "o-", ms=4, color=COLORS[name], lw=2, label=name)
for place, (name, rates) in enumerate(good.items()):
    if len(rates):
        ends, height = [rates.min(), rates.max()], 107 + 3.5 * place
        axes.plot(ends, [height] * 2, "|-", color=COLORS[name], lw=4, ms=9, mew=3)
axes.axhline(10, color=GROUND, ls=":")
axes.annotate("guessing", (RATES[0], 9), va="top", color=GROUND)
axes.set(xlabel="learning rate", ylabel="test accuracy in %", yticks=range(0, 101, 20))
axes.set_title(f"After {EPOCHS} epochs; bars: within 2% of the best of all", loc="left")
axes.legend(loc="center right")
plt.show()
