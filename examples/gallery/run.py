"""Run programs of the gallery, and save their pictures.

    python examples/gallery/run.py                                    all of them
    python examples/gallery/run.py local_minimum --output pictures    one

They show windows when they are run by themselves. With ``--quick`` they do less, where they'd take
more than seconds: what they show can be seen, and the figures are rougher.
"""

import argparse
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
NO_PROGRAMS = ("convolution", "images", "look", "network", "run")
PROGRAMS = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NO_PROGRAMS)


def run(name: str, *arguments: str) -> dict[str, Any]:
    """Run a program with these arguments; return its names. Its pictures stay open."""
    path = HERE / f"{name}.py"
    before = sys.argv, sys.path[:]
    sys.argv, sys.path[:] = [str(path), *arguments], [str(HERE), *sys.path]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
            return runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = before


def save_pictures(name: str, folder: Path) -> list[Path]:
    """Save what is open, and close it."""
    numbers = plt.get_fignums()
    saved = []
    for number in numbers:
        end = f"_{number}" if len(numbers) > 1 else ""
        saved.append(folder / f"{name}{end}.png")
        plt.figure(number).savefig(saved[-1], dpi=110)
    plt.close("all")
    return saved


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("programs", nargs="*", choices=[*PROGRAMS, []], metavar="PROGRAM")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    matplotlib.use("Agg")
    for name in options.programs or PROGRAMS:
        print(f"== {name}")
        run(name, *(["--quick"] if options.quick else []))
        for path in save_pictures(name, options.output):
            print(path)


if __name__ == "__main__":
    main()
