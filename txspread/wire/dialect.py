"""The wire dialects: what 4.3, 4.4 and 5.0 lay out differently, as tables.

Daemons of different dialects never share a ring (their configuration hashes
differ).  Bodies of ALIVE, JOIN, REFER, FORM1 and FORM2, ring blocks, request
entries, group messages and the client stream are the same in all.
Source: ``docs/protocol/daemon-datagrams.md`` section 17.
"""

from __future__ import annotations

import enum
from operator import itemgetter
from typing import Any, Final

from attrs import field, frozen

from txspread.wire.byteorder import ByteOrder, byte_order_of
from txspread.wire.datagram import MONITOR_HASH, MONITOR_MAGIC
from txspread.wire.derive import Record
from txspread.wire.errors import ProtocolError
from txspread.wire.layouts import monitor, packet, token
from txspread.wire.layouts.fields import Layout

MAX_PACKET_SIZE: Final = 1472
"""Largest packet datagram (UDP payload) in every dialect."""

PACKET_FIELDS: Final = (
    "type",
    "transmiter_id",
    "proc_id",
    "memb_id.proc_id",
    "memb_id.time",
    "seq",
    "token_round",
    "conf_hash",
    "data_len",
    "fragment_index",
    "fragment_len",
    "fifo_seq",
)
"""Fields of :class:`txspread.wire.packet.PacketHeader`, in its order."""

TOKEN_FIELDS: Final = (
    "type",
    "transmiter_id",
    "proc_id",
    "memb_id.proc_id",
    "memb_id.time",
    "seq",
    "aru",
    "aru_last_id",
    "flow_control",
    "rtr_len",
    "conf_hash",
)
"""Fields of :class:`txspread.wire.token.TokenHeader`, in its order."""


class Packing(enum.Enum):
    """How several messages share a packet."""

    FRAGMENTS = "fragments"
    """One packet header, fragment headers of 4 bytes."""
    UNITS = "units"
    """Each message or piece has a packet header of its own."""


@frozen
class HeaderTable:
    """A header of one dialect, read and written in one common order of fields."""

    record: Record
    fields: tuple[str, ...]
    """The common order."""
    alias: dict[str, str] = field(factory=dict)
    """Common name to the name in this dialect's layout, where they differ."""
    _pick: Any = field(init=False)
    _place: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        names = self.record.names
        absent = len(names)
        local = [self.alias.get(name, name) for name in self.fields]
        pick = [names.index(name) if name in names else absent for name in local]
        place = [local.index(name) if name in local else len(local) for name in names]
        object.__setattr__(self, "_pick", itemgetter(*pick))
        object.__setattr__(self, "_place", itemgetter(*place))

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return self.record.size

    def unpack(self, data: bytes, order: ByteOrder, offset: int = 0) -> tuple[int, ...]:
        """Values in the common order; 0 for what this dialect has not.

        Raises :class:`ProtocolError` when ``data`` is too short.
        """
        if len(data) - offset < self.record.size:
            raise ProtocolError(f"{len(data)} bytes where a header of {self.size} is needed")
        values = self.record.in_order(order).unpack_from(data, offset)
        picked: tuple[int, ...] = self._pick((*values, 0))
        return picked

    def pack(self, values: tuple[int, ...], order: ByteOrder = "<") -> bytes:
        """Bytes of values in the common order.

        Raises :class:`struct.error` when one does not fit its field.
        """
        return self.record.in_order(order).pack(*self._place((*values, 0)))


@frozen
class Dialect:
    """One version's layouts and constants."""

    name: str
    """Version text that goes into the configuration hash."""
    version: tuple[int, int, int]
    """What handshake and status report say."""
    packet: HeaderTable
    token: HeaderTable
    data_packet: Layout
    """Whole data packets."""
    packing: Packing
    status: Record
    """Body of a status reply."""
    flow_control_columns: int
    """Values for each daemon in a flow-control body."""
    max_token_body: int
    """Most bytes behind a token header that the dialect sends."""
    monitor_hash: int | None
    """Hash that control packets carry, or None where they carry the real one."""
    monitor_magic: int
    """``memb_id.proc_id`` of control packets."""

    @property
    def max_packet_body(self) -> int:
        """Most bytes behind a packet header; the size of the pieces of a long message."""
        return MAX_PACKET_SIZE - self.packet.size


SPREAD_4_4: Final = Dialect(
    name="4.4",
    version=(4, 4, 0),
    packet=HeaderTable(Record(packet.PACKET_HEADER_4_4), PACKET_FIELDS),
    token=HeaderTable(Record(token.TOKEN_HEADER_4_4), TOKEN_FIELDS),
    data_packet=packet.DATA_PACKET_4_4,
    packing=Packing.FRAGMENTS,
    status=Record(monitor.STATUS_4_4),
    flow_control_columns=2,
    max_token_body=32767,
    monitor_hash=MONITOR_HASH,
    monitor_magic=MONITOR_MAGIC,
)

SPREAD_4_3: Final = Dialect(
    name="4.3",
    version=(4, 3, 0),
    packet=HeaderTable(
        Record(packet.PACKET_HEADER_4_3), PACKET_FIELDS, {"fragment_index": "packet_index"}
    ),
    token=HeaderTable(Record(token.TOKEN_HEADER_4_3), TOKEN_FIELDS),
    data_packet=packet.DATA_PACKET_4_3,
    packing=Packing.UNITS,
    status=Record(monitor.STATUS_4_3),
    flow_control_columns=1,
    max_token_body=1440,
    monitor_hash=MONITOR_HASH,
    monitor_magic=MONITOR_MAGIC,
)

SPREAD_5_0: Final = Dialect(
    name="5.0",
    version=(5, 0, 1),
    packet=HeaderTable(Record(packet.PACKET_HEADER_5_0), PACKET_FIELDS),
    token=HeaderTable(Record(token.TOKEN_HEADER_5_0), TOKEN_FIELDS),
    data_packet=packet.DATA_PACKET_5_0,
    packing=Packing.FRAGMENTS,
    status=Record(monitor.STATUS_4_4),
    flow_control_columns=2,
    max_token_body=65467,
    monitor_hash=None,
    monitor_magic=0,
)

DIALECTS: Final = (SPREAD_4_4, SPREAD_4_3, SPREAD_5_0)


def header_order(data: bytes, size: int) -> ByteOrder:
    """Byte order of a datagram that must hold a header of ``size`` bytes.

    Raises :class:`ProtocolError` when it is shorter or half marked.
    """
    if len(data) < size:
        raise ProtocolError(f"datagram of {len(data)} bytes, its header needs {size}")
    return byte_order_of(data)
