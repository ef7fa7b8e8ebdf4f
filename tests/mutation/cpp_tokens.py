"""C++ as a list of tokens, without comments, strings and preprocessor lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What holds no code: comments, strings, characters, and lines for the preprocessor.
_OTHER = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'"
    r"|^[ \t]*\#(?:\\\n|[^\n])*",
    re.S | re.M,
)
_TOKEN = re.compile(
    r"[A-Za-z_]\w*|\d(?:[\w.']|(?<=[eE])[+-])*"
    r"|<<=|>>=|->\*|\.\.\.|::|->|\+\+|--|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|<<|>>|\S"
)
OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = {closer: opener for opener, closer in OPENERS.items()}


@dataclass(frozen=True)
class Token:
    text: str
    begin: int
    end: int
    spaced: bool  # spaces on both sides, as a binary operator has after clang-format


class Tokens:
    """The tokens of a source text, and for each bracket where its partner is."""

    def __init__(self, source: str) -> None:
        self.source = source
        # Strings stay as one token each: an expression ends behind one, too.
        blanked = _OTHER.sub(_blank, source)
        self.all: list[Token] = []
        for found in _TOKEN.finditer(blanked):
            before, after = blanked[found.start() - 1], blanked[found.end() : found.end() + 1]
            spaced = before.isspace() and (after == "" or after.isspace())
            self.all.append(Token(found[0], found.start(), found.end(), spaced))
        self.partner: dict[int, int] = {}
        self.inside: list[int] = []  # for each token the bracket around it, or -1
        stack: list[int] = []
        for k, token in enumerate(self.all):
            if token.text in CLOSERS and stack:
                opener = stack.pop()
                self.partner[k], self.partner[opener] = opener, k
            self.inside.append(stack[-1] if stack else -1)
            if token.text in OPENERS:
                stack.append(k)

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, k: int) -> str:
        return self.all[k].text if 0 <= k < len(self.all) else ""

    def is_code(self, k: int) -> bool:
        """Whether a bracket opens the body of a function, or a block within one."""
        if self[k] != "{":
            return False
        if self[k - 1] in (")", "noexcept", "mutable", "else", "try", "do", "]"):
            return True
        if self[k - 1] in (";", "{", "}"):
            return self.is_code(self.inside[k])
        return self[k - 1] == "const" and self[k - 2] == ")"

    def text(self, first: int, last: int) -> str:
        """Return the source from one token to another, this one included."""
        return self.source[self.all[first].begin : self.all[last].end]


def _blank(found: re.Match[str]) -> str:
    text = found[0]
    if text.startswith(('"', "'")):
        return "_" * len(text)  # one name
    return re.sub(r"[^\n]", " ", text)
