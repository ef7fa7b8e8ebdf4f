"""Contract: what fusedopt.torch can't do is an error that names it, and nothing has changed."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from layers import BUILT
from published import peer
from torch_pair import Pair

torch = peer("torch")

import fusedopt.torch as front  # noqa: E402


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_a_gradient_that_is_its_parameter_cant_be_zeroed(dtype: Any) -> None:
    p = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=dtype))
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
