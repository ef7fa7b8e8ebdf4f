"""
Down an elongated bowl
======================

A bowl that is 30 times steeper across than along. Gradient descent has one learning rate for both:
nearly as large as the steep direction bears, it jumps from side to side, and a little larger, out
of the bowl; small enough not to jump, it creeps along the bottom. Momentum is faster along,
overshoots and turns; Nesterov's turns less; RMSProp and Adam scale each direction by itself: both
start straight for the minimum, RMSProp goes on nearly so, and Adam, which has a momentum, too,
overshoots.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

# %%
# f(x, y) = (x² + 30 y²) / 2. Descent diverges above a learning rate of 2/30.

CURVATURE = np.array([1.0, 30.0])
START = np.array([-9.0, 3.0])
STEPS = 60


def value(points):
    return (points**2 * CURVATURE).sum(axis=-1) / 2


def path(optimizer, steps=STEPS, **hyperparameters):
    """Return where it goes, a row for each step."""
    point = START.copy()
    opt = optimizer([point], **hyperparameters)
    points = [point.copy()]
    for _ in range(steps):
        opt.step([CURVATURE * point])
        points.append(point.copy())
    return np.array(points)


paths = {
    ("SGD", "lr=0.02"): path(fusedopt.SGD, lr=0.02),
    ("SGD", "lr=0.065: almost too large"): path(fusedopt.SGD, lr=0.065),
    ("Momentum", "lr=0.02, momentum=0.8"): path(fusedopt.SGD, lr=0.02, momentum=0.8),
    ("Nesterov", "lr=0.02, momentum=0.8, nesterov=True"): path(
        fusedopt.SGD, lr=0.02, momentum=0.8, nesterov=True
    ),
    ("RMSProp", "lr=0.2, alpha=0.9"): path(fusedopt.RMSprop, lr=0.2, alpha=0.9),
    ("Adam", "lr=0.4"): path(fusedopt.Adam, lr=0.4),
}

# %%
# How much longer the way was than a straight line between its ends; and what it led to. In the
# picture circles are the start, and stars the minimum.


def detour(points):
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    return length / np.linalg.norm(points[-1] - points[0])


print(f"after {STEPS} steps {'f':>41} {'way / straight line':>20}")
for (name, hyperparameters), points in paths.items():
    print(f"{name:8} {hyperparameters:36} {value(points[-1]):8.2e} {detour(points):16.2f}")

# %%
figure, axes = picture(11, 9, rows=3, columns=2, sharex=True, sharey=True)
x, y = np.meshgrid(np.linspace(-10, 4, 200), np.linspace(-4, 4, 200))
heights = value(np.stack([x, y], axis=-1))
for each, ((name, hyperparameters), points) in zip(axes.flat, paths.items(), strict=True):
    each.contour(x, y, heights, levels=np.geomspace(0.3, 250, 12), colors=GROUND, linewidths=0.6)
    each.plot(*points.T, "o-", ms=3, lw=1.3, color=COLORS[name])
    each.plot(*START, "o", ms=8, mfc="white", color=COLORS[name])
    each.plot(0, 0, "*", ms=13, color="black")
    each.set_title(f"{name}: {hyperparameters}", loc="left", color=COLORS[name])
    each.annotate(
        f"f = {value(points[-1]):.1g} after {STEPS} steps",
        (0.98, 0.04),
        ha="right",
        xycoords="axes fraction",
        bbox={"fc": "white", "ec": "none", "pad": 2},
    )
    each.set(xlim=(-10, 4), ylim=(-4, 4))
    each.grid(False)
plt.show()
