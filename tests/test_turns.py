"""Contract: one thread at a time has an optimizer, and nothing changes it from within."""

import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import _core, reference
from fusedopt._step_options import StepOptions
from native_calls import native_rule
from subprocesses import output_of

LARGE = 200_000  # elements: a step lets go of the GIL

FORKS_WHILE_THREADS_WAIT = f"""
import os, signal, sys, threading, time, numpy as np, fusedopt
sys.setswitchinterval(float(sys.argv[1]))
p, g = np.zeros({LARGE}, np.float32), np.ones({LARGE}, np.float32)
opt = fusedopt.Adam([p])
opt.step([g])
stop = False
def work():
    while not stop:
        opt.step([g])
threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
counts = dict.fromkeys(("stepped", "refused", "hung", "failed"), 0)
for _ in range(int(sys.argv[2])):
    time.sleep(0.003)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            opt.step([g])
            opt.state[0]
            os._exit(0)
        except RuntimeError as error:
            os._exit(7 if "forked while another thread was inside step()" in str(error) else 1)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    counts[{{0: "stepped", 7: "refused", -signal.SIGALRM: "hung"}}.get(code, "failed")] += 1
stop = True
for thread in threads:
    thread.join()
print(*counts.values())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("interval", "forks"), [("0.005", "40"), ("0.0001", "40")])
def test_fork_while_threads_wait_for_their_turn(interval: str, forks: str) -> None:
    """The child steps, or is told why it can't: it never waits for a thread that isn't there."""
    done = output_of(FORKS_WHILE_THREADS_WAIT, interval, forks)
    stepped, refused, hung, failed = map(int, done.split())
    assert (hung, failed) == (0, 0), done
    assert stepped + refused == int(forks)


FORKS_AS_A_TURN_COMES = """
import os, signal, sys, threading, time, numpy as np, fusedopt
fusedopt.set_num_threads(1)
p, g = np.zeros(6_000_000), np.ones(6_000_000)
opt = fusedopt.Adam([p])
opt.step([g])
arrived, done = [], []
def wait_for_a_turn():
    time.sleep(0.004)
    arrived.append(1)
    opt.step([g])
    done.append(1)
counts = dict(came=0, stepped=0, refused=0, hung=0, failed=0)
while counts["came"] < 5:
    arrived.clear(), done.clear()
    others = [threading.Thread(target=wait_for_a_turn) for _ in range(2)]
    for other in others:
        other.start()
    sys.setswitchinterval(100)  # whoever has the GIL keeps it
    opt.step([g])  # without the GIL: the others come and wait
    end = time.monotonic() + 0.05
    while time.monotonic() < end:  # the first one's turn has come; it waits for the GIL
        pass
    came = len(arrived) == 2 and not done
    counts["came"] += came
    pid = os.fork() if came else -1
    if pid == 0:
        signal.alarm(10)
        try:
            opt.step([g])
        except RuntimeError as error:
            os._exit(7 if "forked while" in str(error) else 1)
        os._exit(0)
    if came:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        counts[{0: "stepped", 7: "refused", -signal.SIGALRM: "hung"}.get(code, "failed")] += 1
    sys.setswitchinterval(0.005)
    for other in others:
        other.join()
print(counts)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_between_a_turn_that_came_and_the_gil() -> None:
    """The thread whose turn it is stays behind in the parent: nobody is inside, and none was."""
    expected = {"came": 5, "stepped": 5, "refused": 0, "hung": 0, "failed": 0}
    assert output_of(FORKS_AS_A_TURN_COMES) == str(expected)


FORK_FROM_WITHIN = """
import os, numpy as np, fusedopt
from test_threads import run_together
child = []
def lr(step):
    if step == 3 and not child:
        child.append(os.fork())
    return 0.5
p = np.zeros(4)
opt = fusedopt.SGD([p], lr=lr)
for _ in range(6):
    opt.step([np.ones(4)])
assert p.tolist() == [-3.0] * 4, p
if child[0] == 0:  # threads of its own take turns, too
    def work():
        for _ in range(300):
            opt.step([np.ones(4)])
    run_together(work, work, work)
    assert p.tolist() == [-453.0] * 4, p
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_schedule_that_forks() -> None:
    """The thread that is inside goes on in both: the step is theirs."""
    assert output_of(FORK_FROM_WITHIN, timeout=60) == "0"


def test_memory_whose_making_steps() -> None:
    """The step waits for it: there is none to take, and nothing to wait for."""
    p = np.zeros(3)
    errors: list[str] = []

    def allocate(size: int) -> Any:
        for act in (lambda: stepper.step([np.ones(3)]), lambda: stepper.bind([np.ones(3)])):
            try:
                act()
            except RuntimeError as error:
                errors.append(str(error))
        return np.zeros(size, np.uint8)

    stepper = _core.Stepper(allocate)
    stepper.add_group([p], None, native_rule("momentum", lr=1.0), None)
    stepper.step([np.ones(3)])
    assert len(errors) == 2
    assert all("called from within the same optimizer's work" in error for error in errors)
    assert stepper.completed_steps == 1
    assert stepper.bound is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_new_thread_of_a_child_is_none_that_stayed_behind() -> None:
    """Not even where it has the number that the system gave to that one."""
    code = """
import os, threading, time, numpy as np, fusedopt
opt = fusedopt.SGD([np.zeros(4)])
inside = threading.Event()
def hold():
    with opt._engine.held(None):
        inside.set()
        time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
inside.wait()
pid = os.fork()
if pid == 0:
    refused = []
    def step():
        try:
            opt.step([np.ones(4)])
        except RuntimeError as error:
            refused.append("forked while" in str(error))
    for _ in range(20):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    os._exit(0 if refused == [True] * 20 else 1)
print(os.waitpid(pid, 0)[1], flush=True)
os._exit(0)  # the thread sleeps on
"""
    assert output_of(code) == "0"


VELOCITY = native_rule("momentum", 0.5, lr=1.0, momentum=0.5, velocity=1.0, zero_init=1.0)
WAITING: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda stepper, ahead: stepper.step(None),
    "step_with": lambda stepper, ahead: stepper.step_with(None, StepOptions()),
    "step_some": lambda stepper, ahead: stepper.step_some([(0, np.ones(3))], True),
    "rebind": lambda stepper, ahead: stepper.rebind([(0, np.zeros(3))], []),
    "traffic": lambda stepper, ahead: stepper.traffic(None),
    "add_group": lambda stepper, ahead: stepper.add_group([np.ones(2)], None, VELOCITY, [None]),
    "configure": lambda stepper, ahead: stepper.configure(0, VELOCITY),
    "bind": lambda stepper, ahead: stepper.bind([np.ones(3)]),
    "zero_grad": lambda stepper, ahead: stepper.zero_grad(),
    "load": lambda stepper, ahead: stepper.load([{}], [0], 0, [VELOCITY], None, []),
    "lookahead": lambda stepper, ahead: ahead.__enter__(),
    "swap_ema": lambda stepper, ahead: stepper.swap_ema().__enter__(),
    "back": lambda stepper, ahead: ahead.__exit__(None, None, None),
    "state": lambda stepper, ahead: stepper.state(0),
    "held": lambda stepper, ahead: stepper.held(None).__enter__(),
}


@pytest.mark.parametrize("action", WAITING)
def test_all_wait_for_the_thread_that_has_it(action: str) -> None:
    stepper = _core.Stepper()
    stepper.add_group([np.zeros(3)], None, VELOCITY, None)
    stepper.bind([np.ones(3)])
    stepper.step(None)
    ahead = stepper.lookahead([0.5])
    if action == "back":
        ahead.__enter__()
    errors: list[BaseException] = []

    def act() -> None:
        try:
            WAITING[action](stepper, ahead)
        except BaseException as error:
            errors.append(error)

    other = threading.Thread(target=act, daemon=True)
    with stepper.held(None):
        other.start()
        other.join(0.1)
        assert other.is_alive()
    other.join(60)
    assert not other.is_alive()
    assert errors == []


def test_a_step_of_some_waits_for_the_thread_that_has_it() -> None:
    """Where it goes straight to the native half, too."""
    p = np.zeros(3)
    opt = fusedopt.SGD([p], lr=1.0)
    opt.step([np.ones(3)])
    other = threading.Thread(target=opt.step_some, args=[{0: np.ones(3)}])
    with opt._engine.held(None):
        other.start()
        other.join(0.1)
        assert other.is_alive()
        assert p.tolist() == [-1.0] * 3
    other.join()
    assert p.tolist() == [-2.0] * 3


def test_a_hyperparameter_that_is_assigned_while_a_step_waits() -> None:
    """The step is by what holds when its turn comes."""
    p = np.zeros(3)
    opt = fusedopt.SGD([p], lr=1.0)
    opt.step([np.ones(3)])
    other = threading.Thread(target=opt.step, args=[[np.ones(3)]])
    with opt._engine.held(None):
        other.start()
        other.join(0.1)
        assert other.is_alive()
        opt.param_groups[0]["lr"] = 0.25
    other.join()
    assert p.tolist() == [-1.25] * 3


def test_a_block_that_a_schedule_enters() -> None:
    """One that was made before, outside."""

    def lr(step: int) -> float:
        for block, name in blocks:
            with pytest.raises(RuntimeError, match=rf"^{name}\(\): called from within"):
                block.__enter__()
        return 0.5

    blocks: list[Any] = []
    p = np.zeros(3)
    opt = fusedopt.SGD([p], lr=lr, momentum=0.5, velocity=True, ema_decay=0.5)
    opt.step([np.ones(3)])
    blocks += [(opt.lookahead(), "lookahead"), (opt.swap_ema(), "swap_ema")]
    opt.step([np.ones(3)])
    assert p.tolist() == [-1.25] * 3
    opt.step([np.ones(3)], stats=True)
    assert p.tolist() == [-1.25 - 0.875] * 3


STEPS_AT_THE_END = """
import os, threading, time, numpy as np, fusedopt
p, g = np.zeros(4_000_000), np.ones(4_000_000)
opt, other = fusedopt.Adam([p]), fusedopt.SGD([np.zeros(4)], lr=1.0)
opt.step([g])
# With names of its own: those of this module then go when the interpreter ends.
own = {}
exec("def work(opt, g):\\n    while True: opt.step([g])", own)
threading.Thread(target=own["work"], args=(opt, g), daemon=True).start()
class Last:
    def __del__(self, steps=((other, np.ones(4)), (opt, g)), write=os.write):
        for optimizer, grad in steps:
            try:
                optimizer.step([grad])
                write(1, b"stepped ")
            except RuntimeError as error:
                write(1, str(error).encode())
last = Last()
time.sleep(0.05)
"""


def test_a_finalizer_that_steps_while_the_interpreter_ends() -> None:
    """It is told of a thread that is inside and never comes out, and doesn't wait for it."""
    told = 0
    for _ in range(6):
        done = output_of(STEPS_AT_THE_END, timeout=60)
        assert done.startswith("stepped ")  # the other optimizer, which nobody has
        told += "the interpreter is ending while another thread is inside step()" in done
    assert told > 0


def test_threads_step_in_the_order_in_which_they_came() -> None:
    """None of them is passed over while others step again and again."""
    opt = fusedopt.Adam([np.zeros(LARGE, np.float32)])
    g = [np.ones(LARGE, np.float32)]
    taken = dict.fromkeys(range(3), 0)
    done, all_here = threading.Event(), threading.Barrier(len(taken))

    def work(k: int) -> None:
        all_here.wait()
        while not done.is_set():
            opt.step(g)
            taken[k] += 1
            if taken[k] >= 200:
                done.set()

    threads = [threading.Thread(target=work, args=[k]) for k in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert min(taken.values()) > 100, taken
    assert opt.step_counts[0] == sum(taken.values())


Module = Any
both = pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])


def unchanged(opt: fusedopt.Optimizer) -> bool:
    return not opt.completed_steps and all(not p.any() for p in opt.param_groups[0]["params"])


@both
@pytest.mark.parametrize(
    "change",
    [
        lambda opt: opt.step([np.ones(3)]),
        lambda opt: opt.step([np.ones(3)], max_norm=1.0),
        lambda opt: opt.add_param_group({"params": [np.ones(2)]}),
        lambda opt: opt.load_state_dict(opt.state_dict()),
        lambda opt: opt.swap_ema().__enter__(),
        lambda opt: opt.lookahead().__enter__(),
    ],
    ids=["step", "step with options", "add_param_group", "load_state_dict", "swap_ema", "ahead"],
)
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}], ids=["plain", "with options"])
def test_a_schedule_can_not_change_what_asks_it(
    module: Module, change: Callable[[fusedopt.Optimizer], None], options: dict[str, Any]
) -> None:
    opt = None

    def lr(step: int) -> float:
        if opt is not None:
            change(opt)
        return 0.5

    made = module.SGD([np.zeros(3)], lr=lr, momentum=0.9, velocity=True, ema_decay=0.5)
    opt = made
    with pytest.raises(RuntimeError, match="called from within the same optimizer's work, as by"):
        opt.step([np.ones(3)], **options)
    assert unchanged(opt)
    assert len(opt.param_groups) == 1
    opt = None
    made.step([np.ones(3)], **options)
    assert made.completed_steps == 1


@both
def test_a_schedule_that_goes_on_after_the_error(module: Module) -> None:
    """The step that it was asked for is the only one."""
    seen: list[int] = []

    def lr(step: int) -> float:
        if seen:
            with pytest.raises(RuntimeError, match="^step.*: called from within"):
                opt.step([np.ones(3)])
        seen.append(step)
        return float(step + 1)

    opt = module.SGD([np.zeros(3)], lr=lr)
    opt.step([np.ones(3)])
    opt.step([np.ones(3)])
    assert opt.completed_steps == 2
    assert opt.param_groups[0]["params"][0].tolist() == [-3.0] * 3


@both
def test_no_group_is_added_within_another(module: Module) -> None:
    opt = module.SGD({"w": np.zeros(3)}, lr=0.1)

    def lr(step: int) -> float:
        opt.add_param_group({"params": {"b": np.zeros(2)}})
        return 0.5

    with pytest.raises(RuntimeError, match=r"^add_param_group\(\): called from within"):
        opt.add_param_group({"params": {"b": np.zeros(2)}, "lr": lr})
    assert list(opt.state) == ["w"]
    assert len(opt.param_groups) == 1
    opt.add_param_group({"params": {"b": np.zeros(2)}})
    opt.step({"w": np.ones(3), "b": np.ones(2)})
    assert list(opt.state) == ["w", "b"]


@both
def test_looking_from_within_is_allowed(module: Module, tmp_path: Any) -> None:
    """As a signal's handler does, which saves the run."""

    def lr(step: int) -> float:
        if opt is not None:
            found.append(opt.state_dict()["completed_steps"])
            opt.save(tmp_path / "run")
            found.append(len(opt.state[0]))
        return 0.5

    opt = None
    found: list[int] = []
    opt = module.SGD([np.zeros(3)], lr=lr, momentum=0.9)
    opt.step([np.ones(3)])
    opt.step([np.ones(3)])
    assert found == [0, 0, 1, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_a_signal_comes_before_a_group_is_added_or_after() -> None:
    """Never between its native half and its Python half."""

    class InterruptionError(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise InterruptionError

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # an error is lost where it comes into another library's callback for it
    interrupted = count = 0
    opt = fusedopt.SGD({}, momentum=0.5)
    try:
        while interrupted < 100:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-4))
                for _ in range(100):
                    count += 1
                    opt.add_param_group({"params": {f"p{count}": np.zeros(2)}})
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptionError:
                interrupted += 1
            opt = check_halves(opt)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


def check_halves(opt: fusedopt.Optimizer) -> fusedopt.Optimizer:
    n = opt.step_counts.size
    assert n == len(opt.state) == len(list(opt.state)) == len(opt.param_groups) - 1
    opt.step({name: np.ones(2) for name in opt.state})
    return fusedopt.SGD({}, momentum=0.5) if n > 200 else opt


class Asked:
    """Gradients by name that do something when they are looked up."""

    def __init__(self, grads: dict[str, Any], action: Callable[[], None]) -> None:
        self.grads, self.action = grads, action

    def keys(self) -> Any:
        return self.grads.keys()

    def __len__(self) -> int:
        return len(self.grads)

    def __getitem__(self, name: str) -> Any:
        self.action()
        return self.grads[name]


@pytest.mark.parametrize("options", [{}, {"max_norm": 100.0}], ids=["plain", "with options"])
def test_gradients_are_read_before_anything_is_checked(options: dict[str, Any]) -> None:
    p = np.zeros(3)
    opt = fusedopt.SGD({"w": p}, lr=1.0, ema_decay=0.5)
    opt.step({"w": np.zeros(3)})
    block = opt.swap_ema()
    # Where it holds the optimizer while it reads, the block can't begin at all.
    with pytest.raises(RuntimeError, match="not inside swap_ema|^swap_ema.*called from within"):
        opt.step(Asked({"w": np.ones(3)}, block.__enter__), **options)
    block.__exit__(None, None, None)
    assert opt.completed_steps == 1
    assert not p.any()


def together(work: Callable[[], None], meanwhile: Callable[[], None], seconds: float = 1.0) -> None:
    """Run work again and again in a thread while something else happens again and again here."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def loop() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loop)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        while not stop.is_set():
            meanwhile()
    finally:
        stop.set()
        timer.cancel()
        thread.join()
        sys.setswitchinterval(interval)
    assert not errors, errors


def test_assigning_a_number_and_a_schedule_while_another_thread_steps() -> None:
    opt = fusedopt.SGD([np.zeros(4)], lr=0.1, momentum=0.5)
    group = opt.param_groups[0]

    def assign() -> None:
        for value in (lambda step: 0.1, 0.2, lambda step: np.float64(0.3), 0.4):
            group["lr"] = group["momentum"] = value

    together(lambda: opt.step([np.ones(4)]), assign)
    assert opt.completed_steps > 0


def test_values_at_reads_each_value_once() -> None:
    """What is a schedule at the first look is asked, though a number stands there at the next."""
    opt = fusedopt.SGD([np.zeros(4)], lr=lambda step: 0.25)
    group = opt.param_groups[0]

    class Replacing(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield self[0]
            self[0] = 0.5 if callable(self[0]) else lambda step: 0.25
            yield from self[1:]

    group._values = Replacing(group._values)
    assert [group.values_at(0)["lr"] for _ in range(4)] == [0.25, 0.5, 0.25, 0.5]


@pytest.mark.parametrize("module", [fusedopt, reference], ids=["fusedopt", "reference"])
def test_looking_at_state_while_another_thread_steps(module: Module) -> None:
    """State that a step makes and unmakes again, as the step is skipped, is not there to see."""
    size = 100_000
    opt = module.Adam({"w": np.zeros(size), "b": np.zeros(3)}, ema_decay=0.5)
    bad = {"w": np.full(size, np.nan), "b": np.zeros(3)}
    looks = 0

    def look() -> None:
        nonlocal looks
        assert dict(opt.state["w"]) == {}
        assert dict(opt.ema) == {}
        assert list(opt.ema.items()) == list(opt.ema.values()) == []
        assert opt.state_dict()["state"] == {}
        repr(opt.state)
        looks += 1

    if module is fusedopt:  # the reference is for one thread
        together(lambda: opt.step(bad, on_nonfinite="skip"), look)
    else:
        opt.step(bad, on_nonfinite="skip")
        look()
    assert looks > 0


def test_looking_at_state_while_groups_are_added_and_steps_taken() -> None:
    opt = fusedopt.Adam({"p0": np.zeros(3)}, ema_decay=0.5)
    count = 1

    def change() -> None:
        nonlocal count
        if count < 2000:
            opt.add_param_group({"params": {f"p{count}": np.zeros(3)}})
            count += 1

    def look() -> None:
        for mapping in (opt.state, opt.ema, opt.state["p0"]):
            assert len(list(mapping.items())) > 0
            dict(mapping)
            list(mapping.values())

    opt.step({"p0": np.ones(3)})
    together(change, look)
    assert count > 2


def test_a_schedule_that_saves_leaves_other_groups_as_they_are(tmp_path: Any) -> None:
    params = [np.zeros(2), np.zeros(2)]

    def lr(step: int) -> float:
        if saving:
            opt.save(tmp_path / "run")
        return 0.25

    saving = False
    groups = [{"params": [params[0]], "lr": lambda step: 0.5}, {"params": [params[1]], "lr": lr}]
    opt = fusedopt.SGD(groups)
    saving = True
    for _ in range(2):
        opt.step([np.ones(2), np.ones(2)])
    assert params[0].tolist() == [-1.0, -1.0]
    assert params[1].tolist() == [-0.5, -0.5]
