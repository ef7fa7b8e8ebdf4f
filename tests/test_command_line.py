"""``python -m fusedopt``: what it prints, saves and draws."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fusedopt
from fusedopt.__main__ import main
from subprocesses import run_python

ROOT = Path(__file__).parent.parent

pytest.importorskip("rich", reason="needs the extra 'bench'")
pytest.importorskip("matplotlib", reason="needs the extra 'bench'")


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    fusedopt.show_config()
    assert printed == capsys.readouterr().out


def test_module() -> None:
    command = [sys.executable, "-m", "fusedopt", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bench" in done.stdout
    assert "company" in done.stdout
    assert "info" in done.stdout


def test_missing_extra() -> None:
    code = """
import sys
sys.modules["rich"] = sys.modules["rich.console"] = None
from fusedopt.__main__ import main
sys.exit(main(["bench"]))
"""
    done = run_python(code)
    assert done.returncode == 1
    assert "pip install 'fusedopt[bench]' brings it" in done.stderr


def test_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--json", "nowhere/out.json"])
    assert "there is no such folder" in capsys.readouterr().err


def test_bench(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of each kind, over in a moment."""
    from fusedopt._bench import peers, report, rows

    def missing(*arguments: object) -> None:
        raise peers.MissingPeerError("thinc: not there; pip install 'fusedopt[peers]' brings it")

    kinds = {
        ("one array", "16"): [],
        ("lists of arrays", "MLP"): ["naive NumPy", "in-place NumPy", "thinc"],
        ("small arrays, in time", "1000x16"): [],
        ("values", "1e5"): [],
        ("traffic roofline", "1000"): [],
    }
    chosen = []
    for row in rows.all_rows(rows.Scope(threads=(1,), quick=True)):
        rivals = kinds.get((row.section, row.workload))
        if rivals is not None and row.rival in (rivals or [row.rival]):
            if row.rival in ("torch fused", "thinc"):
                row = rows.replace(row, measure=missing)
            chosen.append(row)
    monkeypatch.setattr(report, "all_rows", lambda scope: iter(chosen))
    monkeypatch.setattr(report, "SECONDS", {True: 0.02, False: 0.02})
    threads = fusedopt.get_num_threads()

    saved, drawn = tmp_path / "out.json", tmp_path / "out.png"
    assert main(["bench", "--quick", "--json", str(saved), "--plot", str(drawn)]) == 0

    assert fusedopt.get_num_threads() == threads
    assert drawn.read_bytes().startswith(b"\x89PNG")
    results = json.loads(saved.read_text())
    assert {(r["section"], r["parameters"]) for r in results["rows"]} == kinds.keys() - {
        ("one array", "16")
    }
    for row in results["rows"]:
        assert row["ours"] > 0
        assert row["low"] <= row["ratio"] <= row["high"]
    assert results["fusedopt"]["version"] == fusedopt.__version__
    loaded = report.as_json(report.load_json(saved), results["skipped"])
    assert loaded["rows"] == results["rows"]
    assert results["skipped"].keys() == {"torch fused", "thinc"}
    printed = capsys.readouterr().out
    assert "naive NumPy, fresh" in printed
    assert "skipped: thinc: not there; pip install 'fusedopt[peers]' brings it" in printed
    assert "goals reached" in printed


def test_documented_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are those of the saved run; a changed number is put back; pictures are drawn."""
    from fusedopt._bench import plots, report

    monkeypatch.syspath_prepend(ROOT / "bench")
    import document

    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    results = report.load_json(document.RESULTS)
    assert document.fill(page, results) == page
    changed = page.replace("| Adam, GPT-2 | 1 | torch fused", "| Adam, GPT-2 | 3 | torch fused")
    assert changed != page
    assert document.fill(changed, results) == page
    with pytest.raises(ValueError, match="0 places for the table 'forms': expected one"):
        document.fill(page.replace("<!-- table: forms -->", ""), results)
    plots.save_overview(tmp_path / "overview.png", results)
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_company(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each company with one small array, and a small network."""
    pytest.importorskip("torch", reason="torch: in extra 'peers'")
    from fusedopt._bench import company

    for name, value in {
        "WORKLOADS": ("4e4",),
        "NETWORKS": (85_000,),
        "SECONDS": {True: 0.0},
        "_REST": 0.0,
        "_BLOCK": 0.001,
    }.items():
        monkeypatch.setattr(company, name, value)
    chosen = fusedopt.get_threading_layer()
    assert main(["company", "--quick"]) == 0
    assert fusedopt.get_threading_layer() == chosen
    printed = capsys.readouterr().out
    for name in (*company.COMPANIES, "training", *company.sides()):
        assert name in printed
    rows = [line.split() for line in printed.splitlines() if line.split()[:1] == ["4e4"]]
    assert len(rows) == 4
    for row in rows:
        ratios = [float(number.strip("()")) for number in row[3:]]
        assert len(ratios) == 2 * len(company.sides())
        assert all(0 < ratio < 10_000 for ratio in ratios)


def test_company_without_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
from fusedopt.__main__ import main
sys.exit(main(["company", "--quick"]))
"""
    done = run_python(code)
    assert done.returncode == 1
    assert "pip install 'fusedopt[peers]' brings it" in done.stderr
    assert "Traceback" not in done.stderr
