"""A file that takes another's place at once."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NAMES = re.compile(r"\.fusedopt-[0-9a-f]{16}\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[FileIO]:
    """Give a new file that takes the place of what is at a path, at the block's end and at once.

    It is written beside, brought to the disk and then renamed: whenever the process or the machine
    stops, the old file is there, or the new one. Where the block or the disk fails, the old one.

    Raises
    ------
    OSError
        If it can't be written, or what is there isn't a file.
    """
    try:
        with _new_file_beside(path) as file:
            yield file
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        # What writing raises doesn't say where.
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _new_file_beside(path: Path) -> Iterator[FileIO]:
    mode = _mode_of(path)
    target = Path(os.path.realpath(path))  # what a link points to
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "There is no such folder", str(folder))
    with _synced(folder):
        # First, as it may be they that fill the disk.
        _remove_leftovers(folder)
        file, beside = _locked_file_in(folder, 0o666 if mode is None else 0o600)
        try:
            with file:
                yield file
                if mode is not None and stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:
                    os.chmod(beside, mode)
                os.fsync(file.fileno())
                if sys.platform != "win32":  # which renames no open file
                    os.replace(beside, target)
            if sys.platform == "win32":
                os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)


def _mode_of(path: Path) -> int | None:
    """Return the permissions of the file at a path, None where there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    require_file(path, mode)
    return stat.S_IMODE(mode)


def require_file(path: Path, mode: int) -> None:
    """Raise OSError where there is something else: a folder, a pipe, a socket or a device."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "expected a file, got a pipe, a socket or a device", str(path))


@contextmanager
def _synced(folder: Path) -> Iterator[None]:
    """Bring what was renamed to the disk at the block's end, where a folder can be opened."""
    if sys.platform == "win32":
        yield
        return
    # Before the block: a folder that can't be opened is an error while the old file is there.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked_file_in(folder: Path, mode: int) -> tuple[FileIO, Path]:
    """Make a file that `_remove_leftovers` leaves alone until it is closed."""
    while True:
        path = folder / f".fusedopt-{os.urandom(8).hex()}.tmp"
        file = FileIO(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
        try:
            # Another process may have found it before it was locked, and has or will remove it.
            if _is_locked(file.fileno()) and path.exists():
                return file, path
        except BaseException:
            path.unlink(missing_ok=True)
            file.close()
            raise
        file.close()


def _is_locked(descriptor: int) -> bool:
    """Lock a file; return False where another process has."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks: no process gets one
    return True


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left.

    A file is locked while it is written, and the system unlocks it when its process ends, however
    it does: one that can be locked is nobody's. (Not by the number of its process, which is another
    one in another container, and comes again.) Where that can't be found out it stays.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):  # a folder that this user can't list
        for name in [name for name in os.listdir(folder) if _NAMES.fullmatch(name)]:
            with suppress(OSError):  # locked, another user's, or gone
                _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    if sys.platform == "win32":
        return
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # By then it may have been renamed, and what is unlinked is a name that is gone.
            path.unlink()
    finally:
        os.close(descriptor)
