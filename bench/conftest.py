"""What is run, and how the results are shown."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import fusedopt


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="measure every size, list, dtype and peer (hours)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_report_header() -> str:
    """Say what the numbers depend on."""
    config = fusedopt.show_config(mode="dict")
    assert config is not None
    return (
        f"fusedopt: {config['version']}, {config['instruction sets']['active']}, "
        f"threads {config['threads']}; NumPy {np.__version__}"
    )


def pytest_benchmark_group_stats(
    benchmarks: list[dict[str, Any]], group_by: str
) -> list[tuple[str, list[dict[str, Any]]]] | None:
    """Order tables as the tests are and name rows by implementation, unless grouped otherwise.

    By default tables come in alphabetical order, and each row repeats its table's title. What is
    saved as JSON keeps the full names.
    """
    if group_by != "group":
        return None
    groups = defaultdict(list)
    for benchmark in benchmarks:
        benchmark["name"] = benchmark["params"]["implementation"]
        groups[benchmark["group"]].append(benchmark)
    return list(groups.items())
