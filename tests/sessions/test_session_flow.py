"""Back-pressure: slow readers, the water mark, the state exchange."""

from __future__ import annotations

import pytest
from session_fakes import Client, FakeTransport, World, choice, configuration, connect_request

from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import ClientGate, LocalSession, LocalSessions
from txspread.engine.sessions import TOGETHER, Sessions
from txspread.engine.sessions_pace import MESSAGES, UNIT, WINDOW
from txspread.engine.sessions_state import Session
from txspread.wire.constants import WATER_MARK
from txspread.wire.message import MessageHeader

FIFO = 0x04


def test_sessions_serve_both_neighbours() -> None:
    sessions: Sessions = World().sessions
    local: LocalSessions = sessions
    gate: ClientGate = sessions
    session: LocalSession = Session(FakeTransport(), PeerAddress(0, 1))
    assert local is gate
    assert session.private_group == b""


# --- output


def test_output_of_a_turn_is_written_once_and_in_order() -> None:
    world = World()
    reader = world.connect(b"reader")
    reader.join(b"g")
    writer = world.connect(b"writer")
    reader.frames()
    writes = reader.transport.writes
    messages = [writer.message(FIFO, [b"g"], b"%d" % number) for number in range(300)]
    world.sessions.received(writer.session, b"".join(messages), world.now)
    assert reader.transport.writes == writes
    world.turn()
    assert reader.transport.writes == writes + 1
    assert reader.frames() == messages


def test_partly_written_output_continues_at_the_exact_byte() -> None:
    world = World()
    reader = world.connect(b"reader", capacity=100)
    writer = world.connect(b"writer")
    messages = [writer.message(FIFO, [b"#reader#d1"], b"%d" % number) for number in range(10)]
    writer.send(b"".join(messages))
    assert len(reader.transport.written) == 100
    while len(reader.session.output):
        reader.transport.capacity = 7
        world.sessions.writable(reader.session, world.now)
    assert reader.frames() == messages


def stream(client: Client, count: int) -> bytes:
    return b"".join(client.message(FIFO, [b"g"], b"%d" % number) for number in range(count))


def slow_reader(world: World, messages: int) -> tuple[Client, Client]:
    """A reader whose kernel is full and that many messages queued for it."""
    reader = world.connect(b"slow", capacity=0)
    reader.join(b"g")
    world.sessions.writable(reader.session, world.now)
    writer = world.connect(b"writer")
    reader.session.output.clear()
    for number in range(messages):
        writer.multicast(FIFO, [b"g"], b"%d" % number)
        world.timer(WINDOW)
    assert reader.session.output.frames == messages
    return reader, writer


def test_reader_is_cut_off_when_one_more_than_max_session_messages_has_to_wait() -> None:
    world = World(max_session_messages=20)
    reader, writer = slow_reader(world, 20)
    assert reader.alive
    writer.join(b"g")
    assert not reader.alive
    assert reader.transport.closed
    assert world.ordering.kills() == [b"#slow#d1"]
    assert "Sess_write: killing mbox 11 for not reading" in world.alarms.texts
    types = [MessageHeader.decode(frame).type & 0xFF00 for frame in writer.frames()]
    assert types == [0x1100, 0x1400]


def test_full_queue_is_written_first_and_the_session_lives_if_that_helps() -> None:
    world = World(max_session_messages=20)
    reader, writer = slow_reader(world, 20)
    reader.transport.capacity = None
    world.sessions.received(
        writer.session,
        b"".join(writer.message(FIFO, [b"g"], b"%d" % number) for number in range(500)),
        world.now,
    )
    world.turn()
    assert reader.alive
    assert len(reader.frames()) == 520


def test_partly_written_message_still_counts() -> None:
    world = World(max_session_messages=3)
    reader, writer = slow_reader(world, 3)
    reader.transport.capacity = 10
    writer.multicast(FIFO, [b"g"], b"one more")
    assert not reader.alive
    assert len(reader.transport.written) == 10


def test_freed_place_is_used() -> None:
    world = World(max_session_messages=3)
    reader, writer = slow_reader(world, 3)
    reader.transport.capacity = 90
    writer.multicast(FIFO, [b"g"], b"one more")
    assert reader.alive
    assert reader.session.output.frames == 3


def test_zero_cuts_a_session_off_at_its_first_delivery() -> None:
    world = World(max_session_messages=0)
    reader = world.connect(b"reader")
    reader.join(b"g")
    assert not reader.alive
    assert world.ordering.kills() == [b"#reader#d1"]


def test_limit_is_looked_up_at_each_delivery() -> None:
    world = World(max_session_messages=20)
    reader, writer = slow_reader(world, 10)
    world.sessions.reconfigure(configuration(max_session_messages=10))
    writer.multicast(FIFO, [b"g"])
    assert not reader.alive


def test_bytes_that_wait_for_one_session_are_bounded_too() -> None:
    world = World(max_session_messages=100000, max_session_bytes=1_000_000)
    reader, writer = slow_reader(world, 0)
    other = world.connect(b"other")
    other.join(b"g")
    sent = 0
    while reader.alive:
        writer.multicast(FIFO, [b"g"], bytes(50_000))
        world.timer(WINDOW)
        sent += 1
        assert reader.session.output.size <= 1_000_000
        assert sent < 30
    assert sent in (20, 21)
    assert reader.session.output.size == 0
    assert len([f for f in other.frames() if len(f) > 50_000]) == sent
    assert other.alive


def test_others_get_everything_while_one_does_not_read() -> None:
    world = World(max_session_messages=50)
    reader, writer = slow_reader(world, 0)
    other = world.connect(b"other")
    other.join(b"g")
    other.frames()
    for number in range(200):
        writer.multicast(FIFO, [b"g"], b"%d" % number)
        world.timer(WINDOW)
    bodies = [frame[80:] for frame in other.frames() if frame[:1] == b"\x84"]
    assert bodies == [b"%d" % number for number in range(200)]
    assert not reader.alive


def test_session_that_kills_itself_by_its_own_message_stops_being_read() -> None:
    world = World(max_session_messages=2)
    client = world.connect(b"self", capacity=0)
    message = client.message(FIFO, [b"#self#d1"], b"x")
    client.send(message * 10)
    assert not client.alive
    assert len([m for m, _ in world.ordering.submitted if m == message]) == 3
    assert world.ordering.kills() == [b"#self#d1"]


def test_connection_that_breaks_inside_a_flush_ends_its_session_once() -> None:
    world = World(max_session_messages=2)
    reader, writer = slow_reader(world, 2)
    reader.transport.on_flush = lambda: world.sessions.closed(reader.session, world.now)
    writer.multicast(FIFO, [b"g"], b"x")
    assert world.ordering.kills() == [b"#slow#d1"]
    assert world.sessions.count == 1


# --- clients that are behind


def test_sender_rests_when_its_reader_is_behind_and_others_are_not_held_up() -> None:
    world = World(max_session_messages=1000)
    reader, writer = slow_reader(world, 500)
    other = world.connect(b"other")
    writer.send(stream(writer, 400))
    assert 500 + MESSAGES <= reader.session.output.frames <= 500 + TOGETHER
    queued = reader.session.output.frames
    assert writer.transport.paused
    other.send(other.message(FIFO, [b"#other#d1"]))
    assert len(other.frames()) == 1
    due = world.sessions.next_timer()
    assert due is not None
    assert world.now < due < world.now + 2 * WINDOW
    world.timer(WINDOW)
    assert reader.session.output.frames == queued + MESSAGES


def test_reader_that_reads_on_is_never_cut_off() -> None:
    world = World(max_session_messages=1000)
    reader, writer = slow_reader(world, 0)
    data = stream(writer, 20000)
    sent = taken = 0
    while sent < len(data) or writer.session.chunks:
        if not writer.transport.paused:
            world.sessions.received(writer.session, data[sent : sent + 250_000], world.now)
            sent += 250_000
        # A kernel that takes 25 messages in a millisecond.
        reader.transport.capacity = 25 * 85
        world.timer(WINDOW)
        taken += len(reader.transport.take())
    assert reader.alive
    assert reader.session.output.frames <= 600
    reader.transport.capacity = None
    world.sessions.writable(reader.session, world.now)
    taken += len(reader.transport.take())
    assert taken >= len(data)


def test_reader_that_has_stopped_holds_others_up_for_a_bounded_time_only() -> None:
    world = World(max_session_messages=1000)
    reader, writer = slow_reader(world, 500)
    writer.send(stream(writer, 1000))
    windows = 0
    while writer.session.chunks:
        world.timer(WINDOW)
        windows += 1
        assert windows <= 125
    assert not reader.alive
    assert not writer.transport.paused


def test_large_messages_use_up_a_window_sooner() -> None:
    world = World()
    reader, writer = slow_reader(world, 500)
    writer.send(b"".join(writer.message(FIFO, [b"g"], bytes(3 * UNIT)) for _ in range(20)))
    assert reader.session.output.frames in (500 + MESSAGES // 4, 501 + MESSAGES // 4)


def test_a_trickle_for_a_reader_that_is_behind_never_rests() -> None:
    world = World(max_session_messages=100)
    reader, writer = slow_reader(world, 50)
    for _ in range(50):
        writer.multicast(FIFO, [b"g"])
        world.now += WINDOW
        assert world.sessions.serving
    assert reader.alive
    writer.multicast(FIFO, [b"g"])
    assert not reader.alive
    assert world.sessions.serving


def test_healthy_reader_in_a_large_batch_is_written_to_and_nothing_rests() -> None:
    world = World()
    reader = world.connect(b"reader")
    reader.join(b"g")
    writer = world.connect(b"writer")
    reader.frames()
    world.sessions.received(writer.session, stream(writer, 2400), world.now)
    assert world.sessions.serving
    world.turn()
    assert len(reader.frames()) == 2400


def test_sender_that_waits_for_the_ring_rests_too() -> None:
    world = World(immediate=False)
    reader = world.connect(b"slow", capacity=0)
    writer = world.connect(b"writer")
    for _ in range(500):
        world.sessions.write(reader.session, b"waiting")
    message = writer.message(FIFO, [b"#slow#d1"])
    writer.send(message * 450)
    world.sessions.stop_clients()
    writer.send(message)
    assert writer.transport.paused
    world.ordering.run()
    world.sessions.serve_clients()
    submitted = len(world.ordering.submitted)
    world.turn()
    assert writer.transport.paused
    assert len(world.ordering.submitted) == submitted
    world.timer(WINDOW)
    assert len(world.ordering.submitted) == submitted + 1
    assert not writer.transport.paused


# --- the water mark


def test_reading_stops_at_the_water_mark_and_goes_on_below_it() -> None:
    world = World(immediate=False)
    client = world.connect(b"fast")
    client.send(stream(client, 1200))
    assert world.ordering.queued() == WATER_MARK
    assert client.transport.paused
    assert not world.sessions.serving
    world.turn()
    assert world.ordering.queued() == WATER_MARK
    del world.ordering.waiting[:100]
    world.turn()
    assert world.ordering.queued() == WATER_MARK
    world.ordering.waiting.clear()
    world.turn()
    world.ordering.waiting.clear()
    world.turn()
    assert not client.transport.paused
    assert world.sessions.serving
    bodies = [message[80:] for message, _ in world.ordering.submitted]
    assert bodies == [b"%d" % number for number in range(1200)]


def test_clients_that_wait_take_turns() -> None:
    world = World(immediate=False)
    clients = [world.connect(b"c%d" % number) for number in range(3)]
    for client in clients:
        client.send(stream(client, 600))
    turns = []
    while len(world.ordering.submitted) < 1800:
        world.ordering.waiting.clear()
        before = len(world.ordering.submitted)
        world.turn()
        senders = [message[4:7] for message, _ in world.ordering.submitted[before:]]
        turns.append([(sender, senders.count(sender)) for sender in dict.fromkeys(senders)])
    assert turns == [
        [(b"#c0", 100), (b"#c1", 400)],
        [(b"#c2", 500)],
        [(b"#c1", 200), (b"#c2", 100)],
    ]
    for client in clients:
        mine = [m[80:] for m, _ in world.ordering.submitted if m[4:7] == b"#%b" % client.name]
        assert mine == [b"%d" % number for number in range(600)]


def test_ordering_layer_may_stop_clients_itself() -> None:
    world = World()
    client = world.connect(b"c")
    world.sessions.stop_clients()
    client.send(stream(client, 3))
    assert world.ordering.submitted == []
    assert client.transport.paused
    world.sessions.serve_clients()
    assert world.ordering.submitted == []
    world.turn()
    assert len(world.ordering.submitted) == 3
    assert not client.transport.paused


def test_stop_inside_a_batch_takes_effect_after_a_few_messages() -> None:
    world = World()
    client = world.connect(b"c")

    def deliver(message: bytes) -> None:
        if message.endswith(b"1"):
            world.sessions.stop_clients()
            world.ordering.deliver = lambda message: None

    world.ordering.deliver = deliver
    client.send(stream(client, 5 * TOGETHER))
    assert len(world.ordering.submitted) == TOGETHER
    world.sessions.serve_clients()
    world.turn()
    assert len(world.ordering.submitted) == 5 * TOGETHER


def test_accepting_goes_on_at_the_water_mark_and_requests_wait() -> None:
    world = World()
    world.sessions.stop_clients()
    client = world.open()
    client.send(connect_request(b"late") + choice("NULL"))
    assert world.host.accepting
    assert client.transport.take() == b""
    world.timer(5)
    assert not client.transport.closed
    due = world.sessions.next_timer()
    assert due is not None
    assert due > world.now
    world.sessions.serve_clients()
    world.turn()
    assert client.session.operational


def test_waiting_connections_are_bounded_while_clients_are_stopped() -> None:
    world = World()
    world.sessions.stop_clients()
    for _ in range(997):
        world.open()
    assert not world.host.accepting
    world.sessions.serve_clients()
    world.turn()
    assert world.host.accepting


# --- the state exchange


def test_state_exchange_stops_reading_and_accepting() -> None:
    world = World()
    client = world.connect(b"c")
    world.sessions.block()
    assert not world.host.accepting
    client.send(stream(client, 2))
    assert world.ordering.submitted == []
    world.sessions.unblock()
    assert world.host.accepting
    world.turn()
    assert len(world.ordering.submitted) == 2


def test_output_goes_on_during_the_state_exchange() -> None:
    world = World()
    client = world.connect(b"c")
    world.sessions.block()
    world.sessions.write(client.session, b"frame")
    world.turn()
    assert client.transport.take() == b"frame"


@pytest.mark.parametrize("first", ["block", "stop"])
def test_two_reasons_are_independent(first: str) -> None:
    world = World()
    client = world.connect(b"c")
    world.sessions.block()
    world.sessions.stop_clients()
    client.send(stream(client, 1))
    steps = [world.sessions.unblock, world.sessions.serve_clients]
    if first == "stop":
        steps.reverse()
    steps[0]()
    world.turn()
    assert world.ordering.submitted == []
    steps[1]()
    world.turn()
    assert len(world.ordering.submitted) == 1


def test_no_kill_is_ordered_during_the_state_exchange() -> None:
    world = World()
    client = world.connect(b"c")
    world.sessions.block()
    client.send(stream(client, 2) + client.message(0x06, [b"g"]))
    client.end()
    world.turn()
    assert world.ordering.submitted == []
    assert world.sessions.find(b"#c#d1") is client.session
    world.sessions.unblock()
    world.turn()
    assert len(world.ordering.submitted) == 3
    assert world.ordering.kills() == [b"#c#d1"]
    assert world.sessions.count == 0


def test_stream_that_ended_while_blocked_is_processed_and_then_killed() -> None:
    world = World()
    client = world.connect(b"c")
    silent = world.connect(b"silent")
    world.sessions.block()
    client.send(stream(client, 2))
    client.end()
    silent.end()
    connecting = world.open()
    connecting.end()
    world.sessions.unblock()
    world.turn()
    assert [m[80:] for m, _ in world.ordering.submitted[:2]] == [b"0", b"1"]
    assert world.ordering.kills() == [b"#c#d1", b"#silent#d1"]
    assert connecting.transport.closed


def test_client_that_said_kill_while_blocked_is_killed_once() -> None:
    world = World()
    client = world.connect(b"c")
    world.sessions.block()
    client.send(client.message(0x40000, []))
    client.end()
    world.sessions.unblock()
    world.turn()
    world.turn()
    assert world.ordering.kills() == [b"#c#d1"]


def test_half_a_message_that_waited_is_completed_later() -> None:
    world = World()
    client = world.connect(b"c")
    data = stream(client, 2)
    world.sessions.block()
    client.send(data[:100])
    world.sessions.unblock()
    world.turn()
    client.send(data[100:])
    assert len(world.ordering.submitted) == 2


def test_session_killed_by_delivery_while_it_waits_is_forgotten() -> None:
    world = World(max_session_messages=0)
    client = world.connect(b"c")
    world.sessions.stop_clients()
    client.send(stream(client, 2))
    world.sessions.write(client.session, b"one too many")
    assert world.ordering.kills() == [b"#c#d1"]
    world.sessions.serve_clients()
    world.turn()
    assert len(world.ordering.submitted) == 1


def test_state_exchange_begins_inside_a_batch() -> None:
    world = World()
    client = world.connect(b"c")
    other = world.connect(b"other")

    def deliver(message: bytes) -> None:
        world.sessions.block()

    world.ordering.deliver = deliver
    client.send(stream(client, 100))
    other.send(stream(other, 3))
    assert len(world.ordering.submitted) == TOGETHER
    world.ordering.deliver = lambda message: None
    world.sessions.unblock()
    world.turn()
    assert [m[4:6] for m, _ in world.ordering.submitted] == [b"#c"] * 100 + [b"#o"] * 3
