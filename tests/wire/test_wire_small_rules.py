"""Small rules of the wire: classes, packet types, names, sizes, what a codec costs."""

from __future__ import annotations

import ast
from pathlib import Path

import construct
import pytest

import txspread.wire
from txspread.wire import datagram, membership, session
from txspread.wire.byteorder import byte_order_of
from txspread.wire.constants import PacketType, ServiceType, SpreadCode
from txspread.wire.datagram import (
    PacketClass,
    TokenClass,
    arq_of,
    packet_class_of,
    retrans_of,
    token_class_of,
    token_type,
)
from txspread.wire.dialect import DIALECTS, SPREAD_4_3, SPREAD_4_4, SPREAD_5_0, Packing
from txspread.wire.dissection import dissect_packet
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import GroupId, MembershipId, format_address
from txspread.wire.membership import Form1, Representative, RepresentativeType, placeholder_memb_id
from txspread.wire.message import (
    HEADER_LE,
    MessageHeader,
    encode_message,
    encode_reject,
    message_groups,
    packet_type_of,
    rejected_type,
)
from txspread.wire.monitor import encode_status_request
from txspread.wire.names import legal_characters, private_group_name, split_private_group
from txspread.wire.packet import MAX_PACKET_SIZE, PACKET_BODY_SIZE, PACKET_HEADER_SIZE, PacketHeader
from txspread.wire.session import ConnectRequest, refusal
from txspread.wire.token import TOKEN_HEADER_SIZE, request_size

S = ServiceType


@pytest.mark.parametrize(
    ("bits", "packet_type"),
    [
        (S.UNRELIABLE_MESS, PacketType.RELIABLE),
        (S.RELIABLE_MESS, PacketType.RELIABLE),
        (S.FIFO_MESS, PacketType.FIFO),
        (S.CAUSAL_MESS, PacketType.AGREED),
        (S.AGREED_MESS, PacketType.AGREED),
        (S.SAFE_MESS, PacketType.SAFE),
        (S.SAFE_MESS | S.SELF_DISCARD, PacketType.SAFE),
        (S.JOIN_MESS, PacketType.AGREED),
        (S.LEAVE_MESS, PacketType.AGREED),
        (S.KILL_MESS, PacketType.AGREED),
        (S.KILL_MESS | S.SAFE_MESS, PacketType.SAFE),
        (S.GROUPS_MESS | S.RELIABLE_MESS, PacketType.RELIABLE),
        (S.GROUPS_MESS | S.AGREED_MESS, PacketType.AGREED),
        (S.RELIABLE_MESS | S.SAFE_MESS, PacketType.RELIABLE),
    ],
)
def test_a_message_travels_in_packets_of_its_service(bits, packet_type):
    assert packet_type_of(int(bits)) is packet_type
    assert packet_type_of(int(bits) | 0x80000080) is packet_type


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (0x80000088, PacketClass.DATA),
        (0x800000A8, PacketClass.DATA),
        (0x80000081, PacketClass.DATA),
        (0x80000180, PacketClass.ALIVE),
        (0x80000280, PacketClass.JOIN),
        (0x80000480, PacketClass.REFER),
        (0x800000C0, PacketClass.HURRY),
        (0x81000080, PacketClass.STATUS),
        (0x82000080, PacketClass.PARTITION),
        (0x84000080, PacketClass.FC),
        (0x88000080, PacketClass.RELOAD),
        (0x8F000780, PacketClass.PARTITION),
        (0x8D000780, PacketClass.STATUS),
        (0x8C000080, PacketClass.FC),
        (0x88000788, PacketClass.RELOAD),
        (0x800007C8, PacketClass.ALIVE),
        (0x800000C8, PacketClass.HURRY),
        (0x80000080, PacketClass.UNKNOWN),
        (0x800000A0, PacketClass.UNKNOWN),
    ],
)
def test_the_class_of_a_packet_is_its_first_bit_in_upstreams_order(type_, kind):
    assert packet_class_of(type_) is kind


def test_the_class_of_a_token():
    assert token_class_of(0x80F30080) is TokenClass.REGULAR
    assert token_class_of(0x80001080) is TokenClass.FORM1
    assert token_class_of(0x80002080) is TokenClass.FORM2
    assert token_class_of(0x80003080) is TokenClass.FORM1


def test_the_nibbles_of_a_token():
    for arq in range(20):
        for retrans in range(20):
            type_ = token_type(arq, retrans)
            assert (arq_of(type_), retrans_of(type_)) == (arq % 16, retrans % 16)
            assert not type_ & (datagram.FORM | 0x80000080)


def test_the_marker_tells_the_byte_order():
    assert byte_order_of(b"\x80\0\0\x80") == "<"
    assert byte_order_of(b"\xff\xff\xff\xff more") == "<"
    assert byte_order_of(memoryview(b"\x7f\xff\xff\x7f")) == ">"
    for half in (b"\x80\0\0\0", b"\0\0\0\x80", b"\x80\0\0", b""):
        with pytest.raises(ProtocolError):
            byte_order_of(half)


def test_a_private_group_names_one_session():
    assert private_group_name(b"alice", b"d1") == b"#alice#d1"
    assert split_private_group(b"#alice#d1") == (b"alice", b"d1")
    longest = b"#" + b"~" * 10 + b"#" + b"$" * 19
    assert split_private_group(longest) == (b"~" * 10, b"$" * 19)
    for wrong in (
        b"", b"#", b"##", b"#a#", b"##d1", b"a#d1", b"#a#d1#", b"#a#d1 ", b"#a#d\x7f", b"# #d1",
        b"#" + b"a" * 11 + b"#d1", b"#a#" + b"d" * 20, b"#a#d1\n", b"#a\0#d1", b"#\xe4#d1",
    ):  # fmt: skip
        assert split_private_group(wrong) is None, wrong


def test_characters_of_names():
    assert legal_characters(b"$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~")
    for wrong in (b"", b" ", b"#", b'"', b"!", b"\x7f", b"\x80", b"\xff", b"a\0", b"a\n"):
        assert not legal_characters(wrong)


@pytest.mark.parametrize(
    ("flags", "membership", "priority"),
    [(0x00, False, 0), (0x01, True, 0), (0x11, True, 1), (0x7F, True, 7), (0x02, False, 0),
     (0x81, False, 8), (0xFF, False, 15), (0x10, False, 1)],
)  # fmt: skip
def test_the_flag_byte_is_read_as_upstream_reads_a_signed_one(flags, membership, priority):
    request, _ = ConnectRequest.decode(bytes([4, 4, 0, flags, 1]) + b"a")
    assert (request.membership, request.priority) == (membership, priority)


def test_bytes_behind_a_connect_request_stay():
    request, used = ConnectRequest.decode(b"\x04\x04\x00\x01\x02abNULL")
    assert (request.name, used) == (b"ab", 7)
    assert request.negotiates
    assert not ConnectRequest(3, 15, 0, True, 0, b"a").negotiates


def test_reject_codes_are_one_negative_byte():
    assert session.encode_reject(SpreadCode.REJECT_QUOTA) == b"\xfd"
    assert refusal(-9).code is SpreadCode.REJECT_AUTH
    assert refusal(-100).code is SpreadCode.CONNECTION_CLOSED


def test_a_reject_message_carries_what_was_refused():
    refused = encode_message(S.FIFO_MESS | S.SELF_DISCARD, b"#a#d1", [b"deny"], b"body", 5)
    data = encode_reject(refused, S.FIFO_MESS, [b"deny", b"#a#d1"])
    header = MessageHeader.decode(data)
    assert header.type == S.REJECT_MESS | S.SELF_DISCARD | 0x80000080
    assert (header.num_groups, header.data_len, header.mess_type) == (2, 4, 5)
    assert rejected_type(data) == S.FIFO_MESS | 0x80000080
    assert message_groups(data[:48] + data[52:], 2) == [b"deny", b"#a#d1"]
    assert data.endswith(b"body")


def test_the_placeholder_in_a_fresh_form2_is_what_upstream_leaves_there():
    rep = Representative(0x7F000001, RepresentativeType.SEG_REP, 0)
    form = Form1(
        transmiter_id=1, proc_id=1, attempt=MembershipId(1, 2), seq=3, conf_hash=4, members=(1,),
        pending=(), reps=(rep,) * 3, rep_index=3, rings=(),
    )  # fmt: skip
    identifier = placeholder_memb_id(form)
    assert identifier.proc_id.to_bytes(4, "little") == bytes.fromhex("03000300")
    assert identifier.time == 0x7F000001


def test_sizes_that_other_parts_count_with():
    assert (MAX_PACKET_SIZE, PACKET_HEADER_SIZE, PACKET_BODY_SIZE) == (1472, 40, 1432)
    assert TOKEN_HEADER_SIZE == 40
    assert request_size(1) == 20
    assert (SPREAD_4_4.max_packet_body, SPREAD_4_3.max_packet_body) == (1432, 1436)
    assert SPREAD_5_0.max_packet_body == 1432
    assert [dialect.packing for dialect in DIALECTS] == [
        Packing.FRAGMENTS, Packing.UNITS, Packing.FRAGMENTS,
    ]  # fmt: skip
    assert membership.MAX_REPS == 25


def test_a_monitor_of_5_0_names_itself_and_the_real_hash():
    data = encode_status_request(0x5C8D7AEF, 6543, 77, dialect=SPREAD_5_0)
    header = PacketHeader.decode(data, SPREAD_5_0)
    assert (header.transmiter_id, header.conf_hash) == (0x5C8D7AEF, 77)
    assert header.memb_id == (0, 0)
    header = PacketHeader.decode(encode_status_request(1, 6543, 77))
    assert (header.transmiter_id, header.conf_hash) == (0, 1100)
    assert header.memb_id == (15051963, 0)


def test_identifiers():
    assert format_address(0x7F000102) == "127.0.1.2"
    assert GroupId(1, 2, 3).membership_id == MembershipId(1, 2)


def test_a_packet_of_no_known_type_is_not_dissected():
    with pytest.raises(ProtocolError):
        dissect_packet(b"\x80\0\0\x80" + bytes(36))


def test_wire_imports_nothing_that_does_io_or_tells_time():
    forbidden = {"twisted", "socket", "select", "time", "random", "logging", "threading"}
    files = sorted(Path(txspread.wire.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & forbidden, path


def test_hot_codecs_do_without_construct(monkeypatch):
    """An interpreted declaration costs tens of microseconds, which no message may pay."""
    message = encode_message(0x10, b"#alice#d1", [b"group"], bytes(100))
    header = (0x80000090, b"#alice#d1", 1, 0x80000080, 100)

    def refuse(*arguments, **options):
        raise AssertionError("a declaration was interpreted")

    for name in ("parse", "parse_stream", "build", "build_stream", "sizeof"):
        monkeypatch.setattr(construct.Construct, name, refuse)
    assert MessageHeader.decode(message).sender == b"#alice#d1"
    assert len(HEADER_LE.pack(*header)) == 48
    assert encode_message(0x10, b"#alice#d1", [b"group"], bytes(100)) == message
