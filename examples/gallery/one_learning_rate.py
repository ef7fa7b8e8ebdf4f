"""
One learning rate for all
=========================

Linear regression on features whose scales are a hundred times apart, and of which one is there in
one row of fifty only. SGD's step follows the gradient's size: the weights of the small and the
rare feature hardly move at the learning rate that the large one bears. Adam divides by that size:
all of them move at the same pace, and arrive, the one that has ten times as far to go last.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

# %%
# Each feature explains as much as the others: a weight's true value is larger where its feature is
# smaller.

rng = np.random.default_rng(0)
ROWS, BATCH, EPOCHS = 2000, 50, 40
NAMES = ("large (scale 10)", "usual (scale 1)", "small (scale 0.1)", "rare (1 row in 50)")
scales = np.array([10.0, 1.0, 0.1, 1.0])
features = scales * rng.standard_normal((ROWS, 4))
features[:, 3] *= rng.random(ROWS) < 0.02
truth = 1 / scales
target = features @ truth


def weights_over_time(optimizer, lr):
    """Return each weight's share of its true value, after each step."""
    order = np.random.default_rng(1)
    weights = np.zeros(4)
    opt = optimizer([weights], lr=lr)
    shares = [weights / truth]
    for _ in range(EPOCHS):
        for rows in order.permutation(ROWS).reshape(-1, BATCH):
            error = features[rows] @ weights - target[rows]
            opt.step([features[rows].T @ error / BATCH])
            shares.append(weights / truth)
    return np.array(shares)


runs = {
    "SGD": weights_over_time(fusedopt.SGD, lr=0.004),  # near 0.02 it diverges
    "Adam": weights_over_time(fusedopt.Adam, lr=0.02),
}
print(f"{'share of its true value, at the end':36}", *runs, sep="  ")
for k, name in enumerate(NAMES):
    print(f"{name:36}", *(f"{shares[-1, k]:5.2f}" for shares in runs.values()), sep="")

# %%
figure, (axes,) = picture(11, 4.2, columns=2, sharey=True)
colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, 4))
for each, (name, shares) in zip(axes, runs.items(), strict=True):
    for k, feature in enumerate(NAMES):
        each.plot(shares[:, k], color=colors[k], lw=2, label=feature)
    each.axhline(1, color=GROUND, ls=":")
    each.set(xlabel="step", ylim=(-0.1, 1.75))
    each.set_title(name, loc="left", color=COLORS[name])
axes[0].set_ylabel("weight / its true value")
axes[1].legend(title="the feature is", loc="lower right")
plt.show()
