"""Plots of the report: everything that was measured, or what says most of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .report import Results, bandwidth, digits, in_units, threads_in_words
from .rows import Row
from .workloads import RULES, elements_of

_COLUMNS = 4
_OURS, _ROOF, _LOSS = "#1f6f8b", "#b0b0b0", "#c8553d"


def save(path: Path, results: Results) -> None:
    """Draw everything that was measured on the most threads into one file."""
    threads = _most_threads(results)
    rooflines = [(r, p) for r, p in results if r.section == "traffic roofline"]
    bars = [
        (r, p)
        for r, p in results
        if r.section in ("one array", "lists of arrays") and r.threads == threads and not r.fresh
    ]
    heights = [2.6 * _grid_rows(), 0.24 * len(bars) + 1.2]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    top, bottom = parts
    _bandwidths(top, [x for x in rooflines if x[0].threads == threads], threads)
    _bars(bottom.subplots(), bars, threads)
    figure.savefig(path, dpi=120)


def save_overview(path: Path, results: Results) -> None:
    """Draw Adam's step: one array of any size on one thread, and networks on the most."""
    threads = _most_threads(results)
    adam = [(r, p) for r, p in results if (r.rule, r.dtype, r.fresh) == ("Adam", "float32", False)]
    on_one, on_most = ([(r, p) for r, p in adam if r.threads == count] for count in (1, threads))
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    sizes, small, large = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    _times_by_size(sizes, on_one)
    on = threads_in_words(threads)
    _rivals(small, on_most, "MLP", f"A small network, {on}:\n6 arrays, 17,610 elements")
    _rivals(large, on_most, "GPT-2", f"GPT-2, {on}:\n148 arrays, 124M elements")
    figure.suptitle("How long a step of Adam takes, float32")
    figure.savefig(path, dpi=150)


def _most_threads(results: Results) -> int:
    return max((row.threads for row, _ in results), default=1)


def _times_by_size(axis: Any, adam: Results) -> None:
    arrays = [(elements_of(r.workload), p) for r, p in adam if r.section == "one array"]
    memory = [(elements_of(r.workload), p) for r, p in adam if r.section == "traffic roofline"]
    for points, color, style, name in (
        ([(n, p.theirs) for n, p in arrays], _LOSS, "o-", "torch, fused"),
        ([(n, p.ours) for n, p in arrays], _OURS, "o-", "fusedopt"),
        ([(n, p.ours) for n, p in memory], _ROOF, "--", "memory alone"),
    ):
        axis.plot(*zip(*points, strict=True), style, color=color, label=name, markersize=4)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter(_in_words)
    axis.yaxis.set_major_locator(LogLocator())
    axis.yaxis.set_major_formatter(lambda seconds, _: in_units(seconds))
    axis.grid(alpha=0.3)
    axis.set_xlabel("elements")
    axis.set_title("One array, 1 thread:\ntime of a step", fontsize="medium")
    axis.legend(fontsize="small")


def _rivals(axis: Any, adam: Results, workload: str, title: str) -> None:
    ratios = {
        r.rival: p.ratio
        for r, p in adam
        if (r.section, r.workload) == ("lists of arrays", workload)
    }
    bars = sorted({"fusedopt": 1.0, **ratios}.items(), key=lambda bar: bar[1])
    names = [name for name, _ in bars]
    colors = [_OURS if name == "fusedopt" else _ROOF for name in names]
    drawn = axis.barh(names, [ratio for _, ratio in bars], color=colors)
    axis.bar_label(drawn, [digits(ratio) for _, ratio in bars], padding=3, fontsize="small")
    axis.invert_yaxis()
    axis.set_xlim(0, 1.2 * bars[-1][1])
    axis.set_xlabel("times as long as fusedopt")
    axis.set_title(title, fontsize="medium")


def _grid_rows() -> int:
    return -(-len(RULES) // _COLUMNS)


def _bandwidths(figure: Any, results: Results, threads: int) -> None:
    axes = figure.subplots(_grid_rows(), _COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(RULES) :]:
        axis.set_visible(False)
    for axis, rule in zip(axes.flat, RULES, strict=False):
        for dtype, style in (("float32", "-"), ("float64", "--")):
            points = [(r, p) for r, p in results if (r.rule, r.dtype) == (rule, dtype)]
            sizes = [elements_of(r.workload) for r, _ in points]
            for speeds, color, name in (
                ([bandwidth(r, p.ours) for r, p in points], _ROOF, "memory alone"),
                ([bandwidth(r, p.theirs) for r, p in points], _OURS, "step"),
            ):
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
    figure.suptitle(f"Memory that a step moves per second, {threads_in_words(threads)}")
    lines = axes.flat[0].get_lines()
    axes.flat[0].legend(handles=lines[:2], fontsize="x-small")
    axes.flat[1].legend(handles=lines[2:], fontsize="x-small")


def _bars(axis: Any, results: Results, threads: int) -> None:
    names = [f"{r.rule}, {_parameters(r)}, {r.rival}" for r, _ in results]
    ratios = [p.ratio for _, p in results]
    colors = [_OURS if ratio >= 1 else _LOSS for ratio in ratios]
    bars = axis.barh(range(len(names)), ratios, color=colors, left=0)
    labels = axis.bar_label(bars, [f"{ratio:.3g}" for ratio in ratios], padding=3, fontsize="small")
    for label in labels:  # over the line at 1
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axis.set_yticks(range(len(names)), names, fontsize="small")
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(0.5, max([2.0, *ratios]) * 2)
    axis.xaxis.set_major_formatter(_in_words)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_title(f"Times as long as fusedopt's step, {threads_in_words(threads)}; red is shorter")


def _parameters(row: Row) -> str:
    if row.section == "one array":
        return f"{_in_words(elements_of(row.workload))} elements"
    return row.parameters


def _in_words(value: float, _: object = None) -> str:
    """Return 0.5, 20, 1k, 10M: no powers to work out."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
