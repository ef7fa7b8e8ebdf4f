"""The time of one optimizer step: every rule, over many sizes, beside other libraries."""

from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fusedopt
from fusedopt._bench.contest import Contestant, Roofline, make_fusedopt, make_reference
from fusedopt._bench.peers import PEERS, MissingPeerError, check_peer, make_peer
from fusedopt._bench.workloads import RULES, gradients, weights

SIZES = ["1e2", "1e3", "1e4", "1e5", "1e6", "1e7", "6.4e7"]
LISTS = ["MLP", "1000x16", "1000x256", "ResNet-50", "GPT-2"]

IMPLEMENTATIONS = ["fusedopt", "roofline", "reference", *PEERS]

#: What is measured without ``--full``: a table for each rule and workload that takes a moment.
USUAL = {
    "workload": {"1e3", "1e5", "1e7", "MLP", "1000x16"},
    "dtype": {"float32"},
    "implementation": set(IMPLEMENTATIONS) - {"torch.compile"},
}


def cases() -> list[Any]:
    """Return all that there is to measure: the implementations of one table in a row."""
    found = []
    for rule in RULES:
        for workload in [*SIZES, *LISTS]:
            for dtype in ("float32", "float64"):
                for implementation in IMPLEMENTATIONS:
                    peer = PEERS.get(implementation)
                    if peer and not (rule in peer.rules and dtype in peer.dtypes):
                        continue
                    case = (rule, workload, dtype, implementation)
                    values = dict(zip(("rule", "workload", "dtype"), case, strict=False))
                    values["implementation"] = implementation
                    usual = all(values[key] in some for key, some in USUAL.items())
                    marks = [] if usual else [pytest.mark.full]
                    found.append(pytest.param(*case, marks=marks, id="-".join(case)))
    return found


@pytest.mark.parametrize(("rule", "workload", "dtype", "implementation"), cases())
def test_step(
    benchmark: BenchmarkFixture, rule: str, workload: str, dtype: str, implementation: str
) -> None:
    try:
        if implementation in PEERS:
            check_peer(implementation, rule, dtype)
        contestant = make(implementation, rule, workload, dtype)
    except MissingPeerError as error:
        pytest.skip(str(error))
    benchmark.group = f"{rule}, {workload}, {dtype}"
    benchmark.extra_info["threads"] = fusedopt.get_num_threads()
    # Every round repeats a step on the same arrays, with state that exists. That is the step alone,
    # at its best: in training, arrays that fit in a cache may have left it since the last step.
    contestant.run(1)
    before = [p.copy() for p in contestant.params()]
    benchmark(step_of(contestant))
    moved = implementation != "roofline"
    for p, old in zip(contestant.params(), before, strict=True):
        assert np.isfinite(p).all()
        assert (p != old).any() == moved


def make(implementation: str, rule: str, workload: str, dtype: str) -> Contestant:
    params, grads = weights(workload, dtype), gradients(workload, dtype)
    if implementation == "reference":
        return make_reference(rule, params, grads)
    if implementation in PEERS:
        return make_peer(implementation, rule, params, grads, fusedopt.get_num_threads())
    ours = make_fusedopt(rule, params, grads)
    ours.run(1)  # the roofline goes over its state
    return Roofline(ours) if implementation == "roofline" else ours


def step_of(contestant: Contestant) -> Any:
    """Return what takes one step from begin to end."""
    step = contestant.bare_step()
    if type(contestant).finish is Contestant.finish:
        return step

    def whole_step() -> None:
        step()
        contestant.finish()

    return whole_step
