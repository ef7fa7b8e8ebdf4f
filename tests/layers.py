"""The threading layers of this build."""

import fusedopt

BUILT: list[str] = fusedopt.show_config(mode="dict")["threading layers"]["built"]
HAS_POOL, HAS_OPENMP = "pool" in BUILT, "openmp" in BUILT

# For processes whose threads are counted: the pool's, or none.
ON_THE_POOL = {"FUSEDOPT_THREADING_LAYER": "pool" if HAS_POOL else "serial"}


def active() -> str:
    """Return the layer that the calling thread's next step runs on."""
    return fusedopt.show_config(mode="dict")["threading layers"]["active"]
