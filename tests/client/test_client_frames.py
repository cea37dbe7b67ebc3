import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txspread.client.errors import IllegalMessage
from txspread.client.frames import FrameParser
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    SelfLeave,
    TransitionMessage,
    message_size,
    name_bytes,
    name_text,
)
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId
from txspread.wire.membership_message import MembershipBody, encode_group_id
from txspread.wire.message import encode_message

ORDERS = st.sampled_from(["<", ">"])
NAMES = st.binary(min_size=1, max_size=31).filter(lambda name: b"\0" not in name)
SERVICES = st.sampled_from([1, 2, 4, 8, 16, 32, 0x42, 0x40000010])


@st.composite
def data_frames(draw):
    service = draw(SERVICES)
    sender, groups = draw(NAMES), draw(st.lists(NAMES, max_size=5))
    body, number = draw(st.binary(max_size=200)), draw(st.integers(-32768, 32767))
    order = draw(ORDERS)
    message = DataMessage(
        ServiceType(service),
        name_text(sender),
        tuple(name_text(group) for group in groups),
        number,
        order,
        body,
    )
    return encode_message(service, sender, groups, body, number, order), message


@st.composite
def membership_frames(draw):
    order = draw(ORDERS)
    group, members = draw(NAMES), draw(st.lists(NAMES, min_size=1, max_size=6))
    group_id = GroupId(draw(st.integers(0, 2**32 - 1)), draw(st.integers(-(2**31), 2**31 - 1)), 1)
    cut = draw(st.integers(0, len(members)))
    sets = (tuple(members[:cut]), tuple(members[cut:]))
    mine = draw(st.integers(0, 1))
    body = MembershipBody(group_id, 4 + 32 * cut if mine else 0, sets).encode(order)
    message = MembershipMessage(
        ServiceType(0x1800),
        name_text(group),
        tuple(map(name_text, members)),
        -1,
        group_id,
        tuple(tuple(map(name_text, names)) for names in sets),
        mine,
    )
    return encode_message(0x1800, group, members, body, 0, order), message


@st.composite
def short_frames(draw):
    order, group = draw(ORDERS), draw(NAMES)
    if draw(st.booleans()):
        leave = SelfLeave(ServiceType(0x200), name_text(group))
        return encode_message(0x200, group, [], b"", 0, order), leave
    group_id = GroupId(draw(st.integers(0, 2**32 - 1)), 5, draw(st.integers(-9, 9)))
    body = encode_group_id(group_id, order)
    return (
        encode_message(0x2000, group, [], body, 0, order),
        TransitionMessage(ServiceType(0x2000), name_text(group), group_id),
    )


@given(
    st.lists(st.one_of(data_frames(), membership_frames(), short_frames()), max_size=8),
    st.integers(1, 300),
)
@settings(max_examples=60, deadline=None)
def test_frames_of_either_order_are_read_however_the_stream_is_cut(frames, step):
    stream = b"".join(frame for frame, _ in frames)
    parser = FrameParser("#me#here")
    messages = []
    for at in range(0, len(stream), step):
        messages += parser.feed(stream[at : at + step])
    assert messages == [message for _, message in frames]
    assert parser.held == 0


@given(st.lists(data_frames(), max_size=4), st.binary(max_size=300), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_messages_or_the_one_error(frames, garbage, step):
    stream = b"".join(frame for frame, _ in frames) + garbage
    parser = FrameParser("#me#here")
    for at in range(0, len(stream), step):
        if parser.problem is not None:
            with pytest.raises(IllegalMessage):
                parser.feed(stream[at : at + step])
            continue
        with contextlib.suppress(IllegalMessage):
            for message in parser.feed(stream[at : at + step]):
                assert message_size(message) >= 48


@given(st.one_of(data_frames(), membership_frames()), st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_frame_is_a_message_or_the_one_error(frame, data):
    damaged = bytearray(frame[0])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    parser = FrameParser("#me#here")
    messages = []
    with contextlib.suppress(IllegalMessage):
        messages = parser.feed(bytes(damaged))
    assert len(messages) <= 1
    assert not (parser.problem and messages)


def test_missing_never_reaches_into_the_next_message():
    frame = encode_message(16, b"#a#b", [b"g"], b"x" * 1000)
    parser = FrameParser("#me#here")
    stream = frame * 3
    at, reads, messages = 0, 0, []
    while at < len(stream):
        size = parser.missing
        messages += parser.feed(stream[at : at + size])
        at += size
        reads += 1
    assert (reads, len(messages)) == (6, 3)


def header(kind, count, length):
    return struct.pack("<I32siII", kind | 0x80000080, b"#a#b", count, 0x80000080, length)


@pytest.mark.parametrize(
    "data",
    [
        header(16, -1, 0),
        header(16, 101, 0),
        header(16, 0, 0x80000000),
        header(16, 1, 144001),
        header(0x400000, 101, 0),
        header(0x1800, 1_000_000, 20),
        header(0x1800, 1, 0x7FFFFFFF),
        header(0x1800, -5, 20),
        header(0, 0, 0),
        header(0x10000, 0, 0),
        header(0x2000, 0, 5) + b"12345",
        header(0x1800, 0, 20) + b"\0" * 12 + struct.pack("<II", 1, 0),
        header(0x1800, 0, 20) + b"\0" * 12 + struct.pack("<II", 0xFFFFFFFF, 0),
        header(0x1800, 0, 24) + b"\0" * 12 + struct.pack("<III", 1, 4, 0),
        header(0x1800, 0, 24) + b"\0" * 12 + struct.pack("<III", 1, 0, 0xFFFFFFFF),
        b"\x90" + header(16, 0, 0)[1:3] + b"\0" + header(16, 0, 0)[4:],
    ],
)
def test_impossible_frames_are_refused_as_soon_as_their_bytes_are_there(data):
    with pytest.raises(IllegalMessage):
        FrameParser("#me#here").feed(data)


def test_a_view_tells_the_own_place():
    group_id = GroupId(1, 2, 3)
    members = [b"#a#d", b"#me#here", b"#z#d"]
    body = MembershipBody(group_id, 0, ((b"#z#d",),)).encode()
    (view,) = FrameParser("#me#here").feed(encode_message(0x1100, b"room", members, body))
    assert (view.index, view.changed_member, view.vs_set_index) == (1, "#z#d", 0)


def test_any_name_survives_the_way_through_text():
    name = bytes(range(1, 32)) + b"\xff"
    assert name_bytes(name_text(name)) == name
