"""Contract: unscaling, norm, clipping, skipping and zeroing in the step are what they are apart."""

import math
import re
import sys
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import FORMS, RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import StepResult, _core, reference
from fusedopt._step_options import StepOptions
from subprocesses import output_of

SHAPES = [*range(66), (3, 5), 8191, 8193, 20_001]
STEPS = 5
OPTIONS: list[dict[str, Any]] = [
    {"loss_scale": 1024.0},
    {"loss_scale": 3.0, "max_norm": 1.5},
    {"max_norm": 1e9},
    {"max_array_norm": 0.7},
    {"max_array_norm": 2.5, "loss_scale": 3.0, "stats": True},
    {"max_array_norm": 0.3, "loss_scale": 7.0, "clip_value": 0.01, "on_nonfinite": "skip"},
    {"clip_value": 0.3},
    {"loss_scale": 7.0, "max_norm": 20.0, "clip_value": 0.01, "zero_grads": True},
    {"on_nonfinite": "skip", "zero_grads": True},
    {"on_nonfinite": "raise", "max_norm": math.inf},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)
every_kernel = pytest.mark.parametrize("case", [*RULE_CASES, FORMS[1], FORMS[7]], ids=str)


@every_dtype
@every_option
@every_kernel
def test_fused_is_the_reference(case: Case, options: dict[str, Any], dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    ours, theirs = (
        case.make(params, maximize=True),
        case.make_reference(copies(params), maximize=True),
    )
    for step in range(STEPS):
        grads = random_arrays(1 + step, dtype, SHAPES)
        grads[step] = None
        same = [None if g is None else g.copy() for g in grads]
        assert ours.step(grads, **options) == theirs.step(same, **options)
        for g, h in zip(grads, same, strict=True):
            np.testing.assert_array_equal(g, h)
            assert g is None or not options.get("zero_grads") or not g.any()
    assert_same(ours, theirs)


@every_dtype
def test_each_gradient_is_clipped_by_itself(dtype: type) -> None:
    """As by Keras' clipnorm and thinc's grad_clip: to the limit, and left where it is below."""
    params = [np.zeros(n, dtype) for n in (4, 3, 2, 1)]
    lengths = 8.0, 2.0, 0.5, 0.0
    grads = [np.full(p.size, x / p.size**0.5, dtype) for p, x in zip(params, lengths, strict=True)]
    result = fusedopt.SGD(params, lr=1.0).step(grads, max_array_norm=2.0)
    assert result.grad_norm == pytest.approx(np.linalg.norm(lengths), rel=1e-6)
    found = [np.linalg.norm(p) for p in params]
    assert found == pytest.approx([2.0, 2.0, 0.5, 0.0], rel=1e-6)
    for p, g in zip(params[2:], grads[2:], strict=True):
        np.testing.assert_array_equal(p, -g)


@pytest.mark.parametrize("options", [{}, {"clip_value": 0.5}, {"on_nonfinite": "skip"}])
def test_clipping_each_leaves_the_next_step_alone(options: dict[str, Any]) -> None:
    """Neither its scale nor its way to cut work into pieces lasts."""
    params = random_arrays(0, np.float32, [5, 7, 300])
    ours, theirs = fusedopt.Adam(params, lr=0.1), reference.Adam(copies(params), lr=0.1)
    for seed in range(6):
        grads = random_arrays(seed, np.float32, [5, 7, 300])
        for opt in (ours, theirs):
            opt.step(
                copies(grads), **({"max_array_norm": 0.25, **options} if seed % 3 == 1 else {})
            )
    assert_same(ours, theirs)


def test_a_gradient_that_is_not_finite_is_not_made_so() -> None:
    p, q = np.zeros(2), np.zeros(2)
    opt = fusedopt.SGD([p, q], lr=1.0)
    opt.step([np.array([np.inf, 1.0]), np.array([3.0, 4.0])], max_array_norm=1.0)
    assert np.isnan(p[0])
    assert p[1] == 0
    np.testing.assert_allclose(q, [-0.6, -0.8])
    opt.step([np.array([np.nan, 1.0]), np.zeros(2)], max_array_norm=1.0)
    assert np.isnan(p[0])
    assert p[1] == -1


@every_dtype
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("chunk", [1, 7, 8192])
def test_threads_and_chunks_do_not_matter(chunk: int, threads: int, dtype: type) -> None:
    fusedopt.set_num_threads(threads)
    shapes = [0, 1, 5, 64, 0, 1000, 3001, 17_000]
    params = random_arrays(0, dtype, shapes)
    ours, theirs = fusedopt.AdamW(params), reference.AdamW(copies(params))
    options: dict[str, Any] = {"loss_scale": 3.0, "max_norm": 5.0, "zero_grads": True}
    for step in range(STEPS):
        grads = random_arrays(1 + step, dtype, shapes)
        same = copies(grads)
        _core.set_grid(chunk=chunk, serial_below=0)
        assert ours.step(grads, **options) == theirs.step(same, **options)
        assert not any(g.any() for g in grads)
    assert_same(ours, theirs)


def test_the_norm_is_that_of_the_elements_wherever_they_lie() -> None:
    """Side by side, in groups, with offsets: the sum is over each gradient by itself."""
    flat, views = fusedopt.flat_views([1000, 30_001, 7], np.float32)
    flat_grad, grads = fusedopt.flat_views([1000, 30_001, 7], np.float32)
    flat_grad[...] = random_arrays(1, np.float32, [flat.size])[0]
    norms = set()
    for threads in (1, 2, 3):
        fusedopt.set_num_threads(threads)
        for groups in (
            views,
            [{"params": views[:1]}, {"params": views[1:], "momentum": 0.9}],
        ):
            opt = fusedopt.SGD(groups, lr=0.0)
            norms.add(opt.step(grads, max_norm=math.inf).grad_norm)
            norms.add(opt.step(copies(grads), max_norm=1.0).grad_norm)
            away = [np.concatenate([[0], g]).astype(np.float32)[1:] for g in grads]
            norms.add(opt.step(away, max_norm=1.0).grad_norm)
    assert len(norms) == 1
    exact = math.sqrt(math.fsum(float(x) ** 2 for g in grads for x in g))
    assert norms.pop() == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("isa", fusedopt.show_config(mode="dict")["instruction sets"]["available"])
def test_the_norm_is_the_same_on_every_instruction_set(isa: str) -> None:
    code = """
import numpy as np, fusedopt
rng = np.random.default_rng(0)
grads = [rng.standard_normal(n).astype(t) for n in (1, 17, 8193, 50_000) for t in "fd"]
opt = fusedopt.SGD([np.zeros_like(g) for g in grads])
print(opt.step(grads, max_norm=1.0).grad_norm.hex())
"""
    grads = []
    rng = np.random.default_rng(0)
    for n in (1, 17, 8193, 50_000):
        grads += [rng.standard_normal(n).astype(t) for t in "fd"]
    opt = reference.SGD([np.zeros_like(g) for g in grads])
    result = opt.step(grads, max_norm=1.0)
    assert result is not None
    assert result.grad_norm is not None
    assert output_of(code, FUSEDOPT_ISA=isa) == result.grad_norm.hex()


@every_dtype
def test_clipping_is_torchs(dtype: type) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    params = random_arrays(0, dtype, SHAPES)
    tensors = [torch.tensor(p, requires_grad=True) for p in params]
    ours = fusedopt.AdamW(params, lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(tensors, lr=0.01, weight_decay=0.1)
    for step in range(20):
        grads = random_arrays(1 + step, dtype, SHAPES)
        max_norm = (30.0, 1e9)[step % 2]
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(g)
        norm = torch.nn.utils.clip_grad_norm_(tensors, max_norm)
        torch.nn.utils.clip_grad_value_(tensors, 0.2)
        theirs.step()
        scaled = [g * dtype(64) for g in grads]
        result = ours.step(scaled, loss_scale=64, max_norm=max_norm, clip_value=0.2)
        assert result is not None
        assert result.grad_norm == pytest.approx(float(norm), rel=1e-5)
    for p, tensor in zip(params, tensors, strict=True):
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(p, tensor.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_results() -> None:
    p, g = np.ones(2), np.array([3.0, 4.0])
    opt = fusedopt.SGD([p], lr=0.0)
    assert opt.step([g]) is None
    assert opt.step([g], on_nonfinite="propagate", zero_grads=False) is None
    assert opt.step([g], loss_scale=2) == StepResult(None, False)
    assert opt.step([g], loss_scale=2, max_norm=1) == StepResult(2.5, False)
    assert opt.step([None], max_norm=1) == StepResult(0.0, False)
    assert opt.step([g], clip_value=1) == StepResult(None, False)
    assert opt.step([g], on_nonfinite="skip") == StepResult(None, False)
    assert opt.step([g], zero_grads=True) == StepResult(None, False)
    assert not g.any()
    assert opt.completed_steps == 8


@every_dtype
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 8192, 30_001])
def test_skip_and_raise_move_nothing(size: int, bad: float, dtype: type) -> None:
    for k in {0, size // 2, size - 1}:
        params = random_arrays(0, dtype, [size, 5])
        opt = fusedopt.Adam({"a": params[0], "b": params[1]}, lr=lambda step: 0.1 / (1 + step))
        grads = random_arrays(1, dtype, [size, 5])
        opt.step(grads)
        before = copies(params)
        state = {i: {n: np.copy(a) for n, a in opt.state[i].items()} for i in (0, 1)}
        grads[0].reshape(-1)[k] = bad
        held = copies(grads)
        assert opt.step(grads, on_nonfinite="skip") == StepResult(None, True)
        result = opt.step(grads, on_nonfinite="skip", max_norm=1.0)
        assert result is not None
        assert result.skipped
        assert not math.isfinite(result.grad_norm or 0)
        text = rf"^grads\['a'\]: 1 of {size} elements? not finite; nothing was updated$"
        with pytest.raises(FloatingPointError, match=text):
            opt.step(grads, on_nonfinite="raise", zero_grads=True)
        for p, q in zip([*params, *grads], [*before, *held], strict=True):
            np.testing.assert_array_equal(p, q)
        for i in (0, 1):
            for name, array in opt.state[i].items():
                np.testing.assert_array_equal(array, state[i][name])
        assert (opt.completed_steps, list(opt.step_counts)) == (1, [1, 1])
        assert opt.step(grads, on_nonfinite="skip", zero_grads=True) == StepResult(None, True)
        assert not any(g.any() for g in grads)  # or what is added to them would never be finite
        np.testing.assert_array_equal(params[0], before[0])


def test_a_first_step_that_is_skipped_never_was() -> None:
    params = random_arrays(0, np.float32, [100, 70_001])
    case = Case("SGD", {"momentum": 0.9, "dampening": 0.5})
    ours, theirs = case.make(params), case.make_reference(copies(params))
    bad = random_arrays(1, np.float32, [100, 70_001])
    bad[1][70_000] = np.nan
    assert ours.step(bad, on_nonfinite="skip") == StepResult(None, True)
    assert dict(ours.state[0]) == {}
    for step in range(3):
        grads = random_arrays(1 + step, np.float32, [100, 70_001])
        ours.step(grads), theirs.step(grads)
    assert_same(ours, theirs)


def test_it_looks_at_elements_not_at_the_norm() -> None:
    """Squares of finite float64 numbers can be too large; their norm is infinite, as torch's is."""
    p = np.zeros(3)
    opt = fusedopt.SGD([p], lr=1.0)
    g = np.array([1e200, 1.0, -1e-200])
    assert opt.step([g], on_nonfinite="raise", max_norm=1.0) == StepResult(math.inf, False)
    np.testing.assert_array_equal(p, [0, 0, 0])  # scaled by 1/inf
    assert opt.step([g], on_nonfinite="skip") == StepResult(None, False)
    np.testing.assert_array_equal(p, -g)


def test_propagate_lets_them_through() -> None:
    p = np.zeros(3, np.float32)
    g = np.array([1, np.nan, np.inf], np.float32)
    fusedopt.SGD([p], lr=1.0).step([g], clip_value=0.5)
    np.testing.assert_array_equal(p, np.array([-0.5, np.nan, -0.5], np.float32))
    p[...] = 0
    fusedopt.SGD([p], lr=1.0).step([g], max_norm=1.0)
    assert np.isnan(p).all()  # as with torch: the norm is NaN


def test_raise_names_every_gradient() -> None:
    params = [np.zeros(4) for _ in range(40)]
    opt = fusedopt.SGD(params)
    grads = [np.ones(4) for _ in range(40)]
    grads[3][:3] = np.nan
    grads[7][1] = np.inf
    text = r"^grads\[3\]: 3 of 4 elements, grads\[7\]: 1 of 4 elements not finite; nothing was upd"
    with pytest.raises(FloatingPointError, match=text):
        opt.step(grads, on_nonfinite="raise")
    for g in grads:
        g[0] = np.nan
    with pytest.raises(FloatingPointError, match=r"and \d+ more not finite; nothing was updated$"):
        opt.step(grads, on_nonfinite="raise")


def test_zeroing_needs_gradients_that_can_be_written_one_by_one() -> None:
    params = [np.ones(3), np.ones(3)]
    opt = fusedopt.SGD({"a": params[0], "b": params[1]})
    g = np.ones(5)
    with pytest.raises(ValueError, match=r"^grads\['b'\] overlaps grads\['a'\] in memory"):
        opt.step({"a": g[:3], "b": g[2:]}, zero_grads=True)
    with pytest.raises(ValueError, match=r"^grads\['b'\] overlaps grads\['a'\] in memory"):
        opt.step({"a": g[:3], "b": g[:3]}, zero_grads=True)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"^grads\['a'\]: expected a writeable array, got a read"):
        opt.step({"a": frozen, "b": g[:3]}, zero_grads=True)
    assert g.all()
    assert all((p == 1).all() for p in params)
    opt.step({"a": frozen, "b": g[:3]})
    opt.step({"a": frozen, "b": None}, clip_value=1.0)
    opt.step({"a": None, "b": g[:3]}, zero_grads=True)
    assert list(g) == [0, 0, 0, 1, 1]


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"loss_scale": 0}, ValueError, "loss_scale: expected a finite number > 0, got 0.0"),
    ({"loss_scale": math.inf}, ValueError, "loss_scale: expected a finite number > 0, got inf"),
    ({"loss_scale": "8"}, TypeError, "loss_scale: expected a finite number > 0, got '8'"),
    ({"max_norm": -1}, ValueError, "max_norm: expected a number > 0, got -1.0"),
    ({"max_norm": math.nan}, ValueError, "max_norm: expected a number > 0, got nan"),
    ({"max_array_norm": 0}, ValueError, "max_array_norm: expected a finite number > 0, got 0.0"),
    ({"max_array_norm": math.inf}, ValueError, "max_array_norm: expected a finite number > 0"),
    ({"max_array_norm": 1.0, "max_norm": 1.0}, ValueError, "max_array_norm: expected None, as max"),
    ({"clip_value": 0}, ValueError, "clip_value: expected a finite number > 0, got 0.0"),
    ({"on_nonfinite": "ignore"}, ValueError, "on_nonfinite: expected 'propagate' or 'skip' or 'r"),
    ({"on_nonfinite": None}, TypeError, "on_nonfinite: expected 'propagate' or 'skip' or 'raise'"),
    ({"zero_grads": 1}, TypeError, "zero_grads: expected True or False, got 1"),
    ({"norm": 1}, TypeError, ".*unexpected keyword argument 'norm'"),
]


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
@pytest.mark.parametrize(("options", "error", "text"), BAD)
def test_bad_options(
    options: dict[str, Any], error: type[Exception], text: str, module: Any
) -> None:
    p = np.ones(3)
    opt = module.SGD([p])
    with pytest.raises(error, match=f"^{text}"):
        opt.step([np.ones(3)], **options)
    assert (p == 1).all()
    assert opt.completed_steps == 0


def test_a_step_with_options_checks_gradients_as_any_does() -> None:
    p = np.ones(3)
    opt = fusedopt.SGD([p])
    with pytest.raises(ValueError, match=r"^grads\[0\]: expected shape \(3,\)"):
        opt.step([np.ones(4)], loss_scale=2)
    with pytest.raises(ValueError, match=r"^grads\[0\] overlaps params\[0\]"):
        opt.step([p], max_norm=2)
    with pytest.raises(TypeError, match="^grads: expected a list"):
        opt.step(loss_scale=2)


def test_bound_gradients_zeroed_in_the_step() -> None:
    p, g = np.ones(3), np.ones(3)
    opt = fusedopt.SGD([p], lr=0.5, grads=[g])
    for _ in range(2):
        g += 1
        opt.step(zero_grads=True)
    np.testing.assert_array_equal(p, 1 - 0.5 * (2 + 1))


@every_dtype
def test_state_of_a_step_that_did_not_move_never_was(dtype: type) -> None:
    """Not even when hyperparameters change before the next one."""
    params = random_arrays(0, dtype, [100, 30_001])
    good, bad = random_arrays(1, dtype, [100, 30_001]), random_arrays(1, dtype, [100, 30_001])
    bad[0][7] = np.inf
    ours = fusedopt.RMSprop(params, lr=0.01)
    theirs = reference.RMSprop(copies(params), lr=0.01)
    for opt in (ours, theirs):
        assert opt.step(bad, on_nonfinite="skip") == StepResult(None, True)
        opt.param_groups[0]["initial_square_avg"] = 1.0
        opt.step(good)
        opt.param_groups[0]["centered"] = True
        with pytest.raises(FloatingPointError):
            opt.step(bad, on_nonfinite="raise", max_norm=1.0)
        assert list(opt.state[0]) == ["step", "square_avg"]
        opt.param_groups[0].update(centered=False, momentum=0.9)
        opt.step(good, zero_grads=False, clip_value=0.1)
        opt.step(good)
    assert_same(ours, theirs)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_skipped_steps_hold_no_memory() -> None:
    """As the first steps of a loss scale that is too large: they made state for nothing.

    Nothing of it was written, and no page of it is there: what counts are addresses.
    """
    code = """
import numpy as np, fusedopt
from subprocesses import own_memory
p, g = np.zeros(4_000_000, np.float32), np.full(4_000_000, np.inf, np.float32)
opt = fusedopt.Adam([p])
opt.step([g], on_nonfinite="skip")
before = own_memory("VmSize")
for _ in range(200):
    opt.step([g], on_nonfinite="skip", zero_grads=False)
print(own_memory("VmSize") - before < 200_000_000)
"""
    assert output_of(code) == "True"


def test_an_infinite_maximum_only_finds_the_norm() -> None:
    p, g = np.zeros(3), np.array([1e200, 1.0, 0.0])
    opt = fusedopt.SGD([p], lr=1.0)
    assert opt.step([g], max_norm=math.inf) == StepResult(math.inf, False)
    np.testing.assert_array_equal(p, -g)


def test_the_error_of_many_gradients_that_are_not_finite_is_short() -> None:
    params = [np.zeros(2) for _ in range(100)]
    opt = fusedopt.SGD(params, lr=1.0)
    grads: list[Any] = [np.array([1.0, np.nan]) for _ in params]
    grads[1] = None
    with pytest.raises(FloatingPointError) as caught:
        opt.step(grads, on_nonfinite="raise")
    text = str(caught.value)
    listed = re.findall(r"grads\[(\d+)\]: 1 of 2 elements", text)
    more = re.search(r", and (\d+) more not finite; nothing was updated$", text)
    assert more
    assert [int(k) for k in listed] == [0, *range(2, 1 + len(listed))]
    assert len(listed) + int(more[1]) == 99
    assert 200 < len(text) < 300


def test_missing_gradients_are_not_zeroed() -> None:
    params = [np.zeros(4) for _ in range(4)]
    opt = fusedopt.SGD(params, lr=1.0)
    grads = [None, np.ones(4), None, np.ones(4)]
    for _ in range(2):
        opt.step(grads, zero_grads=True)
    assert [float(p[0]) for p in params] == [0.0, -1.0, 0.0, -1.0]


@pytest.mark.parametrize("options", [{"stats": True}, {"max_norm": 1.0}, {"zero_grads": True}])
def test_no_step_while_the_parameters_are_elsewhere(options: dict[str, Any]) -> None:
    p = np.zeros(3)
    opt = fusedopt.SGD([p], lr=1.0, ema_decay=0.5)
    opt.step([np.ones(3)])
    with opt.swap_ema():
        inside = p.copy()
        with pytest.raises(RuntimeError, match=r"^step\(\): not inside swap_ema\(\)"):
            opt.step([np.ones(3)], **options)
        with pytest.raises(RuntimeError, match=r"^step\(\): not inside swap_ema\(\)"):
            opt._engine.step_with([np.ones(3)], StepOptions(stats=True))
        np.testing.assert_array_equal(p, inside)
    assert (p == -1).all()
    assert opt.completed_steps == 1
