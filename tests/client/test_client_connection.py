"""The Twisted connection against a running daemon."""

import os

import pytest
from daemon_processes import daemon_command, running_daemon

from txspread.client import (
    AGREED_MESS,
    FIFO_MESS,
    RELIABLE_MESS,
    SAFE_MESS,
    SELF_DISCARD,
    AuthenticationFailed,
    ConnectionClosed,
    ConnectionRejected,
    DataMessage,
    IllegalGroup,
    IllegalMessage,
    IllegalService,
    IllegalSession,
    IPMethod,
    MembershipMessage,
    MessageTooLong,
    NameNotUnique,
    SelfLeave,
    ServiceType,
    SpreadCode,
    WouldBlock,
    connect,
)

pytest_plugins = ["client_fixtures"]


@pytest.fixture
def open_connection(reactor, daemon):
    def connect_to(name="", **options):
        return connect(options.pop("to", daemon.tcp), name, reactor=reactor, **options)

    return connect_to


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_session_opens_with_its_private_group_and_ends(run, open_connection, daemon, unique, way):
    async def scenario():
        name = unique("a")
        connection = await open_connection(name, to=getattr(daemon, way))
        assert connection.private_group == f"#{name}#{daemon.name}"
        assert connection.daemon_version >= (4, 3, 0)
        assert connection.is_open
        await connection.disconnect()
        assert not connection.is_open
        assert isinstance(connection.reason, IllegalSession)
        with pytest.raises(IllegalSession):
            connection.join("room")
        with pytest.raises(IllegalSession):
            await connection.receive()

    run(scenario())


def test_a_daemon_invents_a_name_when_none_is_given(run, open_connection, daemon):
    async def scenario():
        connection = await open_connection()
        assert connection.private_group.startswith("#")
        assert connection.private_group.endswith(f"#{daemon.name}")
        await connection.disconnect()

    run(scenario())


def test_a_name_in_use_is_refused_with_upstreams_number(run, open_connection, unique):
    async def scenario():
        name = unique("b")
        first = await open_connection(name)
        with pytest.raises(NameNotUnique) as caught:
            await open_connection(name)
        assert caught.value.code is SpreadCode.REJECT_NOT_UNIQUE
        await first.disconnect()

    run(scenario())


def test_members_are_told_of_joins_leaves_and_disconnects(run, open_connection, unique):
    async def scenario():
        room = unique("room")
        one = await open_connection(unique("c"))
        two = await open_connection(unique("d"))
        three = await open_connection(unique("e"))
        one.join(room)
        view = await one.receive()
        assert isinstance(view, MembershipMessage)
        assert view.cause is ServiceType.CAUSED_BY_JOIN
        assert (view.group, view.members, view.index) == (room, (one.private_group,), 0)
        assert view.changed_member == one.private_group
        for other in (two, three):
            other.join(room)
            for member in (one, other):
                view = await member.receive()
                assert view.changed_member == other.private_group
        assert set((await two.receive()).members) == {
            one.private_group,
            two.private_group,
            three.private_group,
        }
        two.leave(room)
        gone = await two.receive()
        assert isinstance(gone, SelfLeave)
        assert gone.group == room
        for member in (one, three):
            view = await member.receive()
            assert view.cause is ServiceType.CAUSED_BY_LEAVE
            assert view.changed_member == two.private_group
        await three.disconnect()
        view = await one.receive()
        assert view.cause is ServiceType.CAUSED_BY_DISCONNECT
        assert view.changed_member == three.private_group
        assert view.group_id.index == 5
        await one.disconnect()
        await two.disconnect()

    run(scenario())


@pytest.mark.parametrize("service", ["UNRELIABLE", "RELIABLE", "FIFO", "CAUSAL", "AGREED", "SAFE"])
def test_each_service_arrives_as_it_was_sent(run, open_connection, unique, service):
    async def scenario():
        bits = ServiceType[f"{service}_MESS"]
        connection = await open_connection(unique("f"), membership=False)
        room = unique("room")
        connection.join(room)
        assert connection.multicast(bits, room, [b"in ", b"pieces"], -2) == 9
        message = await connection.receive()
        assert message == DataMessage(
            bits, connection.private_group, (room,), -2, "<", b"in pieces"
        )
        assert not message.endian_mismatch
        await connection.disconnect()

    run(scenario())


def test_several_groups_and_private_groups_are_reached_once(run, open_connection, unique):
    async def scenario():
        one = await open_connection(unique("g"), membership=False)
        two = await open_connection(unique("h"), membership=False)
        rooms = [unique("room"), unique("room")]
        for room in rooms:
            one.join(room)
        targets = [*rooms, two.private_group, "nobody"]
        one.multicast(SAFE_MESS, targets, b"x" * 5000, 1)
        for receiver in (one, two):
            message = await receiver.receive()
            assert message.groups == tuple(targets)
            assert len(message.body) == 5000
        one.multicast(SELF_DISCARD | FIFO_MESS, rooms[0], b"not for me")
        one.multicast(FIFO_MESS, rooms[0], b"for me")
        assert (await one.receive()).body == b"for me"
        await one.disconnect()
        await two.disconnect()

    run(scenario())


def test_the_largest_message_passes_and_one_byte_more_is_refused(run, open_connection, unique):
    async def scenario():
        connection = await open_connection(unique("i"), membership=False)
        room = unique("room")
        connection.join(room)
        body = os.urandom(143119)
        connection.multicast(AGREED_MESS, room, body)
        assert (await connection.receive()).body == body
        with pytest.raises(MessageTooLong) as caught:
            connection.multicast(AGREED_MESS, room, body + b"x")
        assert "143119" in str(caught.value)
        await connection.disconnect()

    run(scenario())


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (IllegalGroup, lambda c: c.join("")),
        (IllegalGroup, lambda c: c.join("a room")),
        (IllegalGroup, lambda c: c.join("x" * 32)),
        (IllegalGroup, lambda c: c.leave("#x")),
        (IllegalGroup, lambda c: c.multicast(AGREED_MESS, "", b"")),
        (IllegalGroup, lambda c: c.multicast(AGREED_MESS, ["g"] * 44, b"")),
        (IllegalService, lambda c: c.multicast(0, "g", b"")),
        (IllegalService, lambda c: c.multicast(AGREED_MESS | SAFE_MESS, "g", b"")),
        (IllegalService, lambda c: c.multicast(0x80004, "g", b"")),
        (IllegalService, lambda c: c.multicast(0x1104, "g", b"")),
        (IllegalMessage, lambda c: c.multicast(AGREED_MESS, "g", b"", 32768)),
    ],
)
def test_what_the_daemon_would_punish_is_refused_and_the_session_lives(
    run, open_connection, unique, error, call
):
    async def scenario():
        connection = await open_connection(unique("j"), membership=False)
        with pytest.raises(error):
            call(connection)
        connection.multicast(AGREED_MESS, connection.private_group, b"alive")
        assert (await connection.receive()).body == b"alive"
        await connection.disconnect()

    run(scenario())


def test_an_illegal_private_name_is_refused_before_connecting(run, open_connection):
    async def scenario():
        for name in ("elevenbytes", "a b", "#x"):
            with pytest.raises(ConnectionRejected) as caught:
                await open_connection(name)
            assert caught.value.code is SpreadCode.REJECT_ILLEGAL_NAME

    run(scenario())


def test_messages_can_be_iterated_over_until_the_program_disconnects(run, open_connection, unique):
    async def scenario():
        connection = await open_connection(unique("k"), membership=False)
        for number in range(100):
            connection.multicast(RELIABLE_MESS, connection.private_group, b"", number)
        seen = []
        async for message in connection:
            seen.append(message.mess_type)
            if len(seen) == 100:
                connection.disconnect()
        assert sorted(seen) == list(range(100))

    run(scenario())


def test_messages_can_be_taken_in_batches_and_by_callback(run, open_connection, unique, reactor):
    async def scenario():
        from twisted.internet.defer import Deferred

        connection = await open_connection(unique("l"), membership=False)
        for number in range(300):
            connection.multicast(AGREED_MESS, connection.private_group, b"", number)
        seen = []
        while len(seen) < 300:
            seen += [message.mess_type for message in await connection.receive_batch()]
        assert seen == list(range(300))
        done = Deferred()

        def take(message):
            seen.append(message.mess_type)
            if message.mess_type == 9:
                done.callback(None)

        connection.multicast(AGREED_MESS, connection.private_group, b"", 8)
        connection.deliver_to(take)
        connection.multicast(AGREED_MESS, connection.private_group, b"", 9)
        await done
        assert seen[300:] == [8, 9]
        await connection.disconnect()

    run(scenario())


def test_a_cancelled_receive_loses_no_message(run, open_connection, unique):
    async def scenario():
        connection = await open_connection(unique("m"), membership=False)
        cancelled = connection.receive()
        cancelled.addErrback(lambda failure: None)
        cancelled.cancel()
        connection.multicast(AGREED_MESS, connection.private_group, b"kept")
        assert (await connection.receive()).body == b"kept"
        await connection.disconnect()

    run(scenario())


def test_a_full_send_buffer_refuses_and_waiting_senders_go_on_when_it_drains(
    run, open_connection, unique
):
    async def scenario():
        connection = await open_connection(unique("n"), membership=False, send_limit=20000)
        body = b"x" * 1000
        while connection.buffered < 20000:
            connection.multicast(FIFO_MESS, "nobody", body)
        with pytest.raises(WouldBlock):
            connection.multicast(FIFO_MESS, "nobody", body)
        sent = 0
        for _ in range(200):
            sent += await connection.send(FIFO_MESS, "nobody", body)
        assert sent == 200_000
        connection.multicast(FIFO_MESS, connection.private_group, b"last")
        assert (await connection.receive()).body == b"last"
        await connection.disconnect()

    run(scenario())


def test_a_full_inbox_stops_reading_and_nothing_is_lost(run, open_connection, unique):
    async def scenario():
        connection = await open_connection(unique("o"), membership=False, receive_limit=10000)
        other = await open_connection(unique("p"), membership=False)
        for number in range(800):
            other.multicast(AGREED_MESS, connection.private_group, b"x" * 1000, number)
        other.multicast(AGREED_MESS, other.private_group, b"all ordered")
        await other.receive()
        for number in range(800):
            message = await connection.receive()
            assert message.mess_type == number
            assert connection.poll() <= 10000 + (1 << 18) + 2000
        await connection.disconnect()
        await other.disconnect()

    run(scenario())


def test_the_end_of_the_daemon_is_told_to_all_that_wait(run, reactor, own_daemon):
    async def scenario():
        connection = await connect(own_daemon.tcp, "z", reactor=reactor)
        waiting = [connection.receive(), connection.receive_batch(), connection.when_closed()]
        own_daemon.process.kill()
        for waiter in waiting[:2]:
            with pytest.raises(ConnectionClosed):
                await waiter
        assert await waiting[2] is connection.reason
        for call in (
            lambda: connection.join("g"),
            lambda: connection.multicast(AGREED_MESS, "g", b""),
        ):
            with pytest.raises(ConnectionClosed):
                call()
        with pytest.raises(ConnectionClosed):
            await anext(aiter(connection))
        with pytest.raises(ConnectionClosed):
            await connection.drained()
        await connection.disconnect()

    run(scenario())


@pytest.fixture(params=["txspread", "upstream"])
def strict_daemon(request, tmp_path):
    (tmp_path / "spread.access_ip").write_text("local\n")
    extra = 'AllowedAuthMethods = "IP"\nRequiredAuthMethods = "IP"\n'
    command = daemon_command(request.param, request)
    with running_daemon(command, tmp_path, "d1", extra) as started:
        yield started


def test_the_daemons_authentication_method_must_be_chosen(run, reactor, strict_daemon):
    async def scenario():
        connection = await connect(
            strict_daemon.tcp, "local", methods=[IPMethod()], reactor=reactor
        )
        assert connection.private_group == "#local#d1"
        await connection.disconnect()
        with pytest.raises(AuthenticationFailed, match="IP"):
            await connect(strict_daemon.tcp, "null", reactor=reactor)
        with pytest.raises(AuthenticationFailed):
            # A Unix socket has no address that the file allows.
            await connect(strict_daemon.unix, "unix", methods=[IPMethod()], reactor=reactor)

    run(scenario())
