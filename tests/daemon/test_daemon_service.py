"""The whole daemon in this process: engine, sockets and reactor."""

from __future__ import annotations

import socket
import stat
import threading
import time

import pytest
from spread_client import SpreadClient

from txspread.config import parse
from txspread.daemon import host as host_module
from txspread.daemon.activity_log import ActivityLog
from txspread.daemon.event_log import EventLog
from txspread.daemon.service import SpreadService
from txspread.daemon.sockets import SocketError
from txspread.engine.alarms import SilentAlarms
from txspread.wire.constants import KILL_MESS, ServiceType
from txspread.wire.message import encode_message


@pytest.fixture
def serve(running_reactor, socket_directory):
    """Start a daemon; all are stopped in the end."""
    services = []

    def start(configuration, name, **options):
        options.setdefault("socket_directory", str(socket_directory))
        service = SpreadService(configuration, name, reactor=running_reactor.reactor, **options)
        running_reactor.call(service.startService)
        services.append(service)
        return service

    yield start
    for service in services:
        running_reactor.call(service.stopService)


@pytest.fixture
def connect():
    opened = []

    def make(service, name, *, unix=False):
        address = service.host.unix.path if unix else (service.me.address, service.me.port)
        opened.append(SpreadClient(address, name))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def test_clients_share_a_group_over_tcp_and_unix_socket(serve, one_daemon, connect):
    service = serve(one_daemon(), "alone")
    alice, bob = connect(service, b"alice"), connect(service, b"bob", unix=True)
    alice.join(b"lunch")
    bob.join(b"lunch")
    alice.wait_for_members(b"#alice#alone", b"#bob#alone")
    bob.wait_for_members(b"#alice#alone", b"#bob#alone")
    alice.send(b"lunch", b"soup?")
    assert bob.bodies(1) == [b"soup?"]
    assert alice.bodies(1) == [b"soup?"]
    bob.socket.sendall(encode_message(KILL_MESS, bob.private_group, [bob.private_group]))
    alice.wait_for_members(b"#alice#alone")


def test_thousands_of_messages_of_all_sizes_arrive_in_order(serve, one_daemon, connect):
    service = serve(one_daemon("MaxSessionMessages = 100000"), "alone")
    sender, receiver = connect(service, b"sender"), connect(service, b"receiver")
    receiver.join(b"g")
    receiver.wait_for_members(b"#receiver#alone")
    sent = [b"%06d" % number + bytes(number * 7 % 3000) for number in range(3000)]
    sent += [bytes(100_000), bytes(143_000), b"", b"last"]
    received = []
    batch = b"".join(
        encode_message(ServiceType.FIFO_MESS, sender.private_group, [b"g"], body) for body in sent
    )
    view, at = memoryview(batch), 0
    while at < len(batch):
        # In portions, so that neither side waits for the other.
        sender.socket.sendall(view[at : at + 100_000])
        at += 100_000
        while len(received) < len(sent) and _complete(sent, received, at):
            received += receiver.bodies(1)
    received += receiver.bodies(len(sent) - len(received))
    assert received == sent


def _complete(sent, received, limit):
    """Whether the next message has been sent in full."""
    size = sum(80 + len(body) for body in sent[: len(received) + 1])
    return size <= limit


def test_two_daemons_in_one_process_do_not_disturb_each_other(serve, one_daemon, connect):
    first, second = serve(one_daemon(), "alone"), serve(one_daemon(), "alone")
    here, there = connect(first, b"same"), connect(second, b"same")
    here.join(b"g")
    here.wait_for_members(b"#same#alone")
    there.join(b"g")
    there.wait_for_members(b"#same#alone")


def test_a_service_can_be_stopped_and_started_again(serve, one_daemon, connect, running_reactor):
    service = serve(one_daemon(), "alone")
    client = connect(service, b"c")
    running_reactor.call(service.stopService)
    with pytest.raises(ConnectionError):
        client.receive()
    assert service.host is None
    running_reactor.call(service.startService)
    again = connect(service, b"c")
    again.join(b"g")
    again.wait_for_members(b"#c#alone")


def test_a_port_in_use_leaves_nothing_open(serve, one_daemon, running_reactor, socket_directory):
    configuration = one_daemon()
    with socket.create_server(("127.0.0.1", configuration.by_name["alone"].port)):
        service = SpreadService(
            configuration,
            "alone",
            reactor=running_reactor.reactor,
            socket_directory=str(socket_directory),
        )
        with pytest.raises(SocketError):
            running_reactor.call(service.startService)
        assert service.host is None
        assert list(socket_directory.iterdir()) == []
    serve(configuration, "alone")


def test_three_daemons_form_a_ring_and_order_for_all(serve, ring_of, connect):
    configuration = ring_of(3)
    services = [serve(configuration, f"d{number}", socket_directory=None) for number in range(3)]
    clients = [connect(service, b"c%d" % number) for number, service in enumerate(services)]
    members = [client.private_group for client in clients]
    for client in clients:
        client.join(b"g")
    for client in clients:
        client.wait_for_members(*members)
    for number, client in enumerate(clients):
        for count in range(50):
            client.send(b"g", b"%d %d" % (number, count))
        client.send(b"g", bytes(20_000), ServiceType.SAFE_MESS)
    received = [client.bodies(153) for client in clients]
    assert received[0] == received[1] == received[2]
    for number in range(3):
        mine = [body for body in received[0] if body.startswith(b"%d " % number)]
        assert mine == [b"%d %d" % (number, count) for count in range(50)]


def test_the_survivors_hear_of_a_daemon_that_stops(serve, ring_of, connect, running_reactor):
    configuration = ring_of(2)
    services = [serve(configuration, f"d{number}", socket_directory=None) for number in range(2)]
    clients = [connect(service, b"c") for service in services]
    for client in clients:
        client.join(b"g")
    for client in clients:
        client.wait_for_members(b"#c#d0", b"#c#d1")
    running_reactor.call(services[1].stopService)
    clients[0].wait_for_members(b"#c#d0")


def test_times_in_membership_ids_grow_over_a_restart(serve, one_daemon, running_reactor, tmp_path):
    configuration = one_daemon()
    ids = []

    class Trace:
        def event(self, kind, **fields):
            if kind == "regular":
                ids.append(fields["membership_id"].time)

    for _ in range(3):
        service = serve(
            configuration, "alone", trace=Trace(), state_directory=str(tmp_path / "state")
        )
        running_reactor.call(service.stopService)
    assert len(ids) == 3
    assert ids[0] < ids[1] < ids[2]
    assert ids[2] - ids[0] < 10


@pytest.mark.parametrize("content", [b"", b"rubbish", b"9" * 30, b"99999999999\n", b"\0\0"])
def test_a_damaged_time_file_is_as_good_as_none(serve, one_daemon, tmp_path, content, connect):
    configuration = one_daemon()
    me = configuration.by_name["alone"]
    path = tmp_path / f"{me.address}-{me.port}.time"
    path.write_bytes(content)
    before = int(time.time())
    serve(configuration, "alone", state_directory=str(tmp_path))
    assert before - 1 <= int(path.read_bytes()) <= before + 60


def test_a_state_directory_that_cannot_be_made_is_no_obstacle(serve, one_daemon, tmp_path, connect):
    (tmp_path / "file").touch()
    service = serve(one_daemon(), "alone", state_directory=str(tmp_path / "file" / "state"))
    connect(service, b"c")


def test_a_daemon_that_lingers_leaves_the_reactor_its_share(
    serve, one_daemon, connect, running_reactor
):
    service = serve(one_daemon(), "alone", linger=True)
    client = connect(service, b"c")
    client.join(b"g")
    client.wait_for_members(b"#c#alone")
    rang = []

    def ring():
        rang.append(time.monotonic())
        if len(rang) < 20:
            running_reactor.reactor.callLater(0.001, ring)

    begin = time.monotonic()
    running_reactor.reactor.callFromThread(ring)
    while len(rang) < 20:
        client.send(b"g", b"x")
        assert client.bodies(1) == [b"x"]
        assert time.monotonic() - begin < 30, "delayed calls starve while a client is busy"


class TestWaitingInTheReactorsPlace:
    """The reactor of a daemon that lingers is served although it does not wait itself."""

    @pytest.fixture
    def service(self, serve, one_daemon, running_reactor):
        service = serve(one_daemon(), "alone", linger=True)
        assert "doIteration" in vars(running_reactor.reactor)
        return service

    def test_delayed_calls_are_on_time(self, service, running_reactor):
        rang = threading.Event()
        begin = time.monotonic()
        running_reactor.call(lambda: running_reactor.reactor.callLater(0.05, rang.set))
        assert rang.wait(30)
        assert 0.05 <= time.monotonic() - begin < 5

    def test_calls_from_threads_do_not_wait_for_anything(self, service, running_reactor):
        begin = time.monotonic()
        for _ in range(20):
            running_reactor.call(lambda: None)
        assert time.monotonic() - begin < 20

    def test_its_descriptors_are_read(self, service, running_reactor):
        here, there = socket.socketpair()
        got = threading.Event()

        class Reader:
            def fileno(self):
                return here.fileno()

            def doRead(self):
                here.recv(10)
                got.set()

            def connectionLost(self, reason):
                pass

            def logPrefix(self):
                return "test"

        reader = Reader()
        with here, there:
            running_reactor.call(lambda: running_reactor.reactor.addReader(reader))
            there.send(b"x")
            assert got.wait(30)
            running_reactor.call(lambda: running_reactor.reactor.removeReader(reader))

    def test_a_second_daemon_is_served_as_well(self, service, serve, one_daemon, connect):
        second = serve(one_daemon(), "alone", linger=True, socket_directory=None)
        for one in (service, second):
            client = connect(one, b"c")
            client.join(b"g")
            client.wait_for_members(b"#c#alone")
            client.send(b"g", b"x")
            assert client.bodies(1) == [b"x"]

    def test_the_wait_is_given_back(self, service, running_reactor):
        running_reactor.call(service.stopService)
        assert "doIteration" not in vars(running_reactor.reactor)
        running_reactor.call(lambda: None)


def test_buffers_smaller_than_asked_for_are_pointed_out(serve, ring_of, monkeypatch):
    monkeypatch.setattr(
        host_module,
        "enlarge_buffer",
        lambda opened, *, receive: 212_992 if receive else host_module.DATAGRAM_BUFFER,
    )
    log = []
    serve(ring_of(2), "d0", alarms=EventLog(log.append), socket_directory=None)
    assert [line for line in log if "net.core" in line] == [
        "DL_init_channel: asked for a receive buffer of 4194304 bytes, the kernel gives 212992: "
        "bursts may be lost and sent again; raise net.core.rmem_max\n"
    ]


def test_a_daemon_without_peers_does_not_mind_small_buffers(serve, one_daemon, monkeypatch):
    monkeypatch.setattr(host_module, "enlarge_buffer", lambda opened, *, receive: 1)
    log = []
    serve(one_daemon(), "alone", alarms=EventLog(log.append), socket_directory=None)
    assert not any("net.core" in line for line in log)


def test_the_engine_can_end_the_daemon(serve, one_daemon, running_reactor, eventually):
    reasons = []
    service = serve(one_daemon(), "alone", left=reasons.append)
    running_reactor.call(lambda: service.host.leave("a monitor said so"))
    running_reactor.call(lambda: service.host.leave("and again"))
    eventually(lambda: reasons)
    running_reactor.call(lambda: None)
    assert reasons == ["a monitor said so"]


def test_without_anybody_to_ask_it_stops_itself(serve, one_daemon, running_reactor, eventually):
    service = serve(one_daemon(), "alone")
    running_reactor.call(lambda: service.host.leave("a monitor said so"))
    eventually(lambda: service.host is None)
    assert not service.running


class Clock:
    now = 1795464748.0

    def __call__(self):
        return self.now


def test_the_activity_log_tells_of_the_daemon_and_its_clients(
    serve, one_daemon, connect, tmp_path, running_reactor, eventually
):
    configuration = one_daemon()
    path = tmp_path / "alone"
    log = ActivityLog(str(path), configuration, SilentAlarms(), Clock())
    service = serve(configuration, "alone", activity=log)
    client = connect(service, b"u1")
    mailbox = next(iter(service.host._transports)).session.mailbox
    client.close()
    silent = socket.create_connection((service.me.address, service.me.port))
    silent.close()
    eventually(lambda: "\nD" in path.read_text() and service.client_count == 0)
    running_reactor.call(service.stopService)
    lines = path.read_text().splitlines(keepends=True)
    assert lines[0] == "B    1795464748\n"
    assert lines[1].startswith("M    1795464748 ")
    assert lines[1].endswith(" >  0\n")
    client_fields = f"    1795464748           0 {mailbox:3d} 127.0.0.1        u1        "
    assert lines[2] == f"C{client_fields}\n"
    assert lines[3] == f"D{client_fields} 0\n"
    assert lines[4] == "A    1795464748           0\n"
    assert len(lines[4]) == 28
    assert len(lines) == 5


def test_the_alive_record_is_written_over(one_daemon, tmp_path):
    clock = Clock()
    path = tmp_path / "alone"
    log = ActivityLog(str(path), one_daemon(), SilentAlarms(), clock)
    size = path.stat().st_size
    for _ in range(5):
        clock.now += 10
        log.alive()
    assert path.stat().st_size == size
    assert f"A {int(clock.now):13d}" in path.read_text()
    log.close()
    ActivityLog(str(path), one_daemon(), SilentAlarms(), clock).close()
    assert [line[0] for line in path.read_text().splitlines()] == ["B", "A", "B", "A"]


def test_the_unix_socket_is_for_everybody(serve, one_daemon, socket_directory):
    service = serve(one_daemon(), "alone")
    mode = (socket_directory / str(service.me.port)).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666


def test_a_daemon_may_serve_tcp_only(serve, one_daemon, connect, socket_directory):
    service = serve(one_daemon(), "alone", socket_directory=None)
    connect(service, b"c")
    assert list(socket_directory.iterdir()) == []


def test_a_daemon_without_client_interface_serves_the_unix_socket(serve, free_port, connect):
    configuration = parse(
        f"Spread_Segment 127.0.0.255:{free_port()} {{ alone 127.0.0.1 {{ D 127.0.0.1 }} }}\n"
    )
    service = serve(configuration, "alone")
    connect(service, b"c", unix=True)
    with pytest.raises(ConnectionRefusedError):
        connect(service, b"d")
