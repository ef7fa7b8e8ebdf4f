"""
Nesterov looks ahead
====================

Nesterov's momentum takes the gradient not where the parameters are, but where their velocity is
about to carry them. If that is too far, the gradient there points back, and the step is mended
before it is made. This is how it was written: two places, and a gradient at the second. Libraries
rearrange it, so that the parameters *are* the second place all the time; ``nesterov=True`` does.
Both go the same way, with ``velocity=True``, where the learning rate is part of the velocity.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

CURVATURE = np.array([1.0, 12.0])
START = np.array([-4.0, 1.5])
FORM = {"lr": 0.03, "momentum": 0.8, "velocity": True}
STEPS = 60


def value(points):
    return (points**2 * CURVATURE).sum(axis=-1) / 2


# %%
# As it was written. Inside ``lookahead()`` the array holds the place ahead; behind the block it is
# what it was, and ``step`` makes Nesterov's step from there.

point = START.copy()
opt = fusedopt.SGD([point], **FORM)
points, ahead = [point.copy()], []
for _ in range(STEPS):
    with opt.lookahead():
        ahead.append(point.copy())
        gradient = CURVATURE * point
    opt.step([gradient])
    points.append(point.copy())
points, ahead = np.array(points), np.array(ahead)

# %%
# Rearranged: one place, which is the one ahead. And momentum without looking.


def path(**more):
    """Return where the parameters are, a row for each step."""
    point = START.copy()
    opt = fusedopt.SGD([point], **FORM, **more)
    points = [point.copy()]
    for _ in range(STEPS):
        opt.step([CURVATURE * point])
        points.append(point.copy())
    return np.array(points)


rearranged, plain = path(nesterov=True)[:-1], path()
difference = np.abs(rearranged - ahead).max()
print(f"largest difference of the rearranged path from the places ahead: {difference:.1e}")
overshoot = {"Momentum": -plain[:, 1].min(), "Nesterov": -points[:, 1].min()}
for name, far in overshoot.items():
    print(f"{name}: shoots past the bottom of the valley by {far:.2f}")

# %%
# Three steps as vectors, the axes stretched: grey, where the velocity leads; then the gradient's
# part, from there. On the right, the whole paths: circles, the rearranged form, upon the places
# ahead.

figure, (axes,) = picture(11, 4.8, columns=2)
x, y = np.meshgrid(np.linspace(-5, 2, 200), np.linspace(-2.5, 2.5, 200))
heights = value(np.stack([x, y], axis=-1))
for each in axes:
    each.contour(x, y, heights, levels=np.geomspace(0.1, 30, 12), colors=GROUND, linewidths=0.5)
    each.grid(False)


def arrow(start, end, color):
    how = {"arrowstyle": "-|>", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    axes[0].annotate("", end, start, arrowprops=how)


for k in range(1, 4):
    arrow(points[k], ahead[k], GROUND)
    arrow(ahead[k], points[k + 1], COLORS["Nesterov"])
    axes[0].annotate(f"x{k}", points[k], xytext=(-20, -4), textcoords="offset points")
axes[0].plot(*points[1:5].T, "o", color=COLORS["Nesterov"])
axes[0].plot([], [], color=GROUND, lw=2, label="velocity: momentum · v")
axes[0].plot([], [], color=COLORS["Nesterov"], lw=2, label="gradient, taken there: -lr · g")
axes[0].annotate("x4", points[4], xytext=(-20, -4), textcoords="offset points")
axes[0].set(title="Three steps", xlim=(-4.1, -2.4), ylim=(-1.0, 1.2))
axes[0].legend(loc="upper right")
axes[1].plot(*plain.T, "-", color=COLORS["Momentum"], label="momentum")
axes[1].plot(*ahead.T, ".-", ms=5, color=COLORS["Nesterov"], label="Nesterov: the places ahead")
axes[1].plot(
    *rearranged.T, "o", ms=8, mfc="none", color="black", label="nesterov=True: the parameters"
)
axes[1].plot(0, 0, "*", ms=13, color="black", zorder=3)
axes[1].set(title="nesterov=True goes through the places ahead", xlim=(-4.5, 1.5), ylim=(-1.6, 1.9))
axes[1].legend(loc="upper right")
plt.show()
