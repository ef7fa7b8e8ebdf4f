"""Forms of the rules, run here and in the library that publishes them."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from cases import Case, copies, random_arrays

STEPS = 40
SHAPES = [(3, 5), (257,), (40, 30)]
Arrays = list[np.ndarray]


def peer(name: str, extra: str = "peers") -> Any:
    """Import a library, or skip the module; where peers are required (in CI) that is an error."""
    if find_spec(name.partition(".")[0]) is None and not os.environ.get("FUSEDOPT_REQUIRE_PEERS"):
        pytest.skip(f"{name} is not installed (extra: {extra})", allow_module_level=True)
    return import_module(name)


def pass_their_own(tests: Path, plugin: str) -> None:
    """Run tests that come with a library, with a plugin of ours that puts ours in its place."""
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    arguments = ["-q", "-p", plugin, "-p", "no:cacheprovider", "--rootdir", str(tests.parent)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, str(tests)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


class Form(NamedTuple):
    """How to spell it here, and what takes all steps there, given the parameters."""

    case: Case
    theirs: Callable[[Arrays], Arrays]


def learning_rate(step: int) -> float:
    """It changes on the way: forms that differ only then are told apart."""
    return 0.02 / (1 + 0.07 * step)


def gradients(step: int, dtype: Any) -> Arrays:
    return random_arrays(1 + step, dtype, SHAPES)


def start(dtype: Any) -> Arrays:
    return random_arrays(0, dtype, SHAPES)


def ours(case: Case, dtype: Any) -> Arrays:
    params = start(dtype)
    opt = case.make(params)
    for step in range(STEPS):
        opt.param_groups[0]["lr"] = learning_rate(step)
        opt.step(gradients(step, dtype))
    return params


def distance(case: Case, dtype: Any, expected: Arrays) -> float:
    """Return how far we end from there: the largest difference, beside the longest way there."""
    params = start(dtype)
    way = max(float(abs(q - p).max()) for p, q in zip(params, expected, strict=True))
    assert way > 0.01, "the parameters hardly moved"
    far = 0.0
    for p, q in zip(ours(case, dtype), expected, strict=True):
        assert p.dtype == q.dtype
        far = max(far, float(abs(p - q).max()))
    return far / way


def assert_published(form: Form, dtype: Any, tolerance: dict[Any, float]) -> None:
    assert distance(form.case, dtype, form.theirs(copies(start(dtype)))) < tolerance[dtype]
