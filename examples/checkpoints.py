"""A run that is interrupted and resumed, bit for bit; and one that torch has begun.

opt.save writes the optimizer's state, the parameters and data of yours to one file, and opt.load
brings them back. A file that isn't whole is refused before anything changes. Where torch is
installed, the state of a torch.optim.AdamW is loaded and continued, too.

    pip install .    # in the root of the repository
    python examples/checkpoints.py
"""

import tempfile
from pathlib import Path

import numpy as np

import fusedopt


class Run:
    """A linear regression in the middle of its training."""

    def __init__(self) -> None:
        self.w = np.zeros(10, np.float32)
        self.opt = fusedopt.AdamW({"w": self.w}, lr=fusedopt.schedules.cosine(0.1, steps=100))
        self.rng = np.random.default_rng(0)  # of the mini-batches

    def train(self, until: int) -> None:
        while self.opt.completed_steps < until:
            x = self.rng.standard_normal((32, 10), dtype=np.float32)
            self.opt.step({"w": x.T @ (x @ self.w - x.sum(axis=1)) / 16})


def continue_from_torch() -> None:
    try:
        import torch
    except ImportError:
        print("torch isn't installed: there is no state of torch.optim.AdamW to continue")
        return
    p, tensor = np.ones(10, np.float32), torch.ones(10)
    ours, theirs = fusedopt.AdamW([p]), torch.optim.AdamW([tensor], lr=0.01)
    for step, gradient in enumerate(np.random.default_rng(0).normal(size=(20, 10)).astype("f4")):
        if step == 10:
            p[...] = tensor
            ours.load_state_dict(theirs.state_dict())
            print(f"from torch: step {ours.state[0]['step']}, lr {ours.param_groups[0]['lr']}")
        tensor.grad = torch.from_numpy(gradient)
        theirs.step()
        if step >= 10:  # both go on, each by itself
            ours.step([gradient])
    print(f"10 steps later, largest difference: {np.abs(p - tensor.numpy()).max():.1e}")


def main() -> None:
    whole = Run()
    whole.train(until=100)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.safetensors")
        first = Run()
        first.train(until=40)
        # Without the state of the random numbers, other mini-batches would follow.
        first.opt.save(path, params=True, extra={"rng": first.rng.bit_generator.state})
        print(f"saved after {first.opt.completed_steps} steps: {path.stat().st_size} bytes")

        second = Run()  # in another process, as a rule
        second.rng.bit_generator.state = second.opt.load(path)["rng"]
        print(f"loaded: a new optimizer with {second.opt.completed_steps} completed steps")
        second.train(until=100)
        print("resumed equals uninterrupted, bit for bit:", np.array_equal(second.w, whole.w))

        path.write_bytes(path.read_bytes()[:-10])
        try:
            second.opt.load(path)
        except ValueError as error:
            print("a truncated file:", str(error).removeprefix(f"{path}: "))
        print("  and nothing has changed:", np.array_equal(second.w, whole.w))
    continue_from_torch()


if __name__ == "__main__":
    main()
