"""Contract: a gradient may lie anywhere but in memory that the step writes, to the very byte."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import copies, random_arrays
from fusedopt import _core, functional
from native_calls import native_rule

SIZE = 3  # of every parameter
LARGE = 1 << 24  # elements that surely lie in a mapping of their own, behind all small arrays


def places(count: int) -> tuple[list[int], int]:
    """Return where parameters begin, 2 to 7 elements apart, with room before and behind."""
    starts, at = [], 8
    for k in range(count):
        starts.append(at)
        at += SIZE + 2 + k * 3 % 6
    return starts, at + 8


def overlaps(start: int, starts: list[int]) -> bool:
    return any(start < s + SIZE and s < start + SIZE for s in starts)


def orders(last: int) -> Iterator[list[int]]:
    every = list(range(last - SIZE + 1))
    yield every
    yield every[::-1]
    yield list(np.random.default_rng(0).permutation(every))


@pytest.mark.parametrize("room", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", range(1, 10))
def test_a_gradient_at_every_place_around_parameters(count: int, dtype: Any, room: int) -> None:
    """Before the first, behind the last, in gaps and over every edge; for a new optimizer, and one
    that remembers where gradients were."""
    starts, end = places(count)
    memory = np.zeros(max(end, room), dtype)
    params = [memory[s : s + SIZE] for s in starts]
    others = [np.zeros(SIZE, dtype) for _ in params]
    kept = fusedopt.SGD(params, lr=1.0)
    kept.step(others)
    own = count // 2
    taken = 1
    for number, order in enumerate(orders(end)):
        for start in order:
            grads = list(others)
            grads[own] = memory[start : start + SIZE]
            new = [fusedopt.SGD(params, lr=1.0)] if number == 0 else []
            for opt in (*new, kept):
                if overlaps(start, starts):
                    with pytest.raises(ValueError, match=rf"^grads\[{own}\] overlaps params"):
                        opt.step(grads)
                else:
                    opt.step(grads)
                    taken += opt is kept
    assert list(kept.step_counts) == [taken] * count
    assert not memory[:end].any()


@pytest.mark.parametrize("count", [300, 1, 2, 3, 10, 100])
def test_each_of_many_parameters_is_known(count: int) -> None:
    """In the first step, and where gradients moved since the last one."""
    params = [np.zeros(SIZE) for _ in range(count)]
    opt = fusedopt.SGD(params, lr=1.0)
    for _ in range(2):
        for j, p in enumerate(params):
            grads = [np.zeros(SIZE) for _ in params]
            opt.step(grads)
            grads[(j + 1) % count] = p[:]
            with pytest.raises(ValueError, match=rf"overlaps params\[{j}\]"):
                opt.step(grads)
    assert list(opt.step_counts) == [2 * count] * count


def test_many_arrays_at_one_place() -> None:
    for count in (2, 15, 16, 17, 18, 100, 1000):
        arrays = [np.zeros(LARGE)] * count  # at addresses above those of all that is small
        others = [np.zeros(LARGE)] * count
        with pytest.raises(ValueError, match=r"^params\[\d+\] overlaps params\[\d+\] in memory"):
            functional.sgd_(arrays, others, step=1, lr=1.0)


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_gradient_that_fills_the_gap_between_parameters(spare: int) -> None:
    """What is free around it is exactly its own place, or a little more."""
    memory = np.zeros(24 + spare)
    opt = fusedopt.SGD([memory[:8], memory[-8:]], lr=1.0)
    other = np.ones(8)
    for _ in range(3):
        opt.step([memory[8:16], other])
    for begin in range(1, 16 + spare):
        if 8 <= begin <= 8 + spare:
            opt.step([memory[begin : begin + 8], other])
        else:
            with pytest.raises(ValueError, match=r"^grads\[0\] overlaps params"):
                opt.step([memory[begin : begin + 8], other])
    assert opt.completed_steps == 4 + spare


def test_the_parameter_that_is_named_is_the_one() -> None:
    starts, end = places(9)
    memory = np.zeros(end)
    params = [memory[s : s + SIZE] for s in starts]
    opt = fusedopt.SGD(params)
    for k, start in enumerate(starts):
        for shift in (-2, -1, 0, 1, 2):
            if shift == -2 and overlaps(start + shift, starts[:k]):
                continue
            gradient = memory[start + shift : start + shift + SIZE]
            with pytest.raises(ValueError, match=rf"^grads\[0\] overlaps params\[{k}\] in memory"):
                opt.step([gradient, *[None] * 8])


def test_gradients_around_state() -> None:
    """State that is side by side with what is no state."""
    blocks: list[Any] = []

    def allocate(size: int) -> Any:
        memory = np.frombuffer(bytearray(size + 256), np.uint8)  # nobody knows its owner
        start = -memory.ctypes.data % 64 + 64
        blocks.append((memory, start, start + size))
        return memory[start : start + size]

    p = np.zeros(16)
    stepper = _core.Stepper(allocate)
    stepper.add_group([p], None, native_rule("momentum", 0.5), None)
    stepper.step([np.zeros(16)])
    ((memory, begin, end),) = blocks
    for start in range(begin % 8, memory.size - 128 + 1, 8):
        gradient = memory[start : start + 128].view(np.float64)
        if start < end and begin < start + 128:
            with pytest.raises(ValueError, match=r"^grads\[0\] overlaps the optimizer's own state"):
                stepper.step([gradient])
        else:
            stepper.step([gradient])


def test_memory_of_state_that_is_gone_is_free() -> None:
    """Step counts of before a group was added, state of before another was loaded."""
    opt = fusedopt.SGD([np.ones(4)], momentum=0.9)
    empty = opt.state_dict()
    counts = opt.step_counts
    opt.add_param_group({"params": [np.ones(1)]})
    opt.step([np.ones(4), counts.view(np.float64)])
    buffer = opt.state[0]["momentum_buffer"]
    with pytest.raises(ValueError, match="own state"):
        opt.step([buffer, None])
    other = fusedopt.SGD([np.ones(4)], momentum=0.9)
    other.step([np.ones(4)])
    buffer = other.state[0]["momentum_buffer"]
    other.load_state_dict(empty)
    other.step([buffer])
    assert (other.state[0]["momentum_buffer"] == buffer).all()
    with pytest.raises(ValueError, match="own state"):
        other.step([other.state[0]["momentum_buffer"]])
    with pytest.raises(ValueError, match="own state"):
        fusedopt_counts(other)


def fusedopt_counts(opt: fusedopt.Optimizer) -> None:
    opt.add_param_group({"params": [np.ones(1)]})
    opt.load_state_dict(opt.state_dict())
    opt.step([None, opt.step_counts.view(np.float64)[:1]])


def test_state_of_a_step_that_failed_is_free_again() -> None:
    p, g = np.ones(100), np.ones(100)
    g[3] = np.inf
    opt = fusedopt.SGD([p], momentum=0.9, ema_decay=0.5)
    for _ in range(3):
        assert opt.step([g], on_nonfinite="skip").skipped
        assert dict(opt.state[0]) == {}
    for _ in range(200):  # what was state is given to others, as these
        opt.step([np.ones(100)], max_norm=1.0)
        assert opt.step([g], on_nonfinite="skip").skipped


def test_gradients_that_are_views_of_what_others_own() -> None:
    """Who owns its memory says where an array can be; not so of a memoryview's."""
    memory = np.zeros(64)
    params = [memory[:8], np.frombuffer(memory.data, np.float64, 8, 64)]
    opt = fusedopt.SGD(params, lr=1.0)
    own = [np.zeros(8), np.zeros(8)]
    for _ in range(3):
        opt.step(own)
    for i in (0, 1):
        for gradient in (
            memory[4:12],
            np.frombuffer(memory.data, np.float64, 8, 32),
            memory[:16].reshape(2, 8)[1],
            memory[:][4:12][:],
            memory[8:16].view(),
        ):
            grads = list(own)
            grads[i] = gradient
            with pytest.raises(ValueError, match=rf"^grads\[{i}\] overlaps params"):
                opt.step(grads)
    opt.step([memory[16:24], memory[16:24]])
    assert list(opt.step_counts) == [4, 4]


def test_a_chain_of_views_ends_at_the_owner() -> None:
    """A parameter's own memory, reached by a view of something that isn't an array."""
    memory = bytearray(8 * 64)
    p = np.frombuffer(memory, np.float64, 8)
    opt = fusedopt.SGD([p], lr=1.0)
    for _ in range(3):
        opt.step([np.zeros(8)])
    for gradient in (
        np.frombuffer(memory, np.float64, 8, 8),
        np.frombuffer(memory, np.float64)[:8],
        np.frombuffer(memory, np.float64)[7:15],
    ):
        with pytest.raises(ValueError, match=r"^grads\[0\] overlaps params\[0\]"):
            opt.step([gradient])
    opt.step([np.frombuffer(memory, np.float64, 8, 64)])


def test_a_parameter_that_moved_into_memory_that_was_free() -> None:
    """What was learnt of the memory around gradients is forgotten where parameters move."""
    params = random_arrays(0, np.float32, [(16,)] * 4)
    opt, others = fusedopt.SGD(params, lr=0.5), [np.zeros(16, np.float32) for _ in params]
    memory = np.zeros(1 << 20, np.float32)  # as a gradient from here: all around it is free
    for _ in range(3):
        opt.step([memory[:16], *others[1:]])
    before = copies(params)
    for size in (1 << 22, 1 << 18, 1 << 14):
        params[3].resize(size, refcheck=False)
        params[3].resize(16, refcheck=False)
        opt.step([memory[16:32], *others[1:]])
        for k in range(3):
            grads = list(others)
            grads[k] = params[3].view()
            with pytest.raises(ValueError, match=rf"^grads\[{k}\] overlaps params\[3\]"):
                opt.step(grads)
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("count", [2, 17, 100])
def test_one_array_many_times(count: int) -> None:
    same = np.ones(4)
    with pytest.raises(ValueError, match=r"^params\[\d+\] overlaps params\[\d+\]"):
        fusedopt.SGD([same] * count)
    params = [np.zeros(4) for _ in range(count)]
    opt = fusedopt.SGD(params, lr=1.0)
    opt.step([same] * count)  # may be read as often as one likes
    with pytest.raises(ValueError, match=r"^grads\[\d+\] overlaps grads\[\d+\] in memory"):
        opt.step([same] * count, zero_grads=True)
    assert all((p == -1).all() for p in params)
    assert (same == 1).all()
