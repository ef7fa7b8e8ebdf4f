"""The threading layers of this build."""

import fusedopt

BUILT: list[str] = fusedopt.show_config(mode="dict")["threading layers"]["built"]
HAS_POOL, HAS_OPENMP = "pool" in BUILT, "openmp" in BUILT

# For processes whose threads are counted: the pool's, or none.
ON_THE_POOL = {"FUSEDOPT_THREADING_LAYER": "pool" if HAS_POOL else "serial"}

IN_A_FORK = (
    "this process is a fork, as far as can be told: "
    "threads of OpenMP may have stayed behind in its parent"
)

# For other processes. A step of 200,000 elements on 2 threads, right or not; and which OpenMP
# runtimes there are.
STEP = """
import os, sys, numpy as np, fusedopt
from layers import active
fusedopt.set_num_threads(2)
p, q, g = (np.full(200_000, k, np.float32) for k in (1, 1, 3))
opt = fusedopt.SGD([p], lr=0.5)
def step():
    q.__isub__(np.float32(0.5) * g)
    opt.step([g])
    return bool((p == q).all())
def runtimes():
    lines = open("/proc/self/maps").read().split()
    return sorted({line for line in lines if "libgomp" in line or "libomp" in line})
def layers():
    return fusedopt.show_config(mode="dict")["threading layers"]
def seen_beside_blas(steps):
    product, seen = np.ones((300, 300)), set()
    for _ in range(steps):
        product @ product
        seen.add(active())
        assert step()
    return seen
"""

# What it does in a child, which an alarm ends where it hangs, and then goes on.
FORK = """
import signal
def child(call):
    sys.stdout.flush()
    if os.fork() == 0:
        signal.alarm(60)
        try:
            call()
        finally:
            sys.stdout.flush()
            os._exit(0)
    assert os.wait()[1] == 0
def try_openmp():
    try:
        fusedopt.set_threading_layer("openmp")
    except RuntimeError as error:
        print(error)
"""


def active() -> str:
    """Return the layer that the calling thread's next step runs on."""
    return fusedopt.show_config(mode="dict")["threading layers"]["active"]
