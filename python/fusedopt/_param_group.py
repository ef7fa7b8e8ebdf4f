"""Parameters and their hyperparameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from numbers import Real
from typing import Any, NoReturn

from ._hyperparameters import NUMBERS, Check, decay_rates, in_kind
from ._state import Engine
from ._types import Array


class ParamGroup(MutableMapping[str, Any]):
    """Parameters and their hyperparameters.

    A mapping: ``"params"`` (read-only) and every hyperparameter of the optimizer, which may be
    assigned between steps: a value, or for a number a schedule, any function of how many steps the
    optimizer has completed. A value is checked when it is assigned, values that must fit each other
    at the next step. Keys can be neither added nor removed, and what says how state is to be read,
    as ``velocity``, can't be changed.
    """

    def __init__(
        self,
        params: Iterable[Array],
        checks: Mapping[str, Check],
        lasting: Collection[str],
        values: Mapping[str, Any],
        engine: Engine,
        label: str,
    ) -> None:
        self._checks = checks
        self._lasting = lasting
        self._engine = engine
        self._values: dict[str, Any] = {"params": tuple(params)}
        for name in values:
            self._require_known(name, f"{label}: " if label else "")
        for name, check in checks.items():
            self._values[name] = _checked(
                f"{label}[{name!r}]" if label else name, values[name], check
            )
        self._changed = True
        self._present: dict[str, Any] = {}  # what schedules gave for the present step

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ValueError("params: an optimizer's parameters can't be replaced")
        self._require_known(name, "")
        checked = _checked(name, value, self._checks[name])
        if name in self._lasting and checked != self._values[name]:
            raise ValueError(
                f"{name}: can't be changed, as it says what the state means; "
                "for another, make a new optimizer"
            )
        self._values[name] = checked
        self._changed = self._engine.changed = True

    def _require_known(self, name: str, where: str) -> None:
        if name not in self._checks:
            known = ", ".join(self._checks)
            raise ValueError(f"{where}{name}: no such hyperparameter; there are {known}")

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: entries of a parameter group can't be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    # As for any object: comparing arrays by == gives no answer.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a parameter group belongs to its optimizer; for a copy, write dict(group)")

    def _with(self, values: Mapping[str, Any], label: str) -> ParamGroup:
        """Return another group of the same parameters."""
        return ParamGroup(self["params"], self._checks, self._lasting, values, self._engine, label)

    def hyperparameters(self) -> dict[str, Any]:
        """Return everything but the parameters, as a new dict."""
        return {name: self._values[name] for name in self._checks}

    @property
    def scheduled(self) -> frozenset[str]:
        """The names of hyperparameters that are schedules."""
        return _scheduled_in(self.hyperparameters())

    def unasked(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the hyperparameters with zeros for those that are scheduled, and which are."""
        values = self.hyperparameters()
        scheduled = _scheduled_in(values)
        for name in scheduled:
            pair = self._checks[name] is decay_rates
            values[name] = (0.0, 0.0) if pair else 0.0
        return values, scheduled

    def values_at(self, step: int) -> dict[str, Any]:
        """Return the hyperparameters after so many completed steps.

        Raises
        ------
        TypeError, ValueError
            If a schedule gives something that the hyperparameter can't be.
        """
        return self.asked(step)[0]

    def asked(self, step: int) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the hyperparameters after so many completed steps, and which are scheduled.

        Each is read once: another thread may assign it meanwhile.
        """
        values = self.hyperparameters()
        scheduled = _scheduled_in(values)
        for name in scheduled:
            values[name] = _evaluated(name, values[name], self._checks[name], step)
        return values, scheduled

    def __repr__(self) -> str:
        return f"ParamGroup({self.describe()})"

    def describe(self) -> str:
        """Return the hyperparameters, and how many arrays and elements there are."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters().items())
        params: tuple[Array, ...] = self["params"]
        elements = sum(array.size for array in params)
        dtypes = "/".join(sorted({array.dtype.name for array in params}))
        arrays = f"{len(params):,} array" + ("" if len(params) == 1 else "s")
        size = f"{elements:,} element" + ("" if elements == 1 else "s")
        return f"{settings}; {arrays}, {size}" + (f", {dtypes}" if dtypes else "")


def _scheduled_in(values: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name, value in values.items() if _is_scheduled(value))


def _is_scheduled(value: Any) -> bool:
    return callable(value) or (isinstance(value, tuple) and any(map(_is_scheduled, value)))


def _checked(name: str, value: Any, check: Check) -> Any:
    """Return a value as it is kept; of a schedule only its values can be checked."""
    kept = tuple(value) if isinstance(value, list) else value
    return kept if check in NUMBERS and _is_scheduled(kept) else check(name, value)


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
