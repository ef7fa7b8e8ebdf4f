"""Whether two optimizers, or one before and after, are the same: by bits, where no NaN is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .values import UNSIGNED


def params_of(opt: Any) -> list[Any]:
    return [p for group in opt.param_groups for p in group["params"]]


def require_same(ours: Any, theirs: Any) -> None:
    """Raise AssertionError where an optimizer and its reference differ in anything to be seen."""
    for i, (p, q) in enumerate(zip(params_of(ours), params_of(theirs), strict=True)):
        require_same_array(p, q, f"params[{i}]")
    assert list(ours.step_counts) == list(theirs.step_counts)
    assert ours.completed_steps == theirs.completed_steps
    assert list(ours.state) == list(theirs.state)
    for key, state in ours.state.items():
        require_same_value(dict(state), dict(theirs.state[key]), f"state[{key!r}]")
    assert list(ours.ema) == list(theirs.ema)
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert mine.hyperparameters() == other.hyperparameters()


def require_same_value(a: Any, b: Any, where: str) -> None:
    """Raise AssertionError where data, as state_dict() returns, differ; NaN is NaN."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray):
        require_same_array(a, b, where)
    elif isinstance(a, Mapping):
        assert set(a) == set(b), f"{where}: {list(a)}, {list(b)}"
        for key in a:
            require_same_value(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            require_same_value(x, y, f"{where}[{k}]")
    elif isinstance(a, float):
        require_same_array(np.array(a), np.array(b), where)
    else:
        assert a == b, where


def require_same_array(a: Any, b: Any, where: str) -> None:
    assert (a.dtype, a.shape) == (b.dtype, b.shape), where
    if a.tobytes() == b.tobytes():
        return
    bits = UNSIGNED[a.dtype.itemsize]
    x, y = np.ascontiguousarray(a).ravel(), np.ascontiguousarray(b).ravel()
    differs = (x.view(bits) != y.view(bits)) & ~(np.isnan(x) & np.isnan(y))
    if differs.any():
        at = int(np.flatnonzero(differs)[0])
        raise AssertionError(
            f"{where}, shape {a.shape}: {differs.sum()} differ, first [{at}]: {x[at]!r}, {y[at]!r}"
        )


def snapshot(opt: Any, arrays: list[Any] = []) -> Any:  # noqa: B006
    """Return all that a failed call could have changed, as bytes and numbers."""
    states = [
        {name: value if name == "step" else value.tobytes() for name, value in state.items()}
        for state in opt.state.values()
    ]
    hyper = [group.hyperparameters() for group in opt.param_groups]
    seen = [array.tobytes() for array in [*params_of(opt), *arrays] if array is not None]
    return states, hyper, seen, opt.step_counts.tobytes(), opt.completed_steps
