"""A whole datagram taken apart by its declarations, for tools, traces and tests.

Slow and complete: pad bytes, unused array parts and the bytes behind a NUL are in
the result, so that it can be put together again to the same bytes.  The engine
uses the codecs instead.
"""

from __future__ import annotations

from typing import Final

import construct
from attrs import frozen
from construct import Container

from txspread.wire.byteorder import ByteOrder
from txspread.wire.datagram import PacketClass, TokenClass, packet_class_of, token_class_of
from txspread.wire.derive import Record
from txspread.wire.dialect import SPREAD_4_4, Dialect, HeaderTable, header_order
from txspread.wire.errors import ProtocolError
from txspread.wire.layouts import membership, monitor, token
from txspread.wire.layouts.fields import Layout, declare

_NOTHING: Final = declare(lambda _integers: construct.Struct(construct.Terminated))

_PACKET_BODIES: Final[dict[PacketClass, Layout]] = {
    PacketClass.ALIVE: membership.ALIVE,
    PacketClass.JOIN: membership.JOIN,
    PacketClass.REFER: _NOTHING,
    PacketClass.HURRY: _NOTHING,
    PacketClass.PARTITION: monitor.PARTITION,
    PacketClass.RELOAD: _NOTHING,
}

_TOKEN_BODIES: Final[dict[TokenClass, Layout]] = {
    TokenClass.FORM1: membership.FORM1,
    TokenClass.FORM2: membership.FORM2,
    TokenClass.REGULAR: token.REQUESTS,
}


@frozen
class Dissection:
    """A datagram in its parts."""

    kind: PacketClass | TokenClass
    order: ByteOrder
    header: Container | None
    """None for data packets: their layout begins with it."""
    body: Container
    _header_layout: Layout
    _body_layout: Layout

    def build(self) -> bytes:
        """Put it together again."""
        start = b"" if self.header is None else self._header_layout.build(self.header, self.order)
        return start + self._body_layout.build(self.body, self.order)


def dissect_packet(data: bytes, dialect: Dialect = SPREAD_4_4) -> Dissection:
    """Take apart a datagram of the data port.  Raises :class:`ProtocolError`."""
    order, header = _header(data, dialect.packet)
    record = dialect.packet.record
    kind = packet_class_of(header.type)
    if kind is PacketClass.DATA:
        return _whole(data, kind, order, dialect, len(data) - record.size)
    body = data[record.size :]
    if len(body) != header.data_len:
        raise ProtocolError(f"packet body of {len(body)} bytes says it has {header.data_len}")
    layout = _body_layout(kind, body, dialect)
    parsed = layout.parse(body, order)
    return Dissection(kind, order, header, parsed, record.layout, layout)


def dissect_token(data: bytes, dialect: Dialect = SPREAD_4_4) -> Dissection:
    """Take apart a datagram of the token port.  Raises :class:`ProtocolError`."""
    order, header = _header(data, dialect.token)
    record = dialect.token.record
    body = data[record.size :]
    if len(body) != header.rtr_len:
        raise ProtocolError(f"token body of {len(body)} bytes says it has {header.rtr_len}")
    kind = token_class_of(header.type)
    layout = _TOKEN_BODIES[kind]
    return Dissection(kind, order, header, layout.parse(body, order), record.layout, layout)


def _header(data: bytes, table: HeaderTable) -> tuple[ByteOrder, Container]:
    record: Record = table.record
    order = header_order(data, record.size)
    return order, record.layout.parse(data[: record.size], order)


def _whole(
    data: bytes, kind: PacketClass, order: ByteOrder, dialect: Dialect, body_len: int
) -> Dissection:
    layout = dialect.data_packet
    parsed = layout.parse(data, order)
    if "header" in parsed and parsed.header.data_len != body_len:
        raise ProtocolError(f"packet body of {body_len} says it has {parsed.header.data_len}")
    return Dissection(kind, order, None, parsed, dialect.packet.record.layout, layout)


def _body_layout(kind: PacketClass, body: bytes, dialect: Dialect) -> Layout:
    if kind is PacketClass.STATUS:
        return dialect.status.layout if body else _NOTHING
    if kind is PacketClass.FC:
        return (
            monitor.FLOW_CONTROL_4_4
            if dialect.flow_control_columns == 2
            else (monitor.FLOW_CONTROL_4_3)
        )
    layout = _PACKET_BODIES.get(kind)
    if layout is None:
        raise ProtocolError("packet of no known type")
    return layout
