"""
Where Adam goes the wrong way
=============================

The counter-example of Reddi, Kale and Kumar: a cost that is -10·x most of the time, and 1010·x
once in 101 steps. On the whole it rises with x, and x = -1 is best. But the one large gradient
that says so is divided by its own size, and forgotten by the next one; the many small ones that
point the other way count in full, and Adam ends at x = +1. AMSGrad remembers the largest second
moment that it has seen.

"On the Convergence of Adam and Beyond", S. Reddi, S. Kale and S. Kumar, ICLR 2018.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

# %%
# x is kept within [-1, 1] after each step. Regret is what was paid more than by staying at the best
# place, -1; it is drawn as an average over all steps so far.

STEPS = 30_000 if "--quick" in sys.argv else 300_000
PERIOD = 101
costs = np.where(np.arange(STEPS) % PERIOD == 0, 1010.0, -10.0)


def places(amsgrad):
    """Return x before each step."""
    x = np.zeros(1)
    opt = fusedopt.Adam(
        [x],
        lr=lambda step: 0.5 / (step + 1) ** 0.5,
        betas=(0.9, 0.99),
        bias_correction=False,  # as in the paper
        amsgrad=amsgrad,
    )
    seen = np.empty(STEPS)
    for step, cost in enumerate(costs):
        seen[step] = x.item()
        opt.step([np.array([cost])])
        np.clip(x, -1, 1, out=x)
    return seen


runs = {"Adam": places(amsgrad=False), "AMSGrad": places(amsgrad=True)}
regrets = {
    name: np.cumsum(costs * (seen + 1)) / np.arange(1, STEPS + 1) for name, seen in runs.items()
}
for name, seen in runs.items():
    print(
        f"{name:8} after {STEPS} steps: x = {seen[-1]:5.2f}, mean regret {regrets[name][-1]:6.3f}"
    )

staying = costs[:PERIOD].mean() * 2
print(f"of staying at x = 1: {staying:.3f}")

# %%
figure, (axes,) = picture(11, 4.2, columns=2)
shown = np.unique(np.geomspace(1, STEPS, 3000).astype(int)) - 1
for name in runs:
    axes[0].plot(shown + 1, runs[name][shown], color=COLORS[name], lw=1.2, label=name)
    axes[1].plot(shown + 1, regrets[name][shown], color=COLORS[name], lw=2, label=name)
axes[0].axhline(-1, color=GROUND, ls=":")
axes[0].annotate("the best place", (1, -1.02), va="top", color=GROUND)
axes[0].set(xscale="log", xlabel="step", ylabel="x", title="Where they go", ylim=(-1.25, 1.15))
axes[1].axhline(staying, color=GROUND, ls=":")
axes[1].annotate("that of staying at +1", (1, staying), va="bottom", color=GROUND)
axes[1].set(
    xscale="log", yscale="log", xlabel="step", ylabel="regret per step", title="Average regret"
)
axes[0].legend(loc="center right")
axes[1].legend(loc="upper right")
plt.show()
