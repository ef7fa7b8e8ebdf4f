"""Contract: fusedopt.torch's optimizers are torch's, in all but how a step is computed."""

import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fusedopt
from layers import BUILT
from published import peer

torch = peer("torch")
peer("expecttest")  # which torch's database of optimizers imports
from torch.optim import optimizer  # noqa: E402

import fusedopt.torch as front  # noqa: E402

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
# Each with state, and a rule of its own.
RULES = [
    pytest.param("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, id="SGD"),
    pytest.param("RMSprop", {"momentum": 0.9, "alpha": 0.9}, id="RMSprop"),
    pytest.param("Adam", {"amsgrad": True, "weight_decay": 0.01}, id="Adam"),
    pytest.param("AdamW", {}, id="AdamW"),
]
every_rule = pytest.mark.parametrize(("name", "options"), RULES)
SHAPES = [(2, 3, 5, 7), (33,), (), (1,), (4, 9), (0,)]


def plain(shape: tuple[int, ...], dtype: Any) -> Any:
    return torch.randn(shape, dtype=dtype)


def channels_last(shape: tuple[int, ...], dtype: Any) -> Any:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}
    return plain(shape, dtype).to(memory_format=last.get(len(shape), torch.contiguous_format))


def transposed(shape: tuple[int, ...], dtype: Any) -> Any:
    return (
        plain(shape[::-1], dtype).permute(*range(len(shape))[::-1]) if shape else plain((), dtype)
    )


def strided(shape: tuple[int, ...], dtype: Any) -> Any:
    return plain((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2] if shape else plain((), dtype)


every_layout = pytest.mark.parametrize("layout", [plain, channels_last, transposed, strided])


class Pair:
    """The same parameters twice, with an optimizer of torch's and one of ours."""

    def __init__(
        self,
        name: str,
        shapes: list[tuple[int, ...]] = SHAPES,
        dtype: Any = torch.float32,
        layout: Callable[..., Any] = plain,
        ours: type | None = None,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.own_params = [torch.nn.Parameter(layout(shape, dtype)) for shape in shapes]
        self.their_params = copy.deepcopy(self.own_params)
        for own, their in zip(self.own_params, self.their_params, strict=True):
            their.data = torch.empty_strided(their.shape, own.stride(), dtype=dtype).copy_(own)
        self.theirs = getattr(torch.optim, name)(self.their_params, **{"foreach": False, **options})
        self.ours = (ours or getattr(front, name))(self.own_params, **options)

    def give_gradients(self, seed: int, *, absent: int | None = None) -> None:
        torch.manual_seed(seed)
        for i, (own, their) in enumerate(zip(self.own_params, self.their_params, strict=True)):
            own.grad = None if i == absent else torch.randn_like(own)
            their.grad = None if i == absent else own.grad.clone()

    def step(self, seed: int, **options: Any) -> None:
        self.give_gradients(seed, **options)
        self.theirs.step()
        self.ours.step()

    def error(self) -> float:
        pairs = list(zip(self.own_params, self.their_params, strict=True))
        return max(error(own.detach(), their.detach()) for own, their in pairs)

    def require_same(self, tolerance: float) -> None:
        assert self.error() <= tolerance
        for own, their in zip(self.own_params, self.their_params, strict=True):
            mine, his = self.ours.state.get(own, {}), self.theirs.state.get(their, {})
            assert mine.keys() == his.keys()
            for key, value in his.items():
                assert mine[key].dtype == value.dtype
                assert mine[key].shape == value.shape
                if value.numel() > 1:  # else it says nothing
                    assert mine[key].stride() == value.stride()
                assert error(mine[key], value) <= tolerance, key
                assert key != "step" or mine[key] == value


def error(own: Any, their: Any) -> float:
    if their.numel() == 0:
        return 0.0
    return float(((own - their).abs() / (their.abs() + 1)).max())


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


# --- Where memory is another than usually ---------------------------------------------------------


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_parameters_are_stepped_in_float32(
    name: str, options: dict[str, Any], dtype: Any
) -> None:
    """As torch's fused optimizers do; its others round after each operation."""
    pair = Pair(name, [(5, 3), (70,)], dtype, **options)
    wide = Pair(name, [(5, 3), (70,)], **options)
    for own, w in zip(pair.own_params, wide.own_params, strict=True):
        w.data.copy_(own)
    for seed in range(10):
        pair.give_gradients(seed)
        for own, w in zip(pair.own_params, wide.own_params, strict=True):
            w.grad = own.grad.float()
        pair.ours.step()
        wide.ours.step()
        # What is between steps is in the narrow dtype.
        for own, w in zip(pair.own_params, wide.own_params, strict=True):
            assert torch.equal(own, w.to(dtype))
            w.data.copy_(own)
            for key, state in pair.ours.state[own].items():
                if key != "step":
                    assert state.dtype == dtype
                    assert torch.equal(state, wide.ours.state[w][key].to(dtype)), key
                    wide.ours.state[w][key].copy_(state)


def test_a_narrow_step_is_that_of_torchs_fused_optimizer() -> None:
    pair = Pair("Adam", [(70,), (9, 5)], torch.bfloat16, foreach=None, fused=True)
    for seed in range(20):
        pair.step(seed)
    pair.require_same(2**-7)


@every_rule
def test_parameters_move(name: str, options: dict[str, Any]) -> None:
    pair = Pair(name, **options)
    for seed in range(3):
        pair.step(seed)
    for p in (*pair.own_params, *pair.their_params):  # elsewhere
        p.data = p.detach().clone()
    for seed in range(3, 6):
        pair.step(seed)
    pair.require_same(1e-6)
    for p in (pair.own_params[0], pair.their_params[0]):  # laid out in another way
        p.data = p.detach().to(memory_format=torch.channels_last)
    for seed in range(6, 9):
        pair.step(seed)
    for p in (pair.own_params[0], pair.their_params[0]):  # and back
        p.data = p.detach().contiguous()
    for seed in range(9, 12):
        pair.step(seed)
    assert pair.error() <= 1e-6


@every_layout
def test_viewed_parameters_move(layout: Callable[..., Any]) -> None:
    pair = Pair("Adam", [(4, 6)], layout=layout)
    for seed in range(3):
        pair.step(seed)
    for p in (*pair.own_params, *pair.their_params):
        p.data = layout((4, 6), torch.float32).copy_(p)
    for seed in range(3, 6):
        pair.step(seed)
    pair.require_same(1e-6)


def test_a_module_becomes_double_before_its_first_step() -> None:
    model = torch.nn.Linear(5, 3)
    opt = front.Adam(model.parameters(), lr=0.1)
    model.double()
    model(torch.ones(2, 5, dtype=torch.float64)).sum().backward()
    opt.step()
    assert opt.state[model.weight]["exp_avg"].dtype == torch.float64


@every_rule
def test_frozen_and_thawed(name: str, options: dict[str, Any]) -> None:
    pair = Pair(name, **options)
    for seed in range(12):
        pair.step(seed, absent=seed // 2 % 4)
    pair.require_same(1e-6)


def test_gradients_that_are_laid_out_in_other_ways() -> None:
    gradients: list[Callable[[Any], Any]] = [
        lambda p: torch.randn(8, 4).t(),
        lambda p: torch.tensor(2.0).expand(4, 8),
        lambda p: torch.randn(4, 16)[:, ::2],
        lambda p: p.detach(),
        lambda p: p.detach().t().reshape(8, 4).t(),
        lambda p: torch.randn(4, 8, dtype=torch.complex64).conj().imag,
        lambda p: torch.randn(4, 8, requires_grad=True) * 2,
    ]
    pair = Pair("Adam", [(4, 8)])
    for seed, gradient in enumerate(gradients):
        for p in (pair.own_params[0], pair.their_params[0]):
            torch.manual_seed(seed)
            p.grad = gradient(p)
        pair.ours.step()
        pair.theirs.step()
    pair.require_same(1e-6)


def test_one_number_that_is_to_be_negated() -> None:
    pair = Pair("Adam", [(1,), ()])
    for p in (*pair.own_params, *pair.their_params):
        z = torch.complex(torch.tensor(3.0), torch.tensor(2.0)).conj().imag
        p.grad = z.reshape(p.shape)
        assert p.grad.is_neg()
    pair.ours.step()
    pair.theirs.step()
    pair.require_same(1e-6)


def test_complex_gradients_that_are_to_be_conjugated() -> None:
    """Which torch's own optimizers refuse, in so many words."""
    p, q = (torch.nn.Parameter(torch.ones(5, dtype=torch.complex64)) for _ in range(2))
    p.grad = torch.randn(5, dtype=torch.complex64).conj()
    q.grad = p.grad.resolve_conj()
    assert p.grad.is_conj()
    for param in (p, q):
        front.Adam([param], lr=0.1).step()
    assert torch.equal(p, q)


# --- What torch keeps, and others write -----------------------------------------------------------


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
        pytest.skip("torch has none")
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


# --- What torch does around a step ----------------------------------------------------------------

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


# --- What torch doesn't have ----------------------------------------------------------------------


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


# --- Memory that others move ----------------------------------------------------------------------


def share_through_a_queue(opt: Any, p: Any) -> None:
    queue = torch.multiprocessing.get_context("spawn").Queue()
    queue.put(opt.state_dict())
    while not opt.state[p]["exp_avg"].is_shared():
        time.sleep(0.01)
    queue.close()
    queue.join_thread()


MOVES: list[Callable[[Any, Any], Any]] = [
    lambda opt, p: opt.state[p]["exp_avg"].share_memory_(),
    lambda opt, p: opt.state[p]["step"].share_memory_(),
    lambda opt, p: [t.share_memory_() for t in opt.state[p].values()],
    lambda opt, p: opt.state[p]["exp_avg"].set_(torch.full((1 << 16,), 2.0)),
    lambda opt, p: torch.utils.swap_tensors(opt.state[p]["exp_avg"], torch.full((1 << 16,), 2.0)),
    lambda opt, p: setattr(opt.state[p]["step"], "data", torch.tensor(7.0)),
    share_through_a_queue,
]


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("move", MOVES)
def test_state_that_is_moved_is_found(move: Callable[[Any, Any], Any], loaded: bool) -> None:
    pair = Pair("Adam", [(1 << 16,)])
    for seed in range(2):
        pair.step(seed)
    for opt, params in ((pair.ours, pair.own_params), (pair.theirs, pair.their_params)):
        if loaded:
            opt.load_state_dict(copy.deepcopy(opt.state_dict()))
        pair.step(2) if opt is pair.theirs else None
        held = opt.state[params[0]]  # whoever has seen it may move it later
        assert held
    pair.step(3)
    for opt, params in ((pair.ours, pair.own_params), (pair.theirs, pair.their_params)):
        move(opt, params[0])
    for seed in range(4, 7):
        pair.step(seed)
    pair.require_same(1e-6)


class SharedAdam(front.Adam):  # type: ignore[misc]
    """As programs for A3C have it: processes step the same state."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        for group in self.param_groups:
            for p in group["params"]:
                own = self.state[p]
                own["step"] = torch.tensor(0.0).share_memory_()
                own["exp_avg"] = torch.zeros_like(p).share_memory_()
                own["exp_avg_sq"] = torch.zeros_like(p).share_memory_()


def step_in_a_process(model: Any, opt: Any) -> None:
    for _ in range(5):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        opt.step()


def test_processes_share_state() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    expected = copy.deepcopy(model)
    model.share_memory()
    opt = SharedAdam(model.parameters(), lr=0.1)
    context = torch.multiprocessing.get_context("fork")
    for _ in range(2):  # one after the other: it is no matter of luck
        process = context.Process(target=step_in_a_process, args=(model, opt))
        process.start()
        process.join(60)
        assert process.exitcode == 0
    theirs = torch.optim.Adam(expected.parameters(), lr=0.1)
    for _ in range(2):
        step_in_a_process(expected, theirs)
    assert opt.state[model.weight]["step"] == 10
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        assert error(p.detach(), q.detach()) < 1e-6


def test_storages_stay_resizable() -> None:
    p = torch.nn.Parameter(channels_last((2, 3, 4, 5), torch.float32))
    opt = front.Adam([p])
    for _ in range(3):
        p.grad = torch.ones_like(p)
        opt.step()
        values, size = p.detach().clone(), p.untyped_storage().nbytes()
        for tensor in (p, p.grad):
            tensor.untyped_storage().resize_(0)
        p.untyped_storage().resize_(size)
        with torch.no_grad():
            p.copy_(values)
    assert opt.state[p]["step"] == 3


def test_state_can_be_saved_beside_an_empty_parameter() -> None:
    for dtype in (torch.float64, torch.complex64, torch.bfloat16):
        params = [torch.nn.Parameter(torch.ones(n, dtype=d)) for n, d in ((0, None), (2, dtype))]
        opt = front.Adam(params)
        for _ in range(2):
            for p in params:
                p.grad = torch.ones_like(p)
            opt.step()
        file = io.BytesIO()
        torch.save(opt.state_dict(), file)
        file.seek(0)
        assert torch.load(file)["state"][0]["step"] == 2


def test_a_parameter_that_is_to_be_negated() -> None:
    own, their = (torch.nn.Parameter(torch.tensor([1 + 2j]).conj().imag) for _ in range(2))
    assert own.is_neg()
    for p, kind in ((own, front.SGD), (their, torch.optim.SGD)):
        opt = kind([p], lr=0.5)
        p.grad = torch.ones(1)
        opt.step()
    assert own.tolist() == their.tolist() == [-2.5]


def test_parameters_without_a_shape_yet() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.LazyLinear(3), torch.nn.Linear(3, 2))
    opt = front.Adam(model.parameters())
    model[1].weight.grad = torch.ones(2, 3)
    opt.step()
    model(torch.ones(4, 5)).sum().backward()
    opt.step()
    assert opt.state[model[1].weight]["step"] == 2
    assert opt.state[model[0].weight]["exp_avg"].shape == (3, 5)


def test_many_subclasses_of_tensors() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    opt = front.SGD([p], lr=0.125)
    for i in range(40):
        kind = type(f"Tensor{i}", (torch.Tensor,), {})
        p.grad = torch.ones(2).as_subclass(kind)
        opt.step()
    assert p.tolist() == [-4.0, -4.0]


@pytest.mark.parametrize("layout", [plain, strided])
def test_a_skipped_step_leaves_no_trace(layout: Callable[..., Any]) -> None:
    p = torch.nn.Parameter(layout((4,), torch.float32))
    opt = front.Adam([p], lr=0.1)
    kept = (p**2).sum()
    p.grad = torch.tensor([1.0, torch.inf, 1.0, 1.0])
    opt.step(on_nonfinite="skip")
    assert opt.step_result.skipped
    assert not opt.state_dict()["state"]
    kept.backward()  # its graph doesn't say that anything was written
    for seed in range(3):
        p.grad = torch.ones(4) * (seed + 1)
        opt.step(on_nonfinite="skip")
    assert opt.state_dict()["state"][0]["step"] == 3
    assert opt.state[p]["exp_avg"].abs().min() > 0
    opt.step()
    assert opt.state[p]["step"] == 4


@pytest.mark.filterwarnings("error")
def test_compiled_steps() -> None:
    torch.compiler.reset()
    pair = Pair("Adam", [(5, 3), (7,)])
    step = torch.compile(pair.ours.step, backend="eager")
    for seed in range(4):
        pair.give_gradients(seed)
        step()
        pair.theirs.step()
    pair.require_same(1e-6)


def test_a_hook_that_comes_while_the_step_runs() -> None:
    calls = []
    p = torch.nn.Parameter(torch.ones(2))
    opt = front.SGD([p], lr=0.1)

    def closure() -> Any:
        opt.register_step_post_hook(lambda *_: calls.append("post"))
        p.grad = torch.ones(2)
        return 1.0

    opt.step(closure)
    assert calls == ["post"]


# --- What is refused ------------------------------------------------------------------------------


def test_tensors_elsewhere_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"param_groups\[0\]\['params'\]\[1\].* on meta"):
        front.Adam(
            [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2, device="meta"))]
        )
    opt = front.Adam([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(TypeError, match=r"param_groups\[1\]\['params'\]\[0\].* on meta"):
        opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2, device="meta"))]})
    assert len(opt.param_groups) == 1
    with pytest.raises(TypeError, match="int64"):
        front.SGD([torch.ones(2, dtype=torch.int64)], lr=0.1)


def test_what_isnt_a_plain_step_is_refused() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    for name in ("capturable", "differentiable"):
        with pytest.raises(ValueError, match=name):
            front.Adam([p], **{name: True})
    opt = front.Adam([p])
    opt.param_groups[0]["differentiable"] = True
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"param_groups\[0\]\['differentiable'\]"):
        opt.step()


def test_hyperparameters_are_refused_by_name_and_nothing_changes() -> None:
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with pytest.raises(ValueError, match=r"param_groups\[1\]\['lr'\]: expected a finite number"):
        front.Adam([{"params": [p]}, {"params": [q], "lr": -1.0}])
    with pytest.raises(ValueError, match="eps_hat"):
        front.Adam([p], eps_hat=True, eps_root=0.1)
    opt = front.Adam([{"params": [p]}, {"params": [q]}])
    p.grad = q.grad = torch.ones(2)
    opt.step()
    before = [t.detach().clone() for t in (p, q, opt.state[p]["exp_avg"], opt.state[p]["step"])]
    for lr in (-1.0, float("nan")):
        opt.param_groups[1]["lr"] = lr
        with pytest.raises(ValueError, match=r"param_groups\[1\].*lr.*expected a finite number"):
            opt.step()
        with pytest.raises(ValueError, match=r"param_groups\[1\].*lr.*expected a finite number"):
            opt.step()
        now = (p, q, opt.state[p]["exp_avg"], opt.state[p]["step"])
        assert all(map(torch.equal, now, before))
    opt.param_groups[1]["lr"] = 0.1
    opt.step()
    assert opt.state[p]["step"] == 2


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_bad_gradients_are_refused_by_name_and_nothing_changes() -> None:
    model = torch.nn.Linear(3, 2)
    opt = front.Adam(model.named_parameters())
    p = model.weight
    p.grad = torch.sparse_coo_tensor([[0], [1]], [1.0], (2, 3))
    model.bias.grad = torch.ones(2)
    before = [t.detach().clone() for t in model.parameters()]
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        opt.step()
    assert all(map(torch.equal, model.parameters(), before))
    assert not opt.state
    p.grad = torch.ones(2, 3)
    opt.step()
    assert opt.state[p]["step"] == 1
    with pytest.raises(TypeError, match="max_norm"):
        opt.step(max_norm="1")
    with pytest.raises(TypeError, match="max_nrm"):
        opt.step(max_nrm=1.0)
    assert opt.state[p]["step"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("step", [1, 2])
def test_parameters_that_share_memory_are_refused_by_name(dtype: Any, step: int) -> None:
    base = torch.ones(8, dtype=dtype)
    opt = front.Adam(zip("ab", [base[:6:step], base[4::step]], strict=True))
    for p in opt.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match=r"overlaps"):
        opt.step()
    assert (base == 1).all()
    apart = front.SGD([base[::2], base[1::2]], lr=0.5)
    for p in apart.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    apart.step()
    assert (base == 0.5).all()


def test_elements_that_share_a_place_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^param_groups\[0\]\['params'\]\[1\]: expected a tensor"):
        front.SGD([torch.zeros(2), torch.zeros(1).expand(3)])
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    q = torch.nn.Parameter(torch.ones(3))
    opt = front.Adam([p, q])
    for k in range(2):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        opt.step()
        for t in (p, q):
            opt.state[t]["exp_avg"] = torch.full((1,), 0.1 + k, dtype=t.dtype).expand(3)
    opt.step()
    assert opt.state[p]["step"] == opt.state[q]["step"] == 3
    assert opt.state[q]["exp_avg"].tolist() == pytest.approx([0.9 * 1.1 + 0.1] * 3)


def test_a_gradient_that_is_its_parameter_cant_be_zeroed() -> None:
    p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = front.SGD([("p", p)], lr=0.5)
    p.grad = p.detach()
    with pytest.raises(ValueError, match=r"^grads\['p'\]: shares memory"):
        opt.step(zero_grads=True)
    assert p.tolist() == [1.0, 2.0]
    opt.step()
    assert p.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("edit", "error_type", "text"),
    [
        (lambda o, p: o.param_groups[0].update(capturable=True), ValueError, "capturable"),
        (lambda o, p: o.param_groups[0].update(differentiable=True), ValueError, "differentiable"),
        (lambda o, p: o.state[p].update(exp_avg=torch.ones(3)), ValueError, r"state\[0\].*shape"),
        (
            lambda o, p: o.state[p].update(exp_avg=torch.ones(2, 1)),
            ValueError,
            r"state\[0\].*shape",
        ),
        (
            lambda o, p: o.state[p].update(exp_avg=torch.ones(2, device="meta")),
            TypeError,
            r"state\[0\]\['exp_avg'\]: .* on meta",
        ),
        (lambda o, p: o.state[p].update(exp_avg=None), ValueError, r"state\[0\]\['exp_avg'\]"),
        (lambda o, p: o.state[p].update(step=torch.ones(2)), TypeError, r"state\[0\]\['step'\]"),
        (
            lambda o, p: o.state[p].update(step=torch.tensor(0.5)),
            ValueError,
            r"state\[0\]\['step'\]",
        ),
        (lambda o, p: setattr(p, "data", torch.ones(2, 3)), (ValueError, RuntimeError), "shape"),
        (lambda o, p: o.param_groups[0].update(betas=(0.9, 1.0)), ValueError, "betas"),
        (lambda o, p: o.param_groups[0].update(eps="1"), TypeError, "eps"),
    ],
)
def test_edits_that_are_wrong_are_refused_by_name(edit: Any, error_type: Any, text: str) -> None:
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = front.Adam([p, q])
    p.grad, q.grad = torch.ones(2), torch.ones(2)
    opt.step()
    edit(opt, p)
    before = q.detach().clone()
    for _ in range(2):
        with pytest.raises(error_type, match=text):
            opt.step()
        assert torch.equal(q, before)


def test_a_step_may_be_a_plain_number_and_betas_one_tensor() -> None:
    pair = Pair("Adam", [(3,)])
    pair.step(0)
    pair.ours.state[pair.own_params[0]]["step"] = 5
    pair.theirs.state[pair.their_params[0]]["step"] = torch.tensor(5.0)
    for opt in (pair.ours, pair.theirs):
        opt.param_groups[0]["betas"] = [0.5, 0.75]
    pair.ours.param_groups[0]["betas"] = torch.tensor([0.5, 0.75])
    pair.step(1)
    pair.require_same(1e-6)


def test_importing_fusedopt_imports_no_torch() -> None:
    code = "import sys, fusedopt; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("chosen", [None, "serial", "auto"])
@pytest.mark.parametrize("by", ["environment", "call"])
def test_torchs_threads_are_shared_where_nobody_chose(chosen: str | None, by: str) -> None:
    code = "import fusedopt; "
    environment = {k: v for k, v in os.environ.items() if k != "FUSEDOPT_THREADING_LAYER"}
    if chosen and by == "call":
        code += f"fusedopt.set_threading_layer({chosen!r}); "
    elif chosen:
        environment["FUSEDOPT_THREADING_LAYER"] = chosen
    code += "import fusedopt.torch; print(fusedopt.get_threading_layer())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    default = "openmp" if "openmp" in BUILT else "auto"
    assert done.stdout.split() == [chosen or default]


@pytest.fixture
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_default_dtype")
def test_steps_are_counted_in_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    pair = Pair("Adam", [(3,)], torch.float64)
    pair.step(0)
    pair.require_same(1e-13)
    assert pair.ours.state[pair.own_params[0]]["step"].dtype == torch.float64


def test_optimizers_go_with_their_models() -> None:
    model = torch.nn.Linear(3, 2)
    opt = front.Adam(model.parameters())
    model.opt = opt  # a circle
    model(torch.ones(1, 3)).sum().backward()
    opt.step()
    gone = weakref.ref(opt)
    del model, opt
    gc.collect()
    assert gone() is None
