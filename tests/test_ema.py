"""Contract: averages are those of the reference, and parameters come back from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import FORMS, RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import StepResult, _core, reference

SHAPES = [*range(66), (3, 5), 8191, 8193, 20_001]
MODULES = pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])


def warming_up(step: int) -> float:
    return min(0.99, (1 + step) / (10 + step))


@every_dtype
@pytest.mark.parametrize("decay", [0.9, warming_up], ids=["0.9", "schedule"])
@pytest.mark.parametrize("case", [*RULE_CASES, FORMS[1], FORMS[7]], ids=str)
def test_fused_is_the_reference(case: Case, decay: Any, dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    options: dict[str, Any] = {"ema_decay": decay, "maximize": True}
    ours, theirs = case.make(params, **options), case.make_reference(copies(params), **options)
    for step in range(6):
        grads: list[Any] = random_arrays(1 + step, dtype, SHAPES)
        grads[step] = None
        pipeline = {"max_norm": 3.0, "clip_value": 0.5} if step == 3 else {}
        assert ours.step(copies_or_none(grads), **pipeline) == theirs.step(grads, **pipeline)
    assert_same(ours, theirs)
    assert list(ours.ema) == list(range(len(SHAPES)))


def copies_or_none(arrays: list[Any]) -> list[Any]:
    return [None if array is None else array.copy() for array in arrays]


@every_dtype
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("chunk", [1, 7, 8192])
@pytest.mark.parametrize("flat", [False, True], ids=["apart", "flat"])
def test_threads_chunks_and_neighbours_do_not_matter(
    flat: bool, chunk: int, threads: int, dtype: type
) -> None:
    fusedopt.set_num_threads(threads)
    shapes = [1, 5, 64, 100, 1000, 3001, 17_000]
    params = random_arrays(0, dtype, shapes)
    if flat:
        _, views = fusedopt.flat_views(shapes, dtype)
        for view, p in zip(views, params, strict=True):
            view[...] = p
        params = views
    ours = fusedopt.AdamW(params, ema_decay=0.9)
    theirs = reference.AdamW(copies(params), ema_decay=0.9)
    for step in range(5):
        grads = random_arrays(1 + step, dtype, shapes)
        _core.set_grid(chunk=chunk, serial_below=0)
        ours.step(grads)
        theirs.step(grads)
    assert_same(ours, theirs)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk", range(1, 14))
def test_small_parameters_around_the_ends_of_chunks(chunk: int, threads: int) -> None:
    """Each begins and ends at each distance from one: no element is updated twice, and none not."""
    fusedopt.set_num_threads(threads)
    sizes = [*range(1, 14), *range(13, 0, -1), *(k * 5 % 13 + 1 for k in range(40))]
    params = random_arrays(0, np.float32, sizes)
    ours = fusedopt.SGD(params, lr=0.5, ema_decay=0.9)
    theirs = reference.SGD(copies(params), lr=0.5, ema_decay=0.9)
    _core.set_grid(chunk=chunk, serial_below=0)
    for step in range(3):
        grads = random_arrays(1 + step, np.float32, sizes)
        ours.step(grads)
        theirs.step(grads)
    assert_same(ours, theirs)


@every_dtype
@MODULES
def test_it_is_what_it_says(module: Any, dtype: type) -> None:
    params = random_arrays(0, dtype, [40, 30_001])
    average = copies(params)
    opt = module.SGD(params, lr=0.1, ema_decay=0.75)
    assert dict(opt.ema) == {}
    for step in range(5):
        opt.step(random_arrays(1 + step, dtype, [40, 30_001]))
        for a, p in zip(average, params, strict=True):
            a[...] = a + dtype(0.25) * (p - a)
    for i, a in enumerate(average):
        np.testing.assert_array_equal(opt.ema[i], a)
        assert opt.state[i]["ema"] is not None
        assert opt.ema[i].dtype == dtype
    with pytest.raises(KeyError):
        opt.ema[2]


def test_it_is_torchs() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    swa = torch.optim.swa_utils
    p = random_arrays(0, np.float32, [20_001])[0]
    model = torch.nn.Module()
    model.p = torch.nn.Parameter(torch.tensor(p))
    averaged = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(model)  # its first one copies
    theirs = torch.optim.AdamW(model.parameters(), lr=0.01)
    ours = fusedopt.AdamW([p], lr=0.01, ema_decay=0.9)
    for step in range(50):
        g = random_arrays(1 + step, np.float32, [20_001])[0]
        model.p.grad = torch.tensor(g)
        theirs.step()
        averaged.update_parameters(model)
        ours.step([g])
    expected = averaged.module.p.detach().numpy()
    np.testing.assert_allclose(ours.ema[0], expected, rtol=1e-5, atol=1e-5)


def test_the_average_of_what_stands_still_stands_still() -> None:
    p = random_arrays(0, np.float32, [1000])[0]
    opt = fusedopt.SGD([p], lr=0.0, ema_decay=0.999)
    for _ in range(2000):
        opt.step([np.ones(1000, np.float32)])
    np.testing.assert_array_equal(opt.ema[0], p)


@pytest.mark.parametrize("decay", [0, 0.5, 1])
def test_limits(decay: float) -> None:
    p = np.array([1.0, -2.0])
    first = p.copy()
    opt = fusedopt.SGD([p], lr=1.0, ema_decay=decay)
    opt.step([np.array([4.0, 4.0])])
    np.testing.assert_array_equal(opt.ema[0], decay * first + (1 - decay) * p)


@MODULES
def test_groups_and_names(module: Any) -> None:
    a, b, c = np.ones(3), np.ones(2), np.ones(1)
    groups = [
        {"params": {"a": a}, "ema_decay": 0.5},
        {"params": {"b": b}},
        {"params": {"c": c}, "ema_decay": lambda step: 1 - 0.5**step},
    ]
    opt = module.SGD(groups, lr=1.0)
    opt.step({"a": a * 1, "b": b * 1, "c": None})
    assert list(opt.ema) == ["a"]
    opt.step({"a": 0 * a, "b": 0 * b, "c": 1 * c})
    np.testing.assert_array_equal(opt.ema["a"], np.full(3, 0.25))
    np.testing.assert_array_equal(opt.ema["c"], np.full(1, 0.5))
    assert list(opt.state["b"]) == ["step"]
    with opt.swap_ema():
        assert (a[0], b[0], c[0]) == (0.25, 0, 0.5)
    assert (a[0], b[0], c[0]) == (0, 0, 0)


@MODULES
def test_it_can_begin_and_end_between_steps(module: Any) -> None:
    """Where it begins, momentum does not: its buffer isn't new."""
    p = np.array([1.0])
    opt = module.SGD([p], lr=1.0, momentum=0.5, dampening=0.5)
    opt.step([np.array([1.0])])
    opt.param_groups[0]["ema_decay"] = 0.5
    opt.step([np.array([1.0])])
    assert p == 0.0 - (0.5 * 1 + 0.5 * 1)
    assert opt.ema[0] == -0.5
    opt.param_groups[0]["ema_decay"] = None
    opt.step([np.array([1.0])])
    assert opt.ema[0] == -0.5
    with opt.swap_ema():
        assert p == -0.5
    assert p == -2


def test_a_first_step_that_is_skipped_leaves_no_average() -> None:
    params = random_arrays(0, np.float32, [10, 30_001])
    ours = fusedopt.Adam(params, ema_decay=0.9)
    theirs = reference.Adam(copies(params), ema_decay=0.9)
    bad = random_arrays(1, np.float32, [10, 30_001])
    bad[1][5] = np.nan
    assert ours.step(bad, on_nonfinite="skip") == StepResult(None, True)
    assert dict(ours.ema) == {}
    for opt in (ours, theirs):
        for p in opt.param_groups[0]["params"]:
            p += 1
        for step in range(3):
            opt.step(random_arrays(1 + step, np.float32, [10, 30_001]))
            opt.step(bad, on_nonfinite="skip")
    assert_same(ours, theirs)


# Exchanged for a while.


@every_dtype
@MODULES
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_swapping_restores_bit_for_bit(error: Any, module: Any, dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    opt = module.Adam(params, lr=0.1, ema_decay=0.9)
    grads: list[Any] = random_arrays(1, dtype, SHAPES)
    grads[7] = None
    opt.step(grads)
    params[3][1] = np.nan
    params[20][5] = dtype(1e-40)  # subnormal in float32
    params[21][5] = -0.0
    held = [p.tobytes() for p in params]
    average = {i: a.copy() for i, a in opt.ema.items()}

    def evaluate() -> None:
        with opt.swap_ema():
            for i, p in enumerate(params):
                expected = average.get(i)
                assert p.tobytes() == (held[i] if expected is None else expected.tobytes())
            if error:
                raise error

    if error:
        with pytest.raises(error):
            evaluate()
    else:
        evaluate()
    assert [p.tobytes() for p in params] == held
    for i, a in opt.ema.items():
        assert a.tobytes() == average[i].tobytes()


@MODULES
def test_what_can_not_be_inside(module: Any) -> None:
    p = np.ones(3)
    opt = module.SGD([p], lr=0.5, momentum=0.9, velocity=True, ema_decay=0.5)
    opt.step([p * 2])
    refused: list[tuple[str, Callable[[], Any]]] = [
        (r"step\(\)", lambda: opt.step([np.ones(3)])),
        (r"step\(\)", lambda: opt.step([np.ones(3)], max_norm=1.0)),
        (r"lookahead\(\)", lambda: opt.lookahead().__enter__()),
        (r"swap_ema\(\)", lambda: opt.swap_ema().__enter__()),
    ]
    with opt.swap_ema():
        for name, call in refused:
            with pytest.raises(RuntimeError, match=rf"^{name}: not inside swap_ema\(\)"):
                call()
        assert (p == 0.5).all()
    with opt.lookahead(), pytest.raises(RuntimeError, match=r"^swap_ema\(\): not inside lookahead"):
        opt.swap_ema().__enter__()
    assert (p == 0).all()
    opt.step([np.ones(3)])


def test_parameters_that_were_frozen_or_lost_inside() -> None:
    params = [np.ones(3), np.ones(4), np.ones(5)]
    opt = fusedopt.SGD(params, lr=1.0, ema_decay=0.5)
    opt.step(copies(params))
    with opt.swap_ema():
        params[0].flags.writeable = False
    assert (params[0] == 0).all()
    with pytest.raises(ValueError, match=r"^params\[0\]: expected a writeable array"):
        opt.swap_ema().__enter__()
    params[0].flags.writeable = True
    text = r"^params\[1\]: can't be put back from where swap_ema\(\) moved it"
    with pytest.raises(ValueError, match=text), opt.swap_ema():
        params[1].resize((2,), refcheck=False)
    assert (params[0] == 0).all()
    assert (params[2] == 0).all()
    assert (opt.ema[1] == 0).all()  # what the parameter was isn't lost


def test_without_averages() -> None:
    opt = fusedopt.SGD([np.ones(3)])
    with pytest.raises(ValueError, match=r"^swap_ema\(\): there are no averages; give the optimiz"):
        opt.swap_ema()
    p = np.ones(3)
    opt = fusedopt.SGD([p], ema_decay=0.5)
    with opt.swap_ema():  # they begin as copies
        assert (p == 1).all()


@pytest.mark.parametrize("decay", [-0.1, 1.1, np.nan, "0.9", True, [0.9]])
@MODULES
def test_bad_decays(module: Any, decay: Any) -> None:
    text = r"^ema_decay: expected a number in \[0, 1\]"
    with pytest.raises((TypeError, ValueError), match=text):
        module.Adam([np.ones(3)], ema_decay=decay)
    opt = module.Adam([np.ones(3)], ema_decay=lambda step: decay if step else 0.5)
    opt.step([np.ones(3)])
    with pytest.raises((TypeError, ValueError), match=text):
        opt.step([np.ones(3)])


def test_ahead_then_more_parameters_then_swapped() -> None:
    first = np.ones(3)
    opt = fusedopt.SGD([first], momentum=0.9, velocity=True, ema_decay=0.5)
    opt.step([np.ones(3)])
    with opt.lookahead():
        pass
    more = [np.ones(3) for _ in range(100)]
    opt.add_param_group({"params": more})
    opt.step([np.ones(3)] * 101)
    before = copies([first, *more])
    with opt.swap_ema():
        assert (first != before[0]).all()
    for p, q in zip([first, *more], before, strict=True):
        np.testing.assert_array_equal(p, q)


@every_dtype
@pytest.mark.parametrize("init", [None, "gradient", "zeros"])
def test_a_buffer_that_begins_beside_an_average_begins_undamped(init: Any, dtype: type) -> None:
    """Both are new at the same step; only one of them says that the step is the buffer's first."""
    more = {"momentum": 0.9, "dampening": 0.5, "momentum_init": init, "ema_decay": 0.9}
    for late in (False, True):
        params = random_arrays(0, dtype, SHAPES)
        options = {"lr": 0.1} if late else {"lr": 0.1, **more}
        ours, theirs = fusedopt.SGD(copies(params), **options), reference.SGD(params, **options)
        for step in range(4):
            if late and step == 1:
                for opt in (ours, theirs):
                    opt.param_groups[0].update(more)
            grads: list[Any] = random_arrays(1 + step, dtype, SHAPES)
            grads[2 + step] = None
            for opt in (ours, theirs):
                opt.step(grads)
            assert_same(ours, theirs)
