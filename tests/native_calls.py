"""What native methods are called with, where tests call them themselves."""

from typing import Any

from fusedopt import _core


def native_rule(name: str, ema_decay: float | None = None, **values: float) -> Any:
    """Return a rule as an optimizer's native half takes it; hyperparameters not given are 0."""
    return name, {**dict.fromkeys(_core.rules()[name][0], 0.0), **values}, ema_decay


def apply_rule(
    rule: str, hyperparameters: dict[str, float], step: Any, arguments: dict[str, Any]
) -> None:
    """Take a step of a rule, with arrays by their arguments' names."""
    function = _core.rule_function(
        list(arguments), [], lambda _: (rule, hyperparameters), lambda _, value: int(value)
    )
    function((), step, *arguments.values())
