"""The helper that reads a format string off a declaration."""

from __future__ import annotations

import construct
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txspread.wire.derive import Record, derive, flatten
from txspread.wire.dialect import DIALECTS
from txspread.wire.errors import ProtocolError
from txspread.wire.layouts import groups, membership, message, monitor, packet, token
from txspread.wire.layouts.fields import Layout, declare

SIZES = {
    "message.HEADER": (message.HEADER, 48),
    "message.GROUP_ID": (message.GROUP_ID, 12),
    "message.MEMBERSHIP_START": (message.MEMBERSHIP_START, 20),
    "message.COUNT": (message.COUNT, 4),
    "message.OLD_TYPE": (message.OLD_TYPE, 4),
    "groups.GROUPS_HEADER": (groups.GROUPS_HEADER, 48),
    "groups.PREAMBLE": (groups.PREAMBLE, 9),
    "groups.SET_SIZE": (groups.SET_SIZE, 4),
    "groups.GROUP_START": (groups.GROUP_START, 48),
    "groups.DAEMON_START": (groups.DAEMON_START, 14),
    "packet.PACKET_HEADER_4_4": (packet.PACKET_HEADER_4_4, 40),
    "packet.PACKET_HEADER_5_0": (packet.PACKET_HEADER_5_0, 40),
    "packet.PACKET_HEADER_4_3": (packet.PACKET_HEADER_4_3, 36),
    "packet.FRAGMENT_HEADER": (packet.FRAGMENT_HEADER, 4),
    "token.TOKEN_HEADER_4_4": (token.TOKEN_HEADER_4_4, 40),
    "token.TOKEN_HEADER_5_0": (token.TOKEN_HEADER_5_0, 40),
    "token.TOKEN_HEADER_4_3": (token.TOKEN_HEADER_4_3, 32),
    "token.REQUEST_HEADER": (token.REQUEST_HEADER, 16),
    "membership.COUNTS": (membership.COUNTS, 4),
    "membership.REP_COUNTS": (membership.REP_COUNTS, 4),
    "membership.REP": (membership.REP, 8),
    "membership.RING_START": (membership.RING_START, 28),
    "membership.FUTURE_MEMB_ID": (membership.FUTURE_MEMB_ID, 8),
    "membership.NUM_RINGS": (membership.NUM_RINGS, 4),
    "monitor.STATUS_4_4": (monitor.STATUS_4_4, 96),
    "monitor.STATUS_4_3": (monitor.STATUS_4_3, 92),
    "monitor.PARTITION": (monitor.PARTITION, 256),
    "monitor.FLOW_CONTROL_4_4": (monitor.FLOW_CONTROL_4_4, 512),
    "monitor.FLOW_CONTROL_4_3": (monitor.FLOW_CONTROL_4_3, 256),
}

every_record = pytest.mark.parametrize(("layout", "size"), SIZES.values(), ids=SIZES.keys())
orders = pytest.mark.parametrize("order", ["<", ">"])


def test_every_fixed_layout_is_in_the_table():
    listed = {id(layout) for layout, _ in SIZES.values()}
    for module in (message, groups, packet, token, membership, monitor):
        for name, value in vars(module).items():
            if isinstance(value, Layout):
                try:
                    derive(value, "<")
                except TypeError:
                    continue
                assert id(value) in listed, f"{module.__name__}.{name}"


@every_record
@orders
def test_a_derived_codec_has_the_size_of_its_declaration(layout, size, order):
    assert derive(layout, order).size == size
    assert layout.in_order(order).sizeof() == size


@every_record
@orders
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_derived_codec_reads_and_writes_what_its_declaration_does(layout, size, order, data):
    record = Record(layout)
    raw = data.draw(st.binary(min_size=size, max_size=size))
    values = record.unpack(raw, 0, order)
    parsed = layout.parse(raw, order)
    for name, value in values.items():
        assert by_path(parsed, name) == value
    assert record.pack(values, order) == raw
    assert layout.build(parsed, order) == raw


def by_path(container, path):
    for part in path.split("."):
        container = container[int(part)] if part.isdigit() else container[part]
    return container


def test_names_are_dotted_and_arrays_are_numbered():
    layout = declare(
        lambda integers: construct.Struct(
            "id" / construct.Struct("proc" / integers.u32), "row" / construct.Array(2, integers.i16)
        )
    )
    assert list(flatten(layout.little)) == [("id.proc", "L"), ("row.0", "h"), ("row.1", "h")]
    assert Record(layout).names == ("id.proc", "row.0", "row.1")


def test_a_layout_of_variable_size_has_no_codec():
    with pytest.raises(TypeError):
        derive(message.MESSAGE, "<")


def test_a_record_refuses_short_data_and_large_values():
    record = Record(message.GROUP_ID)
    with pytest.raises(ProtocolError):
        record.unpack(bytes(11), 0, "<")
    with pytest.raises(ProtocolError):
        record.pack({"proc_id": 1 << 32})


def test_the_marker_tells_a_record_the_order():
    record = Record(packet.PACKET_HEADER_4_4)
    values = {"type": 0x80000088, "seq": 7}
    assert record.unpack(record.pack(values))["seq"] == 7
    big = record.pack({"type": 0x00000008, "seq": 7}, ">")
    assert record.unpack(big)["seq"] == 7


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@orders
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_header_tables_agree_with_their_declarations(dialect, order, data):
    for table in (dialect.packet, dialect.token):
        raw = data.draw(st.binary(min_size=table.size, max_size=table.size))
        common = dict(zip(table.fields, table.unpack(raw, order), strict=True))
        local = table.record.unpack(raw, 0, order)
        for name, value in common.items():
            assert value == local.get(table.alias.get(name, name), 0)
        written = table.record.unpack(table.pack(tuple(common.values()), order), 0, order)
        local["padding"] = 0
        written["padding"] = 0
        assert written == local
