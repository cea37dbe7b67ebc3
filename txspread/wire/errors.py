"""The one error that decoding may raise."""

from __future__ import annotations


class ProtocolError(Exception):
    """Bytes that are not what the protocol allows.

    Every decoder of :mod:`txspread.wire` either returns or raises this;
    nothing else escapes from one, whatever the bytes.
    """
