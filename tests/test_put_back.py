"""Contract: only what was moved is looked at when it is put back, and all of it."""

import numpy as np
import pytest

import fusedopt
from cases import copies

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
