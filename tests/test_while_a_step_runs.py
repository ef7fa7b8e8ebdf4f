"""Contract: a step takes what was there when it began, whatever other code does meanwhile.

Where it releases the GIL other threads run; where it makes state in files Python code does.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import assert_same, copies
from fusedopt import _core, reference
from fusedopt._step_options import StepOptions
from meanwhile import until_it_is_met
from native_calls import native_rule
from subprocesses import output_of

N = 500_000  # elements, so that a step surely takes longer than waking a thread
RULE = native_rule("momentum", 0.5, lr=1.0)
OPTIONS = StepOptions(stats=True)


def emptied(grads: list[Any]) -> None:
    grads.clear()


def replaced(grads: list[Any]) -> None:
    grads[:] = [None] * len(grads)


def one_by_one(grads: list[Any]) -> None:
    for i in range(len(grads)):
        grads[i] = None  # the list stays where it is


@pytest.mark.parametrize("change", [one_by_one, replaced, emptied])
@pytest.mark.parametrize(
    "options",
    [{}, {"max_norm": np.inf, "on_nonfinite": "raise"}, {"stats": True}, {"zero_grads": True}],
    ids=str,
)
def test_the_callers_list_may_change(options: dict[str, Any], change: Callable) -> None:
    """The arrays that were in it at the beginning are those of the step, and are kept."""
    params = [np.zeros(N, np.float32), np.zeros(3, np.float32)]
    opt = fusedopt.SGD(params, lr=1.0, momentum=0.5)
    expected = reference.SGD([np.zeros(1, np.float32)], lr=1.0, momentum=0.5)
    grads: list[Any] = []
    kept: list[Any] = []
    results: list[Any] = []

    def begin() -> None:
        grads[:] = [np.ones(p.size, np.float32) for p in params]

    def meet() -> None:
        held = [weakref.ref(g) for g in grads]
        change(grads)
        kept.append([ref() is not None for ref in held])

    taken = until_it_is_met(begin, lambda: results.append(opt.step(grads, **options)), meet)
    assert kept == [[True, True]]
    assert list(opt.step_counts) == [taken, taken]
    assert opt.completed_steps == taken
    for _ in range(taken):
        expected.step([np.ones(1, np.float32)])
    for p in params:
        assert (p == expected.param_groups[0]["params"][0][0]).all()
    if "stats" in options or "max_norm" in options:
        assert {result.grad_norm for result in results} == {(N + 3) ** 0.5}
    if "stats" in options:
        assert results[-1].stats[0].param_norm > 0


def test_gradients_are_kept_while_their_traffic_is_timed() -> None:
    opt = fusedopt.SGD([np.zeros(N, np.float32)], lr=1.0)
    opt.step([np.ones(N, np.float32)])
    grads: list[Any] = []
    kept: list[bool] = []

    def begin() -> None:
        grads[:] = [np.ones(N, np.float32)]

    def meet() -> None:
        held = weakref.ref(grads[0])
        grads.clear()
        kept.append(held() is not None)

    until_it_is_met(begin, lambda: opt._engine.traffic(grads), meet)
    assert kept == [True]


def test_bound_gradients_of_another_group_may_come() -> None:
    """While one thread steps, another binds more: the step goes on with its own."""
    p, g = np.zeros(N, np.float32), np.ones(N, np.float32)
    opt = fusedopt.SGD([p], lr=1.0, grads=[g])
    added = threading.Event()

    def add() -> None:
        opt.add_param_group({"params": [np.zeros(2, np.float32)]}, grads=[np.ones(2, np.float32)])
        added.set()

    threads: list[threading.Thread] = []

    def meet() -> None:
        threads.append(threading.Thread(target=add))
        threads[0].start()

    taken = until_it_is_met(lambda: None, opt.step, meet)
    threads[0].join()
    assert added.is_set()
    assert (p == -taken).all()
    opt.step()
    assert opt.step_counts[0] == taken + 1
    assert 1 <= opt.step_counts[1] <= taken  # it came after the step that it met


def stepper_with(allocate: Callable[[int], Any], params: list[Any]) -> _core.Stepper:
    stepper = _core.Stepper(allocate)
    stepper.add_group(params, None, RULE, None)
    return stepper


def bytes_of(size: int) -> Any:
    block = np.zeros(size + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size]


@pytest.mark.parametrize("change", [one_by_one, replaced, emptied])
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
def test_the_list_may_change_while_state_is_made(options: dict[str, Any], change: Callable) -> None:
    params = [np.zeros(4), np.zeros(3)]
    grads: list[Any] = [np.ones(4), np.ones(3)]

    def allocate(size: int) -> Any:
        change(grads)
        return bytes_of(size)

    stepper = stepper_with(allocate, params)
    stepper.step_with(grads, options) if options else stepper.step(grads)
    assert list(stepper.step_counts) == [1, 1]
    for p in params:
        assert (p == -1).all()


RESIZED = """
import sys
import numpy as np
from fusedopt import _core
from native_calls import native_rule
n = 1 << 23
rule = native_rule("momentum", 0.5)
for which in (0, 1):
    arrays = [np.ones(n), np.ones(n)]
    def allocate(size):
        arrays[which].resize((10,), refcheck=False)
        return np.zeros(size + 64, np.uint8)[:size]
    stepper = _core.Stepper(allocate)
    stepper.add_group(arrays[:1], None, rule, None)
    try:
        stepper.step(arrays[1:])
    except ValueError as error:
        print(error)
    print(stepper.state(0)[1], stepper.step_counts.tolist(), (arrays[0] == 1).all())
"""


def test_a_large_array_that_was_resized_while_state_was_made_is_not_read() -> None:
    """Its memory went back to the system: to copy it, as an average begins, would be the end."""
    param, first, gradient, second = output_of(RESIZED).splitlines()
    assert param.startswith("params[0]: expected shape (8388608,) as before, got (10,)")
    assert gradient.startswith("grads[0]: expected shape (8388608,), as params[0] has, got (10,)")
    assert first == second == "{} [0] True"


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
def test_memory_that_is_none_is_refused_and_nothing_changes(options: dict[str, Any]) -> None:
    """An allocate() that fails in any way leaves the optimizer as it was."""
    p, g = np.ones(5), np.ones(5)
    read_only = np.zeros(4096, np.uint8)
    read_only.flags.writeable = False
    bad: list[tuple[Callable[[int], Any], type[BaseException]]] = [
        (lambda size: None, RuntimeError),
        (lambda size: [0] * size, RuntimeError),
        (lambda size: bytes_of(size)[: size - 1], RuntimeError),
        (lambda size: np.zeros(2 * size, np.uint8)[::2], RuntimeError),
        (lambda size: read_only[:size], RuntimeError),
        (lambda size: 1 // 0, ZeroDivisionError),
        (lambda size: (_ for _ in ()).throw(KeyboardInterrupt), KeyboardInterrupt),
        (lambda size: p.view(np.uint8), RuntimeError),  # too small
    ]
    for allocate, error in bad:
        stepper = stepper_with(allocate, [p])
        step = partial(stepper.step_with, options=options) if options else stepper.step
        for _ in range(2):
            with pytest.raises(error):
                step([g])
            assert stepper.state(0) == (0, {})
            assert list(stepper.step_counts) == [0]
            assert stepper.completed_steps == 0
    assert (p == 1).all()


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
def test_memory_that_is_a_parameters_is_refused_and_nothing_changes(
    options: dict[str, Any],
) -> None:
    shared = bytes_of(4096)
    p, g = shared[64:104].view(np.float64), np.ones(5)
    p[:] = 1
    blocks = [bytes_of(4096), shared]
    stepper = stepper_with(lambda size: blocks.pop(), [p])
    step = partial(stepper.step_with, options=options) if options else stepper.step
    with pytest.raises(ValueError, match=r"^params\[0\] overlaps the optimizer's own state"):
        step([g])
    assert stepper.state(0) == (0, {})
    assert (p == 1).all()
    step([g])
    assert (p == 0).all()
    assert list(stepper.step_counts) == [1]
    assert set(stepper.state(0)[1]) == {"momentum_buffer", "ema"}


def test_an_allocate_that_steps_gets_an_error() -> None:
    p, g = np.ones(5), np.ones(5)
    errors: list[str] = []

    def allocate(size: int) -> Any:
        for call in (
            lambda: stepper.step([g]),
            lambda: stepper.step_with([g], OPTIONS),
            lambda: stepper.configure(0, RULE),
            lambda: stepper.add_group([np.ones(2)], None, RULE, None),
            lambda: stepper.load([{}], [3], 3, [RULE], None, []),
            lambda: stepper.bind([g]),
            lambda: stepper.traffic([g]),
            stepper.zero_grad,
            stepper.swap_ema().__enter__,
            stepper.lookahead([0.5]).__enter__,
        ):
            with contextlib.suppress(RuntimeError):
                call()
                errors.append("none")
        return bytes_of(size)

    stepper = stepper_with(allocate, [p])
    stepper.step([g])
    assert errors == []
    assert list(stepper.step_counts) == [1]
    assert (p == 0).all()
    assert stepper.bound is None


def test_skipped_steps_beside_files_leave_nothing(tmp_path: Any) -> None:
    params = [np.ones(40_000), np.ones(3)]
    opt = fusedopt.Adam(params, ema_decay=0.5, state_dir=tmp_path)
    expected = reference.Adam(copies(params), ema_decay=0.5)
    bad = [np.full(40_000, np.nan), np.ones(3)]
    some: list[Any] = [np.full(40_000, 2.0), None]
    for grads in (bad, bad, [np.ones(40_000), np.ones(3)], bad, some):
        for side in (opt, expected):
            side.step(grads, on_nonfinite="skip")
        assert_same(opt, expected)
