"""Contract: parameters, gradients and state may lie in files, and then need no memory."""

import copy
import errno
import os
import stat
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import RULE_CASES, Case, assert_same, copies, every_dtype, random_arrays
from fusedopt import _core, reference
from fusedopt._persistence.state_files import StateFiles
from fusedopt._step_options import StepOptions
from native_calls import native_rule
from subprocesses import output_of

SHAPES = [(3, 5), 257, (), 8193, 70_001]


def mapped(path: Path, arrays: list[Any]) -> list[Any]:
    """Return the arrays in files."""
    maps = []
    for i, array in enumerate(arrays):
        file = np.memmap(path / f"{i}", array.dtype, mode="w+", shape=array.shape)
        file[...] = array
        maps.append(file)
    return maps


@every_dtype
@pytest.mark.parametrize("case", RULE_CASES, ids=str)
def test_everything_in_files_is_the_reference(case: Case, dtype: type, tmp_path: Path) -> None:
    for name in ("params", "grads"):
        (tmp_path / name).mkdir()
    values = random_arrays(0, dtype, SHAPES)
    params = mapped(tmp_path / "params", values)
    grads = mapped(tmp_path / "grads", values)
    state = tmp_path / "state"
    ours = case.make(params, ema_decay=0.9, state_dir=state, grads=grads)
    theirs = case.make_reference(copies(values), ema_decay=0.9)
    for step in range(5):
        for g, slopes in zip(grads, random_arrays(1 + step, dtype, SHAPES), strict=True):
            g[...] = slopes
        assert ours.step(max_norm=5.0) == theirs.step(copies(grads), max_norm=5.0)
    assert_same(ours, theirs)
    with ours.swap_ema():
        for p, average in zip(params, (theirs.ema[i] for i in range(len(SHAPES))), strict=True):
            np.testing.assert_array_equal(p, average)
    for i, p in enumerate(params):
        p.flush()
        on_disk = np.fromfile(tmp_path / "params" / f"{i}", dtype).reshape(p.shape)
        np.testing.assert_array_equal(on_disk, p)


def test_gradients_from_a_file_that_is_only_read(tmp_path: Path) -> None:
    np.ones(5).tofile(tmp_path / "grad")
    g = np.memmap(tmp_path / "grad", np.float64, mode="r")
    p = np.memmap(tmp_path / "grad", np.float64, mode="r")
    with pytest.raises(
        ValueError, match=r"^params\[0\]: expected a writeable array, got a read-onl"
    ):
        fusedopt.SGD([p])
    p = np.ones(5)
    fusedopt.SGD([p], lr=1.0).step([g])
    assert not p.any()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_state_is_in_a_file_that_goes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count(str(folder))

    opt = fusedopt.Adam([np.ones(100_000)], state_dir=folder)
    assert mappings() == 0
    opt.step([np.ones(100_000)])
    assert mappings() == 1
    assert not list(folder.iterdir())
    moment = opt.state[0]["exp_avg"]
    other = copy.deepcopy(opt)
    assert mappings() == 2
    del opt
    assert mappings() == 2
    assert (moment == moment[0]).all()
    del moment
    assert mappings() == 1
    other.step([np.ones(100_000)])
    del other
    assert mappings() == 0


@pytest.mark.parametrize("options", [{}, {"max_norm": 10.0}], ids=str)
def test_gradients_that_are_bound(options: dict[str, Any], tmp_path: Path) -> None:
    p, g = np.zeros(3), np.ones(3)
    opt = fusedopt.SGD([p], lr=1.0, momentum=0.5, grads=[g], state_dir=tmp_path)
    opt.step(**options)
    opt.step(**options)
    assert p.tolist() == [-2.5] * 3


def test_saved_loaded_and_moved_ahead(tmp_path: Path) -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = fusedopt.SGD(params, momentum=0.9, velocity=True, state_dir=tmp_path / "a")
    opt.step(random_arrays(1, np.float32, SHAPES))
    opt.save(tmp_path / "file", params=True)
    other = fusedopt.SGD([np.empty_like(p) for p in params], velocity=True, state_dir=tmp_path)
    other.load(tmp_path / "file")
    assert_same(other, opt)
    before = copies(params)
    with opt.lookahead():
        assert (params[-1] != before[-1]).any()
    for p, q in zip(params, before, strict=True):
        np.testing.assert_array_equal(p, q)


def test_state_of_no_bytes_needs_no_file(tmp_path: Path) -> None:
    """Neither a step of empty parameters nor a file without arrays is a reason to ask for room."""
    fusedopt.SGD([np.ones(3)], momentum=0.5).save(tmp_path / "file")
    opt = fusedopt.SGD([np.ones(3)], momentum=0.9, state_dir=tmp_path / "state")
    opt.load(tmp_path / "file")
    assert opt.param_groups[0]["momentum"] == 0.5
    opt.step([np.ones(3)])
    assert opt.state[0]["momentum_buffer"].tolist() == [1, 1, 1]
    for empty in (np.ones(0), np.ones((3, 0), np.float32)):
        for case in RULE_CASES:
            opt = case.make([empty], ema_decay=0.9, state_dir=tmp_path / "state")
            opt.step([empty.copy()], max_norm=1.0)
            opt.add_param_group({"params": [empty.copy()]})
            opt.step([empty.copy(), empty.copy()])
            assert [opt.state[i]["step"] for i in (0, 1)] == [2, 1]
            assert opt.ema[1].shape == empty.shape
            opt.save(tmp_path / "file", params=True)
            other = case.make([empty, empty.copy()], state_dir=tmp_path / "state")
            with pytest.raises(ValueError, match="expected 1, as the optimizer has, got 2"):
                other.load(tmp_path / "file")
            opt.load(tmp_path / "file")
            assert copy.deepcopy(opt).state[0]["step"] == 2
    assert StateFiles(tmp_path / "state")(0).size == 0


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")
def test_state_in_files_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its permissions, and because what is mapped is the file that was made."""
    (tmp_path / "theirs").write_bytes(b"theirs")
    modes = []

    def allocate(descriptor: int, *size: int) -> None:
        (path,) = (tmp_path / "state").iterdir()
        modes.append(stat.S_IMODE(path.stat().st_mode))
        os.ftruncate(descriptor, size[-1])
        # Whoever can write to the folder gives the name to another file.
        path.unlink()
        path.symlink_to(tmp_path / "theirs")

    name = "posix_fallocate" if hasattr(os, "posix_fallocate") else "truncate"
    monkeypatch.setattr(os, name, allocate)
    StateFiles(tmp_path / "state")(5)[...] = 7
    assert modes == [0o600]
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_a_full_disk_is_an_error_of_that_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the file that there was no room for is gone."""

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = "posix_fallocate" if hasattr(os, "posix_fallocate") else "truncate"
    p = np.ones(1000)
    opt = fusedopt.Adam([p], state_dir=tmp_path / "state")
    fusedopt.Adam([np.ones(1000)]).save(tmp_path / "file", params=True)
    with monkeypatch.context() as later:
        later.setattr(os, name, full)
        for act in (lambda: opt.step([p * 2]), lambda: opt.load(tmp_path / "file")):
            with pytest.raises(OSError, match="state_dir: no room for") as caught:
                act()
            assert caught.value.errno == errno.ENOSPC
    assert not list((tmp_path / "state").iterdir())
    assert (p == 1).all()
    assert dict(opt.state[0]) == {}
    opt.step([p * 2])
    assert opt.state[0]["step"] == 1


LARGER_THAN_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
import fusedopt
from subprocesses import own_memory

folder, state_dir, n = Path(sys.argv[1]), sys.argv[2] or None, 20_000_000
fusedopt.set_num_threads(2)
p = np.memmap(folder / "p", np.float32, mode="w+", shape=(n,))
g = np.memmap(folder / "g", np.float32, mode="w+", shape=(n,))
p[:5] = g[:5] = 1
opt = fusedopt.AdamW([p], lr=0.5, ema_decay=0.9, state_dir=state_dir)
small = fusedopt.AdamW([np.ones(40_000, np.float32)], state_dir=state_dir)
small.step([np.ones(40_000, np.float32)])  # threads are there
used = own_memory("VmData")
resource.setrlimit(resource.RLIMIT_DATA, (used + (64 << 20),) * 2)
try:
    for _ in range(2):
        opt.step([g], max_norm=1.0)
    print(opt.state[0]["step"], bool((p[:5] != 1).all()), not p[5:].any())
except MemoryError as error:
    print("MemoryError", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_state_that_is_larger_than_the_memory_it_may_have(tmp_path: Path) -> None:
    text = output_of(LARGER_THAN_MEMORY, str(tmp_path), "")
    assert text.startswith("MemoryError no memory for the optimizer's state: 240")
    assert output_of(LARGER_THAN_MEMORY, str(tmp_path), str(tmp_path / "s")) == "2 True True"


NO_ROOM = """
import resource, sys
import numpy as np
import fusedopt
p = np.ones(100_000)
opt = fusedopt.Adam([p], lr=0.5, state_dir=sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        opt.step([p * 2])
    except OSError as error:
        print(error)
print((p == 1).all(), opt.completed_steps, dict(opt.state[0]))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
opt.step([p * 2])
print(abs(p[0] - 0.5) < 1e-8)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_no_room_on_the_disk_is_an_error_before_anything_moves(tmp_path: Path) -> None:
    first, second, *rest = output_of(NO_ROOM, str(tmp_path / "state")).splitlines()
    assert first == second
    assert "state_dir: no room for 16" in first
    assert rest == ["True 0 {}", "True"]
    assert not list((tmp_path / "state").iterdir())


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bad: list[tuple[Any, type[Exception]]] = [
        (tmp_path / "file", OSError),
        (tmp_path / "file" / "b", OSError),
        (5, TypeError),
    ]
    for folder, error in bad:
        with pytest.raises(error, match="^state_dir: expected a folder"):
            fusedopt.Adam([np.ones(3)], state_dir=folder)
    with pytest.raises(ValueError, match="^state_dir: expected None, as the reference keeps"):
        reference.Adam([np.ones(3)], state_dir=tmp_path)
    opt = fusedopt.Adam([np.ones(3)], state_dir=tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        opt.step([np.ones(3)])
    assert dict(opt.state[0]) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_files_of_state_that_is_gone_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    opt = fusedopt.Adam([np.ones(100_000)], state_dir=folder)
    empty = copy.deepcopy(opt.state_dict())
    for _ in range(5):
        opt.step([np.ones(100_000)])
        opt.load_state_dict(empty)
    assert Path("/proc/self/maps").read_text().count(str(folder)) == 0


FORK = """
import os, sys
import numpy as np
import fusedopt
fresh = fusedopt.Adam([np.ones(3)], state_dir=sys.argv[1])
opt = fusedopt.Adam([np.ones(3)], state_dir=sys.argv[1], ema_decay=0.5)
opt.step([np.ones(3)])
fresh.param_groups[0]["ema_decay"] = 0.5
if os.fork() == 0:
    for call in (
        lambda: opt.step([np.ones(3)]),
        lambda: opt.step([np.ones(3)], stats=True),
        lambda: opt.swap_ema().__enter__(),
        lambda: opt.load_state_dict(fresh.state_dict()),
    ):
        try:
            call()
        except RuntimeError as error:
            print(error, flush=True)
    fresh.step([np.ones(3)])
    os._exit(0)
os.wait()
fresh.step([np.ones(3)])
print(opt.state[0]["exp_avg"][0] == fresh.state[0]["exp_avg"][0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_a_forked_process_keeps_out_of_its_parents_state(tmp_path: Path) -> None:
    *refused, last = output_of(FORK, str(tmp_path)).splitlines()
    assert len(refused) == 4
    for text in refused:
        assert text.startswith("state_dir: this process was forked, and the state in files is its")
    assert last == "True"


@pytest.mark.parametrize("options", [{}, {"zero_grads": True, "stats": True}], ids=str)
def test_what_changes_while_state_is_made_is_looked_at_again(options: dict[str, Any]) -> None:
    """Making files runs Python code, and lets other threads run."""
    p, g = np.ones(100_000), np.ones(100_000)
    changes = [
        lambda: setattr(p.flags, "writeable", False),
        lambda: p.resize((10,), refcheck=False),
        lambda: g.resize((10,), refcheck=False),
    ]
    if options:
        changes.append(lambda: setattr(g.flags, "writeable", False))
    for change in changes:
        p, g = np.ones(100_000), np.ones(100_000)

        def allocate(size: int, change: Any = change) -> Any:
            change()
            return np.zeros(size + 64, np.uint8)[:size]

        stepper = _core.Stepper(allocate)
        stepper.add_group([p], None, native_rule("momentum", 0.5), None, [])
        step = (
            partial(stepper.step_with, options=StepOptions(**options)) if options else stepper.step
        )
        with pytest.raises(ValueError, match="expected"):
            step([g])
        assert (p == 1).all()
        assert (g == 1).all()
        assert stepper.state(0) == (0, {})
        assert list(stepper.step_counts) == [0]
