"""The asyncio connection against a running daemon and against broken ones."""

import asyncio
import subprocess
import sys

import pytest

from txspread import aio
from txspread.client import (
    AGREED_MESS,
    RELIABLE_MESS,
    ConnectionClosed,
    CouldNotConnect,
    IllegalGroup,
    IllegalMessage,
    IllegalSession,
    IllegalSpread,
    MembershipMessage,
    NameNotUnique,
    SelfLeave,
    WouldBlock,
)
from txspread.wire.message import encode_message
from txspread.wire.session import encode_accept, encode_auth_list

pytest_plugins = ["client_fixtures"]
ACCEPT = encode_auth_list([b"NULL"]) + encode_accept(b"#me#fake")
FRAME = encode_message(AGREED_MESS, b"#x#fake", [b"g"], b"y" * 100, 3)


def run(coroutine):
    async def limited():
        async with asyncio.timeout(60):
            await coroutine

    asyncio.run(limited(), debug=True)


class FakeDaemon:
    """A listener that answers with fixed bytes; then it closes, or stays silent."""

    def __init__(self, answer, close=False):
        self.answer = answer
        self.close = close
        self.writers = []

    async def serve(self, reader, writer):
        self.writers.append(writer)
        writer.write(self.answer)
        if self.close:
            # Closing with input unread would reset the connection.
            await reader.readexactly(5 if len(self.answer) < 6 else 95)
            writer.close()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.name = f"{self.server.sockets[0].getsockname()[1]}@127.0.0.1"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


def test_the_module_works_without_twisted():
    code = "import sys, txspread.aio; sys.exit(any(m.startswith('twisted') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_session_from_connect_to_disconnect(daemon, unique, way):
    async def scenario():
        room, name = unique("room"), unique("a")
        async with await aio.connect(getattr(daemon, way), name) as connection:
            assert connection.private_group == f"#{name}#{daemon.name}"
            connection.join(room)
            view = await connection.receive()
            assert isinstance(view, MembershipMessage)
            assert view.members == (connection.private_group,)
            connection.multicast(AGREED_MESS, [room, "other"], b"hello", 7)
            message = await connection.receive()
            assert (message.body, message.mess_type) == (b"hello", 7)
            with pytest.raises(NameNotUnique):
                await aio.connect(daemon.tcp, name)
            connection.leave(room)
            assert isinstance(await connection.receive(), SelfLeave)
            with pytest.raises(IllegalGroup):
                connection.join("not a name")
        with pytest.raises(IllegalSession):
            connection.join(room)
        with pytest.raises(IllegalSession):
            await connection.receive()

    run(scenario())


def test_messages_are_iterated_over_until_the_program_disconnects(daemon, unique):
    async def scenario():
        connection = await aio.connect(daemon.tcp, unique("b"), membership=False)
        for number in range(100):
            connection.multicast(RELIABLE_MESS, connection.private_group, b"", number)
        seen = []
        async for message in connection:
            seen.append(message.mess_type)
            if len(seen) == 100:
                await connection.disconnect()
        assert sorted(seen) == list(range(100))

    run(scenario())


def test_senders_wait_for_room_and_readers_stop_at_the_limit(daemon, unique):
    async def scenario():
        one = await aio.connect(daemon.tcp, unique("c"), membership=False, send_limit=20000)
        two = await aio.connect(daemon.tcp, unique("d"), membership=False, receive_limit=10000)
        body = b"x" * 1000
        while one.buffered < 20000:
            one.multicast(AGREED_MESS, "nobody", body)
        with pytest.raises(WouldBlock):
            one.multicast(AGREED_MESS, "nobody", body)
        for number in range(600):
            await one.send(AGREED_MESS, two.private_group, body, number)
        await one.send(AGREED_MESS, one.private_group, b"")
        await one.receive()
        for number in range(600):
            assert (await two.receive()).mess_type == number
            assert two.poll() <= 10000 + (1 << 18) + 2000
        await one.disconnect()
        await two.disconnect()

    run(scenario())


def test_a_cancelled_receive_loses_no_message(daemon, unique):
    async def scenario():
        connection = await aio.connect(daemon.tcp, unique("e"), membership=False)
        receivers = [asyncio.create_task(connection.receive()) for _ in range(3)]
        await asyncio.sleep(0)
        receivers[0].cancel()
        connection.multicast(AGREED_MESS, connection.private_group, b"1")
        connection.multicast(AGREED_MESS, connection.private_group, b"2")
        assert {(await task).body for task in receivers[1:]} == {b"1", b"2"}
        await connection.disconnect()

    run(scenario())


def test_the_end_of_the_daemon_is_told_to_all_that_wait(own_daemon):
    async def scenario():
        connection = await aio.connect(own_daemon.tcp, "z")
        waiting = [asyncio.create_task(connection.receive()) for _ in range(2)]
        await asyncio.sleep(0)
        own_daemon.process.kill()
        for task in waiting:
            with pytest.raises(ConnectionClosed):
                await task
        assert await connection.wait_closed() is connection.reason
        with pytest.raises(ConnectionClosed):
            connection.join("g")
        await connection.disconnect()

    run(scenario())


def test_addresses_that_lead_nowhere():
    async def scenario():
        with pytest.raises(CouldNotConnect):
            await aio.connect("1@127.0.0.1")
        with pytest.raises(CouldNotConnect):
            await aio.connect("unix:/nonexistent/socket")
        with pytest.raises(IllegalSpread):
            await aio.connect("tls:127.0.0.1:4803")
        with pytest.raises(IllegalSpread):
            await aio.connect("bogus")

    run(scenario())


@pytest.mark.parametrize("size", [0, 3, 6, 9])
@pytest.mark.parametrize("close", [False, True])
def test_a_handshake_that_does_not_complete_ends_in_time(size, close):
    async def scenario():
        async with FakeDaemon(ACCEPT[:size], close) as fake:
            with pytest.raises(ConnectionClosed) as caught:
                await aio.connect(fake.name, timeout=5 if close else 0.3)
            assert "handshake" in str(caught.value)

    run(scenario())


def test_a_silent_daemon_is_given_up():
    async def scenario():
        async with FakeDaemon(ACCEPT) as fake:
            connection = await aio.connect(fake.name, silence_timeout=0.3)
            with pytest.raises(ConnectionClosed) as caught:
                await connection.receive()
            assert "silent" in str(caught.value)

    run(scenario())


def test_what_came_before_the_end_is_delivered_before_the_error():
    async def scenario():
        async with FakeDaemon(ACCEPT + FRAME * 2 + FRAME[:50], close=True) as fake:
            connection = await aio.connect(fake.name)
            await connection.wait_closed()
            for _ in range(2):
                assert (await connection.receive()).mess_type == 3
            for _ in range(2):
                with pytest.raises(ConnectionClosed):
                    await connection.receive()

    run(scenario())


def test_a_broken_stream_ends_the_connection():
    async def scenario():
        broken = FRAME[:36] + (101).to_bytes(4, "little") + FRAME[40:]
        async with FakeDaemon(ACCEPT + FRAME + broken + FRAME) as fake:
            connection = await aio.connect(fake.name)
            assert (await connection.receive()).mess_type == 3
            with pytest.raises(IllegalMessage):
                await connection.receive()

    run(scenario())
