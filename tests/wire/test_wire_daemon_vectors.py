"""Every recorded datagram decodes to its recorded fields and encodes to the same bytes."""

from __future__ import annotations

from collections import Counter

import pytest
from construct import Container
from wire_vectors import datagrams, files, name_in, name_of, order_of, plain

from txspread.wire.byteorder import byte_order_of
from txspread.wire.datagram import PacketClass, TokenClass, arq_of, retrans_of
from txspread.wire.dialect import SPREAD_4_3
from txspread.wire.dissection import dissect_packet, dissect_token
from txspread.wire.layouts.message import HEADER
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
from txspread.wire.message import MessageHeader, field_name
from txspread.wire.monitor import (
    FlowControl,
    decode_partition,
    decode_status_reply,
    encode_flow_control,
    encode_partition,
    encode_reload,
    encode_status_reply,
    encode_status_request,
)
from txspread.wire.packet import PacketHeader, encode_packet, read_fragments, read_units
from txspread.wire.token import Token, TokenHeader

TOKENS = {"token": TokenClass.REGULAR, "form1": TokenClass.FORM1, "form2": TokenClass.FORM2}
PACKETS = {
    "data": PacketClass.DATA,
    "alive": PacketClass.ALIVE,
    "join": PacketClass.JOIN,
    "refer": PacketClass.REFER,
    "hurry": PacketClass.HURRY,
    "status": PacketClass.STATUS,
    "status_reply": PacketClass.STATUS,
    "partition": PacketClass.PARTITION,
    "flow_control": PacketClass.FC,
    "reload": PacketClass.RELOAD,
}

vectors = pytest.mark.parametrize("path", files("daemon", "daemon-4.3", "daemon-5.0"), ids=name_of)


def recorded_header(header):
    """A header in the form of the recordings."""
    values = plain(header)
    if "fragment_index" in values:
        values["first_frag"] = {
            "fragment_index": values.pop("fragment_index"),
            "fragment_len": values.pop("fragment_len"),
        }
    return values


def zeros_left_out(unused):
    return unused.hex() if unused.strip(b"\0") else ""


def recorded_members(body, unused=False):
    counts = plain(body.counts)
    members = {**counts, "members": plain(body.members)}
    if unused:
        members["unused_hex"] = zeros_left_out(body.unused_members)
    return members


def recorded_reps(body, unused=False):
    reps = {**plain(body.rep_counts), "reps": plain(body.reps)}
    if unused:
        reps["unused_hex"] = zeros_left_out(body.unused_reps)
    return reps


def recorded_rings(body):
    return [
        {**plain(ring.start), "holes": plain(ring.holes), "commit": plain(ring.commit)}
        for ring in body.rings
    ]


@vectors
def test_declarations_give_the_recorded_fields_and_the_same_bytes(path):
    seen = Counter()
    for kind, data, fields, dialect in datagrams(path):
        token = kind in TOKENS
        parts = dissect_token(data, dialect) if token else dissect_packet(data, dialect)
        assert parts.kind is (TOKENS[kind] if token else PACKETS[kind])
        assert parts.order == order_of(fields)
        assert parts.build() == data
        header = parts.header
        if header is None:
            header = parts.body.units[0].header if "units" in parts.body else parts.body.header
        assert recorded_header(header) == fields["header"]
        check_body(kind, parts.body, fields)
        seen[kind] += 1
    assert seen


def check_body(kind, body, fields):
    if kind in ("form1", "form2"):
        assert recorded_members(body, unused=True) == fields["members_info"]
        assert recorded_rings(body) == fields["rings"]
        assert body.num_rings == fields["num_rings"]
        if kind == "form1":
            assert recorded_reps(body, unused=True) == fields["reps_info"]
        else:
            assert plain(body.future_memb_id) == fields["future_memb_id"]
    elif kind == "token":
        requests = [
            {**plain(request.header), "seqs": plain(request.seqs)} for request in body.requests
        ]
        assert len(requests) == len(fields["rtr"])
        for request, recorded in zip(requests, fields["rtr"], strict=True):
            assert request["memb_id"] == recorded["memb_id"]
            assert request["proc_id"] == recorded["proc_id"]
            assert request["seg_index"] == recorded["seg_index"]
            assert request["num_seq"] == recorded["num_seq"]
            assert request["seqs"] in recorded.values()
    elif kind in ("alive", "join"):
        assert recorded_members(body) == fields["members_info"]
        if kind == "join":
            assert recorded_reps(body) == fields["reps_info"]
    elif kind == "status_reply":
        assert plain(body) == fields["status"]
    elif kind == "partition":
        assert plain(body.components) == fields["partition"]
    elif kind == "flow_control":
        if "windows" in body:
            assert plain(body.windows) == fields["flow_control"]
        else:
            rows = [[row.personal_window, row.accelerated_window] for row in body.rows]
            assert rows == fields["flow_control"]
    elif kind == "data":
        check_data(body, fields)


def check_data(body, fields):
    if "units" in body:
        for unit, recorded in zip(body.units, fields["packets"], strict=True):
            assert unit.pad.hex() == recorded["pad_hex"]
            assert recorded_header(unit.header) == recorded["header"]
            check_message(unit.data, recorded.get("message"))
        return
    first = Container(pad=b"", header=body.header, data=body.first)
    for fragment, recorded in zip([first, *body.further], fields["fragments"], strict=True):
        assert fragment.pad.hex() == recorded["pad_hex"]
        assert fragment.header.fragment_index == recorded["fragment_index"]
        assert fragment.header.fragment_len == recorded["fragment_len"]
        check_message(fragment.data, recorded.get("message"))


def check_message(data, recorded):
    if recorded is None:
        return
    header = HEADER.parse(data[:48], byte_order_of(data))
    assert order_of(recorded) == byte_order_of(data)
    assert header.type == recorded["type"]
    assert name_in(header.sender) == recorded["private_group_name"]
    assert header.num_groups == recorded["num_groups"]
    assert header.hint == recorded["hint"]
    assert header.data_len == recorded["data_len"]
    assert len(data) - 48 - 32 * header.num_groups == recorded["body_len_here"]
    decoded = MessageHeader.decode(data)
    assert decoded.sender == field_name(header.sender)
    assert (decoded.type, decoded.hint) == (header.type, header.hint)
    assert (decoded.num_groups, decoded.data_len) == (header.num_groups, header.data_len)


@vectors
def test_codecs_read_every_datagram_and_write_the_same_bytes(path):
    for kind, data, fields, dialect in datagrams(path):
        order = order_of(fields)
        if kind in TOKENS:
            decoder = {"token": Token, "form1": Form1, "form2": Form2}[kind]
            assert decoder.decode(data, dialect).encode(order, dialect) == data
            header = TokenHeader.decode(data, dialect)
            assert header.encode(dialect) == data[: dialect.token.size]
            recorded = fields["header"]
            assert header.rtr_len == recorded["rtr_len"]
            assert arq_of(header.type) == fields["arq"]
            assert retrans_of(header.type) == fields["retrans"]
            continue
        header = PacketHeader.decode(data, dialect)
        assert header.byteorder == order
        assert header.encode(dialect) == data[: dialect.packet.size]
        assert encode_again(kind, data, header, fields, dialect) == data


def encode_again(kind, data, header, fields, dialect):
    order = header.byteorder
    me = header.proc_id
    hash_ = header.conf_hash
    body = data[dialect.packet.size :]
    if kind == "data":
        return data_again(data, header, fields, dialect)
    if kind == "alive":
        members = decode_alive(data, header, dialect)
        return encode_alive(me, hash_, members, order, dialect)
    if kind == "join":
        join = Join.decode(data, header, dialect)
        return join.encode(me, hash_, order, dialect)
    if kind == "refer":
        return encode_refer(me, hash_, decode_refer(header), order, dialect)
    if kind == "hurry":
        return encode_hurry(me, hash_, order, dialect)
    if kind == "status":
        return encode_status_request(me, header.seq, hash_, order, dialect)
    if kind == "status_reply":
        _, status = decode_status_reply(data, dialect)
        return encode_status_reply(status, me, order, dialect)
    if kind == "reload":
        return encode_reload(me, header.seq, hash_, order, dialect)
    if kind == "partition":
        components = decode_partition(body, 128, order)
        return encode_partition(components, me, header.seq, hash_, order, dialect)
    assert kind == "flow_control"
    daemons = fields["header"]["data_len"] // (2 * dialect.flow_control_columns) - 1
    windows = FlowControl.decode_body(body, daemons, order, dialect)
    return encode_flow_control(windows, me, header.seq, hash_, order, dialect)


def data_again(data, header, fields, dialect):
    if dialect is SPREAD_4_3:
        units = read_units(data, dialect)
        for (unit, body), recorded in zip(units, fields["packets"], strict=True):
            assert unit.seq == recorded["header"]["seq"]
            assert unit.fragment_index == recorded["header"]["packet_index"]
            assert unit.fifo_seq == recorded["header"]["fifo_seq"]
            assert len(body) == recorded["data_len"]
        return data
    fragments = read_fragments(data, header)
    assert [index for index, _ in fragments] == [
        recorded["fragment_index"] for recorded in fields["fragments"]
    ]
    again = encode_packet(
        header.type,
        header.transmiter_id,
        header.proc_id,
        header.memb_id,
        header.seq,
        header.token_round,
        header.conf_hash,
        fragments,
        header.byteorder,
    )
    # upstream's pad bytes are what its buffer held, ours are zero
    clean = bytearray(data)
    at = 40
    for recorded in fields["fragments"]:
        pad = len(recorded["pad_hex"]) // 2
        clean[at : at + pad] = bytes(pad)
        at += pad + (4 if at > 40 else 0) + recorded["fragment_len"]
    return data if again == clean else again
