"""What the tests run over: every rule with every option, sizes around every vector width."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

import fusedopt
from fusedopt import reference

DTYPES = [np.float32, np.float64]

# 0 to 4 vector widths + 1 (a vector holds up to 16 elements), and sizes that take many chunks.
SIZES = [*range(66), 127, 1000, 8191, 8192, 8193, 70_001]
SMALL_SIZES = [*range(66), 127, 1000]


class Case(NamedTuple):
    """An optimizer class and its options."""

    optimizer: str
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.optimizer, *(f"{k}={v}" for k, v in self.options.items())])

    def make(self, params: Any, **more: Any) -> fusedopt.Optimizer:
        return getattr(fusedopt, self.optimizer)(params, **{**self.options, **more})

    def make_reference(self, params: Any, **more: Any) -> fusedopt.Optimizer:
        return getattr(reference, self.optimizer)(params, **{**self.options, **more})


def _every_case() -> list[Case]:
    choices = {
        "SGD": [
            [
                {},
                {"momentum": 0.9},
                {"momentum": 0.8, "dampening": 0.3},
                {"momentum": 0.9, "nesterov": True},
            ],
            [{}, {"weight_decay": 0.03}],
        ],
        "RMSprop": [
            [{}, {"centered": True}],
            [{}, {"momentum": 0.7}],
            [{}, {"weight_decay": 0.03}],
        ],
        "Adam": [[{}, {"amsgrad": True}], [{}, {"weight_decay": 0.03}]],
        "AdamW": [[{}, {"amsgrad": True}], [{}, {"weight_decay": 0}]],
    }
    cases = []
    for optimizer, axes in choices.items():
        for options in product(*axes, [{}, {"maximize": True}]):
            merged = {key: value for option in options for key, value in option.items()}
            cases.append(Case(optimizer, {"lr": 0.013, **merged}))
    return cases


DECOUPLED = {"weight_decay": 0.03, "decoupled_weight_decay": True}
VELOCITY = {"momentum": 0.9, "velocity": True}
TF_LIKE = {"eps": 0, "eps_root": 1e-5}
CORRECTED = {"amsgrad": True, "amsgrad_max": "corrected"}

# The forms besides the default one: see docs/forms.md.
FORMS = [
    *(
        Case("SGD", {"lr": 0.013, **options})
        for options in [
            DECOUPLED,
            {**DECOUPLED, "momentum": 0.9, "nesterov": True, "maximize": True},
            {"momentum": 0.8, "dampening": 0.3, "momentum_init": "gradient"},
            {"momentum": 0.8, "dampening": 0.3, "momentum_init": "zeros"},
            {"momentum": 0.8, "dampening": 0.8, "momentum_init": "zeros", "weight_decay": 0.03},
            VELOCITY,
            {**VELOCITY, "weight_decay": 0.03},
            {**VELOCITY, "nesterov": True, "maximize": True},
            {**VELOCITY, "nesterov": True, **DECOUPLED},
        ]
    ),
    *(
        Case("RMSprop", {"lr": 0.013, **options})
        for options in [
            DECOUPLED,
            TF_LIKE,
            {"eps_root": 1e-3, "initial_square_avg": 1.1, "maximize": True},
            {**VELOCITY, **TF_LIKE},
            {**VELOCITY, **TF_LIKE, "centered": True, "initial_square_avg": 1.1},
            {**VELOCITY, "centered": True, **DECOUPLED},
            {"momentum": 0.7, **DECOUPLED},
        ]
    ),
    *(
        Case(optimizer, {"lr": 0.013, **options})
        for optimizer, options in [
            ("Adam", DECOUPLED),
            ("Adam", {**DECOUPLED, "amsgrad": True, "maximize": True}),
            ("Adam", {"bias_correction": False}),
            ("Adam", {"bias_correction": False, "eps_root": 1e-3, "amsgrad": True}),
            ("Adam", {"eps_root": 1e-3, "eps": 0}),
            ("Adam", {"eps_root": 1e-3, "amsgrad": True, "weight_decay": 0.03}),
            ("Adam", {"eps_hat": True}),
            ("Adam", {"eps_hat": True, "amsgrad": True, "maximize": True}),
            ("Adam", CORRECTED),
            ("Adam", {**CORRECTED, "eps_root": 1e-3}),
            ("AdamW", {"eps_hat": True}),
            ("AdamW", {"bias_correction": False, "eps_root": 1e-3}),
            ("AdamW", {**CORRECTED, "maximize": True}),
        ]
    ),
]

CASES = _every_case() + FORMS

# One case for each native rule of an optimizer.
RULE_CASES = [
    Case("SGD", {"lr": 0.013}),
    Case("SGD", {"lr": 0.013, "momentum": 0.9}),
    Case("RMSprop", {"lr": 0.013}),
    Case("RMSprop", {"lr": 0.013, "momentum": 0.7}),
    Case("RMSprop", {"lr": 0.013, "centered": True}),
    Case("RMSprop", {"lr": 0.013, "centered": True, "momentum": 0.7}),
    Case("Adam", {"lr": 0.013}),
    Case("Adam", {"lr": 0.013, "amsgrad": True}),
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_rule = pytest.mark.parametrize("case", RULE_CASES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def random_arrays(
    seed: int, dtype: Any, shapes: Sequence[Any] = SIZES, scale: float = 1.0
) -> list[Any]:
    """Return arrays of distinct non-zero numbers of different magnitudes."""
    return copies(_random_arrays(seed, dtype, tuple(shapes), scale))


@cache
def _random_arrays(seed: int, dtype: Any, shapes: tuple[Any, ...], scale: float) -> list[Any]:
    rng = np.random.default_rng(seed)
    arrays = []
    for shape in shapes:
        numbers = rng.standard_normal(shape) * np.exp(rng.normal(size=shape))
        arrays.append(np.asarray(numbers * scale, dtype))
    return arrays


def copies(arrays: list[Any]) -> list[Any]:
    return [array.copy() for array in arrays]


def assert_same(actual: fusedopt.Optimizer, expected: fusedopt.Optimizer) -> None:
    """Assert that two optimizers' parameters, states and step counts are equal, by ==."""
    np.testing.assert_array_equal(actual.step_counts, expected.step_counts)
    ours, theirs = actual.param_groups[0]["params"], expected.param_groups[0]["params"]
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        assert p.dtype == q.dtype
        assert np.array_equal(p, q, equal_nan=True), f"params[{i}], shape {p.shape}"
        assert set(actual.state[i]) == set(expected.state[i])
        for name, array in actual.state[i].items():
            same = np.array_equal(array, expected.state[i][name], equal_nan=True)
            assert same, f"state[{i}][{name!r}], shape {p.shape}"
