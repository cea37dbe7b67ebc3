"""Ids of memberships are never used twice, whatever clocks and crashes do."""

from __future__ import annotations

import pytest

from txspread.config.parsing import parse
from txspread.engine.membership.identifiers import IdClock
from txspread.testing.plan import Plan, configuration_for
from txspread.testing.recorder import Recorder
from txspread.testing.scenario import settling_bound
from txspread.testing.trace import Configuration
from txspread.testing.virtual_network import VirtualNetwork
from txspread.wire.identifiers import MembershipId


class Cluster:
    """Three daemons, one in each segment."""

    def __init__(self) -> None:
        self.network = VirtualNetwork(configuration_for(Plan(daemons=3, segments=3)), 1)
        self.recorder = Recorder(self.network)
        self.first = self.network.daemons["d1"]
        self.network.start()
        self.settle()

    def settle(self) -> MembershipId:
        """Wait for one ring of all; its id."""
        clock = self.network.clock
        assert clock.run_while(lambda: len(self._rings()) != 1, settling_bound(self.network))
        return self._rings().pop()

    def _rings(self) -> set[MembershipId]:
        rings = set()
        for daemon in self.network.daemons.values():
            node = daemon.node
            if node is not None and node.ring is not None:
                membership = node.ring.membership
                complete = membership.state.name == "OP" and len(node.membership) == 3
                rings.add(
                    membership.installed.id if complete else MembershipId(0, daemon.daemon.id)
                )
        return rings

    def installed(self) -> list[MembershipId]:
        """The ids of the rings that the first daemon has installed, all its lives through."""
        return [
            event.id
            for history in self.recorder.trace.daemons
            if history.proc_id == self.first.daemon.id
            for event in history.events
            if isinstance(event, Configuration) and event.regular
        ]


@pytest.mark.parametrize("step", [0, -1, -3600, -100_000_000, 3600])
def test_a_leader_that_starts_again_does_not_repeat_an_id(step: int) -> None:
    cluster = Cluster()
    times = [cluster.settle().time]
    for _ in range(5):
        cluster.first.crash()
        cluster.first.clock_error += step
        cluster.first.start()
        times.append(cluster.settle().time)
    assert times == sorted(set(times))
    assert len(set(cluster.installed())) == len(cluster.installed())


def test_a_leader_that_lost_its_memory_learns_from_its_peers() -> None:
    cluster = Cluster()
    before = cluster.settle()
    cluster.first.crash()
    cluster.first.last_time_used = -1
    cluster.first.clock_error = -3600
    cluster.first.start()
    after = cluster.settle()
    assert after.proc_id == before.proc_id
    assert after.time > before.time


def test_a_daemon_without_peers_does_not_repeat_an_id() -> None:
    configuration = parse("Spread_Segment 127.0.0.255:4803 {\n alone 127.0.0.1\n}\n", "one.conf")
    network = VirtualNetwork(configuration, 1)
    recorder = Recorder(network)
    daemon = network.daemons["alone"]
    for _ in range(3):
        daemon.start()
        daemon.crash()
    ids = [
        event.id
        for history in recorder.trace.daemons
        for event in history.events
        if isinstance(event, Configuration)
    ]
    assert len(ids) == 6
    assert len(set(ids)) == 6


def test_the_host_hears_of_a_time_before_it_is_used() -> None:
    used: list[int] = []
    clock = IdClock(lambda: 1000, on_use=used.append)
    assert [clock.next(), clock.after(), clock.next()] == [1000, 1001, 1002]
    assert used == [1000, 1001, 1002]


def test_times_start_above_the_last_one_of_the_process_before() -> None:
    assert IdClock(lambda: 1000, last_used=5000).next() == 5001
    assert IdClock(lambda: 6000, last_used=5000).next() == 6000


def test_a_time_far_ahead_of_the_own_clock_is_not_believed() -> None:
    clock = IdClock(lambda: 1_700_000_000)
    clock.seen(1_700_000_100)
    assert clock.next() == 1_700_000_101
    clock.seen(1_900_000_000)
    assert clock.next() == 1_700_000_102
    clock.seen(-1)
    assert clock.next() == 1_700_000_103


def test_times_go_on_when_the_signed_field_overflows() -> None:
    clock = IdClock(lambda: 0x7FFFFFFF)
    assert [clock.next(), clock.after()] == [0x7FFFFFFF, -0x80000000]
    clock.seen(-0x80000000 + 10)
    assert clock.next() == -0x80000000 + 11


def test_the_mark_of_an_unset_time_is_left_out() -> None:
    clock = IdClock(lambda: 0xFFFFFFFF)
    assert [clock.next(), clock.after()] == [-1, 1]
