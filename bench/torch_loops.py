"""Whole training loops of torch's users, with torch's optimizers and with ours in their place.

    pip install '.[frameworks]'
    python bench/torch_loops.py            # some twenty minutes, on one thread
    python bench/torch_loops.py --quick    # a minute: that all of it runs

Each is run once with torch's class and once with the class of the same name in fusedopt.torch, all
else alike; for each there is what came out, and the share of the time that the optimizer's steps
took. A table in docs/performance.md is made of what this prints.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import fusedopt
import fusedopt.torch

SIDES = {"torch": torch.optim, "fusedopt": fusedopt.torch}


class Clock:
    """How long the steps of all optimizers took, of those made while it runs."""

    def __init__(self) -> None:
        self.steps = 0
        self.in_steps = 0.0
        self.in_all = 0.0

    @contextmanager
    def running(self, *classes: type) -> Iterator[None]:
        """Time the steps of these classes, and all that happens in the block."""
        plain = {kind: kind.step for kind in classes}
        for kind, step in plain.items():
            kind.step = self._timed(step)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.in_all += time.perf_counter() - begin
            for kind, step in plain.items():
                kind.step = step

    def _timed(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def timed(optimizer: Any, closure: Any = None, **options: Any) -> Any:
            # Lightning computes gradients in the closure.
            loss = None if closure is None else closure()
            begin = time.perf_counter()
            step(optimizer, **options)
            self.in_steps += time.perf_counter() - begin
            self.steps += 1
            return loss

        timed.hooked = True
        return timed

    def row(self, what: str, side: str, result: str) -> str:
        share = 100 * self.in_steps / self.in_all
        each = 1e6 * self.in_steps / self.steps
        return (
            f"| {what} | {side} | {result} | {self.in_all:.1f} s | {each:.0f} µs | {share:.1f}% |"
        )


def reinforcement(algorithm: str, environments: int, steps: int, seeds: int) -> None:
    """Learn CartPole with stable-baselines3's PPO or A2C, with its settings."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "PPO": ("Adam", {"eps": 1e-5}),
        # Of stable-baselines3 it is RMSpropTFLike(alpha=0.99, eps=1e-5).
        "A2C": ("RMSprop", {"alpha": 0.99, "eps": 0, "eps_root": 1e-5, "initial_square_avg": 1}),
    }
    name, options = kinds[algorithm]
    for side, module in SIDES.items():
        clock, rewards = Clock(), []
        if side == "torch" and name == "RMSprop":
            kind = RMSpropTFLike
            own: dict[str, Any] = {"alpha": 0.99, "eps": 1e-5}
        else:
            kind, own = getattr(module, name), options
        for seed in range(seeds):
            env = make_vec_env("CartPole-v1", n_envs=environments, seed=seed)
            policy = {"optimizer_class": kind, "optimizer_kwargs": own}
            model = getattr(sb3, algorithm)(
                "MlpPolicy", env, seed=seed, policy_kwargs=policy, device="cpu"
            )
            with clock.running(kind):
                model.learn(steps)
            mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", seed=100), 20)
            rewards.append(mean)
        result = f"{statistics.mean(rewards):.0f} ({', '.join(f'{r:.0f}' for r in rewards)})"
        print(clock.row(f"{algorithm}, CartPole", side, result), flush=True)


def lightning_runs(epochs: int) -> None:
    """Train with Lightning; stop halfway, go on from the checkpoint, and compare bit for bit."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module = module
            hidden = [torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64)]
            self.net = torch.nn.Sequential(*hidden, torch.nn.Tanh(), torch.nn.Linear(64, 1))

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            return torch.nn.functional.mse_loss(self.net(x), y)

        def configure_optimizers(self) -> Any:
            opt = self.module.AdamW(self.parameters(), lr=1e-3, weight_decay=0.01)
            return [opt], [torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs)]

    torch.manual_seed(0)
    x = torch.randn(4096, 16)
    data = torch.utils.data.TensorDataset(x, x[:, :1].sin() * x[:, 1:2])

    def loader() -> Any:
        return torch.utils.data.DataLoader(data, batch_size=64)

    def trainer(until: int, folder: str) -> Any:
        return lightning.Trainer(
            max_epochs=until,
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    for side, module in SIDES.items():
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(1)
            whole = Model(module)
            halves = Model(module)
            halves.load_state_dict(whole.state_dict())
            with clock.running(module.AdamW):
                trainer(epochs, folder).fit(whole, loader())
            first = trainer(epochs // 2, folder)
            first.fit(halves, loader())
            path = str(Path(folder) / "half.ckpt")
            first.save_checkpoint(path)
            resumed = Model(module)
            trainer(epochs, folder).fit(resumed, loader(), ckpt_path=path, weights_only=False)
        same = all(map(torch.equal, whole.parameters(), resumed.parameters()))
        loss = torch.nn.functional.mse_loss(whole.net(x), data.tensors[1]).item()
        result = f"loss {loss:.5f}; resumed: {'the same bits' if same else 'OTHER BITS'}"
        print(clock.row("Lightning, an MLP", side, result), flush=True)


def transformer_runs(steps: int) -> None:
    """Train a tiny GPT-2 with Hugging Face's Trainer."""
    import transformers
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    transformers.logging.set_verbosity_error()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(64, (256, 1), generator=generator) + torch.arange(32)
    data = [{"input_ids": row % 64, "labels": row % 64} for row in rows]
    for side, module in SIDES.items():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=64, n_positions=32, n_embd=64, n_layer=4, n_head=4)
        )
        clock = Clock()
        # From before the scheduler, which puts a step of its own into the optimizer.
        with clock.running(module.AdamW), tempfile.TemporaryDirectory() as folder:
            opt = module.AdamW(model.parameters(), lr=1e-3)
            scheduler = transformers.get_cosine_schedule_with_warmup(opt, 10, steps)
            arguments = TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=8,
                use_cpu=True,
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
                save_strategy="no",
            )
            trainer = Trainer(model, arguments, train_dataset=data, optimizers=(opt, scheduler))
            result = trainer.train()
        what = f"Trainer, a GPT-2 of {len(list(model.parameters()))} parameters"
        print(clock.row(what, side, f"loss {result.training_loss:.4f}"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see that all of it runs")
    parser.add_argument("--only", choices=("PPO", "A2C", "Lightning", "Trainer"))
    options = parser.parse_args()
    quick, few = options.quick, 2_100
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    fusedopt.set_num_threads(1)
    loops: dict[str, Callable[[], None]] = {
        "PPO": lambda: reinforcement("PPO", 1, few if quick else 30_000, 1 if quick else 5),
        "A2C": lambda: reinforcement("A2C", 8, few if quick else 200_000, 1 if quick else 5),
        "Lightning": lambda: lightning_runs(2 if quick else 20),
        "Trainer": lambda: transformer_runs(10 if quick else 300),
    }
    print("| what | steps by | result | all | a step | share |\n|---|---|---|--:|--:|--:|")
    for name, run in loops.items():
        if options.only in (None, name):
            run()


if __name__ == "__main__":
    sys.exit(main())
