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
from published import peer

ROOT = Path(__file__).parent.parent
MODULES = [
    m.name
    for m in pkgutil.walk_packages(fusedopt.__path__, "fusedopt.")
    # The last two for what may not be installed.
    if not m.name.startswith(("fusedopt._core", "fusedopt._bench", "fusedopt._threadpoolctl"))
]
#: And what each is for.
FRONTS = {
    "fusedopt.autograd": "autograd",
    "fusedopt.jax": "jax",
    "fusedopt.sklearn": "sklearn",
    "fusedopt.thinc": "thinc",
    "fusedopt.torch": "torch",
}
PUBLIC = [
    *(getattr(fusedopt, name) for name in fusedopt.__all__ if name[0] != "_"),
    *(getattr(functional, name) for name in functional.__all__),
    *(getattr(reference, name) for name in reference.__all__),
    fusedopt.Optimizer.step,
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    for front, library in FRONTS.items():
        if name.startswith(front):
            peer(library)
    with np.printoptions(legacy=False):
        failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize(
    "thing", [t for t in PUBLIC if not inspect.ismodule(t)], ids=lambda t: t.__qualname__
)
def test_every_public_docstring_has_an_example(thing: object) -> None:
    assert ">>> " in (inspect.getdoc(thing) or "")


PAGES = [
    "README.md",
    *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")),
]
#: What a page's examples import besides.
NEEDS = {
    "docs/howto/from_autograd.md": ("autograd",),
    "docs/howto/from_thinc.md": ("thinc",),
    "docs/howto/from_torch.md": ("torch",),
    "docs/howto/other_arrays.md": ("torch",),
    "docs/torch.md": ("torch",),
    "docs/howto/from_keras.md": ("jax", "keras"),
    "docs/howto/from_optax.md": ("jax",),
    "docs/howto/from_scikit_learn.md": ("sklearn",),
}


@pytest.mark.parametrize("page", PAGES)
def test_python_in_pages(
    page: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All Python blocks of a page run in order, and print(...)  # text prints the text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for module in NEEDS.get(page, ()):
        peer(module)
    namespace: dict[str, object] = {}
    text = (ROOT / page).read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, page, "exec"), namespace)
        printed = capsys.readouterr().out.splitlines()
        for line in re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE):
            assert any(line in one for one in printed), printed


LINK = re.compile(r"\]\(([\w./-]+?)/?(?:#([\w-]+))?\)")


@pytest.mark.parametrize(
    "page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md", "SECURITY.md"]
)
def test_links_between_pages(page: str) -> None:
    """What a link leads to is there; the gallery's pages are made of its programs."""
    for path, _ in LINK.findall((ROOT / page).read_text("utf-8")):
        target = (ROOT / page).parent / path
        if target.parent.name == "gallery":
            program = ROOT / "examples" / "gallery" / f"{target.stem}.py"
            assert target.suffix == ".rst"
            assert target.stem == "index" or program.exists(), path
        else:
            assert target.exists(), path
