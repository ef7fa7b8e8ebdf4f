"""Contract: every example in the documentation runs and prints what it says."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import fusedopt
from fusedopt import functional, reference

ROOT = Path(__file__).parent.parent
MODULES = [
    m.name
    for m in pkgutil.walk_packages(fusedopt.__path__, "fusedopt.")
    # The last two for what may not be installed.
    if not m.name.startswith(("fusedopt._core", "fusedopt._bench", "fusedopt._threadpoolctl"))
]
PUBLIC = [
    *(getattr(fusedopt, name) for name in fusedopt.__all__ if name[0] != "_"),
    *(getattr(functional, name) for name in functional.__all__),
    *(getattr(reference, name) for name in reference.__all__),
    fusedopt.Optimizer.step,
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    with np.printoptions(legacy=False):
        failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize(
    "thing", [t for t in PUBLIC if not inspect.ismodule(t)], ids=lambda t: t.__qualname__
)
def test_every_public_docstring_has_an_example(thing: object) -> None:
    assert ">>> " in (inspect.getdoc(thing) or "")


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_python_in_pages(
    page: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All Python blocks of a page run in order, and print(...)  # text prints the text."""
    monkeypatch.chdir(tmp_path)
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    namespace: dict[str, object] = {}
    text = path.read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, page, "exec"), namespace)
        for line in re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE):
            assert line in capsys.readouterr().out
