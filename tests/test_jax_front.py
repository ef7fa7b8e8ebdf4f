"""Contract: fusedopt.jax's steps, inside of what JAX compiles, are the reference's, bit for bit."""

import collections
import copy
import pickle
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import DTYPES, Case, copies, every_case, every_dtype, random_arrays
from layers import BUILT
from native_programs import COMPILER, ROOT
from published import peer
from subprocesses import output_of

jax = peer("jax")
jnp = peer("jax.numpy")
optax = peer("optax")
front = peer("fusedopt.jax")

SIZES: list[Any] = [*range(35), 127, 1000, (3, 5, 7), (), (8193,), 70_001]


def with_doubles(dtype: Any = np.float64) -> AbstractContextManager[Any]:
    """JAX has float64 only where it is asked for."""
    wanted = dtype is np.float64
    if hasattr(jax, "enable_x64"):  # from version 0.8 on
        return jax.enable_x64(wanted)
    return jax.experimental.enable_x64() if wanted else jax.experimental.disable_x64()


@pytest.fixture(autouse=True)
def _without_doubles() -> Iterator[None]:
    """Other tests in this process may have asked for them."""
    with with_doubles(np.float32):
        yield


def made(case: Case, **changes: Any) -> Any:
    return getattr(front, case.optimizer.lower())(**{**case.options, **changes})


def donating(opt: Any) -> Any:
    return jax.jit(opt.step, donate_argnums=(0, 2))


def on_device(tree: Any) -> Any:
    return jax.tree.map(jnp.array, tree)


def assert_equal(tree: Any, arrays: list[Any]) -> None:
    for one, two in zip(jax.tree.leaves(tree), arrays, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(np.asarray(one), two)


def assert_state(state: Any, optimizer: fusedopt.Optimizer) -> None:
    entries = [optimizer.state[i] for i in range(len(optimizer.state))]
    assert state.keys() == entries[0].keys() | {"step"}
    for name in state.keys() - {"step"}:
        assert_equal(state[name], [entry[name] for entry in entries])


@every_case
@every_dtype
def test_steps_are_the_references(case: Case, dtype: Any) -> None:
    with with_doubles(dtype):
        arrays = random_arrays(0, dtype, SIZES)
        expected = case.make_reference(copies(arrays))
        opt = made(case)
        params = on_device(arrays)
        state = opt.init(params)
        step = donating(opt)
        for k in range(12):
            grads = random_arrays(1 + k, dtype, SIZES)
            expected.step(grads)
            params, state = step(params, grads, state)
        assert_equal(params, expected.param_groups[0]["params"])
        assert_state(state, expected)
        assert int(state["step"]) == 12


@pytest.mark.parametrize("layer", BUILT)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(layer: str, threads: int) -> None:
    fusedopt.set_threading_layer(layer)
    fusedopt.set_num_threads(threads)
    test_steps_are_the_references(Case("AdamW", {"lr": 0.01}), np.float32)


def model(params: Any) -> Any:
    return sum(jnp.sum(jnp.cos(leaf) * leaf) for leaf in jax.tree.leaves(params))


def test_donated_memory_is_updated_in_place_and_other_memory_stays() -> None:
    opt = front.adamw(lr=0.01)
    params = on_device({"a": random_arrays(0, np.float32, [100, (30, 40)]), "b": np.float32(2)})
    state = opt.init(params)
    grads = jax.grad(model)(params)
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    kept = jax.tree.map(np.array, (params, state))
    one = jax.jit(opt.step)(params, grads, state)
    assert_equal((params, state), jax.tree.leaves(kept))
    two = donating(opt)(params, grads, state)
    found = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(two)]
    assert found == places
    assert_equal(two, [np.asarray(leaf) for leaf in jax.tree.leaves(one)])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))


def test_without_jit() -> None:
    opt = front.adam(lr=0.01)
    params = random_arrays(0, np.float32, [3, (4, 5)])
    grads = random_arrays(1, np.float32, [3, (4, 5)])
    before = copies(params)
    expected = fusedopt.Adam(copies(params), lr=0.01)
    new, state = params, opt.init(params)
    for _ in range(3):
        new, state = opt.step(new, grads, state)
        expected.step(grads)
    assert_equal(params, before)
    assert_equal(new, expected.param_groups[0]["params"])


@pytest.mark.parametrize("donate", [(), (0, 1)])
def test_scan(donate: tuple[int, ...]) -> None:
    opt = front.adamw(lr=lambda step: 0.1 / (1 + step), amsgrad=True)
    start = on_device(random_arrays(0, np.float32, [7, (33, 3)]))

    def body(carried: Any, _: Any) -> Any:
        params, state = carried
        return opt.step(params, jax.grad(model)(params), state), model(params)

    @partial(jax.jit, donate_argnums=donate)
    def run(params: Any, state: Any) -> Any:
        return jax.lax.scan(body, (params, state), length=25)

    each = jax.jit(body)
    params, state = start, opt.init(start)
    for _ in range(25):
        (params, state), _ = each((params, state), None)
    expected = [np.array(leaf) for leaf in jax.tree.leaves((params, state))]
    found, losses = run(on_device(start), opt.init(start))
    assert_equal(found, expected)
    assert losses[-1] < losses[0]


def as_jax_computes(number: Any, dtype: Any) -> Any:
    return lambda step: float(jax.jit(number)(jnp.int32(step)).astype(dtype))


def test_numbers_that_are_functions_of_the_step() -> None:
    """They are computed by JAX, in float32 unless it has float64."""
    settings = {
        "lr": lambda step: 0.02 * 0.9**step,
        "betas": (0.8, lambda step: 0.99 - 0.01 / (1 + step)),
        "weight_decay": lambda step: 0.01 * (step + 1),
        "eps": 1e-5,
    }
    for dtype in DTYPES:
        with with_doubles(dtype):
            params = random_arrays(0, dtype, [5, (20, 3)])
            opt = front.adamw(**settings)

            expected = fusedopt.AdamW(
                copies(params),
                as_jax_computes(settings["lr"], dtype),
                betas=(0.8, as_jax_computes(settings["betas"][1], dtype)),
                weight_decay=as_jax_computes(settings["weight_decay"], dtype),
                eps=1e-5,
            )
            state = opt.init(params)
            step = jax.jit(opt.step)
            found = params
            for k in range(10):
                grads = random_arrays(1 + k, dtype, [5, (20, 3)])
                expected.step(grads)
                found, state = step(found, grads, state)
            for one, two in zip(found, expected.param_groups[0]["params"], strict=True):
                tolerance = 1e-6 if dtype is np.float32 else 1e-14
                np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


def test_a_function_for_both_betas_and_optaxs_schedules() -> None:
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 5, 30)
    opt = front.adam(lr=schedule, betas=lambda step: (0.5 + 0.01 * step, 0.9))
    other = optax.inject_hyperparams(optax.adam)(
        learning_rate=schedule, b1=lambda step: 0.5 + 0.01 * step, b2=0.9
    )
    params = mine = random_arrays(0, np.float32, [30])
    state, theirs = opt.init(params), other.init(params)
    for k in range(20):
        grads = random_arrays(1 + k, np.float32, [30])
        mine, state = jax.jit(opt.step)(mine, grads, state)
        updates, theirs = jax.jit(other.update)(grads, theirs, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(mine[0], params[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: front.sgd(0.1), lambda: optax.sgd(0.1)),
        (lambda: front.sgd(0.1, 0.9), lambda: optax.sgd(0.1, 0.9)),
        (lambda: front.sgd(0.1, 0.9, nesterov=True), lambda: optax.sgd(0.1, 0.9, nesterov=True)),
        (
            lambda: front.rmsprop(0.01, 0.9, 0, eps_root=1e-8),
            lambda: optax.rmsprop(0.01, 0.9, 1e-8),
        ),
        (lambda: front.adam(0.01, (0.9, 0.99)), lambda: optax.adam(0.01, 0.9, 0.99)),
        (
            lambda: front.adamw(0.01, (0.9, 0.99), weight_decay=0.1),
            lambda: optax.adamw(0.01, 0.9, 0.99, weight_decay=0.1),
        ),
        (
            lambda: front.adam(0.01, (0.9, 0.99), amsgrad=True, amsgrad_max="corrected"),
            lambda: optax.amsgrad(0.01, 0.9, 0.99),
        ),
    ],
)
def test_optaxs_are_the_same(ours: Any, theirs: Any) -> None:
    opt, other = ours(), theirs()
    params = mine = {"w": random_arrays(0, np.float32, [(40, 30)])[0], "b": np.float32(0.5)}
    state, their_state = opt.init(params), other.init(params)
    step = jax.jit(lambda p, s: opt.step(p, jax.grad(model)(p), s))
    update = jax.jit(lambda p, s: other.update(jax.grad(model)(p), s, p))
    for _ in range(40):
        mine, state = step(mine, state)
        updates, their_state = update(params, their_state)
        params = optax.apply_updates(params, updates)
    for name in params:
        np.testing.assert_allclose(mine[name], params[name], rtol=1e-3, atol=2e-4)


Point = collections.namedtuple("Point", ["x", "y"])

TREES: dict[str, Any] = {
    "an array": np.ones(3, np.float32),
    "a number": 2.0,
    "containers": {"p": Point(np.ones(2, np.float32), [np.ones((2, 2), np.float32), None])},
    "nothing": {},
    "nothing in containers": [None, (), {}],
    "no elements": {"e": np.ones((0, 3), np.float32), "f": np.ones(3, np.float32)},
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_trees(tree: Any) -> None:
    opt = front.adam(lr=0.1)
    step = jax.jit(opt.step)
    params, state = tree, opt.init(tree)
    for _ in range(3):
        params, state = step(params, jax.tree.map(lambda p: p * 0 + 2, params), state)
    assert jax.tree.structure(params) == jax.tree.structure(tree)
    assert jax.tree.structure(state["exp_avg"]) == jax.tree.structure(tree)
    assert int(state["step"]) == 3
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(tree), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two) - 0.3, rtol=1e-5)


def test_a_tree_of_both_precisions() -> None:
    with with_doubles():
        params = random_arrays(0, np.float32, [100, 7]) + random_arrays(1, np.float64, [9, 50])
        grads = random_arrays(2, np.float32, [100, 7]) + random_arrays(3, np.float64, [9, 50])
        expected = fusedopt.AdamW(copies(params))
        opt = front.adamw()
        found, state = params, opt.init(params)
        for _ in range(5):
            expected.step(grads)
            found, state = jax.jit(opt.step)(found, grads, state)
        assert_equal(found, expected.param_groups[0]["params"])


def test_state_goes_on_after_a_file_and_a_step_is_compiled_once() -> None:
    opt = front.adamw(lr=0.01)
    traced = 0

    def counted(params: Any, state: Any) -> Any:
        nonlocal traced
        traced += 1
        return opt.step(params, jax.grad(model)(params), state)

    step = jax.jit(counted)
    params = on_device(random_arrays(0, np.float32, [50]))
    state = opt.init(params)
    for _ in range(3):
        params, state = step(params, state)
    saved = pickle.dumps(jax.tree.map(np.asarray, (params, state)))
    for _ in range(3):
        params, state = step(params, state)
    again, again_state = pickle.loads(saved)
    for _ in range(3):
        again, again_state = step(again, again_state)
    assert_equal((again, again_state), [np.asarray(a) for a in jax.tree.leaves((params, state))])
    assert traced <= 2  # arrays of JAX's, and of NumPy's


def test_an_ensemble_by_vmap() -> None:
    opt = front.adam(lr=lambda step: 0.1 / (1 + step))
    together = np.stack(random_arrays(0, np.float32, [(5, 3)] * 4))
    states = jax.vmap(opt.init)(together)
    step = jax.jit(jax.vmap(lambda p, s: opt.step(p, jax.grad(model)(p), s)))
    params = together
    for _ in range(4):
        params, states = step(params, states)
    alone = jax.jit(lambda p, s: opt.step(p, jax.grad(model)(p), s))
    for i in range(4):
        one, state = together[i], opt.init(together[i])
        for _ in range(4):
            one, state = alone(one, state)
        np.testing.assert_array_equal(params[i], one)


@pytest.mark.parametrize("flush", [True, False])
def test_subnormal_numbers_are_what_they_are_elsewhere(flush: bool) -> None:
    """XLA's threads have a mode of their own for them, which isn't ours."""
    fusedopt.set_flush_denormal(flush)
    tiny = np.array([1e-40, -3e-41, 1e-44, 2.0], np.float32)
    expected = fusedopt.SGD([ones(4)], lr=1e-3, weight_decay=1e-3)
    expected.param_groups[0]["params"][0][:] = tiny
    opt = front.sgd(lr=1e-3, weight_decay=1e-3)
    new, state = jnp.array(tiny), opt.init(tiny)
    for _ in range(3):
        expected.step([tiny])
        new, state = jax.jit(opt.step)(new, tiny, state)
    assert_equal(new, list(expected.param_groups[0]["params"]))
    # XLA itself may count them as zeros.
    assert np.count_nonzero(np.asarray(new).view(np.int32)) == (1 if flush else 4)


def test_steps_of_several_threads_at_once() -> None:
    opt = front.adamw(lr=0.01)
    step = donating(opt)
    starts = [random_arrays(i, np.float32, [60_000, 100]) for i in range(4)]

    def run(start: Any) -> Any:
        params = on_device(start)
        state = opt.init(params)
        for k in range(20):
            params, state = step(params, random_arrays(k, np.float32, [60_000, 100]), state)
        return [np.asarray(leaf) for leaf in params]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(run, starts))
    for one, start in zip(found, starts, strict=True):
        expected = fusedopt.AdamW(copies(start), lr=0.01)
        for k in range(20):
            expected.step(random_arrays(k, np.float32, [60_000, 100]))
        assert_equal(one, expected.param_groups[0]["params"])


def test_counts_stop_at_the_last_one() -> None:
    opt = front.adam(lr=0.1)
    params = np.ones(3, np.float32)
    last = np.iinfo(np.int32).max
    state = {**opt.init(params), "step": np.int32(last - 1)}
    for _ in range(3):
        params, state = jax.jit(opt.step)(params, np.ones(3, np.float32), state)
        assert int(state["step"]) == last


def ones(*shape: int, dtype: Any = np.float32) -> Any:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("params", "grads", "change", "error", "message"),
    [
        (
            {"a": [np.ones(3, np.float16)]},
            {"a": [np.ones(3, np.float16)]},
            {},
            TypeError,
            r"params\['a'\]\[0\]: expected float32 or float64, got float16",
        ),
        ([np.arange(3)], [ones(3)], {}, TypeError, r"params\[0\]: expected float32 or float64"),
        ([ones(3)], [np.arange(3)], {}, TypeError, r"grads\[0\]: expected float32, as params\[0\]"),
        ([ones(3)], [ones(4)], {}, ValueError, r"grads\[0\]: expected shape \(3,\), got \(4,\)"),
        ([ones(3)], [ones(3, 1)], {}, ValueError, r"grads\[0\]: expected shape \(3,\), got"),
        ([ones(3)], ones(3), {}, ValueError, "grads: expected a tree like params"),
        ([ones(3)], [None], {}, ValueError, "grads: expected a tree like params"),
        (
            [ones(3)],
            [ones(3)],
            {"exp_avg": [ones(4)]},
            ValueError,
            r"state\['exp_avg'\]\[0\]: expected shape \(3,\), got \(4,\)",
        ),
        (
            [ones(3)],
            [ones(3)],
            {"other": 1},
            ValueError,
            "state: expected what init returns, a dict with 'step', 'exp_avg', 'exp_avg_sq'",
        ),
    ],
)
def test_wrong_arguments(
    params: Any, grads: Any, change: Any, error: type[Exception], message: str
) -> None:
    opt = front.adam()
    fitting = jax.tree.map(lambda p: np.ones(np.shape(p), np.float32), params)
    state = {**opt.init(fitting), **change}
    for step in (opt.step, jax.jit(opt.step)):
        with pytest.raises(error, match=message):
            step(params, grads, state)


def test_wrong_hyperparameters() -> None:
    for make, error, message in [
        (lambda: front.adam(lr=-1), ValueError, "lr: expected a finite number >= 0, got -1"),
        (lambda: front.adam(lr="1"), TypeError, "lr: expected a finite number >= 0"),
        (lambda: front.sgd(nesterov=True), ValueError, "nesterov: needs a momentum above 0"),
        (lambda: front.rmsprop(alpha=1), ValueError, r"alpha: expected a number in \[0, 1\)"),
        (lambda: front.adamw(betas=(0.9, 1.0)), ValueError, r"betas\[1\]: expected a number in"),
        (lambda: front.adam(eps_hat=lambda step: True), TypeError, "eps_hat: expected True or"),
    ]:
        with pytest.raises(error, match=message):
            make()


NUMBER = r"expected a finite number >= 0"
RATE = r"expected a number in \[0, 1\)"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lr": lambda step: -1}, ValueError, f"lr: {NUMBER}, got -1"),
        ({"lr": lambda step: True}, TypeError, f"lr: {NUMBER}, got True"),
        ({"lr": lambda step: "0.1"}, TypeError, f"lr: {NUMBER}, got '0.1'"),
        ({"lr": lambda step: None}, TypeError, f"lr: {NUMBER}, got None"),
        ({"lr": lambda step: [0.1]}, TypeError, f"lr: {NUMBER}, got"),
        ({"lr": lambda step: jnp.ones(2)}, TypeError, f"lr: {NUMBER}, got float32 of shape"),
        ({"lr": lambda step: step > 0}, TypeError, f"lr: {NUMBER}, got bool"),
        ({"lr": lambda step: 1j * step}, TypeError, f"lr: {NUMBER}, got complex64"),
        ({"betas": lambda step: 0.9}, ValueError, "betas: expected 2 numbers from its schedule"),
        ({"betas": lambda step: (0.9,) * 3}, ValueError, "betas: expected 2 numbers .*, got 3"),
        ({"betas": lambda step: ()}, ValueError, "betas: expected 2 numbers .*, got 0"),
        ({"betas": (0.9, lambda step: 1.0)}, ValueError, f"beta2: {RATE}, got 1.0"),
        ({"betas": (jnp.ones(2), 0.9)}, TypeError, f"beta1: {RATE}, got float.. of shape"),
    ],
)
def test_wrong_schedules(settings: Any, error: type[Exception], message: str) -> None:
    opt = front.adam(**settings)
    for step in (opt.step, jax.jit(opt.step)):
        with pytest.raises(error, match=message):
            step([ones(3)], [ones(3)], opt.init([ones(3)]))


def test_numbers_that_are_known_stay_as_precise_as_they_are() -> None:
    grads = random_arrays(1, np.float32, [30])
    for settings in ({"lr": lambda step: 0.1}, {"betas": (lambda step: 0.9, 0.99999999)}):
        params = random_arrays(0, np.float32, [30])
        expected = fusedopt.Adam(copies(params), **settings)
        opt = front.adam(**settings)
        found, state = params, opt.init(params)
        for _ in range(5):
            expected.step(grads)
            found, state = jax.jit(opt.step)(found, grads, state)
        assert_equal(found, list(expected.param_groups[0]["params"]))


def test_numbers_that_are_arrays_of_jaxs() -> None:
    params, grads = ones(3), ones(3)

    def after(lr: Any) -> Any:
        opt = front.sgd(lr=lr)
        return opt.step(params, grads, opt.init(params))[0]

    def made_inside(lr: Any) -> Any:
        opt = front.sgd(lr=optax.cosine_decay_schedule(lr, 100))
        return opt.step(params, grads, opt.init(params))[0]

    for found in (
        after(jnp.float32(0.25)),
        jax.jit(after)(0.25),
        jax.vmap(after)(jnp.array([0.25, 0.5]))[0],
        jax.jit(lambda lr: after(lambda step: lr))(0.25),
        jax.jit(made_inside)(0.25),
    ):
        np.testing.assert_array_equal(found, np.full(3, 0.75))
    betas = front.adam(betas=(jnp.float32(0.5), 0.75))
    plain = front.adam(betas=(0.5, 0.75))
    for one, two in zip(
        jax.tree.leaves(betas.step(params, grads, betas.init(params))),
        jax.tree.leaves(plain.step(params, grads, plain.init(params))),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (2.0, "state['step']: expected an int without dimensions, got float64 of shape ()"),
        (True, "state['step']: expected an int without dimensions, got bool of shape ()"),
        (None, "state['step']: expected an int without dimensions, got object of shape ()"),
        (np.array([5, 9], np.int32), "got int32 of shape (2,)"),
        (jnp.zeros(0, jnp.int32), "got int32 of shape (0,)"),
    ],
)
def test_wrong_counts(step: Any, message: str) -> None:
    opt = front.sgd()
    with pytest.raises(TypeError, match=re.escape(message)):
        opt.step(ones(3), ones(3), {"step": step})


def test_counts_of_any_int() -> None:
    opt = front.adam()
    state = opt.init(ones(3))
    for step, after in ((7, 8), (np.int64(7), 8), (np.int64(2**32 + 4), 2**31 - 1)):
        assert int(opt.step(ones(3), ones(3), {**state, "step": step})[1]["step"]) == after
    with pytest.raises(Exception, match="expected 0 or more"):
        jax.block_until_ready(opt.step(ones(3), ones(3), {**state, "step": -5}))


def test_copies_of_an_optimizer() -> None:
    opt = front.adamw(lr=0.1, betas=(schedule_of_a_module, 0.9))
    for other in (pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)):
        mine, theirs = (each.step(ones(3), ones(3), opt.init(ones(3))) for each in (opt, other))
        assert_equal(mine, [np.asarray(leaf) for leaf in jax.tree.leaves(theirs)])


def schedule_of_a_module(step: Any) -> Any:
    return 0.9 - 0.1 / (1 + step)


def test_many_leaves_compile_soon() -> None:
    """As one call, XLA would take minutes for these."""
    opt = front.adam()
    params = [ones(3 + i % 7) for i in range(1000)]
    begin = time.perf_counter()
    found, _ = jax.jit(opt.step)(params, params, opt.init(params))
    assert time.perf_counter() - begin < 30
    expected = fusedopt.Adam([param.copy() for param in params])
    expected.step(params)
    assert_equal(found, list(expected.param_groups[0]["params"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"lr": lambda step: 0.01 - 0.02 * step},
            r"lr: expected a finite number >= 0, got -0\.01, from its schedule after 1 steps",
        ),
        ({"lr": lambda step: 0.1 * jnp.where(step > 0, jnp.nan, 1)}, "lr: .*, got nan"),
        ({"lr": lambda step: 0.1 * jnp.where(step > 0, jnp.inf, 1)}, "lr: .*, got inf"),
        (
            {"betas": (0.9, lambda step: 0.5 + 0.5 * step)},
            r"beta2: expected a number in \[0, 1\), got 1, from its schedule after 1 steps",
        ),
        ({"eps": 1e300}, "eps: expected a number that is finite in float32, as parameters are"),
    ],
)
def test_what_goes_wrong_while_it_runs(settings: Any, message: str) -> None:
    opt = front.adam(**settings)
    params = [ones(3)]
    state = opt.init(params)
    with pytest.raises(Exception, match=message) as raised:  # noqa: PT012
        for _ in range(2):
            params, state = jax.block_until_ready(jax.jit(opt.step)(params, params, state))
    assert "INVALID_ARGUMENT" in str(raised.value)


def test_a_step_has_no_gradient_of_its_own() -> None:
    opt = front.sgd()
    with pytest.raises(ValueError, match="[Dd]ifferentiat"):
        jax.grad(lambda p: model(opt.step(p, p, opt.init(p))[0]))(ones(3))


def test_what_jaxlib_declares() -> None:
    """Its header and ours say the same about each part of the ABI that is used."""
    include = Path(jax.ffi.include_dir())
    source = ROOT / "tests" / "native" / "xla_abi.cpp"
    options = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    folders = [f"-I{ROOT / 'csrc'}", "-isystem", str(include)]
    assert COMPILER is not None
    subprocess.run([COMPILER, *options, *folders, str(source)], check=True)


def test_jax_reads_aligned_views_where_they_lie() -> None:
    _, views = fusedopt.flat_views([3, (20, 30), 1, 1000], align=64)
    for view in views:
        assert jax.device_put(view).unsafe_buffer_pointer() == view.ctypes.data


def test_parameters_in_numpy_and_gradients_of_jax() -> None:
    """The other way to have both: trees by jax.tree, one step between two calls of JAX's."""
    shapes = {"layers": [{"w": (8, 33)}, {"w": (33, 4)}], "scale": ()}
    sizes, form = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    _, views = fusedopt.flat_views(sizes, align=64)
    for view, array in zip(views, random_arrays(0, np.float32, sizes), strict=True):
        view[...] = array
    params = jax.tree.unflatten(form, views)
    loss_and_gradients = jax.jit(jax.value_and_grad(model))
    opt = fusedopt.AdamW(jax.tree.leaves(params), lr=0.05)
    own = jax.tree.map(jnp.array, params)
    inside = front.adamw(lr=0.05)
    state = inside.init(own)
    for _ in range(30):
        _, gradients = loss_and_gradients(params)
        opt.step([np.asarray(g) for g in jax.tree.leaves(gradients)])
        own, state = jax.jit(inside.step)(own, loss_and_gradients(own)[1], state)
    assert_equal(own, views)


SEVERAL_DEVICES = """
import jax, numpy as np, fusedopt.jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
shard_map = getattr(jax, "shard_map", None)
if shard_map is None:  # before version 0.6
    from jax.experimental.shard_map import shard_map
opt = fusedopt.jax.adam(lr=0.1)
x = np.arange(40_000, dtype=np.float32).reshape(4, -1)
expected, _ = jax.jit(opt.step)(x, x, opt.init(x))
mesh = Mesh(np.array(jax.devices()), ("d",))
sharded = jax.device_put(x, NamedSharding(mesh, P("d")))
state = opt.init(sharded)
specs = P("d"), {"step": P(), "exp_avg": P("d"), "exp_avg_sq": P("d")}
parts = jax.jit(shard_map(opt.step, mesh=mesh, in_specs=(specs[0], *specs), out_specs=specs))
for step in (parts, jax.jit(opt.step)):
    found, _ = step(sharded, sharded, state)
    assert np.array_equal(found, expected)
print(len(jax.devices()))
"""


def test_several_devices() -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert output_of(SEVERAL_DEVICES, **flags) == "2"
