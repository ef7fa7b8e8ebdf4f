"""Powers that are the same bits everywhere, which those of C libraries are not."""

from __future__ import annotations

import itertools

TwoFloats = tuple[float, float]  # their sum, of 100 bits


def power(base: float, count: int) -> float:
    """Return ``base**count``, for a base in [0, 1] and a count of at least 1, rounded once."""
    result, square = (1.0, 0.0), (base, 0.0)
    for k in itertools.count(1):
        if count % 2 == 1:
            result = _product(result, square)
        count //= 2
        if count == 0:
            break
        square = _product(square, square)
        if k % 4 == 0:
            square = _rounded(square)  # the result's own roundings are few
    return result[0] + result[1]


def _product(x: TwoFloats, y: TwoFloats) -> TwoFloats:
    """T. J. Dekker, "A floating-point technique for extending the available precision", 1971."""
    high = x[0] * y[0]
    x1, y1 = _upper_half(x[0]), _upper_half(y[0])
    x2, y2 = x[0] - x1, y[0] - y1
    lost = ((x1 * y1 - high) + x1 * y2 + x2 * y1) + x2 * y2  # of high; exact
    return high, lost + (x[0] * y[1] + x[1] * y[0])


def _rounded(x: TwoFloats) -> TwoFloats:
    high = x[0] + x[1]
    return high, x[1] - (high - x[0])


def _upper_half(x: float) -> float:
    """Return the upper half of a number's bits; the lower one is then exact, too."""
    y = 134217729 * x  # 2**27 + 1
    return y - (y - x)
