"""Lists of daemons and of representatives, as membership datagrams carry them.

Source: ``docs/protocol/daemon-datagrams.md`` sections 8 and 9.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from txspread.wire.byteorder import ByteOrder
from txspread.wire.derive import Record
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.layouts import membership as layouts

_COUNTS: Final = Record(layouts.COUNTS)
_REP: Final = Record(layouts.REP)

COUNTS_SIZE: Final = _COUNTS.size
"""4 bytes: two counts."""
REP_SIZE: Final = _REP.size
"""8 bytes: one representative."""
MAX_REPS: Final = layouts.MAX_REPS
"""Most representatives in a JOIN or on a form token."""


class RepresentativeType(enum.IntEnum):
    """For whom a representative speaks."""

    POTENTIAL = 0
    """A guess where to send."""
    SEG_REP = 1
    """For its segment, which has no ring yet."""
    RING_REP = 2
    """Leader of a working ring."""


_REPRESENTATIVE_TYPES: Final = {int(kind): kind for kind in RepresentativeType}


@frozen
class Representative:
    """One daemon that negotiates the new ring; 8 bytes on the wire."""

    proc_id: ProcId
    type: RepresentativeType
    seg_index: int
    """Index of its segment in the configuration, from 0; -1 where it is not told."""


def representative_type(value: int) -> RepresentativeType:
    """Raises :class:`ProtocolError` for anything but 0, 1 and 2."""
    kind = _REPRESENTATIVE_TYPES.get(value)
    if kind is None:
        raise ProtocolError(f"representative of unknown type {value}")
    return kind


def write_ids(ids: Sequence[ProcId], order: ByteOrder) -> bytes:
    """Ids of daemons, 4 bytes each.  Raises :class:`ProtocolError`."""
    try:
        return struct.pack(f"{order}{len(ids)}I", *ids)
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def read_ids(data: bytes, at: int, count: int, order: ByteOrder) -> tuple[ProcId, ...]:
    """``count`` ids of daemons.  Raises :class:`ProtocolError` when they are not there."""
    if count < 0 or at + 4 * count > len(data):
        raise ProtocolError(f"list of {count} daemons in {len(data) - at} bytes")
    return struct.unpack_from(f"{order}{count}I", data, at)


def write_reps(reps: Sequence[Representative], order: ByteOrder) -> bytes:
    """Representatives, 8 bytes each.  Raises :class:`ProtocolError`."""
    rep = _REP.in_order(order)
    try:
        return b"".join([rep.pack(each.proc_id, each.type, each.seg_index) for each in reps])
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def read_reps(data: bytes, at: int, count: int, order: ByteOrder) -> tuple[Representative, ...]:
    """``count`` representatives.

    Raises :class:`ProtocolError` when they are not there, or one is of a type
    that does not exist.
    """
    rep = _REP.in_order(order)
    if count < 0 or at + rep.size * count > len(data):
        raise ProtocolError(f"list of {count} representatives in {len(data) - at} bytes")
    reps: list[Representative] = []
    for _ in range(count):
        proc_id, kind, seg_index = rep.unpack_from(data, at)
        reps.append(Representative(proc_id, representative_type(kind), seg_index))
        at += rep.size
    return tuple(reps)


def write_counts(first: int, second: int, order: ByteOrder) -> bytes:
    """Two 16-bit counts.  Raises :class:`ProtocolError`."""
    try:
        return _COUNTS.in_order(order).pack(first, second)
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def read_counts(data: bytes, at: int, order: ByteOrder) -> tuple[int, int]:
    """Two 16-bit counts.  Raises :class:`ProtocolError` when they are not there."""
    if at < 0 or at + 4 > len(data):
        raise ProtocolError("datagram ends before its counts")
    first, second = _COUNTS.in_order(order).unpack_from(data, at)
    return first, second
