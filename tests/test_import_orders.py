"""Contract: beside torch and scikit-learn, in whatever order they are imported, all of them work.

torch and the layer "openmp" then share one runtime, and its threads; scikit-learn has another.
"""

import importlib.util
import itertools
import os

import pytest

from layers import HAS_OPENMP
from subprocesses import output_of

PEERS = ["torch", "sklearn"]
pytestmark = [
    pytest.mark.skipif(not HAS_OPENMP, reason="a build without OpenMP"),
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, PEERS))
        and not os.environ.get("FUSEDOPT_REQUIRE_PEERS"),
        reason="torch and scikit-learn: in extra 'peers'",
    ),
]

CODE = """
import os, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    __import__(name)
import fusedopt, torch
from sklearn.metrics import pairwise_distances_argmin

torch.set_num_threads(2)
fusedopt.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((600, 40)).astype(np.float32)
nearest = pairwise_distances_argmin(x, x[:50]).tolist()
t = torch.from_numpy(x)
product = (t.T @ t).numpy().copy()
p, q, g = (np.full(200_000, k, np.float32) for k in (1, 1, 3))
opt = fusedopt.SGD([p], lr=0.5)

def all_compute():
    assert np.allclose((t.T @ t).numpy(), product)
    torch.ones(1_000_000).add_(1)  # by its OpenMP threads
    threads = len(os.listdir("/proc/self/task"))
    opt.step([g])
    assert len(os.listdir("/proc/self/task")) == threads
    q.__isub__(np.float32(0.5) * g)
    assert (p == q).all()
    assert pairwise_distances_argmin(x, x[:50]).tolist() == nearest

opt.step([g])  # now all have made their threads
q.__isub__(np.float32(0.5) * g)
torch.ones(1_000_000).add_(1)
for _ in range(30):
    all_compute()
layers = fusedopt.show_config(mode="dict")["threading layers"]
libraries = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
print(layers["active"], os.path.realpath(layers["runtime"]) in libraries, len(libraries))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize("order", list(itertools.permutations(["torch", "sklearn", "fusedopt"])))
def test_import_orders(order: tuple[str, ...]) -> None:
    """The one that torch and fusedopt share, and scikit-learn's."""
    assert output_of(CODE, *order, FUSEDOPT_THREADING_LAYER="openmp") == "openmp True 2"


@pytest.mark.parametrize("order", [("fusedopt", "torch"), ("torch", "fusedopt")])
def test_a_child_of_them(order: tuple[str, ...]) -> None:
    """Steps after a fork, where torch had computed on threads that stayed behind."""
    code = """
import os, signal, sys
for name in sys.argv[1:]:
    __import__(name)
import numpy as np, fusedopt, torch
torch.set_num_threads(2)
fusedopt.set_num_threads(2)
torch.ones(1_000_000).add_(1)
p, g = np.ones(200_000, np.float32), np.ones(200_000, np.float32)
opt = fusedopt.SGD([p], lr=0.5)
opt.step([g])
if os.fork() == 0:
    signal.alarm(60)
    for _ in range(300):
        opt.step([g])
    os._exit(int(p[0] != 1 - 0.5 * 301))
print(os.wait()[1])
"""
    for layer in ("openmp", "auto"):
        assert output_of(code, *order, FUSEDOPT_THREADING_LAYER=layer) == "0"
