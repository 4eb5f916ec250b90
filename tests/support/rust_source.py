"""What the architecture tests read in Rust source without a compiler: code apart from comments and literals, functions
with their lengths, and what is compiled for tests only.

It knows tokens, not grammar: enough to find `fn`, its body and its end in code that rustfmt has laid out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# A lifetime ('a) has no closing quote after one character; a character literal ('a', '\n', '\u{1F600}') has.
_LITERAL: Final = re.compile(
    r"""
      //[^\n]*
    | /\*
    | \b(?:br|cr|r)(?P<hashes>\#*)"
    | (?:\b[bc])?"(?:[^"\\]|\\.)*"
    | (?:\bb)?'(?:[^'\\\n]|\\(?:u\{[0-9a-fA-F_]+\}|x[0-9a-fA-F]{2}|.))'
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_FUNCTION: Final = re.compile(r"\bfn\s+(?:r#)?(\w+)")
_TEST_ONLY: Final = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+\w+\s*(\{|;)")


@dataclass(frozen=True, slots=True)
class Function:
    """A function with a body; `lines` counts from `fn` to its closing brace, without attributes and documentation."""

    name: str
    line: int
    lines: int


def _comment_end(text: str, start: int) -> int:
    """The end of a block comment, which may hold others."""
    depth, at = 1, start + 2
    while depth and (edge := _COMMENT_EDGE.search(text, at)):
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return len(text) if depth else at


def _literal_end(text: str, found: re.Match[str]) -> int:
    if found[0] == "/*":
        return _comment_end(text, found.start())
    if found["hashes"] is None:
        return found.end()
    closing = text.find('"' + found["hashes"], found.end())
    return len(text) if closing < 0 else closing + 1 + len(found["hashes"])


def code(text: str) -> str:
    """The source with comments and literals blanked out: every other character stays where it was."""
    parts, at = [], 0
    while found := _LITERAL.search(text, at):
        end = _literal_end(text, found)
        parts += [text[at : found.start()], re.sub(r"[^\n]", " ", text[found.start() : end])]
        at = end
    return "".join([*parts, text[at:]])


def _closing(source: str, opening: int) -> int:
    """Where the brace closes that opens at `opening`; the end of the source where it never does."""
    depth = 0
    for found in re.finditer(r"[{}]", source[opening:]):
        depth += 1 if found[0] == "{" else -1
        if not depth:
            return opening + found.start()
    return len(source)


def _body(source: str, start: int) -> int | None:
    """Where the body of the function whose name ends at `start` opens; None where it has none (in a trait)."""
    depth = 0
    for found in re.finditer(r"[(){};\[\]]", source[start:]):
        if found[0] in "([":
            depth += 1
        elif found[0] in ")]":
            depth -= 1
        elif not depth and found[0] in "{;":
            return start + found.start() if found[0] == "{" else None
    return None


def functions(text: str) -> Iterator[Function]:
    """Every function with a body, nested ones too."""
    source = code(text)
    for found in _FUNCTION.finditer(source):
        opening = _body(source, found.end())
        if opening is not None:
            lines = source.count("\n", found.start(), _closing(source, opening)) + 1
            yield Function(found[1], source.count("\n", 0, found.start()) + 1, lines)


def shipped(text: str) -> str:
    """The code (as `code` gives it) without modules that are compiled for tests only."""
    source = code(text)
    while found := _TEST_ONLY.search(source):
        end = _closing(source, found.start(1)) + 1 if found[1] == "{" else found.end()
        source = source[: found.start()] + re.sub(r"[^\n]", " ", source[found.start() : end]) + source[end:]
    return source
