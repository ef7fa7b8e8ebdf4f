"""Contract: a save puts a whole file in the old one's place, or leaves the old one alone."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt._persistence import replacing, safetensors
from subprocesses import output_of

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX system")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def stepped(size: int = 3) -> fusedopt.Optimizer:
    opt = fusedopt.Adam([np.ones(size)], lr=0.1)
    opt.step([np.ones(size)])
    return opt


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_where_a_file_can_not_be_written(tmp_path: Path) -> None:
    opt = stepped()
    opt.save(tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    (tmp_path / "folder").mkdir()
    for path, error in [
        (tmp_path / "nowhere" / "file", FileNotFoundError),
        (tmp_path / "file" / "file", NotADirectoryError),
        (tmp_path / "folder", IsADirectoryError),
        (tmp_path / ("x" * 300), OSError),
        (tmp_path / ("x" * 300) / "file", OSError),
    ]:
        with pytest.raises(error) as caught:
            opt.save(path)
        assert caught.value.errno
        assert str(path.parent) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="There is no such folder"):
        opt.save(tmp_path / "nowhere" / "file")
    with pytest.raises(TypeError, match="params: expected True"):
        opt.save(tmp_path / "file", params="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="null"):
        opt.save(tmp_path / "fi\0le")
    assert (tmp_path / "file").read_bytes() == before
    assert names_in(tmp_path) == ["file", "folder"]


def test_an_error_that_no_system_call_made_stays_as_it_is(tmp_path: Path) -> None:
    words = "in words of its own"
    with pytest.raises(OSError, match=f"^{words}$") as caught, replacing.replacing(tmp_path / "x"):
        raise OSError(words)
    assert caught.value.filename is None
    assert names_in(tmp_path) == []


@posix
def test_what_is_no_file_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is it replaced, nor written into, nor waited for."""
    opt = stepped()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # as an address has to be short
        listening.bind("socket")
        kinds = {name: os.stat(tmp_path / name).st_mode for name in ("pipe", "link", "socket")}
        for name in kinds:
            with pytest.raises(OSError, match="expected a file, got a pipe, a socket or a dev"):
                opt.save(tmp_path / name)
        with pytest.raises(OSError, match="expected a file, got a pipe, a socket or a device"):
            opt.load(tmp_path / "pipe")
        assert {name: os.stat(tmp_path / name).st_mode for name in kinds} == kinds
    for device in ("/dev/null", "/dev/full", "/dev/zero"):
        if os.path.exists(device):
            for act in (opt.save, opt.load):
                with pytest.raises(OSError, match="expected a file, got a pipe, a socket or a dev"):
                    act(device)
            assert stat.S_ISCHR(os.stat(device).st_mode)
    assert names_in(tmp_path) == ["link", "pipe", "socket"]


# Each gets the path of a file, and the size that no file can be larger than.
FULL = """
import resource, sys
import numpy as np
import fusedopt
folder, limit = sys.argv[1], int(sys.argv[2])
p = np.ones(100_000)
opt = fusedopt.Adam([p])
opt.save(folder + "/file", extra="old")
opt.step([p * 2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    opt.save(folder + "/file", params=True)
except OSError as error:
    print(error.errno, error.filename)
print(fusedopt.Adam([p]).load(folder + "/file"))
"""


@posix
@pytest.mark.parametrize("limit", [1, 8, 100, 5000, 1 << 20, (1 << 21) + 12_345])
def test_a_limit_of_a_files_size(limit: int, tmp_path: Path) -> None:
    error, extra = output_of(FULL, str(tmp_path), str(limit)).splitlines()
    assert error == f"{errno.EFBIG} {tmp_path / 'file'}"
    assert extra == "old"
    assert names_in(tmp_path) == ["file"]


@linux
def test_a_full_disk(tmp_path: Path) -> None:
    """One of a megabyte, which only this process sees."""
    disk = f"mount -t tmpfs -o size=1m none {tmp_path} && "
    if not shutil.which("unshare") or in_own_mounts(disk + "true").returncode:
        pytest.skip("this user can't mount a file system")
    script = tmp_path.parent / "full.py"
    script.write_text(FULL)
    done = in_own_mounts(f"{disk} {sys.executable} {script} {tmp_path} 0; ls -A {tmp_path}")
    assert done.stdout.splitlines() == [f"{errno.ENOSPC} {tmp_path / 'file'}", "old", "file"]


def in_own_mounts(command: str) -> Any:
    arguments = ["unshare", "-rm", "sh", "-c", command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=100)


@linux
def test_no_room_for_state_in_files(tmp_path: Path) -> None:
    """Neither for a step nor for what a file is loaded into."""
    code = """
import sys
import numpy as np
import fusedopt
p = np.ones(100_000)
opt = fusedopt.Adam([p], lr=0.5, state_dir=sys.argv[1])
other = fusedopt.Adam([p.copy()])
other.step([p * 2])
other.save(sys.argv[2])
for act in (lambda: opt.step([p * 2]), lambda: opt.load(sys.argv[2])):
    try:
        act()
    except OSError as error:
        print(error.errno, error)
print((p == 1).all(), opt.completed_steps, dict(opt.state[0]))
"""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = f"mount -t tmpfs -o size=1m none {folder} && "
    if not shutil.which("unshare") or in_own_mounts(disk + "true").returncode:
        pytest.skip("this user can't mount a file system")
    (tmp_path / "code.py").write_text(code)
    files = f"{tmp_path / 'code.py'} {folder} {tmp_path / 'file'}"
    done = in_own_mounts(f"{disk} {sys.executable} {files}; ls -A {folder}")
    step, load, *rest = done.stdout.splitlines()
    for line in (step, load):
        assert line.startswith(f"{errno.ENOSPC} [Errno {errno.ENOSPC}] state_dir: no room for 1")
    assert rest == ["True 0 {}"]


@posix
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    stepped().save(tmp_path / "file")
    usual, ours = ((tmp_path / name).stat().st_mode for name in ("usual", "file"))
    assert ours == usual


@posix
def test_content_is_never_seen_by_those_who_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is written a file is no more open to others than the one that it replaces."""
    opt = stepped()
    opt.save(tmp_path / "file")
    (tmp_path / "file").chmod(0o440)
    seen = []
    chmod = os.chmod

    def spy(path: Path, mode: int) -> None:
        seen.append((path.parent, stat.S_IMODE(path.stat().st_mode), mode))
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", spy)
    opt.save(tmp_path / "file")
    assert seen == [(tmp_path, 0o600, 0o440)]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o440


@posix
def test_permissions_that_are_right_are_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are file systems that refuse to."""
    opt = stepped()
    opt.save(tmp_path / "file")
    (tmp_path / "file").chmod(0o600)
    before = (tmp_path / "file").read_bytes()

    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "chmod", refuse)
    opt.step([np.ones_like(p) for p in opt.param_groups[0]["params"]])
    opt.save(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() != before


def test_it_is_on_the_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def spy(*args: Any, name: str = name, original: Any = original) -> Any:
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(os, name, spy)
    stepped().save(tmp_path / "file")
    assert calls == (["fsync", "replace"] if os.name == "nt" else ["fsync", "replace", "fsync"])


@posix
def test_a_link_a_long_name_and_permissions_stay(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 250)
    opt = stepped()
    opt.save(long)
    (tmp_path / "link").symlink_to(long)
    long.chmod(0o600)
    opt.save(tmp_path / "link", extra=5)
    assert (tmp_path / "link").is_symlink()
    assert opt.load(long) == 5
    assert long.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError, match="^path: expected a str or Path, got bytes"):
        opt.save(b"file")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^path: expected the name of a file, got ''"):
        opt.load("")
    assert names_in(tmp_path) == ["link", long.name]


def test_a_header_that_no_program_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opt = stepped()
    opt.save(tmp_path / "file", extra="old")
    assert safetensors.MOST_BYTES == 100_000_000  # what the library takes
    monkeypatch.setattr(safetensors, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"file: can't be written: a header of 1[12],... bytes"):
        opt.save(tmp_path / "file", extra="x" * 11_000)
    assert opt.load(tmp_path / "file") == "old"
    opt.save(tmp_path / "file", extra="x" * 8_000)
    assert opt.load(tmp_path / "file") == "x" * 8_000
    length = int.from_bytes((tmp_path / "file").read_bytes()[:8], "little")
    monkeypatch.setattr(safetensors, "MOST_BYTES", length)
    opt.save(tmp_path / "file", extra="y" * 8_000)
    assert opt.load(tmp_path / "file") == "y" * 8_000
    assert names_in(tmp_path) == ["file"]


UNREADABLE = """
import os, sys
import numpy as np
import fusedopt
folder = sys.argv[1]
opt = fusedopt.Adam([np.ones(3)])
opt.save(folder + "/file", extra="old")
os.chmod(folder, 0o333)
if os.geteuid() == 0:
    os.chown(folder, 65534, 65534)
    os.seteuid(65534)
try:
    opt.save(folder + "/file", extra="new")
except PermissionError as error:
    print(error.filename)
print(opt.load(folder + "/file"))
"""


@posix
def test_a_folder_that_can_not_be_brought_to_the_disk() -> None:
    """That is an error while the old file is there, not after."""
    # Another user has to reach it, which pytest's own folders don't let.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o711)
        folder = Path(place, "folder")
        folder.mkdir()
        try:
            assert output_of(UNREADABLE, str(folder)).splitlines() == [str(folder), "old"]
        finally:
            folder.chmod(0o777)
        assert names_in(folder) == ["file"]
