"""The same parameters with an optimizer of torch's and with one of fusedopt.torch."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from published import peer

torch = peer("torch")
import fusedopt.torch as front  # noqa: E402

# Each with state, and a rule of its own.
RULES = [
    pytest.param("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, id="SGD"),
    pytest.param("RMSprop", {"momentum": 0.9, "alpha": 0.9}, id="RMSprop"),
    pytest.param("Adam", {"amsgrad": True, "weight_decay": 0.01}, id="Adam"),
    pytest.param("AdamW", {}, id="AdamW"),
]
every_rule = pytest.mark.parametrize(("name", "options"), RULES)
SHAPES = [(2, 3, 5, 7), (33,), (), (1,), (4, 9), (0,)]


def plain(shape: tuple[int, ...], dtype: Any) -> Any:
    return torch.randn(shape, dtype=dtype)


def channels_last(shape: tuple[int, ...], dtype: Any) -> Any:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}
    return plain(shape, dtype).to(memory_format=last.get(len(shape), torch.contiguous_format))


def transposed(shape: tuple[int, ...], dtype: Any) -> Any:
    return (
        plain(shape[::-1], dtype).permute(*range(len(shape))[::-1]) if shape else plain((), dtype)
    )


def strided(shape: tuple[int, ...], dtype: Any) -> Any:
    return plain((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2] if shape else plain((), dtype)


every_layout = pytest.mark.parametrize("layout", [plain, channels_last, transposed, strided])


class Pair:
    """The same parameters twice, with an optimizer of torch's and one of ours."""

    def __init__(
        self,
        name: str,
        shapes: list[tuple[int, ...]] = SHAPES,
        dtype: Any = torch.float32,
        layout: Callable[..., Any] = plain,
        ours: type | None = None,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.own_params = [torch.nn.Parameter(layout(shape, dtype)) for shape in shapes]
        self.their_params = copy.deepcopy(self.own_params)
        for own, their in zip(self.own_params, self.their_params, strict=True):
            their.data = torch.empty_strided(their.shape, own.stride(), dtype=dtype).copy_(own)
        self.theirs = getattr(torch.optim, name)(self.their_params, **{"foreach": False, **options})
        self.ours = (ours or getattr(front, name))(self.own_params, **options)

    def give_gradients(self, seed: int, *, absent: int | None = None) -> None:
        torch.manual_seed(seed)
        for i, (own, their) in enumerate(zip(self.own_params, self.their_params, strict=True)):
            own.grad = None if i == absent else torch.randn_like(own)
            their.grad = None if i == absent else own.grad.clone()

    def step(self, seed: int, **options: Any) -> None:
        self.give_gradients(seed, **options)
        self.theirs.step()
        self.ours.step()

    def error(self) -> float:
        pairs = list(zip(self.own_params, self.their_params, strict=True))
        return max(error(own.detach(), their.detach()) for own, their in pairs)

    def require_same(self, tolerance: float) -> None:
        assert self.error() <= tolerance
        for own, their in zip(self.own_params, self.their_params, strict=True):
            mine, his = self.ours.state.get(own, {}), self.theirs.state.get(their, {})
            assert mine.keys() == his.keys()
            for key, value in his.items():
                assert mine[key].dtype == value.dtype
                assert mine[key].shape == value.shape
                if value.numel() > 1:  # else it says nothing
                    assert mine[key].stride() == value.stride()
                assert error(mine[key], value) <= tolerance, key
                assert key != "step" or mine[key] == value


def error(own: Any, their: Any) -> float:
    if their.numel() == 0:
        return 0.0
    return float(((own - their).abs() / (their.abs() + 1)).max())
