"""Contract: arrays of other libraries are read and updated where they lie, whatever they become.

Those here are NumPy's behind DLPack's functions (tests/exchange.py); torch's own are at the end.
"""

import copy
import ctypes
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import every_dtype, random_arrays
from exchange import API, GPU, READ_ONLY, Api, Foreign, Plain, capsule_of
from fusedopt import reference
from meanwhile import until_it_is_met
from subprocesses import output_of

SHAPES: list[Any] = [3, (2, 5), (1, 7, 1), (), 0, (3, 0), 260]
both_kinds = pytest.mark.parametrize("kind", [Foreign, Plain])


def pair(
    kind: Callable[[Any], Any], dtype: Any = np.float32, **options: Any
) -> tuple[fusedopt.Optimizer, fusedopt.Optimizer, list[Any], list[Any]]:
    arrays = random_arrays(0, dtype, SHAPES)
    theirs = [array.copy() for array in arrays]
    ours = fusedopt.Adam([kind(array) for array in arrays], lr=0.1, **options)
    return ours, reference.Adam(theirs, lr=0.1, **options), arrays, theirs


def assert_equal(ours: list[Any], theirs: list[Any]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@both_kinds
@every_dtype
@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "zero_grads": True, "stats": True}])
def test_parameters_and_gradients_are_theirs(
    kind: Any, dtype: Any, options: dict[str, Any]
) -> None:
    ours, expected, arrays, theirs = pair(kind, dtype, ema_decay=0.5)
    for seed in range(1, 6):
        grads = random_arrays(seed, dtype, SHAPES)
        given: list[Any] = [kind(g) for g in grads]
        if seed == 3:
            given[1] = grads[1] = None  # and each now and then
        if seed == 4:
            given[2] = grads[2]  # of NumPy's own among them
        wanted = expected.step([None if g is None else g.copy() for g in grads], **options)
        assert ours.step(given, **options) == wanted
        if options and kind is Foreign:
            assert not any(g.any() for g in grads if g is not None)
    assert_equal(arrays, theirs)
    for i in range(len(SHAPES)):
        assert ours.state[i].keys() == expected.state[i].keys()
        for name, array in ours.state[i].items():
            np.testing.assert_array_equal(array, expected.state[i][name])


def test_only_one_of_them_is_theirs() -> None:
    for foreign_param, foreign_grad in ((True, False), (False, True)):
        p, g = np.ones(3), np.full(3, 0.5)
        opt = fusedopt.SGD([Foreign(p) if foreign_param else p], lr=1.0)
        for _ in range(3):
            opt.step([Foreign(g) if foreign_grad else g])
        assert p.tolist() == [-0.5] * 3


def test_arrays_are_followed_where_they_go() -> None:
    """A parameter or a gradient may lie elsewhere at the next step, with other values there."""
    first, second, third = np.ones(9), np.full(9, 5.0), np.full(10, 7.0)[1:]
    p, g = Foreign(first), Foreign(np.full(9, 1.0))
    opt = fusedopt.SGD([p], lr=1.0, momentum=1.0)
    opt.step([g])
    p.array, g.array = second, np.full(9, 2.0)
    opt.step([g])
    p.array, g.array = third, first  # where the parameter lay
    opt.step([g])
    g.array = np.full(9, 3.0)
    p.offset = 8  # says the same in another way
    opt.step([g])
    assert first.tolist() == [0.0] * 9
    assert second.tolist() == [2.0] * 9
    assert third.tolist() == [7.0 - 3.0 - 6.0] * 9


def test_a_parameter_that_has_moved_over_another_is_refused() -> None:
    p, q = Foreign(np.ones(4)), np.ones(4)
    opt = fusedopt.SGD([p, q], lr=1.0)
    opt.step([np.ones(4), np.ones(4)])
    own, p.array = p.array, q
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^params\[1\] overlaps params\[0\]"):
            opt.step([np.ones(4), np.ones(4)])
    p.array = own
    opt.step([np.ones(4), np.ones(4)])
    assert own.tolist() == q.tolist() == [-1.0] * 4


def change(**attributes: Any) -> Callable[[Any], None]:
    return lambda foreign: vars(foreign).update(attributes)


BAD: list[tuple[Callable[[Any], None], type[Exception], str]] = [
    (change(array=np.ones(4, np.float32)), ValueError, r"expected shape \(3,\).* got \(4,\)"),
    (change(array=np.ones((3, 1), np.float32)), ValueError, "expected shape"),
    (change(array=np.ones(6, np.float32)[::2]), ValueError, "expected a C-contiguous"),
    (change(array=np.ones(3)), TypeError, "expected dtype float32.* got float64"),
    (change(array=np.ones(3, np.float16)), TypeError, "got foreign.float16"),
    (change(array=np.ones(3, np.complex64)), TypeError, "got foreign.complex64"),
    (change(array=np.ones(3, np.int32)), TypeError, "got foreign.int32"),
    (change(array=np.ones(13, np.uint8)[1:].view(np.float32)), ValueError, "aligned"),
    (change(device_type=GPU), TypeError, "in main memory, got Foreign on another device"),
    (change(null=True), TypeError, "got Foreign without memory"),
    (change(fails=True), TypeError, "expected an array in main memory, got Foreign$"),
]


@pytest.mark.parametrize(("spoil", "error", "text"), BAD)
def test_what_they_become_is_named_and_nothing_has_changed(
    spoil: Callable[[Any], None], error: type[Exception], text: str
) -> None:
    for which in ("grads", "params"):
        p, g = (Foreign(np.ones(3, np.float32)) for _ in range(2))
        q, h = np.ones(2), np.ones(2)
        opt = fusedopt.Adam({"q": q, "p": p}, lr=0.5)
        opt.step([h, g])
        kept = dict(vars(g if which == "grads" else p))
        before = q.copy(), p.array.copy()
        spoil(g if which == "grads" else p)
        for _ in range(2):
            with pytest.raises(error, match=rf"^{which}\['p'\]: .*{text}"):
                opt.step([h, g])
        vars(g if which == "grads" else p).update(kept)
        assert opt.completed_steps == 1
        np.testing.assert_array_equal(q, before[0])
        np.testing.assert_array_equal(p.array, before[1])
        opt.step([h, g])
        assert opt.completed_steps == 2
        assert not np.array_equal(p.array, before[1])


@pytest.mark.parametrize(("spoil", "error", "text"), BAD[4:])
def test_a_bad_parameter_is_refused_at_once(
    spoil: Callable[[Any], None], error: type[Exception], text: str
) -> None:
    p = Foreign(np.ones(3, np.float32))
    spoil(p)
    with pytest.raises(error, match=rf"^params\[0\]: .*{text}"):
        fusedopt.SGD([p])


def test_read_only_arrays_are_gradients_but_no_parameters() -> None:
    for frozen in (Foreign(np.ones(3), flags=READ_ONLY), Plain(np.ones(3))):
        frozen.array.flags.writeable = isinstance(frozen, Foreign)
        with pytest.raises(ValueError, match=r"^params\[0\]: expected a writeable array"):
            fusedopt.SGD([frozen])
    p = np.zeros(3)
    fusedopt.SGD([p], lr=1.0).step([frozen])
    assert p.tolist() == [-1.0] * 3


class Faulty(Plain):
    """One that goes wrong in a way of its own."""

    def __init__(self, fault: str) -> None:
        super().__init__(np.ones(3))
        self.fault = fault
        self.device = "gpu:0"

    def __getattribute__(self, name: str) -> Any:
        if name == "__dlpack__" and object.__getattribute__(self, "fault") == "attribute":
            raise KeyError("attribute")
        return object.__getattribute__(self, name)

    def __dlpack__(self, **options: Any) -> Any:
        if self.fault == "method":
            raise BufferError("not now\nand more of it")
        return super().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        if self.fault == "device":
            raise RuntimeError("no device")
        return (GPU, 0) if self.fault == "gpu" else super().__dlpack_device__()


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("gpu", TypeError, r"^{}: .*main memory, got Faulty on another device, gpu:0$"),
        ("method", TypeError, r"^{}: .*main memory, got Faulty, which can't be read: not now$"),
        ("device", TypeError, r"^{}: .*main memory, got Faulty: no device$"),
        ("attribute", KeyError, "attribute"),
    ],
)
def test_what_goes_wrong_in_their_methods_is_said(
    fault: str, error: type[Exception], text: str
) -> None:
    opt = fusedopt.SGD([np.ones(3)])
    for _ in range(2):
        with pytest.raises(error, match=text.format(r"grads\[0\]")):
            opt.step([Faulty(fault)])
        with pytest.raises(error, match=text.format(r"params\[0\]")):
            fusedopt.SGD([Faulty(fault)])
    assert opt.completed_steps == 0


def test_something_else_in_the_place_of_an_exchange_api() -> None:
    """It is as if there were none."""
    for other in (None, 1, ctypes.pythonapi, capsule_of(API, b"another")):

        class Odd(Plain):
            __dlpack_c_exchange_api__ = other

        p, g = np.zeros(3), Odd(np.ones(3))
        fusedopt.SGD([p], lr=1.0).step([g])
        assert p.tolist() == [-1.0] * 3
        assert g.asked == 1


def test_strides_that_are_said_are_read() -> None:
    """A transposed array isn't C-contiguous, and one that is may say so."""
    p, g = Foreign(np.zeros((3, 4))), Foreign(np.ones((3, 4)))
    p.says_strides = g.says_strides = True
    opt = fusedopt.SGD([p], lr=1.0)
    owned: list[int] = []
    for _ in range(3):
        opt.step([g])
        owned.append(len(p.owned) + len(g.owned))
    assert owned == [0, 0, 0]  # stood in for, not looked at in full
    assert (p.array == -3).all()
    g.array = np.ones((4, 3)).T
    with pytest.raises(ValueError, match=r"^grads\[0\]: expected a C-contiguous"):
        opt.step([g])
    g.array = np.ones((3, 4, 1))[:, :, 0]
    opt.step([g])
    assert (p.array == -4).all()


def test_one_array_is_no_list_of_arrays() -> None:
    class Rows(Foreign):
        def __len__(self) -> int:
            return len(self.array)

        def __getitem__(self, k: int) -> Any:
            return self.array[k]

    with pytest.raises(TypeError, match=r"^params: .* got Rows; for one array, write \[array\]"):
        fusedopt.SGD(Rows(np.ones((2, 3))))  # type: ignore[arg-type]
    opt = fusedopt.SGD([np.ones(3), np.ones(3)])
    with pytest.raises(TypeError, match=r"^grads: .* got Rows; for one array, write \[array\]"):
        opt.step(Rows(np.ones((2, 3))))  # type: ignore[arg-type]


@both_kinds
def test_bound_gradients_may_be_theirs(kind: Any) -> None:
    p, g = np.zeros(3), np.ones(3)
    opt = fusedopt.SGD([p], lr=1.0, grads=[kind(g)])
    opt.step()
    opt.zero_grad()
    assert not g.any()
    g[:] = 2
    opt.step()
    assert p.tolist() == [-3.0] * 3
    with pytest.raises(ValueError, match=r"^grads\[0\]: expected shape"):
        fusedopt.SGD([np.zeros(3)], grads=[kind(np.ones(4))])
    with pytest.raises(ValueError, match=r"^grads\[0\] overlaps params\[0\]"):
        fusedopt.SGD([p], grads=[kind(p)])


@both_kinds
def test_state_is_saved_loaded_and_copied(kind: Any, tmp_path: Any) -> None:
    ours, expected, arrays, theirs = pair(kind)
    grads = random_arrays(1, np.float32, SHAPES)
    for opt in (ours, expected):
        opt.step([g.copy() for g in grads])
    ours.save(tmp_path / "run", params=True)
    state = copy.deepcopy(ours.state_dict())
    for opt in (ours, expected):
        opt.step([g.copy() for g in grads])
    for continued in (ours, expected):
        continued.load(tmp_path / "run")
    assert_equal(arrays, theirs)
    other, _, copies, _ = pair(kind)
    other.load_state_dict(state)
    for p, q in zip(copies, arrays, strict=True):
        p[...] = q
    for opt in (ours, other, expected):
        opt.step([g.copy() for g in grads])
    assert_equal(copies, theirs)
    assert repr(ours) == repr(expected).replace("reference.", "")


@both_kinds
def test_blocks_move_them_and_put_them_back(kind: Any) -> None:
    p = np.ones(5)
    opt = fusedopt.SGD([kind(p)], lr=0.5, momentum=0.5, velocity=True, ema_decay=0.5)
    opt.step([np.ones(5)])
    after = p.copy()
    with opt.lookahead():
        assert p.tolist() == [0.25] * 5
    assert p.tolist() == after.tolist()
    with opt.swap_ema():
        assert p.tolist() == [0.75] * 5
    assert p.tolist() == after.tolist()


def test_one_that_is_lost_inside_a_block_is_named() -> None:
    p, q = Foreign(np.ones(3)), Foreign(np.ones(3))
    opt = fusedopt.SGD([p, q], lr=0.5, ema_decay=0.5)
    opt.step([np.ones(3), np.ones(3)])
    block = opt.swap_ema()
    block.__enter__()
    p.fails = True
    with pytest.raises(ValueError, match=r"^params\[0\]: can't be put back"):
        block.__exit__(None, None, None)
    assert q.array.tolist() == [0.5] * 3
    p.fails = False
    opt.step([np.ones(3), np.ones(3)])


def test_memory_is_held_while_others_run() -> None:
    """As long as a step works on it without the GIL, and no longer."""
    size = 1_200_000
    p, g = Foreign(np.ones(size)), Foreign(np.ones(size))
    opt = fusedopt.SGD([p], lr=1e-9)
    met: list[bool] = []

    def begin() -> None:
        assert not g.owned

    until_it_is_met(begin, lambda: opt.step([g]), lambda: met.append(bool(p.owned and g.owned)))
    assert met == [True]
    assert not p.owned
    assert not g.owned


def test_one_that_refuses_to_be_held_stops_the_step() -> None:
    size = 1_200_000
    p = Foreign(np.ones(size))
    opt = fusedopt.SGD([p], lr=1.0)
    opt.step([np.ones(size)])
    api = Api(major=1, minor=3, own=type(API.own)(lambda foreign, out: -1), look=API.look)

    class Slippery(Foreign):
        __dlpack_c_exchange_api__ = capsule_of(api)

    for _ in range(2):
        with pytest.raises(ValueError, match="can't be kept where it is"):
            opt.step([Slippery(np.ones(size))])
    assert opt.completed_steps == 1
    assert not p.owned


@pytest.mark.parametrize("older", [False, True])
def test_versions_of_the_exchange_api(older: bool) -> None:
    """One of a later major version is left alone, unless it leads to one that is known."""
    next_api = Api(major=2, minor=0)
    if older:
        next_api.older.contents = API

    class Later(Foreign):
        __dlpack_c_exchange_api__ = capsule_of(next_api)
        __dlpack__ = Plain.__dlpack__
        asked = 0

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    p, g = np.zeros(3), Later(np.ones(3))
    opt = fusedopt.SGD([p], lr=1.0)
    for _ in range(2):
        opt.step([g])
    assert p.tolist() == [-2.0] * 3
    assert (g.looks > 0, g.asked > 0) == (older, not older)


def test_they_are_let_go_of() -> None:
    p, g = Foreign(np.ones(3)), Foreign(np.ones(3))
    opt = fusedopt.SGD([p], lr=1.0)
    for _ in range(2):
        opt.step([g])
    assert not p.owned
    assert not g.owned
    for steps in (0, 2):
        p = Foreign(np.ones(3))
        p.opt = opt = fusedopt.SGD([p], lr=1.0)  # type: ignore[attr-defined]  # a cycle
        for _ in range(steps):
            opt.step([g])
        left = weakref.ref(p)
        del p, opt
        gc.collect()
        assert left() is None


def test_a_step_with_them_runs_their_code_but_keeps_the_list() -> None:
    """What a method does to the list that it is in is for the next step."""
    p, q = np.zeros(3), np.zeros(3)

    class Clearing(Plain):
        def __dlpack__(self, **options: Any) -> Any:
            grads.clear()
            return super().__dlpack__(**options)

    grads: list[Any] = [Clearing(np.ones(3)), np.ones(3)]
    opt = fusedopt.SGD([p, q], lr=1.0)
    opt.step(grads)
    assert p.tolist() == q.tolist() == [-1.0] * 3
    assert grads == []


def test_what_their_code_does_to_parameters_counts() -> None:
    """Whatever moves while a gradient's own method runs: the step is where they are then."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    for size in (3, 2_000_000):
        p = torch.zeros(size)
        opt = fusedopt.SGD([p, np.zeros(2)], lr=1.0)
        opt.step([torch.zeros(size), np.zeros(2)])

        class Moving(Plain):
            def __dlpack__(self, **options: Any) -> Any:
                p.data = torch.full((size,), 5.0)  # noqa: B023
                return super().__dlpack__(**options)

        opt.step([torch.ones(size), Moving(np.ones(2))])
        opt.step([Moving(np.ones(size, np.float32)), None])
        assert bool((p == 4).all())


def test_tensors_that_another_thread_replaces_meanwhile() -> None:
    """The step is of the memory that it began with, or refused: nothing that is gone is read."""
    pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    code = """
import sys, threading, time, torch, fusedopt
sys.setswitchinterval(1e-6)
for size in (3000, 60_000, 2_000_000):
    for casts in (False, True):
        p, g = torch.zeros(size), torch.ones(size)
        opt = fusedopt.SGD([p], lr=1e-3, cast_grads=casts)
        g = g.half() if casts else g
        ended = False
        def replace():
            while not ended:
                p.data = torch.zeros(size)
                g.data = torch.ones(size, dtype=g.dtype)
                time.sleep(0)
        thread = threading.Thread(target=replace)
        thread.start()
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            try:
                opt.step([g])
                opt.step_some({0: g})
                opt.step([g], max_norm=1.0)
            except RuntimeError as error:
                assert "elsewhere just now" in str(error), error
        ended = True
        thread.join()
print("done")
"""
    assert output_of(code) == "done"


# Rebinding


@pytest.mark.parametrize("module", [fusedopt, reference])
def test_rebinding_keeps_the_state(module: Any) -> None:
    model = {"w": np.ones(3), "b": np.ones(2)}
    grads = {"w": np.full(3, 0.5), "b": np.full(2, 0.25)}
    opt = module.SGD(model, lr=1.0, momentum=1.0)
    opt.step(grads)
    old, model = model, pickle.loads(pickle.dumps(model))
    opt.rebind(model)
    opt.step(grads)
    assert old["w"].tolist() == [0.5] * 3
    assert model["w"].tolist() == [0.5 - 1.0] * 3
    assert model["b"].tolist() == [0.75 - 0.5] * 2
    assert opt.param_groups[0]["params"][0] is model["w"]
    single = np.zeros(2)
    opt.rebind({"b": single})
    opt.rebind({0: old["w"]})
    opt.step(grads)
    assert single.tolist() == [-0.75] * 2
    assert old["w"].tolist() == [0.5 - 1.5] * 3
    opt.rebind([model["w"], model["b"]])
    opt.step(grads)
    assert model["w"].tolist() == [-0.5 - 2.0] * 3


def test_one_that_can_no_longer_be_read_is_replaced() -> None:
    p, q = Foreign(np.ones(3)), np.ones(3)
    opt = fusedopt.SGD([p], lr=1.0)
    opt.step([np.ones(3)])
    p.array = np.ones(3, np.float16)
    with pytest.raises(TypeError, match=r"^params\[0\]"):
        opt.step([np.ones(3)])
    opt.rebind([q])
    opt.step([np.ones(3)])
    assert q.tolist() == [0.0] * 3


def test_rebinding_may_exchange_two_and_take_foreign_ones() -> None:
    p, q = np.zeros(3), np.ones(3)
    opt = fusedopt.SGD([p, q], lr=1.0, momentum=1.0)
    g = [np.ones(3), np.zeros(3)]
    opt.step(g)
    opt.rebind({0: q, 1: p})
    opt.step(g)
    assert p.tolist() == [-1.0] * 3
    assert q.tolist() == [-1.0] * 3
    r = Foreign(np.ones(3))
    opt.rebind({0: r})
    opt.step(g)
    assert r.array.tolist() == [-2.0] * 3
    opt.rebind({0: q})
    opt.step(g)
    assert q.tolist() == [-5.0] * 3


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({0: np.ones(4)}, ValueError, r"^params\['w'\]: expected shape \(3,\)"),
        ({"b": np.ones(2, np.float32)}, TypeError, r"^params\['b'\]: expected dtype float64"),
        ({"b": np.ones(4)[::2]}, ValueError, r"^params\['b'\]: expected a C-contiguous"),
        ({"b": [1.0, 2.0]}, TypeError, r"^params\['b'\]: expected a NumPy array, got list"),
        ({"x": np.ones(3)}, ValueError, r"^params\['x'\]: there is no such parameter"),
        ({7: np.ones(3)}, ValueError, r"^params\[7\]: there is no such parameter"),
        ({-1: np.ones(3)}, ValueError, r"^params\[-1\]: there is no such parameter"),
        ({None: np.ones(3)}, ValueError, r"^params\[None\]: there is no such parameter"),
        ({"w": np.ones(3), 0: np.ones(3)}, ValueError, r"^params\[0\]: params\['w'\] is there"),
        ([np.ones(3)], ValueError, "^params: expected 2 arrays, one for each parameter, got 1"),
        (np.ones(2), TypeError, "^params: expected a list of arrays, or a dict"),
        (None, TypeError, "^params: expected a list of arrays, or a dict"),
    ],
)
def test_what_cannot_be_rebound_changes_nothing(
    params: Any, error: type[Exception], text: str
) -> None:
    w, b, grads = np.ones(3), np.ones(2), [np.ones(3), np.ones(2)]
    opt = fusedopt.SGD({"w": w, "b": b}, lr=1.0, grads=grads)
    opt.step()
    more = {"w": np.ones(3), **params} if isinstance(params, dict) and 0 not in params else params
    for others in (params, more):
        with pytest.raises(error, match=text):
            opt.rebind(others)
    assert all(a is b for a, b in zip(opt.param_groups[0]["params"], (w, b), strict=True))
    opt.step()
    assert w.tolist() == [-1.0] * 3
    assert b.tolist() == [-1.0] * 2


def test_overlaps_are_seen_when_rebinding() -> None:
    p, q, g = np.ones(3), np.ones(3), np.ones(3)
    opt = fusedopt.SGD([p, q], lr=1.0, grads=[g, np.ones(3)])
    opt.step()
    for other, text in (
        (q, r"^params\[1\] overlaps params\[0\]"),
        (opt.step_counts.view(np.float64), None),
        (g, r"^grads\[0\] overlaps params\[0\]"),
    ):
        if text:
            with pytest.raises(ValueError, match=text):
                opt.rebind([other, q])
    opt.step()
    assert p.tolist() == q.tolist() == [-1.0] * 3
    assert g.tolist() == [1.0] * 3


def test_rebinding_inside_a_block_or_a_schedule_is_refused() -> None:
    p = np.ones(3)
    refused = []

    def lr(step: int) -> float:
        if step == 1:
            with pytest.raises(RuntimeError, match=r"^rebind\(\): called from within"):
                opt.rebind([np.ones(3)])
            refused.append(step)
        return 0.5

    opt = fusedopt.SGD([p], lr=lr, ema_decay=0.5)
    opt.step([np.ones(3)])
    opt.step([np.ones(3)])
    assert refused == [1]
    with opt.swap_ema(), pytest.raises(RuntimeError, match=r"^rebind\(\): not inside swap_ema\(\)"):
        opt.rebind([np.ones(3)])


def test_joblib_is_refused_and_pickle_is_not(tmp_path: Any) -> None:
    """As what joblib loads would be an optimizer that steps arrays which are nobody's."""
    joblib = pytest.importorskip("joblib", reason="comes with scikit-learn (extra: peers)")
    p = np.ones(3)
    opt = fusedopt.SGD([p], lr=1.0)
    with pytest.raises(TypeError, match="can't be written by joblib.*Use pickle"):
        joblib.dump({"p": p, "opt": opt}, tmp_path / "model")

    class Apart:
        """What joblib writes of it is a pickle's bytes, or a copy that it never sees."""

        def __reduce__(self) -> Any:
            copy.deepcopy(opt)
            return bytes, (pickle.dumps({"p": p, "opt": opt}),)

    joblib.dump(Apart(), tmp_path / "apart")
    assert pickle.loads(joblib.load(tmp_path / "apart"))["p"].tolist() == [1.0] * 3
    both = pickle.loads(pickle.dumps({"p": p, "opt": opt}))
    both["opt"].step([np.ones(3)])
    assert both["p"].tolist() == [0.0] * 3


# torch's own


def test_torch_tensors_are_read_where_they_lie() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(3, 5)), torch.randn(7, dtype=torch.float64)]
    theirs = [p.detach().numpy().copy() for p in params]
    ours, expected = fusedopt.Adam(params, lr=0.1), reference.Adam(theirs, lr=0.1)
    for step in range(6):
        if step == 3:  # as a module's to() does
            params[0].data = params[0].data.clone()
        grads = [torch.randn(3, 5), torch.randn(7, dtype=torch.float64)]
        ours.step(grads)
        expected.step([g.numpy() for g in grads])
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q)
    bad = {
        "got torch.float16": torch.ones(3, 5).half(),
        "got torch.bfloat16": torch.ones(3, 5, dtype=torch.bfloat16),
        "got torch.complex64": torch.ones(3, 5, dtype=torch.complex64),
        "expected shape": torch.ones(5, 3),
        "C-contiguous": torch.ones(5, 3).t(),
        "meta": torch.ones(3, 5, device="meta"),
        "storage|main memory": torch.ones(3, 5).to_sparse(),
        "overlaps": params[0],
    }
    for text, grad in bad.items():
        with pytest.raises((TypeError, ValueError), match=rf"^grads\[0\].*({text})") as caught:
            ours.step([grad, None])
        assert "\n" not in str(caught.value)
    assert ours.completed_steps == 6
