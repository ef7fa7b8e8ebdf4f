"""How far from the exact result are a million steps of each rule?

    python bench/error_growth.py --output docs/error_growth.png --json growth.json   # 20 minutes
    python bench/error_growth.py --steps 10000          # the table only
    python bench/error_growth.py --check                # is what it measures against exact enough?

Every optimizer is given the same gradients, fixed beforehand: a slow wave and noise, float32
numbers, for 16 parameters. So nothing but the arithmetic of the steps differs. Were gradients
computed from the parameters, then descent would pull them together again and hide the error, or a
curved landscape would blow it up.

"Exact" are the papers' equations in long doubles of 64 bits (`exact.py`), with the hyperparameters
that the user passes: the double 0.999, not what float32 makes of it. `--round` passes numbers that
float32 holds exactly, which shows what of the error is due to that.

An error is counted in units of the last place (ulps) of the dtype, at the largest magnitude that
the number has had until then. 0.5 is a result that is rounded once. A parameter and its state are
counted apart; of several state arrays the worst. A line of the plot is the parameters' median.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fusedopt
from exact import HAS_LONG_DOUBLE, RULES, STARTS, Rule, inputs

try:
    import torch
except ImportError:
    torch = None

DTYPES = [np.float32, np.float64]
TABLE = [100, 10_000, 1_000_000]
Arrays = dict[str, np.ndarray]


def moments(steps: int) -> list[int]:
    """Return the steps after which to look: ten in each power of ten."""
    return sorted(
        {*np.geomspace(1, steps, 10 * len(str(steps - 1)) + 1).round().astype(int).tolist()}
    )


def look(step: Callable[[Any], None], read: Callable[[], Arrays], given: Any, at: list[int]) -> Any:
    """Take steps, and return what there is at certain ones: one array for each name."""
    looked: list[Arrays] = []
    done, wanted = 0, iter([*at, 0])
    stop = next(wanted)
    for block in given:
        for g in block:
            step(g)
            done += 1
            if done == stop:
                looked.append({name: np.array(array) for name, array in read().items()})
                stop = next(wanted)
    return {name: np.stack([arrays[name] for arrays in looked]) for name in looked[0]}


def exact(rule: Rule, at: list[int], number: Callable[[Any], Any] = np.longdouble) -> Arrays:
    way = rule.exact(STARTS.astype(float), number)
    given = (number(block.astype(float)) for block in inputs(rule, at[-1]))
    return look(way.step, lambda: {"p": way.p, **way.state}, given, at)


def ours(rule: Rule, dtype: type, at: list[int]) -> Arrays:
    p = STARTS.astype(dtype)
    options = {"lr": 0.0, **rule.options}
    opt = getattr(fusedopt, rule.optimizer)([p], **options)
    follow = rule.name == "average"
    nothing = [np.zeros_like(p)]

    def step(g: np.ndarray) -> None:
        if follow:
            p[:] = g
            opt.step(nothing)
        else:
            opt.step([g])

    def read() -> Arrays:
        state = {name: array for name, array in opt.state[0].items() if name != "step"}
        return {"p": p, **state, **({"ema": opt.ema[0]} if follow else {})}

    given = (block.astype(dtype) for block in inputs(rule, at[-1]))
    return look(step, read, given, at)


def torchs(rule: Rule, dtype: type, at: list[int]) -> Arrays:
    """The same by torch.optim in its default form for CPUs."""
    torch.set_num_threads(1)
    p = torch.tensor(STARTS.astype(dtype))
    given: Iterator[Any] = (
        torch.from_numpy(block.astype(dtype)).unbind() for block in inputs(rule, at[-1])
    )
    if rule.name == "average":
        model = torch.nn.Linear(1, 1)
        model.weight, model.bias = torch.nn.Parameter(p[None]), None
        multi_avg_fn = torch.optim.swa_utils.get_ema_multi_avg_fn(rule.options["ema_decay"])
        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=multi_avg_fn)

        def follow(g: Any) -> None:
            p.copy_(g)
            average.update_parameters(model)

        ema = average.module.weight[0]
        return look(follow, lambda: {"p": p.numpy(), "ema": ema.detach().numpy()}, given, at)
    opt = getattr(torch.optim, rule.optimizer)([p], **rule.options)

    def step(g: Any) -> None:
        p.grad = g
        opt.step()

    def read() -> Arrays:
        state = {k: x.numpy() for k, x in opt.state[p].items() if k != "step" and x is not None}
        return {"p": p.numpy(), **state}

    return look(step, read, given, at)


def ulps(actual: Arrays, truth: Arrays, dtype: type) -> dict[str, np.ndarray]:
    """Return errors of the parameters and of the worst state, (moments, elements)."""
    errors = {}
    for name, expected in truth.items():
        largest = np.maximum.accumulate(np.abs(expected).astype(dtype))
        far = np.abs(actual[name] - expected)
        errors[name] = (far / np.spacing(largest)).astype(float)
    p = errors.pop("p")
    return {"parameter": p, **({"state": np.max(list(errors.values()), 0)} if errors else {})}


def rounded(rule: Rule) -> Rule:
    """Return the rule with hyperparameters that float32 holds exactly."""
    options = {
        name: tuple(float(np.float32(x)) for x in value)
        if isinstance(value, tuple)
        else value
        if isinstance(value, bool)
        else float(np.float32(value))
        for name, value in rule.options.items()
    }
    return rule._replace(options=options)


def kept(folder: Path, run: str, rule: Rule, dtype: str, steps: int) -> Path:
    return folder / f"{rule.name}, {run} {dtype}, {steps}.npz"


def keep(path: Path, run: str, rule: Rule, dtype: str, at: list[int]) -> None:
    """Run one implementation, unless its results are there."""
    if path.exists():
        return
    found = exact(rule, at) if run == "exact" else RUNS[run](rule, np.dtype(dtype).type, at)
    np.savez(path.with_suffix(".part.npz"), **found)
    path.with_suffix(".part.npz").replace(path)


RUNS = {"fusedopt": ours, **({"torch": torchs} if torch else {})}
SERIES = [(run, dtype.__name__) for run in RUNS for dtype in DTYPES]


def grow(rules: list[Rule], at: list[int], folder: Path, jobs: int | None) -> dict[str, Any]:
    """Return the errors of each rule: by implementation and dtype, then of p and of its state."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        waiting = []
        for run, dtype in [("exact", "longdouble"), *SERIES]:
            for rule in rules:
                path = kept(folder, run, rule, dtype, at[-1])
                waiting.append(pool.apply_async(keep, (path, run, rule, dtype, at)))
        for done in waiting:
            done.get()
    return {rule.name: errors(rule, at, folder) for rule in rules}


def errors(rule: Rule, at: list[int], folder: Path) -> dict[str, Any]:
    truth = dict(np.load(kept(folder, "exact", rule, "longdouble", at[-1])))
    grown = {}
    for run, dtype in SERIES:
        found = np.load(kept(folder, run, rule, dtype, at[-1]))
        far = ulps(dict(found), truth, np.dtype(dtype).type)
        if rule.name == "average":
            del far["parameter"]  # it was given
        grown[f"{run} {dtype}"] = {part: e.tolist() for part, e in far.items()}
    return grown


def plain(x: float) -> str:
    """Return two digits of a number, without an exponent."""
    return f"{float(f'{x:.2g}'):,.{1 if x < 9.95 else 0}f}"


def show(results: dict[str, Any], at: list[int]) -> None:
    """Print a table in Markdown: median / largest error at some steps."""
    steps = [s for s in TABLE if s in at] or [at[-1]]
    for part in ("parameter", "state"):
        print(f"\nErrors of the {part} in ulps, median / largest:\n")
        print(f"| rule | | {' | '.join(f'{s:,} steps' for s in steps)} |")
        print("|---|---|" + "---|" * len(steps))
        for rule, grown in results.items():
            for name, errors in grown.items():
                if part in errors:
                    rows = [
                        errors[part][at.index(s)] for s in steps if at.index(s) < len(errors[part])
                    ]
                    cells = [f"{plain(np.median(r))} / {plain(np.max(r))}" for r in rows]
                    print(f"| {rule} | {name} | {' | '.join(cells)} |")


_LINES = {  # by Okabe and Ito: for every kind of colour vision
    "fusedopt float32": ("#0072b2", "-", 2.4),
    "fusedopt float64": ("#0072b2", (0, (4, 2)), 2.4),
    "torch float32": ("#e69f00", "-", 1.1),
    "torch float64": ("#e69f00", (0, (4, 2)), 1.1),
}


def draw(path: Path, results: dict[str, Any], at: list[int]) -> None:
    """Draw the median error of each rule against steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    columns = 5 if len(results) > 4 else len(results)
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.5 * rows + 1), layout="constrained", facecolor="w")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, (rule, grown) in zip(axes.flat, results.items(), strict=False):
        for name, errors in grown.items():
            color, style, width = _LINES[name]
            far = np.median(errors.get("parameter") or errors["state"], 1)
            # A median of 0 has no place on a logarithmic axis.
            axis.plot(
                at[: len(far)], np.maximum(far, 0.1), color=color, ls=style, lw=width, label=name
            )
        axis.set_title(rule, fontsize="medium")
        guide = np.maximum(0.67 * np.sqrt(np.array(at) / 12), 0.1)
        axis.plot(at, guide, color="#999999", ls=":", label="rounded at random, once a step")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.grid(alpha=0.25)
        axis.set_xticks([1, 1000, 1_000_000])
        for numbers in (axis.xaxis, axis.yaxis):
            numbers.set_major_formatter(
                FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
            )
            numbers.set_minor_formatter(FuncFormatter(lambda x, _: ""))
        axis.tick_params(labelsize="small")
    axes.flat[0].set_ylim(bottom=0.1)
    figure.supxlabel("steps")
    figure.supylabel("error of the parameter in ulps, median of 16", fontsize="medium")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=100)


def check(steps: int) -> None:
    """Show how far long doubles are from arithmetic with 60 digits, in ulps of float64."""
    from mpmath import mp, mpf

    mp.dps = 60
    number = np.vectorize(mpf, otypes=[object])
    at = moments(steps)
    for rule in RULES:
        truth = exact(rule, at, number)
        far = {}
        for name, array in exact(rule, at).items():
            high = array.astype(float)  # an mpf takes no long double
            far[name] = np.abs(number(high) + number((array - high).astype(float)) - truth[name])
        largest = {
            name: np.maximum.accumulate(np.abs(x).astype(float)) for name, x in truth.items()
        }
        worst = max(float(np.max(far[n] / np.spacing(largest[n]))) for n in truth)
        print(f"{rule.name}: after {steps:,} steps at most {worst:.2g} ulps of float64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, metavar="PNG", help="where to draw it")
    parser.add_argument("--json", type=Path, help="where to write all errors")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep results here, and go on from those there"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--rules", nargs="*", help="only rules of these names")
    parser.add_argument("--round", action="store_true", help="hyperparameters that float32 holds")
    parser.add_argument("--check", action="store_true", help="compare long doubles with mpmath")
    arguments = parser.parse_args()
    if not HAS_LONG_DOUBLE:
        parser.exit(1, "NumPy's long double is no longer than a double here\n")
    if arguments.check:
        return check(min(arguments.steps, 10_000))
    if torch is None:
        print("torch is not installed: fusedopt alone")
    at = sorted({*moments(arguments.steps), *(s for s in TABLE if s <= arguments.steps)})
    rules = [r for r in RULES if not arguments.rules or r.name in arguments.rules]
    if arguments.round:
        rules = [rounded(rule) for rule in rules]
    with tempfile.TemporaryDirectory() as folder:
        arguments.keep = arguments.keep or Path(folder)
        arguments.keep.mkdir(exist_ok=True)
        results = grow(rules, at, arguments.keep, arguments.jobs)
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": at, "errors": results}))
    show(results, at)
    if arguments.output:
        draw(arguments.output, results, at)
    return None


if __name__ == "__main__":
    main()
