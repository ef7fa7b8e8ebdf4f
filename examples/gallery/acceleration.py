"""
Momentum gains speed
====================

On a straight way down, where the gradient is the same everywhere, gradient descent makes the same
step again and again. With momentum each step adds to the ones before, up to 1 / (1 - momentum)
times their size: so much faster does it go in the end, at the same learning rate.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import GROUND, picture

import fusedopt

# %%
# A slope of one, and 3 units to go to the minimum.

LEARNING_RATE = 0.01
DISTANCE = 3.0
MOMENTA = (0, 0.5, 0.8, 0.9, 0.95)


def distances(momentum):
    """Return how far it is to the minimum, at the start and after each step until it is there."""
    x = np.array([DISTANCE])
    opt = fusedopt.SGD([x], lr=LEARNING_RATE, momentum=momentum)
    seen = [DISTANCE]
    while seen[-1] > 1e-9:
        opt.step([np.ones(1)])
        seen.append(max(x.item(), 0))
    return np.array(seen)


runs = {momentum: distances(momentum) for momentum in MOMENTA}
print("momentum  steps to the minimum  last whole step / first step  1 / (1 - momentum)")
for momentum, seen in runs.items():
    steps = -np.diff(seen)
    growth = steps[-2] / steps[0]
    print(f"{momentum:8}  {len(steps):20}  {growth:28.2f}  {1 / (1 - momentum):18.2f}")

# %%
# On the left, the way that is left to go. On the right, how long each step is, in units of the
# first: dotted, what it tends to, and is near only on a longer way where momentum is large.

figure, (axes,) = picture(10, 4.2, columns=2)
colors = plt.get_cmap("plasma")(np.linspace(0, 0.8, len(MOMENTA)))
for (momentum, seen), color in zip(runs.items(), colors, strict=True):
    axes[0].plot(seen, color=color, lw=2, label=f"{momentum}" if momentum else "none (SGD)")
    steps = -np.diff(seen)[:-1]
    axes[1].plot(range(1, len(steps) + 1), steps / steps[0], color=color, lw=2)
    axes[1].axhline(1 / (1 - momentum), color=color, ls=":")
    axes[1].annotate(
        f"{1 / (1 - momentum):.0f}x", (160, 1 / (1 - momentum)), va="bottom", color=color
    )
axes[0].axhline(0, color=GROUND, lw=0.8)
axes[0].set(xlabel="step", ylabel="distance to the minimum", title="Way left to go")
axes[0].legend(title="momentum")
axes[1].set(xlabel="step", ylabel="times the first step", title="Length of a step", xlim=(0, 175))
plt.show()
