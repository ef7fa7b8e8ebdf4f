"""Contract: what fusedopt.torch has besides: forms, options of a step, averages."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from published import peer
from torch_pair import (
    Pair,
    every_layout,
)

torch = peer("torch")

import fusedopt.torch as front  # noqa: E402


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "velocity": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "momentum_init": "zeros"}),
        ("SGD", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
        ("RMSprop", {"eps": 0, "eps_root": 1e-7, "initial_square_avg": 1}),
        ("RMSprop", {"momentum": 0.9, "velocity": True, "decoupled_weight_decay": True}),
        ("Adam", {"eps_hat": True}),
        ("Adam", {"bias_correction": False, "eps_root": 1e-6}),
        ("Adam", {"amsgrad": True, "amsgrad_max": "corrected", "ema_decay": 0.9}),
        ("AdamW", {"ema_decay": 0.99, "eps_hat": True}),
    ],
)
def test_forms_are_the_cores(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    tensors = [torch.nn.Parameter(torch.randn(s)) for s in [(3, 5), (70,)]]
    arrays = [p.detach().numpy().copy() for p in tensors]
    opt = getattr(front, name)(tensors, **options)
    core = getattr(fusedopt, name)(arrays, **options)
    for seed in range(10):
        torch.manual_seed(seed)
        for p in tensors:
            p.grad = torch.randn(p.shape)
        core.step([p.grad.numpy() for p in tensors])
        opt.step()
        opt.load_state_dict(copy.deepcopy(opt.state_dict()))  # forms are part of it
    for i, (p, array) in enumerate(zip(tensors, arrays, strict=True)):
        assert np.array_equal(p.detach().numpy(), array)
        for key, value in core.state[i].items():
            if key != "step":
                assert np.array_equal(opt.state[p][key].numpy(), value), key


def tf_like(params: list[Any], squares: list[Any], lr: float, alpha: float, eps: float) -> None:
    """The rule of stable-baselines3's RMSpropTFLike."""
    for p, square in zip(params, squares, strict=True):
        square.mul_(alpha).addcmul_(p.grad, p.grad, value=1 - alpha)
        p.data.addcdiv_(p.grad, square.add(eps).sqrt_(), value=-lr)


def test_rmsprop_as_in_tensorflow() -> None:
    pair = Pair("RMSprop", [(4, 8), (33,)], lr=7e-4, alpha=0.99)
    squares = [torch.ones_like(p) for p in pair.their_params]
    opt = front.RMSprop(
        pair.own_params, lr=7e-4, alpha=0.99, eps=0, eps_root=1e-5, initial_square_avg=1
    )
    for seed in range(30):
        pair.give_gradients(seed)
        opt.step()
        tf_like(pair.their_params, squares, 7e-4, 0.99, 1e-5)
    assert pair.error() <= 1e-6


def test_options_of_a_step() -> None:
    pair = Pair("AdamW", [(5, 3), (70,)], lr=0.1)
    for seed in range(5):
        pair.give_gradients(seed)
        norm = torch.nn.utils.clip_grad_norm_(pair.their_params, 0.5)
        pair.theirs.step()
        for p in pair.own_params:
            p.grad.mul_(8)
        assert pair.ours.step(loss_scale=8.0, max_norm=0.5, zero_grads=True, stats=True) is None
        result = pair.ours.step_result
        assert result.grad_norm == pytest.approx(norm.item(), rel=1e-6)
        assert result.stats[0].update_norm > 0
        assert all(not p.grad.any() for p in pair.own_params)
    pair.require_same(1e-6)
    pair.give_gradients(9)
    pair.own_params[0].grad[0, 0] = torch.nan
    before = [p.detach().clone() for p in pair.own_params]
    with pytest.raises(FloatingPointError, match=r"grads\[0\]"):
        pair.ours.step(on_nonfinite="raise")
    pair.ours.step(on_nonfinite="skip")
    assert pair.ours.step_result.skipped
    assert all(map(torch.equal, pair.own_params, before))
    assert pair.ours.state[pair.own_params[0]]["step"] == 5
    pair.give_gradients(9)
    pair.ours.step()
    assert pair.ours.step_result is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@every_layout
def test_gradients_are_zeroed_where_the_core_had_copies(
    layout: Callable[..., Any], dtype: Any
) -> None:
    pair = Pair("Adam", [(4, 6), (3,)], dtype, layout=layout)
    for seed in range(2):
        pair.give_gradients(seed)
        pair.own_params[1].grad = torch.ones(6, dtype=dtype)[::2]
        version = pair.own_params[0].grad._version
        pair.ours.step(zero_grads=True)
        assert all(not p.grad.any() for p in pair.own_params)
        assert pair.own_params[0].grad._version > version


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@every_layout
def test_averages_take_the_parameters_place(layout: Callable[..., Any], dtype: Any) -> None:
    pair = Pair(
        "Adam",
        [(4, 6), (3,)],
        dtype,
        layout=layout,
        ours=lambda params, **_: front.Adam(params, lr=0.1, ema_decay=0.5),
    )
    for seed in range(3):
        pair.give_gradients(seed)
        pair.ours.step()
    params = pair.own_params
    now = [p.detach().clone() for p in params]
    averages = [pair.ours.state[p]["ema"].clone() for p in params]
    version = params[0]._version
    saved = copy.deepcopy(pair.ours.state_dict())
    another = pair.ours.swap_ema()
    with pair.ours.swap_ema():
        assert all(torch.equal(p, a.to(dtype)) for p, a in zip(params, averages, strict=True))
        assert params[0]._version > version
        actions: list[Callable[[], Any]] = [
            pair.ours.step,
            pair.ours.state_dict,
            lambda: pair.ours.load_state_dict(saved),
            lambda: copy.deepcopy(pair.ours),
            lambda: pair.ours.swap_ema().__enter__(),
            lambda: another.__enter__(),
        ]
        for action in actions:
            with pytest.raises(RuntimeError, match="swap_ema"):
                action()
        pair.ours.param_groups[0]["amsgrad"] = True
        with pytest.raises(RuntimeError, match="swap_ema"):
            pair.ours.step()
        pair.ours.param_groups[0]["amsgrad"] = False
    assert all(map(torch.equal, params, now))
    assert all(
        torch.equal(pair.ours.state[p]["ema"], a) for p, a in zip(params, averages, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@every_layout
def test_parameters_that_move_inside_swap_ema_come_back(
    layout: Callable[..., Any], dtype: Any
) -> None:
    p = torch.nn.Parameter(layout((4, 6), dtype))
    opt = front.SGD([p], lr=1.0, ema_decay=0.5)
    for _ in range(2):
        p.grad = torch.ones_like(p)
        opt.step()
    now, average = p.detach().clone(), opt.state[p]["ema"].clone()

    def evaluate() -> None:
        with opt.swap_ema():
            p.data = layout((4, 6), dtype).copy_(p)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate()
    assert torch.equal(p, now)
    assert torch.equal(opt.state[p]["ema"], average)


def test_averages_of_narrow_parameters_dont_stand_still() -> None:
    p = torch.nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    wide = torch.nn.Parameter(torch.zeros(4))
    opts = [front.SGD([t], lr=2**-4, ema_decay=0.999) for t in (p, wide)]
    for _ in range(200):
        for t, opt in zip((p, wide), opts, strict=True):
            t.grad = torch.ones_like(t)
            opt.step()
    assert torch.equal(opts[0].state[p]["ema"], opts[1].state[wide]["ema"])
