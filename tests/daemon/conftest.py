from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datagram_sockets import bound
from twisted.internet.epollreactor import EPollReactor

from txspread.config import Configuration, parse
from txspread.engine.session_output import OutputQueue
from txspread.wire.packet import cut_train


class EchoSession:
    def __init__(self, transport):
        self.transport = transport
        self.output = OutputQueue()
        self.received = []


class EchoEngine:
    """An engine that sends back what it gets, and remembers how it was called."""

    prefer_tokens = False
    token_follows = False

    def __init__(self, configuration, me, host, alarms, now):
        self.host = host
        self.calls = []
        self.sessions = []
        self.dirty = []
        self.turns = 0
        self.deadline = None
        self.on_received = None

    def start(self, now):
        self.calls.append("start")

    def stop(self, now):
        self.calls.append("stop")

    def datagram(self, data, channel, now):
        self.calls.append((channel, data))
        if data == b"raise":
            raise RuntimeError("meant to")

    def datagrams(self, batch, channel, now):
        for data in batch:
            self.datagram(data, channel, now)

    def train(self, train, size, channel, now):
        self.datagrams(cut_train(train, size), channel, now)

    def session_opened(self, transport, peer, now):
        session = EchoSession(transport)
        session.peer = peer
        self.sessions.append(session)
        return session

    def session_received(self, session, data, now):
        session.received.append(data)
        if self.on_received is not None:
            self.on_received(session, data)
            return
        session.output.append(data)
        self.dirty.append(session)

    def session_writable(self, session, now):
        session.transport.flush()

    def session_closed(self, session, now):
        self.calls.append("closed")
        session.transport.close()

    def timer(self, now):
        self.calls.append(("timer", now))
        self.deadline = None

    def next_timer(self):
        return self.deadline

    def end_of_turn(self, now):
        self.turns += 1
        dirty, self.dirty = self.dirty, []
        for session in dirty:
            session.transport.flush()


class RunningReactor:
    """A reactor of a test's own, in a thread of its own."""

    def __init__(self):
        self.reactor = EPollReactor()
        self._thread = threading.Thread(
            target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
        )
        self._thread.start()
        self.call(lambda: None)

    def call(self, function: Callable):
        """Run a function in the reactor's thread; its result, or its exception."""
        done = threading.Event()
        result = []

        def run():
            try:
                result.append((function(), None))
            except BaseException as error:
                result.append((None, error))
            done.set()

        self.reactor.callFromThread(run)
        assert done.wait(20), "the reactor is stuck"
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def stop(self):
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def running_reactor() -> Iterator[RunningReactor]:
    running = RunningReactor()
    yield running
    running.stop()


@pytest.fixture
def echo_engine():
    return EchoEngine


def is_free(port: int) -> bool:
    try:
        for kind, number in (
            (socket.SOCK_STREAM, port),
            (socket.SOCK_DGRAM, port),
            (socket.SOCK_DGRAM, port + 1),
        ):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("0.0.0.0", number))
    except OSError:
        return False
    return True


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports whose neighbour is free as well."""
    given: set[int] = set()

    def find() -> int:
        while True:
            port = random.randrange(10000, 32000, 2)
            if port not in given and is_free(port):
                given.add(port)
                return port

    return find


@pytest.fixture
def one_daemon(free_port) -> Callable[..., Configuration]:
    """Make a configuration of one daemon, named ``alone``, with an interface stanza."""

    def make(options: str = "") -> Configuration:
        port = free_port()
        return parse(
            f"{options}\nAcceleratedRing = false\n"
            f"Spread_Segment 127.0.0.255:{port} {{ alone 127.0.0.1 {{ 127.0.0.1 }} }}\n"
        )

    return make


@pytest.fixture
def ring_of(free_port) -> Callable[[int], Configuration]:
    """Make a configuration of daemons d0, d1, ... each in a segment of its own."""

    def make(size: int) -> Configuration:
        text = "AcceleratedRing = false\n"
        for number in range(size):
            text += (
                f"Spread_Segment 127.0.{number}.255:{free_port()} "
                f"{{ d{number} 127.0.{number}.7 {{ 127.0.{number}.7 }} }}\n"
            )
        return parse(text)

    return make


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], object], limit: float = 20.0) -> None:
        deadline = time.monotonic() + limit
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            pause.wait(0.002)

    return wait


@pytest.fixture
def socket_directory(tmp_path_factory) -> Path:
    """A directory with a name short enough for a Unix socket."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def sending():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        yield opened


@pytest.fixture
def receiving():
    with bound() as opened:
        yield opened
