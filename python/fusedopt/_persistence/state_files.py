"""State arrays in memory-mapped files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt


class StateFiles:
    """Where an optimizer's state lies in files: a function that an engine gets its memory from."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            self.folder = Path(folder).absolute()
            self.folder.mkdir(parents=True, exist_ok=True)
        except (TypeError, OSError) as error:
            kind = TypeError if isinstance(error, TypeError) else OSError
            raise kind(f"state_dir: expected a folder: {error}") from None

    def __call__(self, size: int) -> npt.NDArray[np.uint8]:
        """Return so many bytes, zero, of a new file.

        All of them are taken from the disk here, where that can be an error: a mapped file that
        finds the disk full later ends the process. Where the system lets a file go that is still
        mapped, it has no name any more: its room on the disk is free when the arrays are, or the
        process ends, however it does.
        """
        if size == 0:  # which no file can be mapped with
            return np.empty(0, np.uint8)
        import tempfile  # which few need, and takes its time

        descriptor, name = tempfile.mkstemp(prefix="fusedopt-", suffix=".state", dir=self.folder)
        try:
            # The file that was made, and not whatever has its name by now.
            with open(descriptor, "r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, size)
                else:
                    os.truncate(descriptor, size)
                return np.memmap(file, np.uint8, mode="r+", shape=(size,))
        except OSError as error:
            text = f"state_dir: no room for {size} bytes in {self.folder}: {error.strerror}"
            raise OSError(error.errno, text) from None
        finally:
            if os.name != "nt":
                os.unlink(name)
