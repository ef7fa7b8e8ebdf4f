"""Contract: fusedopt.torch's state and groups are read, edited, saved and copied as torch's."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from published import peer
from torch_pair import (
    Pair,
    error,
    every_rule,
)

torch = peer("torch")

import fusedopt.torch as front  # noqa: E402


@every_rule
def test_state_is_read_where_it_is_written(name: str, options: dict[str, Any]) -> None:
    pair = Pair(name, [(5, 3), (70,)], **options)
    for seed in range(3):
        pair.step(seed)
    key = {"SGD": "momentum_buffer", "RMSprop": "square_avg"}.get(name, "exp_avg")
    edits: list[Callable[[Any, dict[str, Any]], Any]] = [
        lambda p, state: state[key].zero_(),
        lambda p, state: state.update({key: torch.ones_like(p)}),
        lambda p, state: state.update(
            {key: torch.ones(p.shape[::-1]).permute(-1, *range(p.dim() - 1))}
        ),
        lambda p, state: state["step"].fill_(7) if "step" in state else None,
        lambda p, state: state["step"].add_(1) if "step" in state else None,
        lambda p, state: state.clear(),
    ]
    for seed, edit in enumerate(edits, 3):
        for params, opt in ((pair.own_params, pair.ours), (pair.their_params, pair.theirs)):
            edit(params[0], opt.state[params[0]])
        pair.step(seed)
        assert pair.error() <= 1e-6
        assert all(
            error(pair.ours.state[own][k], v) <= 1e-6
            for own, their in zip(pair.own_params, pair.their_params, strict=True)
            for k, v in pair.theirs.state[their].items()
        )
    for opt in (pair.ours, pair.theirs):
        opt.state.clear()
    pair.step(20)
    pair.require_same(1e-6)


@every_rule
def test_hyperparameters_are_read_where_they_are_written(
    name: str, options: dict[str, Any]
) -> None:
    pair = Pair(name, [(5, 3), (70,)], **options)
    for seed in range(10):
        for opt in (pair.ours, pair.theirs):
            group = opt.param_groups[0]
            group["lr"] = [0.1, 0.01, 0.0, 1, 0.05][seed % 5]
            group["weight_decay"] = [0.0, 0.1][seed // 3 % 2]
            group["maximize"] = seed == 7
            if "betas" in group:
                group["betas"] = [0.8, 0.9][seed % 2], 0.99
        pair.step(seed)
    pair.require_same(1e-6)


def test_numbers_may_be_tensors() -> None:
    lr = torch.tensor(0.1)
    pair = Pair("Adam", lr=lr, betas=(torch.tensor(0.8), torch.tensor(0.9)))
    for seed in range(4):
        lr.mul_(0.5)
        pair.step(seed)
    pair.require_same(1e-6)
    for opt in (pair.ours, pair.theirs):
        opt.param_groups[0]["lr"] = 0.3
    pair.step(4)
    pair.require_same(1e-6)


def test_groups_are_added_and_edited() -> None:
    pair = Pair("AdamW", [(5, 3), (70,)])
    pair.step(0)
    more = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    pair.ours.add_param_group({"params": more[0], "lr": 0.5})
    pair.theirs.add_param_group({"params": more[1], "lr": 0.5})
    pair.own_params.append(more[0])
    pair.their_params.append(more[1])
    for seed in range(1, 4):
        pair.step(seed)
    pair.require_same(1e-6)
    for params, opt in ((pair.own_params, pair.ours), (pair.their_params, pair.theirs)):
        del opt.param_groups[0]["params"][0]
        params[0] = torch.nn.Parameter(torch.full((6,), 2.0))
        opt.param_groups[0]["params"].insert(0, params[0])
    for seed in range(4, 7):
        pair.step(seed)
    pair.require_same(1e-6)


@every_rule
@pytest.mark.parametrize("way", ["default", "foreach", "fused"])
def test_checkpoints_go_both_ways(name: str, options: dict[str, Any], way: str) -> None:
    if way == "fused" and name == "RMSprop":
        return  # torch has none
    how = {"default": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    pair = Pair(name, **options)
    for seed in range(5):
        pair.step(seed)
    there, back = io.BytesIO(), io.BytesIO()
    torch.save(pair.ours.state_dict(), there)
    torch.save(pair.theirs.state_dict(), back)
    there.seek(0)
    back.seek(0)
    theirs = getattr(torch.optim, name)(pair.their_params, **options, **how[way])
    saved = torch.load(there, weights_only=True)
    for group in saved["param_groups"]:
        group.update({"foreach": None, "fused": None} if "fused" in group else {"foreach": None})
        group.update(how[way])
    theirs.load_state_dict(saved)
    ours = getattr(front, name)(pair.own_params, **options)
    ours.load_state_dict(torch.load(back, weights_only=True))
    pair.ours, pair.theirs = ours, theirs
    for seed in range(5, 10):
        pair.step(seed)
    assert pair.error() <= 2e-6


@every_rule
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_goes_on_as_the_original(
    name: str, options: dict[str, Any], duplicate: Callable[[Any], Any]
) -> None:
    pair = Pair(name, **options)
    for seed in range(4):
        pair.step(seed)
    params, opt = duplicate((pair.own_params, pair.ours))
    for seed in range(4, 8):
        pair.give_gradients(seed)
        for p, own in zip(params, pair.own_params, strict=True):
            p.grad = own.grad.clone()
        pair.ours.step()
        opt.step()
    for p, own in zip(params, pair.own_params, strict=True):
        assert torch.equal(p, own)
        assert all(torch.equal(v, opt.state[p][k]) for k, v in pair.ours.state[own].items())


def test_forms_that_a_checkpoint_doesnt_name_stay() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.Adam([p], lr=0.3)
    p.grad = torch.ones(3)
    theirs.step()
    ours = front.Adam([p], lr=0.1, eps_hat=True, ema_decay=0.5)
    ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert (group["lr"], group["eps_hat"], group["ema_decay"]) == (0.3, True, 0.5)
    ours.step()
    assert ours.state[p]["step"] == 2
    assert torch.equal(ours.state[p]["ema"].isnan(), torch.zeros(3, dtype=torch.bool))


def test_state_of_another_optimizer_is_refused_by_name() -> None:
    pair = Pair("SGD", [(3,)], lr=0.1, momentum=0.9)
    pair.step(0)
    p = pair.own_params[0]
    opt = front.Adam([p])
    opt.state[p] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}
    before = p.detach().clone()
    with pytest.raises(ValueError, match=r"\['exp_avg_sq'\]: missing, for params\[0\]"):
        opt.step()
    assert torch.equal(p, before)
