"""What a mutant is: one small change to one file, by a name that survives edits elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Mutant:
    """One change of a file's text, from `begin` to `end`."""

    file: str  # from the repository's root
    line: str  # what stands there, without the indentation
    change: str  # in words
    begin: int
    end: int
    text: str
    nth: int = 0  # among those of the same file, line and change

    @property
    def name(self) -> str:
        """What lists call it: nothing in it depends on what else the file holds."""
        return f"{self.file} | {self.line} | {self.change}" + (f" | {self.nth}" if self.nth else "")

    def applied_to(self, source: str) -> str:
        return source[: self.begin] + self.text + source[self.end :]


def line_at(source: str, offset: int) -> str:
    """Return the line around an offset, with single spaces."""
    begin = source.rfind("\n", 0, offset) + 1
    end = source.find("\n", offset)
    return " ".join(source[begin : end if end >= 0 else None].split())


def numbered(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Return them with numbers for those that are otherwise called the same."""
    seen: Counter[str] = Counter()
    result = []
    for mutant in mutants:
        result.append(replace(mutant, nth=seen[mutant.name]))
        seen[mutant.name] += 1
    return result
