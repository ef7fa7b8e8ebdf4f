"""Contract: every form means what docs/forms.md says, and what has no meaning is refused.

What the libraries that publish them do is tested beside each library.
"""

import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import VELOCITY, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import _core, reference

SHAPES = [(3, 5), 257, 1000]
STEPS = 40
PAGE = Path(__file__).parent.parent / "docs" / "forms.md"


def rate(step: int) -> float:
    return 0.02 / (1 + 0.07 * step)


def run(opt: Any, dtype: type, lr: Any = rate) -> list[np.ndarray]:
    for step in range(STEPS):
        opt.param_groups[0]["lr"] = lr(step)
        opt.step(random_arrays(1 + step, dtype, SHAPES))
    params: list[np.ndarray] = list(opt.param_groups[0]["params"])
    return params


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    tolerance = 1e-5 if actual[0].dtype == np.float32 else 1e-13
    for p, q in zip(actual, expected, strict=True):
        np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


# optimizer, options, what the error says
MEANINGLESS: list[tuple[str, dict[str, Any], str]] = [
    ("SGD", {"nesterov": True}, "nesterov: needs a momentum above 0, got momentum=0.0"),
    (
        "SGD",
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        "nesterov: needs a dampening of 0, got dampening=0.1",
    ),
    (
        "SGD",
        {**VELOCITY, "dampening": 0.1},
        "velocity: needs a dampening of 0, got dampening=0.1",
    ),
    (
        "SGD",
        {**VELOCITY, "momentum_init": "gradient"},
        "momentum_init: a velocity starts from zero, got 'gradient'",
    ),
    (
        "SGD",
        {"momentum_init": "zeros"},
        "momentum_init: needs a momentum above 0, got 'zeros' with momentum=0.0",
    ),
    ("SGD", {"momentum_init": "gradient"}, "momentum_init: needs a momentum above 0, got"),
    (
        "Adam",
        {"eps_hat": True, "eps_root": 1e-3},
        "eps_hat: needs an eps_root of 0, got eps_root=0.001",
    ),
    (
        "AdamW",
        {"eps_hat": True, "bias_correction": False},
        "eps_hat: needs bias correction, got bias_correction=False",
    ),
    (
        "Adam",
        {"amsgrad_max": "corrected"},
        "amsgrad_max: 'corrected' needs amsgrad=True, got False",
    ),
    (
        "AdamW",
        {"amsgrad": True, "amsgrad_max": "corrected", "bias_correction": False},
        "amsgrad_max: 'corrected' needs bias_correction=True, got False",
    ),
    (
        "Adam",
        {"amsgrad": True, "amsgrad_max": "corrected", "eps_hat": True},
        "amsgrad_max: 'corrected' needs eps_hat=False, got True",
    ),
]


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
@pytest.mark.parametrize(("optimizer", "options", "text"), MEANINGLESS)
def test_no_meaning_is_an_error(optimizer: str, options: dict, text: str, module: Any) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        getattr(module, optimizer)([np.ones(3)], **options)


@pytest.mark.parametrize(
    ("optimizer", "options", "name", "value"),
    [
        ("SGD", VELOCITY, "velocity", False),
        ("SGD", {"momentum": 0.9}, "velocity", True),
        ("RMSprop", VELOCITY, "velocity", False),
        ("Adam", {"amsgrad": True}, "amsgrad_max", "corrected"),
        ("AdamW", {"amsgrad": True, "amsgrad_max": "corrected"}, "amsgrad_max", "raw"),
    ],
)
def test_what_state_means_lasts(optimizer: str, options: dict, name: str, value: Any) -> None:
    opt = getattr(fusedopt, optimizer)([np.ones(3)], **options)
    with pytest.raises(ValueError, match=f"^{name}: can't be changed, as it says what the state"):
        opt.param_groups[0][name] = value
    opt.param_groups[0][name] = opt.param_groups[0][name]  # the same is no change
    opt.step([np.ones(3)])


def test_adamw_is_the_decoupled_one() -> None:
    with pytest.raises(TypeError, match="decoupled_weight_decay"):
        fusedopt.AdamW([np.ones(3)], decoupled_weight_decay=True)
    opt = fusedopt.AdamW([np.ones(3)])
    assert opt.param_groups[0]["decoupled_weight_decay"] is True
    text = "^decoupled_weight_decay: expected True, got False: it is what AdamW means; for an L2"
    with pytest.raises(ValueError, match=text):
        opt.param_groups[0]["decoupled_weight_decay"] = False


@every_dtype
def test_adamw_is_adam_with_decoupled_weight_decay(dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    options = {"weight_decay": 0.1, "amsgrad": True}
    ours = fusedopt.Adam(params, decoupled_weight_decay=True, **options)
    theirs = fusedopt.AdamW(copies(params), **options)
    run(ours, dtype), run(theirs, dtype)
    assert_same(ours, theirs)


@every_dtype
@pytest.mark.parametrize("nesterov", [False, True])
def test_velocity_is_the_default_form_while_lr_is_constant(nesterov: bool, dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    ends = {}
    for changing in (False, True):
        lr = rate if changing else lambda step: 0.01
        for velocity in (False, True):
            opt = fusedopt.SGD(copies(params), momentum=0.9, nesterov=nesterov, velocity=velocity)
            ends[changing, velocity] = run(opt, dtype, lr)
    assert_close(ends[False, True], ends[False, False])
    assert np.max(abs(ends[True, True][2] - ends[True, False][2])) > 0.01


@every_dtype
def test_without_dampening_both_beginnings_of_momentum_are_one(dtype: type) -> None:
    params = random_arrays(0, dtype, SHAPES)
    ends = [
        run(fusedopt.SGD(copies(params), momentum=0.9, momentum_init=init), dtype)
        for init in (None, "gradient", "zeros")
    ]
    for p, q, r in zip(*ends, strict=True):
        np.testing.assert_array_equal(p, q)
        np.testing.assert_array_equal(p, r)


@every_dtype
def test_a_velocity_lives_on_while_momentum_is_zero(dtype: type) -> None:
    """v = 0*v - lr*g: where momentum is annealed from 0, the steps of the past aren't lost."""
    params = random_arrays(0, dtype, SHAPES)
    for cls in ("SGD", "RMSprop"):
        case = Case(cls, {"momentum": 0, "velocity": True})
        ours, theirs = case.make(copies(params)), case.make_reference(copies(params))
        for step in range(6):
            for opt in (ours, theirs):
                opt.param_groups[0]["momentum"] = (0, 0.5, 0.9)[step % 3]
                opt.step(random_arrays(1 + step, dtype, SHAPES))
        assert_same(ours, theirs)
    p = np.zeros(1)
    opt = fusedopt.SGD([p], lr=1, velocity=True)
    opt.step([np.ones(1)])
    opt.param_groups[0]["momentum"] = 0.5
    opt.step([np.ones(1)])
    np.testing.assert_array_equal(p, -1 - (0.5 + 1))


def test_decoupled_weight_decay_without_gradient() -> None:
    for cls, options in [
        (fusedopt.SGD, {}),
        (fusedopt.SGD, {"momentum": 0.9}),
        (fusedopt.SGD, VELOCITY),
        (fusedopt.RMSprop, {}),
        (fusedopt.RMSprop, {"momentum": 0.9, "centered": True}),
        (fusedopt.Adam, {}),
    ]:
        p = np.array([1.0, -2.0])
        opt = cls([p], lr=0.1, weight_decay=0.5, decoupled_weight_decay=True, **options)
        opt.step([np.zeros(2)])
        np.testing.assert_array_equal(p, [0.95, -1.9])


# The equations of papers, in float64, where no library of those we compare with has them.


def test_adam_without_bias_correction() -> None:
    """Also Reddi, Kale and Kumar's AMSGrad: algorithm 2 of their paper, with eps added."""
    for amsgrad in (False, True):
        params = random_arrays(0, np.float64, SHAPES)
        expected = copies(params)
        m, v, w = ([np.zeros_like(p) for p in params] for _ in range(3))
        opt = fusedopt.Adam(params, amsgrad=amsgrad, bias_correction=False, betas=(0.8, 0.99))
        for step in range(STEPS):
            opt.param_groups[0]["lr"] = rate(step)
            grads = random_arrays(1 + step, np.float64, SHAPES)
            opt.step(grads)
            for i, g in enumerate(grads):
                m[i] = 0.8 * m[i] + 0.2 * g
                v[i] = 0.99 * v[i] + 0.01 * g**2
                w[i] = np.maximum(w[i], v[i]) if amsgrad else v[i]
                expected[i] -= rate(step) * m[i] / (np.sqrt(w[i]) + 1e-8)
        assert_close(params, expected)


def test_the_efficient_order_of_adam_is_the_other_with_another_eps() -> None:
    """Section 2 of the paper: eps_hat = eps sqrt(1 - beta2^t)."""
    params = random_arrays(0, np.float64, SHAPES)
    ours = fusedopt.Adam(params, eps_hat=True)
    theirs = fusedopt.Adam(copies(params))
    for step in range(STEPS):
        theirs.param_groups[0]["eps"] = 0.01
        ours.param_groups[0]["eps"] = 0.01 * np.sqrt(1 - 0.999 ** (step + 1))
        for opt in (ours, theirs):
            opt.step(random_arrays(1 + step, np.float64, SHAPES))
    assert_close(params, list(theirs.param_groups[0]["params"]))


@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop"])
def test_without_eps(optimizer: str) -> None:
    """0/0 where all gradients were zero, and nowhere else."""
    p = np.ones(3, np.float32)
    opt = getattr(fusedopt, optimizer)([p], eps=0)
    opt.step([np.array([1, 0, -1], np.float32)])
    assert list(np.isnan(p)) == [False, True, False]
    p[1] = 1
    opt.param_groups[0]["eps_root"] = 1e-12
    opt.step([np.array([1, 0, -1], np.float32)])
    assert np.isfinite(p).all()


@every_dtype
def test_initial_square_avg(dtype: type) -> None:
    """State that is made later starts from it, too, and only the one it is meant for."""
    opt = fusedopt.RMSprop(
        [np.ones(3, dtype), np.ones(70_000, dtype)], alpha=0.5, eps=0, momentum=0.5
    )
    opt.param_groups[0].update(centered=True, initial_square_avg=3)
    opt.step([None, np.ones(70_000, dtype)])
    np.testing.assert_array_equal(opt.state[1]["square_avg"], 2)
    np.testing.assert_array_equal(opt.state[1]["grad_avg"], 0.5)
    opt.param_groups[0]["initial_square_avg"] = 7
    opt.step([np.ones(3, dtype), np.ones(70_000, dtype)])
    np.testing.assert_array_equal(opt.state[0]["square_avg"], 4)
    np.testing.assert_array_equal(opt.state[1]["square_avg"], 1.5)


# Looking ahead.


def quadratic(params: list[np.ndarray]) -> list[np.ndarray]:
    """Return the gradient of a quadratic function with different curvatures."""
    return [p * np.linspace(0.1, 3, p.size, dtype=p.dtype).reshape(p.shape) for p in params]


@every_dtype
def test_lookahead_is_the_reference_and_nesterovs_equations(dtype: type) -> None:
    params = random_arrays(0, dtype, [*range(66), 70_001])
    ours, theirs = fusedopt.SGD(params, **VELOCITY), reference.SGD(copies(params), **VELOCITY)
    x = [p.astype(np.float64) for p in params]
    v = [np.zeros_like(p) for p in x]
    for step in range(STEPS):
        for opt in (ours, theirs):
            opt.param_groups[0]["lr"] = rate(step)
            arrays = list(opt.param_groups[0]["params"])
            before = copies(arrays)
            with opt.lookahead():
                grads = quadratic(arrays)
            for p, q in zip(arrays, before, strict=True):
                np.testing.assert_array_equal(p.view(np.uint8), q.view(np.uint8))
            opt.step(grads)
        ahead = quadratic([p + 0.9 * u for p, u in zip(x, v, strict=True)])
        v = [0.9 * u - rate(step) * g for u, g in zip(v, ahead, strict=True)]
        x = [p + u for p, u in zip(x, v, strict=True)]
    assert_same(ours, theirs)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    for p, q in zip(params, x, strict=True):
        np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


def test_lookahead_ends_where_nesterov_without_it_is_ahead() -> None:
    """The known identity: nesterov=True keeps the parameters where lookahead() puts them."""
    params = random_arrays(0, np.float64, SHAPES)
    ours = fusedopt.SGD(copies(params), lr=0.01, **VELOCITY)
    theirs = fusedopt.SGD(params, lr=0.01, nesterov=True, **VELOCITY)
    for _ in range(STEPS):
        with ours.lookahead():
            grads = quadratic(list(ours.param_groups[0]["params"]))
        ours.step(grads)
        theirs.step(quadratic(params))
    with ours.lookahead():
        assert_close(params, list(ours.param_groups[0]["params"]))


def fail_inside(opt: fusedopt.SGD, params: list[np.ndarray]) -> None:
    with opt.lookahead():
        params[0][...] = 7
        params[1].flags.writeable = False
        raise KeyError("reason")


@pytest.mark.parametrize("threads", [1, 3])
def test_lookahead_puts_back_whatever_happens(threads: int) -> None:
    """Bit for bit: also subnormals, infinities, NaN and -0, and what the block itself wrote."""
    fusedopt.set_num_threads(threads)
    _core.set_grid(chunk=64, serial_below=0)
    special = np.array([1e-40, -1e-45, np.inf, -np.inf, np.nan, -0.0, 0.0, 1.5], np.float32)
    params = [np.resize(special, 1001), np.ones((2, 3)), np.ones(4)]
    opt = fusedopt.SGD({"a": params[0], "b": params[1], "c": params[2]}, lr=0.1, **VELOCITY)
    opt.step({"a": np.ones(1001, np.float32), "b": np.ones((2, 3)), "c": None})
    params[0][...] = np.resize(special, 1001)
    before = copies(params)
    with opt.lookahead():
        assert params[1][0, 0] == before[1][0, 0] - 0.09
        assert (params[2] == before[2]).all()  # it has no velocity yet
    for _ in range(2):
        with pytest.raises(KeyError, match="reason"):
            fail_inside(opt, params)
        params[1].flags.writeable = True
        for p, q in zip(params[:2], before, strict=False):
            assert p.tobytes() == q.tobytes()


def test_no_step_and_no_second_look_inside() -> None:
    p = np.ones(3)
    opt = fusedopt.SGD([p], lr=0.1, **VELOCITY)
    opt.step([np.ones(3)])
    before, velocity = p.copy(), opt.state[0]["momentum_buffer"].copy()
    with opt.lookahead():
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"^step\(\): not inside lookahead\(\), where"):
                opt.step([np.ones(3)])
        with pytest.raises(RuntimeError, match=r"^add_param_group\(\): not inside lookahead\(\)"):
            opt.add_param_group({"params": [np.ones(2)]})
        with pytest.raises(RuntimeError, match=r"^lookahead\(\): not inside lookahead\(\)"):
            opt.lookahead().__enter__()
        opt.param_groups[0]["lr"] = 0.5
    np.testing.assert_array_equal(p, before)
    np.testing.assert_array_equal(opt.state[0]["momentum_buffer"], velocity)
    opt.step([np.ones(3)])
    np.testing.assert_array_equal(opt.state[0]["momentum_buffer"], 0.9 * velocity - 0.5)
    assert opt.state[0]["step"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {**VELOCITY, "nesterov": True},
        {"velocity": True},
    ],
)
def test_only_a_velocity_looks_ahead(options: dict) -> None:
    opt = fusedopt.SGD([np.ones(3)], **options)
    text = r"^lookahead\(\): needs velocity=True, nesterov=False and a momentum above 0, got"
    with pytest.raises(ValueError, match=text), opt.lookahead():
        pass
    assert not hasattr(fusedopt.Adam, "lookahead")


@pytest.mark.parametrize("module", [fusedopt, reference])
def test_a_velocity_without_momentum(module: Any) -> None:
    """As a momentum may be assigned later: then lookahead is by that one."""
    ahead = module.SGD([np.ones(3)], lr=0.5, velocity=True, momentum_init="zeros")
    for opt in (ahead, module.RMSprop([np.ones(3)], lr=0.5, velocity=True)):
        opt.step([np.ones(3)])
        (p,) = opt.param_groups[0]["params"]
        assert (opt.state[0]["momentum_buffer"] == p - 1).all()
    for momentum in (0.25, 1.0, 0.5):
        ahead.param_groups[0]["momentum"] = momentum
        with ahead.lookahead():
            assert (ahead.param_groups[0]["params"][0] == 0.5 - momentum * 0.5).all()


def test_lookahead_moves_all_or_none() -> None:
    params = [np.ones(3), np.ones(4)]
    opt = fusedopt.SGD(params, lr=0.1, **VELOCITY)
    opt.step([np.ones(3), np.ones(4)])
    before = copies(params)
    params[1].flags.writeable = False
    with pytest.raises(ValueError, match=r"^params\[1\]: .*writeable"), opt.lookahead():
        pytest.fail("the block was entered")
    params[1].flags.writeable = True
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)
    opt.step([np.ones(3), np.ones(4)])  # and it isn't stuck inside


def test_what_does_not_move_may_be_frozen() -> None:
    params = [np.ones(3), np.ones(4)]
    opt = fusedopt.SGD(params, lr=0.1, **VELOCITY)
    params[1].flags.writeable = False
    opt.step([np.ones(3), None])
    with opt.lookahead():
        np.testing.assert_array_equal(params[0], 1 - 0.1 - 0.9 * 0.1)
    np.testing.assert_array_equal(params[0], 0.9)
    params[1].flags.writeable = True
    opt.step([np.ones(3), np.ones(4)])
    with opt.lookahead():  # now there are two velocities
        np.testing.assert_array_equal(params[1], 1 - 0.1 - 0.9 * 0.1)
    np.testing.assert_array_equal(params[1], 0.9)


def test_parameters_that_change_inside_come_back_where_they_can() -> None:
    params = [np.ones((2, 3)), np.ones(1000), np.ones(7)]
    opt = fusedopt.SGD(params, lr=0.1, **VELOCITY)
    grads = [np.ones_like(p) for p in params]
    opt.step(grads)
    before = copies(params)
    with opt.lookahead():
        params[0].shape = (6,)  # the same memory
        params[1].resize((10**6,), refcheck=False)
        params[1].resize((1000,), refcheck=False)  # perhaps another
        params[2].flags.writeable = False
    params[0].shape = (2, 3)
    params[2].flags.writeable = True
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)
    text = r"^params\[1\]: can't be put back from where lookahead\(\) moved it, as it was resized"
    with pytest.raises(ValueError, match=text), opt.lookahead():
        params[1].resize((999,), refcheck=False)
    for k in (0, 2):
        np.testing.assert_array_equal(params[k], before[k])
    params[1].resize((1000,), refcheck=False)
    opt.step(grads)


def test_a_step_after_a_look_finds_parameters_that_were_moved_before_it() -> None:
    """The plan of the last step is no longer true, though the addresses it is checked by are."""
    p, g = np.ones(1000), np.ones(1000)
    opt = fusedopt.SGD([p], lr=0.1, **VELOCITY)
    for _ in range(3):
        opt.step([g])
    p.resize((10**7,), refcheck=False)
    p.resize((1000,), refcheck=False)
    others = [np.full(1000, 7.0) for _ in range(50)]  # one may be where it was
    before = p.copy()
    with opt.lookahead():
        pass
    opt.step([g])
    assert (p < before).all()
    assert all((other == 7).all() for other in others)


def test_threads_that_look_ahead_and_step_take_turns() -> None:
    """Whoever comes while the parameters are ahead is refused, and no update is lost."""
    n = 300
    p, g = np.ones(n), np.ones(n)
    opt = fusedopt.SGD([p], lr=0.1, **VELOCITY)
    opt.step([g])
    begin = time.monotonic()
    interval = sys.getswitchinterval()
    refused = [0, 0]

    def go_on() -> bool:  # until both were refused, which may take a while
        return time.monotonic() - begin < (1.0 if all(refused) else 60.0)

    def look() -> None:
        while go_on():
            try:
                with opt.lookahead():
                    sum(range(20))
            except RuntimeError:
                refused[0] += 1

    def step() -> None:
        while go_on():
            try:
                opt.step([g])
            except RuntimeError:
                refused[1] += 1

    threads = [threading.Thread(target=target) for target in (look, look, step, step)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert all(refused)
    q = np.ones(1)
    alone = fusedopt.SGD([q], lr=0.1, **VELOCITY)
    for _ in range(opt.state[0]["step"]):
        alone.step([np.ones(1)])
    np.testing.assert_array_equal(p, np.full(n, q[0]))
    np.testing.assert_array_equal(
        opt.state[0]["momentum_buffer"], np.full(n, alone.state[0]["momentum_buffer"][0])
    )


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_an_interrupt_leaves_nothing_ahead() -> None:
    """As Ctrl-C: at any moment, between the move and the block, too."""

    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    p = np.ones(20_000)
    opt = fusedopt.SGD([p], lr=0.1, **VELOCITY)
    opt.step([np.ones(20_000)])
    before, caught = p.copy(), 0
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + k % 60))
                with opt.lookahead():
                    pass
                time.sleep(0.01)
            except Interrupt:
                caught += 1
                assert (p == before).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert caught > 100
    opt.step([np.ones(20_000)])


# The page.


def rows() -> list[list[str]]:
    """Return the rows of the tables of forms."""
    found, is_form = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_form = False
        elif cells[0] == "form":
            is_form = True
        elif is_form and not cells[0].startswith("---"):
            found.append(cells)
    return found


def test_the_page_names_tests_that_exist() -> None:
    pattern = re.compile(r"`(test_\w+)\.py::(\w+)(?:\[([^\]]+)\])?`")
    for row in rows():
        found = pattern.findall(row[-1])
        assert found, row
        for module, function, form in found:
            source = (PAGE.parent.parent / "tests" / f"{module}.py").read_text("utf-8")
            assert f"def {function}(" in source, (module, function)
            assert not form or f'"{form}": Form(' in source, (module, form)


def test_every_published_form_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for module in ("optax", "keras", "scikit_learn", "autograd", "thinc"):
        source = (PAGE.parent.parent / "tests" / f"test_{module}.py").read_text("utf-8")
        for form in re.findall(r'^    "([\w-]+)": Form\(', source, re.MULTILINE):
            assert f"`test_{module}.py::test_form[{form}]`" in text, (module, form)


def test_every_spelling_on_the_page_is_accepted() -> None:
    calls = [
        call
        for row in rows()
        for call in re.findall(r"`((?:SGD|RMSprop|Adam|AdamW)\(.*?\))`", row[2])
    ]
    assert len(calls) > 15
    for call in calls:
        name, arguments = re.fullmatch(r"(\w+)\((.*)\)", call).groups()  # type: ignore[union-attr]
        values = {"a": 0.9, "mu": 0.9, "w": 0.1, "e": 1e-6, "np": np}
        options = eval(f"dict({arguments})", values)
        getattr(fusedopt, name)([np.ones(3)], **options).step([np.ones(3)])
