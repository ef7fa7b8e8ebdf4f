"""
What Adam's correction does, and how large its steps are
========================================================

Adam's averages start from zero, and so are too small at first: the second moment's by far more
than the first's, as it forgets slower. Without a correction the first steps are too large: with
the usual betas, three times for the first, and more for the next ones. With it, a step is about as
large as the learning rate, whatever the gradient's scale is, while its sign is sure; near a
minimum, where noise is all that is left of the gradient, steps get smaller by themselves. They
grow again a little when the second moment has forgotten the large gradients of the way down.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

LEARNING_RATE = 0.01


def step_sizes(gradients, **form):
    """Return how far each step went, for a row of gradients; each column is a parameter's."""
    x = np.zeros(gradients.shape[1])
    opt = fusedopt.Adam([x], lr=LEARNING_RATE, **form)
    sizes = []
    for gradient in gradients:
        before = x.copy()
        opt.step([gradient])
        sizes.append(np.abs(x - before))
    return np.array(sizes)


# %%
# The first 50 steps, for gradients of a thousandth, one and a thousand, with noise on them.

rng = np.random.default_rng(0)
gradients = np.array([1e-3, 1.0, 1e3]) * (1 + 0.1 * rng.standard_normal((50, 3)))
first = {
    "with correction": step_sizes(gradients),
    "without": step_sizes(gradients, bias_correction=False),
}
for name, sizes in first.items():
    in_units = sizes.mean(axis=1) / LEARNING_RATE
    print(
        f"{name:16} step 1: {in_units[0]:.2f} lr; largest: {in_units.max():.2f} lr, at step "
        f"{in_units.argmax() + 1}; step 50: {in_units[-1]:.2f} lr"
    )
spread = np.ptp(first["with correction"], axis=1).max() / LEARNING_RATE
print(f"of gradients a million times apart, steps differ by {spread:.2f} lr at most")

# %%
# Down a bowl, with noise on the gradient. The signal-to-noise ratio is that of the gradient: its
# mean, which is known here, over its standard deviation.

COUNT, STEPS, NOISE = 400, 1500, 0.5
x = np.full(COUNT, 4.0)
opt = fusedopt.Adam([x], lr=LEARNING_RATE)
ratios, lengths = [], []
for _ in range(STEPS):
    before = x.copy()
    ratios.append(np.abs(x).mean() / NOISE)
    opt.step([x + NOISE * rng.standard_normal(COUNT)])
    lengths.append(np.abs(x - before).mean() / LEARNING_RATE)
for step in (100, 400, STEPS - 1):
    print(f"step {step:4}: signal to noise {ratios[step]:5.2f}, step {lengths[step]:.2f} lr")

# %%
figure, (axes,) = picture(11, 4.2, columns=2)
for (name, sizes), color in zip(first.items(), (COLORS["Adam"], "black"), strict=True):
    for column, style in enumerate(("-", "--", ":")):
        axes[0].plot(
            range(1, 51),
            sizes[:, column] / LEARNING_RATE,
            style,
            color=color,
            label=name if column == 0 else None,
        )
axes[0].axhline(1, color=GROUND, lw=0.8)
axes[0].set(xlabel="step", ylabel="|step| / lr", title="The first 50 steps", ylim=(0, None))
axes[0].legend(title="for |g| near 0.001 —, 1 - -, 1000 ···")
axes[1].plot(lengths, color=COLORS["Adam"], label="|step| / lr")
axes[1].plot(ratios, color=GROUND, label="signal to noise of the gradient")
axes[1].set(xlabel="step", ylabel="ratio", yscale="log", title="Down a bowl, with noise")
axes[1].legend()
plt.show()
