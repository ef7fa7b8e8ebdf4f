"""An array of another library: DLPack's C exchange API, by ctypes, over a NumPy array."""

import ctypes
from typing import Any


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_number", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    """DLManagedTensorVersioned."""


Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(Managed))
Managed._fields_ = (
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("context", ctypes.c_void_p),
    ("deleter", Deleter),
    ("flags", ctypes.c_uint64),
    ("tensor", Tensor),
)
Look = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Tensor))
Own = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.POINTER(Managed)))


class Api(ctypes.Structure):
    """DLPackExchangeAPI."""


Api._fields_ = (
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("older", ctypes.POINTER(Api)),
    ("allocate", ctypes.c_void_p),
    ("own", Own),
    ("make", ctypes.c_void_p),
    ("look", Look),
)

CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
CPU, GPU = 1, 2
READ_ONLY = 1


class Foreign:
    """What another library might have: an array that may come to lie elsewhere.

    ``device``, ``flags`` and ``fails`` are what it says of itself; ``looks`` counts who looked and
    ``owned`` who holds its memory.
    """

    def __init__(self, array: Any, device: int = CPU, flags: int = 0, offset: int = 0) -> None:
        self.array = array
        self.device_type = device
        self.flags = flags
        self.offset = offset
        self.null = self.says_strides = False
        self.fails = False
        self.looks = 0
        self.owned: dict[int, Any] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> str:
        return f"foreign.{self.array.dtype.name}"

    def __dlpack__(self) -> Any:
        raise AssertionError("it has an exchange API")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device_type, 0

    def describe(self, out: Tensor) -> Any:
        """Fill in what there is to say; return what has to live as long."""
        a = self.array
        shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        strides = (ctypes.c_int64 * a.ndim)(*(s // a.itemsize for s in a.strides))
        out.data = None if self.null else a.ctypes.data - self.offset
        out.byte_offset = self.offset
        out.device_type, out.device_number = self.device_type, 0
        out.ndim = a.ndim
        out.code, out.bits, out.lanes = CODES[a.dtype.kind], 8 * a.itemsize, 1
        out.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
        contiguous = a.flags.c_contiguous and a.ndim > 1 and not self.says_strides
        out.strides = None if contiguous else ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
        return shape, strides, a


def _look(foreign: Foreign, out: Any) -> int:
    foreign.looks += 1
    if foreign.fails:
        return -1  # ctypes has no way to leave an exception, too
    foreign.seen = foreign.describe(out.contents)  # type: ignore[attr-defined]
    return 0


def _own(foreign: Foreign, out: Any) -> int:
    if foreign.fails:
        return -1
    managed = Managed(major=1, minor=3, flags=foreign.flags)
    kept = foreign.describe(managed.tensor)
    key = ctypes.addressof(managed)
    managed.deleter = Deleter(lambda _: foreign.owned.pop(key) and None)
    foreign.owned[key] = (managed, kept)
    out[0] = ctypes.pointer(managed)
    return 0


def capsule_of(api: Api, name: bytes = b"dlpack_exchange_api") -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(ctypes.addressof(api), name, None)


API = Api(major=1, minor=3, own=Own(_own), look=Look(_look))
Foreign.__dlpack_c_exchange_api__ = capsule_of(API)  # type: ignore[attr-defined]


class Plain:
    """An array that has only DLPack's methods, as those of JAX and of older versions of torch."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.asked = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    def __dlpack__(self, **options: Any) -> Any:
        self.asked += 1
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()
