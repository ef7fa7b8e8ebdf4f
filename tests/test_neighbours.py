"""Contract: arrays that are one piece of work at one step are not at another, to the same bits.

What lies side by side in all streams is updated in one loop. Whether it does is asked anew at every
step: gradients come and go and part, and state of neighbours may have been made at different times.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import _core

SIZES = [8, 5, 0, 16, 3, 33]
FORMS = [
    Case("SGD", {"lr": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1, "ema_decay": 0.5}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "ema_decay": 0.5}),
    Case("Adam", {"lr": 0.1, "amsgrad": True, "ema_decay": 0.9}),
]
every_form = pytest.mark.parametrize("case", FORMS, ids=str)
Arrays = list[Any]


class Neighbours:
    """An optimizer of flat views, its reference of arrays apart, and places for gradients.

    In each of three blocks gradients lie as the parameters do. Those of one block lie side by side,
    those of two don't, though one of the same block as the last but one is as far from its
    parameter as that one was.
    """

    def __init__(self, case: Case, dtype: Any, sizes: list[int]) -> None:
        self.sizes, self.dtype = sizes, dtype
        self.flat, params = fusedopt.flat_views(sizes, dtype)
        self.flat[:] = random_arrays(0, dtype, [self.flat.size])[0]
        self.expected = case.make_reference(copies(params))
        self.actual = case.make(params)
        self.blocks = [fusedopt.flat_views(sizes, dtype)[1] for _ in range(3)]
        self.steps = 0

    def step(self, layout: str, **options: Any) -> None:
        """Step both; layout has a character for each gradient: its block, or - for None."""
        self.steps += 1
        grads: Arrays = []
        for i, (place, value) in enumerate(
            zip(layout, random_arrays(self.steps, self.dtype, self.sizes), strict=True)
        ):
            grads.append(None if place == "-" else self.blocks["abc".index(place)][i])
            if place != "-":
                grads[i][:] = value
        self.expected.step([None if g is None else g.copy() for g in grads], **options)
        self.actual.step(grads, **options)
        self.check()

    def check(self) -> None:
        assert_same(self.actual, self.expected)


# Steps one after the other, of three parameters side by side.
COURSES = [
    ["aaa", "a-a"],
    ["a-a"],
    ["a-a", "-a-", "aaa", "aaa"],
    ["a--", "-a-", "--a", "aaa", "aaa"],
    ["-aa", "a--", "aaa", "aaa"],
    ["aaa", "aaa", "aab", "aab", "aaa"],
    ["aaa", "aaa", "aba", "aba"],
    ["aba", "aba", "aaa", "aaa"],
    ["abb", "abb", "aab", "aaa", "baa", "bbb"],
    ["aaa", "a-b", "aa-", "-aa", "aaa"],
    ["abb", "abb", "aba", "abb", "aab", "cab", "cac", "caa", "cac"],
]


@every_dtype
@every_form
@pytest.mark.parametrize("course", COURSES, ids=",".join)
def test_gradients_that_come_go_and_part(course: list[str], case: Case, dtype: Any) -> None:
    both = Neighbours(case, dtype, [8, 8, 8])
    for layout in course:
        both.step(layout)


@every_form
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"stats": True, "clip_value": 0.5}])
def test_every_way_to_lie_or_be_missing(options: dict[str, Any], case: Case) -> None:
    rng = np.random.default_rng(0)
    both = Neighbours(case, np.float32, SIZES)
    for step in range(80):
        places = "abc-" if step % 7 < 3 else "ab" if step % 7 < 5 else "a"
        layout = "".join(rng.choice(list(places), len(SIZES)))
        for _ in range(1 + step % 2):  # the second repeats the first
            both.step(layout, **(options if step % 3 == 1 else {}))


@every_dtype
@pytest.mark.parametrize(
    "changes",
    [
        [{"momentum": 0.9}, {"ema_decay": 0.5}],
        [{"ema_decay": 0.5}, {"momentum": 0.9}],
        [{"momentum": 0.9, "ema_decay": 0.5}],
    ],
    ids=str,
)
def test_state_of_neighbours_made_at_different_times(changes: Arrays, dtype: Any) -> None:
    """What one has may lie side by side with the other's while more that they have does not."""
    for orders in (["a-", "-a"], ["-a", "a-"], ["aa"]):
        both = Neighbours(Case("SGD", {"lr": 0.1}), dtype, [8, 8])
        both.step("aa")
        for change in changes:
            for opt in (both.actual, both.expected):
                opt.param_groups[0].update(change)
            for layout in [*orders, "aa", "aa"]:
                both.step(layout)
            orders = ["a-", "-a"]


def test_state_is_side_by_side_where_all_of_it_is_made_at_once_and_only_there() -> None:
    """Else the tests above would show nothing."""

    def distance(opt: fusedopt.Optimizer, name: str) -> int:
        first, second = (opt.state[i][name].ctypes.data for i in range(2))
        return second - first

    case = Case("SGD", {"momentum": 0.9, "ema_decay": 0.5})
    together, apart = (Neighbours(case, np.float64, [9, 9]) for _ in range(2))
    together.step("aa")
    apart.step("a-")
    apart.step("-a")
    for name in ("momentum_buffer", "ema"):
        assert distance(together.actual, name) == 72
        assert distance(apart.actual, name) != 72


def test_a_neighbour_that_moved_away() -> None:
    """Resized and back, the first of two that were side by side is elsewhere."""
    for which in (0, 1):
        both = Neighbours(Case("SGD", {"lr": 0.1, "momentum": 0.9}), np.float32, [8, 8])
        block = np.zeros(16, np.float32)
        own = np.zeros(8, np.float32)
        params = [own, block[8:]] if which == 0 else [block[:8], own]
        opt = fusedopt.SGD(params, lr=0.1, momentum=0.9)
        for p, q in zip(params, both.actual.param_groups[0]["params"], strict=True):
            p[:] = q
        for _ in range(6):
            both.step("aa")
            opt.step([both.blocks[0][0], both.blocks[0][1]])
            own.resize(1_000_000, refcheck=False)
            own.resize(8, refcheck=False)
        assert_same(opt, both.expected)


@every_dtype
def test_pairs_of_dtypes_side_by_side(dtype: Any) -> None:
    """A neighbour of the other dtype is no continuation; its state is aligned to its items."""
    other = np.float64 if dtype == np.float32 else np.float32
    for size in (1, 2, 3, 5, 7, 16):
        for kind, make in (("params", _params_of_two_dtypes), ("apart", _apart)):
            params = make(size, dtype, other)
            expected = Case("Adam", {"ema_decay": 0.5}).make_reference(copies(params))
            actual = Case("Adam", {"ema_decay": 0.5}).make(params)
            for step in range(3):
                grads = [
                    random_arrays(step + i, p.dtype, [p.shape])[0] for i, p in enumerate(params)
                ]
                actual.step(grads)
                expected.step(grads)
            assert_same(actual, expected)
            for i, p in enumerate(params):
                for name, array in actual.state[i].items():
                    if name != "step":
                        assert array.ctypes.data % p.itemsize == 0, (kind, size, i, name)
                        assert kind == "params" or array.ctypes.data % 64 == 0


def _params_of_two_dtypes(size: int, dtype: Any, other: Any) -> Arrays:
    """Return two of one dtype and two of the other, each right behind the one before."""
    first, second = np.dtype(dtype).itemsize, np.dtype(other).itemsize
    memory = np.zeros(64 + 32 * size, np.uint8)
    start = -memory.ctypes.data % 64
    if first * size * 2 % second:
        start += second - first  # so that the second is aligned, though the first is odd
    params, at = [], start
    for kind, step in ((dtype, first), (dtype, first), (other, second), (other, second)):
        params.append(memory[at : at + size * step].view(kind))
        at += size * step
    for k, p in enumerate(params):
        p[:] = k + 1
    return params


def _apart(size: int, dtype: Any, other: Any) -> Arrays:
    return [
        np.full(size + k, k + 1, kind) for k, kind in enumerate((dtype, other, dtype, other, dtype))
    ]


def test_float64_behind_one_without_a_gradient_behind_odd_float32() -> None:
    """What lies before it in memory isn't what its state is made after."""
    buffer = np.zeros(96, np.uint8)
    start = -buffer.ctypes.data % 64
    first = np.ones(3, np.float32)
    second, third = buffer[start : start + 32].view(np.float64).reshape(2, 2)
    opt = fusedopt.SGD([first, second, third], lr=0.5, momentum=0.9)
    for grads in ([np.ones(3, np.float32), None, np.ones(2)], [None, np.ones(2), np.ones(2)]):
        opt.step(grads)
    for i in range(3):
        assert opt.state[i]["momentum_buffer"].flags.aligned
    np.testing.assert_allclose(third, [-0.5 - 0.95] * 2)


def test_odd_float32_then_float64_side_by_side() -> None:
    """3 of float32 from the middle of 8 bytes on end where a float64 may begin."""
    memory = np.zeros(20, np.float64)
    skipped = memory.view(np.float32)[1:]
    params = [skipped[:3], memory[2:6], memory[6:].view(np.float32)[:5]]
    assert params[0].ctypes.data + 12 == params[1].ctypes.data
    expected = Case("Adam", {}).make_reference(copies(params))
    actual = Case("Adam", {}).make(params)
    for step in range(3):
        grads = [random_arrays(step, p.dtype, [p.shape])[0] for p in params]
        actual.step(grads)
        expected.step(grads)
    assert_same(actual, expected)
    for name in ("exp_avg", "exp_avg_sq"):
        assert [actual.state[i][name].ctypes.data % 64 for i in range(3)] == [0, 0, 0]


@every_dtype
@pytest.mark.parametrize("stream", ["momentum_buffer", "square_avg", "grad_avg", "ema"])
def test_large_state_lies_as_its_parameter_does(stream: str, dtype: Any) -> None:
    """Within a cache line; but within a page at another quarter, each of its own."""
    options: dict[str, Any] = {"momentum": 0.9, "centered": True, "ema_decay": 0.9}
    itemsize = np.dtype(dtype).itemsize
    names = ["square_avg", "grad_avg", "momentum_buffer", "ema"]
    for offset in (0, 1, 7):
        for size in (2048 // itemsize, 3000, 100_000):
            p = np.zeros(size + offset, dtype)[offset:]
            opt = fusedopt.RMSprop([np.zeros(3, dtype), p], **options)
            opt.step([np.ones(3, dtype), np.ones(size, dtype)])
            address = opt.state[1][stream].ctypes.data
            quarter = (names.index(stream) + 1) * 1024
            assert (address - p.ctypes.data - quarter) % 4096 == 0
    p = np.zeros(2048 // itemsize - 1, dtype)  # small: on a cache line of its own
    opt = fusedopt.RMSprop([np.zeros(3, dtype), p], **options)
    opt.step([np.ones(3, dtype), np.ones(p.size, dtype)])
    assert opt.state[1][stream].ctypes.data % 64 == 0


def test_blocks_of_state_hold_what_lies_in_them() -> None:
    """Each array of every size is inside the block that was made for it, and none in another's."""
    make: Callable[[], Arrays]
    for make in (
        lambda: [np.zeros(n, np.float32) for n in (*range(1, 70), 511, 512, 513, 1023, 1024, 1025)],
        lambda: [np.zeros(n + 1)[1:] for n in (255, 256, 257, 4096, 513)],
        lambda: [np.zeros(n, np.uint8).view(np.float32) for n in (2044, 2048, 2052, 4096)],
    ):
        blocks: Arrays = []

        def allocate(size: int, blocks: Arrays = blocks) -> Any:
            block = np.zeros(size + 64, np.uint8)
            start = -block.ctypes.data % 64
            blocks.append(block[start : start + size])
            return blocks[-1]

        params = make()
        opt = fusedopt.Adam(params, ema_decay=0.5)
        stepper = _core.Stepper(allocate)
        stepper.add_group(params, None, opt._unasked_rule(opt.param_groups[0]), None)
        for p in params:
            p[:] = 1
        stepper.step([np.ones_like(p) for p in params])
        (block,) = blocks
        begin, end = block.ctypes.data, block.ctypes.data + block.size
        spans = sorted(
            (a.ctypes.data, a.ctypes.data + a.nbytes)
            for i in range(len(params))
            for a in stepper.state(i)[1].values()
        )
        assert len(spans) == 3 * len(params)
        assert spans[0][0] >= begin
        assert spans[-1][1] <= end
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
