"""Client connections through the shell, with an engine that echoes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time

import pytest

from txspread.daemon import host as host_module
from txspread.daemon import stream
from txspread.daemon.hub import EpollHub, ReactorHub
from txspread.daemon.service import SpreadService
from txspread.engine.alarms import SilentAlarms
from txspread.form import form

pytestmark = pytest.mark.skipif(
    form() == "compiled", reason="the compiled host takes no engine with sessions of its own kind"
)


class Recorder(SilentAlarms):
    def __init__(self):
        self.lines = []

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append(text % args if args else text)


@pytest.fixture(params=[EpollHub, ReactorHub])
def service(request, monkeypatch, one_daemon, running_reactor, echo_engine, socket_directory):
    monkeypatch.setattr(host_module, "make_hub", request.param)
    service = SpreadService(
        one_daemon(),
        "alone",
        Recorder(),
        reactor=running_reactor.reactor,
        socket_directory=str(socket_directory),
        engine_factory=echo_engine,
    )
    running_reactor.call(service.startService)
    yield service
    running_reactor.call(service.stopService)


@pytest.fixture
def engine(service):
    return service.host.engine


@pytest.fixture
def connect(service):
    with contextlib.ExitStack() as opened:

        def make(*, unix=False):
            if unix:
                client = socket.socket(socket.AF_UNIX)
                client.connect(service.host.unix.path)
            else:
                client = socket.create_connection(("127.0.0.1", service.me.port))
            client.settimeout(20)
            return opened.enter_context(client)

        yield make


def exactly(client, size):
    data = bytearray()
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, f"closed after {len(data)} of {size} bytes"
        data += part
    return bytes(data)


@pytest.mark.parametrize("unix", [False, True])
def test_bytes_go_there_and_back(connect, unix):
    client = connect(unix=unix)
    client.sendall(b"hello")
    assert exactly(client, 5) == b"hello"


def test_the_engine_learns_where_a_client_comes_from(connect, engine, eventually):
    connect()
    connect(unix=True)
    eventually(lambda: len(engine.sessions) == 2)
    peers = {session.peer.address for session in engine.sessions}
    assert peers == {0x7F000001, 0}
    assert all(session.peer.mailbox > 2 for session in engine.sessions)


def test_megabytes_arrive_whole_and_in_order(connect):
    client = connect()
    data = os.urandom(3_000_000)
    view = memoryview(data)
    client.setblocking(False)
    sent, back = 0, bytearray()
    deadline = time.monotonic() + 30
    while len(back) < len(data):
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            sent += client.send(view[sent : sent + 100_000])
        with contextlib.suppress(BlockingIOError):
            back += client.recv(100_000)
    assert back == data


def test_what_has_arrived_is_handed_over_in_one_piece(connect, engine, running_reactor, eventually):
    client = connect()
    eventually(lambda: engine.sessions)
    session = engine.sessions[0]

    def while_the_daemon_is_busy():
        for _ in range(100):
            client.sendall(bytes(50))
        # Until the kernel has it all.
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            waiting = struct.unpack("i", _bytes_waiting(session))[0]
            if waiting == 5000:
                return

    def _bytes_waiting(session):
        import fcntl
        import termios

        return fcntl.ioctl(session.transport.fileno(), termios.FIONREAD, b"\0\0\0\0")

    running_reactor.call(while_the_daemon_is_busy)
    assert exactly(client, 5000) == bytes(5000)
    assert [len(part) for part in session.received] == [5000]


def test_a_silent_client_delays_nobody(connect):
    silent = [connect() for _ in range(20)]
    begin = time.monotonic()
    client = connect()
    client.sendall(b"x")
    assert exactly(client, 1) == b"x"
    assert time.monotonic() - begin < 0.9, "upstream waits a second for each silent client"
    assert all(client.fileno() > 0 for client in silent)


def test_a_hundred_connect_at_once(connect):
    clients = [connect(unix=number % 2 == 0) for number in range(100)]
    for number, client in enumerate(clients):
        client.sendall(b"%03d" % number)
    assert [exactly(client, 3) for client in clients] == [b"%03d" % n for n in range(100)]


def test_a_reader_that_stops_keeps_its_output_until_it_goes_on(
    connect, engine, running_reactor, eventually
):
    slow, other = connect(), connect()
    eventually(lambda: len(engine.sessions) == 2)
    session = engine.sessions[0]
    port = slow.getsockname()[1]
    assert port
    data = os.urandom(10_000_000)

    def write():
        for start in range(0, len(data), 100_000):
            session.output.append(data[start : start + 100_000])
        session.transport.flush()

    running_reactor.call(write)
    reader = slow if running_reactor.call(lambda: session.output.size) else None
    assert reader is slow, "the kernel cannot have taken ten megabytes"
    other.sendall(b"meanwhile")
    assert exactly(other, 9) == b"meanwhile"
    assert exactly(slow, len(data)) == data
    eventually(lambda: session.output.size == 0)


def test_the_end_of_a_stream_comes_after_its_bytes(connect, engine, eventually):
    client = connect()
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert exactly(client, 10) == b"last words"
    assert client.recv(1) == b""
    assert engine.calls == ["start", "closed"]


def test_a_reset_ends_the_session(connect, engine, service, eventually):
    client = connect()
    client.sendall(b"x")
    exactly(client, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    eventually(lambda: "closed" in engine.calls)
    eventually(lambda: service.client_count == 0)


def test_a_paused_client_is_read_again_when_resumed(connect, engine, running_reactor):
    client = connect()
    client.sendall(b"one")
    assert exactly(client, 3) == b"one"
    session = engine.sessions[0]
    running_reactor.call(session.transport.pause)
    turns = engine.turns
    client.sendall(b"two")
    other = connect()
    other.sendall(b"x")
    assert exactly(other, 1) == b"x"
    assert b"two" not in session.received
    assert engine.turns - turns < 50, "a paused client must not keep the daemon awake"
    running_reactor.call(session.transport.resume)
    # Resuming takes effect at the end of a turn.
    other.sendall(b"y")
    assert exactly(client, 3) == b"two"


def test_a_paused_client_that_goes_away_is_noticed_when_resumed(
    connect, engine, running_reactor, eventually
):
    client = connect()
    client.sendall(b"one")
    assert exactly(client, 3) == b"one"
    session = engine.sessions[0]
    running_reactor.call(session.transport.pause)
    other = connect()
    other.sendall(b"x")
    exactly(other, 1)
    client.close()
    other.sendall(b"x")
    exactly(other, 1)
    assert "closed" not in engine.calls
    running_reactor.call(session.transport.resume)
    other.sendall(b"x")
    exactly(other, 1)
    eventually(lambda: "closed" in engine.calls)


def test_a_reject_reaches_a_client_whose_bytes_were_not_read(connect, engine):
    def refuse(session, data):
        session.output.append(b"\xfb")
        session.transport.flush()
        session.transport.close()

    engine.on_received = refuse
    for _ in range(20):
        client = connect()
        client.sendall(b"x" * 1000)
        assert exactly(client, 1) == b"\xfb"
        assert client.recv(1) == b""


def test_accepting_can_be_stopped_and_resumed(connect, engine, service, running_reactor):
    running_reactor.call(service.host.pause_accepting)
    waiting = connect()
    waiting.sendall(b"x")
    waiting.settimeout(0.2)
    running_reactor.call(lambda: None)
    with pytest.raises(TimeoutError):
        waiting.recv(1)
    running_reactor.call(service.host.resume_accepting)
    running_reactor.call(service.host._hub.run_soon)
    waiting.settimeout(20)
    assert exactly(waiting, 1) == b"x"


def test_a_fault_of_the_engine_costs_one_client(connect, engine, service):
    def break_down(session, data):
        if data == b"raise":
            raise RuntimeError("meant to")
        session.output.append(data)
        engine.dirty.append(session)

    engine.on_received = break_down
    good, bad = connect(), connect()
    bad.sendall(b"raise")
    assert bad.recv(1) == b""
    good.sendall(b"still here")
    assert exactly(good, 10) == b"still here"
    assert service.host.faults == 1
    assert sum("RuntimeError: meant to" in line for line in service.alarms.lines) == 1


def test_without_descriptors_a_connection_is_closed_and_the_daemon_lives(
    connect, service, monkeypatch, running_reactor, eventually
):
    listener = service.host._listeners[0]
    real = listener._socket

    class Exhausted:
        failing = True

        def accept(self):
            if self.failing:
                Exhausted.failing = False
                raise OSError(errno.EMFILE, "Too many open files")
            return real.accept()

        def __getattr__(self, name):
            return getattr(real, name)

    monkeypatch.setattr(listener, "_socket", Exhausted())
    refused = connect()
    assert refused.recv(1) == b""
    served = connect()
    served.sendall(b"x")
    assert exactly(served, 1) == b"x"
    assert any("raise the limit of open files" in line for line in service.alarms.lines)


def test_options_of_accepted_sockets(connect, engine, eventually):
    connect()
    eventually(lambda: engine.sessions)
    accepted = engine.sessions[0].transport._socket
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= stream.CLIENT_BUFFER


def test_stopping_closes_everything(connect, service, running_reactor):
    client = connect()
    path = service.host.unix.path
    running_reactor.call(service.stopService)
    assert client.recv(1) == b""
    assert not os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        connect()


def test_a_timer_of_the_engine_rings_when_due(engine, service, running_reactor, eventually):
    begin = time.monotonic()

    def arm():
        engine.deadline = begin + 0.05
        service.host._hub.run_soon()

    running_reactor.call(arm)
    eventually(lambda: any(call[0] == "timer" for call in engine.calls))
    rang = next(call[1] for call in engine.calls if call[0] == "timer")
    assert 0.05 <= rang - begin < 5


def test_a_timer_pushed_back_does_not_ring_early(connect, engine, eventually):
    begin = time.monotonic()

    def set_timer(session, data):
        engine.deadline = engine.set_for = begin + float(data)
        session.output.append(data)
        engine.dirty.append(session)

    engine.on_received = set_timer
    client = connect()
    for delay in (b"0.10", b"0.50"):
        client.sendall(delay)
        exactly(client, 4)
    eventually(lambda: any(call[0] == "timer" for call in engine.calls))
    rang = next(call[1] for call in engine.calls if call[0] == "timer")
    assert rang >= engine.set_for


def test_a_timer_brought_forward_rings_in_time(connect, engine, eventually):
    def set_timer(session, data):
        engine.deadline = time.monotonic() + float(data)
        session.output.append(data)
        engine.dirty.append(session)

    engine.on_received = set_timer
    client = connect()
    for delay in (b"99.0", b"0.01"):
        client.sendall(delay)
        exactly(client, 4)
    eventually(lambda: any(call[0] == "timer" for call in engine.calls))
