"""Parameters, gradients and state in files: for a model that is larger than memory.

A classifier of texts has a weight for each of two million words. Weights and gradients are
np.memmap arrays. The optimizer's state lies in memory in a first run, and with state_dir in files
in a second one. Of files the system holds in memory what it has room for, and writes back the rest.
"Anonymous" memory has no file behind it, and has to fit. The program shows how much it grew. With
these sizes all of it would fit; the code is the same where it doesn't.

    pip install .    # in the root of the repository
    python examples/larger_than_memory.py
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fusedopt

WORDS = 2_000_000
MB = 1_000_000


def anonymous_memory() -> int | None:
    """Return how many bytes of this process lie in memory and in no file; None if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None  # not Linux
    return next((int(s.split()[1]) * 1024 for s in lines if s.startswith("RssAnon:")), None)


def make_texts(rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return 500 texts of 20 words, some more frequent than others, and the texts' labels."""
    words = rng.zipf(1.3, (500, 20)) % WORDS
    return words, ((words % 2).sum(axis=1) > 10).astype(np.float32)  # odd words speak for it


def run(folder: Path, state_dir: Path | None) -> None:
    rng = np.random.default_rng(0)
    w = np.memmap(folder / "weights", np.float32, mode="w+", shape=(WORDS,))
    g = np.memmap(folder / "gradients", np.float32, mode="w+", shape=(WORDS,))
    opt = fusedopt.Adam([w], lr=0.05, grads=[g], state_dir=state_dir)

    before = anonymous_memory()
    for _ in range(40):
        words, labels = make_texts(rng)
        error = 1 / (1 + np.exp(-w[words].sum(axis=1))) - labels
        np.add.at(g, words, error[:, None] / len(labels))
        opt.step(zero_grads=True)
    after = anonymous_memory()

    words, labels = make_texts(rng)
    correct = np.mean((w[words].sum(axis=1) > 0) == labels)
    in_files = sum(file.stat().st_size for file in folder.iterdir())
    state = sum(a.nbytes for a in opt.state[0].values() if isinstance(a, np.ndarray))
    # The files of the state have no names where the system allows it: they go with the optimizer.
    print(f"State in {'memory' if state_dir is None else 'files'}: {correct:.1%} correct")
    print(f"  weights and gradients, in files:  {round(in_files / MB):3} MB")
    print(f"  the optimizer's state:            {round(state / MB):3} MB")
    if before is None or after is None:
        print("  anonymous memory: this system doesn't tell")
    else:
        print(f"  anonymous memory grew by:         {round((after - before) / MB):3} MB")


def main() -> None:
    # A file that is still mapped can't be removed on every system.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in ("first", "second"):
            Path(folder, name).mkdir()
        run(Path(folder, "first"), state_dir=None)
        run(Path(folder, "second"), state_dir=Path(folder, "state"))


if __name__ == "__main__":
    main()
