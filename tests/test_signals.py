"""Contract: a signal's handler may raise, or step, anywhere: a step happens whole or not at all.

A timer interrupts at random moments. FUSEDOPT_STRESS=50 is many times as many.
"""

import os
import signal

import pytest

from subprocesses import output_of

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
COUNT = "2000" if int(os.environ.get("FUSEDOPT_STRESS", "0")) >= 50 else "40"

# interrupted(work) is whether an interruption came out of work().
BEGIN = """
import random, signal, sys, threading
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import fusedopt
from cases import copies, random_arrays
from fusedopt import reference

count, options = int(sys.argv[1]), eval(sys.argv[2])
random.seed(1)
fusedopt.set_num_threads(2)

class Interrupted(BaseException):
    pass

def interrupt(*_):
    raise Interrupted

handler = interrupt
signal.signal(signal.SIGALRM, lambda *_: handler())

def interrupted(work, at_most=2e-3):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, at_most))
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        return True
    return False

def in_time(work):
    # Nothing that an interruption left behind keeps another thread waiting.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "deadlock"

arrays = random_arrays(1, np.float32, [40, 40_003, 7, 70_001])
grads = random_arrays(2, np.float32, [40, 40_003, 7, 70_001])
params = copies(arrays)
opt = fusedopt.Adam(params, lr=0.01, ema_decay=0.9)
theirs = reference.Adam(copies(arrays), lr=0.01, ema_decay=0.9)

def everything(opt):
    state = [opt.state[i] for i in range(4)]
    return [*opt.param_groups[0]["params"], *opt.step_counts, opt.completed_steps,
            *(entries[name] for entries in state for name in sorted(entries))]

def same(a, b):
    a, b = everything(a), everything(b)
    return len(a) == len(b) and all(map(np.array_equal, a, b))

def catch_up():
    # The reference takes as many steps as ours did.
    while theirs.completed_steps < opt.completed_steps:
        theirs.step(copies(grads), **options)
    assert same(opt, theirs)
"""


@pytest.mark.parametrize(
    "options",
    [{}, {"max_norm": 0.5, "stats": True}, {"zero_grads": True, "clip_value": 0.1}],
    ids=str,
)
def test_a_handler_that_raises(options: dict[str, object]) -> None:
    code = """
raised = whole = 0
for _ in range(count):
    before = opt.completed_steps
    own = copies(grads)
    if interrupted(lambda: opt.step(own, **options)):
        raised += 1
        whole += opt.completed_steps - before
    else:
        assert opt.completed_steps == before + 1
    catch_up()
in_time(lambda: opt.step(copies(grads), **options))
catch_up()
print(raised > count / 20, whole > 0)
"""
    assert output_of(BEGIN + code, COUNT, repr(options)) == "True True"


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "stats": True}], ids=str)
def test_a_handler_that_steps(options: dict[str, object]) -> None:
    """Another optimizer always; the same one, unless it is inside step() just now."""
    code = """
other = fusedopt.SGD([np.zeros(40_000)], lr=1)
handled = stepped = 0
def handler():
    global handled, stepped
    handled += 1
    other.step([np.full(40_000, -1.0)])
    try:
        opt.step(copies(grads), **options)
        stepped += 1
    except RuntimeError as error:
        assert "from within" in str(error), error
for k in range(1, count + 1):
    interrupted(lambda: opt.step(copies(grads), **options))
    assert opt.completed_steps == k + stepped
    assert (other.param_groups[0]["params"][0] == handled).all()
    catch_up()
print(handled > count / 20, stepped > 0)
"""
    assert output_of(BEGIN + code, COUNT, repr(options)) == "True True"


def test_parameters_come_back_and_loads_are_whole() -> None:
    """Out of swap_ema() and load_state_dict(), wherever the exception came from."""
    code = """
import copy
for _ in range(3):
    opt.step(grads)
first = copy.deepcopy(opt.state_dict())
first_params = copies(params)
opt.step(grads)
second = copy.deepcopy(opt.state_dict())
def is_one(saved):
    return opt.completed_steps == saved["completed_steps"] and all(
        np.array_equal(opt.state[i][name], value)
        for i, entries in saved["state"].items() for name, value in entries.items())
def swap():
    with opt.swap_ema():
        return sum(int(p[0] > 0) for p in params for _ in range(20))
here = copies(params)
raised = 0
for k in range(count):
    raised += interrupted(swap, 5e-4)
    assert all(map(np.array_equal, params, here))
    assert is_one(second)
for k in range(count):
    raised += interrupted(lambda: opt.load_state_dict((first, second)[k % 2]), 5e-4)
    assert is_one(first) or is_one(second)
in_time(lambda: opt.step(grads))
print(raised > count / 20)
"""
    assert output_of(BEGIN + code, COUNT, "{}") == "True"


def test_ctrl_c_while_it_saves_and_loads() -> None:
    """The file is the old one or the new one, and the optimizer is what it was or what it loads."""
    code = """
def handler():
    raise KeyboardInterrupt
def ends_early(work):
    try:
        interrupted(work, 2e-2)
    except KeyboardInterrupt:
        return True
    return False
early = 0
with TemporaryDirectory() as folder:
    path = Path(folder) / "state.safetensors"
    steps = 0
    opt.step(grads)
    opt.save(path, params=True, extra=opt.completed_steps)
    for _ in range(max(30, count // 10)):
        opt.step(grads)
        before = opt.completed_steps
        early += ends_early(lambda: opt.save(path, params=True, extra=opt.completed_steps))
        other = fusedopt.Adam(copies(arrays), ema_decay=0.9)
        saved = other.load(path)
        assert saved in (before, before - 1) or saved == last
        last = saved
        assert other.completed_steps == saved
        while theirs.completed_steps < saved:
            theirs.step(copies(grads))
        assert theirs.completed_steps > saved or same(other, theirs)
        other = fusedopt.Adam(copies(arrays), ema_decay=0.9)
        if ends_early(lambda: other.load(path)):
            assert other.completed_steps in (0, saved)
        in_time(lambda: other.step(grads))
        in_time(lambda: opt.step(grads))
    in_time(lambda: opt.save(path))
print(early > 5)
"""
    assert output_of(BEGIN + code, COUNT, "{}") == "True"
