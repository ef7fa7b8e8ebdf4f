"""The classes: torch's arguments, and the forms that the core has besides."""

from __future__ import annotations

from typing import Any

import torch

from .. import adam, rmsprop, sgd
from ..optimizer import arguments_of_caller
from ._front import Front
from ._kind import Kind


class SGD(Front, torch.optim.SGD):
    """`torch.optim.SGD`, with or without momentum, in one pass over memory.

    Parameters
    ----------
    params : iterable of tensors, of pairs of names and tensors, or of groups
        As in torch; dense tensors on the CPU.
    lr, momentum, dampening, weight_decay, nesterov, maximize
        As in torch.
    foreach, fused : bool, optional
        Which of torch's implementations is meant. They stay in ``param_groups``, for checkpoints
        that go back to torch; here there is one.
    differentiable : False
        A step is no part of a graph.
    decoupled_weight_decay, momentum_init, velocity, ema_decay
        Forms that torch doesn't have: see `fusedopt.SGD`.

    Raises
    ------
    TypeError
        If a parameter isn't on the CPU, or not floating-point or complex.
    ValueError
        If a hyperparameter is out of range or doesn't fit the others.

    Examples
    --------
    >>> import torch, fusedopt.torch
    >>> p = torch.nn.Parameter(torch.tensor([4.0, -2.0]))
    >>> opt = fusedopt.torch.SGD([p], lr=0.25)
    >>> (p**2).sum().backward()
    >>> opt.step()
    >>> p.tolist()
    [2.0, -1.0]
    """

    _kind = Kind(sgd.SGD, ("momentum_buffer", "ema"), (), counts_steps=False)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        momentum_init: str | None = None,
        velocity: bool = False,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__(**arguments_of_caller())


class RMSprop(Front, torch.optim.RMSprop):
    """`torch.optim.RMSprop`, centered and with momentum if asked for, in one pass over memory.

    TensorFlow's form, as stable-baselines3's ``RMSpropTFLike(params, eps=eps)``, is ``eps=0,
    eps_root=eps, initial_square_avg=1``.

    Parameters
    ----------
    params : iterable of tensors, of pairs of names and tensors, or of groups
        As in torch; dense tensors on the CPU.
    lr, alpha, eps, weight_decay, momentum, centered, maximize
        As in torch.
    foreach : bool, optional
        Which of torch's implementations is meant. It stays in ``param_groups``, for checkpoints
        that go back to torch; here there is one.
    capturable, differentiable : False
        A step is no part of a graph.
    decoupled_weight_decay, eps_root, initial_square_avg, velocity, ema_decay
        Forms that torch doesn't have: see `fusedopt.RMSprop`.

    Raises
    ------
    TypeError
        If a parameter isn't on the CPU, or not floating-point or complex.
    ValueError
        If a hyperparameter is out of range or doesn't fit the others.

    Examples
    --------
    >>> import torch, fusedopt.torch
    >>> model = torch.nn.Linear(8, 1)
    >>> opt = fusedopt.torch.RMSprop(model.parameters(), lr=1e-3, eps=0, eps_root=1e-7)
    >>> model(torch.ones(1, 8)).sum().backward()
    >>> opt.step()
    >>> list(opt.state[model.bias])
    ['step', 'square_avg']
    """

    _kind = Kind(
        rmsprop.RMSprop,
        ("square_avg", "momentum_buffer", "grad_avg", "ema"),
        ("square_avg",),
        counts_steps=True,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        decoupled_weight_decay: bool = False,
        eps_root: float = 0,
        initial_square_avg: float = 0,
        velocity: bool = False,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__(**arguments_of_caller())


_ADAM_STATES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "ema")


class Adam(Front, torch.optim.Adam):
    """`torch.optim.Adam`, or AMSGrad if asked for, in one pass over memory.

    Parameters
    ----------
    params : iterable of tensors, of pairs of names and tensors, or of groups
        As in torch; dense tensors on the CPU.
    lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay
        As in torch.
    foreach, fused : bool, optional
        Which of torch's implementations is meant. They stay in ``param_groups``, for checkpoints
        that go back to torch; here there is one.
    capturable, differentiable : False
        A step is no part of a graph.
    bias_correction, eps_root, eps_hat, amsgrad_max, ema_decay
        Forms that torch doesn't have: see `fusedopt.Adam`.

    Raises
    ------
    TypeError
        If a parameter isn't on the CPU, or not floating-point or complex.
    ValueError
        If a hyperparameter is out of range or doesn't fit the others.

    Examples
    --------
    >>> import torch, fusedopt.torch
    >>> p = torch.nn.Parameter(torch.tensor([4.0, -2.0]))
    >>> opt = fusedopt.torch.Adam([p], lr=0.5)
    >>> isinstance(opt, torch.optim.Adam)
    True
    >>> (p**2).sum().backward()
    >>> opt.step(max_norm=1.0, stats=True)
    >>> round(opt.step_result.grad_norm, 3)
    8.944
    """

    _kind = Kind(adam.Adam, _ADAM_STATES, _ADAM_STATES[:2], counts_steps=True)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        eps_root: float = 0,
        eps_hat: bool = False,
        amsgrad_max: str = "raw",
        ema_decay: float | None = None,
    ) -> None:
        super().__init__(**arguments_of_caller())


class AdamW(Front, torch.optim.AdamW):
    """`torch.optim.AdamW`, in one pass over memory.

    Parameters
    ----------
    params, foreach, fused, capturable, differentiable
        As for ``Adam``.
    lr, betas, eps, weight_decay, amsgrad, maximize
        As in torch.
    bias_correction, eps_root, eps_hat, amsgrad_max, ema_decay
        Forms that torch doesn't have: see `fusedopt.AdamW`.

    Raises
    ------
    TypeError, ValueError
        As ``Adam`` does.

    Examples
    --------
    >>> import torch, fusedopt.torch
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> opt = fusedopt.torch.AdamW([p], lr=0.1, weight_decay=0.5)
    >>> p.grad = torch.zeros(2)
    >>> opt.step()
    >>> p.tolist()  # decayed by 1 - 0.1 * 0.5, though the gradient is zero
    [0.949999988079071, 0.949999988079071]
    """

    _kind = Kind(adam.AdamW, _ADAM_STATES, _ADAM_STATES[:2], counts_steps=True)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        bias_correction: bool = True,
        eps_root: float = 0,
        eps_hat: bool = False,
        amsgrad_max: str = "raw",
        ema_decay: float | None = None,
    ) -> None:
        super().__init__(**arguments_of_caller())
