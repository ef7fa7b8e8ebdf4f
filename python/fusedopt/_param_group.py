"""Parameters and their hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from numbers import Real
from typing import Any, NoReturn

from ._hyperparameters import Check, Pair, in_kind, numbers_of
from ._types import Written


class ParamGroup(MutableMapping[str, Any]):
    """Parameters and their hyperparameters.

    A mapping: ``"params"`` (see `Optimizer.rebind`) and every hyperparameter of the optimizer,
    which may be assigned between steps: a value, or for a number a schedule, any function of how
    many steps the optimizer has completed. A value is checked when it is assigned, values that must
    fit each other at the next step. Keys can be neither added nor removed, and what says how state
    is to be read, as ``velocity``, can't be changed.
    """

    def __init__(
        self,
        params: Iterable[Any],
        checks: Mapping[str, Check],
        lasting: Collection[str],
        values: Mapping[str, Any],
        label: str,
    ) -> None:
        self._params = tuple(params)
        self._checks = checks
        self._lasting = lasting
        for name in values:
            self._require_known(name, f"{label}: " if label else "")
        #: The hyperparameters, in the order of the checks. The engine reads them here at each step:
        #: there is no second place that says what they are.
        self._values = [
            _checked(f"{label}[{name!r}]" if label else name, values[name], check)
            for name, check in checks.items()
        ]
        self._places = {name: place for place, name in enumerate(checks)}

    def __getitem__(self, name: str) -> Any:
        return self._params if name == "params" else self._values[self._places[name]]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ValueError("params: to replace an optimizer's parameters, use rebind()")
        self._require_known(name, "")
        checked = _checked(name, value, self._checks[name])
        if name in self._lasting and checked != self[name]:
            raise ValueError(
                f"{name}: can't be changed, as it says what the state means; "
                "for another, make a new optimizer"
            )
        self._values[self._places[name]] = checked

    def _require_known(self, name: str, where: str) -> None:
        if name not in self._checks:
            known = ", ".join(self._checks)
            raise ValueError(f"{where}{name}: no such hyperparameter; there are {known}")

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: entries of a parameter group can't be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *self._checks))

    def __len__(self) -> int:
        return 1 + len(self._checks)

    # As for any object: comparing arrays by == gives no answer.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a parameter group belongs to its optimizer; for a copy, write dict(group)")

    def _with(self, values: Mapping[str, Any], label: str) -> ParamGroup:
        """Return another group of the same parameters."""
        return ParamGroup(self._params, self._checks, self._lasting, values, label)

    def hyperparameters(self) -> dict[str, Any]:
        """Return everything but the parameters, as a new dict."""
        return self._named(self._values)

    def _named(self, values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(self._checks, values, strict=True))

    def written(self) -> Written:
        """Return what the engine reads."""
        return self._values, [numbers_of(*item) for item in self._checks.items()]

    def unasked(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the hyperparameters with zeros for those that are scheduled, and which are."""
        values = self.hyperparameters()
        scheduled = _scheduled_in(values)
        for name in scheduled:
            values[name] = (0.0, 0.0) if isinstance(self._checks[name], Pair) else 0.0
        return values, scheduled

    def values_at(self, step: int) -> dict[str, Any]:
        """Return the hyperparameters after so many completed steps.

        Raises
        ------
        TypeError, ValueError
            If a schedule gives something that the hyperparameter can't be.
        """
        return self.asked(step, tuple(self._values))[0]

    def asked(self, step: int, made_of: tuple[Any, ...]) -> tuple[dict[str, Any], frozenset[str]]:
        """Return what these values mean after so many completed steps, and which are scheduled."""
        values = self._named(made_of)
        scheduled = _scheduled_in(values)
        for name in scheduled:
            values[name] = _evaluated(name, values[name], self._checks[name], step)
        return values, scheduled

    def __repr__(self) -> str:
        return f"ParamGroup({self.describe()})"

    def describe(self) -> str:
        """Return the hyperparameters, and how many arrays and elements there are."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters().items())
        elements = sum(math.prod(array.shape) for array in self._params)
        # As another library spells it: torch.float32.
        dtypes = "/".join(sorted({str(array.dtype).rpartition(".")[2] for array in self._params}))
        count = len(self._params)
        arrays = f"{count:,} array" + ("" if count == 1 else "s")
        size = f"{elements:,} element" + ("" if elements == 1 else "s")
        return f"{settings}; {arrays}, {size}" + (f", {dtypes}" if dtypes else "")


def _scheduled_in(values: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name, value in values.items() if _is_scheduled(value))


def _is_scheduled(value: Any) -> bool:
    return callable(value) or (isinstance(value, tuple) and any(map(_is_scheduled, value)))


def _checked(name: str, value: Any, check: Check) -> Any:
    """Return a value as it is kept; of a schedule only its values can be checked."""
    if type(value) is float:  # nearly always
        return check(name, value)
    kept = tuple(value) if isinstance(value, list) else value
    return kept if _is_scheduled(kept) and numbers_of(name, check) else check(name, value)


def _evaluated(name: str, value: Any, check: Check, step: int) -> Any:
    """Return what a schedule, or a pair with schedules, gives after so many steps."""
    parts = value if isinstance(value, tuple) else (value,)
    given = [part(step) if callable(part) else part for part in parts]
    try:
        given = [_as_number(part) for part in given]
        return check(name, tuple(given) if isinstance(value, tuple) else given[0])
    except (TypeError, ValueError) as error:
        text = str(error).removeprefix(f"{name}: ")
        raise in_kind(error, f"{name}: {text}, from its schedule after {step} steps") from None


def _as_number(value: Any) -> Any:
    """Return a number of another library, as a JAX array without dimensions, as a float."""
    if isinstance(value, tuple | list):
        return tuple(map(_as_number, value))
    if isinstance(value, Real | str) or not hasattr(value, "__float__"):
        return value
    if getattr(value, "shape", ()) != ():
        raise TypeError(f"expected a number, got an array of shape {value.shape}")
    return float(value)
