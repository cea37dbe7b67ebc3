"""Every way a connection can fail gives one clear error in bounded time."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol

from txspread.client import (
    AGREED_MESS,
    AuthenticationFailed,
    ConnectionClosed,
    ConnectionRejected,
    CouldNotConnect,
    DataMessage,
    IllegalMessage,
    IllegalSpread,
    PasswordMethod,
    SpreadCode,
    connect,
)
from txspread.wire.message import encode_message
from txspread.wire.session import encode_accept, encode_auth_list

pytest_plugins = ["client_fixtures"]
ACCEPT = encode_auth_list([b"NULL"]) + encode_accept(b"#me#fake")


class FakeDaemon(Protocol):
    """Answers with fixed bytes, then does what the test wants."""

    def __init__(self, answer, close, echo):
        self.answer = answer
        self.close = close
        self.echo = echo
        self.received = b""

    def connectionMade(self):
        self.transport.write(self.answer)

    def dataReceived(self, data):
        self.received += data
        # Closing with input unread would reset the connection.
        if self.close and len(self.received) >= (5 if len(self.answer) < 6 else 95):
            self.transport.loseConnection()
        if self.echo and len(data) > 90:
            # Everything behind the handshake comes back, as a daemon would deliver it.
            self.transport.write(data)


class Listening:
    def __init__(self, reactor, answer, close=False, echo=False):
        self.reactor = reactor
        self.connections = []
        self.make = lambda: FakeDaemon(answer, close, echo)

    async def __aenter__(self):
        def build():
            protocol = self.make()
            self.connections.append(protocol)
            return protocol

        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self.port = await endpoint.listen(Factory.forProtocol(build))
        self.name = f"{self.port.getHost().port}@127.0.0.1"
        return self

    async def __aexit__(self, *_):
        await self.port.stopListening()
        for protocol in self.connections:
            protocol.transport.abortConnection()


def test_nobody_listens(run, reactor):
    async def scenario():
        with pytest.raises(CouldNotConnect):
            await connect("1@127.0.0.1", reactor=reactor)
        with pytest.raises(CouldNotConnect):
            await connect("unix:/nonexistent/socket", reactor=reactor)

    run(scenario())


def test_a_name_that_cannot_be_is_told_by_the_returned_deferred(run, reactor):
    async def scenario():
        with pytest.raises(IllegalSpread):
            await connect("bogus@127.0.0.1", reactor=reactor)

    run(scenario())


@pytest.mark.parametrize(
    "answer", [b"", b"\x05NU", ACCEPT[:6], ACCEPT[:9], ACCEPT[:-1]], ids=lambda a: f"{len(a)} bytes"
)
def test_a_handshake_that_stalls_ends_in_time(run, reactor, answer):
    async def scenario():
        async with Listening(reactor, answer) as fake:
            before = reactor.seconds()
            with pytest.raises(ConnectionClosed) as caught:
                await connect(fake.name, reactor=reactor, timeout=0.3)
            assert reactor.seconds() - before < 5
            assert "0.3 seconds" in str(caught.value)

    run(scenario())


@pytest.mark.parametrize("size", [0, 3, 6, 9, len(ACCEPT) - 1])
def test_a_daemon_that_closes_in_the_handshake_is_told(run, reactor, size):
    async def scenario():
        async with Listening(reactor, ACCEPT[:size], close=True) as fake:
            with pytest.raises(ConnectionClosed) as caught:
                await connect(fake.name, reactor=reactor)
            assert "during the handshake" in str(caught.value)

    run(scenario())


@pytest.mark.parametrize("code", [-3, -4, -5, -6, -7, -9])
@pytest.mark.parametrize("late", [False, True])
def test_each_reject_code_becomes_its_exception(run, reactor, code, late):
    async def scenario():
        answer = (ACCEPT[:6] if late else b"") + code.to_bytes(1, "little", signed=True)
        async with Listening(reactor, answer, close=True) as fake:
            with pytest.raises(ConnectionRejected) as caught:
                await connect(fake.name, reactor=reactor)
            assert caught.value.code == code
            assert caught.value.code.name in str(caught.value)

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"\x7f" + b"x" * 127, ConnectionClosed),
        (b"\x80", ConnectionClosed),
        (b"SSH-2.0-OpenSSH_9.2\r\n" * 10, AuthenticationFailed),
        (ACCEPT[:6] + b"\x02", ConnectionClosed),
        (ACCEPT[:6] + b"\x01\x04\x04\x00\x20" + b"x" * 32, ConnectionClosed),
        (ACCEPT[:6] + b"\x01\x02\x09\x09", ConnectionRejected),
    ],
)
def test_something_that_is_no_daemon_is_noticed(run, reactor, answer, error):
    async def scenario():
        async with Listening(reactor, answer) as fake:
            with pytest.raises(error):
                await connect(fake.name, reactor=reactor, timeout=2)

    run(scenario())


def test_a_method_that_the_daemon_does_not_allow_is_refused_without_sending(run, reactor):
    async def scenario():
        async with Listening(reactor, ACCEPT) as fake:
            with pytest.raises(AuthenticationFailed) as caught:
                await connect(fake.name, methods=[PasswordMethod("u", "secret")], reactor=reactor)
            assert "PWORD" in str(caught.value)
            assert "secret" not in repr(PasswordMethod("u", "secret"))
            assert len(fake.connections[0].received) < 90

    run(scenario())


def test_a_cancelled_connect_closes_its_connection(run, reactor):
    async def scenario():
        async with Listening(reactor, b"") as fake:
            attempt = connect(fake.name, reactor=reactor)
            while not fake.connections:
                await pause(reactor)
            attempt.cancel()
            with pytest.raises(CancelledError):
                await attempt

    run(scenario())


def test_a_connect_that_nobody_answers_ends_in_time_or_when_cancelled(run, reactor):
    class Nowhere:
        """An endpoint whose peer never answers."""

        def connect(self, factory):
            return Deferred(lambda d: d.errback(ConnectingCancelledError(None)))

    async def scenario():
        with pytest.raises(CouldNotConnect) as caught:
            await connect(Nowhere(), reactor=reactor, timeout=0.05)
        assert "0.05 seconds" in str(caught.value)
        attempt = connect(Nowhere(), reactor=reactor)
        attempt.cancel()
        with pytest.raises(CancelledError):
            await attempt

    run(scenario())


def pause(reactor):
    from twisted.internet.task import deferLater

    return deferLater(reactor, 0.01, lambda: None)


def test_a_silent_daemon_is_given_up(run, reactor):
    async def scenario():
        async with Listening(reactor, ACCEPT) as fake:
            connection = await connect(fake.name, reactor=reactor, silence_timeout=0.4)
            before = reactor.seconds()
            with pytest.raises(ConnectionClosed) as caught:
                await connection.receive()
            assert 0.2 < reactor.seconds() - before < 5
            assert "silent" in str(caught.value)
            assert await connection.when_closed() is caught.value

    run(scenario())


def test_an_idle_daemon_that_answers_probes_is_kept_and_the_probes_stay_hidden(run, reactor):
    async def scenario():
        async with Listening(reactor, ACCEPT, echo=True) as fake:
            connection = await connect(fake.name, reactor=reactor, silence_timeout=0.2)
            start = reactor.seconds()
            while reactor.seconds() - start < 0.8:
                await pause(reactor)
            assert connection.is_open
            assert connection.waiting == 0
            assert len(fake.connections[0].received) > 90 + 3 * 80
            await connection.disconnect()

    run(scenario())


def test_a_program_that_does_not_read_does_not_take_the_daemon_for_silent(run, reactor):
    async def scenario():
        frame = encode_message(AGREED_MESS, b"#x#fake", [b"g"], b"y" * 100)
        async with Listening(reactor, ACCEPT + frame * 3) as fake:
            connection = await connect(
                fake.name, reactor=reactor, silence_timeout=0.2, receive_limit=200
            )
            start = reactor.seconds()
            while reactor.seconds() - start < 0.5:
                await pause(reactor)
            assert connection.is_open
            assert len([await connection.receive() for _ in range(3)]) == 3
            await connection.disconnect()

    run(scenario())


def test_what_came_before_the_end_is_delivered_before_the_error(run, reactor):
    async def scenario():
        frame = encode_message(AGREED_MESS, b"#x#fake", [b"g"], b"y", 3)
        answer = ACCEPT + frame * 2 + frame[:50]
        async with Listening(reactor, answer, close=True) as fake:
            connection = await connect(fake.name, reactor=reactor)
            await connection.when_closed()
            for _ in range(2):
                assert (await connection.receive()).mess_type == 3
            for _ in range(2):
                with pytest.raises(ConnectionClosed):
                    await connection.receive()

    run(scenario())


def test_a_broken_stream_ends_the_connection(run, reactor):
    async def scenario():
        frame = encode_message(AGREED_MESS, b"#x#fake", [b"g"], b"y")
        broken = frame[:36] + (101).to_bytes(4, "little") + frame[40:]
        async with Listening(reactor, ACCEPT + frame + broken + frame) as fake:
            connection = await connect(fake.name, reactor=reactor)
            assert isinstance(await connection.receive(), DataMessage)
            with pytest.raises(IllegalMessage) as caught:
                await connection.receive()
            assert caught.value.code is SpreadCode.ILLEGAL_MESSAGE
            assert (await connection.when_closed()).code is SpreadCode.ILLEGAL_MESSAGE

    run(scenario())


def test_an_exception_in_a_callback_is_logged_and_the_flow_goes_on(run, reactor, unhandled):
    async def scenario():
        frame = encode_message(AGREED_MESS, b"#x#fake", [b"g"], b"y")
        async with Listening(reactor, ACCEPT + frame * 3) as fake:
            connection = await connect(fake.name, reactor=reactor)
            seen = []

            def fail(message):
                seen.append(message)
                raise RuntimeError("the program's fault")

            connection.deliver_to(fail)
            while len(seen) < 3:
                await pause(reactor)
            await connection.disconnect()

    run(scenario())
    assert len(unhandled) == 3
    unhandled.clear()


def test_a_producer_is_paused_and_resumed(run, reactor):
    async def scenario():
        async with Listening(reactor, ACCEPT) as fake:
            connection = await connect(fake.name, reactor=reactor, send_limit=100_000)
            calls = []

            class Producer:
                def pauseProducing(self):
                    calls.append("pause")

                def resumeProducing(self):
                    calls.append("resume")

                def stopProducing(self):
                    calls.append("stop")

            connection.registerProducer(Producer(), True)
            while connection.buffered < 60_000:
                connection.multicast(AGREED_MESS, "g", b"x" * 1000)
            assert calls == ["pause"]
            while len(calls) < 2:
                await pause(reactor)
            assert calls == ["pause", "resume"]
            await connection.disconnect()
            assert calls == ["pause", "resume", "stop"]
            assert len(fake.connections[0].received) > 60_000

    run(scenario())


def test_a_pull_producer_is_asked_while_there_is_room(run, reactor):
    async def scenario():
        async with Listening(reactor, ACCEPT) as fake:
            connection = await connect(fake.name, reactor=reactor)

            class Producer:
                left = 5

                def resumeProducing(self):
                    if self.left:
                        self.left -= 1
                        connection.multicast(AGREED_MESS, "g", b"piece")

                def stopProducing(self):
                    self.left = 0

            producer = Producer()
            connection.registerProducer(producer, False)
            while producer.left:
                await pause(reactor)
            connection.unregisterProducer()
            await connection.disconnect()

    run(scenario())
