"""Which mutants are chosen, which are argued to be equivalent, and what came of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from mutants import Mutant

_FOLDER = Path(__file__).parent
DEAD = ("killed", "hung")


def equivalent() -> dict[str, str]:
    """Return the argument for each mutant that has one, by its name."""
    with open(_FOLDER / "equivalent.toml", "rb") as file:
        groups = tomllib.load(file).get("because", [])
    found: dict[str, str] = {}
    for group in groups:
        for name in group["mutants"]:
            if name in found:
                sys.exit(f"equivalent.toml: twice: {name}")
            found[name] = group["why"]
    return found


def quick() -> list[str]:
    """Return the names of the few that are tried in CI."""
    return (_FOLDER / "quick.txt").read_text().splitlines()


def chosen(mutants: list[Mutant], only: str | None, part: str, *, is_quick: bool) -> list[Mutant]:
    """Return those that are asked for."""
    if is_quick:
        names = quick()
        by_name = {m.name: m for m in mutants}
        if missing := [name for name in names if name not in by_name]:
            sys.exit("quick.txt: no such mutants:\n" + "\n".join(missing))
        return [by_name[name] for name in names]
    k, parts = map(int, part.split("/"))
    found = [m for m in mutants if only is None or only in m.name]
    return [m for m in found if crc32(m.name.encode()) % parts == k - 1]


def report(
    mutants: list[Mutant],
    chosen: list[Mutant],
    results: Mapping[str, Mapping[str, object]],
    seconds: float,
) -> int:
    """Print the score; return 1 where a list and what came out disagree."""
    argued = equivalent()
    rows: dict[str, Counter[str]] = {}
    for mutant in chosen:
        outcome = str(results[mutant.name]["outcome"])
        if outcome == "survived" and mutant.name in argued:
            outcome = "equivalent"
        rows.setdefault(mutant.file, Counter())[outcome] += 1
    kinds = ["killed", "hung", "equivalent", "survived", "no build"]
    print("\n" + f"{'':44}" + "".join(f"{kind:>12}" for kind in kinds))
    for file, counts in [*rows.items(), ("all", sum(rows.values(), Counter()))]:
        print(f"{file:44}" + "".join(f"{counts[kind]:12}" for kind in kinds))
    names = {m.name for m in mutants}
    wrong = []
    for mutant in chosen:
        outcome = results[mutant.name]["outcome"]
        if outcome == "survived" and mutant.name not in argued:
            wrong.append(f"survived, without an argument: {mutant.name}")
        if outcome in DEAD and mutant.name in argued:
            wrong.append(f"died, but stands in equivalent.toml: {mutant.name}")
    wrong += [f"equivalent.toml: no such mutant: {name}" for name in argued if name not in names]
    total = sum(rows.values(), Counter())
    dead, tried = total["killed"] + total["hung"], sum(total.values()) - total["no build"]
    print(
        f"\n{tried} mutants in {seconds:.0f} s: {dead} died, {total['equivalent']} are argued to "
        f"be equivalent, {total['survived']} survived; {total['no build']} don't compile"
    )
    print(*wrong, sep="\n")
    return 1 if wrong else 0
