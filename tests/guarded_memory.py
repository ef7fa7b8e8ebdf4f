"""Arrays whose neighbours in memory may not be touched: who reads or writes there is ended."""

import ctypes
import mmap
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
_PROT_NONE = 0
_CANARY = b"\xa5"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """Memory for one array at a time, between two pages that nobody may touch."""

    def __init__(self, bytes_at_most: int) -> None:
        self.size = -(-max(bytes_at_most, 1) // PAGE) * PAGE
        self._mapped = mmap.mmap(-1, self.size + 2 * PAGE)
        whole = np.frombuffer(self._mapped, np.uint8)
        for guard in (whole.ctypes.data, whole.ctypes.data + PAGE + self.size):
            if _libc.mprotect(guard, PAGE, _PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self.bytes = whole[PAGE : PAGE + self.size]
        self._used = slice(0, 0)

    def take(self, size: int, side: str, gap: int = 0) -> Any:
        """Return so many bytes, which end at the guard ("end") or begin there ("begin").

        With a gap so many bytes before the guard, or behind it. What is left has a pattern.
        """
        start = self.size - size - gap if side == "end" else gap
        self._used = slice(start, start + size)
        self.bytes[:] = _CANARY[0]
        return self.bytes[self._used]

    def array(self, like: Any, side: str, gap: int = 0) -> Any:
        """Return a copy of an array there; a gap is one of so many elements."""
        taken = self.take(like.nbytes, side, gap * like.itemsize)
        array = taken.view(like.dtype).reshape(like.shape)
        array[...] = like
        return array

    def require_untouched(self) -> None:
        """Raise AssertionError where something was written beside what was taken."""
        beside = self.bytes[: self._used.start], self.bytes[self._used.stop :]
        assert not any(part.tobytes().strip(_CANARY) for part in beside), "written beside an array"


class Store:
    """As many such places as are needed, used again and again."""

    def __init__(self) -> None:
        self._free: dict[int, list[Guarded]] = {}
        self._taken: list[Guarded] = []

    def get(self, size: int) -> Guarded:
        pages = -(-max(size, 1) // PAGE)
        free = self._free.setdefault(pages, [])
        place = free.pop() if free else Guarded(size)
        self._taken.append(place)
        return place

    def copies(self, arrays: list[Any], side: str, gap: int = 0) -> list[Any]:
        """Return guarded copies of arrays; None stays."""
        return [
            None if a is None else self.get(a.nbytes + gap * a.itemsize).array(a, side, gap)
            for a in arrays
        ]

    def side_by_side(self, arrays: list[Any], side: str) -> list[Any]:
        """Return copies of arrays of one dtype that lie one behind the other, guarded together."""
        size = sum(a.nbytes for a in arrays)
        taken = self.get(size).take(size, side)
        copies, at = [], 0
        for a in arrays:
            copies.append(taken[at : at + a.nbytes].view(a.dtype).reshape(a.shape))
            copies[-1][...] = a
            at += a.nbytes
        return copies

    def zeros(self, size: int, side: str) -> Any:
        """Return so many bytes, zero: what an optimizer's state may lie in."""
        taken = self.get(size).take(size, side)
        taken[:] = 0
        return taken

    def take_back(self) -> int:
        """Look at what lies beside all that was taken, which may be used again; say how many."""
        for place in self._taken:
            place.require_untouched()
            self._free[place.size // PAGE].append(place)
        count = len(self._taken)
        self._taken.clear()
        return count
