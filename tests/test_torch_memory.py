"""Contract: fusedopt.torch steps tensors however they lie in memory, and wherever they move."""

import copy
import io
import time
from collections.abc import Callable
from typing import Any

import pytest

from published import peer
from torch_pair import (
    Pair,
    channels_last,
    error,
    every_layout,
    every_rule,
    plain,
    strided,
)

torch = peer("torch")

import fusedopt.torch as front  # noqa: E402


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
    context = torch.multiprocessing.get_context("spawn")
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
