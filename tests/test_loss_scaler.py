"""Contract: the loss scale moves as torch.amp.GradScaler's does, and its state is torch's."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import LossScaler, StepResult

FINE, SKIPPED = StepResult(None, False), StepResult(None, True)


def test_it_grows_and_backs_off() -> None:
    scaler = LossScaler(init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3)
    seen = []
    for result in [FINE] * 2 + [SKIPPED] + [FINE] * 4 + [SKIPPED] * 2 + [FINE] * 6:
        scaler.update(result)
        seen.append(scaler.scale)
    assert seen == [8, 8, 2, 2, 2, 8, 8, 2, 0.5, 0.5, 0.5, 2, 2, 2, 8]


def test_torchs_scaler_does_the_same() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
    ours = LossScaler(init_scale=2.0**10, growth_interval=4)
    tensor = torch.zeros(3, requires_grad=True)
    torch_optimizer = torch.optim.SGD([tensor], lr=0.1)
    p = np.zeros(3, np.float32)
    optimizer = fusedopt.SGD([p], lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(60):
        g = rng.standard_normal(3).astype(np.float32)
        if rng.random() < 0.15:
            g[1] = np.inf
        theirs.scale(torch.zeros(1))  # which makes its scale
        tensor.grad = torch.tensor(g * np.float32(theirs.get_scale()))
        theirs.step(torch_optimizer)
        theirs.update()
        grads = [g * np.float32(ours.scale)]
        ours.update(optimizer.step(grads, loss_scale=ours.scale, on_nonfinite="skip"))
        assert ours.scale == theirs.get_scale()
        assert ours.state_dict() == theirs.state_dict()
    np.testing.assert_allclose(p, tensor.detach().numpy(), rtol=1e-6)
    again = LossScaler()
    again.load_state_dict(theirs.state_dict())
    assert again.state_dict() == ours.state_dict()
    theirs.load_state_dict(ours.state_dict())


def test_it_never_becomes_infinite() -> None:
    scaler = LossScaler(init_scale=1e308, growth_interval=1)
    scaler.update(FINE)
    assert math.isfinite(scaler.scale)


def test_its_inverse_stays_finite() -> None:
    scaler = LossScaler(init_scale=1.0)
    for _ in range(2000):
        scaler.update(SKIPPED)
    assert scaler.scale == 2.0**-126
    p = np.zeros(3, np.float32)
    opt = fusedopt.SGD([p], lr=1.0)
    opt.step([np.zeros(3, np.float32)], loss_scale=scaler.scale)
    assert (p == 0).all()


def test_a_copy_goes_on_by_itself() -> None:
    scaler = LossScaler(growth_interval=2)
    scaler.update(FINE)
    for again in (copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        again.update(FINE)
        assert again.scale == 2 * scaler.scale


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"init_scale": 0}, ValueError, "init_scale: expected a finite number > 0, got 0.0"),
    ({"init_scale": "1"}, TypeError, "init_scale: expected a finite number > 0, got '1'"),
    ({"growth_factor": 1}, ValueError, "growth_factor: expected a number > 1, got 1.0"),
    ({"backoff_factor": 1}, ValueError, r"backoff_factor: expected a number in \(0, 1\), got 1"),
    ({"growth_interval": 0}, ValueError, "growth_interval: expected a count from 1, got 0"),
    ({"growth_interval": 1.5}, TypeError, "growth_interval: expected an int, got 1.5"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        LossScaler(**arguments)


def test_bad_results_and_states_change_nothing() -> None:
    scaler = LossScaler(init_scale=8.0, growth_interval=5)
    scaler.update(FINE)
    before = scaler.state_dict()
    for result in (None, True, 1.0):
        with pytest.raises(TypeError, match="^result: expected what step"):
            scaler.update(result)  # type: ignore[arg-type]
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({}, ValueError, "state: expected the keys"),
        ({**before, "extra": 1}, ValueError, "state: expected the keys"),
        ({**before, "scale": -1.0}, ValueError, "scale: expected a finite number > 0"),
        ({**before, "growth_factor": 0.5}, ValueError, "growth_factor: expected a number > 1"),
        ({**before, "_growth_tracker": -1}, ValueError, "_growth_tracker: expected 0 or more"),
        ({**before, "_growth_tracker": 0.5}, TypeError, "_growth_tracker: expected an int"),
        ({**before, "_growth_tracker": True}, TypeError, "_growth_tracker: expected an int"),
        ([*before], TypeError, "state: expected a dict, got list"),  # type: ignore[list-item]
    ]
    for state, error, text in bad:
        with pytest.raises(error, match=f"^{text}"):
            scaler.load_state_dict(state)
        assert scaler.state_dict() == before
    assert repr(scaler).startswith("LossScaler(scale=8.0, ")


def test_a_state_that_is_loaded_is_all_there_is() -> None:
    scaler = LossScaler(init_scale=8.0, growth_interval=5)
    scaler.update(FINE)
    state = {
        "scale": 4.0,
        "growth_factor": 3.0,
        "backoff_factor": 0.25,
        "growth_interval": 2,
        "_growth_tracker": 0,
    }
    scaler.load_state_dict(state)
    assert scaler.state_dict() == state
    scaler.update(FINE)
    assert scaler.scale == 4.0
    scaler.update(FINE)
    assert scaler.scale == 12.0
