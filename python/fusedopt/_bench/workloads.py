"""What is measured: the rules, and the lists of parameters they step."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fusedopt

Arrays = list[npt.NDArray[Any]]
Shapes = tuple[tuple[int, ...], ...]


class Rule(NamedTuple):
    """An optimizer's class, as `fusedopt` and `fusedopt.reference` call it, and its options."""

    optimizer: str
    options: dict[str, Any]


RULES: dict[str, Rule] = {
    "SGD": Rule("SGD", {"lr": 0.01}),
    "momentum": Rule("SGD", {"lr": 0.01, "momentum": 0.9}),
    "Nesterov": Rule("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "RMSprop": Rule("RMSprop", {"lr": 0.01}),
    "RMSprop-centered": Rule("RMSprop", {"lr": 0.01, "centered": True}),
    "Adam": Rule("Adam", {"lr": 0.001}),
    "AMSGrad": Rule("Adam", {"lr": 0.001, "amsgrad": True}),
    "AdamW": Rule("AdamW", {"lr": 0.001, "weight_decay": 0.01}),
}

#: Forms of the rules, each with the default form that has the same streams: it must be as fast.
FORMS: dict[str, tuple[Rule, Rule]] = {
    "SGD, decoupled decay": (
        Rule("SGD", {"lr": 0.01, "weight_decay": 0.01, "decoupled_weight_decay": True}),
        RULES["SGD"],
    ),
    "momentum from zero": (
        Rule("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.9, "momentum_init": "zeros"}),
        RULES["momentum"],
    ),
    "velocity": (Rule("SGD", {"lr": 0.01, "momentum": 0.9, "velocity": True}), RULES["momentum"]),
    "velocity, Nesterov": (
        Rule("SGD", {"lr": 0.01, "momentum": 0.9, "velocity": True, "nesterov": True}),
        RULES["Nesterov"],
    ),
    "RMSprop, eps_root": (
        Rule("RMSprop", {"lr": 0.01, "eps": 0, "eps_root": 1e-7}),
        RULES["RMSprop"],
    ),
    "RMSprop, velocity": (
        Rule("RMSprop", {"lr": 0.01, "momentum": 0.9, "velocity": True}),
        Rule("RMSprop", {"lr": 0.01, "momentum": 0.9}),
    ),
    "Adam, eps_hat": (Rule("Adam", {"lr": 0.001, "eps_hat": True}), RULES["Adam"]),
    "Adam, eps_root": (Rule("Adam", {"lr": 0.001, "eps_root": 1e-8}), RULES["Adam"]),
    "Adam, uncorrected": (Rule("Adam", {"lr": 0.001, "bias_correction": False}), RULES["Adam"]),
    "AMSGrad, corrected": (
        Rule("Adam", {"lr": 0.001, "amsgrad": True, "amsgrad_max": "corrected"}),
        RULES["AMSGrad"],
    ),
}


def make_optimizer(module: Any, rule: str | Rule, params: Arrays) -> Any:
    """Return the optimizer for a rule from `fusedopt` or `fusedopt.reference`."""
    optimizer, options = RULES[rule] if isinstance(rule, str) else rule
    return getattr(module, optimizer)(params, **options)


@cache
def streams_of(rule: str) -> int:
    """Return how many arrays a step goes over: the parameter, its gradient and its state."""
    p = np.ones(1, np.float32)
    optimizer = make_optimizer(fusedopt, rule, [p])
    optimizer.step([p.copy()])
    return 2 + len(optimizer.state[0].keys() - {"step"})


def bytes_moved(rule: str, elements: int, dtype: str) -> int:
    """Return how many bytes a step loads and stores: all streams both ways, but the gradient."""
    return (2 * streams_of(rule) - 1) * elements * np.dtype(dtype).itemsize


def _gpt2() -> Shapes:
    """GPT-2, 124M parameters: A. Radford et al., 2019; the output layer shares the embedding."""
    width, layers = 768, 12
    block = [
        (width,), (width,),  # layer norm
        (width, 3 * width), (3 * width,), (width, width), (width,),  # attention
        (width,), (width,),  # layer norm
        (width, 4 * width), (4 * width,), (4 * width, width), (width,),  # feed forward
    ]  # fmt: skip
    return ((50257, width), (1024, width), *(layers * block), (width,), (width,))


def _resnet50() -> Shapes:
    """ResNet-50, 25.6M parameters: K. He et al., 2016."""
    shapes: list[tuple[int, ...]] = []

    def convolution(inputs: int, outputs: int, size: int) -> None:
        shapes.extend([(outputs, inputs, size, size), (outputs,), (outputs,)])  # and batch norm

    convolution(3, 64, 7)
    inputs = 64
    for width, blocks in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for block in range(blocks):
            convolution(inputs, width, 1)
            convolution(width, width, 3)
            convolution(width, 4 * width, 1)
            if block == 0:
                convolution(inputs, 4 * width, 1)
            inputs = 4 * width
    return (*shapes, (1000, inputs), (1000,))


def _policy() -> Shapes:
    """stable-baselines3's MlpPolicy for CartPole: a policy and its critic."""
    hidden = ((64, 4), (64,), (64, 64), (64,))
    return (*hidden, *hidden, (2, 64), (2,), (1, 64), (1,))


#: Parameters of real models, and many small ones.
LISTS: dict[str, Callable[[], Shapes]] = {
    "MLP": lambda: ((64, 100), (100,), (100, 100), (100,), (100, 10), (10,)),
    "two layers": lambda: ((16, 4), (16,), (2, 16), (2,)),
    "policy": _policy,
    "1000x16": lambda: 1000 * ((16,),),
    "1000x256": lambda: 1000 * ((256,),),
    "ResNet-50": _resnet50,
    "GPT-2": _gpt2,
}


@cache
def shapes_of(workload: str) -> Shapes:
    """Return the shapes of a list by name, or of one array with so many elements."""
    return LISTS[workload]() if workload in LISTS else ((int(float(workload)),),)


def elements_of(workload: str) -> int:
    """Return how many elements all parameters of a workload have."""
    return sum(int(np.prod(shape)) for shape in shapes_of(workload))


def weights(workload: str, dtype: str) -> Arrays:
    """Return new weights of about 0.1."""
    return _normal(workload, dtype, seed=0)


def gradients(workload: str, dtype: str) -> Arrays:
    """Return new gradients of about 0.1, none of them zero."""
    grads = _normal(workload, dtype, seed=1)
    for g in grads:
        g += np.copysign(g.dtype.type(0.01), g)
    return grads


def _normal(workload: str, dtype: str, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    arrays = []
    for shape in shapes_of(workload):
        # A million different numbers are enough, and drawing 10^8 would take longer than measuring.
        size = int(np.prod(shape))
        drawn = rng.standard_normal(min(size, 1 << 20), dtype=np.float32) * np.float32(0.1)
        arrays.append(np.resize(drawn, size).astype(dtype).reshape(shape))
    return arrays
