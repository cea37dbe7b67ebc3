"""Traffic through rings of both kinds of daemons: every size, many senders, loss."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from interop.mixed import LIMIT, PATTERNS, Members, ring_of
from interop.programs import Program
from txspread.testing.live_clients import LiveClient
from txspread.testing.packet_filters import FilterError, lose
from txspread.testing.processes import DaemonRing
from txspread.wire.constants import ServiceType

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(600)]

ORDERED = (
    ServiceType.FIFO_MESS,
    ServiceType.CAUSAL_MESS,
    ServiceType.AGREED_MESS,
    ServiceType.SAFE_MESS,
)
SIZES = (10, 100, 1351, 1352, 1353, 1432, 2785, 10_000, 65_536, 100_000, 143_000)
"""Around the borders of one and two packets, and up to what a ring carries."""


def send(
    members: Members, senders: list[LiveClient], sizes: tuple[int, ...], seed: int
) -> list[bytes]:
    """Have each sender send a body of each size, one round after the other; the bodies."""
    dice = random.Random(seed)
    bodies = []
    for size in sizes:
        for number, sender in enumerate(senders):
            body = b"%d,%d " % (number, size)
            body = body.ljust(size, b"%d" % (size % 10)) if size else b""
            bodies.append(body)
            sender.multicast(dice.choice(ORDERED), ["everybody"], body)
        members.crowd.run(0.0)
    return bodies


def hear(members: Members, bodies: list[bytes], limit: float = 180.0) -> None:
    """Wait until every member has all of them; in one order, each sender's in its own."""
    clients = list(members.clients.values())
    count = len(bodies)
    complete = members.crowd.run_until(
        lambda: all(len(client.data) >= count for client in clients), limit
    )
    heard = {name: len(client.data) for name, client in members.clients.items()}
    assert complete, f"{heard} of {count}"
    first = [message.body for message in clients[0].data]
    assert sorted(first) == sorted(bodies)
    for client in clients[1:]:
        assert [message.body for message in client.data] == first


@pytest.mark.parametrize("accelerated", ["false", "true"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("each", [1, 10])
def test_every_size_from_every_daemon(
    upstream: Path, pattern: str, accelerated: str, each: int
) -> None:
    with ring_of(pattern, upstream, accelerated) as ring:
        members = Members(ring)
        members.join()
        members.mark()
        senders = list(members.clients.values())
        for daemon in ring.daemons:
            for _ in range(each - 1):
                senders.append(members.crowd.connect(daemon.address, daemon.port))
        bodies = send(members, senders, SIZES, seed=each)
        bodies += send(members, senders[:1], (0,), seed=each)
        hear(members, bodies)
        for name in members.clients:
            assert members.told(name) == [], "the ring was formed anew"
        assert members.judge() == []


@pytest.mark.parametrize("accelerated", ["false", "true"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_upstreams_flooders_on_every_daemon(upstream: Path, pattern: str, accelerated: str) -> None:
    count = 2000
    # A flooder that waits for a core while others send would be cut off as a slow reader.
    with ring_of(pattern, upstream, accelerated, MaxSessionMessages=100_000) as ring:
        words = ("-n", str(len(pattern)), "-m", str(count), "-b", "1000")
        flooder = upstream / "bin" / "spflooder"
        with ExitStack() as stack:
            programs = [
                stack.enter_context(
                    Program([flooder, "-u", f"f{number}", "-s", daemon.location, *words])
                )
                for number, daemon in enumerate(ring.daemons)
            ]
            for program in programs:
                program.wait_for(f"completed multicast of {count} messages", limit=200.0)
                assert program.finish() == 0


def lossy(ring: DaemonRing, share: float) -> None:
    for daemon in ring.daemons:
        assert daemon.process is not None
        try:
            lose(daemon.process.pid, share)
        except FilterError as error:
            pytest.skip(f"cannot borrow a daemon's sockets: {error}")


@pytest.mark.parametrize("accelerated", ["false", "true"])
@pytest.mark.parametrize("pattern", ["ut", "tu", "utu", "tut", "tuutt"])
def test_three_per_cent_loss_costs_time_and_nothing_else(
    upstream: Path, pattern: str, accelerated: str
) -> None:
    # Tokens are lost as well, and sent again after the hurry timeout.
    timeouts = {"TokenTimeout": 8000, "HurryTimeout": 100}
    with ring_of(pattern, upstream, accelerated, timeouts) as ring:
        members = Members(ring)
        members.join()
        members.mark()
        lossy(ring, 0.03)
        senders = list(members.clients.values())
        bodies = []
        for round_ in range(10):
            for number, sender in enumerate(senders):
                for size in (20, 1300, 5000):
                    body = b"%d,%d,%d " % (round_, number, size)
                    bodies.append(body.ljust(size, b"x"))
                    sender.multicast(ORDERED[round_ % 4], ["everybody"], bodies[-1])
            members.crowd.run(0.05)
        hear(members, bodies, limit=300.0)
        lossy(ring, 0.0)
        members.settle()
        for name in members.clients:
            assert members.told(name) == [], "the ring was formed anew"
        assert members.judge() == []


@pytest.mark.parametrize("pattern", ["utu", "tut"])
def test_heavy_loss_may_break_the_ring_but_never_the_order(upstream: Path, pattern: str) -> None:
    with ring_of(pattern, upstream) as ring:
        members = Members(ring)
        members.join()
        lossy(ring, 0.25)
        for number in range(40):
            for name, client in members.clients.items():
                client.multicast(ORDERED[number % 4], ["everybody"], f"{number} {name}".encode())
            members.crowd.run(0.25)
        lossy(ring, 0.0)
        members.wait_for_views(members.clients)
        assert members.crowd.run_until(
            lambda: all(len(c.members("everybody")) == 3 for c in members.clients.values()), LIMIT
        )
        members.settle()
        assert members.judge() == []
