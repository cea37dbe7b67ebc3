"""Byte order of what was received, read from the endian marker.

The first word of every datagram and of every message is its type, and two bits
of it, 0x80000080, tell who wrote it: both set, a little-endian machine; both
clear, a big-endian one.  The pattern reads the same either way round.
Source: ``docs/protocol/daemon-datagrams.md`` section 2.1,
``docs/protocol/client-session.md`` section 3.2.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from txspread.wire.errors import ProtocolError

ByteOrder: TypeAlias = Literal["<", ">"]
"""``"<"`` little-endian, ``">"`` big-endian, as in :mod:`struct`."""

LITTLE_ENDIAN: Final[ByteOrder] = "<"
BIG_ENDIAN: Final[ByteOrder] = ">"


def byte_order_of(word: bytes | memoryview) -> ByteOrder:
    """Byte order that the first 4 bytes of ``word`` announce.

    Raises :class:`ProtocolError` when there are fewer than 4 bytes or only one
    of the two marker bits is set (upstream takes such a word for foreign; nobody
    sends one).
    """
    if len(word) < 4:
        raise ProtocolError(f"{len(word)} bytes where a type word of 4 is needed")
    low = word[0] & 0x80
    high = word[3] & 0x80
    if low and high:
        return "<"
    if low or high:
        raise ProtocolError("type word with only one of its two byte-order bits")
    return ">"
