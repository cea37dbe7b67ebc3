"""Packets: the datagrams of the data port.

A packet is a header of 40 bytes and a body of ``data_len`` bytes.  The body of a
data packet is one or more fragments; the first one's index and length stand in
the packet header, each further one follows pad bytes to a multiple of 4 and a
fragment header of 4 bytes.  Source: ``docs/protocol/daemon-datagrams.md``
sections 5 and 6.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import define

from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import ENDIAN_MARKER, MAX_FRAGMENTS, MESSAGE_HEADER_SIZE
from txspread.wire.derive import derive
from txspread.wire.dialect import MAX_PACKET_SIZE, SPREAD_4_4, Dialect, header_order
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.layouts import packet as layouts

__all__ = [
    "HEADER_LE",
    "MAX_PACKET_SIZE",
    "NO_MEMBERSHIP",
    "PACKET_BODY_SIZE",
    "PACKET_HEADER_SIZE",
    "RUN_SIZE",
    "Fragments",
    "PacketHeader",
    "cut_header",
    "cut_train",
    "encode_bare",
    "encode_body",
    "encode_packet",
    "encode_rest",
    "encode_run",
    "join_header",
    "read_fragments",
    "read_packed",
    "read_rest",
    "read_run",
    "read_units",
    "restamp",
    "train_layout",
    "with_head",
]

HEADER_LE: Final = derive(layouts.PACKET_HEADER_4_4, "<")
"""40 bytes: the fields of :class:`PacketHeader` in their order, memb_id as two, two
bytes of padding before the fragment index."""
_HEADER_BE: Final = derive(layouts.PACKET_HEADER_4_4, ">")
_OF_A_RUN: Final = 5
"""Fields that are the same in the packets that one daemon sends in a row: type,
transmiter_id, proc_id and memb_id."""
_RUN_LE: Final = derive(layouts.PACKET_HEADER_4_4, "<", last=_OF_A_RUN)
RUN_SIZE: Final = _RUN_LE.size
"""20 bytes: these fields."""
_REST_LE: Final = derive(layouts.PACKET_HEADER_4_4, "<", first=_OF_A_RUN + 1)
"""16 bytes: the others, from behind seq on."""
_SEQ_SIZE: Final = 4
_THREE_PARTS: Final = f"{RUN_SIZE}sl{_REST_LE.size}s"
_CUT_LE: Final = struct.Struct("<" + _THREE_PARTS)
"""A header as :data:`RUN_SIZE` bytes, seq, and the rest."""
_FRAGMENT_LE: Final = derive(layouts.FRAGMENT_HEADER, "<")
_FRAGMENT_BE: Final = derive(layouts.FRAGMENT_HEADER, ">")

PACKET_HEADER_SIZE: Final = HEADER_LE.size
"""40 bytes."""
PACKET_BODY_SIZE: Final = MAX_PACKET_SIZE - PACKET_HEADER_SIZE
"""1432 bytes: the most behind a packet header, and so the largest fragment."""

_new_tuple: Final = tuple.__new__
"""Makes a named tuple at a third of what calling its class costs."""
_NOT_MARKER: Final = 0xFFFFFFFF & ~ENDIAN_MARKER
_PADS: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
"""Pad bytes by length modulo 4; upstream leaves what its buffer held."""

_MAX_LAYOUTS: Final = 256
_train_layouts: Final[dict[int, struct.Struct]] = {}

Fragments: TypeAlias = list[tuple[int, bytes]]
"""(fragment index, bytes) in packet order."""

NO_MEMBERSHIP: Final = MembershipId(0, 0)
"""``memb_id`` of packets that belong to no ring."""


@define
class PacketHeader:
    """A packet header as it was read, with the first fragment's header in it."""

    type: int
    """Type word with its marker bits."""
    transmiter_id: ProcId
    """Who put this datagram on the wire in this hop."""
    proc_id: ProcId
    """Where the packet was made."""
    memb_id: MembershipId
    """Ring in which :attr:`seq` counts."""
    seq: int
    token_round: int
    conf_hash: int
    data_len: int
    """Bytes behind the header as written; the receiver compares."""
    fragment_index: int
    """1, 2, 3 ... of a message's fragments, minus the count for its last one."""
    fragment_len: int
    byteorder: ByteOrder = "<"
    fifo_seq: int = 0
    """Sender's packet counter; dialect 4.3 only."""

    @classmethod
    def decode(cls, data: bytes, dialect: Dialect = SPREAD_4_4) -> PacketHeader:
        """Read the header of a datagram.

        Raises :class:`ProtocolError` for a datagram shorter than the header (40
        bytes in 4.4) or half a marker; no value is checked.
        """
        if dialect is not SPREAD_4_4:
            return cls._decode_table(data, dialect)
        if len(data) < 40:
            raise ProtocolError(f"packet of {len(data)} bytes, its header needs 40")
        marker = (data[0] & 0x80) + (data[3] & 0x80)
        if marker == 0x100:
            header = HEADER_LE
        elif marker:
            raise ProtocolError("packet type with only one of its two byte-order bits")
        else:
            header = _HEADER_BE
        (
            type_,
            transmiter_id,
            proc_id,
            memb_proc,
            memb_time,
            seq,
            token_round,
            conf_hash,
            data_len,
            _,
            fragment_index,
            fragment_len,
        ) = header.unpack_from(data)
        return cls(
            type_,
            transmiter_id,
            proc_id,
            _new_tuple(MembershipId, (memb_proc, memb_time)),
            seq,
            token_round,
            conf_hash,
            data_len,
            fragment_index,
            fragment_len,
            "<" if marker else ">",
        )

    @classmethod
    def _decode_table(cls, data: bytes, dialect: Dialect, offset: int = 0) -> PacketHeader:
        order = header_order(data, dialect.packet.size)
        return cls._from_table(dialect.packet.unpack(data, order, offset), order)

    @classmethod
    def _from_table(cls, values: tuple[int, ...], order: ByteOrder) -> PacketHeader:
        memb_id = MembershipId(values[3], values[4])
        return cls(
            values[0],
            values[1],
            values[2],
            memb_id,
            values[5],
            values[6],
            values[7],
            values[8],
            values[9],
            values[10],
            order,
            values[11],
        )

    def encode(self, dialect: Dialect = SPREAD_4_4) -> bytes:
        """The header alone, in its own byte order; the marker bits follow it.

        Raises :class:`ProtocolError` when a value does not fit its field.
        """
        little = self.byteorder == "<"
        values = (
            self.type | ENDIAN_MARKER if little else self.type & _NOT_MARKER,
            self.transmiter_id,
            self.proc_id,
            *self.memb_id,
            self.seq,
            self.token_round,
            self.conf_hash,
            self.data_len,
            self.fragment_index,
            self.fragment_len,
            self.fifo_seq,
        )
        try:
            return dialect.packet.pack(values, self.byteorder)
        except struct.error as error:
            raise ProtocolError(str(error)) from None


def encode_packet(
    type: int,
    transmiter_id: ProcId,
    proc_id: ProcId,
    memb_id: MembershipId,
    seq: int,
    token_round: int,
    conf_hash: int,
    fragments: Sequence[tuple[int, bytes]],
    byteorder: ByteOrder = "<",
) -> bytes:
    """A complete data packet of one or more fragments (index, bytes).

    The caller has seen to the packing rules (``docs/protocol/daemon-datagrams.md``
    section 6.3).  Raises :class:`ProtocolError` without a fragment, for a body
    above 1432 bytes, and when a value does not fit its field.
    """
    if byteorder == "<":
        header = HEADER_LE
        fragment_header = _FRAGMENT_LE
        type_ = type | ENDIAN_MARKER
    else:
        header = _HEADER_BE
        fragment_header = _FRAGMENT_BE
        type_ = type & _NOT_MARKER
    if not fragments:
        raise ProtocolError("data packet without a fragment")
    first_index, body = fragments[0]
    first_len = len(body)
    try:
        if len(fragments) > 1:
            body = _join_fragments(fragments, fragment_header)
        if len(body) > PACKET_BODY_SIZE:
            raise ProtocolError(f"packet body of {len(body)} bytes, {PACKET_BODY_SIZE} fit")
        start = header.pack(
            type_,
            transmiter_id,
            proc_id,
            memb_id[0],
            memb_id[1],
            seq,
            token_round,
            conf_hash,
            len(body),
            0,
            first_index,
            first_len,
        )
    except struct.error as error:
        raise ProtocolError(str(error)) from None
    return start + body


def _join_fragments(
    fragments: Sequence[tuple[int, bytes]], fragment_header: struct.Struct
) -> bytes:
    body = fragments[0][1]
    parts = [body]
    end = len(body)
    for index, data in fragments[1:]:
        length = len(data)
        parts.append(_PADS[end & 3])
        parts.append(fragment_header.pack(index, length))
        parts.append(data)
        end = (end + 3 & ~3) + 4 + length
    return b"".join(parts)


def encode_body(fragments: Fragments) -> bytes:
    """What stands behind the header of a little-endian packet of these fragments."""
    return fragments[0][1] if len(fragments) == 1 else _join_fragments(fragments, _FRAGMENT_LE)


def encode_run(type: int, transmiter_id: ProcId, proc_id: ProcId, memb_id: MembershipId) -> bytes:
    """The first :data:`RUN_SIZE` bytes of a little-endian packet's header.

    Raises :class:`ProtocolError` when a value does not fit its field.
    """
    try:
        return _RUN_LE.pack(type | ENDIAN_MARKER, transmiter_id, proc_id, memb_id[0], memb_id[1])
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def encode_rest(token_round: int, conf_hash: int, data_len: int, index: int, length: int) -> bytes:
    """What stands behind seq in a little-endian header, 16 bytes.

    ``index`` and ``length`` are the first fragment's.  Raises :class:`ProtocolError`
    when a value does not fit its field.
    """
    try:
        return _REST_LE.pack(token_round, conf_hash, data_len, 0, index, length)
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def join_header(run: bytes, number: int, rest: bytes) -> bytes:
    """A whole header of the two parts and seq."""
    return _CUT_LE.pack(run, number, rest)


def with_head(head: bytes, number: int, body: bytes) -> bytes:
    """The datagram with that head, that seq and what stands behind the header.

    A *head* is a header without seq, 36 bytes; packets in a row mostly have the same.
    """
    return _CUT_LE.pack(head[:RUN_SIZE], number, head[RUN_SIZE:]) + body


def cut_header(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[bytes, int, bytes]:
    """A little-endian header as (:data:`RUN_SIZE` bytes, seq, the rest).

    The first and the last make the packet's head.
    """
    run, number, rest = _CUT_LE.unpack_from(data, at)
    return run, number, rest


def read_run(run: bytes) -> tuple[int, int, int, int, int]:
    """type, transmiter_id, proc_id, and memb_id as two."""
    kind, transmiter_id, proc_id, memb_proc, memb_time = _RUN_LE.unpack(run)
    return kind, transmiter_id, proc_id, memb_proc, memb_time


def read_rest(rest: bytes) -> tuple[int, int, int, int, int]:
    """token_round, conf_hash, data_len, index and length of the first fragment."""
    token_round, conf_hash, data_len, _, index, length = _REST_LE.unpack(rest)
    return token_round, conf_hash, data_len, index, length


def train_layout(size: int, count: int) -> struct.Struct:
    """The layout of a train: ``count`` packets of ``size`` bytes, one behind the other.

    Each is what :func:`cut_header` gives, and its body.
    """
    key = size << 16 | count
    found = _train_layouts.get(key)
    if found is None:
        if len(_train_layouts) >= _MAX_LAYOUTS:
            _train_layouts.clear()
        found = struct.Struct("<" + f"{_THREE_PARTS}{size - PACKET_HEADER_SIZE}s" * count)
        _train_layouts[key] = found
    return found


def cut_train(train: bytes | bytearray | memoryview, size: int) -> list[bytes]:
    """The datagrams of a train, ``size`` bytes each, the last perhaps shorter."""
    return [bytes(train[at : at + size]) for at in range(0, len(train), size)]


def encode_bare(
    type: int,
    transmiter_id: ProcId,
    proc_id: ProcId,
    memb_id: MembershipId,
    conf_hash: int,
    body: bytes = b"",
    seq: int = 0,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """A complete packet without fragments: ALIVE, JOIN, REFER, HURRY, monitor.

    Raises :class:`ProtocolError` for a body that does not fit a packet, or a
    value that does not fit its field.
    """
    if len(body) > dialect.max_packet_body:
        raise ProtocolError(f"packet body of {len(body)} bytes, {dialect.max_packet_body} fit")
    header = PacketHeader(
        type, transmiter_id, proc_id, memb_id, seq, 0, conf_hash, len(body), 0, 0, byteorder
    )
    return header.encode(dialect) + body


def read_fragments(data: bytes, header: PacketHeader) -> list[tuple[int, bytes]]:
    """The fragments (index, bytes) of a data packet, in order.

    ``data`` is the whole datagram that ``header`` was read from.  Raises
    :class:`ProtocolError` for everything that must be dropped at receipt: a
    datagram that is not 40 + data_len bytes, a fragment that is negative or ends
    behind the body, an empty first fragment with others behind it, pad bytes with
    no fragment behind them, an index beyond the 100 fragments of a message.
    Whether the first index is the one that is due shows only at reassembly.
    """
    end = PACKET_HEADER_SIZE + header.data_len
    if len(data) != end:
        raise ProtocolError(f"packet of {len(data)} bytes says it has {end}")
    index = header.fragment_index
    if not -MAX_FRAGMENTS <= index <= MAX_FRAGMENTS:
        raise ProtocolError(f"fragment index {index}, a message has at most 100")
    length = header.fragment_len
    at = PACKET_HEADER_SIZE + length
    if length < 0 or at > end:
        raise ProtocolError(f"first fragment of {length} bytes in a body of {header.data_len}")
    if at == end:
        return [(index, data[PACKET_HEADER_SIZE:])]
    if not length:
        raise ProtocolError("empty first fragment with others behind it")
    fragments = [(index, data[PACKET_HEADER_SIZE:at])]
    fragment_header = _FRAGMENT_LE if header.byteorder == "<" else _FRAGMENT_BE
    while at < end:
        at = (at + 3) & ~3
        if at + 4 > end:
            raise ProtocolError("packet ends inside a fragment header")
        index, length = fragment_header.unpack_from(data, at)
        at += 4
        if length < 0 or at + length > end:
            raise ProtocolError(f"fragment of {length} bytes with {end - at} left")
        fragments.append((index, data[at : at + length]))
        at += length
    return fragments


def read_packed(body: bytes, index: int, length: int) -> Fragments:
    """The fragments of a little-endian packet of whole messages behind the first fragment.

    ``body`` is what stands behind the header, ``index`` and ``length`` are the first
    fragment's; the datagram is known to be as long as its header says.  Raises
    :class:`ProtocolError` for what :func:`read_fragments` refuses, for a first fragment
    that is no part of a message, and for a message shorter than its header.
    """
    end = len(body)
    at = length
    shortest = MESSAGE_HEADER_SIZE if index == -1 else 1
    if not shortest <= length or at > end or not index or not -MAX_FRAGMENTS <= index <= -1:
        raise ProtocolError("first fragment is no part of a message")
    fragments = [(index, body[:at])]
    read = _FRAGMENT_LE.unpack_from
    while at < end:
        start = (at + 7) & ~3
        if start > end:
            raise ProtocolError("packet ends inside a fragment header")
        index, length = read(body, start - 4)
        at = start + length
        if length < MESSAGE_HEADER_SIZE or at > end:
            raise ProtocolError(f"message of {length} bytes with {end - start} left")
        fragments.append((index, body[start:at]))
    return fragments


def read_units(data: bytes, dialect: Dialect) -> list[tuple[PacketHeader, bytes]]:
    """The units (header, bytes) of a data packet in a dialect that packs units.

    Only the first header's marker counts.  Raises :class:`ProtocolError` when
    the units and the pad bytes between them do not make up the datagram exactly.
    """
    size = dialect.packet.size
    order = header_order(data, size)
    units: list[tuple[PacketHeader, bytes]] = []
    end = len(data)
    at = 0
    while at < end:
        at = (at + 3) & ~3
        header = PacketHeader._from_table(dialect.packet.unpack(data, order, at), order)
        at += size
        length = header.data_len
        if length < 0 or at + length > end:
            raise ProtocolError(f"unit of {length} bytes with {end - at} left")
        units.append((header, data[at : at + length]))
        at += length
    return units


def restamp(
    data: bytes, type_set: int, type_clear: int, transmiter_id: ProcId, conf_hash: int
) -> bytes:
    """The same datagram for its next hop, in the byte order it came in.

    Sets and clears type bits, writes transmiter_id and conf_hash; all else stays.
    Raises :class:`ProtocolError` for a datagram shorter than 40 bytes, half a
    marker, or a value that does not fit its field.
    """
    header = HEADER_LE if header_order(data, PACKET_HEADER_SIZE) == "<" else _HEADER_BE
    fields = list(header.unpack_from(data))
    fields[0] = (fields[0] & ~type_clear) | type_set
    fields[1] = transmiter_id
    fields[7] = conf_hash
    try:
        return header.pack(*fields) + data[PACKET_HEADER_SIZE:]
    except struct.error as error:
        raise ProtocolError(str(error)) from None
