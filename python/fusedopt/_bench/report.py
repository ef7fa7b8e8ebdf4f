"""The report: runs all rows, shows them and keeps them."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import fusedopt

from . import machine
from .paired import Paired
from .peers import MissingPeerError
from .rows import Goal, Row, Scope, all_rows
from .whole_step import bytes_per_element
from .workloads import bytes_moved, elements_of

#: How long a row may take, by whether the report is quick.
SECONDS = {True: 0.3, False: 1.5}

Results = list[tuple[Row, Paired]]


def run(*, quick: bool, console: Console) -> tuple[Results, dict[str, str]]:
    """Measure every row; also return which peers are missing, and why."""
    threads = fusedopt.get_num_threads()
    scope = Scope(threads=(1, threads) if threads > 1 else (1,), quick=quick)
    rows = list(all_rows(scope))
    results: Results = []
    missing: dict[str, str] = {}
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    try:
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
            task = progress.add_task("", total=len(rows))
            for row in rows:
                about = f"{row.rule}, {row.workload}, {row.rival or 'alone'}"
                progress.update(task, description=about[:48].ljust(48))
                if row.rival not in missing:
                    fusedopt.set_num_threads(row.threads)
                    try:
                        results.append((row, row.measure(SECONDS[quick])))
                    except MissingPeerError as error:
                        missing[row.rival] = str(error)
                progress.advance(task)
    finally:
        fusedopt.set_num_threads(threads)
    return results, missing


def show(results: Results, missing: dict[str, str], console: Console) -> None:
    """Print a table for each section, wins and losses alike."""
    for section in dict.fromkeys(row.section for row, _ in results):
        console.print(_table(section, [(r, p) for r, p in results if r.section == section]))
    for reason in missing.values():
        console.print(f"skipped: {reason}", markup=False)  # an extra is in square brackets
    console.print(goals_reached(results))


def goals_reached(results: Results) -> str:
    """Return how many there are, and how many were reached."""
    met = [is_met(row, pair) for row, pair in results if row.goal]
    return f"{sum(met)} of {len(met)} goals reached"


def _table(section: str, results: Results) -> Table:
    roofline, in_time = section == "traffic roofline", results[0][0].in_time
    table = Table(title=section, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    names = {"rule": "left", "elements" if roofline else "parameters": "right", "threads": "right"}
    if not roofline:
        names["against"] = "left"
    names["fusedopt"] = "right"
    whole = section == "whole step"
    if whole:
        names["bytes per element"] = "right"
    if not in_time:
        names["roofline" if roofline else "theirs"] = "right"
        names["ratio (quartiles)"] = "right"
    if roofline:
        names["GB/s"] = "right"
    for name, side in (names | {"goal": "right"}).items():
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for row, pair in results:
        mine, theirs = (pair.theirs, pair.ours) if roofline else (pair.ours, pair.theirs)
        rule = f"{row.rule}, {row.dtype}" if roofline else row.rule
        workload = f"{int(row.workload):,}" if roofline else row.workload
        cells = [rule, workload, str(row.threads)]
        if not roofline:
            cells.append(row.rival + (", fresh" if row.fresh else ""))
        if whole:
            cells.append(f"{bytes_per_element('fused')}, {bytes_per_element(row.rival)}")
        cells.append(in_units(mine))
        if not in_time:
            cells += [
                in_units(theirs),
                f"{digits(pair.ratio)} ({digits(pair.low)}, {digits(pair.high)})",
            ]
        if roofline:
            cells.append(f"{bandwidth(row, mine):.1f}")
        cells.append(_verdict(row, pair))
        lost = not in_time and not roofline and row.section != "values" and pair.ratio < 1
        table.add_row(*cells, style="red" if lost else None)
    return table


def bandwidth(row: Row, seconds: float) -> float:
    """Return how many GB a second a step of a row moves that takes so long."""
    return bytes_moved(row.rule, elements_of(row.workload), row.dtype) / seconds / 1e9


def threads_in_words(count: int) -> str:
    """Return 1 thread, 2 threads."""
    return f"{count} thread" + ("" if count == 1 else "s")


def digits(ratio: float) -> str:
    """Return a ratio with three digits."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def in_units(seconds: float) -> str:
    """Return a time with three digits and the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def is_met(row: Row, pair: Paired) -> bool:
    """Return whether the row's goal, if it has one, was reached."""
    return row.goal is None or row.goal.is_met_by(row.figure(pair))


def _verdict(row: Row, pair: Paired) -> str:
    if row.goal is None:
        return ""
    return f"{bound(row)} " + ("[green]yes" if is_met(row, pair) else "[red]no")


def bound(row: Row) -> str:
    """Return the goal of a row that has one, as it is shown."""
    assert row.goal is not None
    figure = in_units(row.goal.bound) if row.in_time else f"{row.goal.bound:g}"
    return f"{'≤' if row.goal.at_most else '≥'} {figure}"


def as_json(results: Results, missing: dict[str, str]) -> dict[str, Any]:
    """Return everything as plain data; times are seconds per step, medians."""
    config: Any = fusedopt.show_config(mode="dict")
    layers = config["threading layers"]
    if layers["runtime"] is not None:  # its name: where it lies is nobody else's business
        layers["runtime"] = Path(layers["runtime"]).name
    return {
        "machine": machine.describe(),
        "fusedopt": config,
        "rows": [
            {
                "section": row.section,
                "rule": row.rule,
                "dtype": row.dtype,
                "parameters": row.workload,
                "against": row.rival,
                "threads": row.threads,
                "fresh gradients": row.fresh,
                "in time": row.in_time,
                **asdict(pair),
                "goal": None if row.goal is None else asdict(row.goal),
                "reached": is_met(row, pair) if row.goal else None,
            }
            for row, pair in results
        ],
        "skipped": missing,
    }


def save_json(path: Path, results: Results, missing: dict[str, str]) -> None:
    """Write the results to a file."""
    path.write_text(json.dumps(as_json(results, missing), indent=1) + "\n", encoding="utf-8")


def load_json(path: Path) -> Results:
    """Return the results in a file that `save_json` has written; none can be measured again."""
    results = []
    for saved in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        row = Row(
            section=saved["section"],
            rule=saved["rule"],
            dtype=saved["dtype"],
            workload=saved["parameters"],
            rival=saved["against"],
            threads=saved["threads"],
            measure=_measured_before,
            goal=None if saved["goal"] is None else Goal(**saved["goal"]),
            fresh=saved["fresh gradients"],
            in_time=saved["in time"],
        )
        results.append((row, Paired(**{field.name: saved[field.name] for field in fields(Paired)})))
    return results


def _measured_before(_: float) -> Paired:
    raise RuntimeError("this row was loaded from a file")
