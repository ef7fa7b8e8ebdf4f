"""Contract: only what was moved is looked at when it is put back, and all of it."""

import contextlib
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import copies
from fusedopt import _core

VELOCITY = {"momentum": 0.9, "velocity": True}


def test_what_was_not_moved_may_become_anything() -> None:
    params = [np.ones(3), np.arange(4.0), np.ones(5)]
    opt = fusedopt.SGD(params, lr=0.1, **VELOCITY)
    opt.step([np.ones(3), None, np.ones(5)])
    before = copies(params)
    with opt.lookahead():
        params[1].resize((1000,), refcheck=False)
        params[1][:] = 7.0
    np.testing.assert_array_equal(params[0], before[0])
    np.testing.assert_array_equal(params[1], np.full(1000, 7.0))
    np.testing.assert_array_equal(params[2], before[2])


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")
def test_an_array_that_is_of_another_dtype_inside_is_not_written() -> None:
    params = [np.ones(3), np.arange(4.0)]
    opt = fusedopt.SGD(params, lr=0.1, ema_decay=0.5)
    opt.step([np.ones(3), np.ones(4)])
    before, averages = copies(params), copies(list(opt.ema.values()))
    block = opt.swap_ema()
    text = r"^params\[1\]: can't be put back from where swap_ema\(\) moved it"
    with pytest.raises(ValueError, match=text), block:
        params[1].dtype = np.int64  # type: ignore[misc]
    np.testing.assert_array_equal(params[0], before[0])
    np.testing.assert_array_equal(params[1].view(np.float64), averages[1])


def test_one_that_moved_and_is_frozen_is_not_written() -> None:
    """A frozen one that is where it was is: it could be written then."""
    for moves in (False, True):
        params = [np.arange(8.0), np.ones(3)]
        opt = fusedopt.SGD(params, lr=0.1, ema_decay=0.5)
        opt.step([np.ones(8), np.ones(3)])
        before, averages = copies(params), copies(list(opt.ema.values()))
        address = params[0].ctypes.data
        with contextlib.ExitStack() as stack:
            if moves:
                text = r"^params\[0\]: can't be put back from where swap_ema\(\) moved it"
                stack.enter_context(pytest.raises(ValueError, match=text))
            stack.enter_context(opt.swap_ema())
            if moves:
                params[0].resize(1_000_000, refcheck=False)
                params[0].resize(8, refcheck=False)
                assert params[0].ctypes.data != address
            params[0].flags.writeable = False
        np.testing.assert_array_equal(params[0], averages[0] if moves else before[0])
        np.testing.assert_array_equal(params[1], before[1])


def test_nothing_is_put_back_twice() -> None:
    params = [np.arange(3.0), np.ones(2)]
    opt = fusedopt.SGD(params, lr=0.1, ema_decay=0.5, **VELOCITY)
    opt.step([np.ones(3), np.ones(2)])
    before = copies(params)
    momenta = [0.9]
    for block in (opt._engine.swap_ema(), opt._engine.lookahead(momenta)):
        with block:
            assert (params[0] != before[0]).all()
        for again in (block, opt._engine.swap_ema(), opt._engine.lookahead(momenta)):
            again.__exit__(None, None, None)
            for p, q in zip(params, before, strict=True):
                np.testing.assert_array_equal(p, q)


class Recording(fusedopt.SGD):
    """Knows how much memory its state was given, each time, with a guard behind it."""

    def _make_engine(self) -> Any:
        self.blocks: list[Any] = []

        def allocate(size: int) -> Any:
            block = np.full(size + 256, 0xA5, np.uint8)
            start = -block.ctypes.data % 64
            self.blocks.append((block[start : start + size], block[start + size :]))
            return self.blocks[-1][0]

        return _core.Stepper(allocate)


def test_copies_are_made_once_and_of_what_is_moved() -> None:
    params = [np.arange(1.0, 1001), np.ones(5000), np.ones(300)]
    opt = Recording(params, lr=0.5, **VELOCITY)
    grads = [np.ones(1000), None, np.ones(300)]
    for moved in ([0, 2], [], [1], []):
        if moved == [1]:
            grads = [np.ones(1000), np.ones(5000), np.ones(300)]
        opt.step(grads)
        given = len(opt.blocks)
        expected = copies(params)
        for _ in range(2):
            with opt.lookahead():
                pass
        new = [len(block) for block, _ in opt.blocks[given:]]
        assert len(new) == bool(moved)
        size = sum(params[i].nbytes for i in moved)
        assert size <= sum(new) <= size + 4096 * len(params)  # for alignment
        for p, q in zip(params, expected, strict=True):
            np.testing.assert_array_equal(p, q)
    for _, guard in opt.blocks:
        assert (guard == 0xA5).all()
