"""Clients that stop reading: cut off at the limit, not before, and nobody else notices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import pytest
from acceptance_clients import LeanClient, LeanCrowd, resident_bytes

from txspread.client.messages import DataMessage, MembershipMessage
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.timeout(240)

LIMIT = 100
BODY = 10_000
SLEEPERS = 20
NOT_READING = "for not reading"
MIB = 1 << 20
WAITING = 64 * MIB
"""What may wait for one client, by ``docs/protocol/client-session.md`` section 6.2."""
SLACK = 48 * MIB
"""The interpreter's and the ring's own buffers on top of it."""

_NAMES = (b"slow%d" % number for number in itertools.count())


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    found = Crowd()
    yield found
    found.close()


@pytest.fixture
def sleepers() -> Iterator[LeanCrowd]:
    """Clients that only read while this crowd is run."""
    found = LeanCrowd()
    yield found
    found.close()


def one_daemon(**options: object) -> DaemonRing:
    return DaemonRing([txspread_command()], {"DebugFlags": "{ PRINT EXIT SESSION }", **options})


def fall_asleep(sleepers: LeanCrowd, daemon: DaemonProcess) -> LeanClient:
    """A member of the group that reads nothing from now on."""
    client = sleepers.connect(daemon, next(_NAMES))
    assert sleepers.run_until(lambda: client.accepted)
    client.join(b"stream")
    assert sleepers.run_until(lambda: client.private_group in client.members(b"stream"))
    return client


def two_readers(crowd: Crowd, daemon: DaemonProcess) -> tuple[LiveClient, LiveClient]:
    readers = (
        crowd.connect(daemon.address, daemon.port),
        crowd.connect(daemon.address, daemon.port),
    )
    for reader in readers:
        reader.join("stream")
    assert crowd.run_until(lambda: all(len(reader.members("stream")) >= 2 for reader in readers))
    return readers


def gone(reader: LiveClient, client: LeanClient) -> bool:
    return client.private_group.decode() not in reader.members("stream")


def send_ten(crowd: Crowd, readers: tuple[LiveClient, LiveClient], sent: int, size: int) -> int:
    """The readers get ten more messages; how many that makes."""
    for number in range(sent, sent + 10):
        body = (b"%d " % number).ljust(size, b"x")
        readers[0].multicast(ServiceType.AGREED_MESS, ["stream"], body)
    assert crowd.run_until(lambda: all(len(reader.data) == sent + 10 for reader in readers), 60)
    return sent + 10


def all_gone(readers: tuple[LiveClient, LiveClient], slow: list[LeanClient]) -> bool:
    return all(gone(reader, client) for reader in readers for client in slow)


def in_order(reader: LiveClient, sent: int) -> None:
    assert [int(message.body.split()[0]) for message in reader.data] == list(range(sent))
    assert not reader.closed


def none_gone(readers: tuple[LiveClient, LiveClient], slow: list[LeanClient]) -> bool:
    return not any(gone(reader, client) for reader in readers for client in slow)


def delivered_before(reader: LiveClient, client: LeanClient) -> int:
    """Data messages that were ordered before the end of a client."""
    count = 0
    for message in reader.messages:
        if isinstance(message, DataMessage):
            count += 1
        elif (
            isinstance(message, MembershipMessage)
            and message.cause == ServiceType.CAUSED_BY_DISCONNECT
            and message.changed_member == client.private_group.decode()
        ):
            return count
    raise AssertionError("no such end")


def test_a_client_that_stops_reading_is_cut_off_at_the_limit(
    crowd: Crowd, sleepers: LeanCrowd
) -> None:
    with one_daemon(MaxSessionMessages=LIMIT) as ring:
        daemon = ring.daemons[0]
        readers = two_readers(crowd, daemon)
        slow = [fall_asleep(sleepers, daemon)]
        assert crowd.run_until(partial(none_gone, readers, slow))
        sent = 0
        while not all_gone(readers, slow):
            assert sent < 10_000, "a client that reads nothing is still there"
            sent = send_ten(crowd, readers, sent, BODY)
        assert daemon.output().count(NOT_READING) == 1
        assert sleepers.run_until(lambda: slow[0].closed)
        # What it still finds in its socket was written before; LIMIT more had to wait.
        for number, body in enumerate(slow[0].bodies):
            assert int(body.split()[0]) == number
        assert delivered_before(readers[0], slow[0]) - len(slow[0].bodies) >= LIMIT
        for reader in readers:
            in_order(reader, sent)
        assert "internal error" not in daemon.output()


def test_a_client_that_pauses_below_the_limit_stays_and_misses_nothing(
    crowd: Crowd, sleepers: LeanCrowd
) -> None:
    with one_daemon(MaxSessionMessages=LIMIT) as ring:
        daemon = ring.daemons[0]
        readers = two_readers(crowd, daemon)
        slow = fall_asleep(sleepers, daemon)
        assert crowd.run_until(lambda: not gone(readers[1], slow))
        # More than the kernel holds, so that the rest waits in the daemon.
        for number in range(LIMIT - 5):
            body = (b"%d " % number).ljust(100_000, b"x")
            readers[0].multicast(ServiceType.AGREED_MESS, ["stream"], body)
        count = LIMIT - 5
        assert crowd.run_until(lambda: all(len(reader.data) == count for reader in readers))
        assert not gone(readers[0], slow)
        assert sleepers.run_until(lambda: len(slow.bodies) == count or slow.closed)
        assert [int(body.split()[0]) for body in slow.bodies] == list(range(count))
        assert not slow.closed
        assert NOT_READING not in daemon.output()


def test_many_that_read_nothing_cost_bounded_memory_and_hold_up_nobody(
    crowd: Crowd, sleepers: LeanCrowd
) -> None:
    with one_daemon() as ring:
        daemon = ring.daemons[0]
        assert daemon.process is not None
        readers = two_readers(crowd, daemon)
        before = resident_bytes(daemon.process.pid)
        sent = 0
        for wave in (1, 2):
            slow = [fall_asleep(sleepers, daemon) for _ in range(SLEEPERS)]
            assert crowd.run_until(partial(none_gone, readers, slow))
            # 140 MB: the bytes that wait reach their bound before the messages do.
            most = sent + 1400
            largest = before
            while not all_gone(readers, slow):
                assert sent < most, "clients that read nothing are still there"
                sent = send_ten(crowd, readers, sent, 100_000)
                largest = max(largest, resident_bytes(daemon.process.pid))
            print(f"{sent} messages, {(largest - before) / MIB:.1f} MiB more at most")
            # All wait for the same bytes; what was freed after a wave serves the next.
            assert largest - before <= WAITING + SLACK
            assert daemon.output().count(NOT_READING) == SLEEPERS * wave
        for reader in readers:
            in_order(reader, sent)
        assert sleepers.run_until(lambda: all(client.closed for client in sleepers.clients))
        assert "internal error" not in daemon.output()
