"""How the core sees a tensor: real numbers of its dtypes, one behind another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

#: Without DLPack's C exchange API what requires gradients can't be exported.
_CAN_LOOK = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")


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
            is_plain=_CAN_LOOK
            and WORKING_DTYPES[param.dtype] is param.dtype
            and param.is_contiguous(),
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

    def array(self, tensor: Tensor) -> Array:
        """Return a tensor as the core takes it, over the same memory where that can be."""
        tensor = tensor.detach().resolve_conj().resolve_neg().permute(self.order)
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        array: Array = tensor.to(WORKING_DTYPES[self.dtype]).contiguous().numpy()
        return array

    def tensor(self, array: Array) -> Tensor:
        """Return such an array as a tensor over the same memory, laid out as torch's state."""
        flat = torch.from_numpy(array.reshape(-1))
        if self.dtype.is_complex:
            flat = torch.view_as_complex(flat.view(-1, 2))
        return flat.as_strided(self.shape, self.state_stride)
