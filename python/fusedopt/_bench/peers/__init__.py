"""The other libraries: one module each, imported only when it takes part."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..contest import Contestant, make_reference
from ..workloads import RULES, Arrays, gradients, weights


class Peer(NamedTuple):
    """A way to take a step: where it is implemented, and the extra that brings its library."""

    module: str
    variant: str
    rules: frozenset[str]
    extra: str | None = None  # None: needs nothing but NumPy
    dtypes: frozenset[str] = frozenset({"float32", "float64"})
    #: Whether the number of its threads can be set; others use one, or all cores.
    threads: str = "one"


_ALL = frozenset(RULES)
_FLOAT32 = frozenset({"float32"})

PEERS: dict[str, Peer] = {
    "naive NumPy": Peer("naive", "naive", _ALL),
    "in-place NumPy": Peer("in_place", "in-place", _ALL),
    "torch fused": Peer(
        "torch", "fused", _ALL - {"RMSprop", "RMSprop-centered"}, "peers", threads="set"
    ),
    "torch foreach": Peer("torch", "foreach", _ALL, "peers", threads="set"),
    "torch default": Peer("torch", "default", _ALL, "peers", threads="set"),
    "torch.compile": Peer("torch", "compile", _ALL, "peers", threads="set"),
    "optax": Peer("optax", "jit", _ALL - {"AMSGrad"}, "peers", _FLOAT32, threads="all"),
    "DeepSpeed": Peer(
        "deepspeed", "cpu", frozenset({"Adam", "AdamW"}), "deepspeed", _FLOAT32, threads="set"
    ),
    "thinc": Peer("thinc", "numpy", frozenset({"Adam"}), "peers", _FLOAT32),
    "scikit-learn": Peer(
        "scikit_learn", "mlp", frozenset({"Adam", "momentum", "Nesterov"}), "peers"
    ),
    "autograd": Peer("autograd", "misc", frozenset({"Adam"}), "peers"),
}


class MissingPeerError(ImportError):
    """A peer's library isn't installed; says which extra brings it."""


def make_peer(
    name: str, rule: str, params: Arrays, grads: Arrays, threads: int | None = None
) -> Contestant:
    """Return a peer that steps copies of the parameters, or raise MissingPeerError.

    It runs on so many threads if their number can be set; None leaves it as it is.
    """
    peer, module = PEERS[name], peer_module(name)
    if peer.threads == "set" and threads is not None:
        module.set_threads(threads)
    contestant = module.make(peer.variant, rule, params, grads)
    assert isinstance(contestant, Contestant)
    return contestant


def peer_module(name: str) -> Any:
    """Return the module that implements a peer, or raise MissingPeerError."""
    peer = PEERS[name]
    try:
        return import_module(f"{__name__}.{peer.module}")
    except ImportError as error:
        if peer.extra is None:
            raise
        raise MissingPeerError(
            f"{name}: {error}; pip install 'fusedopt[{peer.extra}]' brings it"
        ) from None


def check_peer(name: str, rule: str, dtype: str, steps: int = 3) -> None:
    """Raise AssertionError unless a peer comes to where the reference does.

    Not bit for bit: each library has its own order of operations.
    """
    start, grads = weights("MLP", dtype), gradients("MLP", dtype)
    peer = make_peer(name, rule, start, grads)
    right = make_reference(rule, [p.copy() for p in start], grads)
    peer.run_fresh(steps)  # some write into their gradients
    right.run_fresh(steps)
    for p, q, before in zip(peer.params(), right.params(), start, strict=True):
        assert p.dtype == dtype
        far = np.abs(q - before).max()
        np.testing.assert_allclose(p, q, rtol=0, atol=0.01 * far, err_msg=f"{name}, {rule}")
