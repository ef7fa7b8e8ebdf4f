"""Averages and norms, for callers who put a step together themselves."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _core
from .._hyperparameters import fraction, numbers_of, step_count
from .._types import Array
from ._call import Arrays


def _meaning(values: tuple[float]) -> tuple[str, dict[str, float]]:
    return "ema", {"decay": fraction("decay", values[0])}


_ema = _core.rule_function(
    ["params", "emas"], [numbers_of("decay", fraction)], _meaning, step_count
)


def ema_(emas: Arrays, params: Arrays, *, decay: float) -> None:
    """Move exponential moving averages towards the parameters: ``ema += (1 − decay)·(p − ema)``.

    What the optimizer classes do behind each step with ``ema_decay``.

    Parameters
    ----------
    emas : array or list of arrays
        The averages, updated in place. They begin as copies of the parameters.
    params : array or list of arrays
        The parameters, float32 or float64 arrays, C-contiguous, aligned and writeable, though they
        stay as they are.
    decay : float
        Decay rate, in [0, 1].

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or an array of the wrong dtype.
    ValueError
        If an array is missing, has the wrong shape or layout, or overlaps another; if ``decay`` is
        out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.functional import ema_
    >>> p, average = np.array([4.0]), np.array([0.0])
    >>> ema_(average, p, decay=0.75)
    >>> average
    array([1.])
    """
    _ema((decay,), 1, params, emas)


def global_norm(arrays: Array | Sequence[Array | None]) -> float:
    """Return the L2 norm of all elements of all arrays together.

    Summed in double precision and in a fixed order, as a step with ``max_norm`` does: it depends on
    nothing but the elements.

    Parameters
    ----------
    arrays : array or list of arrays
        float32 or float64 arrays, C-contiguous and aligned. None counts for nothing.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or an array of the wrong dtype.
    ValueError
        If an array has the wrong layout.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedopt.functional import global_norm
    >>> global_norm([np.array([3.0]), None, np.array([[0.0, 4.0]])])
    5.0
    """
    return _core.global_norm(arrays)
