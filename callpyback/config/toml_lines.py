"""At which line of a TOML text each of its values begins; `tomllib` does not say.

The text is cut into tokens first, which also bounds nesting and numbers of values before `tomllib` meets them: it has
no limits, and takes time quadratic in the length of a dotted key. Lines are then found in what `tomllib` has accepted,
so that the grammar need not be checked again.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final, NamedTuple

from callpyback.config.located import MAX_DEPTH

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

_MAX_TOKENS: Final = 300_000
_TOKEN: Final = re.compile(
    r"""
      (?P<space> [ \t\r]++ | \#[^\n]*+ )
    | (?P<newline> \n )
    | (?P<text> \"\"\" (?: [^"\\] | \\. | "{1,2}+(?!") )*+ "{3,5}
              | ''' (?: [^'] | '{1,2}+(?!') )*+ '{3,5}
              | " (?: [^"\\\n] | \\. )*+ "
              | ' [^'\n]*+ ' )
    | (?P<unclosed> ["'] )
    | (?P<mark> [\[\]{},=.] )
    | (?P<word> [^\s\[\]{},=."'\#]++ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """One piece of the text."""

    text: str
    line: int
    end: int
    """Where it ends, to see whether the next one touches it."""


class _Bound(Exception):  # noqa: N818 - see the two below
    message = ""

    def __init__(self, line: int) -> None:
        super().__init__(self.message)
        self.line = line


class TooDeep(_Bound):
    """Nested too deep, or a key of too many parts."""

    message = f"nested deeper than {MAX_DEPTH} levels"


class TooMany(_Bound):
    """More than could be read in reasonable time."""

    message = "too many values"


def tokens_of(text: str) -> list[Token]:
    r"""Return the pieces of any text, as TOML; line breaks are pieces, comments and blanks are not.

    Raises:
        TooDeep: Brackets are nested deeper than `MAX_DEPTH`, or a key has more parts than that.
        TooMany: There are too many.

    Example:
        >>> [token.text for token in tokens_of('a.b = "c" # d\n')]
        ['a', '.', 'b', '=', '"c"', '\n']
    """
    tokens: list[Token] = []
    line, depth, parts = 1, 0, 0
    for found in _TOKEN.finditer(text):
        kind, piece = found.lastgroup, found[0]
        if kind == "unclosed":
            break  # no TOML, which tomllib will say
        if kind != "space":
            tokens.append(Token(piece, line, found.end()))
            depth = max(0, depth + (piece in {"[", "{"}) - (piece in {"]", "}"}))
            parts = parts + 1 if piece == "." else parts if kind in {"word", "text"} else 0
            if depth > MAX_DEPTH or parts > MAX_DEPTH:
                raise TooDeep(line)
            if len(tokens) > _MAX_TOKENS:
                raise TooMany(line)
        line += piece.count("\n")
    return tokens


def lines_of(tokens: list[Token]) -> dict[Path, int]:
    r"""Return the line of each value by its path; that of a value under a key is the line of the key.

    Args:
        tokens: Of a text that `tomllib` accepts.

    Example:
        >>> tokens = tokens_of('[[observers]]\ntype = "cache"\nconfig.maxsize = 3\n')
        >>> lines_of(tokens)["observers", 0, "config", "maxsize"]
        3
    """
    return _Lines(tokens).found


class _Lines:
    def __init__(self, tokens: list[Token]) -> None:
        self.found: dict[Path, int] = {}
        self._tokens = tokens
        self._at = 0
        self._lengths: dict[Path, int] = {}  # of arrays of tables
        table: Path = ()
        while self._skip_newlines():
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _peek(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _take(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _skip_newlines(self) -> bool:
        while self._peek() == "\n":
            self._at += 1
        return self._at < len(self._tokens)

    def _header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]`, and return the table that it begins."""
        bracket = self._take()
        is_item = self._peek() == "[" and self._tokens[self._at].end == bracket.end + 1
        self._at += is_item
        keys = self._keys("]")
        self._at += is_item
        path: Path = ()
        for at, key in enumerate(keys):
            path = (*path, key)
            self.found.setdefault(path, bracket.line)
            if is_item and at == len(keys) - 1:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
                self.found.setdefault(path, bracket.line)
        return path

    def _keys(self, end: str) -> list[str]:
        """Read the parts of a key, up to and with the mark that ends it."""
        keys = []
        while self._at < len(self._tokens):
            token = self._take()
            if token.text == end:
                break
            if token.text != ".":
                keys.append(_key(token.text))
        return keys

    def _pair(self, table: Path) -> None:
        """Read `a.b = value`."""
        line = self._tokens[self._at].line
        path = table
        for key in self._keys("="):
            path = (*path, key)
            self.found.setdefault(path, line)
        self._value(path)

    def _value(self, path: Path) -> None:
        mark = self._peek()
        if mark == "[":
            self._array(path)
        elif mark == "{":
            self._at += 1
            while self._skip_newlines() and self._peek() != "}":
                if self._peek() == ",":
                    self._at += 1
                else:
                    self._pair(path)
            self._at += 1
        else:
            while self._at < len(self._tokens) and self._peek() not in {",", "]", "}", "\n"}:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._skip_newlines() and self._peek() != "]":
            before = self._at
            if self._peek() == ",":
                index += 1
            else:
                self.found.setdefault((*path, index), self._tokens[before].line)
                self._value((*path, index))
            self._at = max(self._at, before + 1)
        self._at += 1


def _key(text: str) -> str:
    if text[0] not in "\"'":
        return text
    key: str = tomllib.loads(f"key = {text}")["key"]
    return key
