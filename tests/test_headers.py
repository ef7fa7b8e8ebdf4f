"""Contract: whatever a file says, it is a ValueError or what was meant, and takes no memory."""

import copy
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from fusedopt import schedules
from fusedopt._persistence import files, safetensors
from made_files import Parts, Stored, index_of, put_together, taken_apart, with_index


def stepped(optimizer: type = fusedopt.Adam) -> fusedopt.Optimizer:
    opt = optimizer({"w": np.full((2, 3), 2, np.float32), "b": np.ones(3)}, lr=0.1)
    opt.step({"w": np.ones((2, 3), np.float32), "b": np.ones(3)})
    return opt


def parts(tmp_path: Path) -> Parts:
    stepped().save(tmp_path / "good", params=True, extra={"epoch": 3})
    return taken_apart((tmp_path / "good").read_bytes())


def refuse(path: Path, content: bytes, text: str, **options: Any) -> None:
    """Assert that a file is refused, with these words, and that nothing changes."""
    path.write_bytes(content)
    opt = fusedopt.Adam({"w": np.zeros((2, 3), np.float32), "b": np.zeros(3)}, lr=0.5)
    with pytest.raises(ValueError, match=f"^{path}: .*{text}"):
        opt.load(path, **options)
    assert dict(opt.state["w"]) == dict(opt.state["b"]) == {}
    assert opt.completed_steps == 0
    assert opt.param_groups[0]["lr"] == 0.5
    assert not any(p.any() for p in opt.param_groups[0]["params"])


def test_the_parts_make_a_file_again(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    (tmp_path / "file").write_bytes(put_together(header, arrays))
    opt = stepped()
    assert opt.load(tmp_path / "file") == {"epoch": 3}


@pytest.mark.parametrize(
    "shape", [[[0], 300_000_000], [0.0], [True], ["1"], [-1, -1], 5, "ab", None, {}, [2**63, 0]]
)
def test_a_shape_takes_no_memory(shape: Any, tmp_path: Path) -> None:
    """A list times a number is a list of that length."""
    entry = {"dtype": "F64", "shape": shape, "data_offsets": [0, 0]}
    tracemalloc.start()
    try:
        refuse(tmp_path / "file", with_index({"x": entry}, {}), "damaged, .*: an array")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("shape", "offsets"), [([True], [0, 8]), ([1], [False, 8])])
def test_true_and_false_are_no_numbers(shape: Any, offsets: Any, tmp_path: Path) -> None:
    header = parts(tmp_path).header
    alone = {"x": Stored("F64", [1], bytes(8))}
    index = index_of(json.dumps(header), alone)
    index["x"] = {"dtype": "F64", "shape": shape, "data_offsets": offsets}
    refuse(tmp_path / "file", with_index(index, alone), "damaged, .*: an array without a")


@pytest.mark.parametrize(
    "places", [[(0, 8), (0, 8), (8, 16)], [(0, 8), (8, 16), (8, 16)], [(0, 8), (16, 24), (24, 32)]]
)
def test_arrays_that_overlap_or_leave_gaps(places: Any, tmp_path: Path) -> None:
    """Their content, and so the checksum, is right: many in one place would be a lot of work."""
    text = json.dumps(parts(tmp_path).header)
    same = {name: Stored("F64", [1], bytes(8)) for name in "xyz"}
    index = index_of(text, same)
    for name, place in zip("xyz", places, strict=True):
        index[name]["data_offsets"] = list(place)
    for length in (2, 3, 4):
        data = {str(k): same["x"] for k in range(length)}
        refuse(tmp_path / "file", with_index(index, data), "damaged, .*: its arrays ")


ONE = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
OTHER_KIND, OTHER_TYPE = "an array of another kind", "an array of another type"
MOST_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
NO_SHAPE, NO_PLACE = "an array without a shape", "an array without a place"
NO_FIT = "an array that is larger or smaller than its place"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (5, OTHER_KIND),
        ([*ONE], OTHER_KIND),
        ({}, OTHER_KIND),
        ({"dtype": "F64", "shape": [1]}, OTHER_KIND),
        ({**ONE, "more": 1}, OTHER_KIND),
        ({**ONE, "dtype": "F16"}, OTHER_TYPE),
        ({**ONE, "dtype": 5}, OTHER_TYPE),
        ({**ONE, "dtype": ["F64"]}, OTHER_TYPE),
        ({**ONE, "shape": 1}, NO_SHAPE),
        ({**ONE, "shape": {"1": 1}}, NO_SHAPE),
        ({**ONE, "shape": [1] * 65}, NO_SHAPE),
        ({**ONE, "shape": [-1]}, NO_SHAPE),
        ({**ONE, "shape": [2**63]}, NO_SHAPE),
        ({**ONE, "shape": [1.0]}, NO_SHAPE),
        ({**ONE, "shape": [2**63 - 1]}, NO_FIT),
        ({**ONE, "data_offsets": [0]}, NO_PLACE),
        ({**ONE, "data_offsets": [0, 8, 8]}, NO_PLACE),
        ({**ONE, "data_offsets": [-8, 0]}, NO_PLACE),
        ({**ONE, "data_offsets": "08"}, NO_PLACE),
        ({**ONE, "data_offsets": [0, 4]}, NO_FIT),
        ({**ONE, "dtype": "F32"}, NO_FIT),
        ({**ONE, "shape": [2]}, NO_FIT),
        ({**ONE, "shape": []}, "'x': an array of another kind"),
        ({**ONE, "shape": [1] * MOST_AXES}, "'x': an array of another kind"),
    ],
    ids=str,
)
def test_entries_of_an_index(entry: Any, text: str, tmp_path: Path) -> None:
    header = parts(tmp_path).header
    alone = {"x": Stored("F64", entry["shape"] if "'x'" in text else [1], bytes(8))}
    index = index_of(json.dumps({**header, "state": {}, "params": False}), alone)
    index["x"] = entry
    where = "" if "'x'" in text else "damaged, or no safetensors file: "
    refuse(tmp_path / "file", with_index(index, alone), f"{where}{text}$")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 10**8, 1 << 30, 1 << 62, 2**63, 2**64 - 1])
def test_the_length_of_a_header_takes_no_memory(length: int, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        content = length.to_bytes(8, "little") + b"{}     "
        refuse(tmp_path / "file", content, "damaged, or no safetensors file|not one that an opt")
        # A file that says that much, and is as long, without taking room on the disk.
        if 1 << 29 < length < 1 << 40:
            with open(tmp_path / "large", "wb") as file:
                file.write(length.to_bytes(8, "little"))
                file.truncate(length + 8)
            with pytest.raises(ValueError, match="a header of 1,073,741,824 bytes"):
                stepped().load(tmp_path / "large")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_how_long_a_header_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opt = stepped()
    opt.save(tmp_path / "file", extra=5)
    length = int.from_bytes((tmp_path / "file").read_bytes()[:8], "little")
    monkeypatch.setattr(safetensors, "MOST_BYTES", length)
    assert opt.load(tmp_path / "file") == 5
    monkeypatch.setattr(safetensors, "MOST_BYTES", length - 1)
    with pytest.raises(ValueError, match=f"a header of {length:,} bytes"):
        opt.load(tmp_path / "file")


def test_arrays_are_where_the_file_was_read_to(tmp_path: Path) -> None:
    """They aren't copied once more, where the machine has the order of bytes of the file."""
    stepped().save(tmp_path / "file", params=True)
    contents = []

    def allocate(size: int) -> Any:
        contents.append(np.empty(size, np.uint8))
        return contents[-1]

    arrays, _ = files.read(tmp_path / "file", allocate)
    assert len(arrays) == 6
    if sys.byteorder == "little":
        for array in arrays.values():
            assert np.shares_memory(array, contents[0])


@pytest.mark.parametrize("piece", ["[],", "{},", '{"":0},', "1,", "1e1,", '"é",'])
def test_json_takes_a_multiple_of_its_length(piece: str, tmp_path: Path) -> None:
    """As Python needs: 30 times, where it is nothing but empty dicts."""
    header, arrays = parts(tmp_path)
    many = f"[{piece * 20_000}0]"
    large = put_together(json.dumps({**header, "extra": "HERE"}).replace('"HERE"', many), arrays)
    (tmp_path / "file").write_bytes(large)
    opt = stepped()
    tracemalloc.start()
    try:
        assert len(opt.load(tmp_path / "file")) == 20_001
        assert tracemalloc.get_traced_memory()[1] < 36 * len(large) + (1 << 18)
        tracemalloc.reset_peak()
        large = with_index(f'{{"x": {many}}}'.encode(), {})
        refuse(tmp_path / "file", large, "damaged, or no safetensors file: an array")
        assert tracemalloc.get_traced_memory()[1] < 36 * len(large) + (1 << 18)
    finally:
        tracemalloc.stop()


TEXTS = {
    "a mark of the order of bytes": b"\xef\xbb\xbf{}",
    "another encoding": "{}".encode("utf-16"),
    "no text": b'{"\xff": 1}',
    "half of a character": b'{"\\ud800": {}}',
    "no dict": b"[]",
    "a number": b"5",
    "nothing": b"",
    "more behind": b"{} {}",
    "NaN": b"NaN",
    "deep": b"[" * 100_000,
    "deep dicts": b'{"a":' * 100_000,
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_an_index_that_is_none(kind: str, tmp_path: Path) -> None:
    refuse(tmp_path / "file", with_index(TEXTS[kind], {}), "damaged, or no safetensors file: .")


@pytest.mark.parametrize("metadata", ["text", ["fusedopt", "sha256"], None, 5, {"fusedopt": 1}])
def test_metadata_of_another_kind(metadata: Any, tmp_path: Path) -> None:
    content = with_index({"__metadata__": metadata}, {})
    refuse(tmp_path / "file", content, "damaged, or no safetensors file: metadata that isn't text")


def test_metadata_that_no_optimizer_wrote(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    good = index_of(json.dumps(header), arrays)
    metadata = good["__metadata__"]
    for wrong in [
        {},
        {"fusedopt": metadata["fusedopt"]},
        {"sha256": metadata["sha256"]},
        {**metadata, "format": "np"},
    ]:
        content = with_index({**good, "__metadata__": wrong}, arrays)
        refuse(tmp_path / "file", content, "a safetensors file, but not one that an optimizer has")


def test_what_is_said_twice(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    text = json.dumps(header)
    for wrong in (f'{{"params": true, {text[1:]}', text.replace('"lr"', '"lr": 5, "lr"')):
        assert wrong != text
        content = put_together(wrong, arrays)
        refuse(tmp_path / "file", content, "damaged, .*: JSON that says something twice")
    index = json.dumps(index_of(text, arrays))
    entry = json.dumps({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    for wrong in (
        f'{{"params.0": {entry}, {index[1:]}',
        index.replace('"F32"', '"F32", "dtype": 5'),
    ):
        content = with_index(wrong.encode(), arrays)
        refuse(tmp_path / "file", content, "damaged, .*: JSON that says something twice")


@pytest.mark.parametrize("version", [2, 0, -1, 10**30])
def test_another_version(version: int, tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    content = put_together({**header, "version": version, "new": 1}, arrays)
    refuse(tmp_path / "file", content, f"expected a file of version 1, got {version}: a newer")


@pytest.mark.parametrize("version", [True, 1.0, "1", None, [1], {}])
def test_a_version_that_is_none(version: Any, tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    content = put_together({**header, "version": version}, arrays)
    refuse(tmp_path / "file", content, "damaged, or no safetensors file: no version")
    refuse(tmp_path / "file", put_together([header], arrays), "damaged, .*: no version")


def test_every_entry_of_a_header_is_needed_and_of_its_kind(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    for key in header.keys() - {"version"}:
        without = {name: value for name, value in header.items() if name != key}
        refuse(tmp_path / "file", put_together(without, arrays), f"header.'{key}'.: missing")
        for wrong in (None, 1.5, "x", [1], {"1": 2}, 2**70):
            if key != "extra" and type(wrong) is not type(header[key]):
                content = put_together({**header, key: wrong}, arrays)
                refuse(tmp_path / "file", content, f"header.'{key}'.: expected ")
    content = put_together({**header, "new": 1}, arrays)
    refuse(tmp_path / "file", content, "header.'new'.: there is no such entry")


SMALL = Stored("F64", [1], bytes(8))
ADDED = {
    "params.99": r"params\[99\]: the optimizer has 2 parameters",
    "params.01": "'params.01': an array of another kind",
    "params.": "'params.': an array of another kind",
    "params.0.x": "'params.0.x': an array of another kind",
    "params.-1": "'params.-1': an array of another kind",
    "params.²": "an array of another kind",
    "params." + "9" * 19: r"params\[9{19}\]: the optimizer has 2 parameters",
    "params." + "9" * 20: "an array of another kind",
    "params." + "9" * 5000: "an array of another kind",
    "state.0.nosuch": r"\['nosuch'\]: Adam has no such state",
    "state.0.": r"\[''\]: Adam has no such state",
    "state.0.step": "'state.0.step': an array that its header doesn't know",
    "state.0": r"\[''\]: Adam has no such state",
    "state.7.exp_avg": "'state.7.exp_avg': an array that its header doesn't know",
    "state.00.exp_avg": "'state.00.exp_avg': an array of another kind",
    "state": "'state': an array of another kind",
    "": "'': an array of another kind",
    "other": "'other': an array of another kind",
}
INCONSISTENT = {"state.0.step", "state.7.exp_avg"}


@pytest.mark.parametrize("name", ADDED, ids=lambda name: name[:20])
def test_an_array_too_many(name: str, tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    content = put_together(header, {**arrays, name: SMALL})
    refuse(tmp_path / "file", content, ADDED[name])
    if name in INCONSISTENT:
        refuse(tmp_path / "file", content, ADDED[name], strict=False)
    else:
        assert stepped().load(tmp_path / "file", strict=False) == {"epoch": 3}


def test_an_array_too_few(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    for name in arrays:
        rest = {key: array for key, array in arrays.items() if key != name}
        content = put_together(header, rest)
        refuse(tmp_path / "file", content, "missing")
        if name.startswith("params"):
            refuse(tmp_path / "file", content, r"params\['[wb]'\]: missing", strict=False)


def test_parameters_that_the_header_denies(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    content = put_together({**header, "params": False}, arrays)
    refuse(tmp_path / "file", content, "'params.[01]': an array of another kind")
    opt = stepped()
    before = [p.copy() for p in opt.param_groups[0]["params"]]
    opt.load(tmp_path / "file", strict=False)
    for p, q in zip(opt.param_groups[0]["params"], before, strict=True):
        np.testing.assert_array_equal(p, q)


def put(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts a value somewhere into a header."""

    def change(header: dict[str, Any]) -> None:
        place: Any = header
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


G = ["param_groups", 0]
WRONG: list[tuple[list[Any], Any, str]] = [
    (["state", "0"], [], "expected dict, got list"),
    (["state", "00"], {"step": 1}, "expected the number of a parameter"),
    (["state", "x"], {"step": 1}, "expected the number of a parameter"),
    (["state", "7"], {"step": 1}, r"\[7\]: there is no parameter of that key"),
    (["state", "0", "step"], 1.5, "expected int, got float"),
    (["state", "0", "step"], True, "expected int, got bool"),
    (["state", "0", "step"], None, "expected int, got NoneType"),
    (["state", "0", "step"], -1, "expected a number of steps up to"),
    (["state", "0", "step"], 2**53 + 1, "expected a number of steps up to"),
    (["state", "0", "exp_avg"], None, "an array that its header doesn't know"),
    (["state", "0", "more"], 5, "expected NoneType, got int"),
    (["state", "0", "more"], None, "Adam has no such state"),
    (["completed_steps"], -1, "expected a number of steps up to"),
    (["completed_steps"], 10**400, "expected a number of steps up to"),
    (["param_groups"], [], "expected 1, as the optimizer has, got 0"),
    (["param_groups"], [5], "expected dict, got int"),
    ([*G, "params"], [0, 0], "expected the numbers of parameters, in order"),
    ([*G, "params"], [1, 0], "expected the numbers of parameters, in order"),
    ([*G, "params"], [0, 7], "expected the numbers of parameters, in order"),
    ([*G, "params"], [0, [1]], "expected a list of int"),
    ([*G, "params"], [0, True], "expected a list of int"),
    ([*G, "params"], [0], "expected 2, as the optimizer has in that group, got 1"),
    ([*G, "params"], 5, "expected a list of int"),
    ([*G, "param_names"], 5, "expected a list of str"),
    ([*G, "param_names"], ["w", 5], "expected a list of str"),
    ([*G, "param_names"], ["w", "c"], "expected 'b', got 'c'"),
    ([*G, "lr"], "0.1", "lr'?.?: expected a finite number >= 0"),
    ([*G, "lr"], np.inf, "lr'?.?: expected a finite number >= 0"),
    ([*G, "lr"], {"kind": [1]}, "lr'?.?: "),
    ([*G, "lr"], {"kind": "cosine"}, "schedule: "),
    ([*G, "lr"], {"kind": "Schedule"}, "schedule: there is none named 'Schedule'"),
    ([*G, "lr"], {"callable": "f"}, "was a function, f, which state can't hold"),
    ([*G, "lr"], {"callable": ["f"]}, "lr"),
    ([*G, "betas"], [0.9], "expected a pair of numbers, got 1"),
    ([*G, "betas"], [[[0.9]], 0.5], "betas"),
    ([*G, "amsgrad"], 1, "expected True or False"),
    ([*G, "new"], 1, "Adam has no such hyperparameter"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong[0][-1]} {wrong[2][:30]}")
def test_a_header_with_something_wrong(wrong: tuple[list[Any], Any, str], tmp_path: Path) -> None:
    path, value, text = wrong
    header, arrays = parts(tmp_path)
    header = copy.deepcopy(header)
    put(path, value)(header)
    refuse(tmp_path / "file", put_together(header, arrays), text)


@pytest.mark.parametrize("levels", [150, 3000, 100_000])
@pytest.mark.parametrize("begin", ['{"kind": "warmup", "steps": 1, "schedule": ', "[", '{"a": '])
def test_a_schedule_that_is_nested_too_deep(begin: str, levels: int, tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    put([*G, "lr"], "HERE")(header)
    text = begin * levels + "1.0" + ("]" if begin == "[" else "}") * levels
    content = put_together(json.dumps(header).replace('"HERE"', text), arrays)
    refuse(tmp_path / "file", content, "nested (too deep|more than 100 deep)")


def test_how_deep_a_header_may_be(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    extra: Any = 1
    for _ in range(100):
        extra = [extra]
    (tmp_path / "file").write_bytes(put_together({**header, "extra": extra}, arrays))
    assert stepped().load(tmp_path / "file") == extra
    for more in ([extra], [[extra]]):
        content = put_together({**header, "extra": more}, arrays)
        refuse(tmp_path / "file", content, "header: nested more than 100 deep")


def test_more_in_a_header(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    content = put_together({**header, "new": 1}, arrays)
    refuse(tmp_path / "file", content, r"header\['new'\]: there is no such entry")
    assert stepped().load(tmp_path / "file", strict=False) == {"epoch": 3}


def test_a_number_that_the_parameters_can_not_have(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path)
    put([*G, "lr"], 1e300)(header)
    (tmp_path / "file").write_bytes(put_together(header, arrays))
    opt = stepped()
    with pytest.raises(ValueError, match="^lr: expected a number that is finite in float32"):
        opt.load(tmp_path / "file")
    assert opt.param_groups[0]["lr"] == 0.1


def test_kinds_that_a_function_may_have_been(tmp_path: Path) -> None:
    """What stands for a function is its name and nothing else."""
    opt = fusedopt.SGD([np.ones(3)], lr=lambda step: 0.1)
    opt.save(tmp_path / "file")
    header, arrays = taken_apart((tmp_path / "file").read_bytes())
    for value in ({"callable": 5}, {"callable": "f", "more": 1}):
        header["param_groups"][0]["lr"] = value
        (tmp_path / "file").write_bytes(put_together(header, arrays))
        with pytest.raises(ValueError, match="schedule: there is none named None"):
            opt.load(tmp_path / "file")
    header["param_groups"][0]["lr"] = schedules.constant(0.5).to_dict()
    (tmp_path / "file").write_bytes(put_together(header, arrays))
    opt.load(tmp_path / "file")
    assert opt.param_groups[0]["lr"] == schedules.constant(0.5)
