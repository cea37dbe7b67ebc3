"""Who gets in at a real daemon: the number of sessions, required methods, passwords."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from acceptance_clients import NULL_CHOICE, LeanCrowd, connect_request

from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command, wait_until
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.timeout(120)

MAX_SESSIONS = 997
REJECT_QUOTA = b"\xfd"
REJECT_AUTH = b"\xf7"
ACCEPTED = b"\x01"


def connection(daemon: DaemonProcess) -> socket.socket:
    return socket.create_connection((daemon.address, daemon.port), 30)


def until_closed(client: socket.socket) -> bytes:
    data = b""
    try:
        while part := client.recv(65536):
            data += part
    except ConnectionError:
        pass
    client.close()
    return data


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, "closed"
        data += part
    return data


def works(crowd: LeanCrowd, daemon: DaemonProcess, name: bytes) -> None:
    """A newcomer gets in, joins, and hears itself."""
    client = crowd.connect(daemon, name)
    assert crowd.run_until(lambda: client.accepted, 30)
    client.join(b"group")
    client.multicast(b"group", b"body")
    assert crowd.run_until(lambda: client.bodies == [b"body"], 30)
    client.close()


def test_as_many_sessions_as_upstream_has_and_no_more() -> None:
    with DaemonRing([txspread_command()], {"DebugFlags": "{ PRINT EXIT SESSION }"}) as ring:
        daemon = ring.daemons[0]
        crowd = LeanCrowd()
        clients = [crowd.connect(daemon, b"c%d" % number) for number in range(MAX_SESSIONS)]
        assert crowd.run_until(
            lambda: all(client.accepted or client.closed for client in clients), 60
        )
        assert not any(client.closed for client in clients)
        silent = connection(daemon)
        assert until_closed(silent) == REJECT_QUOTA
        line = "Sess_accept: rejecting session due to quota"
        wait_until(lambda: daemon.output().count(line) == 1)
        clients[0].join(b"group")
        clients[0].multicast(b"group", b"here")
        assert crowd.run_until(lambda: clients[0].bodies == [b"here"])
        clients[1].join(b"group")
        assert crowd.run_until(lambda: len(clients[0].members(b"group")) == 2)
        clients[1].close()
        # Its place is free when its end has been ordered, which others are told of.
        assert crowd.run_until(lambda: len(clients[0].members(b"group")) == 1)
        works(crowd, daemon, b"newcomer")
        assert not any(client.closed for client in clients if client is not clients[1])
        crowd.close()


def test_an_old_client_does_not_get_past_a_required_method() -> None:
    options = {"RequiredAuthMethods": '"IP"', "AllowedAuthMethods": '"NULL"'}
    with DaemonRing([txspread_command()], options) as ring:
        daemon = ring.daemons[0]
        old = connection(daemon)
        old.sendall(b"\x03\x0d\x01\x03old")
        assert until_closed(old) == REJECT_AUTH
        new = connection(daemon)
        new.sendall(connect_request(b"new"))
        assert until_closed(new) == b"\x05NULL " + REJECT_AUTH
        full = connection(daemon)
        slots = b"".join(b"NULL".ljust(30, b"\0") for _ in range(3))
        full.sendall(connect_request(b"full")[: -len(NULL_CHOICE)] + slots)
        assert until_closed(full) == b"\x05NULL " + REJECT_AUTH
        assert daemon.running
        assert "internal error" not in daemon.output()


def test_a_user_name_without_a_password_holds_up_nobody(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("user:abJnggxhB/yWI\n")
    command = txspread_command("--passwords", str(passwords))
    with DaemonRing([command], {"AllowedAuthMethods": '"NULL PWORD"'}) as ring:
        daemon = ring.daemons[0]
        crowd = LeanCrowd()
        waiting = []
        for number in range(20):
            client = connection(daemon)
            client.sendall(connect_request(b"w%d" % number)[: -len(NULL_CHOICE)])
            assert exactly(client, 12) == b"\x0bNULL PWORD "
            client.sendall(b"PWORD".ljust(90, b"\0") + b"user".ljust(32, b"\0"))
            waiting.append(client)
        witness = connection(daemon)
        witness.sendall(connect_request(b"witness"))
        assert exactly(witness, 13) == b"\x0bNULL PWORD " + ACCEPTED
        witness.close()
        for client in waiting:
            client.shutdown(socket.SHUT_WR)
            assert until_closed(client) == REJECT_AUTH
        wrong = connection(daemon)
        wrong.sendall(connect_request(b"wrong")[: -len(NULL_CHOICE)] + b"PWORD".ljust(90, b"\0"))
        wrong.sendall(b"user".ljust(32, b"\0") + b"wrong".ljust(8, b"\0"))
        assert until_closed(wrong) == b"\x0bNULL PWORD \x00" + REJECT_AUTH
        assert "internal error" not in daemon.output()
        crowd.close()


@pytest.mark.parametrize("groups", [1, 43, 44, 100])
def test_the_largest_message_that_a_ring_carries(groups: int) -> None:
    with DaemonRing([txspread_command()]) as ring:
        daemon = ring.daemons[0]
        crowd = LeanCrowd()
        client = crowd.connect(daemon, b"c")
        assert crowd.run_until(lambda: client.accepted)
        client.join(b"g0")
        body = bytes(143_200 - 48 - 32 * groups)
        names = b"".join((b"g%d" % number).ljust(32, b"\0") for number in range(groups))
        kind = int(ServiceType.AGREED_MESS) | 0x80000080
        sender = client.private_group.ljust(32, b"\0")
        header = struct.pack("<I32siIi", kind, sender, groups, 0x80000080, len(body))
        client.send(header + names + body)
        assert crowd.run_until(lambda: bool(client.bodies) or client.closed)
        assert client.bodies == [body]
        crowd.close()
