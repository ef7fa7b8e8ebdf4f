"""Contract: bad input is an error that says what and where, and nothing at all has changed."""

import re
from collections import UserDict
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import Case, every_rule

ADAM = Case("Adam", {})

Make = Callable[[np.ndarray], Any]


def misaligned(a: np.ndarray) -> np.ndarray:
    buffer = np.zeros(a.nbytes + 1, np.uint8)[1:]
    copy = buffer[: a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def read_only(a: np.ndarray) -> np.ndarray:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


# What is wrong with a float32 array of shape (3, 4): how to make it, the error, its text.
WRONG_DTYPE = "expected dtype float32.*, got "
WRONG_ARRAYS: dict[str, tuple[Make, type[Exception], str]] = {
    "list": (lambda a: a.tolist(), TypeError, "expected a NumPy array, got list"),
    "scalar": (lambda a: 1.0, TypeError, "expected a NumPy array, got float"),
    "masked": (lambda a: np.ma.array(a, mask=a > 0), TypeError, "got a masked array"),
    "integers": (lambda a: a.astype(np.int32), TypeError, WRONG_DTYPE + "int32"),
    "float16": (lambda a: a.astype(np.float16), TypeError, WRONG_DTYPE + "float16"),
    "longdouble": (lambda a: a.astype(np.longdouble), TypeError, WRONG_DTYPE),
    "complex": (lambda a: a.astype(np.complex64), TypeError, WRONG_DTYPE + "complex64"),
    "bool": (lambda a: a.astype(bool), TypeError, WRONG_DTYPE + "bool"),
    "object": (lambda a: a.astype(object), TypeError, WRONG_DTYPE + "object"),
    "byte-swapped": (
        lambda a: a.astype(a.dtype.newbyteorder()),
        TypeError,
        WRONG_DTYPE + r"byte-swapped float32 \([<>]f4\)",
    ),
    "Fortran order": (
        np.asfortranarray,
        ValueError,
        r"expected a C-contiguous array, got shape \(3, 4\) with strides \(4, 12\)",
    ),
    "strided": (
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        ValueError,
        r"expected a C-contiguous array, got shape \(3, 4\) with strides \(32, 8\)",
    ),
    "misaligned": (misaligned, ValueError, "expected an array aligned to its item size"),
}
WRONG_GRADIENTS = WRONG_ARRAYS | {
    "float64": (lambda a: a.astype(np.float64), TypeError, WRONG_DTYPE + "float64"),
    "equal size": (lambda a: a.reshape(4, 3), ValueError, r"expected shape \(3, 4\).*got \(4, 3\)"),
    "flat": (lambda a: a.ravel(), ValueError, r"expected shape \(3, 4\).*got \(12,\)"),
    "broadcastable": (lambda a: a[:1].copy(), ValueError, r"expected shape.*got \(1, 4\)"),
    "0-d": (lambda a: np.array(1, a.dtype), ValueError, r"expected shape.*got \(\)"),
}
WRONG_PARAMETERS = WRONG_ARRAYS | {
    "read-only": (read_only, ValueError, "expected a writeable array, got a read-only one"),
    "None": (lambda a: None, TypeError, "expected a NumPy array, got NoneType"),
}


class Setup:
    """Ten parameters after one step, and a snapshot of all that a failed step could change."""

    def __init__(self, case: Case, named: bool) -> None:
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal((3, 4)).astype(np.float32) for _ in range(10)]
        self.grads = [rng.standard_normal((3, 4)).astype(np.float32) for _ in range(10)]
        self.keys = [f"layer{i}.weight" if named else i for i in range(10)]
        self.params = arrays
        self.named = named
        self.opt = case.make(self.argument(arrays))
        self.opt.step(self.argument([*self.grads[:9], None]))  # the last one has no state yet
        self.before = self.snapshot()

    def argument(self, arrays: list[Any]) -> Any:
        return dict(zip(self.keys, arrays, strict=True)) if self.named else arrays

    def snapshot(self) -> Any:
        state = {
            key: {n: v if n == "step" else v.tobytes() for n, v in self.opt.state[key].items()}
            for key in self.keys
        }
        return [p.tobytes() for p in self.params], state, self.opt.step_counts.tobytes()

    def expect(self, grads: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            self.opt.step(grads)
        assert self.snapshot() == self.before

    def label(self, argument: str, index: int) -> str:
        return re.escape(f"{argument}[{self.keys[index]!r}]")


@pytest.fixture(params=[False, True], ids=["list", "dict"])
def named(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.mark.parametrize("position", [0, 9])
@pytest.mark.parametrize("wrong", WRONG_GRADIENTS)
@every_rule
def test_wrong_gradient(case: Case, wrong: str, position: int, named: bool) -> None:
    make, error, text = WRONG_GRADIENTS[wrong]
    setup = Setup(case, named)
    grads = list(setup.grads)
    grads[position] = make(grads[position])
    setup.expect(setup.argument(grads), error, f"^{setup.label('grads', position)}: .*{text}")


@pytest.mark.parametrize("wrong", WRONG_PARAMETERS)
def test_wrong_parameter(wrong: str, named: bool) -> None:
    make, error, text = WRONG_PARAMETERS[wrong]
    arrays: Any = [np.ones((3, 4), np.float32), make(np.ones((3, 4), np.float32))]
    params, label = (arrays, "params[1]")
    if named:
        params, label = dict(zip("ab", arrays, strict=True)), "params['b']"
    with pytest.raises(error, match=f"^{re.escape(label)}: .*{text}"):
        fusedopt.Adam(params)


@every_rule
def test_wrong_number_of_gradients(case: Case) -> None:
    setup = Setup(case, named=False)
    for grads in ([], setup.grads[:9], [*setup.grads, setup.grads[0]]):
        text = f"grads: expected 10 gradients, one for each parameter, got {len(grads)}"
        setup.expect(grads, ValueError, text)


@every_rule
def test_wrong_names(case: Case) -> None:
    setup = Setup(case, named=True)
    grads = setup.argument(setup.grads)
    missing = {key: g for key, g in grads.items() if key != "layer9.weight"}
    setup.expect(missing, ValueError, r"^grads\['layer9.weight'\]: missing")
    setup.expect(
        grads | {"bias": grads["layer0.weight"]}, ValueError, r"^grads\['bias'\]: there is"
    )
    setup.expect(grads | {3: None}, ValueError, r"^grads\[3\]: there is no parameter of that name")


@pytest.mark.parametrize(
    "grads",
    [np.ones((10, 3, 4), np.float32), "gradients", 1.0, None, {1, 2}, iter([])],
    ids=lambda grads: type(grads).__name__,
)
def test_gradients_that_are_no_list(grads: Any, named: bool) -> None:
    setup = Setup(ADAM, named)
    expected = "a dict or list of arrays" if named else "a list of arrays"
    setup.expect(grads, TypeError, f"^grads: expected {expected}, got {type(grads).__name__}")


def test_named_gradients_for_nameless_parameters() -> None:
    setup = Setup(ADAM, named=False)
    setup.expect(dict(enumerate(setup.grads)), TypeError, "grads: expected a list, as params was")


def test_gradients_of_named_parameters_may_come_in_order() -> None:
    setup = Setup(ADAM, named=True)
    setup.opt.step(tuple(setup.grads))
    assert (setup.opt.step_counts == [2] * 9 + [1]).all()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (np.ones(3), r"got ndarray; for one array, write \[array\]"),
        ("weights", "got str"),
        (3, "got int"),
        (None, "got NoneType"),
        ({0: np.ones(3)}, "expected str as names, got 0"),
        ([np.ones(2), {"a": np.ones(3)}], r"\[1\]: expected a NumPy array, as the others are"),
    ],
)
def test_parameters_that_are_no_list(params: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"^params.*{text}"):
        fusedopt.Adam(params)


class _HidesSome(dict):
    def __iter__(self):
        return (key for key in super().__iter__() if key[0] != "_")


def test_odd_mappings_of_parameters() -> None:
    """What items() gives is what counts."""
    opt = fusedopt.SGD(_HidesSome(w=np.ones(3), _hidden=np.ones(2)), lr=1)
    opt.step({"w": np.ones(3), "_hidden": np.ones(2)})
    assert list(opt.state) == ["w", "_hidden"]


def test_other_mappings_of_gradients() -> None:
    p = np.ones(3)
    opt = fusedopt.SGD({"p": p}, lr=1)
    opt.step(UserDict(p=np.ones(3)))
    opt.step(MappingProxyType({"p": np.ones(3)}))
    assert (p == -1).all()
    with pytest.raises(ValueError, match=r"^grads\['q'\]: there is no parameter"):
        opt.step(UserDict(p=np.ones(3), q=np.ones(3)))
    with pytest.raises(TypeError, match="expected a list, as params was given, got a dict"):
        fusedopt.SGD([p]).step(UserDict(p=np.ones(3)))


def test_errors_of_the_callers_own_sequence_come_through() -> None:
    class Broken(Sequence):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> None:
            raise TypeError("my own error")

    with pytest.raises(TypeError, match="my own error"):
        fusedopt.SGD([np.ones(3)]).step(Broken())


# Overlap ------------------------------------------------------------------------------------------


def test_same_parameter_twice(named: bool) -> None:
    a, b = np.ones(3), np.ones(3)
    if named:
        with pytest.raises(ValueError, match=r"^params\['c'\] overlaps params\['a'\] in memory"):
            fusedopt.Adam({"a": a, "b": b, "c": a})
    else:
        with pytest.raises(ValueError, match=r"^params\[2\] overlaps params\[0\] in memory"):
            fusedopt.Adam([a, b, a])


def test_overlap_is_found_exactly() -> None:
    """Random slices of one buffer, against a comparison of every pair."""
    rng = np.random.default_rng(0)
    found = {True: 0, False: 0}
    for _ in range(500):
        buffer = np.zeros(60)
        starts = rng.integers(0, 50, 5)
        slices = [(start, start + rng.integers(0, 6)) for start in starts]
        overlap = any(
            max(a[0], b[0]) < min(a[1], b[1]) for i, a in enumerate(slices) for b in slices[:i]
        )
        found[overlap] += 1
        views = [buffer[a:b] for a, b in slices]
        if overlap:
            with pytest.raises(ValueError, match="overlaps"):
                fusedopt.SGD(views)
        else:
            fusedopt.SGD(views)
    assert min(found.values()) > 50


def test_adjacent_slices_work() -> None:
    buffer = np.ones(10)
    opt = fusedopt.SGD([buffer[:3], buffer[3:7], buffer[7:]], lr=1)
    opt.step([np.full(3, 1.0), np.full(4, 2.0), np.full(3, 3.0)])
    np.testing.assert_array_equal(buffer, [0] * 3 + [-1] * 4 + [-2] * 3)


@every_rule
def test_gradient_overlaps_a_parameter(case: Case, named: bool) -> None:
    setup = Setup(case, named)
    for gradient_of, parameter in ((9, 0), (0, 9), (4, 4)):
        grads = list(setup.grads)
        grads[gradient_of] = setup.params[parameter].view()
        text = f"{setup.label('grads', gradient_of)} overlaps {setup.label('params', parameter)} in"
        setup.expect(setup.argument(grads), ValueError, f"^{text}")


def test_gradient_overlaps_one_element_of_a_parameter() -> None:
    buffer = np.zeros(20)
    opt = fusedopt.SGD([buffer[5:10]])
    for start in range(16):
        gradient = buffer[start : start + 5]
        if 0 < start < 10:
            with pytest.raises(ValueError, match=r"^grads\[0\] overlaps params\[0\]"):
                opt.step([gradient])
        else:
            opt.step([gradient])


def test_gradient_overlaps_state(named: bool) -> None:
    setup = Setup(ADAM, named)
    for name in ("exp_avg", "exp_avg_sq"):
        for index in (0, 3, 9):  # 9 had no gradient before
            grads = list(setup.grads)
            grads[index] = setup.opt.state[setup.keys[3]][name]
            text = f"{setup.label('grads', index)} overlaps the optimizer's own state"
            setup.expect(setup.argument(grads), ValueError, text)


def test_gradient_overlaps_state_that_was_made_later() -> None:
    p, g = np.ones(4), np.ones(4)
    opt = fusedopt.SGD([p])
    opt.step([g])
    opt.param_groups[0]["momentum"] = 0.9
    opt.step([g])
    with pytest.raises(ValueError, match=r"grads\[0\] overlaps the optimizer's own state"):
        opt.step([opt.state[0]["momentum_buffer"]])
    counts = fusedopt.SGD([np.ones(1)])
    with pytest.raises(ValueError, match=r"grads\[0\] overlaps the optimizer's own state"):
        counts.step([counts.step_counts.view(np.float64)])


def test_gradient_moves_onto_a_parameter_between_steps() -> None:
    """What was learnt about the gradients of one step is checked again at the next."""
    p, q, g = np.ones(4), np.ones(4), np.ones(4)
    opt = fusedopt.SGD([p, q], lr=1)
    opt.step([g, g])
    opt.step([g.copy(), g])
    with pytest.raises(ValueError, match=r"grads\[0\] overlaps params\[1\]"):
        opt.step([q, g])


def test_gradients_may_share_memory_with_each_other() -> None:
    p, q, g = np.ones(4), np.ones(4), np.full(4, 2.0)
    fusedopt.SGD([p, q], lr=1).step([g, g])
    assert (p == -1).all()
    assert (q == -1).all()


def test_read_only_gradient_works() -> None:
    p = np.ones(4)
    fusedopt.SGD([p], lr=1).step([read_only(np.ones(4))])
    assert (p == 0).all()


# Parameters that change under the optimizer -------------------------------------------------------


def test_parameter_was_resized() -> None:
    setup = Setup(ADAM, named=False)
    setup.params[9].resize(7, refcheck=False)
    setup.before = setup.snapshot()
    text = r"^params\[9\]: expected shape \(3, 4\) as before, got \(7,\)"
    setup.expect(setup.grads, ValueError, text)


def test_parameter_became_read_only() -> None:
    setup = Setup(ADAM, named=False)
    setup.params[9].flags.writeable = False
    setup.expect(setup.grads, ValueError, r"^params\[9\]: expected a writeable array")
    setup.opt.step([*setup.grads[:9], None])  # not updated, so it may be


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_parameter_changed_its_shape() -> None:
    setup = Setup(ADAM, named=False)
    setup.params[0].shape = (12,)
    setup.expect(setup.grads, ValueError, r"^params\[0\]: expected shape \(3, 4\) as before")


def test_parameter_moved() -> None:
    """Resized away and back, its memory is another: it is found again, and so are overlaps."""
    p, q = np.ones(4), np.ones(4)
    opt = fusedopt.SGD([p, q], lr=1)
    opt.step([np.ones(4), np.ones(4)])
    kept = []
    p.resize(100_000, refcheck=False)
    kept.append(np.ones(4))  # something else may take the old place
    p.resize(4, refcheck=False)
    opt.step([np.ones(4), None])
    assert (p == -1).all()
    assert (kept[0] == 1).all()
    with pytest.raises(ValueError, match=r"grads\[1\] overlaps params\[0\]"):
        opt.step([None, p])


def test_memory_maps_work(tmp_path: Any) -> None:
    p = np.memmap(tmp_path / "p", np.float32, "w+", shape=(5,))
    g = np.memmap(tmp_path / "g", np.float32, "w+", shape=(5,))
    g[...] = [1, 2, 3, 4, 5]
    opt = fusedopt.SGD([p], lr=1)
    for _ in range(3):
        opt.step([g])
    np.testing.assert_array_equal(p, -3 * g)
