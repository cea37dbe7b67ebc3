"""Random bytes and broken conversations at the listener of a real daemon, for a while.

``TXSPREAD_ACCEPT_FUZZ`` is the number of seconds (5), ``TXSPREAD_ACCEPT_SEED`` the seed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable

import pytest
from acceptance_clients import LeanCrowd, connect_request
from recorded import VECTORS

from txspread.testing.live_clients import Crowd
from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.timeout(300)

SECONDS = float(os.environ.get("TXSPREAD_ACCEPT_FUZZ", "5"))
SEED = int(os.environ.get("TXSPREAD_ACCEPT_SEED", "20"))
AT_ONCE = 30
"""Broken clients at a time."""
WITNESSES = 5
LARGEST = 20_000
"""Recorded events with more bytes are cut: time is better spent on many small ones."""


def conversations() -> list[list[bytes]]:
    """What each recorded client sent, message by message."""
    found: list[list[bytes]] = []
    for path in sorted((VECTORS / "client").glob("*.json")):
        sent: dict[str | None, list[bytes]] = {}
        for event in json.loads(path.read_text())["events"]:
            if event["dir"] == "c2d" and event["hex"]:
                data = bytes.fromhex(event["hex"])[:LARGEST]
                sent.setdefault(event.get("conn"), []).append(data)
        found += sent.values()
    return found


def noise(rng: random.Random) -> list[bytes]:
    """Bytes without sense, behind a handshake or instead of one."""
    start = [connect_request(b"n%d" % rng.randrange(10**6))] if rng.random() < 0.5 else []
    return [*start, *(rng.randbytes(rng.choice((1, 5, 48, 100, 3000))) for _ in range(3))]


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def change_word(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data)) & ~3
    value = rng.choice((0, 1, 100, 101, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32)))
    data[at : at + 4] = value.to_bytes(4, rng.choice(("little", "big")))


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 32)))


def double(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + 32]


BREAKING: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flip,
    flip,
    change_word,
    change_word,
    cut,
    insert,
    double,
)


def broken(rng: random.Random, conversation: list[bytes]) -> list[bytes]:
    """A conversation with a few messages changed, left out, doubled or exchanged."""
    messages = [bytearray(message) for message in conversation]
    for _ in range(rng.choice((1, 1, 2, 4))):
        # The handshake is two messages of many; most damage is to come behind it.
        first = 0 if rng.random() < 0.3 or len(messages) < 3 else 2
        victim = rng.randrange(first, len(messages))
        if rng.random() < 0.8:
            if messages[victim]:
                rng.choice(BREAKING)(rng, messages[victim])
        elif rng.random() < 0.5:
            messages.insert(victim, bytearray(messages[rng.randrange(len(messages))]))
        else:
            del messages[victim]
            if not messages:
                break
    return [bytes(message) for message in messages]


class BrokenClient:
    """Sends its bytes in pieces of any size, reads what comes, goes without a word."""

    def __init__(self, rng: random.Random, daemon: DaemonProcess, messages: list[bytes]) -> None:
        self.rng = rng
        self.socket = socket.create_connection((daemon.address, daemon.port), 30)
        self.socket.setblocking(False)
        self.rest = b"".join(messages)
        self.quiet = 0

    def go_on(self) -> bool:
        """Send and receive a little; whether there is more to do."""
        try:
            if self.rest:
                count = self.socket.send(self.rest[: self.rng.choice((1, 7, 90, 200, 5000, 30000))])
                self.rest = self.rest[count:]
            else:
                self.quiet += 1
            if not self.socket.recv(1 << 16):
                return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        return self.quiet < 5


class Witnesses:
    """Sessions with nothing to do with the broken ones, which must not notice them."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.crowd = Crowd()
        self.clients = [
            self.crowd.connect(daemon.address, daemon.port, f"witness{number}")
            for number in range(WITNESSES)
        ]
        self.sent = 0
        for client in self.clients:
            client.join("the-witnesses")
        assert self.crowd.run_until(
            lambda: all(len(c.members("the-witnesses")) == WITNESSES for c in self.clients)
        )
        self.views = [len(client.views) for client in self.clients]

    def round(self) -> None:
        for client in self.clients:
            client.multicast(ServiceType.AGREED_MESS, ["the-witnesses"], b"%d" % self.sent)
            self.sent += 1
        assert self.crowd.run_until(
            lambda: all(len(client.data) >= self.sent or client.closed for client in self.clients),
            60,
        )
        assert not any(client.closed for client in self.clients)
        assert [len(client.views) for client in self.clients] == self.views

    def finish(self) -> None:
        expected = [b"%d" % number for number in range(self.sent)]
        first = [message.body for message in self.clients[0].data]
        assert sorted(first, key=int) == expected
        for client in self.clients:
            assert [message.body for message in client.data] == first
        assert self.crowd.problems == []
        self.crowd.close()


def test_broken_clients_end_their_own_sessions_only() -> None:
    rng = random.Random(SEED)
    recorded = conversations()
    assert len(recorded) > 50
    with DaemonRing([txspread_command()]) as ring:
        daemon = ring.daemons[0]
        witnesses = Witnesses(daemon)
        end = time.monotonic() + SECONDS
        clients: list[BrokenClient] = []
        played = 0
        while time.monotonic() < end:
            while len(clients) < AT_ONCE:
                messages = noise(rng) if rng.random() < 0.2 else broken(rng, rng.choice(recorded))
                clients.append(BrokenClient(rng, daemon, messages))
                played += 1
            for client in list(clients):
                if not client.go_on():
                    client.socket.close()
                    clients.remove(client)
            if not played % 20:
                witnesses.round()
            assert daemon.running, f"seed {SEED}: the daemon has ended:\n{daemon.output()[-4000:]}"
        for client in clients:
            client.socket.close()
        witnesses.round()
        witnesses.finish()
        print(f"{played} broken clients")
        assert played > AT_ONCE
        assert "internal error" not in daemon.output(), daemon.output()[-4000:]
        # Their names and places are free again.
        crowd = LeanCrowd()
        newcomers = [crowd.connect(daemon, b"n%d" % number) for number in range(50)]
        assert crowd.run_until(lambda: all(client.accepted for client in newcomers), 60)
        crowd.close()
