"""How the core sees a tensor: real numbers of its dtypes, one behind another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .._types import Array

Tensor = Any  # torch may not be there where types are checked

#: What the core computes in, for each dtype that a parameter may have.
WORKING_DTYPES = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}

#: Without DLPack's C exchange API what requires gradients can't be exported, and a look takes long.
CAN_LOOK = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")


def require_usable(param: Tensor, label: str) -> None:
    """Raise unless a parameter is one that the core can update."""
    if param.device.type != "cpu" or param.layout is not torch.strided:
        kind = "" if param.layout is torch.strided else f" of layout {param.layout}"
        raise TypeError(
            f"{label}: expected a dense tensor on the CPU, got one on {param.device}{kind}; "
            "torch.optim has optimizers for others"
        )
    if param.dtype not in WORKING_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in WORKING_DTYPES)
        raise TypeError(f"{label}: expected a tensor of {names}, got {param.dtype}")
    if is_expanded(param):
        raise ValueError(
            f"{label}: expected a tensor with a place in memory for each element, got strides "
            f"{param.stride()} for shape {tuple(param.shape)}"
        )


def is_expanded(tensor: Tensor) -> bool:
    """Return whether elements are one and the same place in memory."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() > 0 and any(n > 1 and stride == 0 for n, stride in sizes)


def share_memory(tensor: Tensor, other: Tensor) -> bool:
    """Return whether tensors have elements in common; also where that is too hard to tell."""
    if tensor.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
        return False
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
    arrays = [
        t.detach().resolve_neg().view(integers[t.element_size()]).numpy() for t in (tensor, other)
    ]
    shares_memory: Any = np.shares_memory  # whose stubs know of two numbers only
    try:
        return bool(shares_memory(*arrays, max_work=10_000))
    except np.exceptions.TooHardError:
        return True


@dataclass(frozen=True)
class Layout:
    """Where a parameter's elements lie, as those of its gradient and state are to."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: Any
    order: tuple[int, ...]  # the dimensions, those whose elements lie furthest apart first
    state_stride: tuple[int, ...]  # as torch.zeros_like has it
    is_plain: bool  # whether the core can take the tensor itself, and look at it at each step

    @classmethod
    def of(cls, param: Tensor) -> Layout:
        """Return a parameter's."""
        state_stride = torch.empty_like(param, device="meta").stride()
        return cls(
            shape=tuple(param.shape),
            stride=param.stride(),
            dtype=param.dtype,
            order=tuple(sorted(range(param.dim()), key=lambda d: -state_stride[d])),
            state_stride=state_stride,
            is_plain=CAN_LOOK
            and WORKING_DTYPES[param.dtype] is param.dtype
            and param.is_contiguous()
            and not param.is_neg(),
        )

    def is_of(self, param: Tensor) -> bool:
        """Return whether it is a parameter's still."""
        return bool(
            param.stride() == self.stride
            and param.shape == self.shape
            and param.dtype == self.dtype
        )

    @property
    def is_narrow(self) -> bool:
        """Whether the core works on copies of a wider dtype."""
        return self.dtype in (torch.float16, torch.bfloat16)

    def laid_out(self, tensor: Tensor, label: str) -> Tensor:
        """Return a tensor as the core takes it, over the same memory where that can be."""
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            raise TypeError(
                f"{label}: expected a dense tensor on the CPU, got one on {tensor.device} of "
                f"layout {tensor.layout}"
            )
        if tuple(tensor.shape) != self.shape:
            raise ValueError(
                f"{label}: expected shape {self.shape}, as the parameter has, got "
                f"{tuple(tensor.shape)}"
            )
        tensor = tensor.detach().resolve_conj().resolve_neg().permute(self.order)
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        return tensor.to(WORKING_DTYPES[self.dtype]).contiguous()

    def tensor(self, array: Array) -> Tensor:
        """Return such an array as a tensor over the same memory, laid out as torch's state."""
        if array.size == 0:  # whose address may be that of another, which torch takes for the same
            dtype = self.dtype if self.dtype.is_complex else WORKING_DTYPES[self.dtype]
            return torch.empty_strided(self.shape, self.state_stride, dtype=dtype)
        flat = torch.from_numpy(array.reshape(-1))
        if self.dtype.is_complex:
            flat = torch.view_as_complex(flat.view(-1, 2))
        return flat.as_strided(self.shape, self.state_stride)
