"""All that a training step does behind backpropagation: fused, and as passes of their own."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fusedopt
from fusedopt._bench import whole_step
from fusedopt._bench.contest import Contestant
from fusedopt._bench.peers import MissingPeerError
from fusedopt._bench.workloads import gradients, weights


def make(implementation: str, workload: str) -> Contestant:
    threads = fusedopt.get_num_threads()
    params, grads = weights(workload, "float32"), gradients(workload, "float32")
    try:
        return whole_step.make(implementation, params, grads, threads)
    except MissingPeerError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("implementation", ["fused", "separate passes", "torch"])
@pytest.mark.parametrize(
    "workload", ["MLP", "1000x16", pytest.param("GPT-2", marks=pytest.mark.full)]
)
def test_whole_step(benchmark: BenchmarkFixture, workload: str, implementation: str) -> None:
    right, checked = make("fused", "MLP"), make(implementation, "MLP")
    for contestant in (right, checked):
        contestant.run_fresh(3)
    for p, q, before in zip(
        checked.params(), right.params(), weights("MLP", "float32"), strict=True
    ):
        np.testing.assert_allclose(p, q, rtol=0, atol=0.01 * np.abs(q - before).max())

    contestant = make(implementation, workload)
    benchmark.group = f"whole step, {workload}, float32"
    benchmark.extra_info["threads"] = fusedopt.get_num_threads()
    originals = gradients(workload, "float32")

    def setup() -> tuple[tuple[()], dict[str, object]]:
        contestant.renew([g.copy() for g in originals])
        return (), {}

    benchmark.pedantic(
        lambda: contestant.bare_step()(), setup=setup, rounds=20, warmup_rounds=2, iterations=1
    )
