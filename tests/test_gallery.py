"""Contract: each program of the gallery runs, and what its picture shows is there."""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt

GALLERY = Path(__file__).parent.parent / "examples" / "gallery"

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'examples'")
pytest.importorskip("sklearn", reason="needs the extra 'examples'")
pytest.importorskip("rich", reason="needs the extra 'examples'")
matplotlib.use("Agg")
sys.path.insert(0, str(GALLERY))
import convolution  # noqa: E402
import images  # noqa: E402
import run as gallery  # noqa: E402


@pytest.fixture(autouse=True)
def threads() -> Any:
    """Programs may set how many threads there are."""
    before = fusedopt.get_num_threads()
    yield
    fusedopt.set_num_threads(before)


def seen(name: str, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a program in its quick mode, and return its names; it has made pictures."""
    names = gallery.run(name, "--quick", *arguments)
    pictures = gallery.save_pictures(name, tmp_path)
    assert pictures
    for picture in pictures:
        content = matplotlib.image.imread(picture)
        assert content.std() > 0.05  # not all white
    return names


def test_local_minimum(tmp_path: Path) -> None:
    """Momentum escapes, plain descent doesn't."""
    names = seen("local_minimum", tmp_path)
    places, paths = names["places"], names["paths"]
    assert abs(paths["SGD"][-1] - places["local minimum"]) < 0.01
    assert abs(paths["Momentum"][-1] - places["global minimum"]) < 0.1
    assert names["value"](places["global minimum"]) < names["value"](places["local minimum"])
    assert paths["SGD"].max() < places["hill"]


def test_acceleration(tmp_path: Path) -> None:
    """The more momentum, the sooner, and steps that tend to 1 / (1 - momentum)."""
    runs = seen("acceleration", tmp_path)["runs"]
    needed = [len(distances) for distances in runs.values()]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] > 7 * needed[-2]
    steps = -np.diff(runs[0.8])
    assert steps[-2] / steps[0] == pytest.approx(5, rel=1e-4)


def test_elongated_bowl(tmp_path: Path) -> None:
    """Descent creeps or jumps from side to side, RMSProp goes nearly straight."""
    names = seen("elongated_bowl", tmp_path)
    slow, jumping, momentum, nesterov, rmsprop, adam = names["paths"].values()
    turns = {key: (np.diff(np.sign(path[:, 1])) != 0).sum() for key, path in names["paths"].items()}
    assert turns["SGD", "lr=0.065: almost too large"] == names["STEPS"]
    detour, value = names["detour"], names["value"]
    assert detour(rmsprop) < 1.1 < detour(adam) < detour(momentum) < detour(jumping)
    assert detour(nesterov) < detour(momentum)
    assert value(slow[-1]) > 100 * value(momentum[-1])


def test_nesterov(tmp_path: Path) -> None:
    """The rearranged form goes through the places ahead; looking ahead overshoots less."""
    names = seen("nesterov", tmp_path)
    assert names["difference"] < 1e-14
    assert names["overshoot"]["Nesterov"] < names["overshoot"]["Momentum"] / 2


def test_moving_average(tmp_path: Path) -> None:
    names = seen("moving_average", tmp_path)
    np.testing.assert_allclose(names["total"], names["average"] / (1 - names["A"]), rtol=1e-12)
    np.testing.assert_allclose(names["same_places"], names["average_places"], atol=1e-12)


def test_momentum_schedule(tmp_path: Path) -> None:
    """A rough beginning wants it raised, a smooth one has no use for that."""
    names = seen("momentum_schedule", tmp_path)
    rough, smooth = (
        [losses.mean(axis=0)[-1] for losses in of_momenta.values()]
        for of_momenta in names["runs"].values()
    )
    assert rough[2] < min(rough[:2])
    assert smooth[1] < min(smooth[0], smooth[2])


def test_bias_correction(tmp_path: Path) -> None:
    names = seen("bias_correction", tmp_path)
    lr = names["LEARNING_RATE"]
    corrected, without = (sizes / lr for sizes in names["first"].values())
    assert np.all(np.abs(corrected - 1) < 0.1)
    assert np.all(without[0] == pytest.approx(0.1 / 0.001**0.5, rel=1e-3))
    assert without.max() > 6
    assert np.array(names["lengths"])[-100:].mean() < 0.1


def test_one_learning_rate(tmp_path: Path) -> None:
    """Every weight arrives with Adam; with SGD those of small and rare features don't."""
    runs = seen("one_learning_rate", tmp_path)["runs"]
    assert np.all(np.abs(runs["Adam"][-1] - 1) < 0.05)
    assert np.all(np.abs(runs["SGD"][-1][:2] - 1) < 0.2)
    assert np.all(runs["SGD"][-1][2:] < 0.2)


def test_amsgrad(tmp_path: Path) -> None:
    """On Reddi, Kale and Kumar's example Adam goes to +1, AMSGrad stays near -1."""
    names = seen("amsgrad", tmp_path)
    assert names["runs"]["Adam"][-1] > 0.95
    assert names["runs"]["AMSGrad"][-1] < -0.8
    assert names["regrets"]["Adam"][-1] > 1.3 * names["regrets"]["AMSGrad"][-1]


def test_weight_decay(tmp_path: Path) -> None:
    names = seen("weight_decay", tmp_path)
    plain, decoupled, penalty, adamw = names["left"].values()
    np.testing.assert_allclose(plain, decoupled, rtol=1e-12)
    np.testing.assert_allclose(adamw, names["expected"], rtol=0.02)
    assert np.all(np.diff(penalty) > -0.01)
    assert penalty[0] < 0.15
    assert penalty[-1] > 0.9
    for accuracies in names["maps"].values():
        assert accuracies.max() > 0.75


def test_sensitivity(tmp_path: Path) -> None:
    """Each has a good range, and those of the adaptive ones lie far below SGD's."""
    names = seen("sensitivity", tmp_path)
    best = {name: names["RATES"][a.argmax()] for name, a in names["accuracies"].items()}
    assert best["Adam"] < best["SGD"] / 5
    assert best["RMSProp"] < best["SGD"] / 5
    for accuracies in names["accuracies"].values():
        assert accuracies.max() > 0.85
        assert max(accuracies[0], accuracies[-1]) < 0.25


def test_wall_clock(tmp_path: Path) -> None:
    assert seen("wall_clock", tmp_path)["same"]


def test_convolutional_network(tmp_path: Path) -> None:
    runs = seen("convolutional_network", tmp_path)["runs"]
    losses, accuracies, _ = runs["Adam"]
    assert losses[-1] < losses[0]
    assert accuracies[-1] > 0.6 > runs["Momentum"][1][-1]


def test_all_are_tested() -> None:
    assert {name.removeprefix("test_") for name in globals() if name.startswith("test_")} >= set(
        gallery.PROGRAMS
    )


# --- What the convolutional network is made of ---


@pytest.mark.parametrize(
    "shape",
    [convolution.DIGITS, convolution.CIFAR, convolution.Shape(2, 15, 3, 1)],
    ids=["digits", "cifar", "odd"],
)
def test_gradients_of_the_convolutional_network(shape: convolution.Shape) -> None:
    """As differences of the loss say, along random directions of each parameter."""
    rng = np.random.default_rng(0)
    params = {
        name: array.astype(np.float64)
        for name, array in convolution.initial_params(shape, rng).items()
    }
    batch = rng.standard_normal((5, shape.channels, shape.pixels, shape.pixels))
    labels = rng.integers(0, 10, 5)

    def loss() -> float:
        return convolution.loss_and_gradients(params, batch, labels, shape.padding)[0]

    _, gradients = convolution.loss_and_gradients(params, batch, labels, shape.padding)
    assert gradients.keys() == params.keys()
    for name, array in params.items():
        direction = rng.standard_normal(array.shape)
        kept, width = array.copy(), 1e-6
        array += width * direction
        above = loss()
        array[...] = kept - width * direction
        below = loss()
        array[...] = kept
        expected = (gradients[name] * direction).sum()
        assert (above - below) / (2 * width) == pytest.approx(expected, rel=1e-4, abs=1e-8), name


def test_gradients_by_torch(tmp_path: Path) -> None:
    """The same network through torch goes the same way, within rounding."""
    pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    plain = seen("convolutional_network", tmp_path, "--batches", "100")["runs"]
    by_torch = seen("convolutional_network", tmp_path, "--batches", "100", "--torch")["runs"]
    for name, (losses, _, params) in plain.items():
        np.testing.assert_allclose(by_torch[name][0], losses, rtol=1e-2)
        for key, array in params.items():
            np.testing.assert_allclose(by_torch[name][2][key], array, atol=0.05)


def write_cifar(folder: Path) -> None:
    """Write batches as CIFAR-10's are: a class is a colour, with noise on it."""
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        labels = rng.integers(0, 10, 40)
        pixels = rng.integers(0, 40, (40, 3, 1024)) + 20 * labels[:, None, None]
        content = {
            b"batch_label": name.encode(),
            b"labels": labels.tolist(),
            b"data": pixels.reshape(40, 3072).astype(np.uint8),
            b"filenames": [b"x.png"] * 40,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def test_cifar(tmp_path: Path) -> None:
    """Its batches load, with pixels from -1 to 1 in the right places, and can be trained on."""
    write_cifar(tmp_path)
    loaded = images.load_cifar(tmp_path)
    assert loaded.train_images.shape == (200, 3, 32, 32)
    assert loaded.test_labels.shape == (40,)
    first = pickle.loads((tmp_path / "data_batch_1").read_bytes())[b"data"][0]
    assert loaded.train_images[0, 1, 2, 3] == pytest.approx(first[1024 + 2 * 32 + 3] / 127.5 - 1)
    assert np.abs(loaded.train_images).max() <= 1
    runs = seen("convolutional_network", tmp_path, "--data", str(tmp_path), "--batches", "80")[
        "runs"
    ]
    assert runs["Adam"][0][-1] < runs["Adam"][0][0]


@pytest.mark.parametrize("name", ["system", "popen"])
def test_a_batch_that_would_call_something(tmp_path: Path, name: str) -> None:
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(b"cos\n%s\n(S'true'\ntR." % name.encode())
    with pytest.raises(pickle.UnpicklingError, match=f"has no os.{name} in it"):
        images.load_cifar(tmp_path)


def test_a_batch_of_another_kind(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    content = {b"data": np.zeros((3, 5), np.uint8), b"labels": [1, 2, 3]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"test_batch: expected rows of 3,072 bytes"):
        images.load_cifar(tmp_path)
