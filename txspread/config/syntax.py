"""Text to syntax tree, and syntax errors in words that help.

The parser is lark's LALR parser over ``spread_conf.lark`` and
:mod:`txspread.config.scanner`.  Most of this file turns "unexpected token" into
what the writer of the file probably meant, because upstream's language refuses
things that look right: a blank behind a number, ``=`` without blanks around it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from lark import Lark, Token, Tree, UnexpectedToken

from txspread.config.errors import ConfigurationError
from txspread.config.options import FLAGS, OPTIONS, PRIORITIES
from txspread.config.scanner import KEYWORDS, VALUES, SpreadConfLexer

_PARSER: Final = Lark.open_from_package(
    "txspread.config",
    "spread_conf.lark",
    parser="lalr",
    lexer=SpreadConfLexer,
    start="file",
    propagate_positions=True,
)

_WORDS: Final = {
    "SPREAD_SEGMENT": "Spread_Segment",
    "ROUTE_MATRIX": "RouteMatrix",
    "OPEN": "'{'",
    "CLOSE": "'}'",
    "EQUALS": "'='",
    "BANG": "'!'",
    "FLAG": "a log flag",
    "LETTER": "M, C or D",
    "PRIORITY": ", ".join(PRIORITIES),
    "BOOL": "true, yes, false or no",
    "TRIVAL": "on, off or auto",
    "LINK": "Hop or TcpHop",
    "ADDRESS": "an IPv4 address",
    "NUMBER": "a number of 1 to 6 digits",
    "COSTS": "a row of route costs",
    "STRING": "a string",
    "$END": "the end of the file",
}


def _in_words(accepts: Iterable[str]) -> tuple[str, ...]:
    """Terminals as a person would call them, in a steady order, options as one item."""
    names = set(accepts)
    words = [word for terminal, word in _WORDS.items() if terminal in names]
    if names & {option.terminal for option in OPTIONS.values()}:
        words.insert(0, "an option")
    return tuple(words)


def _join(words: tuple[str, ...]) -> str:
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " or " + words[-1]


def _number_hint(found: str) -> str:
    digits = found.rstrip(" \t")
    if digits.isdigit() and len(digits) > 6:
        return "a number has at most 6 digits"
    if digits.isdigit():
        return (
            "a number must be followed directly by the end of the line or '#': "
            "remove the blank after it"
        )
    return "write digits only, without sign, unit or quotes"


def _top_level_hint(found: str) -> str | None:
    if found.startswith("\ufeff"):
        return "remove the byte-order mark at the start of the file"
    name = found.split("=", 1)[0]
    if "=" in found and name in OPTIONS:
        return f"put a blank before and after '=': {name} = {found.split('=', 1)[1]}".rstrip()
    names = ["Spread_Segment", "RouteMatrix", *OPTIONS]
    if found == ";":
        return "remove the semicolon"
    for known in names:
        if found.strip("\v\f").lower() == known.lower():
            reason = "form feeds are not blanks" if found != found.strip("\v\f") else "case counts"
            return f"did you mean {known}? ({reason})"
    close = difflib.get_close_matches(found[:64], names, 1)
    return f"did you mean {close[0]}?" if close else None


def _name_hint(token: Token, found: str) -> str | None:
    if found in KEYWORDS or found.lower() in VALUES:
        return f'this word has a meaning of its own; as a daemon name it must be quoted: "{found}"'
    if token.type == "ADDRESS":
        return "a daemon begins with its name, then perhaps its address"
    if token.type in {"NUMBER", "COSTS"}:
        return "a daemon name made of digits only must be quoted"
    return None


def _hint(token: Token, found: str, accepts: set[str]) -> str | None:
    """Guess what was meant."""
    if token.type == "$END":
        return None
    if "SPREAD_SEGMENT" in accepts:
        return _top_level_hint(found)
    if "EQUALS" in accepts and found.startswith("="):
        return f"put a blank after '=': = {found[1:]}"
    if "NUMBER" in accepts:
        return _number_hint(found)
    if "BOOL" in accepts and token.type == "TRIVAL":
        return "this option takes true or false, not on or off"
    if "TRIVAL" in accepts and token.type == "BOOL":
        return "this option takes on, off or auto, not true or false"
    if "PRIORITY" in accepts and found == "DEBUG":
        return "the lowest priority is written pDEBUG"
    if "FLAG" in accepts:
        if "BANG" not in accepts:
            return "'!' must stand before a flag"
        word = found.strip(",;").upper()[:64]
        close = [flag for flag in FLAGS if len(word) > 3 and flag.startswith(word)]
        close = close or difflib.get_close_matches(word, FLAGS, 1)
        separators = "flags are separated by blanks; " if found[-1:] in ",;" else ""
        return separators + (
            f"did you mean {close[0]}?" if close else "the flags are " + " ".join(FLAGS)
        )
    if "COSTS" in accepts and token.type == "NUMBER":
        return "a single cost must be followed by a blank"
    if "STRING" in accepts and "CLOSE" in accepts:
        return _name_hint(token, found)
    if "ADDRESS" in accepts and "LETTER" in accepts:
        return "an interface is given by its address, with M, C or D before it"
    if "ADDRESS" in accepts and re.fullmatch(r"[0-9.:]+", found):
        return "an address is four numbers with dots, then perhaps ':' and a port of 1 to 5 digits"
    if "STRING" in accepts:
        return f'quote it: "{found.strip()}"'
    return None


def syntax_error(error: UnexpectedToken, text: str, file_name: str | None) -> ConfigurationError:
    """Make the error for a token that does not fit."""
    token = error.token
    accepts = set(error.accepts or error.expected)
    words = _in_words(accepts)
    if token.type == "$END":
        line = text.count("\n") + 1
        column = len(text) - (text.rfind("\n") + 1) + 1
        found = ""
        message = f"the file ends where {_join(words)} is expected"
        if "CLOSE" in accepts:
            message += "; a '}' is missing"
    else:
        line, column = token.line or 1, token.column or 1
        found = text[token.start_pos : token.end_pos]
        shown = found if len(found) <= 60 else found[:57] + "..."
        message = f"found {shown!r} where {_join(words)} is expected"
        hint = _hint(token, found, accepts)
        if hint:
            message += f" ({hint})"
    return ConfigurationError(message, file_name, line, column, words, found)


def read_syntax(text: str, file_name: str | None) -> Tree[Token]:
    """Parse ``text`` into the tree of ``spread_conf.lark``.

    Raises :class:`ConfigurationError` for everything that is not in the language.
    """
    try:
        return _PARSER.parse(text)
    except UnexpectedToken as error:
        raise syntax_error(error, text, file_name) from None
    except ConfigurationError as error:
        error.file_name = file_name
        raise
