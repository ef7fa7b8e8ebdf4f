"""Contract: what a killed process left is removed by the next save there, and nothing else is."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt._persistence import replacing
from subprocesses import output_of, run_python

fcntl = pytest.importorskip("fcntl", reason="needs a POSIX system")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")

NAME = ".fusedopt-0123456789abcdef.tmp"


def stepped() -> fusedopt.Optimizer:
    opt = fusedopt.Adam({"w": np.ones(1000), "b": np.ones(3, np.float32)}, lr=0.1)
    opt.step({"w": np.ones(1000), "b": np.ones(3, np.float32)})
    return opt


def temporary_in(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


KILLED = """
import os, signal, sys
from test_leftovers import stepped
from fusedopt._persistence import files

path, last = sys.argv[1], int(sys.argv[2])
opt = stepped()
write_all, calls = files._write_all, [0]

def write(file, content):
    if calls[0] == last:
        write_all(file, memoryview(content)[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    calls[0] += 1
    write_all(file, content)

files._write_all = write
opt.save(path, params=True, extra="new")
"""


def test_killed_at_every_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    stepped().save(path, params=True, extra="old")
    killed = 0
    for last in range(20):
        done = run_python(KILLED, str(path), str(last))
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        killed += 1
        # It removed what the one before it had left.
        assert len(temporary_in(tmp_path)) == 1
        assert stepped().load(path) == "old"
    assert killed == 2 + 6  # the length, the index, and the arrays
    assert stepped().load(path) == "new"
    assert os.listdir(tmp_path) == ["file"]


STOPPED = KILLED.replace(
    "os.kill(os.getpid(), signal.SIGKILL)",
    "print('half', flush=True)\n"
    "        sys.stdin.read()\n"
    "        content = memoryview(content)[len(content) // 2 :]",
)


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", STOPPED, str(tmp_path / "file"), "3"]
    child = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdout, child.stdin:
        assert child.stdout.readline() == b"half\n"
        (name,) = temporary_in(tmp_path)
        stepped().save(tmp_path / "other")
        assert temporary_in(tmp_path) == [name]
    assert child.wait(60) == 0
    assert stepped().load(tmp_path / "file") == "new"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_only_what_was_left_is_removed(tmp_path: Path) -> None:
    opt = stepped()
    names = [
        *(".fusedopt-0123456789abcdef.tmp.txt", ".fusedopt-0123456789ABCDEF.tmp", "x" + NAME),
        *(".fusedopt-12-0123abcd.tmp", ".fusedopt-.tmp", ".fusedopt-0123456789abcde.tmp", "a.tmp"),
    ]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / NAME.replace("0", "1")).mkdir()
    (tmp_path / NAME.replace("0", "2")).symlink_to("a.tmp")
    (tmp_path / NAME.replace("0", "3")).symlink_to("nothing")
    os.mkfifo(tmp_path / NAME.replace("0", "4"))
    before = sorted(os.listdir(tmp_path))
    (tmp_path / NAME).write_text("left")
    # A name that is removed; what has another name is still there under that.
    os.link(tmp_path / "a.tmp", tmp_path / NAME.replace("0", "5"))
    opt.save(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "file"])
    for name in names:
        assert (tmp_path / name).read_text() == "mine"


def test_one_that_is_taken_for_left_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may remove a file between the two calls that make and lock it."""
    lock = replacing._is_locked
    calls: list[Any] = []

    def locked(descriptor: int) -> bool:
        calls.append(temporary_in(tmp_path))
        if len(calls) == 1:
            replacing._remove_leftovers(tmp_path)
            assert temporary_in(tmp_path) == []
        if len(calls) == 2:
            return False  # the other has the lock, and is about to remove it
        return lock(descriptor)

    monkeypatch.setattr(replacing, "_is_locked", locked)
    opt = stepped()
    opt.save(tmp_path / "file", extra=5)
    assert len(calls) == 3
    assert stepped().load(tmp_path / "file") == 5


def test_one_that_another_process_has_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is about to remove it: a file of another name is written, and this one let go of."""
    open_file, other, opened = os.open, [], []

    def open_and_lock(path: Any, flags: int, *mode: int) -> int:
        descriptor = open_file(path, flags, *mode)
        if str(path).endswith(".tmp"):
            opened.append((path, descriptor))
            if not other:
                other.append(open_file(path, os.O_RDWR))
                fcntl.flock(other[0], fcntl.LOCK_EX)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lock)
    with replacing.replacing(tmp_path / "file") as file:
        (locked, descriptor), (_, own) = opened
        assert file.fileno() == own
        if own != descriptor:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(descriptor)
    os.close(other[0])
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == [os.path.basename(locked), "file"]


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("has_been_removed", [False, True])
def test_ctrl_c_before_it_is_locked(
    has_been_removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left, neither a file nor a descriptor."""

    def interrupted(descriptor: int) -> bool:
        if has_been_removed:  # by another process
            replacing._remove_leftovers(tmp_path)
        raise KeyboardInterrupt

    opt = stepped()
    monkeypatch.setattr(replacing, "_is_locked", interrupted)
    before = open_descriptors()
    with pytest.raises(KeyboardInterrupt) as raised:
        opt.save(tmp_path / "file")
    assert open_descriptors() == before
    assert os.listdir(tmp_path) == []
    del raised  # until here it kept what the functions had


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    opt = stepped()
    before = open_descriptors()
    for _ in range(3):
        (tmp_path / NAME).write_text("left")
        opt.save(tmp_path / "file")
        stepped().load(tmp_path / "file")
    assert open_descriptors() == before
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What isn't surely nobody's stays."""

    def unlockable(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / NAME).write_text("left")
    monkeypatch.setattr(fcntl, "flock", unlockable)
    opt = stepped()
    opt.save(tmp_path / "file", extra=5)
    assert stepped().load(tmp_path / "file") == 5
    assert sorted(os.listdir(tmp_path)) == [NAME, "file"]
    monkeypatch.undo()
    opt.save(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


MANY = """
import sys
from test_leftovers import stepped
opt = stepped()
for count in range(60):
    opt.save(sys.argv[1] + ("/own" + sys.argv[2] if count % 2 else "/all"), params=True)
print(stepped().load(sys.argv[1] + "/all"))
"""


def test_many_processes_save_into_one_folder(tmp_path: Path) -> None:
    """None removes what another is writing: that one's save would fail."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(tmp_path), str(number)],
            cwd=Path(__file__).parent,
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    errors = [child.communicate(timeout=200)[1] for child in children]
    assert errors == [b""] * 4
    assert sorted(os.listdir(tmp_path)) == ["all", "own0", "own1", "own2", "own3"]


CRASHES = """
import os, random, signal, sys, time
import numpy as np
import fusedopt

path, folder, limit = sys.argv[1], os.path.dirname(sys.argv[1]), time.monotonic() + 240

def optimizer():
    return fusedopt.Adam({"w": np.zeros(60_000), "b": np.zeros(3)}, ema_decay=0.5)

def save_for_ever(first, begun):
    opt = optimizer()
    opt.step({"w": np.ones(60_000), "b": np.ones(3)})
    for count in range(first, 10**9):
        for p in opt.param_groups[0]["params"]:
            p[...] = count
        for state in opt.state.values():
            for name in ("exp_avg", "exp_avg_sq", "ema"):
                state[name][...] = count
        os.write(begun, b".")
        opt.save(path, params=True, extra={"count": count})

random.seed(0)
last = kills = whole = half = 0
optimizer().save(path, params=True, extra={"count": 0})
while (kills < 100 or whole < 20 or half < 20) and time.monotonic() < limit:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        save_for_ever(last + 1, writer)
    os.close(writer)
    # However busy the machine is: during the child's first save, or its second.
    os.read(reader, 1)
    start = time.monotonic()
    if kills % 2:
        os.read(reader, 1)
        takes = time.monotonic() - start
    else:
        takes = 0.02
    time.sleep(random.uniform(0, takes))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    kills += 1
    half += any(name.endswith(".tmp") for name in os.listdir(folder))
    opt = optimizer()
    count = opt.load(path)["count"]
    assert count >= last, (count, last)
    whole += count > last
    last = count
    state = [a for s in opt.state.values() for name, a in s.items() if name != "step"]
    for array in [*opt.param_groups[0]["params"], *state]:
        assert (array == count).all(), count
    if count:
        assert len(opt.state["w"]) == 4
left = len(os.listdir(folder)) - 1
optimizer().save(path)
print(kills, whole, half, left, len(os.listdir(folder)))
"""


@pytest.mark.timed
def test_a_process_that_is_killed_while_it_saves(tmp_path: Path) -> None:
    """At 100 moments or more: every time the old file loads whole, or the new one."""
    text = output_of(CRASHES, str(tmp_path / "run"))
    kills, whole, half, left, files = map(int, text.split())
    assert kills >= 100
    assert whole >= 20  # after which there was a newer file,
    assert half >= 20  # and which came while one was written
    assert left <= 1  # what the one before had left was removed,
    assert files == 1  # and the last one, too
    print(f"{kills} processes killed, {half} of them in the middle of a file")
