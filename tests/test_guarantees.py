"""Contract: every promise in docs/guarantees.md names tests that are there, and so do scripts."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "guarantees.md"
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", PAGE.read_text(encoding="utf-8"))))


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


SCRIPTS = [
    *TESTS.parent.glob(".ci/run"),  # which a source distribution doesn't have
    TESTS / "sanitizers" / "run.py",
    TESTS / "mutation" / "targets.py",
]
IN_SCRIPTS = sorted(
    {
        name
        for script in SCRIPTS
        for name in re.findall(r"tests/(test_\w+\.py)(?:::(\w+))?", script.read_text("utf-8"))
    }
)


@pytest.mark.parametrize(("file", "function"), NAMED + IN_SCRIPTS)
def test_it_is_there(file: str, function: str) -> None:
    assert not function or function in functions_of(file)
    assert any(name.startswith("test_") for name in functions_of(file))


def test_every_promise_names_one() -> None:
    promises = PAGE.read_text(encoding="utf-8").split("## Not promised")[0].split("\n- ")[1:]
    assert len(promises) > 30
    for promise in promises:
        assert re.search(r"`test_\w+\.py", promise), promise
