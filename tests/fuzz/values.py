"""Numbers that arithmetic may get wrong: ordinary ones, and some of every other kind."""

from typing import Any

import numpy as np

UNSIGNED = {4: np.uint32, 8: np.uint64}

KINDS = ["normal", "normal", "normal", "sprinkled", "sprinkled", "wide", "tiny", "huge", "zeros"]


def numbers(rng: np.random.Generator, dtype: Any, shape: Any) -> Any:
    """Return an array of one kind of numbers.

    Mostly such that a step with them gives something that tells what was computed: what is once NaN
    stays so.
    """
    dtype = np.dtype(dtype)
    kind = KINDS[rng.integers(len(KINDS))]
    size = int(np.prod(shape, dtype=np.int64))
    if kind == "zeros":
        flat = np.where(rng.random(size) < 0.5, 0.0, -0.0).astype(dtype)
    elif kind == "wide":  # any exponent, subnormals among them, but for infinities and NaN
        flat = _any_bits(rng, dtype, size)
        flat[~np.isfinite(flat)] = 1
    else:
        flat = _normal(rng, size).astype(dtype)
        info = np.finfo(dtype)
        if kind == "tiny":  # about where subnormals begin, or where squares do
            flat *= info.tiny if rng.random() < 0.5 else dtype.type(np.sqrt(info.tiny))
        elif kind == "huge":
            flat *= dtype.type(np.sqrt(info.max))
        elif kind == "sprinkled" and size:
            places = rng.integers(0, size, 1 + size // 20)
            flat[places] = _special(dtype)[rng.integers(0, 9, places.size)]
    return flat.reshape(shape)


def _normal(rng: np.random.Generator, size: int) -> Any:
    return rng.standard_normal(size) * np.exp(rng.standard_normal(size))


def _any_bits(rng: np.random.Generator, dtype: Any, size: int) -> Any:
    bits = UNSIGNED[dtype.itemsize]
    return rng.integers(0, np.iinfo(bits).max, size, bits, endpoint=True).view(dtype)


def _special(dtype: Any) -> Any:
    info = np.finfo(dtype)
    tiniest = info.smallest_subnormal
    return np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, tiniest, -info.tiny, info.max, -1e-20], dtype
    )
