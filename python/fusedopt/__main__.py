"""Command line: ``python -m fusedopt info``, ``bench`` and ``company``."""

import argparse
import sys
from pathlib import Path

from . import show_config


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fusedopt")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="show how fusedopt was built and what it runs on")
    bench = commands.add_parser(
        "bench",
        help="compare its speed with memory's and with other libraries'",
        description="Compares, in turn and in one process, a step of fusedopt with the movement of "
        "its memory alone and with other libraries. Takes some fifteen minutes, with --quick one. "
        "Needs the extra 'bench'; the extra 'peers' brings the libraries.",
    )
    bench.add_argument(
        "--quick", action="store_true", help="no large arrays, nothing that compiles, fewer rounds"
    )
    bench.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the results, as .png or .svg"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="save the results")
    company = commands.add_parser(
        "company",
        help="compare the threading layers beside other libraries' threads and busy processes",
        description="Compares steps on each threading layer with steps on one thread and with "
        "torch's: alone, right after other libraries have computed, and beside busy processes. "
        "Takes some eight minutes, with --quick one. Needs the extra 'bench', and torch.",
    )
    company.add_argument("--quick", action="store_true", help="no large arrays, fewer rounds")
    options = parser.parse_args(arguments)
    if options.command == "info":
        show_config()
        return 0
    if options.command == "bench":
        for path in (options.plot, options.json):
            if path is not None and not path.resolve().parent.is_dir():
                bench.error(f"{path}: there is no such folder")
    try:
        from rich.console import Console

        from ._bench import company as in_company
        from ._bench import plots, report
        from ._bench.peers import MissingPeerError
    except ModuleNotFoundError as error:
        print(f"{error}; pip install 'fusedopt[bench]' brings it", file=sys.stderr)
        return 1
    # Where nothing says how wide it is, as in a file: as wide as the tables.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    if options.command == "company":
        try:
            in_company.report(quick=options.quick, console=console)
        except MissingPeerError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    results, missing = report.run(quick=options.quick, console=console)
    report.show(results, missing, console)
    if options.json is not None:
        report.save_json(options.json, results, missing)
    if options.plot is not None:
        plots.save(options.plot, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
