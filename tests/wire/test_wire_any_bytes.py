"""Any bytes at all either parse or raise ProtocolError, and never anything else."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
import wire_values as values
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_vectors import datagrams, files, load

from txspread.wire.byteorder import byte_order_of
from txspread.wire.dialect import DIALECTS, SPREAD_4_3, SPREAD_5_0
from txspread.wire.dissection import dissect_packet, dissect_token
from txspread.wire.errors import ProtocolError
from txspread.wire.groups import GroupsMessage
from txspread.wire.layouts import groups as groups_layouts
from txspread.wire.layouts import message as message_layouts
from txspread.wire.membership import Form1, Form2, Join, decode_alive, decode_refer
from txspread.wire.membership_message import MembershipBody, decode_group_id
from txspread.wire.message import (
    MessageHeader,
    encode_reject,
    message_groups,
    normalize,
    packet_type_of,
    rejected_type,
)
from txspread.wire.monitor import (
    FlowControl,
    decode_partition,
    decode_status_reply,
    read_packet,
)
from txspread.wire.packet import PacketHeader, read_fragments, read_units, restamp
from txspread.wire.session import (
    AcceptReply,
    ConnectRequest,
    decode_auth_choice,
    decode_auth_list,
    decode_password,
)
from txspread.wire.token import Token, TokenHeader


def packet_with(decode):
    """A decoder that needs the header."""

    def decoder(data):
        return decode(data, PacketHeader.decode(data))

    return decoder


def whole_message(data):
    header = MessageHeader.decode(data)
    packet_type_of(header.type)
    return message_groups(data, header.num_groups)


def membership_body(data):
    body = MembershipBody.decode(data, "<")
    return body.local_vs_set


DECODERS = {
    "byte order": byte_order_of,
    "message header": MessageHeader.decode,
    "message": whole_message,
    "normalize": normalize,
    "rejected type": rejected_type,
    "reject": lambda data: encode_reject(data, 4, [b"g"]),
    "declared message": message_layouts.MESSAGE.parse,
    "declared reject": message_layouts.REJECT.parse,
    "declared membership body": lambda data: message_layouts.MEMBERSHIP_BODY.parse(data, ">"),
    "membership body": membership_body,
    "membership body, big-endian": lambda data: MembershipBody.decode(data, ">"),
    "group id": decode_group_id,
    "groups": GroupsMessage.decode,
    "declared groups": groups_layouts.GROUPS_MESSAGE.parse,
    "packet header": PacketHeader.decode,
    "fragments": packet_with(read_fragments),
    "restamp": lambda data: restamp(data, 0x20, 0, 1, 2),
    "token header": TokenHeader.decode,
    "token": Token.decode,
    "token 4.3": lambda data: Token.decode(data, SPREAD_4_3),
    "token 5.0": lambda data: Token.decode(data, SPREAD_5_0),
    "form1": Form1.decode,
    "form1 4.3": lambda data: Form1.decode(data, SPREAD_4_3),
    "form2": Form2.decode,
    "form2 5.0": lambda data: Form2.decode(data, SPREAD_5_0),
    "alive": packet_with(decode_alive),
    "join": packet_with(Join.decode),
    "refer": lambda data: decode_refer(PacketHeader.decode(data)),
    "status": decode_status_reply,
    "monitor packet": read_packet,
    "partition": lambda data: decode_partition(data, 7, "<"),
    "flow control": lambda data: FlowControl.decode_body(data, 7, ">"),
    "flow control 4.3": lambda data: FlowControl.decode_body(data, 7, "<", SPREAD_4_3),
    "units": lambda data: read_units(data, SPREAD_4_3),
    "connect request": ConnectRequest.decode,
    "auth list": decode_auth_list,
    "auth choice": decode_auth_choice,
    "password": decode_password,
    "accept reply": AcceptReply.decode,
    "old accept reply": lambda data: AcceptReply.decode(data, patch=False),
} | {
    f"{what} {dialect.name}": (lambda data, do=do, dialect=dialect: do(data, dialect))
    for dialect in DIALECTS
    for what, do in (("dissected packet", dissect_packet), ("dissected token", dissect_token))
}

every_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())


def parses_or_refuses(decoder, data):
    with suppress(ProtocolError):
        decoder(data)


marked = st.builds(
    lambda data, little: (
        bytes([data[0] | 0x80, *data[1:3], data[3] | 0x80, *data[4:]])
        if little
        else bytes([data[0] & 0x7F, *data[1:3], data[3] & 0x7F, *data[4:]])
    ),
    st.binary(min_size=4, max_size=1500),
    st.booleans(),
)


@every_decoder
@settings(max_examples=60)
@given(data=st.binary(max_size=1500) | marked)
@example(data=b"")
@example(data=b"\xff" * 1472)
@example(data=bytes(1472))
@example(data=b"\x80\0\0\x80" + b"\xff" * 200)
def test_arbitrary_bytes(decoder, data):
    parses_or_refuses(decoder, data)


def damaged(data, rng):
    """Recorded bytes with a few of them changed, cut or repeated."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if changed:
            at = rng.randrange(min(len(changed), rng.choice([4, 60, 800, 1 << 20])))
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    how = rng.randrange(4)
    if how == 0:
        del changed[rng.randrange(len(changed) + 1) :]
    elif how == 1:
        changed += changed[: rng.randrange(64)]
    return bytes(changed)


def recorded_bytes():
    for path in files("daemon", "daemon-4.3", "daemon-5.0"):
        every = list(datagrams(path))
        for kind in {kind for kind, *_ in every}:
            yield from [data for of, data, *_ in every if of == kind][:6]
    for path in files("groups"):
        for message in load(path)["daemon_messages"][:20]:
            yield bytes.fromhex(message["hex"])
    for path in files("client"):
        for event in load(path)["events"][:12]:
            yield bytes.fromhex(event["hex"])[:2000]


def test_damaged_recordings():
    rng = random.Random(4803)
    tried = 0
    for data in recorded_bytes():
        for _ in range(3):
            broken = damaged(data, rng)
            for decoder in DECODERS.values():
                parses_or_refuses(decoder, broken)
            tried += 1
    assert tried > 3000


@settings(max_examples=50)
@given(form=values.form1s(), at=st.integers(0, 1500), byte=st.integers(0, 255))
def test_one_wrong_byte_in_a_form_token(form, at, byte):
    data = bytearray(form.encode(form.byteorder))
    data[at % len(data)] = byte
    parses_or_refuses(Form1.decode, bytes(data))


@given(state=values.groups_messages, at=st.integers(0, 5000), byte=st.integers(0, 255))
def test_one_wrong_byte_in_a_state_message(state, at, byte):
    data = bytearray(state.encode())
    data[at % len(data)] = byte
    parses_or_refuses(GroupsMessage.decode, bytes(data))
