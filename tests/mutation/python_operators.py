"""The changes that are made to Python, each of them to one node of the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mutants import Mutant, line_at, numbered

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.Mod: ("%", "/"), ast.Pow: ("**", "*"),
}  # fmt: skip


class _Source:
    """A text whose nodes say where they stand in bytes of UTF-8 lines."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        #: Whole conditions that would only be inverted: what dies wherever "if False" does.
        self.inverted: set[ast.AST] = set()
        self.lines = text.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def place(self, line: int, column: int) -> int:
        inside = self.lines[line - 1].encode()[:column].decode()
        return self.starts[line - 1] + len(inside)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.place(node.lineno, node.col_offset),
            self.place(node.end_lineno, node.end_col_offset),
        )

    def mutant(self, change: str, begin: int, end: int, text: str) -> Mutant:
        return Mutant(self.file, line_at(self.text, begin), change, begin, end, text)

    def between(
        self, left: ast.expr, right: ast.expr, old: str, new: str, change: str
    ) -> Iterator[Mutant]:
        begin, end = self.span(left)[1], self.span(right)[0]
        at = self.text.find(old, begin, end)
        if at >= 0:
            yield self.mutant(change, at, at + len(old), new)


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return every mutant of a file, in the order of the text."""
    found = list(_below(_Source(file, source), ast.parse(source)))
    return numbered(sorted(found, key=lambda m: (m.begin, m.end, m.change)))


def _below(source: _Source, node: ast.AST) -> Iterator[Mutant]:
    if isinstance(node, ast.expr | ast.stmt):
        yield from _of_node(source, node)
    for child in _children(node):
        yield from _below(source, child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is mutated below a node: no types, no texts of errors, nothing for checkers."""
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield node.value
        return
    if isinstance(node, ast.FunctionDef):
        if not any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list):
            yield from node.body
        return
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
        return
    if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Call):
        yield node.func
        yield from node.args
        yield from (k.value for k in node.keywords if k.arg != "strict" or not _is_zip(node))
        return
    if isinstance(node, ast.ClassDef):
        yield from node.body
        return
    yield from ast.iter_child_nodes(node)


def _is_zip(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "zip"


def _of_node(source: _Source, node: ast.expr | ast.stmt) -> Iterator[Mutant]:
    begin, end = source.span(node)
    if isinstance(node, ast.Compare) and node not in source.inverted:
        parts = [node.left, *node.comparators]
        for left, op, right in zip(parts, node.ops, parts[1:], strict=False):
            old = _text_of(op)
            new = _COMPARISONS[type(op)]
            yield from source.between(left, right, old, new, f"{old} to {new}")
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            first, last = source.span(value)
            text = " ".join(source.text[first:last].split())
            neutral = str(isinstance(node.op, ast.And))
            yield source.mutant(f"{text} dropped", first, last, neutral)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        if node not in source.inverted:
            yield source.mutant("not dropped", begin, source.span(node.operand)[0], "")
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        old, new = _ARITHMETIC[type(node.op)]
        if not any(
            isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right)
        ):
            yield from source.between(node.left, node.right, old, new, f"{old} to {new}")
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield source.mutant(
                f"{node.value} to {not node.value}", begin, end, str(not node.value)
            )
        elif isinstance(node.value, int | float):
            new = repr(node.value + 1)
            yield source.mutant(f"{source.text[begin:end]} to {new}", begin, end, new)
    elif isinstance(node, ast.If | ast.IfExp):
        if _has_an_opposite(node.test):
            source.inverted.add(node.test)
        first, last = source.span(node.test)
        yield source.mutant("if False", first, last, "False")
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield source.mutant("statement dropped", begin, end, "pass")


def _has_an_opposite(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.In | ast.NotIn)
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _text_of(op: ast.cmpop) -> str:
    return {
        ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
        ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
    }[type(op)]  # fmt: skip
