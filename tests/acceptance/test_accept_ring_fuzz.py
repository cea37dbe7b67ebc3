"""Malformed, foreign and broken datagrams at the sockets of a ring of real daemons.

The cases are those of ``docs/protocol/daemon-datagrams.md`` section 14 that a datagram
can be by itself.  Not here are those that are a forged but well-formed packet or token
of the very ring at the very moment (a fragment that is not due, a request that nobody
can answer): they take the place of a real one, and ``tests/ring`` has them.

``TXSPREAD_ACCEPT_FUZZ`` is the number of seconds (5), ``TXSPREAD_ACCEPT_SEED`` the seed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator

import pytest
from recorded import VECTORS

from txspread.config import parse
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command, wait_until
from txspread.wire import datagram
from txspread.wire.constants import ServiceType
from txspread.wire.form import Form1, Form2, RingBlock
from txspread.wire.identifiers import MembershipId
from txspread.wire.membership import (
    Join,
    Representative,
    RepresentativeType,
    encode_alive,
    encode_hurry,
)
from txspread.wire.message import encode_message
from txspread.wire.monitor import decode_status_reply, encode_reload, encode_status_request
from txspread.wire.packet import encode_bare, encode_packet
from txspread.wire.token import NOBODY, RetransmissionRequest, Token

pytestmark = pytest.mark.timeout(300)

SECONDS = float(os.environ.get("TXSPREAD_ACCEPT_FUZZ", "5"))
SEED = int(os.environ.get("TXSPREAD_ACCEPT_SEED", "20"))
SIZE = 3
PACKETS = 0
TOKENS = 1
"""The two ports of a daemon, counted from its port."""
UNKNOWN = 0x0A0B0C0D
CHANGED = "Membership changed"
FOREIGN = "has a different configuration and is ignored"
GROUP = "ring-witnesses"


def address_id(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


def patched(data: bytes, at: int, value: int, size: int = 2) -> bytes:
    return data[:at] + (value % (1 << 8 * size)).to_bytes(size, "little") + data[at + size :]


class World:
    """Three running daemons of four configured ones, a client at each, a socket to shoot from."""

    def __init__(self, ring: DaemonRing) -> None:
        self.ring = ring
        self.daemons = ring.daemons[:SIZE]
        self.ids = [address_id(daemon.address) for daemon in ring.daemons]
        self.conf_hash = parse(ring.config.read_text()).hash
        self.crowd = Crowd()
        self.clients: list[LiveClient] = []
        self.sent = 0
        # Monitors listen at a configured daemon's address; the fourth one's is free.
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ring.daemons[SIZE].address, 0))
        self.socket.settimeout(1)

    def settle(self) -> None:
        """Wait for one ring of all, and for the id of it."""
        for daemon in self.daemons:
            self.clients.append(self.crowd.connect(daemon.address, daemon.port))
            self.clients[-1].join(GROUP)
        self.wait_for_all()
        self.memb_id = self.clients[0].views[-1].group_id.membership_id
        self.changes = self.count(CHANGED)

    def wait_for_all(self) -> None:
        assert self.crowd.run_until(
            lambda: all(len(client.members(GROUP)) == SIZE for client in self.clients), 90
        )

    def close(self) -> None:
        self.crowd.close()
        self.socket.close()

    def count(self, text: str) -> list[int]:
        return [daemon.output().count(text) for daemon in self.daemons]

    def status_seq(self, daemon: DaemonProcess) -> int:
        """The highest number given out in the ring."""
        port = self.socket.getsockname()[1]
        request = encode_status_request(self.ids[SIZE], port, datagram.MONITOR_HASH)
        for _ in range(30):
            self.socket.sendto(request, (daemon.address, daemon.port))
            try:
                return decode_status_reply(self.socket.recv(2000))[1].highest_seq
            except TimeoutError:
                continue
        raise AssertionError("no status")

    def shoot(self, data: bytes, ports: tuple[int, ...] = (PACKETS, TOKENS)) -> None:
        """To every daemon, by default to both of its ports."""
        for daemon in self.daemons:
            for port in ports:
                self.socket.sendto(data, (daemon.address, daemon.port + port))

    def traffic(self) -> None:
        """Everybody sends, everybody gets it in one order."""
        start = [len(client.data) for client in self.clients]
        for service in (ServiceType.AGREED_MESS, ServiceType.SAFE_MESS):
            for client in self.clients:
                client.multicast(service, [GROUP], b"%d" % self.sent)
                self.sent += 1
        count = 2 * SIZE
        assert self.crowd.run_until(
            lambda: all(
                len(client.data) >= before + count or client.closed
                for client, before in zip(self.clients, start, strict=True)
            ),
            60,
        )
        bodies = [[message.body for message in client.data[-count:]] for client in self.clients]
        assert sorted(bodies[0], key=int) == [
            b"%d" % number for number in range(self.sent - count, self.sent)
        ]
        assert bodies == [bodies[0]] * SIZE
        assert self.crowd.problems == []

    def alive(self) -> None:
        for daemon in self.daemons:
            assert daemon.running, daemon.output()[-4000:]
            assert "internal error" not in daemon.output(), daemon.output()[-4000:]
            assert "formed anew" not in daemon.output()

    def unmoved(self) -> None:
        """Nothing has happened to the ring."""
        self.alive()
        assert self.count(CHANGED) == self.changes, self.daemons[0].output()[-3000:]


def ring_of_three() -> DaemonRing:
    return DaemonRing([txspread_command("--guard-reload")] * (SIZE + 1))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    ring = ring_of_three()
    try:
        ring.start(ring.daemons[:SIZE])
        found = World(ring)
        found.settle()
        yield found
        found.close()
    finally:
        ring.close()


def data_packet(world: World, by: int, seq: int, **changes: int) -> bytes:
    message = encode_message(0x10, b"#x#d1", [GROUP.encode()], b"forged")
    return encode_packet(
        datagram.AGREED,
        changes.get("transmiter_id", by),
        changes.get("proc_id", by),
        world.memb_id,
        seq,
        1,
        changes.get("conf_hash", world.conf_hash),
        [(changes.get("index", -1), message), (-1, message)],
    )


def bad_packets(world: World, by: int, seq: int) -> Iterator[bytes]:
    good = data_packet(world, by, seq)
    for size in range(0, 40, 3):
        yield good[:size]
    yield good[:-1]
    yield good + b"\0"
    yield patched(good, 32, -1)
    yield good[:3] + b"\0" + good[4:]
    yield b"\x08" + good[1:]
    yield data_packet(world, by, seq, conf_hash=datagram.MONITOR_HASH)
    yield data_packet(world, by, seq, proc_id=world.ids[SIZE])
    yield data_packet(world, by, seq, proc_id=UNKNOWN)
    for length in (-1, -32768, 0, 200, 32767):
        yield patched(good, 38, length)
    further = good.index(b"forged") + 6
    further += -further % 4
    for length in (-1, 32767):
        yield patched(good, further + 2, length)
    for index in (101, -101, 32767, -32768):
        yield data_packet(world, by, seq, index=index)
    for ahead in (10_000, 1 << 30, (1 << 31) - 1, -1, -(1 << 31)):
        yield data_packet(world, by, min(seq + ahead, (1 << 31) - 1) if ahead > 0 else ahead)


def bad_membership(world: World, by: int) -> Iterator[bytes]:
    reps = (Representative(by, RepresentativeType.RING_REP, 0),)
    join = Join((by,), reps).encode(by, world.conf_hash)
    for count in (-32000, -1, 3, 129, 32000):
        yield patched(join, 40, count)
    for count in (-1, 2, 26, 32000):
        yield patched(join, 48, count)
    for kind in (-1, 3, 77, 32767):
        yield patched(join, 56, kind)
        yield encode_bare(datagram.REFER, by, by, MembershipId(world.ids[1], kind), world.conf_hash)
    yield Join((by,), reps).encode(by, datagram.MONITOR_HASH)
    alive = encode_alive(by, world.conf_hash, (by,))
    yield patched(alive, 8, UNKNOWN, 4)
    yield encode_alive(by, datagram.MONITOR_HASH, (by,))
    yield encode_hurry(by, datagram.MONITOR_HASH)
    yield encode_bare(0, by, by, MembershipId(0, 0), world.conf_hash, b"no type at all")


def bad_tokens(world: World, by: int, seq: int) -> Iterator[bytes]:
    request = RetransmissionRequest(world.memb_id, NOBODY, -1, (1, 2))
    for arq in range(16):
        kind = arq << datagram.ARQ_SHIFT
        token = Token(
            kind, by, by, world.memb_id, seq, seq, NOBODY, 0, world.conf_hash, (request,)
        ).encode()
        for count in (-1, -32768, 0, 1, 3, 32767):
            yield patched(token, 40 + 14, count)
        yield patched(token, 34, -1)
        yield token[:-1]
        yield token + b"\0"
        if arq < 2:
            for size in range(0, 40, 3):
                yield token[:size]
            yield token[:3] + b"\0" + token[4:]
        empty = Token(kind, by, by, world.memb_id, seq, seq, NOBODY, 0, world.conf_hash).encode()
        yield patched(empty, 24, -2, 4)
        yield patched(empty, 20, (1 << 30) + 1, 4)
        yield patched(empty, 20, -1, 4)
        yield patched(empty, 20, seq + 100_000, 4)


def bad_forms(world: World, by: int) -> Iterator[bytes]:
    attempt = MembershipId(by, world.memb_id.time + 1)
    block = RingBlock(world.memb_id, 0, 1, 2, (2,), (by,), 1)
    reps = (Representative(by, RepresentativeType.SEG_REP, 0),)
    others = tuple(one for one in world.ids[:SIZE] if one != by)
    form1 = Form1(
        transmiter_id=by,
        proc_id=by,
        attempt=attempt,
        seq=9999,
        conf_hash=world.conf_hash,
        members=(by,),
        pending=others,
        reps=reps,
        rep_index=1,
        rings=(block,),
    ).encode()
    for at in (40, 42, 556, 558):
        for count in (-1, 129, 32767, -32768):
            yield patched(form1, at, count)
    for count in (-1, 0, 2, 21, 1 << 30):
        yield patched(form1, 760, count, 4)
    for count in (-1, 1 << 30):
        yield patched(form1, 764 + 20, count, 4)
    for at in (764 + 24, 764 + 26):
        for count in (-1, 0, 129):
            yield patched(form1, at, count)
    yield patched(form1, 34, 1)
    yield form1[:-4]
    yield form1 + bytes(4)
    yield patched(form1, 36, datagram.MONITOR_HASH, 4)
    ring_id = MembershipId(world.ids[0], world.memb_id.time + 1)
    form2 = Form2(
        transmiter_id=by,
        proc_id=by,
        attempt=attempt,
        seq=9999,
        conf_hash=world.conf_hash,
        members=(by,),
        pending=others,
        future_memb_id=ring_id,
        rings=(block,),
    ).encode()
    yield patched(form2, 34, len(form2) - 44)
    yield form2 + bytes(4)
    yield form2[:-4]
    yield patched(form2, 44, UNKNOWN, 4)
    yield patched(form2, 48, UNKNOWN, 4)
    for count in (-1, 0, 21, 1 << 30):
        yield patched(form2, 564, count, 4)
    yield patched(form2, 568 + 20, 1601, 4)


def bad_monitor(world: World) -> Iterator[bytes]:
    port = world.socket.getsockname()[1]
    monitor = world.ids[SIZE]
    reload_ = encode_reload(monitor, port, datagram.MONITOR_HASH)
    yield patched(reload_, 12, UNKNOWN, 4)
    yield reload_[:39]
    for kind in (datagram.PARTITION, datagram.FC, datagram.STATUS):
        for size in (0, 1, 100, 255):
            for memb in (MembershipId(datagram.MONITOR_MAGIC, 0), MembershipId(UNKNOWN, 0)):
                yield encode_bare(kind, 0, UNKNOWN, memb, datagram.MONITOR_HASH, bytes(size), port)


def test_a_foreign_hash_and_an_unknown_address_cost_one_line(world: World) -> None:
    foreign = world.count(FOREIGN)
    unknown = world.count("unknown proc 10.11.12.13")
    lines = [len(daemon.output().splitlines()) for daemon in world.daemons]
    by = world.ids[SIZE]
    other_hash = world.conf_hash ^ 0x55555555
    token = Token(0, by, by, world.memb_id, 1, 1, NOBODY, 0, other_hash).encode()
    for _ in range(100):
        world.shoot(encode_alive(by, other_hash, (by,)), (PACKETS,))
        world.shoot(token, (TOKENS,))
    world.traffic()
    wait_until(lambda: world.count(FOREIGN) == [count + 1 for count in foreign], 20)
    assert [len(d.output().splitlines()) for d in world.daemons] == [n + 1 for n in lines]
    world.shoot(encode_alive(UNKNOWN, world.conf_hash, (UNKNOWN,)), (PACKETS,))
    world.traffic()
    assert all(
        after - before <= 2
        for after, before in zip(world.count("unknown proc 10.11.12.13"), unknown, strict=True)
    )
    world.unmoved()


KINDS = ("packets", "membership", "tokens", "forms", "monitor")


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_datagrams_leave_the_ring_as_it_is(world: World, kind: str) -> None:
    seq = world.status_seq(world.daemons[0])
    sources = world.ids[: SIZE + 1]
    shots: list[bytes] = []
    for by in sources:
        for number in (1, seq + 1):
            if kind == "packets":
                shots += bad_packets(world, by, number)
            elif kind == "tokens":
                shots += bad_tokens(world, by, seq)
        if kind == "membership":
            shots += bad_membership(world, by)
        elif kind == "forms":
            shots += bad_forms(world, by)
    if kind == "monitor":
        shots += bad_monitor(world)
    assert len(shots) > 20
    for number, shot in enumerate(shots):
        world.shoot(shot)
        if not number % 25:
            world.crowd.run(0)
        if not number % 200:
            world.traffic()
    world.traffic()
    world.traffic()
    world.unmoved()


def recorded_datagrams() -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for folder in ("daemon", "daemon-4.3", "daemon-5.0", "monitor"):
        for path in sorted((VECTORS / folder).glob("*.json")):
            for record in json.loads(path.read_text()).get("datagrams", [])[:300]:
                found.append((record["kind"], bytes.fromhex(record["hex"])))
    return found


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bits, words or bytes of it changed, or its end."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed))
        what = rng.randrange(5)
        if what <= 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            at &= ~1
            changed[at : at + 2] = rng.choice((b"\0\0", b"\xff\xff", b"\xff\x7f", b"\0\x80"))
        elif what == 3 and at:
            del changed[at:]
        else:
            changed += rng.randbytes(rng.choice((1, 4, 40)))
    return bytes(changed)


def test_broken_recordings_of_other_rings_leave_the_ring_as_it_is(world: World) -> None:
    rng = random.Random(SEED)
    recorded = recorded_datagrams()
    assert len(recorded) > 1000
    end = time.monotonic() + SECONDS / 2
    shot = 0
    while time.monotonic() < end:
        _, data = rng.choice(recorded)
        world.shoot(mutated(rng, data) if rng.random() < 0.7 else rng.randbytes(len(data)))
        shot += 1
        if not shot % 300:
            world.traffic()
    world.traffic()
    world.traffic()
    print(f"{shot} datagrams to each socket")
    world.unmoved()


def adopted(rng: random.Random, world: World, kind: str, data: bytes) -> bytes:
    """A recorded datagram with the hash and with ids of this ring."""
    by = rng.choice(world.ids)
    data = patched(data, 4, by, 4)
    data = patched(data, 8, rng.choice((by, rng.choice(world.ids))), 4)
    if kind in ("token", "form1", "form2"):
        return patched(data, 36, world.conf_hash, 4)
    data = patched(data, 28, world.conf_hash, 4)
    if kind == "data" and rng.random() < 0.7:
        # Above what is given out, so that it is no real packet's place that it takes.
        data = patched(patched(data, 12, world.memb_id.proc_id, 4), 16, world.memb_id.time, 4)
        data = patched(data, 20, 100_000 + rng.randrange(1000), 4)
    return data


def test_daemons_survive_broken_recordings_that_pass_for_the_ring_s_own() -> None:
    """Whoever has the hash and the ids can disturb a ring, but end or confuse no daemon."""
    rng = random.Random(SEED)
    recorded = [
        (kind, data)
        for kind, data in recorded_datagrams()
        if kind not in ("partition", "flow_control", "reload") and data[0] & data[3] & 0x80
    ]
    ring = ring_of_three()
    try:
        ring.start(ring.daemons[:SIZE])
        world = World(ring)
        world.settle()
        end = time.monotonic() + SECONDS / 2
        shot = 0
        while time.monotonic() < end:
            kind, data = rng.choice(recorded)
            data = adopted(rng, world, kind, data)
            world.shoot(mutated(rng, data) if rng.random() < 0.8 else data)
            shot += 1
            if not shot % 100:
                world.crowd.run(0)
        print(f"{shot} datagrams to each socket; memberships {world.count(CHANGED)}")
        # What was sent while the ring was disturbed is no matter here; what is sent now is.
        world.crowd.close()
        after = World(ring)
        after.settle()
        after.traffic()
        after.traffic()
        after.alive()
        assert not any(client.closed for client in after.clients)
        after.close()
        world.socket.close()
    finally:
        ring.close()
