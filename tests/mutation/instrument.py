"""A source text that holds all of its mutants, of which one is chosen when the program starts.

Building hundreds of times takes hours. So each expression that has mutants becomes a choice,

    (FUSEDOPT_IS(7) ? (a < b) : FUSEDOPT_IS(8) ? (a <= c) : (a <= b))

and the library is built once. What can't be written like this, as a declaration that is dropped, is
left to a build of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cpp_operators import begins_statement
from cpp_tokens import CLOSERS, Tokens
from mutants import Mutant

_ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "|=", "&="}
_STOPS = {",", ";", "?", ":", "return", "throw", "else", *_ASSIGNMENTS}


@dataclass
class _Slot:
    """A stretch of the text that is an expression, or a statement with its semicolon."""

    begin: int
    end: int
    is_statement: bool
    mutants: list[tuple[int, Mutant]] = field(default_factory=list)
    inner: list[_Slot] = field(default_factory=list)


def instrumented(source: str, mutants: Mapping[int, Mutant]) -> tuple[str, set[int]]:
    """Return the text with these mutants, by number, and the numbers of those without a place."""
    tokens = Tokens(source)
    places = {token.begin: k for k, token in enumerate(tokens.all)}
    slots: dict[tuple[int, int], _Slot] = {}
    for number, mutant in mutants.items():
        if found := _slot_of(tokens, places, mutant):
            slot = slots.setdefault((found.begin, found.end), found)
            slot.mutants.append((number, mutant))
    text = _render(source, 0, len(source), _nested(list(slots.values())))
    # One whose place is inside a statement that another mutant writes anew has lost it.
    return text, mutants.keys() - set().union(*(found for _, found in lines_of(text)))


def _slot_of(tokens: Tokens, places: Mapping[int, int], mutant: Mutant) -> _Slot | None:
    """Return the slot that holds a mutant, or None where its change doesn't leave an expression."""
    if mutant.begin not in places:
        return None
    if mutant.change == "statement dropped" or "MUTANT" in mutant.text:
        return _Slot(mutant.begin, mutant.end, is_statement=True)
    first = last = places[mutant.begin]
    while (step := _leftwards(tokens, first)) is not None:
        first = step
    while (step := _rightwards(tokens, last)) is not None:
        last = step
    begin, end = tokens.all[first].begin, tokens.all[last].end
    if tokens[last + 1] in _ASSIGNMENTS:  # what is assigned to
        slot = _assignment(tokens, first, last)
    elif begins_statement(tokens, first) and tokens[last + 1] == ";":
        slot = _Slot(begin, tokens.all[last + 1].end, is_statement=True)
    else:
        slot = _Slot(begin, end, is_statement=False)
    if slot is None or mutant.end > slot.end:
        return None
    return slot if mutant.text or (mutant.begin, mutant.end) != (begin, end) else None


def _assignment(tokens: Tokens, first: int, last: int) -> _Slot | None:
    if not begins_statement(tokens, first):
        return None
    while tokens[last] != ";":
        last = tokens.partner[last] + 1 if tokens[last] in ("(", "[", "{") else last + 1
    return _Slot(tokens.all[first].begin, tokens.all[last].end, is_statement=True)


def _leftwards(tokens: Tokens, k: int) -> int | None:
    """Return where an expression that reaches to a token goes on to the left."""
    if begins_statement(tokens, k):
        return None
    before = tokens[k - 1]
    if before in _STOPS or before in ("(", "[", "{") or not before:
        return None
    if before in CLOSERS:
        return tokens.partner.get(k - 1)
    return k - 1


def _rightwards(tokens: Tokens, k: int) -> int | None:
    after = tokens[k + 1]
    if k in tokens.partner and tokens[k] in ("(", "[", "{"):
        return tokens.partner[k]
    if (after in _STOPS and after not in ("+=", "-=", "|=", "&=")) or after in CLOSERS or not after:
        return None
    if after in ("+=", "-=", "|=", "&=", "="):
        return None
    return k + 1


def _nested(slots: list[_Slot]) -> list[_Slot]:
    """Return the outermost slots, each with those inside it."""
    outermost: list[_Slot] = []
    stack: list[_Slot] = []
    for slot in sorted(slots, key=lambda s: (s.begin, -s.end)):
        while stack and stack[-1].end < slot.end:
            stack.pop()
        (stack[-1].inner if stack else outermost).append(slot)
        stack.append(slot)
    return outermost


def _render(source: str, begin: int, end: int, slots: list[_Slot]) -> str:
    parts, at = [], begin
    for slot in slots:
        parts += [source[at : slot.begin], _choice(source, slot)]
        at = slot.end
    return "".join([*parts, source[at:end]])


def _choice(source: str, slot: _Slot) -> str:
    original = _render(source, slot.begin, slot.end, slot.inner)
    mutants = []
    for number, mutant in slot.mutants:
        if "MUTANT" in mutant.text:
            original = mutant.text.replace("MUTANT", f"FUSEDOPT_IS({number})")
        else:
            mutants.append((number, mutant))
    if not mutants:
        return original
    if not slot.is_statement:
        # Pointers and the like become what they are taken for.
        is_condition = any(m.change.endswith(("false", "dropped")) for _, m in mutants)
        kind = "bool" if is_condition else ""
        text = f"{kind}({original})"
        for number, mutant in reversed(mutants):
            text = f"FUSEDOPT_IS({number}) ? {kind}({_changed(source, slot, mutant)}) : {text}"
        return f"({text})"
    if original.startswith(("return", "continue", "break")):
        numbers = " || ".join(f"FUSEDOPT_IS({number})" for number, _ in mutants)
        return f"{{ if (!({numbers})) {original} }}"
    text = _as_void(original)
    for number, mutant in reversed(mutants):
        text = f"FUSEDOPT_IS({number}) ? {_as_void(_changed(source, slot, mutant))} : {text}"
    return f"({text});"


def _changed(source: str, slot: _Slot, mutant: Mutant) -> str:
    return source[slot.begin : mutant.begin] + mutant.text + source[mutant.end : slot.end]


def _as_void(statement: str) -> str:
    expression = statement.rstrip().rstrip(";").strip()
    if not expression:
        return "(void)0"
    return expression if expression.startswith("throw") else f"(void)({expression})"


def lines_of(text: str) -> Iterator[tuple[int, set[int]]]:
    """Yield the number of each line of an instrumented text, and the mutants that stand in it."""
    for number, line in enumerate(text.splitlines(), 1):
        found = {int(k) for k in re.findall(r"FUSEDOPT_IS\((\d+)\)", line)}
        if found:
            yield number, found
