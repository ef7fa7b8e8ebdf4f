"""Contract: parameters in groups, under names, with gradients given or bound."""

import gc
import inspect
import sys
import threading
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import reference

SHAPES = [(3, 5), 257, 0, 1000, (), 8193]
STEPS = 12
MODULES = pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])


def every_parameter(opt: fusedopt.Optimizer) -> list[Any]:
    return [p for group in opt.param_groups for p in group["params"]]


def assert_all_same(actual: fusedopt.Optimizer, expected: fusedopt.Optimizer) -> None:
    np.testing.assert_array_equal(actual.step_counts, expected.step_counts)
    pairs = zip(every_parameter(actual), every_parameter(expected), strict=True)
    for i, (p, q) in enumerate(pairs):
        np.testing.assert_array_equal(p, q, err_msg=f"params[{i}]")
        assert set(actual.state[i]) == set(expected.state[i])
        for name, array in actual.state[i].items():
            np.testing.assert_array_equal(array, expected.state[i][name])


@every_dtype
@pytest.mark.parametrize("case", RULE_CASES, ids=str)
def test_groups_step_as_optimizers_of_their_own(case: Case, dtype: type) -> None:
    """Each with a hyperparameter of its own, over shapes around every vector width."""
    shapes = [*range(66), 8193]
    params = random_arrays(0, dtype, shapes)
    thirds = [params[0:20], params[20:21], params[21:]]
    alone = [
        case.make(copies(third), lr=lr)
        for third, lr in zip(thirds, (0.1, 0.02, 0.003), strict=True)
    ]
    opt = case.make(
        [
            {"params": thirds[0], "lr": 0.1},
            {"params": thirds[1], "lr": 0.02},
            {"params": thirds[2], "lr": 0.003},
        ]
    )
    for step in range(STEPS):
        grads = random_arrays(1 + step, dtype, shapes)
        grads[step] = None
        opt.step(grads)
        for single, part in zip(alone, (grads[0:20], grads[20:21], grads[21:]), strict=True):
            single.step(part)
    expected = [p for single in alone for p in every_parameter(single)]
    for p, q in zip(params, expected, strict=True):
        np.testing.assert_array_equal(p, q)


@every_dtype
def test_groups_with_other_rules_are_the_reference(dtype: type) -> None:
    """Rules with other states side by side, changed on the way, and groups added on the way."""
    params = random_arrays(0, dtype, SHAPES)
    other = np.float64 if dtype == np.float32 else np.float32
    more = random_arrays(9, other, SHAPES)

    def make(module: Any, params: list, more: list) -> Any:
        groups = [
            {"params": params[:2]},
            {"params": params[2:4], "momentum": 0, "weight_decay": 0.1},
            {"params": []},
            {"params": params[4:], "nesterov": True, "lr": 0.05},
        ]
        opt = module.SGD(groups, lr=0.1, momentum=0.9)
        yield opt
        opt.add_param_group({"params": more, "velocity": True, "decoupled_weight_decay": True})
        opt.param_groups[1]["momentum"] = 0.5
        yield opt

    sides = [make(fusedopt, copies(params), copies(more)), make(reference, params, more)]
    shapes: list[tuple[type, Any]] = [(dtype, shape) for shape in SHAPES]
    for _ in range(2):
        ours, theirs = (next(side) for side in sides)
        for step in range(STEPS):
            grads = [random_arrays(1 + step, dt, [shape])[0] for dt, shape in shapes]
            if step % 3 == 1:
                grads[step % len(grads)] = None
            ours.step(grads)
            theirs.step(grads)
        assert_all_same(ours, theirs)
        shapes += [(other, shape) for shape in SHAPES]
    assert len(ours.param_groups) == 5
    assert [group["lr"] for group in ours.param_groups] == [0.1, 0.1, 0.1, 0.05, 0.1]


@pytest.mark.parametrize("threads", [1, 3])
def test_neighbours_in_memory_of_different_groups_stay_apart(threads: int) -> None:
    """Arrays side by side are one piece of work only within a group."""
    fusedopt.set_num_threads(threads)
    flat, views = fusedopt.flat_views([1000] * 40, np.float32)
    flat_grad, grads = fusedopt.flat_views([1000] * 40, np.float32)
    flat[...] = random_arrays(0, np.float32, [40_000])[0]
    groups = [{"params": views[:13], "lr": 0.5}, {"params": views[13:], "lr": 0.25}]
    theirs_params = copies(views)
    theirs = reference.Adam(
        [{"params": theirs_params[:13], "lr": 0.5}, {"params": theirs_params[13:], "lr": 0.25}]
    )
    ours = fusedopt.Adam(groups)
    for step in range(STEPS):
        flat_grad[...] = random_arrays(1 + step, np.float32, [40_000])[0]
        ours.step(grads)
        theirs.step(grads)
    assert_all_same(ours, theirs)


@MODULES
def test_every_form_of_params(module: Any) -> None:
    def arrays() -> list[np.ndarray]:
        return [np.ones(3), np.ones((2, 2))]

    a, b = arrays()
    spellings: list[tuple[Any, list | None]] = [
        ([a, b], None),
        ((a, b), None),
        (iter([a, b]), None),
        ({"a": a, "b": b}, ["a", "b"]),
        ([("a", a), ("b", b)], ["a", "b"]),
        (iter({"a": a, "b": b}.items()), ["a", "b"]),
        ([{"params": [a]}, {"params": iter([b])}], None),
        (({"params": p} for p in ([a], [b])), None),
        ([{"params": {"a": a}}, {"params": [("b", b)], "lr": 0.1}], ["a", "b"]),
    ]
    for params, names in spellings:
        opt = module.SGD(params, lr=0.1)
        a[...] = b[...] = 1
        assert list(opt.state) == (names or [0, 1])
        grads: Any = [np.ones(3), np.ones((2, 2))]
        opt.step(dict(zip(names, grads, strict=True)) if names else grads)
        assert (a == 0.9).all()
        assert (b == 0.9).all()
        opt.step(grads)  # in order: always


ONE = np.ones(3)
BAD: list[tuple[Any, type[Exception], str]] = [
    ([{"params": [ONE]}, [np.ones(2)]], TypeError, r"params\[0\]: expected a NumPy array"),
    ([ONE, {"params": [np.ones(2)]}], TypeError, r"params\[1\]: expected a NumPy array, as the"),
    ([ONE, ("b", np.ones(2))], TypeError, r"params\[1\]: expected a NumPy array, as the others"),
    ([("a", ONE, 1)], ValueError, "params: expected pairs of a name and an array, got 3 items"),
    ([(1, ONE)], TypeError, "params: expected str as names, got 1"),
    ([("a", ONE), ("a", np.ones(2))], ValueError, r"params\['a'\]: the name is given twice"),
    ({"params": [ONE]}, TypeError, r"params: expected arrays by name, got a group; write \[{"),
    ([{"lr": 1}], ValueError, r"param_group: expected a dict with 'params', got keys \['lr'\]"),
    ([{"params": ONE}], TypeError, r"params: expected a list of arrays.*write \[array\]"),
    (
        [{"params": {"a": ONE}}, {"params": [np.ones(2)]}],
        ValueError,
        "params: expected names for the parameters of all groups, or of none",
    ),
    (
        [{"params": {"a": ONE}}, {"params": {"a": np.ones(2)}}],
        ValueError,
        r"params\['a'\]: the name is given twice",
    ),
    (
        [{"params": [ONE]}, {"params": [ONE]}],
        ValueError,
        r"params\[1\] overlaps params\[0\] in memory",
    ),
    (
        [{"params": [ONE]}, {"params": [np.ones(2), np.ones(2, np.int64)]}],
        TypeError,
        r"params\[2\]: expected dtype float32 or float64, got int64",
    ),
    (
        [{"params": {"a": ONE}}, {"params": {"b": np.ones(2, np.int64)}}],
        TypeError,
        r"params\['b'\]: expected dtype float32 or float64, got int64",
    ),
    (
        [{"params": [ONE]}, {"params": [np.ones(2)], "lr": -1}],
        ValueError,
        r"param_groups\[1\]\['lr'\]: expected a finite number >= 0, got -1",
    ),
    (
        [{"params": [ONE]}, {"params": [np.ones(2)], "beta": 1}],
        ValueError,
        r"param_groups\[1\]: beta: no such hyperparameter; there are lr, momentum",
    ),
]


@pytest.mark.parametrize(("params", "error", "text"), BAD)
def test_what_is_no_group(params: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        fusedopt.SGD(params)


def test_add_param_group_changes_nothing_when_it_fails() -> None:
    a = np.ones(3)
    opt = fusedopt.SGD({"a": a}, lr=0.1, momentum=0.9)
    opt.step([np.ones(3)])
    b = np.ones(2)
    bad: list[tuple[Any, type[Exception], str]] = [
        ([b], TypeError, "param_group: expected a dict with 'params', got list"),
        ({"params": [b]}, ValueError, "params: expected names for the parameters of all"),
        ({"params": {"a": b}}, ValueError, r"params\['a'\]: the name is given twice"),
        ({"params": {"b": a}}, ValueError, r"params\['b'\] overlaps params\['a'\] in memory"),
        ({"params": {"b": a[1:]}}, ValueError, r"params\['b'\] overlaps params\['a'\] in memory"),
        ({"params": {"b": b, "c": b}}, ValueError, r"params\['c'\] overlaps params\['b'\]"),
        (
            {"params": {"b": opt.state["a"]["momentum_buffer"]}},
            ValueError,
            r"params\['b'\] overlaps the optimizer's own state",
        ),
        ({"params": {"b": b}, "lr": -1}, ValueError, r"param_group\['lr'\]: expected a finite"),
        ({"params": {"b": b}, "nesterov": True, "momentum": 0}, ValueError, "nesterov: needs a"),
        ({"params": {"b": b}, "beta": 1}, ValueError, "param_group: beta: no such hyperp"),
        ({"params": {"b": np.ones(2, int)}}, TypeError, r"params\['b'\]: expected dtype"),
    ]
    for group, error, text in bad:
        with pytest.raises(error, match=f"^{text}"):
            opt.add_param_group(group)
        assert len(opt.param_groups) == len(opt.state) == 1
        opt.step({"a": np.ones(3)})
    opt.add_param_group({"params": {"b": b}})
    with pytest.raises(ValueError, match=r"^grads\['b'\]: missing"):
        opt.step({"a": np.ones(3)})
    opt.step({"a": np.ones(3), "b": np.ones(2)})
    assert (opt.state["a"]["step"], opt.state["b"]["step"]) == (len(bad) + 2, 1)
    assert list(opt.step_counts) == [len(bad) + 2, 1]


def test_step_counts_go_on_when_a_group_is_added() -> None:
    opt = fusedopt.Adam([np.ones(3)])
    opt.step([np.ones(3)])
    before = opt.step_counts
    opt.add_param_group({"params": [np.ones(2)]})
    opt.step([None, np.ones(2)])
    opt.step([np.ones(3), np.ones(2)])
    assert list(opt.step_counts) == [2, 2]
    assert list(before) == [1]  # of its own time, and still valid memory


def test_hyperparameters_that_do_not_fit_name_their_group() -> None:
    params = [np.ones(3), np.ones(2)]
    opt = fusedopt.SGD([{"params": params[:1]}, {"params": params[1:]}], momentum=0.9)
    opt.param_groups[1].update(nesterov=True, dampening=0.5)
    with pytest.raises(ValueError, match=r"^param_groups\[1\]: nesterov: needs a dampen"):
        opt.step([np.ones(3), np.ones(2)])
    assert (params[0] == 1).all()
    opt.param_groups[1]["dampening"] = 0
    opt.step([np.ones(3), np.ones(2)])
    assert (params[0] < 1).all()


def test_repr_of_groups() -> None:
    opt = fusedopt.SGD([{"params": [np.ones(3)]}, {"params": [], "lr": 0.5}], lr=0.1)
    first, second = repr(opt).split(" | ")
    assert first.startswith("SGD(lr=0.1, momentum=0.0")
    assert first.endswith("; 1 array, 3 elements, float64")
    assert second.startswith("lr=0.5")
    assert second.endswith("; 0 arrays, 0 elements)")
    assert repr(fusedopt.SGD([np.ones(1)])).endswith("; 1 array, 1 element, float64)")


def test_an_optimizer_without_parameters_gets_groups_of_either_kind() -> None:
    for group in ({"params": [np.ones(3)]}, {"params": {"a": np.ones(3)}}):
        opt = fusedopt.SGD([])
        opt.step([])
        opt.add_param_group(group)
        opt.step([np.ones(3)])


# Gradients that are bound.


@MODULES
def test_bound_gradients(module: Any) -> None:
    flat, params = fusedopt.flat_views({"w": (3, 4), "b": 4}, np.float32)
    flat_grad, grads = fusedopt.flat_views({"w": (3, 4), "b": 4}, np.float32)
    flat[...] = 1
    expected = module.Adam({name: p.copy() for name, p in params.items()}, lr=0.1)
    opt = module.Adam(params, lr=0.1, grads=grads)
    for step in range(5):
        opt.zero_grad()
        assert (flat_grad == 0).all()
        flat_grad += np.arange(16, dtype=np.float32) - step
        opt.step()
        expected.step({name: g.copy() for name, g in grads.items()})
    assert_same(opt, expected)


def test_bound_gradients_in_groups() -> None:
    a, b, ga, gb = np.ones(3), np.ones(2), np.ones(3), np.ones(2)
    opt = fusedopt.SGD([{"params": [a]}], lr=0.5, grads=[ga])
    opt.step()
    opt.add_param_group({"params": [b], "lr": 0.25}, grads=[gb])
    opt.step()
    assert (a == 0).all()
    assert (b == 0.75).all()
    opt.zero_grad()
    assert (ga == 0).all()
    assert (gb == 0).all()
    with pytest.raises(ValueError, match="^grads: needed, as the optimizer has gradients bound"):
        opt.add_param_group({"params": [np.ones(1)]})
    with pytest.raises(TypeError, match=r"^grads: expected step\(\) without gradients, as they"):
        opt.step([ga, gb])
    with pytest.raises(ValueError, match="^grads: expected None, as the optimizer has no grad"):
        fusedopt.SGD([a]).add_param_group({"params": [b]}, grads=[gb])


def test_a_refused_group_leaves_the_laid_out_step_as_it_was() -> None:
    """Which may refer to where the groups were before there was room for one more."""
    p, q = np.ones(3, np.float32), np.ones(3, np.float32)
    ours = fusedopt.SGD([p], lr=0.5, momentum=0.5, ema_decay=0.5)
    theirs = reference.SGD([q], lr=0.5, momentum=0.5, ema_decay=0.5)
    for step in range(5):
        for opt in (ours, theirs):
            opt.step([np.full(3, step + 1, np.float32)])
        np.testing.assert_array_equal(p, q)
        np.testing.assert_array_equal(ours.ema[0], theirs.ema[0])
        new = np.ones(2, np.float32)
        with pytest.raises(ValueError, match="lr: expected a number that is finite in float32"):
            ours.add_param_group({"params": [new], "lr": 1e39})
        others = [fusedopt.SGD([np.ones(2)], lr=9.0, ema_decay=0.0) for _ in range(50)]
        for opt in others:  # some lie where the groups were
            opt.step([np.ones(2)])


def test_an_empty_group_needs_no_gradients() -> None:
    p, g = np.zeros(3), np.ones(3)
    opt = fusedopt.SGD([p], lr=1.0, grads=[g])
    opt.add_param_group({"params": []})
    with pytest.raises(ValueError, match="^grads: needed, as the optimizer has gradients bound"):
        opt.add_param_group({"params": [np.ones(2)]})
    opt.step()
    assert (p == -1).all()
    assert len(opt.param_groups) == 2


def test_counts_of_before_a_group_was_added_are_free() -> None:
    """Nobody writes them any more: they may be a gradient, read as other numbers."""
    p = np.zeros(1)
    opt = fusedopt.SGD([p], lr=1.0)
    opt.step([np.ones(1)])
    counts = opt.step_counts
    for seen in (counts.view(np.float64), counts.view(np.float64)[:]):
        with pytest.raises(ValueError, match="overlaps the optimizer's own state"):
            opt.step([seen])
    opt.add_param_group({"params": [np.zeros(2)]})
    opt.step([counts.view(np.float64), None])
    assert opt.step_counts.tolist() == [2, 0]
    assert counts.tolist() == [1]
    with pytest.raises(ValueError, match="overlaps the optimizer's own state"):
        opt.step([opt.step_counts[:1].view(np.float64), None])


def test_a_bound_gradient_is_checked_at_every_step() -> None:
    p, g = np.ones(3), np.ones(3)
    opt = fusedopt.SGD([p, np.ones(1)], lr=0.5, grads=[g, None])
    opt.step()
    g.resize((4,), refcheck=False)
    with pytest.raises(ValueError, match=r"^grads\[0\]: expected shape \(3,\)"):
        opt.step()
    assert (p == 0.5).all()


def test_gradients_that_can_not_be_bound() -> None:
    p = np.ones(3)
    bad: list[tuple[Any, Any, type[Exception], str]] = [
        ([p], [], ValueError, "grads: expected 1 gradient, one for each parameter, got 0"),
        ([p], p, TypeError, "grads: expected a list of arrays, got ndarray"),
        ([p], {"p": p}, TypeError, "grads: expected a list, as params was given, got a dict"),
        ({"p": p}, {}, ValueError, r"grads\['p'\]: missing; expected an array or None for"),
        ({"p": p}, {"p": p, "q": p}, ValueError, r"grads\['q'\]: there is no parameter"),
    ]
    for params, grads, error, text in bad:
        with pytest.raises(error, match=f"^{text}"):
            fusedopt.SGD(params, grads=grads)


def test_without_bound_gradients() -> None:
    opt = fusedopt.SGD([np.ones(3)])
    with pytest.raises(RuntimeError, match=r"^zero_grad\(\): no gradients are bound"):
        opt.zero_grad()
    with pytest.raises(
        TypeError, match="^grads: expected a list of arrays, got NoneType, and none were"
    ):
        opt.step()


def test_a_group_that_was_refused_leaves_no_trace() -> None:
    """Not in what the next step reads: it had kept the groups' old place in memory."""
    for optimizer in (fusedopt.SGD, fusedopt.Adam):
        p, g = np.ones(4), np.ones(4)
        opt = optimizer([p], lr=0.5)
        for _ in range(2):
            opt.step([g])
        for _ in range(20):
            with pytest.raises(ValueError, match="overlaps"):
                opt.add_param_group({"params": [p[:2]]})
        opt.param_groups[0]["lr"] = 0.0
        before = p.copy()
        opt.step([g])
        np.testing.assert_array_equal(p, before)


def test_a_group_comes_with_its_rule_and_gradients_or_not_at_all() -> None:
    p, g = np.ones(3, np.float32), np.ones(3, np.float32)
    opt = fusedopt.SGD([p], lr=0.5, grads=[g])
    q, h = np.ones(3, np.float32), np.ones(3, np.float32)
    bad: list[tuple[dict[str, Any], Any, str]] = [
        ({"lr": 1e39}, [h], "lr: expected a number that is finite in float32"),
        ({}, [np.ones(4, np.float32)], r"grads\[1\]: expected shape \(3,\)"),
        ({}, [q], r"grads\[1\] overlaps params\[1\] in memory"),
        ({}, [], "grads: expected 1 gradient, one for each parameter, got 0"),
    ]
    for options, grads, text in bad:
        with pytest.raises(ValueError, match=f"^{text}"):
            opt.add_param_group({"params": [q], **options}, grads=grads)
        opt.step()
        assert (len(opt.param_groups), len(opt.state), len(opt.step_counts)) == (1, 1, 1)
    opt.add_param_group({"params": [q], "lr": 0.25}, grads=[h])
    opt.step()
    np.testing.assert_array_equal(p, np.full(3, 1 - 0.5 * 5, np.float32))
    np.testing.assert_array_equal(q, np.full(3, 0.75, np.float32))


@pytest.mark.parametrize("call", ["step()", "step(None)", "step(grads=None)"])
def test_ways_to_call_step_with_bound_gradients(call: str) -> None:
    class Mine(fusedopt.SGD):
        def step(self, *args: Any, **options: Any) -> Any:
            return super().step(*args, **options)

    for kind in (fusedopt.SGD, Mine):
        p = np.ones(2)
        opt = kind([p], lr=0.5, grads=[np.ones(2)])
        assert eval(f"opt.{call}") is None
        assert kind.step(opt, max_norm=10.0).skipped is False
        opt.param_groups[0]["lr"] = lambda step: float(step)
        opt.step(), opt.step()
        np.testing.assert_array_equal(p, np.full(2, 1 - 0.5 - 0.5 - 2 - 3))


def test_step_looks_like_a_function() -> None:
    step: Any = fusedopt.Adam.step
    assert list(inspect.signature(step).parameters)[:3] == ["self", "grads", "loss_scale"]
    assert (step.__name__, step.__module__) == ("step", "fusedopt._stepping")
    assert step.__doc__.startswith("Update all parameters in place")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'self'"):
        step()
    with pytest.raises(AttributeError, match="_engine"):
        step(object(), [])
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3 were given"):
        fusedopt.Adam([np.ones(1)]).step([np.ones(1)], 1)


def test_threads_that_add_groups_take_turns() -> None:
    opt = fusedopt.SGD([np.zeros(1)], lr=0.0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def add(rate: float) -> None:
        for _ in range(40):
            opt.add_param_group({"params": [np.zeros(1)], "lr": rate})

    threads = [threading.Thread(target=add, args=(float(rate),)) for rate in range(1, 5)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    opt.step([-np.ones(1)] * 161)
    for group in opt.param_groups:
        assert [p[0] for p in group["params"]] == [group["lr"]]


def test_bound_gradients_are_checked_when_they_are_bound() -> None:
    p = np.ones(3)
    bad: list[tuple[Any, type[Exception], str]] = [
        ([p], ValueError, r"grads\[0\] overlaps params\[0\] in memory"),
        ([1], TypeError, r"grads\[0\]: expected a NumPy array, got int"),
        ([np.ones(4)], ValueError, r"grads\[0\]: expected shape \(3,\)"),
        ([np.ones(3, np.float32)], TypeError, r"grads\[0\]: expected dtype float64"),
    ]
    for grads, error, text in bad:
        with pytest.raises(error, match=f"^{text}"):
            fusedopt.SGD([p], grads=grads)
    first, second = np.ones(3), np.ones(2)
    second.flags.writeable = False
    opt = fusedopt.SGD([p, np.ones(2)], grads=[first, second])
    with pytest.raises(ValueError, match=r"^grads\[1\]: expected a writeable array, got a read"):
        opt.zero_grad()
    assert first.all()


def test_an_empty_optimizer_takes_either_kind_of_names() -> None:
    for empty in ([], {}):
        for name in (list, dict):
            opt = fusedopt.SGD(empty, lr=0.5)
            for key in "ab":
                p = np.ones(2)
                opt.add_param_group({"params": [p] if name is list else {key: p}})
                opt.add_param_group({"params": []})
            opt.step([np.ones(2), np.ones(2)])
            assert list(opt.state) == ([0, 1] if name is list else ["a", "b"])


def test_errors_of_schedules_come_as_they_are() -> None:
    class OddError(ValueError):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def lr(step: int) -> float:
        raise OddError(1, 2)

    opt = fusedopt.SGD([{"params": [np.ones(2)]}, {"params": [np.ones(3)]}])
    opt.param_groups[1]["lr"] = lr
    with pytest.raises(OddError, match="^1 and 2$"):
        opt.step([np.ones(2), np.ones(3)])


def test_a_group_added_between_lookahead_and_its_block() -> None:
    opt = fusedopt.SGD([np.ones(2)], momentum=0.9, velocity=True)
    block = opt.lookahead()
    opt.add_param_group({"params": [np.ones(3)]})
    with pytest.raises(RuntimeError, match=r"^lookahead\(\): parameters were added since"), block:
        pass


def test_lookahead_with_groups() -> None:
    params = random_arrays(0, np.float32, [300, 70_001])
    sides = []
    for module, arrays in ((fusedopt, params), (reference, copies(params))):
        groups = [{"params": arrays[:1]}, {"params": arrays[1:], "momentum": 0.5}]
        opt = module.SGD(groups, lr=0.1, momentum=0.9, velocity=True)
        for step in range(5):
            with opt.lookahead():
                grads = [np.float32(0.5) * p for p in arrays]
            opt.step(grads)
            if step == 2:
                opt.add_param_group({"params": [np.ones(9)]})
                arrays = every_parameter(opt)
        sides.append(opt)
    assert_all_same(*sides)
    opt.param_groups[1]["nesterov"] = True
    with pytest.raises(ValueError, match=r"^lookahead\(\): needs velocity=True, nesterov=False"):
        opt.lookahead().__enter__()


@MODULES
def test_groups_that_are_added_under_names(module: Any) -> None:
    arrays = {name: np.zeros(2) for name in ("a", "b", "c", "d", "e")}
    opt = module.SGD({"a": arrays["a"]}, lr=1.0, momentum=0.5)
    opt.add_param_group({"params": {"b": arrays["b"], "c": arrays["c"]}, "lr": 2.0})
    opt.step({"c": np.full(2, 3.0), "a": np.full(2, 1.0), "b": np.full(2, 2.0)})
    opt.add_param_group({"params": [("d", arrays["d"])]})
    opt.add_param_group({"params": {}})
    opt.add_param_group({"params": {"e": arrays["e"]}, "momentum": 0.0})
    given = {name: np.full(2, float(k)) for k, name in enumerate("edcba", 1)}
    opt.step({**given, "c": None})
    assert [arrays[name][0] for name in "abcde"] == [-1 - 5.5, -4 - 2 * 5, -6, -2, -1]
    assert list(opt.state) == list("abcde")
    assert [opt.state[name]["step"] for name in "abcde"] == [2, 2, 1, 1, 1]
    assert list(opt.step_counts) == [2, 2, 1, 1, 1]
    assert [list(opt.state[name]) == ["step"] for name in "abcde"] == [False] * 4 + [True]
    before = {name: array.copy() for name, array in arrays.items()}
    for bad in ({**given, "f": None}, {k: v for k, v in given.items() if k != "e"}):
        with pytest.raises((ValueError, KeyError)):
            opt.step(bad)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


@MODULES
def test_bound_gradients_of_groups_under_names(module: Any) -> None:
    a, b, c = (np.zeros(1) for _ in range(3))
    opt = module.SGD({"a": a}, lr=1.0, grads={"a": np.ones(1)})
    opt.add_param_group({"params": {"b": b}}, grads={"b": np.full(1, 2.0)})
    opt.add_param_group({"params": {"c": c}}, grads=[None])
    opt.step()
    assert (a[0], b[0], c[0]) == (-1, -2, 0)
    assert list(opt.step_counts) == [1, 1, 0]
    opt.zero_grad()
    opt.step()
    assert (a[0], b[0], c[0]) == (-1, -2, 0)


def test_every_way_to_fail_to_add_a_group_leaves_no_trace() -> None:
    """Not in groups, names, counts, state, nor in what memory is taken for the optimizer's own."""
    p, g = np.ones(3, np.float32), np.ones(3, np.float32)
    opt = fusedopt.SGD({"p": p}, lr=0.5, momentum=0.5, grads=[g])
    expected = reference.SGD({"p": p.copy()}, lr=0.5, momentum=0.5)
    engine = opt._engine
    rule = opt._unasked_rule(opt.param_groups[0])
    too_large = (rule[0], {**rule[1], "lr": 1e39}, None)
    q, h = np.ones(2, np.float32), np.ones(2, np.float32)
    counts = [engine.step_counts]
    bad: list[tuple[list[Any], Any, Any, Any]] = [
        ([q], ("q",), too_large, [h]),  # after all else but the gradients is there
        ([q], ("q",), rule, [np.ones(3, np.float32)]),
        ([q], ("q",), rule, [q]),
        ([q], ("q",), rule, [p[:2]]),
        ([q], ("q",), rule, [1]),
        ([q, p[1:]], ("q", "r"), rule, [h, h]),
        ([q, q[1:]], ("q", "r"), rule, [h, h]),
        ([q, np.ones(2, int)], ("q", "r"), rule, [h, h]),
        ([q], None, rule, [h]),
        ([q], ("q", "r"), rule, [h]),
        ([q], ("q",), rule, [h, h]),
        ([q], ("q",), rule, None),
        ([q], ("q",), rule, {"r": h}),
        ([q], ("q",), ("sgd", {}, None), [h]),
        ([q], ("q",), ("momentum", {}, 0.5), [h]),
    ]
    for _ in range(2):
        for params, names, new_rule, grads in bad:
            with pytest.raises((TypeError, ValueError)):
                engine.add_group(params, names, new_rule, grads)
            assert len(engine.step_counts) == 1
            assert engine.step_counts.ctypes.data == counts[0].ctypes.data
            assert engine.bound == (g,)
            with pytest.raises(IndexError):
                engine.state(1)
            opt.step()
            expected.step([g])
            assert_same(opt, expected)
            opt._configure_part(0, 0)
            with pytest.raises(IndexError):
                engine.configure(1, rule)
    engine.add_group([q], ("q",), rule, [h])
    opt.step()
    assert engine.step_counts.tolist() == [31, 1]
    np.testing.assert_array_equal(q, np.full(2, 0.5, np.float32))


def test_what_a_refused_group_had_is_free_for_others() -> None:
    """Its arrays can be gradients, as can whatever lies where its counts lay."""
    p, q = np.ones(3), np.ones(3)
    opt = fusedopt.SGD([p], lr=0.5)
    for _ in range(3):
        with pytest.raises(TypeError):
            opt.add_param_group({"params": [q, "r"]})
        with pytest.raises(ValueError, match="overlaps"):
            opt.add_param_group({"params": [q, p[1:]]})
        opt.step([q])
    assert (p == -0.5).all()
    bound = fusedopt.SGD([p], lr=0.5, grads=[np.ones(3)])
    for _ in range(50):
        with pytest.raises(ValueError, match=r"^grads\[1\]: expected shape"):
            bound.add_param_group({"params": [q]}, grads=[np.ones(4)])
    fills = [np.ones(1) for _ in range(200)]  # some lie where counts of two parameters lay
    for fill in fills:
        one = fusedopt.SGD([p[:1]], lr=0.0)
        one.step([fill])
    for _ in range(3):
        bound.step()
    bound.add_param_group({"params": [q]}, grads=[np.ones(3)])
    bound.step()
    assert (q == 0.5).all()


def test_step_counts_outlive_an_optimizer_that_refused_a_group() -> None:
    """They keep the memory alive that they lie in, not that of counts which never were."""
    opt = fusedopt.SGD([np.ones(3)], lr=0.5, grads=[np.ones(3)])
    for _ in range(3):
        opt.step()
    for _ in range(3):
        with pytest.raises(ValueError, match=r"^grads\[1\]: expected shape"):
            opt.add_param_group({"params": [np.ones(2)]}, grads=[np.ones(4)])
    counts = opt.step_counts
    del opt
    gc.collect()
    filler = [np.ones(1) for _ in range(100)]
    assert list(counts) == [3]
    assert len(filler) == 100
