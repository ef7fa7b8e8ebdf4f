"""Put the results in bench/results.json into docs/performance.md: its tables and its pictures.

    python -m fusedopt bench --json bench/results.json    # some fifteen minutes, on an idle machine
    python bench/document.py

A table stands between two comments with its name. What the page says around them is for people to
write: read it again after this.
"""

import re
from collections.abc import Callable
from pathlib import Path

from fusedopt._bench import plots, report
from fusedopt._bench.paired import Paired
from fusedopt._bench.rows import Row
from fusedopt._bench.whole_step import bytes_per_element
from fusedopt._bench.workloads import elements_of

Results = report.Results

RESULTS = Path(__file__).with_name("results.json")
DOCS = Path(__file__).resolve().parent.parent / "docs"


def ratio(_: Row, pair: Paired) -> str:
    middle, low, high = map(report.digits, (pair.ratio, pair.low, pair.high))
    return f"{middle} ({low} to {high})"


def within(row: Row, pair: Paired) -> str:
    """Return a ratio to the thousandth, bold where it is beyond its goal."""
    figure = f"{pair.ratio:.3f}" if report.is_met(row, pair) else f"**{pair.ratio:.3f}**"
    return f"{figure} ({pair.low:.3f} to {pair.high:.3f})"


def goal(row: Row, pair: Paired) -> str:
    if row.goal is None:
        return ""
    return f"{report.bound(row)}: {'yes' if report.is_met(row, pair) else '**no**'}"


def overhead(row: Row, _: Paired) -> str:
    if row.section == "values":
        return f"Adam, 100,000 elements, {row.rival}: against normal values"
    if row.rival:
        return "each further array of 16 elements"
    return "a whole step of one array of 16 elements, called from Python"


def traffic(row: Row, _: Paired) -> str:
    return f"{bytes_per_element('fused')}, they {bytes_per_element(row.rival)}"


LEFT, RIGHT = "---", "--:"
Column = tuple[str, str, Callable[[Row, Paired], str]]

elements: Column = ("elements", RIGHT, lambda row, _: f"{elements_of(row.workload):,}")
threads: Column = ("threads", RIGHT, lambda row, _: f"{row.threads}")
against: Column = ("against", LEFT, lambda row, _: row.rival)
gradients: Column = ("gradients", LEFT, lambda row, _: "fresh" if row.fresh else "same")
ours: Column = ("fusedopt", RIGHT, lambda _, pair: report.in_units(pair.ours))
theirs: Column = ("theirs", RIGHT, lambda _, pair: report.in_units(pair.theirs))
they_take: Column = ("they take (quartiles)", RIGHT, ratio)
reached: Column = ("goal", RIGHT, goal)


def table(columns: list[Column], results: Results) -> str:
    """Return a table in Markdown: a line for each result."""
    lines = [[cell(*result) for _, _, cell in columns] for result in results]
    return in_markdown([(title, side) for title, side, _ in columns], lines)


def by_threads(keys: list[Column], columns: list[Column], results: Results) -> str:
    """Return a table with a line for each rule and dtype, and columns for each count of threads."""
    groups: dict[tuple[str, str], Results] = {}
    for row, pair in results:
        groups.setdefault((row.rule, row.dtype), []).append((row, pair))
    lines = [
        [cell(*group[0]) for _, _, cell in keys]
        + [cell(*result) for result in group for _, _, cell in columns]
        for group in groups.values()
    ]
    heads = [(title, side) for title, side, _ in keys]
    for row, _ in next(iter(groups.values())):
        on = report.threads_in_words(row.threads)
        heads += [(title or on, side) for title, side, _ in columns]
    return in_markdown(heads, lines)


def in_markdown(heads: list[tuple[str, str]], lines: list[list[str]]) -> str:
    titles, sides = zip(*heads, strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, sides, *lines))


def one_array(results: Results) -> str:
    return table([elements, threads, gradients, ours, theirs, they_take, reached], results)


def lists_of_arrays(results: Results) -> str:
    what: Column = ("rule, parameters", LEFT, lambda row, _: f"{row.rule}, {row.parameters}")
    return table([what, threads, against, gradients, ours, theirs, they_take, reached], results)


def tensors_of_torch(results: Results) -> str:
    what: Column = ("parameters", LEFT, lambda row, _: row.parameters)
    return table([what, threads, against, gradients, ours, theirs, they_take, reached], results)


def small_arrays(results: Results) -> str:
    def figure(row: Row, pair: Paired) -> str:
        return report.digits(pair.ratio) if row.section == "values" else report.in_units(pair.ours)

    return table([("what", LEFT, overhead), ("figure", RIGHT, figure), reached], results)


def whole_step(results: Results) -> str:
    moved: Column = ("bytes per element", LEFT, traffic)
    return table([threads, against, moved, ours, theirs, they_take, reached], results)


def forms(results: Results) -> str:
    form: Column = ("form", LEFT, lambda row, _: row.rule)
    return by_threads([form], [("", RIGHT, within)], results)


def rooflines(results: Results) -> str:
    rule: Column = ("rule", LEFT, lambda row, _: row.rule)
    dtype: Column = ("dtype", LEFT, lambda row, _: row.dtype)
    largest = [(row, pair) for row, pair in results if row.goal is not None]
    speed: Column = (
        "GB/s",
        RIGHT,
        lambda row, pair: f"{report.bandwidth(row, pair.theirs):.1f}",
    )
    return by_threads([rule, dtype, elements], [("", RIGHT, within), speed], largest)


#: Each table's name in the page, the sections of the report that it is made of, and its maker.
TABLES: dict[str, tuple[tuple[str, ...], Callable[[Results], str]]] = {
    "one array": (("one array",), one_array),
    "lists of arrays": (("lists of arrays",), lists_of_arrays),
    "torch's tensors": (("torch's tensors",), tensors_of_torch),
    "small arrays": (("small arrays, in time", "values"), small_arrays),
    "forms": (("forms",), forms),
    "rooflines": (("traffic roofline",), rooflines),
    "whole step": (("whole step",), whole_step),
}


def fill(page: str, results: Results) -> str:
    """Return the page with every table made anew."""
    for name, (sections, make) in TABLES.items():
        made = make([(row, pair) for row, pair in results if row.section in sections])
        marks = f"<!-- table: {name} -->", "<!-- end of table -->"
        place = re.compile(f"({re.escape(marks[0])}\n).*?(\n{re.escape(marks[1])})", re.DOTALL)
        page, count = place.subn(lambda found, made=made: found[1] + made + found[2], page)
        if count != 1:
            raise ValueError(f"{count} places for the table {name!r}: expected one")
    return page


def main() -> None:
    results = report.load_json(RESULTS)
    page = DOCS / "performance.md"
    page.write_text(fill(page.read_text("utf-8"), results), encoding="utf-8")
    plots.save(DOCS / "performance.png", results)
    plots.save_overview(DOCS / "overview.png", results)
    print(report.goals_reached(results))


if __name__ == "__main__":
    main()
