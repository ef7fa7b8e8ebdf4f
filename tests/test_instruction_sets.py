"""Contract: every instruction set gives the same bits; FUSEDOPT_ISA forces one or fails loudly."""

import hashlib

import numpy as np
import pytest

import fusedopt
from cases import CASES, DTYPES, SMALL_SIZES, random_arrays
from subprocesses import output_of, run_python

SETS = fusedopt.show_config(mode="dict")["instruction sets"]


def digest() -> str:
    """Return a digest of everything that every rule computes, subnormals included."""
    total = hashlib.sha256()
    for flush in (True, False):
        fusedopt.set_flush_denormal(flush)
        for case in CASES:
            for dtype, tiny in zip(DTYPES, (1e-21, 1e-155), strict=True):
                params = numbers(0, dtype, tiny)
                opt = case.make(params)
                for step in range(10):
                    opt.step(numbers(1 + step, dtype, tiny))
                for i, p in enumerate(params):
                    total.update(p.tobytes())
                    for name, array in opt.state[i].items():
                        total.update(array.tobytes() if name != "step" else b"")
    return total.hexdigest()


def numbers(seed: int, dtype: type, tiny: float) -> list[np.ndarray]:
    return [
        array for scale in (1.0, tiny) for array in random_arrays(seed, dtype, SMALL_SIZES, scale)
    ]


def test_every_available_set_gives_the_same_bits() -> None:
    code = "import fusedopt, test_instruction_sets as t; print(t.SETS['active'], t.digest())"
    digests = {}
    for name in SETS["available"]:
        active, digests[name] = output_of(code, FUSEDOPT_ISA=name).split()
        assert active == name
    assert set(digests) == set(SETS["available"])
    assert len(set(digests.values())) == 1, digests


def test_the_widest_available_set_is_the_default() -> None:
    show = "import fusedopt as f; print(f.show_config(mode='dict')['instruction sets']['active'])"
    for code in ("import os; os.environ.pop('FUSEDOPT_ISA');" + show, show):
        assert output_of(code, FUSEDOPT_ISA="") == SETS["available"][-1]


def test_unknown_set_is_an_import_error() -> None:
    done = run_python("import fusedopt", FUSEDOPT_ISA="avx1024")
    assert done.returncode != 0
    assert "ImportError: FUSEDOPT_ISA=avx1024: unknown to this build" in done.stderr
    assert "baseline" in done.stderr


@pytest.mark.parametrize("name", SETS["built"])
def test_built_but_unavailable_set_is_an_import_error(name: str) -> None:
    done = run_python("import fusedopt", FUSEDOPT_ISA=name)
    if name in SETS["available"]:
        assert done.returncode == 0, done.stderr
    else:
        assert f"ImportError: FUSEDOPT_ISA={name}: this CPU" in done.stderr
