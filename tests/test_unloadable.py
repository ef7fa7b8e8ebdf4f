"""Contract: save writes no file that no load could take, and none in the place of a good one."""

import enum
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import FORMS, RULE_CASES, Case, assert_same, every_dtype, random_arrays
from fusedopt import reference, schedules

SHAPES = [(3, 5), 257, 0, ()]


def momentum(**options: Any) -> fusedopt.Optimizer:
    opt = fusedopt.SGD({"w": np.ones((2, 4), np.float32)}, lr=0.1, momentum=0.9, **options)
    opt.step({"w": np.ones((2, 4), np.float32)})
    return opt


def assign(**values: Any) -> Callable[[fusedopt.Optimizer], None]:
    def change(opt: fusedopt.Optimizer) -> None:
        opt.param_groups[0].update(values)

    return change


def in_place(**values: Any) -> Callable[[fusedopt.Optimizer], None]:
    def change(opt: fusedopt.Optimizer) -> None:
        (p,) = opt.param_groups[0]["params"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer versions of NumPy
            for name, value in values.items():
                setattr(p, name, value)

    return change


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "values that don't fit": (
        assign(nesterov=True, dampening=0.5),
        r"nesterov: needs a dampening of 0, got dampening=0.5",
    ),
    "no momentum": (assign(nesterov=True, momentum=0), "nesterov: needs a momentum above 0"),
    "too large": (assign(lr=1e300), "lr: expected a number that is finite in float32, as"),
    "integers": (in_place(dtype=np.int32), r"params\['w'\]: it has become an array of int32"),
    "other floats": (in_place(dtype=np.float64), r"expected dtype float64, as params\['w'\] has"),
    "float16": (in_place(dtype=np.float16), r"params\['w'\]: it has become an array of float16"),
    "reshaped": (in_place(shape=(4, 2)), r"expected shape \(4, 2\), as params\['w'\] has, got"),
    "flat": (in_place(shape=(8,)), r"expected shape \(8,\), as params\['w'\] has, got \(2, 4\)"),
    "resized": (
        lambda opt: opt.param_groups[0]["params"][0].resize((3, 3), refcheck=False),
        r"expected shape \(3, 3\), as params\['w'\] has, got \(2, 4\)",
    ),
}


@pytest.mark.parametrize("params", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_no_optimizer_could_load(change: str, params: bool, tmp_path: Path) -> None:
    act, text = CHANGES[change]
    opt = momentum()
    opt.save(tmp_path / "file", params=True, extra="old")
    before = (tmp_path / "file").read_bytes()
    act(opt)
    with pytest.raises(ValueError, match=rf"^save\(\): no file, as none could load it: .*{text}"):
        opt.save(tmp_path / "file", params=params)
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert momentum().load(tmp_path / "file") == "old"
    # In memory it may be looked at, and put right.
    opt.state_dict()
    if change in ("values that don't fit", "no momentum", "too large"):
        assign(nesterov=False, dampening=0, momentum=0.9, lr=0.1)(opt)
        opt.save(tmp_path / "file", params=params, extra="new")
        assert momentum().load(tmp_path / "file") == "new"
        opt.step({"w": np.ones((2, 4), np.float32)})


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.complex64])
def test_a_parameter_without_state(dtype: Any, tmp_path: Path) -> None:
    p = np.ones(4, np.float32)
    opt = fusedopt.SGD([p])
    opt.save(tmp_path / "file", params=True, extra="old")
    in_place(dtype=dtype)(opt)
    with pytest.raises(ValueError, match=r"params\[0\]: it has become an array of"):
        opt.save(tmp_path / "file", params=True)
    in_place(dtype=np.float32)(opt)
    assert opt.load(tmp_path / "file") == "old"


def nested(levels: int) -> Any:
    value: Any = 1
    for k in range(levels):
        value = [value] if k % 2 else {"a": value}
    return value


def test_extra_data_that_is_nested_too_deep(tmp_path: Path) -> None:
    opt = momentum()
    opt.save(tmp_path / "file", extra=nested(100))
    assert momentum().load(tmp_path / "file") == nested(100)
    in_dicts: Any = 1
    for _ in range(100):
        in_dicts = {"a": in_dicts, "b": []}
    opt.save(tmp_path / "file", extra=in_dicts)
    assert momentum().load(tmp_path / "file") == in_dicts
    with pytest.raises(ValueError, match="^extra: expected plain data, nested 100 deep at most"):
        opt.save(tmp_path / "file", extra={"a": in_dicts})
    opt.save(tmp_path / "file", extra=nested(100))
    round_and_round: list[Any] = []
    round_and_round.append(round_and_round)
    for extra in (nested(101), nested(5000), round_and_round):
        with pytest.raises(ValueError, match="^extra: expected plain data, nested 100 deep at mos"):
            opt.save(tmp_path / "file", extra=extra)
    assert momentum().load(tmp_path / "file") == nested(100)


def test_a_schedule_that_is_nested_too_deep(tmp_path: Path) -> None:
    opt = momentum()
    opt.save(tmp_path / "file", extra="old")
    lr: Any = 0.1
    for _ in range(101):
        lr = schedules.warmup(lr, 1)
    opt.param_groups[0]["lr"] = lr
    with pytest.raises(ValueError, match=r"^save\(\): no file, .*: header: nested more than 100"):
        opt.save(tmp_path / "file")
    opt.param_groups[0]["lr"], shallow = lr, lr.schedule.schedule.schedule.schedule
    for _ in range(5000):
        lr = schedules.warmup(lr, 1)
    opt.param_groups[0]["lr"] = lr
    with pytest.raises(ValueError, match=r"^save\(\): a schedule is nested too deep"):
        opt.save(tmp_path / "file")
    assert momentum().load(tmp_path / "file") == "old"
    opt.param_groups[0]["lr"] = shallow
    opt.save(tmp_path / "file")
    opt.load(tmp_path / "file")
    assert opt.param_groups[0]["lr"] == shallow


def test_extra_data_of_kinds_that_are_plain(tmp_path: Path) -> None:
    class Colour(enum.IntEnum):
        RED = 3

    class Text(str):
        pass

    extra = {Text("a"): [Colour.RED, np.float64(0.1), Text("b")], "n": 2**200, "\ud800": "\ud800"}
    opt = momentum()
    opt.save(tmp_path / "file", extra=extra)
    loaded = momentum().load(tmp_path / "file")
    assert loaded == {"a": [3, 0.1, "b"], "n": 2**200, "\ud800": "\ud800"}
    assert [type(item) for item in loaded["a"]] == [int, float, str]


def test_a_function_of_an_odd_name(tmp_path: Path) -> None:
    class Odd:
        def __call__(self, step: int) -> float:
            return 0.1

    odd = Odd()
    odd.__dict__["__qualname__"] = object()  # which JSON can't hold
    fusedopt.SGD([np.ones(3)], lr=odd).save(tmp_path / "file")
    opt = fusedopt.SGD([np.ones(3)], lr=odd)
    opt.load(tmp_path / "file")
    assert opt.param_groups[0]["lr"] is odd
    assert odd(0) == 0.1


@every_dtype
@pytest.mark.parametrize("case", [*RULE_CASES, *FORMS[:9:4]], ids=str)
def test_a_save_changes_nothing(case: Case, dtype: type, tmp_path: Path) -> None:
    """Also where something is scheduled, and was assigned since the last step."""
    asked: list[int] = []

    def decay(step: int) -> float:
        asked.append(step)
        return 0.01 / (1 + step)

    optimizers = [
        getattr(module, case.optimizer)(
            random_arrays(0, dtype, SHAPES), ema_decay=0.5, **{**case.options, "lr": decay}
        )
        for module in (fusedopt, fusedopt, reference)
    ]
    for step in range(6):
        if step == 3:
            for opt in optimizers:
                opt.param_groups[0]["lr"] = schedules.linear(0.02, 0.01, 5)
        if step == 5:
            for opt in optimizers:
                opt.param_groups[0]["ema_decay"] = None
        for opt in optimizers[1:]:
            before = len(asked)
            opt.save(tmp_path / "file", params=True)
            assert len(asked) == before
        for opt in optimizers:
            opt.step(random_arrays(1 + step, dtype, SHAPES))
    assert_same(optimizers[0], optimizers[1])
    assert_same(optimizers[0], optimizers[2])


@every_dtype
def test_arrays_of_fortrans_order(dtype: type) -> None:
    """Rows and columns are where they were, whatever order they lie in."""
    shape = (5, 7, 3)
    (p,), (g,) = random_arrays(0, dtype, [shape]), random_arrays(1, dtype, [shape])
    opt = fusedopt.Adam([p], ema_decay=0.5)
    opt.step([g])
    for reorder in (
        np.asfortranarray,
        lambda a: a.transpose(2, 0, 1).copy().transpose(1, 2, 0),
        lambda a: a[::-1].copy()[::-1],
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    ):
        state = opt.state_dict()
        entries = {
            name: reorder(value) if isinstance(value, np.ndarray) else value
            for name, value in state["state"][0].items()
        }
        assert not entries["exp_avg"].flags.c_contiguous
        other = fusedopt.Adam([p.copy()])
        other.load_state_dict({**state, "state": {0: entries}})
        assert_same(other, opt)
        assert other.state[0]["exp_avg"].flags.c_contiguous
