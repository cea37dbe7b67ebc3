"""What clients send: every check, and every input that hurts upstream."""

from __future__ import annotations

import struct

import pytest
from session_fakes import Client, World, split_frames

from txspread.engine.alarms import Category
from txspread.wire.constants import PacketType
from txspread.wire.message import encode_message, name_field

FIFO = 0x04
JOIN = 0x10000
LEAVE = 0x20000
KILL = 0x40000
LE = 0x80000080
LARGEST = 143200


def frame(
    type_: int = FIFO,
    sender: bytes = b"#alice#d1",
    groups: int | None = None,
    hint: int = LE,
    data_len: int | None = None,
    names: tuple[bytes, ...] = (b"g",),
    body: bytes = b"",
    order: str = "<",
) -> bytes:
    """A frame in which every field can be wrong."""
    header = struct.pack(
        order + "I32siIi",
        type_,
        sender,
        len(names) if groups is None else groups,
        hint,
        len(body) if data_len is None else data_len,
    )
    return header + b"".join(name.ljust(32, b"\0") for name in names) + body


def little(type_: int = FIFO, **fields: object) -> bytes:
    return frame(type_ | LE, **fields)  # type: ignore[arg-type]


class Room:
    """Alice, who may misbehave, and Bob, who must not notice."""

    def __init__(self) -> None:
        self.world = World()
        self.bob = self.world.connect(b"bob")
        self.bob.join(b"g")
        self.alice = self.world.connect(b"alice")
        self.alice.join(b"g")
        self.bob.frames()
        self.alice.frames()
        self.world.alarms.lines.clear()
        self.world.ordering.submitted.clear()

    def offend(self, data: bytes) -> list[str]:
        """Alice sends something illegal; what the log says of it."""
        self.alice.send(data)
        assert not self.alice.alive
        assert self.world.ordering.submitted == [
            (encode_message(0x40020, b"#alice#d1", ()), PacketType.SAFE)
        ]
        self._bob_is_well()
        *reasons, killing = self.world.alarms.texts
        assert killing == "Sess_kill: killing session alice ( mailbox 12 )"
        assert len(reasons) == 1
        return reasons

    def _bob_is_well(self) -> None:
        disconnect, *others = self.bob.frames()
        assert disconnect[:2] == b"\x80\x14"
        assert others == []
        message = self.bob.message(FIFO, [b"g"], b"still here")
        self.bob.send(message)
        assert self.bob.frames() == [message]


@pytest.fixture
def room() -> Room:
    return Room()


# --- the type word


@pytest.mark.parametrize(
    "type_",
    [
        0,
        0x06,
        0x3F,
        0x05,
        FIFO | JOIN,
        0x20 | KILL,
        JOIN | LEAVE,
        JOIN | KILL,
        JOIN | LEAVE | KILL,
        0x40,
        0x01000000,
        0x00001100,
    ],
)
def test_exactly_one_service_or_request_bit(room: Room, type_: int) -> None:
    assert room.offend(little(type_)) == [
        f"Sess_validate_read_header: Message has illegal type field 0x{type_ | LE:x}"
    ]


@pytest.mark.parametrize(
    "bit",
    [
        *(1 << number for number in range(8, 14)),
        1 << 14,
        1 << 15,
        1 << 20,
        1 << 21,
        1 << 23,
    ],
)
@pytest.mark.parametrize("base", [FIFO, JOIN, LEAVE, KILL])
def test_bits_that_no_library_sends_are_refused(room: Room, base: int, bit: int) -> None:
    room.offend(little(base | bit))


@pytest.mark.parametrize("base", [JOIN, LEAVE, KILL])
@pytest.mark.parametrize("bit", [1 << number for number in range(24, 31)])
def test_requests_carry_no_flush_library_bits(room: Room, base: int, bit: int) -> None:
    room.offend(little(base | bit))


@pytest.mark.parametrize("bit", [0, 0x40, *(1 << number for number in range(24, 31))])
@pytest.mark.parametrize("service", [1 << number for number in range(6)])
def test_service_bits_pass_with_self_discard_and_flush_library_bits(
    room: Room, service: int, bit: int
) -> None:
    message = little(service | bit, body=b"x")
    room.alice.send(message)
    assert room.bob.frames() == [message]
    assert room.alice.frames() == ([] if bit == 0x40 else [message])


@pytest.mark.parametrize(
    ("service", "packet_type"),
    [
        (1, PacketType.RELIABLE),
        (2, PacketType.RELIABLE),
        (4, PacketType.FIFO),
        (8, PacketType.AGREED),
        (16, PacketType.AGREED),
        (32, PacketType.SAFE),
        (JOIN, PacketType.AGREED),
        (LEAVE, PacketType.AGREED),
        (KILL, PacketType.AGREED),
    ],
)
@pytest.mark.parametrize("discard", [0, 0x40])
def test_service_decides_the_packet_type(
    room: Room, service: int, packet_type: PacketType, discard: int
) -> None:
    room.alice.send(little(service | discard))
    assert room.world.ordering.submitted[0][1] is packet_type


@pytest.mark.parametrize("marker", [0x80, 0x80000000])
def test_half_a_byte_order_marker_is_illegal(room: Room, marker: int) -> None:
    room.offend(frame(FIFO | marker))


# --- the other fields


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        (b"#bob#d1", "PRINT:Session bob trying to make session alice do something"),
        (b"#alice#d2", "proc name d2 is not my name d1"),
        (b"#alicex#d1", "PRINT:Session alicex trying to make session alice do something"),
        (b"#ALICE#d1", "PRINT:Session ALICE trying to make session alice do something"),
        (b"", "Message has illegal private_group_name (priv, proc)"),
        (b"alice", "Message has illegal private_group_name (priv, proc)"),
        (b"#alice", "Message has illegal private_group_name (priv, proc)"),
        (b"#alice#", "Message has illegal private_group_name (priv, proc)"),
        (b"##d1", "Message has illegal private_group_name (priv, proc)"),
        (b"#alice#d1#", "Message has illegal private_group_name (priv, proc)"),
        (b"#ali ce#d1", "Message has illegal private_group_name (priv, proc)"),
        (b"#" + b"a" * 11 + b"#d1", "Message has illegal private_group_name (priv, proc)"),
        (b"#a#" + b"d" * 29, "Message has illegal private_group_name (priv, proc)"),
        (b"\xff" * 32, "Message has illegal private_group_name (priv, proc)"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_sender_must_be_the_session(room: Room, sender: bytes, reason: str, order: str) -> None:
    type_ = FIFO | LE if order == "<" else FIFO
    said = room.offend(frame(type_, sender, order=order))
    category, _, _ = room.world.alarms.lines[0]
    assert category is (Category.PRINT if reason.startswith("PRINT:") else Category.SESSION)
    assert said == ["Sess_validate_read_header: " + reason.removeprefix("PRINT:")]


def test_bytes_behind_the_senders_name_are_zeroed(room: Room) -> None:
    dirty = little(sender=b"#alice#d1\0" + b"\xaa" * 22, body=b"x")
    room.alice.send(dirty)
    assert room.bob.frames() == [little(body=b"x")]


def test_longest_private_group_fills_31_bytes() -> None:
    world = World(me_name=b"d" * 19)
    client = world.connect(b"n" * 10)
    assert len(client.private_group) == 31
    message = client.message(FIFO, [client.private_group], b"x")
    client.send(message[:35] + b"\xff" + message[36:])
    assert client.frames() == [message]


@pytest.mark.parametrize("groups", [-1, -(2**31), 101, 2**31 - 1])
def test_number_of_groups(room: Room, groups: int) -> None:
    assert room.offend(little(groups=groups)) == [
        "Sess_validate_read_header: Message has negative or too large num_groups field"
    ]


@pytest.mark.parametrize("bit", [*range(7), *range(24, 31)])
def test_hint_has_only_its_16_bits_and_its_marker(room: Room, bit: int) -> None:
    room.offend(little(hint=LE | 1 << bit))


@pytest.mark.parametrize("hint", [0, 0x80, 0x80000000, LE, 0x00FFFF00, 0x80FFFF80])
def test_hint_is_relayed_untouched(room: Room, hint: int) -> None:
    message = little(hint=hint)
    room.alice.send(message)
    assert room.bob.frames() == [message]


@pytest.mark.parametrize("data_len", [-1, -(2**31), 144001, 2**31 - 1])
def test_body_length(room: Room, data_len: int) -> None:
    assert room.offend(little(data_len=data_len)) == [
        f"Sess_validate_read_header: Message has negative or too large data_len {data_len}"
    ]


@pytest.mark.parametrize("groups", [0, 1, 100])
def test_total_of_143200_passes_and_one_more_is_refused(groups: int) -> None:
    room = Room()
    names = (b"g", *[b"other"] * (groups - 1)) if groups else ()
    largest = LARGEST - 48 - 32 * groups
    message = little(names=names, body=b"b" * largest)
    assert len(message) == LARGEST
    room.alice.send(message)
    assert room.bob.frames() == ([message] if groups else [])
    room = Room()
    room.offend(little(names=names, data_len=largest + 1))


@pytest.mark.parametrize("size", [143121, 143920, 143921, 144000])
def test_sizes_that_upstream_survives_only_in_its_header_check_are_refused(
    room: Room, size: int
) -> None:
    assert "Message + Groups is too large" in room.offend(little(data_len=size))[0]


def test_refusal_comes_with_the_header_before_the_body(room: Room) -> None:
    room.offend(little(data_len=144000)[:48])


# --- requests and targets


@pytest.mark.parametrize("type_", [JOIN, LEAVE])
@pytest.mark.parametrize("order", ["<", ">"])
def test_join_and_leave_need_a_group(room: Room, type_: int, order: str) -> None:
    word = type_ | LE if order == "<" else type_
    assert room.offend(frame(word, names=(), order=order)) == [
        f"Sess_validate_read_header: Session #alice#d1 sent a request of type "
        f"0x{type_ | LE:x} without a group"
    ]


@pytest.mark.parametrize(
    "name",
    [b"", b"#g", b"#bob#d1", b"a b", b"a\x01", b"a#b", b"\x7f", b"g\xff", b"n" * 32, b"#" * 32],
)
@pytest.mark.parametrize("type_", [JOIN, LEAVE])
def test_names_that_may_not_be_joined(room: Room, type_: int, name: bytes) -> None:
    room.offend(little(type_, names=(name,)))


def test_join_with_unterminated_name_and_a_body_is_refused_and_always_logged(room: Room) -> None:
    room.offend(little(JOIN, names=(b"n" * 32,), body=b"n" * 500))
    assert room.world.alarms.lines[0][0] & Category.PRINT


def test_join_is_forwarded_as_the_80_bytes_that_count(room: Room) -> None:
    room.alice.send(little(JOIN, names=(b"h\0garbage", b"second"), body=b"ignored"))
    assert room.world.ordering.submitted == [(little(JOIN, names=(b"h",)), PacketType.AGREED)]
    assert room.alice.alive


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_kill_is_forwarded_with_the_private_group_whatever_it_names(groups: int) -> None:
    room = Room()
    room.alice.send(little(KILL, names=(b"\xff" * 32,) * groups, body=b"x"))
    assert room.world.ordering.submitted == [
        (little(KILL, names=(b"#alice#d1",)), PacketType.AGREED)
    ]
    assert room.alice.transport.closed


@pytest.mark.parametrize("position", [0, 1, 2])
def test_private_target_without_an_end_is_refused(room: Room, position: int) -> None:
    names = [b"g", b"g", b"g"]
    names[position] = b"#" + b"x" * 31
    room.offend(little(names=tuple(names)))


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_private_target_without_an_end_is_refused_behind_the_same_header(repeat: int) -> None:
    room = Room()
    good = little(body=b"x")
    for _ in range(repeat):
        room.alice.send(good)
    room.bob.frames()
    room.world.ordering.submitted.clear()
    room.offend(little(names=(b"#" + b"x" * 31,), body=b"x"))


def test_other_target_names_are_not_checked(room: Room) -> None:
    for name in (b"", b"\xff\x01", b"n" * 32, b"n\0" + b"x" * 30, b"#\0" + b"x" * 30, b"#bob#d1"):
        message = little(names=(name, b"g"), body=b"x")
        room.alice.send(message)
        assert room.bob.frames() == [message], name
        room.alice.send(little(names=(name,)))
    assert room.alice.alive


def test_zero_groups_are_ordered_and_delivered_to_nobody(room: Room) -> None:
    message = little(names=(), body=b"x")
    room.alice.send(message)
    room.alice.send(message)
    assert [m for m, _ in room.world.ordering.submitted] == [message, message]
    assert room.bob.frames() == []


def test_group_that_is_full_is_refused_with_a_reject_message() -> None:
    room = Room()
    room.world.sessions.join_allowed = lambda group: group != b"full"
    room.alice.send(little(JOIN, names=(b"full",), body=b""))
    assert room.world.ordering.submitted == []
    reject = room.alice.transport.take()
    assert struct.unpack("<I32siIi", reject[:48]) == (
        LE | 0x400000,
        name_field(b"#alice#d1"),
        2,
        LE,
        0,
    )
    assert reject[48:] == struct.pack("<I", LE | 0x100) + name_field(b"full") + name_field(
        b"#alice#d1"
    )
    room.alice.join(b"free")
    assert room.world.groups.members[b"free"] == [b"#alice#d1"]


# --- byte orders


def test_big_endian_client_is_heard_as_little_endian_with_its_own_hint(room: Room) -> None:
    hint = 0x00123400
    room.alice.send(frame(FIFO, hint=hint, body=b"body", order=">"))
    expected = little(hint=0x00341200, body=b"body")
    assert room.bob.frames() == [expected]
    assert room.world.ordering.submitted == [(expected, PacketType.FIFO)]


def test_byte_order_may_change_from_frame_to_frame(room: Room) -> None:
    stream = b""
    for number in range(6):
        body = b"%d" % number
        stream += frame(FIFO, body=body, hint=0, order=">") if number % 2 else little(body=body)
    room.alice.send(stream)
    assert [message[80:] for message in room.bob.frames()] == [b"%d" % n for n in range(6)]


@pytest.mark.parametrize("type_", [JOIN, LEAVE, KILL])
def test_big_endian_requests(room: Room, type_: int) -> None:
    room.alice.send(frame(type_, names=(b"g",), hint=0, order=">"))
    forwarded, _ = room.world.ordering.submitted[0]
    assert forwarded[:4] == struct.pack("<I", type_ | LE)


@pytest.mark.parametrize("type_", [0, 0x06, FIFO | JOIN, FIFO | 0x80000, JOIN | 0x400000])
def test_big_endian_headers_are_checked_alike(room: Room, type_: int) -> None:
    room.offend(frame(type_, order=">"))


# --- the inputs of section 9.2 that are not covered above


@pytest.mark.parametrize("service", [1 << number for number in range(6)])
@pytest.mark.parametrize("bit", [0x80000, 0x400000])
def test_service_with_groups_or_reject_bit_never_reaches_the_ring(
    room: Room, service: int, bit: int
) -> None:
    room.offend(little(service | bit))
    assert room.world.alarms.lines[0][0] & Category.PRINT


@pytest.mark.parametrize("request_", [JOIN, LEAVE, KILL])
@pytest.mark.parametrize("bit", [0x80000, 0x400000])
def test_request_with_groups_or_reject_bit_never_reaches_the_ring(
    room: Room, request_: int, bit: int
) -> None:
    room.offend(little(request_ | bit))


@pytest.mark.parametrize("type_", [0x80000, 0x400000])
def test_groups_and_reject_bits_alone_are_no_request(room: Room, type_: int) -> None:
    room.offend(little(type_))


def test_good_messages_before_a_bad_one_in_the_same_batch_are_ordered(room: Room) -> None:
    good = little(body=b"good")
    room.alice.send(good + good + little(0x06) + good)
    assert [message for message, _ in room.world.ordering.submitted[:-1]] == [good, good]
    assert room.world.ordering.kills() == [b"#alice#d1"]


# --- cutting the stream


def conversation(client: Client) -> bytes:
    return b"".join(
        (
            client.message(FIFO, [b"g"], b"one"),
            client.message(FIFO, [b"g"], b"two"),
            client.message(0x20, [b"g", b"#bob#d1"], b"x" * 300),
            client.message(JOIN, [b"h"]),
            encode_message(FIFO, client.private_group, [b"h"], b"big", 5, ">"),
            client.message(LEAVE, [b"h"]),
            client.message(0x10, [], b""),
        )
    )


def test_any_cut_gives_the_same_messages() -> None:
    whole = Room()
    stream = conversation(whole.alice)
    whole.alice.send(stream)
    expected = whole.world.ordering.submitted
    assert len(expected) == 7
    for cut in range(1, len(stream)):
        room = Room()
        room.alice.send(stream[:cut])
        room.alice.send(stream[cut:])
        assert room.world.ordering.submitted == expected, cut


@pytest.mark.parametrize("piece", [1, 2, 31, 48, 49])
def test_any_pieces_give_the_same_messages(piece: int) -> None:
    whole = Room()
    stream = conversation(whole.alice)
    whole.alice.send(stream)
    room = Room()
    for at in range(0, len(stream), piece):
        room.alice.send(stream[at : at + piece])
    assert room.world.ordering.submitted == whole.world.ordering.submitted
    assert room.bob.transport.written == whole.bob.transport.written


def test_a_large_message_in_single_bytes_does_not_pile_up_pieces() -> None:
    world = World()
    client = world.connect(b"drip")
    client.join(b"g")
    client.frames()
    message = client.message(FIFO, [b"g"], bytes(20000))
    pieces = set()
    for at in range(len(message)):
        world.sessions.received(client.session, message[at : at + 1], world.now)
        pieces.add(len(client.session.chunks))
    # Neither joined for each byte nor kept apart for ever.
    assert pieces == set(range(65))
    world.turn()
    assert split_frames(client.transport.take()) == [message]
