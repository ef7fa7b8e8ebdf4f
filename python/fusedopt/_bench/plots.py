"""Plots of the report: bandwidth against size, and how many times as long others take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .paired import Paired
from .rows import Row
from .workloads import RULES, bytes_moved, elements_of

_COLUMNS = 4
_OURS, _ROOF, _LOSS = "#1f6f8b", "#b0b0b0", "#c8553d"


def save(path: Path, results: list[tuple[Row, Paired]]) -> None:
    """Draw everything that was measured on the most threads into one file."""
    threads = max((row.threads for row, _ in results), default=1)
    rooflines = [(r, p) for r, p in results if r.section == "traffic roofline"]
    bars = [
        (r, p)
        for r, p in results
        if r.section in ("one array", "lists of arrays") and r.threads == threads and not r.fresh
    ]
    heights = [2.6 * _grid_rows(), 0.24 * len(bars) + 1.2]
    figure = Figure(figsize=(12, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    top, bottom = parts
    _bandwidths(top, [x for x in rooflines if x[0].threads == threads], threads)
    _bars(bottom.subplots(), bars, threads)
    figure.savefig(path, dpi=120)


def _grid_rows() -> int:
    return -(-len(RULES) // _COLUMNS)


def _bandwidths(figure: Any, results: list[tuple[Row, Paired]], threads: int) -> None:
    axes = figure.subplots(_grid_rows(), _COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(RULES) :]:
        axis.set_visible(False)
    for axis, rule in zip(axes.flat, RULES, strict=False):
        for dtype, style in (("float32", "-"), ("float64", "--")):
            points = [(r, p) for r, p in results if (r.rule, r.dtype) == (rule, dtype)]
            sizes = [elements_of(r.workload) for r, _ in points]
            moved = [bytes_moved(rule, n, dtype) / 1e9 for n in sizes]
            for times, color, name in (
                ([p.ours for _, p in points], _ROOF, "memory alone"),
                ([p.theirs for _, p in points], _OURS, "step"),
            ):
                speeds = [b / t for b, t in zip(moved, times, strict=True)]
                axis.plot(sizes, speeds, style, color=color, marker=".", label=f"{name}, {dtype}")
        axis.set_title(rule, fontsize="medium")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter(_in_words)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(_in_words)
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    figure.supxlabel("elements of one array")
    figure.supylabel("GB/s")
    figure.suptitle(f"Memory that a step moves per second, {_number(threads)}")
    axes.flat[0].legend(fontsize="x-small")


def _bars(axis: Any, results: list[tuple[Row, Paired]], threads: int) -> None:
    names = [f"{r.rule}, {r.workload}, {r.rival}" for r, _ in results]
    ratios = [p.ratio for _, p in results]
    colors = [_OURS if ratio >= 1 else _LOSS for ratio in ratios]
    bars = axis.barh(range(len(names)), ratios, color=colors, left=0)
    axis.bar_label(bars, [f"{ratio:.3g}" for ratio in ratios], padding=3, fontsize="small")
    axis.set_yticks(range(len(names)), names, fontsize="small")
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(0.5, max([2.0, *ratios]) * 2)
    axis.xaxis.set_major_formatter(_in_words)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_title(f"Times as long as fusedopt's step, {_number(threads)}")


def _in_words(value: float, _: object = None) -> str:
    """Return 0.5, 20, 1k, 10M: no powers to work out."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _number(threads: int) -> str:
    return f"{threads} thread" + ("" if threads == 1 else "s")
