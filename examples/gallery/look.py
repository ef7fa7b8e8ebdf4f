"""How the pictures look: the same colour for a rule in all of them."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
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


def label_ends(axes: Axes, lines: dict[str, Any]) -> None:
    """Write each line's name at its end, in its colour: no legend to look up."""
    for name, line in lines.items():
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        axes.annotate(
            name,
            (x, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
        )
