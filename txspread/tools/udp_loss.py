"""The datagrams of spsend and sprecv, and counting what is lost of them.

A datagram is a type word with the byte-order marker (0 data, 1 end of the run), a count
and a size, 4 bytes each, and filler up to the size.  Source:
``docs/protocol/monitoring-and-tools.md`` section 7.
"""

from __future__ import annotations

import struct
from typing import Final

from txspread.wire.byteorder import ByteOrder, byte_order_of
from txspread.wire.constants import ENDIAN_MARKER
from txspread.wire.errors import ProtocolError

HEADER_SIZE: Final = 12
MAX_DATAGRAM: Final = 65507


def encode(count: int, size: int, last: bool = False) -> bytes:
    """Make a datagram of ``size`` bytes (at least 12)."""
    return struct.pack("<Iii", ENDIAN_MARKER | last, count, size).ljust(size, b"\0")


def decode(data: bytes) -> tuple[int, int, int]:
    """Return type, count and size.

    :raises ProtocolError: fewer than 12 bytes, or only half a byte-order marker.
    """
    if len(data) < HEADER_SIZE:
        raise ProtocolError(f"a datagram of {len(data)} bytes, the header has {HEADER_SIZE}")
    order: ByteOrder = byte_order_of(data)
    kind, count, size = struct.unpack_from(f"{order}Iii", data)
    return kind & ~ENDIAN_MARKER & 0xFFFFFFFF, count, size


class LossCounter:
    """Counts missed and damaged datagrams of one run after the other.

    The first run after the start is reported with one datagram too many missed, as
    upstream does; scripts know it.

    :param detailed: whether each gap is reported.
    """

    def __init__(self, detailed: bool) -> None:
        self._detailed = detailed
        self._expected = 0
        self._missed = 0
        self._corrupt = 0

    def datagram(self, data: bytes) -> str:
        """Take a datagram; return the lines to print."""
        try:
            kind, count, size = decode(data)
        except ProtocolError:
            kind, count, size = 0, 0, 0
        if size != len(data):
            self._corrupt += 1
            return (
                f"Corruption: expected packet size is {size}, received packet size is {len(data)}\n"
            )
        if kind:
            self._missed += count - (self._expected - 1)
            return self._report(f"Report: total packets {count}", next_missed=0, expected=1)
        lines = ""
        if count > self._expected:
            missed = count - self._expected
            self._missed += missed
            if self._detailed:
                lines = (
                    f" --> count is {count}, i is {self._expected}, missed {missed}"
                    f" total missed {self._missed}, corrupt {self._corrupt}\n"
                )
        elif count < self._expected:
            last = self._expected - 1
            lines = self._report(
                f"Report: total packets at least {last}",
                next_missed=count,
                expected=count,
                more=f"Initiating count from {last} to {count}\n",
            )
        self._expected = count + 1
        return lines

    def _report(self, start: str, next_missed: int, expected: int, more: str = "") -> str:
        lines = (
            f"-------\n{start}, total missed {self._missed},"
            f" total corrupted {self._corrupt}\n{more}-------\n"
        )
        self._missed = next_missed
        self._corrupt = 0
        self._expected = expected
        return lines
