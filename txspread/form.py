"""Whether this installation runs the compiled form of the hot modules or plain Python."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES

from txspread.engine.ring import token_visit


def form() -> str:
    """``compiled`` or ``plain Python``."""
    compiled = str(token_visit.__file__).endswith(tuple(EXTENSION_SUFFIXES))
    return "compiled" if compiled else "plain Python"
