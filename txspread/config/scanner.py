"""From the text of a spread.conf to tokens, with upstream's lexical quirks.

The rules, in prose.  At each point every rule of the table is tried, the longest
match wins, and among equally long ones the rule that stands first.  Hence:

* ``=`` is a token only when it stands alone; ``Window=200`` is one string;
* a number with a blank behind it is not a NUMBER, because the rule for route
  costs (any run of digits, blanks and tabs) matches more;
* quotes count only if the closing one ends the word; an opening quote without a
  partner is an ordinary character; ``#`` ends an unquoted word;
* words of the language are exact in case, except true/yes/false/no/on/off/auto;
* no byte is illegal: what no other rule takes belongs to a string.

Source: ``docs/configuration.md`` section 1; upstream ``config_gram.l``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from lark import Token
from lark.lexer import Lexer

from txspread.config.errors import ConfigurationError
from txspread.config.options import FLAGS, OPTIONS, PRIORITIES

KEYWORDS: Final[dict[str, str]] = {
    "Spread_Segment": "SPREAD_SEGMENT",
    "RouteMatrix": "ROUTE_MATRIX",
    "Hop": "LINK",
    "TcpHop": "LINK",
    "M": "LETTER",
    "C": "LETTER",
    "D": "LETTER",
    **{name: option.terminal for name, option in OPTIONS.items()},
    **dict.fromkeys(FLAGS, "FLAG"),
    **dict.fromkeys(PRIORITIES, "PRIORITY"),
}
"""Words with a meaning of their own, exact case, and the terminal each one is."""

VALUES: Final[dict[str, str]] = {
    "true": "BOOL",
    "yes": "BOOL",
    "false": "BOOL",
    "no": "BOOL",
    "on": "TRIVAL",
    "off": "TRIVAL",
    "auto": "TRIVAL",
}
"""The words that are the same in any case."""

_WORD: Final = re.compile(r"[^ \t\r\n#{}]+")
_SKIP: Final = re.compile(r"(?:#[^\n]*|[ \t\r\n]+)+")
_RULES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("ADDRESS", re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]{1,5})?")),
    ("NUMBER", re.compile(r"[0-9]{1,6}")),
    ("COSTS", re.compile(r"[0-9][0-9 \t]*")),
    ("STRING", re.compile(r"\"[^\"]*\"|'[^']*'")),
    ("STRING", _WORD),
)
_SIGNS: Final = {"{": "OPEN", "}": "CLOSE", "=": "EQUALS", ":": "COLON"}


def _longest(text: str, position: int) -> tuple[str, int]:
    """Terminal and end of the token that begins at ``position`` (no white space there)."""
    first = text[position]
    if first == "!" and position + 1 < len(text) and text[position + 1] != "\n":
        # The rule looks at the rest of the line, so it beats every other one.
        return "BANG", position + 1
    if first in "{}":
        return _SIGNS[first], position + 1
    word = _WORD.match(text, position)
    end = position if word is None else word.end()
    name = text[position:end]
    kind = _SIGNS.get(name) or KEYWORDS.get(name) or VALUES.get(name.lower())
    if kind is not None and name.isascii():
        # Every word of a table is longer than anything the other rules match there.
        return kind, end
    best, best_end = "STRING", position
    for rule, pattern in _RULES:
        match = pattern.match(text, position)
        if match is not None and match.end() > best_end:
            best, best_end = rule, match.end()
    return best, best_end


def scan(text: str, file_name: str | None = None) -> Iterator[Token]:
    """Cut ``text`` into tokens.

    A token's ``value`` is its text, without the quotes of a quoted string;
    ``start_pos`` and ``end_pos`` frame the text as written; ``line`` and
    ``column`` count from 1, lines at LF only.

    Raises :class:`ConfigurationError` for a NUL character, which upstream lets
    cut off the string that it is in.
    """
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(position: int) -> tuple[int, int]:
        line = bisect_right(starts, position)
        return line, position - starts[line - 1] + 1

    nul = text.find("\0")
    if nul >= 0:
        line, column = place(nul)
        raise ConfigurationError("a NUL character in the file", file_name, line, column)
    position = 0
    while True:
        blank = _SKIP.match(text, position)
        if blank is not None:
            position = blank.end()
        if position >= len(text):
            return
        kind, end = _longest(text, position)
        value = text[position:end]
        if kind == "STRING" and len(value) >= 2 and value[0] in "\"'" and value[0] == value[-1]:
            quote = value[0]
            if quote not in value[1:-1]:
                value = value[1:-1]
        line, column = place(position)
        end_line, end_column = place(end)
        yield Token(kind, value, position, line, column, end_line, end_column, end)
        position = end


class SpreadConfLexer(Lexer):
    """:func:`scan` in the shape in which lark takes a lexer."""

    def __init__(self, lexer_conf: object) -> None:
        """Nothing of lark's own lexing is used."""

    def lex(self, data: str) -> Iterator[Token]:  # type: ignore[override]
        """Tokens of ``data``."""
        return scan(data)
