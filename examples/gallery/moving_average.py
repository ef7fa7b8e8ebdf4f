"""
Momentum is a moving average, on another scale
==============================================

Some write momentum as a moving average of the gradient, a·m + (1 - a)·g; others, with torch, as a
sum that decays, a·b + g. The second is the first divided by 1 - a: both point the same way, and
with a learning rate that is smaller by this factor the second makes the same steps.
"""

import matplotlib.pyplot as plt
import numpy as np
from look import COLORS, GROUND, picture

import fusedopt

# %%
# A gradient that is 1, then -1, with noise on it. Nothing is learned here: the optimizers only keep
# their buffers.

A = 0.9
STEPS = 120
rng = np.random.default_rng(0)
gradients = np.where(np.arange(STEPS) < STEPS // 2, 1.0, -1.0) + 0.7 * rng.standard_normal(STEPS)


def follow(lr, **form):
    """Return the buffer and the parameter after each step."""
    x = np.zeros(1)
    opt = fusedopt.SGD([x], lr=lr, momentum=A, **form)
    buffers, places = [], []
    for gradient in gradients:
        opt.step([np.array([gradient])])
        buffers.append(opt.state[0]["momentum_buffer"].item())
        places.append(x.item())
    return np.array(buffers), np.array(places)


average, average_places = follow(0.1, dampening=A, momentum_init="zeros")
total, total_places = follow(0.1)
same, same_places = follow(0.1 * (1 - A))
print(
    f"buffer of the sum / of the average: {(total / average).min():.6f} to "
    f"{(total / average).max():.6f}; 1 / (1 - a) = {1 / (1 - A):.6f}"
)
print(
    f"at equal learning rates the sum goes {total_places[59] / average_places[59]:.2f} times as far"
)
print(f"with lr · (1 - a) both differ by {np.abs(same_places - average_places).max():.1e} at most")

# %%
figure, (axes,) = picture(11, 4.2, columns=2)
axes[0].plot(gradients, ".", ms=4, color=GROUND, label="g, the gradient")
axes[0].plot(average, color=COLORS["Momentum"], lw=2.5, label="a·m + (1 - a)·g")
axes[0].plot(total, color="black", lw=2, label="a·b + g")
axes[0].plot(total * (1 - A), color="black", lw=1.5, ls=(0, (2, 3)), label="(1 - a)·b")
axes[0].set(xlabel="step", ylabel="buffer", title=f"The buffer, a = {A}")
axes[0].legend(fontsize=9)
axes[1].plot(average_places, color=COLORS["Momentum"], lw=2.5, label="average, lr = 0.1")
axes[1].plot(total_places, color="black", lw=2, label="sum, lr = 0.1")
axes[1].plot(same_places, color="black", lw=1.5, ls=(0, (2, 3)), label="sum, lr = 0.1·(1 - a)")
axes[1].set(xlabel="step", ylabel="x", title="Where it leads")
axes[1].legend(fontsize=9)
plt.show()
