"""Tokens of Cosmos DB's query language."""

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 512 * 1024  # characters of a query, the service's own limit
_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<number>0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<parameter>@[A-Za-z_]\w*)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<sign>\?\?|<=|>=|<>|!=|\|\||[-+*/%=<>()\[\]{},.:?])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "/": "/"}


class QueryError(Exception):
    """A query that is not of this language; the message says where."""


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is number, text, parameter, word, sign or end; `value` is the number or text that it stands for."""

    kind: str
    value: str | float | int
    at: int

    @property
    def upper(self) -> str:
        """The keyword or function name that a word may be; empty for other tokens."""
        return str(self.value).upper() if self.kind == "word" else ""


def tokens(query: str) -> list[Token]:
    """All of them, with an end. Raises QueryError."""
    if len(query) > LONGEST:
        raise QueryError("the query is too long")
    found: list[Token] = []
    at = 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None or match.end() == at:
            raise QueryError(f"syntax error at {at}")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Token(kind, _value(kind, match[0], at), at))
        at = match.end()
    return [*found, Token("end", "", at)]


def _value(kind: str, raw: str, at: int) -> str | float | int:
    if kind == "number":
        if raw[:2].lower() == "0x":
            return int(raw, 16)
        return int(raw) if raw.isdigit() and len(raw) < 16 else float(raw)
    return _unescaped(raw[1:-1], at) if kind == "text" else raw


def _unescaped(text: str, at: int) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) > 1:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise QueryError(f"unknown escape in the text at {at}")
        return _ESCAPES[code]

    try:  # two escapes may be the halves of one sign
        return _ESCAPE.sub(one, text).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise QueryError(f"half a sign in the text at {at}") from None
