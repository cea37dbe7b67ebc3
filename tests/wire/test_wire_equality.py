"""Declaration and fast codec say the same, on arbitrary values, orders and dialects."""

from __future__ import annotations

import attrs
import wire_values as values
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_vectors import plain

from txspread.wire.datagram import PacketClass
from txspread.wire.dialect import SPREAD_4_3, SPREAD_4_4
from txspread.wire.dissection import dissect_packet, dissect_token
from txspread.wire.groups import GroupsMessage
from txspread.wire.layouts import groups as groups_layouts
from txspread.wire.layouts import message as message_layouts
from txspread.wire.layouts import session as handshake
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    decode_alive,
    decode_refer,
    encode_alive,
    encode_hurry,
    encode_refer,
)
from txspread.wire.membership_message import MembershipBody
from txspread.wire.message import (
    HEADER_BE,
    HEADER_LE,
    MessageHeader,
    encode_message,
    field_name,
    hint_for,
    hint_order_of,
    mess_type_of,
    message_groups,
    name_field,
    normalize,
)
from txspread.wire.monitor import (
    FlowControl,
    Status,
    decode_partition,
    decode_status_reply,
    encode_flow_control,
    encode_partition,
    encode_status_reply,
    read_packet,
)
from txspread.wire.packet import (
    PacketHeader,
    encode_bare,
    encode_packet,
    read_fragments,
    read_units,
    restamp,
)
from txspread.wire.session import ConnectRequest, decode_auth_choice, encode_auth_choice
from txspread.wire.token import Token, TokenHeader

MARKER = 0x80000080


def memb(identifier):
    return {"proc_id": identifier.proc_id, "time": identifier.time}


@given(
    values.u32, values.names, st.lists(values.names, max_size=5), st.binary(max_size=99),
    values.i16, values.orders,
)  # fmt: skip
def test_messages(type_, sender, groups, body, mess_type, order):
    data = encode_message(type_, sender, groups, body, mess_type, order)
    parsed = message_layouts.MESSAGE.parse(data, order)
    assert parsed.header.type & ~MARKER == type_ & ~MARKER
    assert parsed.header.type & MARKER == (MARKER if order == "<" else 0)
    assert parsed.header.sender == name_field(sender)
    assert list(parsed.groups) == [name_field(group) for group in groups]
    assert parsed.body == body
    assert message_layouts.MESSAGE.build(parsed, order) == data
    header = MessageHeader.decode(data)
    assert header.type == parsed.header.type
    assert header.sender == sender
    assert header.num_groups == parsed.header.num_groups == len(groups)
    assert header.hint == parsed.header.hint
    assert header.data_len == parsed.header.data_len == len(body)
    assert header.byteorder == order
    assert header.mess_type == mess_type
    assert message_groups(data, len(groups)) == groups


@given(st.binary(min_size=48, max_size=48), values.orders)
def test_message_headers(raw, order):
    fast = (HEADER_LE if order == "<" else HEADER_BE).unpack(raw)
    declared = message_layouts.HEADER.parse(raw, order)
    assert fast == tuple(plain(declared).values())
    assert field_name(fast[1]) == fast[1].split(b"\0")[0]


@given(values.i16, values.orders, values.orders)
def test_a_hint_is_read_right_whoever_wrote_and_swapped_it(mess_type, writer, reader):
    written = hint_for(mess_type, writer)
    raw = written.to_bytes(4, "little" if writer == "<" else "big")
    read = int.from_bytes(raw, "little" if reader == "<" else "big")
    assert mess_type_of(read, reader) == mess_type
    assert hint_order_of(read) == writer


@given(values.u32, values.names, st.lists(values.names, max_size=3), values.i16, values.orders)
def test_normalizing_keeps_all_but_the_order(type_, sender, groups, mess_type, order):
    data = encode_message(type_, sender, groups, b"body", mess_type, order)
    little = normalize(data)
    before, after = MessageHeader.decode(data), MessageHeader.decode(little)
    assert after.byteorder == "<"
    assert little[4:36] + little[40:44] + little[48:] == data[4:36] + data[40:44] + data[48:]
    assert after.mess_type == before.mess_type
    assert (after.num_groups, after.data_len) == (before.num_groups, before.data_len)
    assert normalize(little) == little


@given(values.groups_messages, values.orders)
def test_state_messages(state, order):
    data = state.encode(order)
    assert GroupsMessage.decode(data) == state
    parsed = groups_layouts.GROUPS_MESSAGE.parse(data)
    assert groups_layouts.GROUPS_MESSAGE.build(parsed, order) == data
    assert [field_name(group.start.name) for group in parsed.groups] == [
        group.name for group in state.groups
    ]
    assert parsed.header.set_size == state.set_size
    if state.synced_set is None:
        assert parsed.synced_set is None
    else:
        assert tuple(parsed.synced_set.daemons) == state.synced_set


@given(values.membership_bodies, values.orders)
def test_membership_bodies(body, order):
    data = body.encode(order)
    assert MembershipBody.decode(data, order) == body
    parsed = message_layouts.MEMBERSHIP_BODY.parse(data, order)
    assert message_layouts.MEMBERSHIP_BODY.build(parsed, order) == data
    assert plain(parsed.start.group_id) == attrs.asdict(body.group_id)
    assert [len(vs_set.members) for vs_set in parsed.vs_sets] == list(map(len, body.vs_sets))


@given(values.tokens, values.orders, values.dialects)
def test_tokens(token, order, dialect):
    if dialect is SPREAD_4_3:
        token.memb_id = token.memb_id._replace(proc_id=0, time=0)
    data = token.encode(order, dialect)
    marker = MARKER if order == "<" else 0
    decoded = Token.decode(data, dialect)
    assert decoded.type == token.type | marker
    decoded.type &= ~MARKER
    assert decoded == token
    assert decoded.arq == token.type >> 16 & 15
    assert decoded.retrans == token.type >> 20 & 15
    parts = dissect_token(data, dialect)
    assert parts.build() == data
    assert parts.header.aru_last_id == token.aru_last_id
    assert parts.header.flow_control == token.flow_control
    assert [tuple(request.seqs) for request in parts.body.requests] == [
        request.seqs for request in token.requests
    ]
    assert [plain(request.header.memb_id) for request in parts.body.requests] == [
        memb(request.memb_id) for request in token.requests
    ]
    header = TokenHeader.decode(data, dialect)
    assert header.encode(dialect) == data[: dialect.token.size]


@settings(max_examples=50)
@given(values.form1s(), values.orders, values.dialects)
def test_form1(form, order, dialect):
    if dialect is SPREAD_4_3:
        form = attrs.evolve(form, attempt=form.attempt._replace(proc_id=0, time=0))
    form = attrs.evolve(form, byteorder=order)
    data = form.encode(order, dialect)
    assert Form1.decode(data, dialect) == form
    parts = dissect_token(data, dialect)
    assert parts.build() == data
    check_form(parts.body, form)
    assert [rep.proc_id for rep in parts.body.reps] == [rep.proc_id for rep in form.reps]
    assert parts.body.rep_counts.rep_index == form.rep_index


@settings(max_examples=50)
@given(values.form2s(), values.orders, values.dialects)
def test_form2(form, order, dialect):
    if dialect is SPREAD_4_3:
        form = attrs.evolve(form, attempt=form.attempt._replace(proc_id=0, time=0))
    form = attrs.evolve(form, byteorder=order)
    data = form.encode(order, dialect)
    assert Form2.decode(data, dialect) == form
    parts = dissect_token(data, dialect)
    assert parts.build() == data
    check_form(parts.body, form)
    assert plain(parts.body.future_memb_id) == memb(form.future_memb_id)


def check_form(body, form):
    assert tuple(body.members) == form.members + form.pending
    assert body.counts.num_pending == len(form.pending)
    for block, ring in zip(body.rings, form.rings, strict=True):
        assert plain(block.start.memb_id) == memb(ring.memb_id)
        assert (block.start.trans_time, block.start.aru) == (ring.trans_time, ring.aru)
        assert block.start.highest_seq == ring.highest_seq
        assert tuple(block.holes) == ring.holes
        assert tuple(block.commit) == ring.commit
        assert block.start.num_trans == ring.num_trans
        assert ring.size == 28 + 4 * block.start.num_holes + 4 * block.start.num_commit


@given(
    values.u32, values.u32, values.u32, values.membership_ids, values.i32, values.i32,
    values.u32, st.lists(st.binary(min_size=1, max_size=140), min_size=1, max_size=8),
    st.integers(-100, 100), values.orders,
)  # fmt: skip
def test_data_packets(type_, tx, proc, memb_id, seq, round_, hash_, bodies, index, order):
    type_ = type_ & 0x1F | 8
    fragments = [(index, bodies[0]), *((-1, body) for body in bodies[1:])]
    data = encode_packet(type_, tx, proc, memb_id, seq, round_, hash_, fragments, order)
    header = PacketHeader.decode(data)
    assert header.encode() == data[:40]
    assert (header.transmiter_id, header.proc_id, header.memb_id) == (tx, proc, memb_id)
    assert (header.seq, header.token_round, header.conf_hash) == (seq, round_, hash_)
    assert read_fragments(data, header) == fragments
    parts = dissect_packet(data)
    assert parts.kind is PacketClass.DATA
    assert parts.build() == data
    assert [parts.body.first, *(part.data for part in parts.body.further)] == bodies
    assert all(not part.pad.strip(b"\0") for part in parts.body.further)


@given(st.lists(st.tuples(st.binary(max_size=60), values.i16, values.i32), min_size=1, max_size=6))
def test_units_of_4_3(units):
    data = b""
    for body, index, fifo_seq in units:
        data += b"padd"[: -len(data) % 4]
        data += PacketHeader(
            8, 1, 2, values.MembershipId(3, 4), 5, 0, 6, len(body), index, 0, "<", fifo_seq
        ).encode(SPREAD_4_3)
        data += body
    read = read_units(data, SPREAD_4_3)
    assert [(body, head.fragment_index, head.fifo_seq) for head, body in read] == units
    parts = dissect_packet(data, SPREAD_4_3)
    assert parts.build() == data
    assert [unit.data for unit in parts.body.units] == [body for body, _, _ in units]


@given(values.joins, values.u32, values.u32, values.orders, values.dialects)
def test_joins(join, me, hash_, order, dialect):
    data = join.encode(me, hash_, order, dialect)
    header = PacketHeader.decode(data, dialect)
    assert Join.decode(data, header, dialect) == join
    parts = dissect_packet(data, dialect)
    assert parts.build() == data
    assert tuple(parts.body.members) == join.members
    assert [plain(rep) for rep in parts.body.reps] == [attrs.asdict(rep) for rep in join.reps]


@given(
    st.lists(values.u32, max_size=128), values.reps, values.u32, values.u32, values.orders,
    values.dialects,
)  # fmt: skip
def test_alive_refer_and_hurry(members, rep, me, hash_, order, dialect):
    data = encode_alive(me, hash_, members, order, dialect)
    header = PacketHeader.decode(data, dialect)
    assert list(decode_alive(data, header, dialect)) == members
    assert list(dissect_packet(data, dialect).body.members) == members
    data = encode_refer(me, hash_, rep, order, dialect)
    assert decode_refer(PacketHeader.decode(data, dialect)) == attrs.evolve(rep, seg_index=-1)
    assert dissect_packet(data, dialect).kind is PacketClass.REFER
    data = encode_hurry(me, hash_, order, dialect)
    assert dissect_packet(data, dialect).kind is PacketClass.HURRY
    assert PacketHeader.decode(data, dialect).proc_id == me


@given(values.statuses(), values.u32, values.orders, values.dialects)
def test_statuses(status, me, order, dialect):
    if dialect is SPREAD_4_3:
        status = attrs.evolve(status, accelerated_ring=0, accelerated_window=0)
    data = encode_status_reply(status, me, order, dialect)
    header, decoded = decode_status_reply(data, dialect)
    assert decoded == status
    assert (header.proc_id, header.transmiter_id, header.conf_hash) == (me, 0, 0)
    parts = dissect_packet(data, dialect)
    assert parts.build() == data
    expected = attrs.asdict(status)
    if dialect is SPREAD_4_3:
        del expected["accelerated_ring"], expected["accelerated_window"]
    assert plain(parts.body) == expected


def test_counters_of_a_status_wrap():
    status = Status(packet_sent=0x80000000, membership_changes=0x12345, my_id=-1)
    decoded = Status.decode_body(status.encode_body(), "<")
    assert decoded.packet_sent == -0x80000000
    assert decoded.membership_changes == 0x2345
    assert decoded.my_id == 0xFFFFFFFF


@given(st.lists(values.i16, max_size=128), values.orders, values.dialects)
def test_partitions(components, order, dialect):
    data = encode_partition(components, 1, 2, 3, order, dialect)
    header, body = read_packet(data, dialect)
    assert list(decode_partition(body, len(components), header.byteorder)) == components
    parts = dissect_packet(data, dialect)
    assert parts.build() == data
    assert list(parts.body.components[: len(components)]) == components


@given(
    st.lists(st.tuples(values.i16, values.i16), max_size=128), values.i16, values.orders,
    values.dialects,
)  # fmt: skip
def test_flow_control(rows, window, order, dialect):
    personal = tuple(row[0] for row in rows)
    accelerated = tuple(row[1] for row in rows)
    windows = FlowControl(window, personal, accelerated)
    data = encode_flow_control(windows, 1, 2, 3, order, dialect)
    header, body = read_packet(data, dialect)
    decoded = FlowControl.decode_body(body, len(rows), header.byteorder, dialect)
    assert decoded.window == (window if len(rows) < 128 else -1)
    assert decoded.personal_windows == personal
    if dialect.flow_control_columns == 2:
        assert decoded.accelerated_windows == accelerated
    else:
        assert not any(decoded.accelerated_windows)
    assert dissect_packet(data, dialect).build() == data


@given(values.u32, values.u32, values.u32, st.binary(max_size=40), values.orders)
def test_restamping_changes_what_it_says_and_nothing_else(tx, hash_, type_, body, order):
    memb_id = values.MembershipId(5, -6)
    data = encode_bare(type_, 1, 2, memb_id, 3, body, 7, order)
    again = restamp(data, 0x20, 0x40, tx, hash_)
    before, after = PacketHeader.decode(data), PacketHeader.decode(again)
    assert after.type == before.type & ~0x40 | 0x20
    assert (after.transmiter_id, after.conf_hash) == (tx, hash_)
    assert attrs.evolve(after, type=before.type, transmiter_id=1, conf_hash=3) == before
    assert again[40:] == body


@given(
    st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127), st.booleans(),
    st.integers(0, 7), st.binary(max_size=10),
)  # fmt: skip
def test_connect_requests(major, minor, patch, membership, priority, name):
    sends_patch = 10000 * major + 100 * minor > 31400
    request = ConnectRequest(
        major, minor, patch if sends_patch else None, membership, priority, name
    )
    data = request.encode()
    parsed = handshake.CONNECT_REQUEST.parse(data)
    assert (parsed.version.major, parsed.version.minor) == (major, minor)
    assert parsed.patch == (patch if sends_patch else None)
    assert parsed.name == name
    assert handshake.CONNECT_REQUEST.build(parsed) == data
    if request.version >= 30100 and all(0x24 <= byte <= 0x7E for byte in name):
        assert ConnectRequest.decode(data) == (request, len(data))
        for cut in range(len(data)):
            assert ConnectRequest.decode(data[:cut]) is None


@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda n: b"\0" not in n), max_size=3))
def test_authentication_choices(methods):
    data = encode_auth_choice(methods)
    assert decode_auth_choice(data) == tuple(methods)
    assert [field_name(slot) for slot in handshake.AUTH_CHOICE.parse(data).slots] == (
        methods + [b""] * (3 - len(methods))
    )


def test_tables_and_the_hot_path_agree_for_4_4():
    data = encode_packet(8, 1, 2, values.MembershipId(3, 4), 5, 6, 7, [(-1, b"x")])
    values_read = SPREAD_4_4.packet.unpack(data, "<")
    header = PacketHeader.decode(data)
    assert values_read == (
        header.type, header.transmiter_id, header.proc_id, *header.memb_id, header.seq,
        header.token_round, header.conf_hash, header.data_len, header.fragment_index,
        header.fragment_len, header.fifo_seq,
    )  # fmt: skip
