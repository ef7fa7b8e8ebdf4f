"""Contract: every rule and option does what torch.optim does."""

import inspect
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import CASES, Case, assert_same, copies, every_case, every_dtype, random_arrays
from published import peer

torch = peer("torch")

TOLERANCE = {np.float32: 4e-6, np.float64: 1e-13}
SHAPES = [1, (3, 5), 257, (40, 30)]


def has(case: Case) -> bool:
    """Return whether torch has the rule, and all of these options."""
    optimizer = getattr(torch.optim, case.optimizer, None)
    return (
        optimizer is not None
        and case.options.keys() <= inspect.signature(optimizer).parameters.keys()
    )


TORCH_CASES = [case for case in CASES if has(case)]


@every_dtype
@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_50_steps_are_torchs(case: Case, dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    tensors = [torch.tensor(p) for p in params]
    ours = case.make(params)
    theirs = getattr(torch.optim, case.optimizer)(tensors, foreach=False, **case.options)
    for step in range(50):
        lr = 0.01 / (1 + 0.05 * step)
        ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = lr
        grads = random_arrays(1 + step, dtype, SHAPES)
        ours.step(grads)
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(g)
        theirs.step()
    for i, (p, tensor) in enumerate(zip(params, tensors, strict=True)):
        assert error(p, tensor) < TOLERANCE[dtype]
        for name, value in theirs.state[tensor].items():
            if name == "step":
                assert ours.state[i]["step"] == int(value) == 50
            elif value is not None:
                assert error(ours.state[i][name], value) < TOLERANCE[dtype], name


def error(ours: np.ndarray, theirs: Any) -> float:
    """Return the largest difference, relative to the magnitude or 1, whichever is larger."""
    expected = theirs.numpy()
    return float(np.max(np.abs(ours - expected) / (np.abs(expected) + 1)))


def test_defaults_are_torchs() -> None:
    for name in {case.optimizer for case in TORCH_CASES}:
        ours = getattr(fusedopt, name)([np.zeros(1)]).param_groups[0]
        theirs = getattr(torch.optim, name)([torch.zeros(1)]).param_groups[0]
        for key, value in ours.hyperparameters().items():
            assert value == theirs.get(key, value), (name, key)


@every_case
def test_flush_mode_of_other_code_does_not_matter(case: Case) -> None:
    """With torch flushing subnormals on this thread, ours are still kept when asked to be."""
    fusedopt.set_flush_denormal(False)
    params = random_arrays(0, np.float32, scale=1e-21)
    actual, expected = case.make(params), case.make_reference(copies(params))
    for step in range(10):
        grads = random_arrays(1 + step, np.float32, scale=1e-21)
        expected.step(grads)
        torch.set_flush_denormal(True)
        actual.step(grads)
        torch.set_flush_denormal(False)
    assert_same(actual, expected)
