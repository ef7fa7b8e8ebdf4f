"""Contract: fusedopt.torch's optimizers are torch's, in all but how a step is computed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from published import peer
from torch_pair import (
    Pair,
    every_layout,
    every_rule,
    plain,
    strided,
)

torch = peer("torch")
from torch.optim import optimizer  # noqa: E402

import fusedopt.torch as front  # noqa: E402

peer("expecttest")  # which torch's database of optimizers imports
try:
    from torch.testing._internal.common_optimizers import optim_db
except ModuleNotFoundError:  # torch 2.2
    optim_db = []
NAMES = ["SGD", "RMSprop", "Adam", "AdamW"]
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13, torch.complex64: 1e-6}
INFOS = {i.optim_cls.__name__: i for i in optim_db if i.optim_cls.__name__ in NAMES}
INPUTS = [
    pytest.param(name, value, id=f"{name}, {value.desc}")
    for name, info in INFOS.items()
    for value in info.optim_inputs_func(device="cpu")
]


@every_layout
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize(("name", "value"), INPUTS)
def test_torchs_own_database_of_inputs(
    name: str, value: Any, dtype: Any, layout: Callable[..., Any]
) -> None:
    pair = Pair(name, dtype=dtype, layout=layout, **copy.deepcopy(value.kwargs))
    for seed in range(50):
        pair.step(seed)
    pair.require_same(TOLERANCE[dtype])


def test_torchs_own_database_is_there() -> None:
    assert len(INPUTS) >= 27 or torch.__version__.startswith("2.2.")


@pytest.mark.parametrize("name", INFOS)
def test_torchs_own_database_of_errors(name: str) -> None:
    checked = 0
    for case in INFOS[name].optim_error_inputs_func("cpu", torch.float32):
        given = case.optimizer_error_input
        if issubclass(case.error_type, Warning):
            with pytest.warns(case.error_type, match=case.error_regex):
                getattr(front, name)(given.params, **given.kwargs)
        else:
            with pytest.raises(case.error_type, match=case.error_regex):
                getattr(front, name)(given.params, **given.kwargs)
        checked += 1
    assert checked >= 6


@every_rule
def test_it_is_torchs_class(name: str, options: dict[str, Any]) -> None:
    pair = Pair(name, **options)
    assert isinstance(pair.ours, getattr(torch.optim, name))
    theirs = pair.theirs.param_groups[0]
    ours = pair.ours.param_groups[0]
    assert {k: v for k, v in ours.items() if k in theirs and k not in {"params", "foreach"}} == {
        k: v for k, v in theirs.items() if k not in {"params", "foreach"}
    }
    assert repr(pair.ours).startswith(name)


SCHEDULERS: list[tuple[str, Callable[[Any], Any]]] = [
    ("LambdaLR", lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.9**k)),
    ("MultiplicativeLR", lambda o: torch.optim.lr_scheduler.MultiplicativeLR(o, lambda k: 0.9)),
    ("StepLR", lambda o: torch.optim.lr_scheduler.StepLR(o, 3)),
    ("MultiStepLR", lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 7])),
    ("ConstantLR", lambda o: torch.optim.lr_scheduler.ConstantLR(o, total_iters=4)),
    ("LinearLR", lambda o: torch.optim.lr_scheduler.LinearLR(o)),
    ("ExponentialLR", lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
    ("PolynomialLR", lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 10)),
    ("CosineAnnealingLR", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10)),
    (
        "CosineAnnealingWarmRestarts",
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    ),
    ("CyclicLR", lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 3)),
    ("OneCycleLR", lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20)),
    ("ReduceLROnPlateau", lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1)),
    ("SWALR", lambda o: torch.optim.swa_utils.SWALR(o, 0.05, 3)),
    (
        "SequentialLR",
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [
                torch.optim.lr_scheduler.LinearLR(o, total_iters=3),
                torch.optim.lr_scheduler.CosineAnnealingLR(o, 8),
            ],
            [3],
        ),
    ),
    (
        "ChainedScheduler",
        lambda o: torch.optim.lr_scheduler.ChainedScheduler(
            [
                torch.optim.lr_scheduler.ConstantLR(o, total_iters=4),
                torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
            ]
        ),
    ),
]


def test_every_scheduler_of_torchs_is_tried() -> None:
    module = torch.optim.lr_scheduler
    there = {name for name in module.__all__ if name not in {"LRScheduler"}} | {"SWALR"}
    assert there == {name for name, _ in SCHEDULERS}


@every_rule
@pytest.mark.parametrize("make", [s for _, s in SCHEDULERS], ids=[n for n, _ in SCHEDULERS])
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_schedulers(name: str, options: dict[str, Any], make: Callable[[Any], Any]) -> None:
    pair = Pair(name, [(5, 3)], **options)
    schedulers = [make(opt) for opt in (pair.theirs, pair.ours)]
    rates = set()
    for seed in range(20):
        pair.step(seed)
        for scheduler in schedulers:
            plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*([1.0] if plateau else []))
        rates.add(pair.ours.param_groups[0]["lr"])
    assert len(rates) > 1
    pair.require_same(1e-6)


def test_one_cycle_moves_betas() -> None:
    opt = front.Adam([torch.nn.Parameter(torch.ones(3))])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10)
    first = opt.param_groups[0]["betas"]
    opt.param_groups[0]["params"][0].grad = torch.ones(3)
    opt.step()
    scheduler.step()
    assert opt.param_groups[0]["betas"] != first


def test_closures_and_hooks_are_called_as_torch_calls_them() -> None:
    def run(kind: Any) -> list[Any]:
        seen: list[Any] = []
        p = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
        opt = kind([p], lr=0.1)

        def closure() -> Any:
            opt.zero_grad()
            assert torch.is_grad_enabled()
            loss = (p**2).sum()
            loss.backward()
            seen.append(("closure", loss.item()))
            return loss

        handles = [
            optimizer.register_optimizer_step_pre_hook(lambda *a: seen.append("global pre")),
            optimizer.register_optimizer_step_post_hook(lambda *a: seen.append("global post")),
            opt.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", len(args)))),
            opt.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", o is opt))),
        ]
        seen.append(opt.step(closure).item())
        with torch.no_grad():
            seen.append(opt.step(closure=closure).item())
        for handle in handles:
            handle.remove()
        seen.append(opt.step())
        seen.append(p.tolist())
        return seen

    ours, theirs = run(front.SGD), run(torch.optim.SGD)
    assert ours[:-1] == theirs[:-1]
    assert ours[-1] == pytest.approx(theirs[-1], rel=1e-6)


def test_a_subclass_with_a_step_of_its_own_has_its_hooks_called_once() -> None:
    class Counting(front.SGD):  # type: ignore[misc]
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    calls = []
    opt = Counting([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    opt.register_step_pre_hook(lambda *a: calls.append("pre"))
    opt.param_groups[0]["params"][0].grad = torch.ones(2)
    opt.step()
    assert calls == ["pre"]
    assert opt.param_groups[0]["params"][0].tolist() == pytest.approx([0.9, 0.9])


def test_a_profile_shows_the_step() -> None:
    opt = front.Adam([torch.nn.Parameter(torch.ones(2))])
    opt.param_groups[0]["params"][0].grad = torch.ones(2)
    with torch.profiler.profile() as profile:
        opt.step()
    assert any(event.key == "Optimizer.step#Adam.step" for event in profile.key_averages())


@pytest.mark.parametrize("layout", [plain, strided])
def test_graphs_learn_that_parameters_were_written(layout: Callable[..., Any]) -> None:
    p = torch.nn.Parameter(layout((4,), torch.float32))
    q = torch.nn.Parameter(layout((4,), torch.float32))
    loss = (p**2).sum()
    kept = (q**2).sum()
    opt = front.SGD([p, q], lr=0.1)
    p.grad = torch.ones(4)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    kept.backward()  # it had no gradient, and wasn't written


def test_gradient_scaler_skips_what_overflowed() -> None:
    for options in ({}, {"fused": True}):
        p = torch.nn.Parameter(torch.ones(3))
        opt = front.Adam([p], lr=0.1, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        scaler.scale((p * torch.tensor([1.0, 2.0, torch.inf])).sum()).backward()
        scaler.step(opt)
        scaler.update()
        assert p.tolist() == [1.0, 1.0, 1.0]
        assert scaler.get_scale() == 2.0
        opt.zero_grad()
        scaler.scale((p * torch.tensor([1.0, 2.0, 3.0])).sum()).backward()
        scaler.step(opt)
        assert p.tolist() == pytest.approx([0.9, 0.9, 0.9])
        assert p.grad.tolist() == [1.0, 2.0, 3.0]


def test_averaged_models() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    opt = front.SGD(model.parameters(), lr=0.1)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    averaged.update_parameters(model)
    expected = model.weight.detach().clone()
    for _ in range(3):
        opt.zero_grad()
        model(torch.ones(1, 4)).sum().backward()
        opt.step()
        averaged.update_parameters(model)
        expected = 0.5 * expected + 0.5 * model.weight.detach()
    assert torch.allclose(averaged.module.weight, expected)


def test_optimizers_in_the_backward_pass() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    opts = {p: front.Adam([p]) for p in model.parameters()}

    def step(p: Any) -> None:
        opts[p].step()
        opts[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    model(torch.ones(1, 4)).sum().backward()
    assert all(p.grad is None and opts[p].state[p]["step"] == 1 for p in model.parameters())
