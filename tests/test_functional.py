"""Contract: the functions for callers who own their state do what the classes do, and check it."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import CASES, Case, copies, every_dtype, random_arrays
from fusedopt import functional

SHAPES = [(3, 5), 1, 130, ()]
CASES_WITH_A_FUNCTION = [c for c in CASES if hasattr(functional, c.optimizer.lower() + "_")]


def step_functional(case: Case, step: int, params: Any, grads: Any, state: dict[str, Any]) -> None:
    options = dict(case.options)
    for given_by_the_arrays in ("amsgrad", "centered", "initial_square_avg"):
        options.pop(given_by_the_arrays, None)
    function = getattr(functional, case.optimizer.lower() + "_")
    if "step" in inspect.signature(function).parameters:
        options["step"] = step
    function(params, grads, **state, **options)


@every_dtype
@pytest.mark.parametrize("alone", [False, True], ids=["lists", "arrays"])
@pytest.mark.parametrize("case", CASES_WITH_A_FUNCTION, ids=str)
def test_equal_to_the_class(case: Case, alone: bool, dtype: type) -> None:
    options = case.options
    params = random_arrays(0, dtype, SHAPES)
    expected = case.make_reference([p.copy() for p in params])
    expected.step(random_arrays(1, dtype, SHAPES))
    needed = {f"{name}s": name for name in expected.state[0] if name != "step"}
    state = {k: [np.zeros_like(p) for p in params] for k in needed}
    if "initial_square_avg" in options:  # it is the caller's business
        for v in state["square_avgs"]:
            v[...] = options["initial_square_avg"]
    # A buffer that starts from the gradient is overwritten at step 1.
    if case.optimizer == "SGD" and not (
        options.get("velocity") or options.get("momentum_init") == "zeros"
    ):
        state = {k: [np.full_like(p, np.nan) for p in params] for k in needed}
    for step in range(1, 12):
        grads = random_arrays(step, dtype, SHAPES)
        if step > 1:
            expected.step(grads)
        if alone:
            for i, (p, g) in enumerate(zip(params, grads, strict=True)):
                step_functional(case, step, p, g, {k: s[i] for k, s in state.items()})
        else:
            step_functional(case, step, params, tuple(grads), state)
    for i, p in enumerate(params):
        np.testing.assert_array_equal(p, expected.param_groups[0]["params"][i])
        for argument, name in needed.items():
            np.testing.assert_array_equal(state[argument][i], expected.state[i][name])


def test_missing_gradients_leave_everything() -> None:
    arrays = [random_arrays(k, np.float64, SHAPES) for k in range(4)]
    before = [[a.copy() for a in group] for group in arrays]
    arrays[1][2] = None
    functional.adam_(*arrays, step=1, lr=0.1)
    for k in (0, 2, 3):
        np.testing.assert_array_equal(arrays[k][2], before[k][2])
        assert not np.array_equal(arrays[k][0], before[k][0])


def adam_arguments() -> dict[str, list[np.ndarray]]:
    names = ["params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"]
    return {name: [np.full((3, 4), k + 1.0) for _ in range(3)] for k, name in enumerate(names)}


@pytest.mark.parametrize("argument", list(adam_arguments()))
@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda a: a.tolist(), TypeError, "expected a NumPy array, got list"),
        (lambda a: a.astype(np.int64), TypeError, "expected dtype .*float64.*, got int64"),
        (lambda a: a[:2].copy(), ValueError, r"expected shape \(.*\), as params\[.\] has, got"),
        (lambda a: np.asfortranarray(a), ValueError, "expected a C-contiguous array"),
        (lambda a: np.broadcast_to(a[0, 0], a.shape), ValueError, "expected a C-contiguous array"),
    ],
)
def test_wrong_array(argument: str, index: int, wrong: Any, error: Any, text: str) -> None:
    arguments = adam_arguments()
    arguments[argument][index] = wrong(arguments[argument][index])
    before = {k: [np.array(a) for a in arrays] for k, arrays in arguments.items()}
    label = rf"{argument}\[{index}\]"
    if argument == "params" and "shape" in text:  # then the others don't fit it
        label, text = rf"\w+\[{index}\]", r"expected shape \(2, 4\), as params"
    with pytest.raises(error, match=f"^{label}: {text}"):
        functional.adam_(**arguments, step=1, lr=1)
    for k, arrays in arguments.items():
        for a, b in zip(arrays, before[k], strict=True):
            np.testing.assert_array_equal(a, b)


def test_read_only_state() -> None:
    arguments = adam_arguments()
    arguments["exp_avg_sqs"][1].flags.writeable = False
    with pytest.raises(ValueError, match=r"^exp_avg_sqs\[1\]: expected a writeable array"):
        functional.adam_(**arguments, step=1, lr=1)
    arguments = adam_arguments()
    arguments["grads"][1].flags.writeable = False
    functional.adam_(**arguments, step=1, lr=1)


@pytest.mark.parametrize("argument", list(adam_arguments())[1:])
def test_wrong_counts_and_kinds(argument: str) -> None:
    arguments = adam_arguments()
    with pytest.raises(ValueError, match=f"^{argument}: expected 3 arrays.*, got 2"):
        functional.adam_(**arguments | {argument: arguments[argument][:2]}, step=1, lr=1)
    with pytest.raises(TypeError, match=f"^{argument}: expected a list of arrays, as params is"):
        functional.adam_(**arguments | {argument: np.ones(3)}, step=1, lr=1)
    with pytest.raises(TypeError, match=f"^{argument}: expected an array or a list of arrays"):
        functional.adam_(**arguments | {argument: "abc"}, step=1, lr=1)


@pytest.mark.parametrize("names", [("params", "exp_avgs"), ("exp_avgs", "exp_avg_sqs")])
def test_overlap_of_what_is_written(names: tuple[str, str]) -> None:
    first, second = names
    arguments = adam_arguments()
    arguments[second][2] = arguments[first][1]
    with pytest.raises(ValueError, match=rf"^{second}\[2\] overlaps {first}\[1\] in memory"):
        functional.adam_(**arguments, step=1, lr=1)
    x = {k: a[0] for k, a in arguments.items()}
    with pytest.raises(ValueError, match=f"^{second} overlaps {first} in memory"):
        functional.adam_(**x | {second: x[first]}, step=1, lr=1)


@pytest.mark.parametrize("other", ["params", "exp_avgs", "max_exp_avg_sqs"])
def test_overlap_of_a_gradient(other: str) -> None:
    arguments = adam_arguments()
    arguments["grads"][0] = arguments[other][2]
    with pytest.raises(ValueError, match=rf"^grads\[0\] overlaps {other}\[2\] in memory"):
        functional.adam_(**arguments, step=1, lr=1)
    arguments = adam_arguments()
    arguments["grads"][0] = arguments["grads"][1]  # gradients may share theirs
    functional.adam_(**arguments, step=1, lr=1)


def test_buffers_and_momentum_go_together() -> None:
    p, g, b, v = (np.ones(3) for _ in range(4))
    with pytest.raises(ValueError, match="momentum_buffers: needed, as momentum is 0.9"):
        functional.sgd_(p, g, step=1, lr=1, momentum=0.9)
    with pytest.raises(ValueError, match="momentum_buffers: expected None, as momentum is 0"):
        functional.sgd_(p, g, b, step=1, lr=1)
    with pytest.raises(ValueError, match="momentum_buffers: needed"):
        functional.rmsprop_(p, g, v, lr=1, momentum=0.9)
    with pytest.raises(ValueError, match="momentum_buffers: expected None"):
        functional.rmsprop_(p, g, v, momentum_buffers=b, lr=1)
    with pytest.raises(ValueError, match="nesterov: needs"):
        functional.sgd_(p, g, step=1, lr=1, nesterov=True)
    assert (p == 1).all()


def test_empty_lists() -> None:
    functional.adam_([], [], [], [], step=1, lr=1)


def test_arrays_that_an_option_needs() -> None:
    x = [np.ones(3) for _ in range(4)]
    with pytest.raises(ValueError, match="^max_exp_avg_sqs: needed, as amsgrad_max is 'corrected'"):
        functional.adam_(*x, step=1, lr=0.1, amsgrad_max="corrected")
    with pytest.raises(ValueError, match="^momentum_buffers: needed, as velocity is True"):
        functional.sgd_(*x[:2], step=1, lr=0.1, velocity=True)
    functional.sgd_(*x[:3], step=1, lr=0.1, velocity=True)
    with pytest.raises(ValueError, match="^momentum_buffers: expected None, as momentum is 0"):
        functional.rmsprop_(*x[:3], momentum_buffers=x[3], lr=0.1)


@every_dtype
def test_averages_are_those_of_the_class(dtype: type) -> None:
    params = random_arrays(0, dtype, [*range(40), 70_001])
    emas = copies(params)
    opt = fusedopt.SGD(copies(params), lr=0.1, ema_decay=0.9)
    for step in range(3):
        opt.step(random_arrays(1 + step, dtype, [*range(40), 70_001]))
        functional.ema_(emas, list(opt.param_groups[0]["params"]), decay=0.9)
    for i, ema in enumerate(emas):
        np.testing.assert_array_equal(ema, opt.ema[i])
    p = np.ones(3)
    for call, error, text in [
        (lambda: functional.ema_(p, p, decay=0.5), ValueError, "emas overlaps params in memory"),
        (lambda: functional.ema_(np.ones(4), p, decay=0.5), ValueError, "emas: expected shape"),
        (lambda: functional.ema_([p], [p, p], decay=0.5), ValueError, "emas: expected 2 arrays"),
        (lambda: functional.ema_(None, p, decay=0.5), TypeError, "emas: expected an array or"),
        (lambda: functional.ema_(p, p, decay=1.5), ValueError, r"decay: expected a number in \[0"),
    ]:
        with pytest.raises(error, match=f"^{text}"):
            call()


@every_dtype
def test_the_norm_is_that_of_a_step(dtype: type) -> None:
    grads: list[Any] = random_arrays(0, dtype, [0, 1, (3, 5), 8193, 70_001])
    opt = fusedopt.SGD([np.ones_like(g) for g in grads])
    result = opt.step([*grads[:2], None, *grads[3:]], max_norm=1.0)
    grads[2] = None
    assert functional.global_norm(grads) == result.grad_norm
    frozen = np.array([3.0, 4.0])
    frozen.flags.writeable = False
    assert functional.global_norm(frozen) == 5
    assert functional.global_norm([]) == 0
    for bad, error, text in [
        (np.ones(3, int), TypeError, "arrays: expected dtype float32 or float64, got int64"),
        ([np.ones((4, 4)).T], ValueError, r"arrays\[0\]: expected a C-contiguous array"),
        ("abc", TypeError, "arrays: expected an array or a list of arrays, got str"),
    ]:
        with pytest.raises(error, match=f"^{text}"):
            functional.global_norm(bad)


def adam_state(count: int, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    params = random_arrays(0, dtype, [7] * count)
    return params, [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_each_parameter_may_have_a_step_count_of_its_own(kind: Any) -> None:
    params, m, v = adam_state(4)
    alone, m_alone, v_alone = adam_state(4)
    counts = [3, 3, 1, 2**40]
    grads = random_arrays(1, np.float32, [7] * 4)
    functional.adam_(params, grads, m, v, step=kind(counts), lr=0.1)
    for i, count in enumerate(counts):
        functional.adam_(alone[i], grads[i], m_alone[i], v_alone[i], step=count, lr=0.1)
        np.testing.assert_array_equal(params[i], alone[i])
    p, buffers = random_arrays(2, np.float32, [3, 3]), [np.ones(3, np.float32) for _ in range(2)]
    g = random_arrays(3, np.float32, [3, 3])
    functional.sgd_(p, g, buffers, step=kind([1, 2]), lr=0.1, momentum=0.5)
    np.testing.assert_array_equal(buffers[0], g[0])  # a fresh one
    np.testing.assert_array_equal(buffers[1], np.float32(0.5) + g[1])


class Nested(list):
    """A list that does something else while it is read."""

    meanwhile: Any = None

    def __iter__(self) -> Any:
        if self.meanwhile:
            self.meanwhile()
        return super().__iter__()


def test_a_call_from_within_another_that_needs_another_rule() -> None:
    p, m, v = adam_state(3)
    q, m_q, v_q = adam_state(3)
    g = random_arrays(4, np.float32, [7] * 3)
    others = [adam_state(1)[1] for _ in range(5)]
    given = Nested(g)
    given.meanwhile = lambda: functional.adam_(*others, step=1, lr=0.5)  # AMSGrad's
    functional.adam_(p, given, m, v, step=1, lr=0.1)
    functional.adam_(q, g, m_q, v_q, step=1, lr=0.1)
    for ours, theirs in zip([*p, *m, *v], [*q, *m_q, *v_q], strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Count(int):
    """An int, if of another type."""


@pytest.mark.parametrize("one", [Count(1), np.int8(1)])
def test_any_integer_is_a_step_count(one: Any) -> None:
    params, m, v = adam_state(2)
    others, m_others, v_others = adam_state(2)
    functional.adam_(params, copies(params), m, v, step=one, lr=0.1)
    functional.adam_(others, copies(others), m_others, v_others, step=[1, one], lr=0.1)
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize(
    ("step", "error", "text"),
    [
        ([1, 2, 3], ValueError, "^step: expected 2 counts, one for each parameter, got 3$"),
        ([1, 0], ValueError, r"^step\[1\]: expected a count from 1, got 0$"),
        ([1, 2.0], TypeError, r"^step\[1\]: expected an int, got 2.0"),
        ([True, 2], TypeError, r"^step\[0\]: expected an int, got True"),
        ([], ValueError, "^step: expected 2 counts"),
        (2**63, ValueError, "^step: expected a count from 1"),
        (None, TypeError, "^step: expected an int, got None"),
        (np.array(2), TypeError, "^step: expected an int, got array"),
        ("12", TypeError, "^step: expected an int"),
    ],
)
def test_wrong_step_counts(step: Any, error: type[Exception], text: str) -> None:
    params, m, v = adam_state(2)
    before = copies(params)
    with pytest.raises(error, match=text):
        functional.adam_(params, copies(params), m, v, step=step, lr=0.1)
    with pytest.raises(TypeError, match="^step: expected an int, as params is one array"):
        functional.adam_(params[0], params[1], m[0], v[0], step=[1], lr=0.1)
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)


def test_hyperparameters_count_anew_at_each_call() -> None:
    """Of those that were remembered from the last one, none is used."""
    own, m, v = adam_state(1, np.float64)
    expected = own[0].copy()
    values: list[dict[str, Any]] = [
        {"lr": 0.1},
        {"lr": 0.2},
        {"lr": 0.2, "weight_decay": 0.1},
        {"lr": 0.2, "weight_decay": 0.2, "beta1": 0.5},
        {"lr": 0.2, "weight_decay": 0},
        {"lr": 0, "eps": 1e-3},
        {"lr": 1, "eps_hat": True},
        {"lr": 1, "bias_correction": False, "maximize": True},
        {"lr": np.float32(0.5), "maximize": np.False_},
        {"lr": 0.1, "eps": 0.5, "beta2": 0.9},
    ]
    opt = fusedopt.Adam([expected], lr=0.1)
    for k, options in enumerate(values * 2, start=1):
        group = opt.param_groups[0]
        defaults = {"eps": 1e-8, "weight_decay": 0.0, "maximize": False, "eps_hat": False}
        beta1, beta2 = options.get("beta1", 0.9), options.get("beta2", 0.999)
        changed = {**defaults, "bias_correction": True, "betas": (beta1, beta2), **options}
        for name, value in changed.items():
            if name not in {"beta1", "beta2"}:
                group[name] = value
        g = random_arrays(k, np.float64, [7])
        opt.step(g)
        functional.adam_(own[0], g[0], m[0], v[0], step=k, **options)
        np.testing.assert_array_equal(own[0], expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -0.1}, "^lr: expected a finite number >= 0, got -0.1$"),
        ({"lr": float("nan")}, "^lr: expected"),
        ({"lr": True}, "^lr: expected"),
        ({"lr": lambda _: 0.1}, "^lr: expected"),
        ({"lr": 0.1, "beta1": 1.0}, "^beta1: expected"),
        ({"lr": 0.1, "maximize": 1}, "^maximize: expected True or False"),
        ({"lr": 0.1, "eps_root": 0.1, "eps_hat": True}, "^eps_hat: needs"),
    ],
)
def test_what_was_right_before_doesnt_make_it_right(options: dict[str, Any], text: str) -> None:
    params, m, v = adam_state(1)
    arguments = params[0], params[0].copy(), m[0], v[0]
    functional.adam_(*arguments, step=1, lr=0.1, eps_root=0.1)
    functional.adam_(*arguments, step=1, lr=1.0, eps_hat=True)
    before = params[0].copy()
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=text):
            functional.adam_(*arguments, step=1, **options)
        np.testing.assert_array_equal(params[0], before)
    functional.adam_(*arguments, step=2, lr=0.1)
    assert not np.array_equal(params[0], before)


def test_a_number_too_large_for_float32_is_refused_there_alone() -> None:
    for dtype, is_refused in ((np.float64, False), (np.float32, True), (np.float64, False)):
        p = np.ones(3, dtype)
        if is_refused:
            with pytest.raises(ValueError, match="finite in float32"):
                functional.sgd_(p, p.copy(), step=1, lr=1e300)
        else:
            functional.sgd_(p, p.copy(), step=1, lr=1e300)
            assert (p == 1 - 1e300).all()


def test_threads_may_call_with_numbers_of_their_own() -> None:
    def work(k: int) -> bool:
        p, q = np.ones(5), np.ones(5)
        opt = fusedopt.SGD([q], lr=0.1)
        for step in range(1, 400):
            lr = (step % 7) * 0.01 * (k + 1)
            opt.param_groups[0]["lr"] = lr
            g = np.full(5, 0.1 * k)
            opt.step([g])
            functional.sgd_(p, g, step=step, lr=lr)
        return bool((p == q).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
