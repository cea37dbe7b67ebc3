"""Sessions from acceptance to the delivery of their KILL."""

from __future__ import annotations

from session_fakes import FakeTransport, World, connect_request, split_frames

from txspread.engine.handshake import PeerAddress
from txspread.engine.sessions_state import SessionState
from txspread.wire.constants import PacketType
from txspread.wire.message import MessageHeader, encode_message

FIFO = 0x04
NOT_UNIQUE = b"\xfa"


def test_members_get_memberships_and_messages_in_order() -> None:
    world = World()
    alice = world.connect(b"alice")
    bob = world.connect(b"bob", membership=False)
    alice.join(b"g")
    bob.join(b"g")
    message = alice.message(FIFO, [b"g"], b"hi")
    alice.send(message)
    types = [MessageHeader.decode(frame).type & 0xFFFF for frame in alice.frames()]
    assert types == [0x1180, 0x1180, 0x0084]
    assert bob.frames() == [message]


def test_kill_message_closes_at_once_and_is_ordered_as_agreed() -> None:
    world = World(immediate=False)
    alice = world.connect(b"alice")
    kill = alice.message(0x40000, [b"#alice#d1"])
    alice.send(kill + alice.message(FIFO, [b"g"]))
    assert alice.transport.closed
    assert world.ordering.submitted == [(kill, PacketType.AGREED)]
    assert "Sess_read: disconnecting session alice ( mailbox 11 )" in world.alarms.texts


def test_end_of_file_orders_a_safe_kill_without_groups() -> None:
    world = World(immediate=False)
    alice = world.connect(b"alice")
    alice.end()
    assert alice.transport.closed
    assert world.ordering.submitted == [
        (encode_message(0x40020, b"#alice#d1", ()), PacketType.SAFE)
    ]
    assert "Sess_kill: killing session alice ( mailbox 11 )" in world.alarms.texts


def test_name_is_held_until_the_kill_is_delivered() -> None:
    world = World(immediate=False)
    alice = world.connect(b"alice")
    alice.disconnect()
    assert world.sessions.count == 1
    again = world.open()
    again.send(connect_request(b"alice"))
    assert again.transport.take() == NOT_UNIQUE
    assert again.transport.closed
    world.ordering.run()
    assert world.sessions.count == 0
    world.connect(b"alice")


def test_only_one_kill_whatever_happens_after_the_first() -> None:
    world = World(immediate=False)
    alice = world.connect(b"alice")
    alice.disconnect()
    world.sessions.closed(alice.session, world.now)
    world.sessions.received(alice.session, b"x" * 100, world.now)
    world.sessions.write(alice.session, b"frame")
    world.ordering.run()
    world.sessions.closed(alice.session, world.now)
    assert world.ordering.kills() == [b"#alice#d1"]
    assert alice.session.state is SessionState.GONE


def test_session_is_found_until_its_kill_is_delivered_and_writing_to_it_does_nothing() -> None:
    world = World(immediate=False)
    alice = world.connect(b"alice")
    assert world.sessions.find(b"#alice#d1") is alice.session
    alice.disconnect()
    assert world.sessions.find(b"#alice#d1") is alice.session
    world.sessions.write(alice.session, b"frame")
    world.turn()
    assert alice.transport.take() == b""
    world.ordering.run()
    assert world.sessions.find(b"#alice#d1") is None


def test_session_in_authentication_is_not_found_and_leaves_without_kill() -> None:
    world = World()
    client = world.open()
    client.send(connect_request(b"alice"))
    assert world.sessions.count == 1
    assert world.sessions.find(b"#alice#d1") is None
    client.end()
    assert world.sessions.count == 0
    assert world.ordering.submitted == []


def test_kill_nobody_here_ordered_closes_the_session_without_a_second_kill() -> None:
    world = World()
    alice = world.connect(b"alice")
    world.sessions.killed(b"#alice#d1")
    assert alice.transport.closed
    assert world.sessions.count == 0
    assert world.ordering.submitted == []
    world.sessions.killed(b"#alice#d1")
    world.sessions.killed(b"#nobody#d1")


def test_what_the_client_sent_before_the_end_is_ordered_before_its_kill() -> None:
    world = World()
    alice = world.connect(b"alice")
    bob = world.connect(b"bob")
    bob.join(b"g")
    bob.frames()
    message = alice.message(FIFO, [b"g"], b"last words")
    world.sessions.received(alice.session, message, world.now)
    world.sessions.closed(alice.session, world.now)
    world.turn()
    assert bob.frames() == [message]
    assert world.ordering.kills() == [b"#alice#d1"]


def test_output_of_the_turn_is_written_before_a_half_closed_stream_is_closed() -> None:
    world = World()
    alice = world.connect(b"alice")
    alice.join(b"g")
    alice.frames()
    message = alice.message(FIFO, [b"g"], b"to myself")
    world.sessions.received(alice.session, message, world.now)
    world.sessions.closed(alice.session, world.now)
    assert split_frames(alice.transport.take()) == [message]


def test_connection_is_closed_after_its_reject_is_written() -> None:
    world = World()
    transport = FakeTransport()
    session = world.sessions.opened(transport, PeerAddress(0, 7), 0.0)
    transport.output = session.output
    world.sessions.received(session, b"\x01\x00\x00\x00\x00", 0.0)
    assert not transport.closed
    world.turn()
    assert transport.closed
    assert transport.written == b"\xf9"
