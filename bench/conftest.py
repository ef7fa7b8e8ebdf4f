"""How the results are shown."""

from collections import defaultdict
from typing import Any

import numpy as np

import fusedopt


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
