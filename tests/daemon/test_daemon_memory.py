"""What clients leave behind in a daemon once they have gone: nothing."""

from __future__ import annotations

import gc
import socket
import struct
from collections import Counter
from pathlib import Path

import pytest
from spread_client import SpreadClient

from txspread.daemon import host as host_module
from txspread.daemon.activity_log import ActivityLog
from txspread.daemon.hub import EpollHub, ReactorHub
from txspread.daemon.service import SpreadService
from txspread.daemon.stream import ClientTransport
from txspread.engine.alarms import SilentAlarms
from txspread.engine.handshake import Handshake, PeerAddress
from txspread.engine.session_output import OutputQueue
from txspread.engine.sessions_state import Session
from txspread.testing.processes import DaemonRing, txspread_command
from txspread.wire.constants import KILL_MESS
from txspread.wire.message import encode_message

OF_A_CLIENT = (ClientTransport, Session, Handshake, OutputQueue, PeerAddress)
GROWTH_LIMIT = 2048
"""KiB by which a daemon may grow in a test: allocators are not exact.  When all that
visitors had was kept it were more than twice as many."""


@pytest.fixture
def without_collections():
    """Nobody comes by for reference cycles."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    yield
    if enabled:
        gc.enable()


def alive():
    """How many objects there are of each type that a client has."""
    found = Counter(type(one) for one in gc.get_objects())
    return {one.__name__: found[one] for one in OF_A_CLIENT}


@pytest.fixture(params=["epoll", "reactor", "activity log"])
def service(request, monkeypatch, tmp_path, running_reactor, one_daemon, socket_directory):
    configuration, options = one_daemon("MaxSessionMessages = 100"), {}
    if request.param == "activity log":
        options["activity"] = ActivityLog(str(tmp_path / "activity"), configuration, SilentAlarms())
    hub = ReactorHub if request.param == "reactor" else EpollHub
    monkeypatch.setattr(host_module, "make_hub", hub)
    service = SpreadService(
        configuration,
        "alone",
        reactor=running_reactor.reactor,
        socket_directory=str(socket_directory),
        **options,
    )
    running_reactor.call(service.startService)
    yield service
    running_reactor.call(service.stopService)


def kill(client):
    return encode_message(KILL_MESS, client.private_group, [client.private_group])


def goodbye(client):
    client.socket.sendall(kill(client))
    assert not client.socket.recv(1)


def cut_off(client):
    client.socket.sendall(bytes(48))
    while client.socket.recv(1000):
        pass


def reset(client):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def vanish(client):
    client.join(b"later")
    client.send(b"later", bytes(3000))


def half_a_frame(client):
    client.socket.sendall(bytes((0x84, 0, 0, 0x80)))


def not_reading(client):
    for _ in range(20):
        client.send(client.private_group, bytes(100_000))


@pytest.mark.parametrize("way", [goodbye, cut_off, reset, vanish, half_a_frame, not_reading])
@pytest.mark.usefixtures("without_collections")
def test_sessions_are_freed_when_they_end(way, service, running_reactor, eventually):
    host = service.host
    before = alive()
    for number in range(20):
        client = SpreadClient((service.me.address, service.me.port), b"c%d" % number)
        client.join(b"g")
        client.wait_for_members(client.private_group)
        client.send(b"g", b"hello")
        assert client.bodies(1) == [b"hello"]
        way(client)
        client.close()
        eventually(lambda: running_reactor.call(lambda: host.engine.sessions.count) == 0)
    eventually(lambda: running_reactor.call(alive) == before)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        bytes((4, 4)),
        bytes((4, 4, 0, 1, 3)) + b"abc",
        bytes((4, 4, 0, 1, 3)) + b"abc" + b"nothing".ljust(90, b"\0"),
        bytes((2, 0, 0, 1, 3)) + b"abc",
        bytes((4, 4, 0, 1, 3)) + b"a#c",
    ],
    ids=["silent", "half", "no choice", "bad choice", "old", "illegal name"],
)
@pytest.mark.usefixtures("without_collections")
def test_connections_that_become_no_session_are_freed(
    request_bytes, service, running_reactor, eventually
):
    before = alive()
    for _ in range(20):
        with socket.create_connection((service.me.address, service.me.port)) as client:
            client.sendall(request_bytes)
        eventually(lambda: running_reactor.call(lambda: service.host.client_count) == 0)
    eventually(lambda: running_reactor.call(alive) == before)


def resident(process):
    """KiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no resident memory")


def visit(daemon, first, count):
    """Sessions with names of their own, some ten at a time, that go in two ways."""
    present = []
    for number in range(first, first + count):
        client = SpreadClient(
            (daemon.address, daemon.port), b"v%d" % number, membership=number % 2 == 0
        )
        client.join(b"g%d" % (number % 7))
        client.send(b"g%d" % (number % 7), bytes(100_000 if number % 50 == 0 else 500))
        client.send(client.private_group, b"done")
        present.append(client)
        if len(present) > 10:
            leave(present.pop(0), number)
    for client in present:
        leave(client, 0)


def leave(client, number):
    while client.bodies(1) != [b"done"]:
        pass
    if number % 3:
        client.socket.sendall(kill(client))
    client.close()


def test_a_daemon_does_not_grow_with_visitors():
    with DaemonRing([txspread_command()]) as ring:
        daemon = ring.daemons[0]
        visit(daemon, 0, 500)
        before = resident(daemon.process)
        visit(daemon, 500, 3000)
        assert resident(daemon.process) - before < GROWTH_LIMIT
