"""Contract: frameworks on torch train with fusedopt.torch as with torch's own optimizers."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from published import peer

torch = peer("torch")
sb3 = peer("stable_baselines3", "frameworks")
gymnasium = peer("gymnasium", "frameworks")
lightning = peer("lightning", "frameworks")
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike  # noqa: E402

import fusedopt.torch as front  # noqa: E402

# What they warn about is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

TF_LIKE = {"alpha": 0.99, "eps": 0, "eps_root": 1e-5, "initial_square_avg": 1}
ALGORITHMS: list[Any] = [
    pytest.param(
        "PPO",
        {"n_steps": 64, "batch_size": 32, "n_epochs": 3},
        (torch.optim.Adam, {"eps": 1e-5}),
        (front.Adam, {"eps": 1e-5}),
        id="PPO",
    ),
    pytest.param(
        "A2C",
        {},
        (RMSpropTFLike, {"alpha": 0.99, "eps": 1e-5}),
        (front.RMSprop, TF_LIKE),
        id="A2C",
    ),
]


def learner(algorithm: str, options: Any, optimizer: tuple[type, dict[str, Any]]) -> Any:
    kind, own = optimizer
    return getattr(sb3, algorithm)(
        "MlpPolicy",
        gymnasium.make("CartPole-v1"),
        seed=0,
        device="cpu",
        policy_kwargs={"optimizer_class": kind, "optimizer_kwargs": own},
        **options,
    )


def difference(model: Any, other: Any) -> float:
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max(float((p.detach() - q.detach()).abs().max()) for p, q in pairs)


@pytest.mark.parametrize(("algorithm", "options", "theirs", "ours"), ALGORITHMS)
def test_stable_baselines3(
    algorithm: str, options: Any, theirs: Any, ours: Any, tmp_path: Path
) -> None:
    models = []
    for optimizer in (theirs, ours):
        model = learner(algorithm, options, optimizer)  # which seeds all that draws numbers
        before = copy.deepcopy(model.policy)
        models.append(model.learn(64))
    moved = difference(before, models[1].policy)
    assert difference(models[0].policy, models[1].policy) < 1e-3 * moved
    # Saved and loaded, with its optimizer's class and state.
    models[1].save(tmp_path / "model")
    loaded = getattr(sb3, algorithm).load(tmp_path / "model", env=models[1].get_env(), device="cpu")
    assert type(loaded.policy.optimizer) is ours[0]
    assert difference(loaded.policy, models[1].policy) == 0
    for p, q in zip(loaded.policy.parameters(), models[1].policy.parameters(), strict=True):
        p.grad = q.grad = torch.ones_like(p)
    for model in (loaded, models[1]):
        model.policy.optimizer.step()
    assert difference(loaded.policy, models[1].policy) == 0


class Module(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        hidden = torch.nn.Linear(5, 16), torch.nn.Tanh()
        self.net = torch.nn.Sequential(*hidden, torch.nn.Linear(16, 1))

    def training_step(self, batch: Any, _: int) -> Any:
        x, y = batch
        return torch.nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self) -> Any:
        opt = front.AdamW(self.parameters(), lr=0.01, ema_decay=0.9)
        return [opt], [torch.optim.lr_scheduler.CosineAnnealingLR(opt, 6)]


def test_lightning_resumes_with_the_same_bits(tmp_path: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    data = torch.utils.data.TensorDataset(x, x[:, :1] ** 2)

    def fit(model: Any, epochs: int, **options: Any) -> Any:
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=16), **options)
        return trainer

    whole, half, resumed = Module(), Module(), Module()
    half.load_state_dict(whole.state_dict())
    before = whole.net[0].weight.detach().clone()
    fit(whole, 6)
    path = str(tmp_path / "half.ckpt")
    fit(half, 3).save_checkpoint(path)
    trainer = fit(resumed, 6, ckpt_path=path, weights_only=False)
    assert difference(whole, resumed) == 0
    assert not torch.equal(whole.net[0].weight, before)
    assert not torch.equal(whole.net[0].weight, half.net[0].weight)
    state = trainer.optimizers[0].state[resumed.net[0].weight]
    assert state["step"] == 24
