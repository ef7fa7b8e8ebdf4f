"""Contract: hyperparameters are checked, when given and when assigned; nothing unknown is taken."""

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import _core, functional, reference

NAN, INF = float("nan"), float("inf")
NON_NEGATIVE = "expected a finite number >= 0, got"
RATE = r"expected a number in \[0, 1\), got"

# optimizer, hyperparameter, bad values, error, text
BAD: list[tuple[str, str, list[Any], type[Exception], str]] = [
    *(
        (
            optimizer,
            name,
            [-1, -1e-300, NAN, INF, -INF, 10**400],
            ValueError,
            f"{name}: {NON_NEGATIVE}",
        )
        for optimizer, names in {
            "SGD": ["lr", "momentum", "weight_decay"],
            "RMSprop": [
                "lr",
                "eps",
                "eps_root",
                "initial_square_avg",
                "momentum",
                "weight_decay",
            ],
            "Adam": ["lr", "eps", "eps_root", "weight_decay"],
            "AdamW": ["lr", "eps", "eps_root", "weight_decay"],
        }.items()
        for name in names
    ),
    ("SGD", "dampening", [NAN, INF, -INF], ValueError, "dampening: expected a finite number, got"),
    ("RMSprop", "alpha", [-0.1, 1, 1.5, NAN, INF], ValueError, f"alpha: {RATE}"),
    ("Adam", "betas", [(1, 0.9), (NAN, 0.9), (-0.1, 0)], ValueError, rf"betas\[0\]: {RATE}"),
    ("AdamW", "betas", [(0.9, 1), (0.9, INF), [0.9, -1]], ValueError, rf"betas\[1\]: {RATE}"),
    (
        "Adam",
        "betas",
        [(0.9,), (0.9, 0.9, 0.9), ()],
        ValueError,
        "betas: expected a pair of numbers",
    ),
    (
        "Adam",
        "betas",
        [0.9, None, "ab", np.array(0.9)],
        TypeError,
        "betas: expected a pair of numbers, got",
    ),
    ("Adam", "betas", [("0.9", 0.9)], TypeError, r"betas\[0\]: expected a number in"),
    *(
        (
            optimizer,
            "lr",
            ["0.1", None, True, 1j, [0.1], np.ones(1), np.timedelta64(1, "s")],
            TypeError,
            f"lr: {NON_NEGATIVE}",
        )
        for optimizer in ("SGD", "RMSprop", "Adam", "AdamW")
    ),
    *(
        (optimizer, name, [1, 0, None, "yes"], TypeError, f"{name}: expected True or False, got")
        for optimizer, name in [
            ("SGD", "nesterov"),
            ("SGD", "maximize"),
            ("RMSprop", "centered"),
            ("SGD", "velocity"),
            ("SGD", "decoupled_weight_decay"),
            ("RMSprop", "velocity"),
            ("Adam", "amsgrad"),
            ("Adam", "bias_correction"),
            ("AdamW", "maximize"),
            ("AdamW", "eps_hat"),
        ]
    ),
    *(
        (optimizer, name, values, error, f"{name}: expected {expected}, got")
        for optimizer, name, expected in [
            ("SGD", "momentum_init", "None or 'gradient' or 'zeros'"),
            ("Adam", "amsgrad_max", "'raw' or 'corrected'"),
            ("AdamW", "amsgrad_max", "'raw' or 'corrected'"),
        ]
        for values, error in [(["ones", "", "Raw"], ValueError), ([0, True, ["raw"]], TypeError)]
    ),
]


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
@pytest.mark.parametrize(("optimizer", "name", "values", "error", "text"), BAD)
def test_bad_values(
    optimizer: str, name: str, values: list, error: type[Exception], text: str, module: Any
) -> None:
    cls = getattr(module, optimizer)
    for value in values:
        with pytest.raises(error, match=f"^{text}"):
            cls([np.ones(3)], **{name: value})
        p = np.ones(3)
        opt = cls([p])
        before = dict(opt.param_groups[0])
        with pytest.raises(error, match=f"^{text}"):
            opt.param_groups[0][name] = value
        assert dict(opt.param_groups[0]) == before
        opt.step([np.ones(3)])
        assert np.isfinite(p).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "nesterov: needs a momentum above 0, got momentum=0.0"),
        (
            {"momentum": 0.9, "dampening": 0.1},
            "nesterov: needs a dampening of 0, got dampening=0.1",
        ),
    ],
)
def test_nesterov_needs_momentum_without_dampening(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fusedopt.SGD([np.ones(3)], nesterov=True, **options)
    p = np.ones(3)
    opt = fusedopt.SGD([p], **options)
    opt.step([np.ones(3)])
    before, count = p.copy(), opt.state[0]["step"]
    opt.param_groups[0]["nesterov"] = True
    for _ in range(2):  # it stays an error until it is mended
        with pytest.raises(ValueError, match=text):
            opt.step([np.ones(3)])
    np.testing.assert_array_equal(p, before)
    assert opt.state[0]["step"] == count
    opt.param_groups[0].update(momentum=0.5, dampening=0)
    opt.step([np.ones(3)])
    assert opt.state[0]["step"] == count + 1


@pytest.mark.parametrize("name", ["learning_rate", "momentum", "step", "foreach"])
def test_unknown_keys(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        fusedopt.Adam([np.ones(3)], **{name: 0.1})
    opt = fusedopt.Adam([np.ones(3)])
    known = "lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay, "
    with pytest.raises(ValueError, match=f"^{name}: no such hyperparameter; there are {known}"):
        opt.param_groups[0][name] = 0.1
    with pytest.raises(ValueError, match=f"^{name}: no such"):
        opt.param_groups[0].update({name: 0.1})


def test_keys_are_neither_replaced_nor_removed() -> None:
    opt = fusedopt.Adam([np.ones(3)])
    with pytest.raises(
        ValueError, match="^params: to replace an optimizer's parameters, use rebind"
    ):
        opt.param_groups[0]["params"] = []
    with pytest.raises(TypeError, match="^lr: entries of a parameter group can't be removed"):
        del opt.param_groups[0]["lr"]


@pytest.mark.parametrize("lr", [np.float32(0.5), np.array(0.5), Fraction(1, 2), 0.5])
def test_numbers_of_every_kind(lr: Any) -> None:
    p = np.ones(3)
    opt = fusedopt.SGD([p], lr=lr)
    assert opt.param_groups[0]["lr"] == 0.5
    opt.step([np.ones(3)])
    assert (p == 0.5).all()
    opt.param_groups[0]["lr"] *= 2
    opt.step([np.ones(3)])
    assert (p == -0.5).all()


def test_finite_means_finite_in_the_dtype_of_the_parameters() -> None:
    text = "^lr: expected a number that is finite in float32, as parameters are, got 1e[+]39$"
    p, g = np.ones(3, np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match=text):
        fusedopt.Adam([np.ones(3), p], lr=1e39)
    with pytest.raises(ValueError, match=text):
        functional.sgd_(p, g, step=1, lr=1e39)
    opt = fusedopt.SGD([p], lr=1)
    opt.step([g])
    opt.param_groups[0]["lr"] = 1e39
    with pytest.raises(ValueError, match=text):
        opt.step([g])
    assert (p == 0).all()
    fusedopt.SGD([np.ones(3)], lr=1e39).step([np.ones(3)])


def test_a_pair_is_kept_not_shared() -> None:
    betas = [0.5, 0.75]
    opt = fusedopt.Adam([np.ones(3)], betas=betas)
    betas[0] = 2
    assert opt.param_groups[0]["betas"] == (0.5, 0.75)


def test_signatures_are_torchs() -> None:
    """Positional arguments come in torch's order; what torch has as keywords are keywords."""
    opt = fusedopt.SGD([np.ones(3)], 0.1, 0.9, 0.0, 0.2, True, maximize=True)
    values = list(opt.param_groups[0].hyperparameters().values())
    assert values == [0.1, 0.9, 0, 0.2, True, True, False, None, False, None]
    opt = fusedopt.RMSprop([np.ones(3)], 0.1, 0.9, 1e-3, 0.2, 0.5, True)
    assert list(opt.param_groups[0].hyperparameters().values())[:6] == [
        0.1,
        0.9,
        1e-3,
        0.2,
        0.5,
        True,
    ]
    for cls in (fusedopt.Adam, fusedopt.AdamW):
        opt = cls([np.ones(3)], 0.1, (0.8, 0.9), 1e-3, 0.2, True)
        values = list(opt.param_groups[0].hyperparameters().values())
        assert values[:6] == [0.1, (0.8, 0.9), 1e-3, 0.2, True, False]
        assert values[6:] == [cls is fusedopt.AdamW, True, 0, False, "raw", None]
        with pytest.raises(TypeError):
            cls([np.ones(3)], 0.1, (0.8, 0.9), 1e-3, 0.2, True, True)


def test_repr() -> None:
    opt = fusedopt.AdamW({"w": np.ones((3, 4), np.float32), "b": np.ones(4)}, lr=0.5)
    assert repr(opt) == (
        "AdamW(lr=0.5, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01, amsgrad=False, "
        "maximize=False, decoupled_weight_decay=True, bias_correction=True, eps_root=0.0, "
        "eps_hat=False, amsgrad_max='raw', ema_decay=None; 2 arrays, 16 elements, float32/float64)"
    )
    assert repr(opt.param_groups[0]).startswith("ParamGroup(lr=0.5, ")
    assert repr(fusedopt.SGD([])).endswith("; 0 arrays, 0 elements)")


def test_the_base_class_is_no_optimizer() -> None:
    with pytest.raises(NotImplementedError, match="Optimizer is a base class"):
        fusedopt.Optimizer([np.ones(3)])


def test_functional_checks_its_hyperparameters() -> None:
    x = [np.ones(3) for _ in range(4)]
    bad = [
        (functional.sgd_, x[:2], {"step": 1, "lr": -1}, "lr"),
        (functional.sgd_, x[:2], {"step": 1, "lr": 1, "dampening": NAN}, "dampening"),
        (functional.rmsprop_, x[:3], {"lr": 1, "alpha": 1}, "alpha"),
        (functional.adam_, x, {"step": 1, "lr": 1, "beta1": 1}, "beta1"),
        (functional.adam_, x, {"step": 1, "lr": 1, "beta2": -1}, "beta2"),
        (functional.adamw_, x, {"step": 1, "lr": 1, "eps": INF}, "eps"),
        (functional.adamw_, x, {"step": 0, "lr": 1}, "step"),
        (functional.adam_, x, {"step": 2**63, "lr": 1}, "step"),
        (functional.adam_, x, {"step": 10**5000, "lr": 1}, "step"),
        (functional.adam_, x, {"step": -(10**5000), "lr": 1}, "step"),
    ]
    for function, arrays, options, name in bad:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            function(*arrays, **options)
    for step in (1.0, "1", None, True):
        with pytest.raises(TypeError, match="^step: expected an int, got"):
            functional.adam_(*x, step=step, lr=1)
    with pytest.raises(TypeError, match="^maximize: expected True or False"):
        functional.adam_(*x, step=1, lr=1, maximize=1)
    for missing in range(4):
        arrays = [None if k == missing else array for k, array in enumerate(x)]
        name = ["params", "grads", "exp_avgs", "exp_avg_sqs"][missing]
        with pytest.raises(TypeError, match=f"^{name}: expected an array or a list .*, got None"):
            functional.adam_(*arrays, step=1, lr=1)
    assert all((array == 1).all() for array in x)


def test_the_largest_float32_is_finite_in_it_and_the_next_number_is_not() -> None:
    largest = float(np.finfo(np.float32).max)
    p, g = np.zeros(1, np.float32), np.full(1, -1, np.float32)
    opt = fusedopt.SGD([p], lr=largest)
    opt.step([g])
    assert p[0] == largest
    opt.param_groups[0].update(momentum=0.5, dampening=-largest)
    opt.step([0 * g])
    text = "expected a number that is finite in float32, as parameters are, got "
    beyond = float(np.nextafter(largest, np.inf))
    for name, value in (("lr", beyond), ("dampening", beyond), ("dampening", -beyond)):
        with pytest.raises(ValueError, match=f"^{name}: {text}{re.escape(repr(value))}$"):
            fusedopt.SGD([p], momentum=0.5, **{name: value})
        with pytest.raises(ValueError, match=f"^{name}: {text}"):
            functional.sgd_(p, g, 0 * p, step=1, momentum=0.5, **{"lr": 0.0, name: value})
        other = fusedopt.SGD([np.zeros(1)], momentum=0.5, **{name: value})
        other.step([np.ones(1)])  # float64 holds it


NEARLY_1 = float(np.nextafter(1, 0))


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_what_is_just_in_range(module: Any) -> None:
    for name, values in {
        "betas": [(0, 0.9), (0.9, 0), (NEARLY_1, NEARLY_1), np.array([0.0, 0.9]), [0.5, 0.9]],
        "lr": [0, 1e308],
        "eps": [0],
        "ema_decay": [0, 1, None],
    }.items():
        for value in values:
            opt = module.Adam([np.ones(3)], **{name: value})
            kept = opt.param_groups[0][name]
            np.testing.assert_array_equal(np.array(kept, object), np.array(value, object))
            opt.step([np.ones(3)])
    for alpha in (0, NEARLY_1):
        module.RMSprop([np.ones(3)], alpha=alpha).step([np.ones(3)])


def test_the_largest_count_of_steps() -> None:
    p, q = np.ones(3), np.ones(3)
    for step, x in ((2**63 - 1, p), (2**62, q)):  # no correction is left
        functional.adam_(x, np.ones(3), np.zeros(3), np.zeros(3), step=step, lr=0.5)
    np.testing.assert_array_equal(p, q)
    assert (p < 1).all()
    for step, shown in (
        (2**63, "9.22337e+18"),
        (10**5000, "1.84467e+19"),
        (0, "0"),
        (-1000, "-1000"),
    ):
        with pytest.raises(ValueError, match=f"^step: .* from 1, got {re.escape(shown)}$"):
            functional.adam_(*(np.ones(3) for _ in range(4)), step=step, lr=1)


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_errors_say_which_group_what_was_expected_and_what_came(module: Any) -> None:
    opt = module.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(2)]}], momentum=0.9)
    for value, error, shown in [
        (-1, ValueError, "-1.0"),
        (NAN, ValueError, "nan"),
        (10**400, ValueError, "inf"),
        ("0.1", TypeError, "'0.1' \\(str\\)"),
        (True, TypeError, "True \\(bool\\)"),
    ]:
        text = f"expected a finite number >= 0, got {shown}$"
        with pytest.raises(error, match=f"^lr: {text}"):
            opt.param_groups[1]["lr"] = value
        with pytest.raises(error, match=rf"^param_group\['lr'\]: {text}"):
            opt.add_param_group({"params": [np.ones(1)], "lr": value})
        with pytest.raises(error, match=rf"^param_groups\[1\]\['lr'\]: {text}"):
            module.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(2)], "lr": value}])
        opt.param_groups[1]["lr"] = lambda step, value=value: value
        with pytest.raises(error, match=r"^param_groups\[1\]: lr: expected a finite number >= 0"):
            opt.step([np.ones(3), np.ones(2)])
        opt.param_groups[1]["lr"] = 0.1
    assert opt.completed_steps == 0
    assert len(opt.param_groups) == 2


def test_the_native_half_takes_exactly_the_hyperparameters_of_a_rule() -> None:
    """Python always gives them; a rule that gets new ones must not read what isn't there."""
    names, _ = _core.rules()["sgd"]
    exact = dict.fromkeys(names, 0.0)
    stepper = _core.Stepper()
    p = np.ones(2)
    for hyperparameters, text in [
        (exact | {"beta": 1.0}, f"rule 'sgd' takes {len(names)}, got {len(names) + 1}"),
        (dict.fromkeys(names[1:], 0.0), f"rule 'sgd' needs '{names[0]}'"),
        (dict.fromkeys(names[1:], 0.0) | {"beta": 0.0}, f"rule 'sgd' needs '{names[0]}'"),
    ]:
        with pytest.raises(ValueError, match=f"^hyperparameters: {text}"):
            stepper.add_group([p], None, ("sgd", hyperparameters, None), None)
    with pytest.raises(ValueError, match="^rule: there is none named 'sgdx'"):
        stepper.add_group([p], None, ("sgdx", exact, None), None)
    stepper.add_group([p], None, ("sgd", exact, None), None)
