"""
Out of a local minimum
======================

A ball on a curve whose first dip isn't the lowest. Gradient descent walks downhill and stops in
that dip, as the slope there is zero. Momentum has gathered speed on the way down, and rolls over
the hill behind it. Both have the same learning rate, and it takes the right momentum: with 0.8 or
less the ball stays in the dip, and with 0.97 it comes back over the hill.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

# %%
# A valley with a hill in it. Where the slope is zero there are, from the left, a local minimum, the
# hill and the global minimum.


def hill(x):
    return 45 * np.exp(-((x - 2.2) ** 2))


def value(x):
    return 2.4 * (x - 4) ** 2 + hill(x)


def slope(x):
    return 4.8 * (x - 4) - 2 * (x - 2.2) * hill(x)


ground = np.linspace(-3, 7, 2001)
is_flat = np.diff(np.sign(slope(ground))) != 0
places = dict(
    zip(("local minimum", "hill", "global minimum"), ground[:-1][is_flat].tolist(), strict=True)
)
for name, x in places.items():
    print(f"{name:14} x = {x:5.2f}, f(x) = {value(x):5.1f}")


# %%
# An optimizer changes the array that it was given, in place. What it went through is kept as
# copies.


def path(steps, **hyperparameters):
    """Return where the ball is at the start and after each step."""
    x = np.array([-2.9])
    opt = fusedopt.SGD([x], lr=0.01, **hyperparameters)
    positions = [x.copy()]
    for _ in range(steps):
        opt.step([slope(x)])
        positions.append(x.copy())
    return np.concatenate(positions)


STEPS = 80
paths = {"SGD": path(STEPS), "Momentum": path(STEPS, momentum=0.87)}
for name, positions in paths.items():
    print(
        f"{name:8} after {STEPS} steps: x = {positions[-1]:.2f}, f(x) = {value(positions[-1]):.1f}"
    )

# %%
# Above, the ball as it comes down, a dot for each step, and numbers at some of them. Below, where
# it is over time: momentum swings through the dip and around the lowest point until it comes to
# rest.

figure, axes = picture(9, 8, rows=3, height_ratios=(1, 1, 1.1))
for row, (name, positions) in zip(axes[:2, 0], paths.items(), strict=True):
    row.plot(ground, value(ground), color=GROUND)
    row.plot(positions, value(positions), "o", ms=4, color=COLORS[name], alpha=0.35)
    for step in (0, 1, 2, 4, 7, STEPS):
        x = positions[step]
        row.plot(x, value(x), "o", ms=12, color=COLORS[name])
        row.annotate(step, (x, value(x)), xytext=(0, 11), textcoords="offset points", ha="center")
    row.set(ylabel="f(x)", ylim=(-8, 150), xlim=(-3.3, 7.3))
    row.set_title(f"{name}: the ball after so many steps", loc="left", color=COLORS[name])
axes[1, 0].set_xlabel("x")
for name, positions in paths.items():
    axes[2, 0].plot(positions, color=COLORS[name], label=name)
for name, x in places.items():
    axes[2, 0].axhline(x, color=GROUND, lw=0.8, ls=":")
    axes[2, 0].annotate(name, (STEPS + 5, x), va="center", color=GROUND, annotation_clip=False)
axes[2, 0].set(xlabel="step", ylabel="x")
axes[2, 0].set_title("Where it is over time", loc="left")
axes[2, 0].legend(loc="lower right")
plt.show()
