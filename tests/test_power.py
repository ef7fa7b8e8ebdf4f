"""Contract: the powers in Adam's bias correction are rounded once, the same bits everywhere."""

from fractions import Fraction

import numpy as np
import pytest

from foreign import digest
from fusedopt import functional, reference
from fusedopt.reference._power import power

# 0.75's 34th power lies in the middle between two doubles.
BASES = [0.0, 0.1, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 1 / 3, 1 - 2**-12]


@pytest.mark.parametrize("base", BASES)
def test_a_power_is_the_nearest_double(base: float) -> None:
    exact, count = Fraction(1), 0
    while count < 700 and exact * 2**60 > 1:
        exact, count = exact * Fraction(base), count + 1
        assert power(base, count) == float(exact), count


@pytest.mark.parametrize("count", [20_011, 32_767, 32_768])
def test_far_powers_too(count: int) -> None:
    for base in (0.9999, 1 - 2**-12):
        assert power(base, count) == float(Fraction(base) ** count)


@pytest.mark.parametrize("betas", digest.BETAS, ids=str)
def test_kernels_have_the_same(betas: tuple[float, float]) -> None:
    """Step by step, in double precision, from moments that let every bit through."""
    assert digest.far_steps(np.float64, betas, check=True)


@pytest.mark.parametrize("bits", [20, 30, 40, 45, 48])
def test_kernels_have_the_same_after_very_many_steps(bits: int) -> None:
    """Where two to the power of so many is about one part of what a decay rate lacks of 1."""
    beta = 1 - 2.0**-bits
    g = np.linspace(0.1, 1, 97)
    expected = reference.Adam([np.zeros_like(g)], lr=1.0, betas=(beta, 1 - 3 * 2.0**-bits))
    expected.step([g])
    for k in range(1, 40):
        step = 2**bits * k // 17 + k
        p, m, v = np.zeros_like(g), np.full_like(g, 0.125), np.full_like(g, 0.25)
        expected.param_groups[0]["params"][0][...] = p
        expected.state[0]["exp_avg"][...] = m
        expected.state[0]["exp_avg_sq"][...] = v
        expected.step_counts[...] = step - 1
        expected.step([g])
        functional.adam_(p, g, m, v, step=step, lr=1.0, beta1=beta, beta2=1 - 3 * 2.0**-bits)
        np.testing.assert_array_equal(p, expected.param_groups[0]["params"][0], err_msg=str(step))
