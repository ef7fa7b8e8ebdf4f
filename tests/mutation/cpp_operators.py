"""The changes that are made to C++, each of them to one token or one statement."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cpp_tokens import CLOSERS, OPENERS, Tokens
from mutants import Mutant, line_at, numbered

# Only where they stand between spaces: so brackets of templates, pointers and signs are left alone.
BINARY = {
    "+": "-", "-": "+", "*": "/", "/": "*", "%": "/", "+=": "-=", "-=": "+=", "*=": "/=",
    "/=": "*=", "|=": "=", "&=": "=", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
    "!=": "==", "<<": ">>", ">>": "<<", "|": "&", "&": "|",
}  # fmt: skip
WORDS = {"min": "max", "max": "min", "true": "false", "false": "true"}
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|0x[0-9a-fA-F]+")

# Lines whose numbers and operators are needed when compiling: a mutant there has to be by hand.
_COMPILE_TIME = re.compile(
    r"\bconstexpr\b|static_assert|\bconstinit\b|^template|\bstates\{|alignas"
)
_CONTROL = {"if", "while", "for", "switch", "catch"}


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return every mutant of a file, in the order of the text."""
    tokens = Tokens(source)
    found = [*_token_changes(tokens, file), *_statement_changes(tokens, file)]
    return numbered(sorted(found, key=lambda m: (m.begin, m.end)))


def _token_changes(tokens: Tokens, file: str) -> Iterator[Mutant]:
    texts = set(_of_messages(tokens))
    conditions = dict(_conditions(tokens))
    inverted = {k for first, last in conditions.items() for k in _inverted_by(tokens, first, last)}
    for k, token in enumerate(tokens.all):
        line = line_at(tokens.source, token.begin)
        if k in texts or _COMPILE_TIME.search(line):
            continue
        if k in conditions:
            end = tokens.all[conditions[k]].end
            yield Mutant(file, line, "if false", token.begin, end, "false")
        new = None
        if k in inverted:
            continue  # dies wherever "if false" does
        if token.text in BINARY and token.spaced and not _has_no_opposite(token.text, line):
            new = BINARY[token.text]
        elif token.text in WORDS and tokens[k - 1] not in (".", "="):
            new = WORDS[token.text]
        elif token.text == "!" and tokens[k + 1] not in ("", "="):
            new = ""
        elif _NUMBER.fullmatch(token.text) and _counts(tokens, file, k):
            new = _next_number(token.text)
        elif token.text in ("&&", "||") and token.spaced:
            yield from _without_operands(tokens, file, k)
        if new is not None:
            change = f"{token.text} to {new}" if new else f"{token.text} dropped"
            yield Mutant(file, line, change, token.begin, token.end, new)


_ENDS = {"&&", "||", "?", ":", ";", ",", "=", "&=", "|=", "return", ""}


def _without_operands(tokens: Tokens, file: str, k: int) -> Iterator[Mutant]:
    """Yield mutants without what stands right of an "and" or "or", and left of the first one."""
    last = tokens.partner[k + 1] if tokens[k + 1] in OPENERS else k + 1
    while (after := tokens[last + 1]) not in _ENDS and after not in CLOSERS:
        last = tokens.partner[last + 1] if after in OPENERS else last + 1
    yield _dropped(tokens, file, k, last, tokens.text(k + 1, last))
    first = k - 1
    first = tokens.partner[first] if tokens[first] in CLOSERS else first
    while (before := tokens[first - 1]) not in _ENDS and before not in OPENERS:
        if begins_statement(tokens, first):
            return
        first = tokens.partner[first - 1] if before in CLOSERS else first - 1
    if before not in ("&&", "||"):
        yield _dropped(tokens, file, first, k, tokens.text(first, k - 1))


def _dropped(tokens: Tokens, file: str, first: int, last: int, text: str) -> Mutant:
    begin, end = tokens.all[first].begin, tokens.all[last].end
    change = " ".join(text.split()) + " dropped"
    return Mutant(file, line_at(tokens.source, begin), change, begin, end, "")


def _has_no_opposite(operator: str, line: str) -> bool:
    """Whether an operator stands between texts, or pointers into the same array."""
    pattern = {"+": r"\"|text|to_string", "-": r"\b(begin|data)\(\)"}.get(operator)
    return pattern is not None and re.search(pattern, line) is not None


def _of_messages(tokens: Tokens) -> Iterator[int]:
    """Yield the tokens of what an error or a label says."""
    for k in range(len(tokens)):
        if re.match(r"throw|PyErr_|found$", tokens[k]) and begins_statement(tokens, k):
            yield from range(k, (_end_of_statement(tokens, k) or k) + 1)
        if tokens.text(k, min(k + 3, len(tokens) - 1)).startswith(("std::string ", "char* hint")):
            yield from range(k, (_end_of_statement(tokens, k) or k) + 1)


def _conditions(tokens: Tokens) -> Iterator[tuple[int, int]]:
    """Yield the first and the last token of each condition of an if without a declaration."""
    for k in range(len(tokens)):
        if tokens[k] == "if" and tokens[k + 1] == "(":
            first, last = k + 2, tokens.partner[k + 1] - 1
            if not any(tokens[i] in ("=", ";") for i in range(first, last)):
                yield first, last


def _inverted_by(tokens: Tokens, first: int, last: int) -> Iterator[int]:
    """Yield the token that inverts a whole condition, if there is one."""
    at_top = []
    k = first
    while k <= last:
        at_top.append(k)
        k = tokens.partner[k] + 1 if tokens[k] in ("(", "[", "{") else k + 1
    if any(tokens[k] in ("&&", "||") for k in at_top):
        return
    yield from (k for k in at_top if tokens[k] in ("==", "!="))
    if tokens[first] == "!":
        yield first


def _counts(tokens: Tokens, file: str, k: int) -> bool:
    """Whether a number is part of a computation: not an index, nor where a loop begins."""
    if "bindings" in file or tokens[k - 1] == "<" or (tokens[k - 1], tokens[k + 1]) == ("[", "]"):
        return False
    return not (tokens[k - 1] == "=" and tokens[k + 1] == ";" and "for (" in _line(tokens, k))


def _line(tokens: Tokens, k: int) -> str:
    return line_at(tokens.source, tokens.all[k].begin)


def _next_number(text: str) -> str:
    if text.startswith("0x"):
        return hex(int(text, 16) + 1)
    return str(int(text) + 1) if text.isdigit() else f"{float(text) * 2:g}"


def _statement_changes(tokens: Tokens, file: str) -> Iterator[Mutant]:
    """Yield mutants without a call, an assignment, a jump or a throw."""
    for k in range(len(tokens)):
        if not begins_statement(tokens, k):
            continue
        end = _end_of_statement(tokens, k)
        if end is None or not _is_removable(tokens, k, end):
            continue
        begin, stop = tokens.all[k].begin, tokens.all[end].end
        if _is_whole_body(tokens, k, end):
            continue  # as "if false"
        line = line_at(tokens.source, begin)
        yield Mutant(file, line, "statement dropped", begin, stop, ";")


def _is_whole_body(tokens: Tokens, first: int, end: int) -> bool:
    """Whether an if without an else does nothing but this statement."""
    closer = first - 1
    if tokens[closer] == "{" and tokens[end + 1] == "}":
        closer, end = closer - 1, end + 1
    if tokens[closer] != ")" or closer not in tokens.partner:
        return False
    return tokens[tokens.partner[closer] - 1] == "if" and tokens[end + 1] != "else"


def begins_statement(tokens: Tokens, k: int) -> bool:
    """Whether a statement begins at a token."""
    if not tokens.is_code(tokens.inside[k]):
        return False
    before = tokens[k - 1]
    if before == ")" and k - 1 in tokens.partner:
        return tokens[tokens.partner[k - 1] - 1] in _CONTROL
    return before in (";", "{", "}", "else")


def _end_of_statement(tokens: Tokens, k: int) -> int | None:
    while k < len(tokens):
        if tokens[k] in ("(", "[", "{"):
            k = tokens.partner.get(k, len(tokens))
        elif tokens[k] == ";":
            return k
        elif tokens[k] in (")", "]", "}"):
            return None
        k += 1
    return None


_NOT_REMOVABLE = {
    "if", "for", "while", "do", "else", "return", "using", "const", "constexpr", "static", "auto",
    "namespace", "struct", "class", "template", "public", "private", "explicit", "inline", "enum",
    "extern", "friend", "typedef", "case", "switch", "try", "catch", "static_assert", "union",
    "alignas", "operator", "int", "double", "bool", "char", "void", "mutable", "long",
}  # fmt: skip


def _is_removable(tokens: Tokens, first: int, end: int) -> bool:
    """Whether it is an expression: a call, an assignment, a jump; no declaration."""
    head = tokens[first]
    if head in ("continue", "break", "throw") or (head == "return" and end == first + 1):
        return True
    if head in _NOT_REMOVABLE:
        return False
    if head in ("++", "--"):
        return True
    # A name, then members of it, calls and subscripts; then the end, or an assignment.
    k = first
    while k < end:
        text = tokens[k]
        if text in ("(", "["):
            k = tokens.partner[k] + 1
            continue
        if text in ("=", "+=", "-=", "|=", "&=", "*=", "/="):
            return True
        if not (re.fullmatch(r"[A-Za-z_]\w*|\.|->|::", text)):
            return False
        following = tokens[k + 1]
        if re.fullmatch(r"[A-Za-z_]\w*", text) and re.fullmatch(r"[A-Za-z_]\w*|&|\*|<", following):
            return False  # a declaration
        k += 1
    return tokens[end - 1] == ")"
