"""A crowd of clients that joins and leaves many groups of one daemon.

The full size is 500 clients, 100 groups of 50 members and 10 000 joins and leaves;
``TXSPREAD_ACCEPT_CROWD=1`` runs it.  The default is a fifth of each but the size of
the groups.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from acceptance_clients import LeanClient, LeanCrowd, resident_bytes

from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command, wait_until

pytestmark = pytest.mark.timeout(600)

SCALE = float(os.environ.get("TXSPREAD_ACCEPT_CROWD", "0.2"))
CLIENTS = int(500 * SCALE)
GROUPS = [b"group-%d" % number for number in range(int(100 * SCALE))]
MEMBERS = 50
CHANGES = int(10_000 * SCALE)
AT_ONCE = 200
"""Requests on their way at a time."""
MIB = 1 << 20
TOLERATED_GROWTH = 16 * MIB
"""What may stay of the memory of a first crowd: free memory that the allocator keeps."""
TOLERATED_LEAK = 4 * MIB
"""What a second crowd of the same size may add to that."""


class Model:
    """Who is in which group once all requests are through."""

    def __init__(self, clients: list[LeanClient], rng: random.Random) -> None:
        self.clients = clients
        self.rng = rng
        self.groups: dict[bytes, set[LeanClient]] = {group: set() for group in GROUPS}
        self.changes = 0

    def join(self, client: LeanClient, group: bytes) -> None:
        client.join(group)
        self.groups[group].add(client)
        self.changes += 1

    def leave(self, client: LeanClient, group: bytes) -> None:
        client.leave(group)
        self.groups[group].remove(client)
        self.changes += 1

    def fill(self) -> None:
        """Every group gets its members; every client is in equally many groups."""
        at = 0
        for group in GROUPS:
            for _ in range(MEMBERS):
                self.join(self.clients[at % len(self.clients)], group)
                at += 1
            self.settle()

    def exchange(self) -> None:
        """One client leaves a group and another one joins it, until all changes are made."""
        while self.changes < CHANGES:
            for _ in range(AT_ONCE // 2):
                group = self.rng.choice(GROUPS)
                members = sorted(self.groups[group], key=lambda one: one.private_group)
                leaver = self.rng.choice(members)
                joiner = self.rng.choice(self.clients)
                self.leave(leaver, group)
                while joiner in self.groups[group]:
                    joiner = self.rng.choice(self.clients)
                self.join(joiner, group)
            self.settle()

    def settle(self) -> None:
        """Wait until every last view is the model's."""
        assert self.clients[0].crowd.run_until(self.right), self.difference()

    def right(self) -> bool:
        return (
            all(
                len(client.views[group][1]) == 32 * len(members) if group in client.views else False
                for group, members in self.groups.items()
                for client in members
            )
            and not self.difference()
        )

    def difference(self) -> str:
        expected: dict[LeanClient, set[bytes]] = {client: set() for client in self.clients}
        for group, members in self.groups.items():
            names = sorted(member.private_group for member in members)
            ids = set()
            for member in members:
                expected[member].add(group)
                if member.members(group) != names:
                    return f"{member.private_group!r} sees another {group!r}"
                ids.add(member.views[group][0])
            if len(ids) > 1:
                return f"members of {group!r} have different ids for one view"
        for client, groups in expected.items():
            if client.closed or client.views.keys() != groups:
                return f"{client.private_group!r} is in other groups, or closed: {client.closed}"
        return ""


def sessions_gone(daemon: DaemonProcess, crowd: LeanCrowd) -> None:
    """Wait until a newcomer finds every group empty."""
    witness = crowd.connect(daemon, b"witness")
    for group in GROUPS:
        witness.join(group)
    assert crowd.run_until(
        lambda: all(witness.members(group) == [witness.private_group] for group in GROUPS)
    )
    witness.close()


def play(daemon: DaemonProcess, seed: int) -> tuple[int, int]:
    """One crowd comes and goes; the memory of the daemon at its largest and afterwards."""
    assert daemon.process is not None
    crowd = LeanCrowd()
    clients = [crowd.connect(daemon, b"c%d" % number) for number in range(CLIENTS)]
    assert crowd.run_until(lambda: all(client.accepted for client in clients))
    model = Model(clients, random.Random(seed))
    model.fill()
    model.exchange()
    assert model.changes == CHANGES
    assert {len(members) for members in model.groups.values()} == {MEMBERS}
    assert model.difference() == ""
    largest = resident_bytes(daemon.process.pid)
    for client in clients:
        client.close()
    sessions_gone(daemon, crowd)
    crowd.close()
    return largest, resident_bytes(daemon.process.pid)


def test_a_crowd_sees_the_right_views_and_leaves_no_memory_behind() -> None:
    with DaemonRing([txspread_command()]) as ring:
        daemon = ring.daemons[0]
        assert daemon.process is not None
        before = resident_bytes(daemon.process.pid)
        started = time.monotonic()
        largest, first = play(daemon, 1)
        seconds = time.monotonic() - started
        _, second = play(daemon, 2)
        print(
            f"{CLIENTS} clients, {CHANGES} changes: {seconds:.1f} s; MiB before {before / MIB:.1f},"
            f" with all {largest / MIB:.1f}, after {first / MIB:.1f} and {second / MIB:.1f}"
        )
        assert first <= before + TOLERATED_GROWTH
        assert second <= first + TOLERATED_LEAK
        assert "internal error" not in daemon.output()
        daemon.stop()
        wait_until(lambda: not daemon.running, what="the daemon to end")
        assert daemon.process.returncode == 0
