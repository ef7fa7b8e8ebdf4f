"""How the pictures look: the same colour for a rule in all of them."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

#: Okabe and Ito's colours, which all eyes tell apart.
COLORS = {
    "SGD": "#0072B2",
    "Momentum": "#D55E00",
    "Nesterov": "#CC79A7",
    "RMSProp": "#009E73",
    "Adam": "#E69F00",
    "AdamW": "#56B4E9",
    "AMSGrad": "#000000",
}
#: And one dark for what is drawn upon.
GROUND = "#777777"


def picture(
    width: float, height: float, rows: int = 1, columns: int = 1, **more: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure, in inches, and its axes in an array of rows."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **more
    )
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
    return figure, axes
