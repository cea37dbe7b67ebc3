"""What a service manager tells the daemon and hears of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from txspread.daemon.systemd import Inherited, ServiceManager, inherited_sockets

ROOT = Path(__file__).parents[2]


@pytest.fixture
def manager(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(60)
        yield path, told


def test_without_a_manager_nobody_is_told():
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}):
        one = ServiceManager(environment)
        assert not one.present
        one.tell("READY=1")
        one.close()
    assert not ServiceManager({"NOTIFY_SOCKET": "/nowhere/at/all"}).present


def test_a_manager_is_told_and_its_variables_are_taken_away(manager):
    path, told = manager
    environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000", "OTHER": "x"}
    one = ServiceManager(environment)
    assert environment == {"OTHER": "x"}
    assert one.watchdog_seconds == 3.0
    one.tell("READY=1", "STATUS=fine")
    assert told.recv(100) == b"READY=1\nSTATUS=fine"
    one.close()
    one.tell("READY=1")


def test_an_abstract_socket_is_told_too():
    name = f"txspread-test-{os.getpid()}-{random.randrange(1 << 30)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind("\0" + name)
        one = ServiceManager({"NOTIFY_SOCKET": "@" + name})
        one.tell("READY=1")
        assert told.recv(100) == b"READY=1"
        one.close()


def test_the_watchdog_of_another_process_is_not_ours(manager):
    path, _told = manager
    environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    one = ServiceManager(environment)
    assert one.watchdog_seconds is None
    one.close()


@contextlib.contextmanager
def descriptors(*sockets: socket.socket):
    """Copies of sockets under consecutive numbers."""
    first = 200
    for number, one in enumerate(sockets):
        os.dup2(one.fileno(), first + number)
    try:
        yield first
    finally:
        for number in range(len(sockets)):
            with contextlib.suppress(OSError):
                os.close(first + number)


def test_only_listening_stream_sockets_are_taken_over():
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        descriptors(idle, listening, datagrams) as first,
    ):
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "5", "LISTEN_FDNAMES": "x"}
        found = inherited_sockets(environment, first)
        assert environment == {}
        assert [one.getsockname() for one in found] == [listening.getsockname()]
        assert not os.get_inheritable(found[0].fileno())
        inherited = Inherited(found)
        host, port = listening.getsockname()
        assert inherited.take_tcp(host, port + 1) is None
        assert inherited.take_unix("/tmp/x") is None
        taken = inherited.take_tcp(host, port)
        assert taken is found[0]
        assert inherited.take_tcp(host, port) is None
        assert inherited.close() == []
        taken.close()


def test_sockets_for_another_process_are_left_alone():
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
    assert inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == []
    assert inherited_sockets({}) == []


def test_a_socket_that_nobody_needs_is_closed_and_named():
    left = socket.create_server(("127.0.0.1", 0))
    name = str(left.getsockname())
    assert Inherited([left]).close() == [name]
    assert left.fileno() == -1


HAND_DOWN = """
import os, sys
copies = [os.dup(int(number)) for number in sys.argv[1].split()]
for place, copy in enumerate(copies):
    os.dup2(copy, 3 + place)
    os.set_inheritable(3 + place, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "txspread", *sys.argv[2:]])
"""


def free_port() -> int:
    while True:
        port = random.randrange(20000, 32000, 2)
        try:
            for kind, number in ((socket.SOCK_STREAM, port), (socket.SOCK_DGRAM, port + 1)):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


def test_clients_wait_in_sockets_that_outlive_the_daemon(manager, tmp_path):
    path, told = manager
    port = free_port()
    sockets = tmp_path / "s"
    sockets.mkdir()
    (tmp_path / "spread.conf").write_text(
        "AcceleratedRing = false\nDaemonUser = root\nDaemonGroup = root\n"
        f"Spread_Segment 127.0.0.255:{port} {{ one 127.0.0.1 {{ 127.0.0.1 }} }}\n"
    )
    with (
        socket.create_server(("127.0.0.1", port)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(sockets / str(port)))
        unix.listen(50)
        early = socket.create_connection(("127.0.0.1", port), 60)
        for _run in range(2):
            process = start(tmp_path, sockets, path, [tcp, unix])
            try:
                expect(told, "READY=1")
                assert greet(early, b"early") == b"#early#one"
                with socket.socket(socket.AF_UNIX) as other:
                    other.settimeout(60)
                    other.connect(str(sockets / str(port)))
                    assert greet(other, b"local") == b"#local#one"
                early.close()
                process.send_signal(signal.SIGTERM)
                expect(told, "STOPPING=1")
                assert process.wait(60) == 0
            finally:
                process.kill()
                process.wait()
            assert (sockets / str(port)).exists()
            # Nobody serves now; a client that comes is not refused.
            early = socket.create_connection(("127.0.0.1", port), 60)
        early.close()


def start(where: Path, sockets: Path, notify: str, handed: list[socket.socket]):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NOTIFY_SOCKET": notify,
        "LISTEN_FDS": str(len(handed)),
        "WATCHDOG_USEC": "900000",
    }
    # The numbers from 3 on are taken in the child, as a service manager does it.
    numbers = " ".join(str(one.fileno()) for one in handed)
    options = f"-c spread.conf -n one --socket-directory {sockets} --state-directory {where}"
    return subprocess.Popen(
        [sys.executable, "-c", HAND_DOWN, numbers, *options.split()],
        cwd=where,
        env=environment,
        pass_fds=[one.fileno() for one in handed],
        stdout=subprocess.DEVNULL,
    )


def expect(told: socket.socket, wanted: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = told.recv(1000).decode().split("\n")
        if wanted in lines:
            return
        assert all(line.startswith(("STATUS=", "WATCHDOG=1")) for line in lines)
    raise AssertionError(f"{wanted} did not come")


def greet(connection: socket.socket, name: bytes) -> bytes:
    """Connect as a client; the private group given."""
    connection.settimeout(60)
    connection.sendall(bytes((4, 4, 0, 0, len(name))) + name)
    connection.recv(1, socket.MSG_WAITALL)
    connection.recv(5, socket.MSG_WAITALL)
    connection.sendall(b"NULL".ljust(90, b"\0"))
    head = connection.recv(5, socket.MSG_WAITALL)
    if head[0] != 1:
        return b""
    return connection.recv(head[4], socket.MSG_WAITALL)
