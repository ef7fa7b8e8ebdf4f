"""The bits that every machine gives, as hashes: a table of what every case computes.

    python tests/foreign/digest.py            compares with digest.txt and names what differs
    python tests/foreign/digest.py --quick    the same, without stepping the reference beside it
    python tests/foreign/digest.py --write    writes digest.txt, where results changed on purpose

The numbers that go in are made by integer arithmetic and exact scaling: neither NumPy's random
generators nor anything transcendental has a part in them. They are hashed in little-endian order,
and NaNs as one NaN, as their payload isn't promised. Beside the hashes, every case is compared with
`fusedopt.reference`, by ==, where that says the same (it knows nothing of flushing).
"""

import hashlib
import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fusedopt

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import CASES, DTYPES, RULE_CASES, Case, assert_same, copies

FILE = Path(__file__).with_name("digest.txt")
DIGITS = 16  # of a hash that are kept

SIZES = [*range(66), 127, 1000, 4095, 8193]
SMALL_SIZES = [*range(18), 31, 32, 33, 63, 64, 65, 127]
STEPS = 12
# Its square is subnormal.
TINY = {np.float32: -70, np.float64: -515}
COUNTS = [*range(1, 3000), *range(3000, 500_000, 997)]
BETAS = [(0.9, 0.999), (0.5, 0.75), (0.95, 0.98), (0.0, 0.9999)]


def integers(seed: int, size: int) -> np.ndarray:
    """Return well mixed 64-bit integers (the finalizer of SplitMix64)."""
    x = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = x + np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def numbers(seed: int, size: int, dtype: Any, exponent: int = 0) -> np.ndarray:
    """Return numbers with all bits of their significand in use: from 2^-8 to 2^3, times 2^exponent.

    An odd integer as wide as the significand, with a sign, times a power of two: all exact.
    """
    x = integers(seed, size)
    width = np.finfo(dtype).nmant + 1
    significand = (x >> np.uint64(65 - width)).astype(np.int64) + (1 << (width - 1)) | 1
    sign = 1 - 2 * (x & np.uint64(1)).astype(np.int64)
    scale = (x >> np.uint64(1) & np.uint64(7)).astype(np.int64) - 4 - width + exponent
    array = np.ldexp((sign * significand).astype(dtype), scale.astype(np.int32))
    array.flags.writeable = False
    return array


@cache
def normal(seed: int, dtype: Any) -> list[np.ndarray]:
    return [numbers(100 * seed + k, size, dtype) for k, size in enumerate(SIZES)]


@cache
def tiny(seed: int, dtype: Any) -> list[np.ndarray]:
    return [numbers(100 * seed + k, n, dtype, TINY[dtype]) for k, n in enumerate(SMALL_SIZES)]


@cache
def special(seed: int, dtype: Any) -> list[np.ndarray]:
    values = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, 2.0**100, -2.0], dtype)
    return [np.repeat(np.roll(values, seed // 4), 8), np.tile(np.roll(values, seed // 3), 9)]


Make = Callable[[int, Any], list[np.ndarray]]


class Run:
    """A case over some numbers, hashed; with the reference beside it, which must be equal."""

    def __init__(self, case: Case, make: Make, dtype: Any, check: bool, **more: Any) -> None:
        params = copies(make(0, dtype))
        self.make, self.dtype = make, dtype
        self.reference = case.make_reference(copies(params), **more) if check else None
        self.optimizer = case.make(params, **more)
        self.digest = hashlib.sha256()

    def steps(self, count: int, **options: Any) -> None:
        for step in range(1, count + 1):
            grads = self.make(step, self.dtype)
            result = self.optimizer.step(grads, **options)
            self.digest.update(repr(result).encode())
            if self.reference:
                assert repr(result) == repr(self.reference.step(grads, **options))

    def hash(self) -> str:
        opt = self.optimizer
        if self.reference:
            assert_same(opt, self.reference)
        for i, p in enumerate(opt.param_groups[0]["params"]):
            self.digest.update(portable(p))
            for name, array in sorted(opt.state[i].items()):
                self.digest.update(name.encode() + portable(np.asarray(array)))
        return self.digest.hexdigest()[:DIGITS]


def portable(array: np.ndarray) -> bytes:
    """Return an array's bytes as a little-endian machine has them, each NaN as the same."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def far_steps(dtype: Any, betas: tuple[float, float], check: bool) -> str:
    """Take steps at many counts, for the powers in Adam's bias correction.

    Every power matters: moments are given anew for each step, and nothing is averaged out.
    """
    digest = hashlib.sha256()
    p, g = numbers(0, 1, dtype), numbers(1, 1, dtype)
    m, v = np.full_like(p, 0.125), np.full_like(p, 0.25)
    named: dict[str, Any] = {"lr": 1.0, "beta1": betas[0], "beta2": betas[1]}
    expected = fusedopt.reference.Adam([p.copy()], lr=1.0, betas=betas)
    expected.step([g])
    for step in COUNTS:
        q = p.copy()
        if check:
            expected.param_groups[0]["params"][0][...] = p
            expected.state[0]["exp_avg"][...] = m
            expected.state[0]["exp_avg_sq"][...] = v
            expected.step_counts[...] = step - 1
            expected.step([g])
        fusedopt.functional.adam_(q, g, m.copy(), v.copy(), step=step, **named)
        assert not check or q == expected.param_groups[0]["params"][0], (betas, step)
        digest.update(portable(q))
    return digest.hexdigest()[:DIGITS]


def rows(check: bool) -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of everything that is computed."""
    for dtype in DTYPES:
        kind = dtype.__name__
        for case in CASES:
            for what, make, steps, flush in (
                ("numbers", normal, STEPS, True),
                ("subnormals kept", tiny, 10, False),
                ("subnormals flushed", tiny, 10, True),
                ("infinities and NaNs", special, STEPS, True),
            ):
                flushes = fusedopt.set_flush_denormal(flush)
                if flush and not flushes and make is tiny:
                    continue  # a machine that can't
                run = Run(case, make, dtype, check and not (flush and make is tiny))
                run.steps(steps)
                yield f"{case} {kind} {what}", run.hash()
        fusedopt.set_flush_denormal(True)
        for case in RULE_CASES:
            run = Run(case, normal, dtype, check, ema_decay=0.875)
            run.steps(2, max_norm=0.5, stats=True)
            run.steps(2, loss_scale=3.0, clip_value=0.375, max_norm=1e30, stats=True)
            run.steps(2, on_nonfinite="skip", loss_scale=1024.0)
            yield f"{case} {kind} step options", run.hash()
            run = Run(case, special, dtype, check, ema_decay=0.875)
            run.steps(3, max_norm=1.0, stats=True)
            run.steps(3, on_nonfinite="skip", stats=True)
            yield f"{case} {kind} step options, infinities and NaNs", run.hash()
        for betas in BETAS:
            yield f"Adam-betas={betas} {kind} many step counts", far_steps(dtype, betas, check)


def expected() -> dict[str, str]:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return {line[DIGITS + 1 :]: line[:DIGITS] for line in lines}


def border_is_flushed() -> bool:
    """Return whether a product that would round up to the smallest normal number becomes zero.

    IEEE 754 lets a processor look for subnormal results before rounding (Arm) or after it (x86).
    No hash has such a number in it: this is the one known difference.
    """
    tiny, eps = np.finfo(np.float32).tiny, np.float32(2**-23)
    p = np.zeros(1, np.float32)
    g = np.array([tiny * 2 * (1 - eps)], np.float32)
    fusedopt.SGD([p], lr=float((1 + eps) / 2)).step([g])
    return bool(p[0] == 0)


def main(arguments: list[str]) -> int:
    sets = fusedopt.show_config(mode="dict")["instruction sets"]
    print(f"{platform.machine()}, {sys.byteorder}-endian, NumPy {np.__version__}", end=", ")
    print(f"{sets['active']} of {', '.join(sets['available'])}")
    found = {}
    for name, value in rows(check="--quick" not in arguments):
        assert name not in found, f"two rows of one name: {name}"
        found[name] = value
    if "--write" in arguments:
        text = "".join(f"{value} {name}\n" for name, value in found.items())
        FILE.write_text(text, encoding="utf-8", newline="\n")
    given = expected()
    different = [name for name, value in found.items() if given.get(name) != value]
    for name in different:
        print("differs:", name)
    flushes = fusedopt.set_flush_denormal(True)
    missing = [name for name in given.keys() - found.keys() if flushes or "flushed" not in name]
    for name in missing:
        print("not computed:", name)
    print(
        f"{len(found) - len(different)} of {len(found)} hashes are those of {FILE.name}", end=", "
    )
    if flushes:
        print("results are flushed", "before" if border_is_flushed() else "after", "rounding")
    else:
        print(f"and {len(given) - len(found)} are of flushing, which this machine can't")
    return bool(different or missing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
