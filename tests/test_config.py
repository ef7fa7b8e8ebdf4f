"""Contract: show_config prints and returns how the library was built and what it runs on."""

from importlib.metadata import version

import pytest

import fusedopt


def test_dict() -> None:
    config = fusedopt.show_config(mode="dict")
    assert list(config) == [
        "version",
        "compiler",
        "instruction sets",
        "threading",
        "threading layers",
        "threads",
        "flush denormals",
    ]
    assert config["version"] == fusedopt.__version__ == version("fusedopt")
    sets = config["instruction sets"]
    assert sets["built"][0] == sets["available"][0] == "baseline"
    assert set(sets["available"]) <= set(sets["built"])
    assert sets["active"] in sets["available"]
    assert config["threads"] == fusedopt.get_num_threads()


def test_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fusedopt.show_config() is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "fusedopt",
        "compiler",
        "instruction sets",
        "threading",
        "threading layer",
        "OpenMP runtime",
        "threads",
        "flush denormals",
    ]
    active = fusedopt.show_config(mode="dict")["instruction sets"]["active"]
    assert lines[2].split(":", 1)[1].strip().startswith(f"{active} active")


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="mode: expected 'stdout' or 'dict', got 'json'"):
        fusedopt.show_config(mode="json")
