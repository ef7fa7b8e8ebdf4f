"""Contract: what a step measures is what the reference does, and depends on nothing but numbers."""

import math
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import GroupStats, _core, reference
from subprocesses import output_of

SHAPES = [*range(40), (3, 5), 8191, 8192, 8193, 20_001]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"loss_scale": 3.0, "max_norm": 0.5, "clip_value": 0.01},
    {"zero_grads": True, "on_nonfinite": "skip"},
]


@every_dtype
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("case", RULE_CASES, ids=str)
def test_fused_is_the_reference(case: Case, options: dict[str, Any], dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    ours = case.make(params, ema_decay=0.9)
    theirs = case.make_reference(copies(params), ema_decay=0.9)
    for step in range(4):
        grads: list[Any] = random_arrays(1 + step, dtype, SHAPES)
        grads[step] = None
        if step == 2:
            grads[-1][7] = np.nan
        same = [None if g is None else g.copy() for g in grads]
        result = ours.step(grads, **options, stats=True)
        expected = theirs.step(same, **options, stats=True)
        assert repr(result) == repr(expected)  # where NaN is NaN
        ours.step(same)  # between them, other plans
        theirs.step(same)
    assert_same(ours, theirs)


@every_dtype
def test_nothing_but_numbers_matters(dtype: type) -> None:
    """Not threads, nor chunks, nor neighbours in memory, which otherwise are one piece of work."""
    shapes = [0, 1, 64, 1000, 0, 3001, 17_000]
    values, slopes = random_arrays(0, dtype, shapes), random_arrays(1, dtype, shapes)
    results = []
    for threads in (1, 2, 7):
        for chunk in (1, 7, 8192):
            for flat in (False, True):
                fusedopt.set_num_threads(threads)
                _core.set_grid(chunk=chunk, serial_below=0)
                params, grads = copies(values), copies(slopes)
                if flat:
                    _, params = fusedopt.flat_views(shapes, dtype)
                    _, grads = fusedopt.flat_views(shapes, dtype)
                    for view, array in zip([*params, *grads], [*values, *slopes], strict=True):
                        view[...] = array
                opt = fusedopt.Adam(
                    [{"params": params[:3]}, {"params": params[3:], "lr": 0.1, "ema_decay": 0.5}]
                )
                results.append([opt.step(grads, stats=True) for _ in range(3)])
    assert all(result == results[0] for result in results)
    assert results[0][0] == reference.Adam(
        [{"params": values[:3]}, {"params": values[3:], "lr": 0.1}]
    ).step(slopes, stats=True)


def test_in_turn_with_steps_that_measure_nothing() -> None:
    """For those, arrays that lie side by side are one."""
    sizes = [7, 64, 1000]
    params, grads = (fusedopt.flat_views(sizes, np.float64)[1] for _ in range(2))
    ours = fusedopt.Adam([{"params": params[:1]}, {"params": params[1:]}])
    theirs = reference.Adam([{"params": copies(params[:1])}, {"params": copies(params[1:])}])
    for step in range(12):
        for view, values in zip(grads, random_arrays(step, np.float64, sizes), strict=True):
            view[...] = values
        options: dict[str, Any] = {"stats": True} if step % 4 == 3 else {}
        assert ours.step(grads, **options) == theirs.step(grads, **options)
    assert_same(ours, theirs)


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_it_is_what_it_says(module: Any) -> None:
    a, b, c = (np.full(n, v) for n, v in ((3, 2.0), (4, 1.0), (5, 7.0)))
    groups = [{"params": [a, b]}, {"params": [c], "lr": 0.25}, {"params": []}]
    opt = module.SGD(groups, lr=0.5, weight_decay=0.5)
    result = opt.step([np.full(3, 8.0), None, np.zeros(5)], stats=True, loss_scale=4)
    update_a, update_c = 0.5 * (2 + 1), 0.25 * 3.5
    first = (math.sqrt(12), update_a * math.sqrt(3), (2 - update_a) * math.sqrt(3))
    second = (0, update_c * math.sqrt(5), (7 - update_c) * math.sqrt(5))
    for stats, expected in zip(result.stats, (first, second, (0, 0, 0)), strict=True):
        norms = (stats.grad_norm, stats.update_norm, stats.param_norm)
        assert norms == pytest.approx(expected)
        assert stats.nonfinite == 0
    assert result.grad_norm == pytest.approx(math.sqrt(12))
    assert result.stats[0].update_ratio == pytest.approx(update_a / (2 - update_a))
    assert math.isnan(result.stats[2].update_ratio)
    assert GroupStats(1, 1, 0, 0).update_ratio == math.inf
    assert opt.step([None, None, None], max_norm=1.0).stats is None


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_where_the_step_is_skipped(module: Any) -> None:
    params = [np.full(20_000, 2.0, np.float32), np.ones(2, np.float32)]
    grads = [np.ones(20_000, np.float32), np.ones(2, np.float32)]
    grads[0][[5, 17_000]] = np.nan, np.inf
    opt = module.Adam([{"params": params[:1]}, {"params": params[1:]}])
    result = opt.step(grads, on_nonfinite="skip", stats=True)
    assert result.skipped
    assert math.isnan(result.grad_norm)
    bad, good = result.stats
    assert (bad.nonfinite, bad.update_norm, bad.param_norm) == (2, 0, math.sqrt(80_000))
    assert (good.nonfinite, good.update_norm, good.grad_norm) == (0, 0, math.sqrt(2))
    assert opt.completed_steps == 0
    with pytest.raises(TypeError, match="^stats: expected True or False, got 1"):
        opt.step(grads, stats=1)


def test_without_gradients_there_is_nothing() -> None:
    opt = fusedopt.SGD([np.ones(3)])
    result = opt.step([None], stats=True)
    assert result is not None
    assert result.stats == (GroupStats(0, 0, 0, 0),)


def test_a_small_stack_is_enough() -> None:
    code = """
import threading
import numpy as np
import fusedopt
fusedopt.set_num_threads(1)
threading.stack_size(96 * 1024)
p = np.ones(100_000)
opt = fusedopt.Adam([p], ema_decay=0.9)
options = {"stats": True, "clip_value": 0.5, "max_norm": 1.0, "zero_grads": True}
thread = threading.Thread(target=lambda: opt.step([p * 2], **options))
thread.start()
thread.join()
print(opt.completed_steps)
"""
    assert output_of(code) == "1"
