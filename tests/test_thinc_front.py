"""Contract: fusedopt.thinc's steps are thinc's, over thinc's own state, wherever it may be."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from published import pass_their_own, peer

api = peer("thinc.api")
theirs = peer("thinc.optimizers")
ours = peer("fusedopt.thinc")

SHAPES: list[Any] = [3, (4, 5), 100, (64, 64), (1, 1)]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"L2": 0.01},
    {"L2": 0.01, "L2_is_weight_decay": False},
    {"L2": 0.1, "L2_is_weight_decay": False, "grad_clip": 0.0, "use_averages": False},
    {"grad_clip": 0.5, "eps": 1e-3, "beta1": 0.5, "beta2": 0.99},
    {"L2": 0.01, "lr_scale": 0.5},
    {"L2": 30.0},  # which turns weights around: learn_rate times L2 is above 1
]


def schedules() -> dict[str, Any]:
    if not hasattr(api, "Schedule"):  # before thinc 9
        return {"learn_rate": api.warmup_linear(0.05, 5, 40), "L2": api.decaying(0.1, 0.01)}
    return {
        "learn_rate": api.warmup_linear(0.05, 5, 40),
        "L2": api.decaying(0.1, 0.01),
        "beta1": api.constant_then(0.5, 3, api.constant(0.9)),
    }


def arrays(rng: np.random.Generator, shapes: Any = SHAPES) -> list[np.ndarray]:
    return [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]


def run(opt: Any, steps: int = 50, lr_scale: float = 1.0, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = arrays(rng)
    for k in range(steps):
        for i, w in enumerate(weights):
            if i == 2 and k % 7 == 3:
                continue  # a parameter without a gradient
            gradient = arrays(rng, [w.shape])[0] * 3
            found, zeroed = opt((i, "w"), w, gradient, lr_scale=lr_scale)
            assert np.shares_memory(found, w)
            assert np.shares_memory(zeroed, gradient)
        opt.step_schedules()
        assert not zeroed.any()
    return weights


def assert_near(ours_: Any, theirs_: Any, tolerance: float = 3e-6) -> None:
    """Rounding adds up over fifty steps, most of all that of the number a decay multiplies by."""
    scale = np.maximum(1, np.abs(theirs_))
    assert np.all(np.abs(ours_ - theirs_) <= tolerance * scale)


def assert_same_state(mine: Any, other: Any) -> None:
    assert mine.nr_update == other.nr_update
    for name in ("mom1", "mom2", "averages"):
        one, two = getattr(mine, name), getattr(other, name)
        assert (one is None) == (two is None)
        if one is not None:
            assert one.keys() == two.keys()
            for key in one:
                assert one[key].shape == two[key].shape
                assert_near(one[key], two[key])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("rule", ["Adam", "SGD"])
def test_50_steps_are_thincs(rule: str, settings: dict[str, Any]) -> None:
    settings = dict(settings)
    lr_scale = settings.pop("lr_scale", 1.0)
    if rule == "SGD":
        settings = {k: v for k, v in settings.items() if k not in ("eps", "beta1", "beta2")}
    mine = getattr(ours, rule)(0.05, **settings)
    other = getattr(theirs, rule)(0.05, **settings)
    assert isinstance(mine, theirs.Optimizer)
    for w, v in zip(run(mine, lr_scale=lr_scale), run(other, lr_scale=lr_scale), strict=True):
        assert_near(w, v)
    assert_same_state(mine, other)


def test_schedules() -> None:
    mine, other = ours.Adam(**schedules()), theirs.Adam(**schedules())
    for w, v in zip(run(mine), run(other), strict=True):
        assert_near(w, v)
    assert_same_state(mine, other)
    rates = (ours.SGD([0.5, 0.25, 0.125]), theirs.SGD([0.5, 0.25, 0.125]))
    for w, v in zip(run(rates[0]), run(rates[1]), strict=True):
        assert_near(w, v)


def test_a_rule_that_becomes_another() -> None:
    """With beta1 at 0 thinc's step is SGD's, whatever there is of moments."""

    def beta1(step: int, **_: Any) -> float:
        return 0.0 if step < 10 or 20 <= step < 30 else 0.9

    def beta2(step: int, **_: Any) -> float:
        return 0.0 if step < 10 or 20 <= step < 30 else 0.999

    if not hasattr(api, "Schedule"):
        pytest.skip("needs the schedules of thinc 9")
    settings = {
        "beta1": api.Schedule("b1", lambda _, step, **a: beta1(step, **a)),
        "beta2": api.Schedule("b2", lambda _, step, **a: beta2(step, **a)),
    }
    mine, other = ours.Adam(0.05, **settings), theirs.Adam(0.05, **settings)
    for w, v in zip(run(mine), run(other), strict=True):
        assert_near(w, v)
    assert_same_state(mine, other)


def test_kernels_take_all_but_the_first_step_of_a_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = ours.Adam(0.05, L2=0.01)
    calls = []
    by_thinc = ours.Optimizer._step_by_thinc
    monkeypatch.setattr(
        ours.Optimizer,
        "_step_by_thinc",
        lambda self, key, *rest: (calls.append(key), by_thinc(self, key, *rest))[1],
    )
    run(mine, steps=5)
    assert calls == [(i, "w") for i in range(len(SHAPES))]


def odd(w: np.ndarray, gradient: np.ndarray, kind: str) -> tuple[Any, Any]:
    if kind == "strided gradient":
        wide = np.zeros((*gradient.shape, 2), np.float32)
        wide[..., 0] = gradient
        return w, wide[..., 0]
    if kind == "float64 gradient":
        return w, gradient.astype(float)
    if kind == "another array each time":
        return w.copy(), gradient
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind", ["strided gradient", "float64 gradient", "another array each time"]
)
def test_what_kernels_cant_take_thinc_does(kind: str) -> None:
    if kind == "float64 gradient" and not hasattr(api, "Schedule"):
        pytest.skip("an error in this thinc")
    rng = np.random.default_rng(3)
    start, grads = arrays(rng, [(4, 5)])[0], [arrays(rng, [(4, 5)])[0] for _ in range(12)]
    ends = []
    for opt in (ours.SGD(0.05, L2=0.1), theirs.SGD(0.05, L2=0.1)):
        w = start.copy()
        for k, gradient in enumerate(grads):
            given = odd(w, gradient.copy(), kind) if k % 3 == 2 else (w, gradient.copy())
            w, _ = opt((1, "w"), *given)
            opt.step_schedules()
        ends.append(w)
        assert opt.nr_update[1, "w"] == 12
    assert_near(*ends)


def test_one_array_under_two_keys() -> None:
    ends = []
    for opt in (ours.Adam(0.05), theirs.Adam(0.05)):
        rng = np.random.default_rng(5)
        w, other = arrays(rng, [7, 9])
        for _ in range(20):
            for key, x in ((1, w), (2, w), (3, other)):
                opt((key, "w"), x, arrays(rng, [x.shape])[0])
            opt.step_schedules()
        ends.append(np.concatenate([w, other]))
    assert_near(*ends)


def test_an_error_is_thincs_and_nothing_was_counted_twice() -> None:
    mine = ours.Adam(0.05)
    w = np.ones(4, np.float32)
    for _ in range(3):
        mine((1, "w"), w, np.ones(4, np.float32))
    left = w.copy()
    with pytest.raises(ValueError, match="shape|broadcast"):
        mine((1, "w"), w, np.ones(5, np.float32))
    np.testing.assert_array_equal(w, left)


def test_state_that_was_put_in_the_place_of_another() -> None:
    ends = []
    for opt in (ours.Adam(0.05), theirs.Adam(0.05)):
        rng = np.random.default_rng(7)
        w = arrays(rng, [33])[0]
        for k in range(30):
            if k in (10, 20):
                opt.mom1[1, "w"] = opt.mom1[1, "w"] * np.float32(0.5)
                opt.averages[1, "w"] = opt.averages[1, "w"].copy()
            opt((1, "w"), w, arrays(rng, [33])[0])
        ends.append(np.concatenate([w, opt.mom1[1, "w"], opt.averages[1, "w"]]))
    assert_near(*ends)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_copies_are_apart(copied: Any) -> None:
    mine, other = ours.Adam(0.05), theirs.Adam(0.05)
    run(mine), run(other)
    twin, left = copied(mine), {key: array.copy() for key, array in mine.mom1.items()}
    for w, v in zip(run(twin, seed=1), run(other, seed=1), strict=True):
        assert_near(w, v)
    assert_same_state(twin, other)
    for key, array in left.items():
        np.testing.assert_array_equal(mine.mom1[key], array)


@pytest.mark.parametrize("L2_is_weight_decay", [False, True])
@pytest.mark.parametrize("kind", ["read-only", "too short", "of one row", "of float64"])
def test_gradients_that_thinc_refuses_or_takes(kind: str, L2_is_weight_decay: bool) -> None:
    """What it raises is raised, and nothing else has happened than there."""
    ends = []
    for opt in (
        ours.SGD(0.05, L2=0.1, L2_is_weight_decay=L2_is_weight_decay),
        theirs.SGD(0.05, L2=0.1, L2_is_weight_decay=L2_is_weight_decay),
    ):
        w = np.ones((4, 5), np.float32)
        for _ in range(3):
            opt((1, "w"), w, np.ones((4, 5), np.float32))
        gradient: Any = {
            "read-only": np.ones((4, 5), np.float32),
            "too short": np.ones((4, 4), np.float32),
            "of one row": np.ones((1, 5), np.float32),
            "of float64": np.ones((4, 5)),
        }[kind]
        gradient.flags.writeable = kind != "read-only"
        raised = None
        try:
            opt((1, "w"), w, gradient)
        except (TypeError, ValueError) as error:
            raised = type(error)
        ends.append((raised, opt.nr_update[1, "w"], w))
    assert ends[0][:2] == ends[1][:2]
    assert_near(ends[0][2], ends[1][2])


def test_averages_that_begin_and_end() -> None:
    ends = []
    for opt in (ours.Adam(0.05, use_averages=False), theirs.Adam(0.05, use_averages=False)):
        rng = np.random.default_rng(7)
        w = arrays(rng, [33])[0]
        for k in range(40):
            if k in (10, 30):
                opt.averages = {}
            if k == 20:
                opt.averages = None
            opt((1, "w"), w, arrays(rng, [33])[0])
        ends.append(np.concatenate([w, opt.averages[1, "w"]]))
    assert_near(*ends)


def test_settings_that_thinc_doesnt_ask_for() -> None:
    def refused(*_: Any, **__: Any) -> float:
        raise AssertionError("asked")

    for module in (ours, theirs):
        opt = module.SGD(0.5, grad_clip=0.0, use_averages=False)
        opt.eps = refused
        opt.grad_clip = (
            api.Schedule("none", lambda *_, **__: None) if hasattr(api, "Schedule") else None
        )
        w = np.zeros(2, np.float32)
        for _ in range(3):
            opt((1, "w"), w, np.ones(2, np.float32))
        assert w.tolist() == [-1.5] * 2


def test_no_limit_is_none() -> None:
    mine, other = ours.Adam(0.05, grad_clip=np.inf), theirs.Adam(0.05, grad_clip=np.inf)
    for w, v in zip(run(mine), run(other), strict=True):
        assert_near(w, v)
    assert mine._kernels


def test_a_subclass_with_a_step_of_its_own() -> None:
    class Mine(ours.Optimizer):  # type: ignore[misc, name-defined]
        def _adam(self, ops: Any, weights: Any, gradient: Any, *rest: Any) -> Any:
            weights += 1
            return weights, gradient

    opt = Mine(0.1, use_averages=False)
    w = np.zeros(3, np.float32)
    for _ in range(4):
        opt((1, "w"), w, np.ones(3, np.float32))
    assert w.tolist() == [4.0] * 3


@pytest.mark.parametrize("kind", ["views", "swapped", "resized"])
def test_other_arrays_under_the_same_key(kind: str) -> None:
    ends = []
    for opt in (ours.SGD(0.05, L2=0.1), theirs.SGD(0.05, L2=0.1)):
        rng = np.random.default_rng(11)
        w, v = arrays(rng, [12, 12])
        for k in range(12):
            if kind == "views":
                w, v = w[:], v.reshape(12)
            elif kind == "swapped":
                w, v = v, w
            elif k == 6:
                w, opt.averages[1, "w"] = np.ones(20, np.float32), np.ones(20, np.float32)
            for key, x in ((1, w), (2, v)):
                opt((key, "w"), x, arrays(rng, [x.shape])[0])
        ends.append(np.concatenate([w, v]))
    assert_near(*ends)


def test_threads_with_parameters_of_their_own() -> None:
    opt = ours.SGD(1.0, grad_clip=0.0, use_averages=False)
    weights = [np.zeros(4, np.float32) for _ in range(4)]

    def step_many(k: int) -> None:
        for _ in range(2000):
            opt((k, "w"), weights[k], np.ones(4, np.float32), lr_scale=0.25 * (k + 1))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(step_many, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert [w.tolist() for w in weights] == [[-500.0 * (k + 1)] * 4 for k in range(4)]


def test_one_that_cant_be_adopted_costs_little() -> None:
    """Among many others: they are adopted without it."""
    opt = ours.SGD(0.5, use_averages=False, grad_clip=0.0)
    weights = [np.zeros(3, np.float32) for _ in range(64)]
    weights.append(weights[40])  # two keys for one
    for _ in range(3):
        for k, w in enumerate(weights):
            opt((k, "w"), w, np.ones(3, np.float32))
    [kernels] = opt._kernels.values()
    assert len(kernels._places) == 64
    assert [w[0] for w in weights[:41]] == [-1.5] * 40 + [-3.0]


def model() -> Any:
    made = api.chain(api.Relu(nO=16, nI=8), api.Relu(nO=16, nI=16), api.Softmax(nO=3, nI=16))
    api.fix_random_seed(0)
    return made.initialize()


def train(opt: Any, net: Any, steps: int) -> list[float]:
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        x = arrays(rng, [(32, 8)])[0]
        labels = np.eye(3, dtype=np.float32)[np.argmax(x[:, :3], axis=1)]
        guesses, back = net.begin_update(x)
        back(guesses - labels)
        losses.append(float(((guesses - labels) ** 2).sum()))
        net.finish_update(opt)
        opt.step_schedules()
    return losses


def test_a_model_that_is_restored_keeps_its_optimizers_state() -> None:
    losses = []
    for opt in (ours.Adam(0.01, L2=0.01), theirs.Adam(0.01, L2=0.01)):
        net = model()
        begin = train(opt, net, 20)
        net.from_bytes(net.to_bytes())  # its parameters are other arrays from here on
        losses.append(begin + train(opt, net, 20))
        with net.use_params(opt.averages):
            losses[-1].append(float(net.predict(np.ones((1, 8), np.float32)).max()))
    assert losses[0][-2] < 0.5 * losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:.*autocast:FutureWarning")  # thinc's own use of it
def test_a_torch_model_inside_thincs() -> None:
    """Its shim hands over a new array each time, and zeroes gradients itself."""
    torch = peer("torch")
    losses = []
    for opt in (ours.Adam(0.05), theirs.Adam(0.05)):
        torch.manual_seed(0)
        net = api.PyTorchWrapper(torch.nn.Linear(3, 2)).initialize()
        rng = np.random.default_rng(0)
        x, wanted = arrays(rng, [(16, 3), (16, 2)])
        for _ in range(30):
            found, back = net.begin_update(x)
            back(found - wanted)
            net.finish_update(opt)
            opt.step_schedules()
        losses.append(float(((found - wanted) ** 2).sum()))
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("rule", ["Adam", "SGD"])
def test_a_config_names_it(rule: str) -> None:
    config = {"@optimizers": f"fusedopt.{rule}.v1", "learn_rate": 0.25}
    opt = api.registry.resolve({"optimizer": config})["optimizer"]
    assert type(opt) is ours.Optimizer
    w = np.zeros(2, np.float32)
    for _ in range(2):
        opt((1, "w"), w, np.full(2, 0.5, np.float32))
        opt.step_schedules()
    assert w.tolist() == pytest.approx([-0.5 if rule == "Adam" else -0.25] * 2, abs=1e-5)


def test_radam_is_thincs_own() -> None:
    """The core hasn't that rule: the front says so by stepping as thinc does, bit for bit."""
    for w, v in zip(
        run(ours.Optimizer(0.05, use_radam=True)),
        run(theirs.Optimizer(0.05, use_radam=True)),
        strict=True,
    ):
        np.testing.assert_array_equal(w, v)


def test_thincs_own_tests_pass_with_it() -> None:
    tests = Path(theirs.__file__).parent / "tests"
    if not (tests / "test_optimizers.py").exists():
        pytest.skip("this thinc brings no tests")
    pass_their_own(tests / "test_optimizers.py", "thinc_with_ours")
