"""Contract: a saved file is whole or not there, holds all there is, and damage is found."""

import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import FORMS, RULE_CASES, Case, assert_same, every_dtype, random_arrays
from fusedopt import LossScaler, reference, schedules
from fusedopt._persistence import files

safetensors = pytest.importorskip("safetensors", reason="needs the extra 'test'")
pytest.importorskip("safetensors.numpy")

SHAPES = [(3, 5), 257, 0, (), 8193]


@every_dtype
@pytest.mark.parametrize("case", [*RULE_CASES, FORMS[1], FORMS[7]], ids=str)
def test_save_load_continue(case: Case, dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole = case.make(random_arrays(0, dtype, SHAPES), ema_decay=schedules.linear(0.5, 0.9, 10))
    params = random_arrays(0, dtype, SHAPES)
    first = case.make(params, ema_decay=schedules.linear(0.5, 0.9, 10))
    scaler = LossScaler(8.0, growth_interval=2)
    for step in range(8):
        grads: list[Any] = random_arrays(1 + step, dtype, SHAPES)
        grads[step % 2] = None
        whole.step(grads)
        if step < 4:
            scaler.update(first.step(grads, loss_scale=1.0, on_nonfinite="skip"))
        if step == 3:
            first.save(path, params=True, extra={"epoch": 7, "scaler": scaler.state_dict()})
    for module in (fusedopt, reference):
        second = getattr(module, case.optimizer)([np.empty_like(p) for p in params], **case.options)
        extra = second.load(path)
        assert extra["epoch"] == 7
        other = LossScaler()
        other.load_state_dict(extra["scaler"])
        assert other.state_dict() == scaler.state_dict()
        for step in range(4, 8):
            grads = random_arrays(1 + step, dtype, SHAPES)
            grads[step % 2] = None
            second.step(grads)
        assert_same(second, whole)
        assert second.completed_steps == 8
        assert second.param_groups[0].hyperparameters() == whole.param_groups[0].hyperparameters()


def saved(path: Path, **options: Any) -> fusedopt.Optimizer:
    params = {"w": np.full((3, 4), 2, np.float32), "b": np.ones(3)}
    opt = fusedopt.AdamW(params, lr=0.1)
    opt.step({"w": np.full((3, 4), 1, np.float32), "b": np.ones(3)})
    opt.save(path, **options)
    return opt


def other(**options: Any) -> fusedopt.Optimizer:
    return fusedopt.AdamW({"w": np.zeros((3, 4), np.float32), "b": np.zeros(3)}, **options)


def test_parameters_only_where_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    opt = saved(Path(path))
    second = other()
    assert second.load(path) is None
    np.testing.assert_array_equal(second.state["w"]["exp_avg"], opt.state["w"]["exp_avg"])
    assert not second.param_groups[0]["params"][0].any()
    opt.save(path, params=True)
    second.load(path)
    assert_same(second, opt)


def test_what_other_programs_see(tmp_path: Path) -> None:
    opt = saved(tmp_path / "state", params=True)
    arrays = safetensors.numpy.load_file(tmp_path / "state")
    assert sorted(arrays) == sorted(
        [
            *("params.0", "params.1"),
            *(f"state.{i}.{name}" for i in (0, 1) for name in ("exp_avg", "exp_avg_sq")),
        ]
    )
    for i, name in enumerate("wb"):
        own = dict(opt.state[name])
        assert own.pop("step") == 1
        assert own.keys() == {"exp_avg", "exp_avg_sq"}
        for state, array in own.items():
            assert arrays[f"state.{i}.{state}"].dtype == array.dtype
            np.testing.assert_array_equal(arrays[f"state.{i}.{state}"], array)
    with safetensors.safe_open(tmp_path / "state", "np") as file:
        assert sorted(file.metadata()) == ["fusedopt", "sha256"]


@every_dtype
def test_other_programs_see_arrays_of_every_shape(dtype: type, tmp_path: Path) -> None:
    """Aligned: behind an index of whole words those of 8 bytes come before those of 4."""
    shapes = [(), 1, 3, 0, (3, 0, 2), (1, 1, 5), 8193, (2,) * 10]
    params = random_arrays(0, dtype, shapes) + random_arrays(1, np.float64, shapes)
    opt = fusedopt.SGD(params, momentum=0.9)
    opt.step(random_arrays(2, dtype, shapes) + random_arrays(3, np.float64, shapes))
    opt.save(tmp_path / "file", params=True, extra={"ä": "\udcff\u2028"})
    arrays = safetensors.numpy.load_file(tmp_path / "file")
    assert len(arrays) == 2 * len(params)
    for i, p in enumerate(params):
        np.testing.assert_array_equal(arrays[f"params.{i}"], p)
        assert arrays[f"params.{i}"].shape == p.shape
    content = (tmp_path / "file").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    index = json.loads(content[8 : 8 + length])
    for name, entry in index.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            assert begin % arrays[name].itemsize == 0
            assert content[8 + length :][begin:end] == arrays[name].tobytes()
    assert opt.load(tmp_path / "file") == {"ä": "\udcff\u2028"}
    assert not os.listdir(tmp_path)[1:]


def test_a_file_that_the_library_wrote(tmp_path: Path) -> None:
    """As this package did at first: another order of arrays and keys, and no padding."""
    opt = saved(tmp_path / "ours", params=True, extra="x")
    with safetensors.safe_open(tmp_path / "ours", "np") as file:
        metadata = file.metadata()
    arrays = safetensors.numpy.load_file(tmp_path / "ours")
    for order in (sorted(arrays), sorted(arrays, reverse=True)):
        chosen = {name: arrays[name] for name in order}
        safetensors.numpy.save_file(chosen, tmp_path / "theirs", metadata)
        second = other()
        assert second.load(tmp_path / "theirs") == "x"
        assert_same(second, opt)


def test_arrays_of_another_order_of_bytes(tmp_path: Path) -> None:
    """A file holds little-endian numbers, wherever it was written."""
    arrays = {"a": np.array([[1.5, 2], [3, -4]]), "b": np.array([5.5, 6], np.float32)}
    foreign = {name: array.astype(array.dtype.newbyteorder()) for name, array in arrays.items()}
    for name, content in (("here", arrays), ("there", foreign)):
        files.write(tmp_path / name, content, files.to_text({}))
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    read, _ = files.read(tmp_path / "there", lambda size: np.empty(size, np.uint8))
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_any_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state"
    saved(path, params=True)
    content = path.read_bytes()
    opt = other()
    header = struct.unpack("<Q", content[:8])[0] + 8
    rng = np.random.default_rng(0)
    flips = [*((at, at % 8) for at in range(len(content)))]
    flips += [(int(at), bit) for at in rng.integers(0, header, 200) for bit in range(8)]
    for at, bit in flips:
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged|but not one that"):
            opt.load(path)
    for size in [*range(0, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"^{path}: damaged, or no safetensors file"):
            opt.load(path)
    path.write_bytes(content + b"more")
    with pytest.raises(ValueError, match="damaged"):
        opt.load(path)
    assert dict(opt.state["w"]) == {}
    assert not opt.param_groups[0]["params"][0].any()
    path.write_bytes(content)
    opt.load(path)


@pytest.mark.parametrize("change", [1, -1, -1000])
def test_a_file_that_changes_while_it_is_read(change: int, tmp_path: Path) -> None:
    fusedopt.SGD([np.ones(10_000)]).save(tmp_path / "file", params=True)
    size = (tmp_path / "file").stat().st_size

    def allocate(length: int) -> Any:
        os.truncate(tmp_path / "file", size + change)
        return np.zeros(length, np.uint8)

    with pytest.raises(ValueError, match="damaged, or no safetensors file: its length has change"):
        files.read(tmp_path / "file", allocate)


def test_foreign_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    opt = other()
    with pytest.raises(FileNotFoundError):
        opt.load(path)
    path.write_text("something else, long enough for a header")
    with pytest.raises(ValueError, match=f"^{path}: damaged, or no safetensors file"):
        opt.load(path)
    safetensors.numpy.save_file({"w": np.ones(3)}, path)
    with pytest.raises(ValueError, match=f"^{path}: a safetensors file, but not one that an opt"):
        opt.load(path)
    with monkeypatch.context() as later:
        later.setattr(files, "VERSION", 2)
        saved(path)
    with pytest.raises(ValueError, match=f"^{path}: expected a file of version 1, got 2: a newer"):
        opt.load(path)
    sgd = fusedopt.SGD([np.ones(3)])
    sgd.save(path)
    with pytest.raises(ValueError, match=f"^{path}: state_dict.'optimizer'.: expected 'AdamW', go"):
        opt.load(path)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved(path, params=True)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"w": np.zeros((3, 4)), "b": np.zeros(3)}, "expected dtype float64, as params"),
        ({"w": np.zeros((3, 4), "f"), "c": np.zeros(3)}, "expected 'c', got 'b'"),
        ({"w": np.zeros((4, 3), "f"), "b": np.zeros(3)}, r"expected shape \(4, 3\)"),
    ]
    for params, text in wrong:
        opt = fusedopt.AdamW(params)
        with pytest.raises(ValueError, match=f"^{path}: .*{text}"):
            opt.load(path)
        assert dict(opt.state["w"]) == {}
        assert not params["w"].any()
    opt = fusedopt.AdamW({"w": np.zeros((3, 4), np.float32), "b": np.zeros(3)})
    opt.param_groups[0]["params"][1].flags.writeable = False
    with pytest.raises(ValueError, match=r"^params\['b'\]: expected a writeable array"):
        opt.load(path)
    assert dict(opt.state["w"]) == {}
    # No state is needed for the shape to be wrong.
    fusedopt.SGD([np.ones(3)]).save(path, params=True)
    for array in (np.zeros(4), np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match=r"params\[0\]: the optimizer's is"):
            fusedopt.SGD([array]).load(path)


@pytest.mark.parametrize("extra", [{1: 2}, object(), np.ones(3), {"a": (1, 2)}, np.int64(1)])
def test_extra_is_plain_data(extra: Any, tmp_path: Path) -> None:
    for value, label in ((extra, "extra"), ({"k": [0, extra]}, r"extra\['k'\]\[1\]")):
        with pytest.raises(TypeError, match=f"^{label}.*: expected plain data, as for JSON"):
            saved(tmp_path / "file", extra=value)
    assert not list(tmp_path.iterdir())


def test_what_extra_can_not_be_is_said(tmp_path: Path) -> None:
    kinds = [({1: 2}, "a dict with other keys"), ((1, 2), "<class 'tuple'>")]
    for extra, got in kinds:
        with pytest.raises(TypeError, match=f"True, False or None; got {got}$"):
            saved(tmp_path / "file", extra=extra)


def test_paths(tmp_path: Path) -> None:
    class Own:
        def __fspath__(self) -> str:
            return str(tmp_path / "own")

    class InBytes:
        def __fspath__(self) -> bytes:
            return bytes(tmp_path / "own")

    opt = other()
    wrong: list[tuple[Any, type[Exception], str]] = [
        (5, TypeError, "path: expected a str or Path, got int"),
        (None, TypeError, "path: expected a str or Path, got NoneType"),
        (b"file", TypeError, "path: expected a str or Path, got bytes"),
        (InBytes(), TypeError, "path: expected a str or Path, got InBytes"),
        ("", ValueError, "path: expected the name of a file, got ''"),
    ]
    for path, error, text in wrong:
        for call in (opt.save, opt.load):
            with pytest.raises(error, match=f"^{text}$"):
                call(path)
    opt.save(Own())  # type: ignore[arg-type]
    opt.load(str(tmp_path / "own"))


def test_state_in_files_is_read_into_files(tmp_path: Path) -> None:
    saved(tmp_path / "file")
    sizes: list[int] = []
    opt = other(state_dir=tmp_path)
    files = opt._state_files
    assert files is not None

    def spy(size: int) -> Any:
        sizes.append(size)
        return files(size)

    opt._state_files = spy  # type: ignore[assignment]
    opt.load(tmp_path / "file")
    assert len(sizes) == 1


def test_extra_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0).bit_generator.state
    extra = {"loss": [0.1, np.float64(1 / 3), -np.inf], "ä": None, "yes": True, "rng": rng}
    saved(tmp_path / "file", extra=extra)
    assert other().load(tmp_path / "file") == extra
    saved(tmp_path / "file", extra=np.nan)
    assert np.isnan(other().load(tmp_path / "file"))


def test_saving_while_another_thread_steps(tmp_path: Path) -> None:
    """It waits: what is saved is one moment of the run."""
    n = 300_000
    p, g = np.zeros(n), np.ones(n)
    opt = fusedopt.SGD([p], lr=1.0, momentum=1.0, ema_decay=0.5)
    opt.step([g])
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            opt.step([g])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(15):
            opt.save(tmp_path / "file", params=True)
            other = fusedopt.SGD([np.zeros(n)])
            other.load(tmp_path / "file")
            steps = other.completed_steps
            (q,) = other.param_groups[0]["params"]
            assert (other.state[0]["momentum_buffer"] == steps).all()
            assert (q == -steps * (steps + 1) / 2).all()
            opt.load(tmp_path / "file")
    finally:
        done.set()
        thread.join()


SAVING_FOR_EVER = """
import sys
import numpy as np
import fusedopt
opt = fusedopt.Adam([np.ones(1000)])
opt.step([np.ones(1000)])
print("ready", flush=True)
while True:
    {}
"""


@pytest.mark.parametrize(
    "work",
    [
        "opt.save(sys.argv[1])",
        "content = open(sys.argv[1], 'rb').read(); open(sys.argv[1], 'wb').write(content)",
    ],
    ids=["renamed", "in place"],
)
def test_loading_a_file_that_is_being_written(work: str, tmp_path: Path) -> None:
    """One that is renamed is whole; one that is overwritten is damaged at the worst."""
    opt = fusedopt.Adam([np.ones(1000)])
    opt.step([np.ones(1000)])
    opt.save(tmp_path / "file")
    code = SAVING_FOR_EVER.format(work)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    damaged = 0
    try:
        for _ in range(300):
            try:
                opt.load(tmp_path / "file")
            except ValueError as error:
                assert "damaged" in str(error)  # noqa: PT017
                damaged += 1
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert damaged == 0 or "open" in work
