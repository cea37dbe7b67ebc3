"""One daemon does not hear another, for ever: rings stay few, and clients have one."""

from __future__ import annotations

import itertools

import pytest

from txspread.engine.membership.avoidance import PATIENCE, Avoidance
from txspread.testing.plan import Plan, configuration_for
from txspread.testing.recorder import Recorder
from txspread.testing.scenario import settling_bound
from txspread.testing.virtual_network import VirtualNetwork
from txspread.wire.constants import ServiceType

SECONDS = 60
STEP = 0.1


def network(daemons: int, segments: int) -> VirtualNetwork:
    """A cluster that has formed one ring."""
    virtual = VirtualNetwork(configuration_for(Plan(daemons=daemons, segments=segments)), 1)
    virtual.start()
    assert virtual.clock.run_while(lambda: not whole(virtual), settling_bound(virtual))
    return virtual


def whole(virtual: VirtualNetwork) -> bool:
    """Whether all daemons are in one ring."""
    nodes = [daemon.node for daemon in virtual.daemons.values()]
    return all(
        node is not None
        and node.membership_state.name == "OP"
        and len(node.membership) == len(nodes)
        for node in nodes
    )


def installed(virtual: VirtualNetwork) -> list[int]:
    """Rings that each daemon has installed."""
    return [
        daemon.node.ring.membership.membership_changes
        for daemon in virtual.daemons.values()
        if daemon.node is not None and daemon.node.ring is not None
    ]


def shares_of_time_with_a_ring(virtual: VirtualNetwork) -> dict[str, float]:
    """For each daemon, the part of the next minute in which its ring works."""
    working = dict.fromkeys(virtual.daemons, 0)
    steps = round(SECONDS / STEP)
    for _ in range(steps):
        virtual.clock.run_until(virtual.clock.now + STEP)
        for name, daemon in virtual.daemons.items():
            if daemon.node is not None and daemon.node.ring is not None:
                working[name] += daemon.node.ring.membership.token_alive
    return {name: count / steps for name, count in working.items()}


@pytest.mark.parametrize("segments", [1, 2, 4])
@pytest.mark.parametrize(
    ("deaf", "unheard"), list(itertools.permutations(["d1", "d2", "d3", "d4"], 2))
)
def test_no_daemon_is_without_a_ring_for_long(deaf: str, unheard: str, segments: int) -> None:
    virtual = network(4, segments)
    before = installed(virtual)
    virtual.cut(unheard, deaf)
    shares = shares_of_time_with_a_ring(virtual)
    assert min(shares.values()) > 0.4, shares
    most = max(now - then for now, then in zip(installed(virtual), before, strict=True))
    # The low timeouts look for others every 3 s; a look costs at most a few rings.
    assert most <= 3 * SECONDS / 3
    virtual.heal()
    assert virtual.clock.run_while(lambda: not whole(virtual), settling_bound(virtual))


def test_packets_come_another_way_when_the_next_daemon_cannot_be_heard() -> None:
    virtual = network(4, 4)
    recorder = Recorder(virtual)
    clients = [
        recorder.connect(daemon, b"c%d" % number)
        for number, daemon in enumerate(virtual.daemons.values())
    ]
    virtual.clock.run_until(virtual.clock.now + 1)
    for client in clients:
        client.join(b"g")
    assert virtual.clock.run_while(lambda: not all(recorder.sees(c, 4) for c in clients), 5)
    virtual.cut("d2", "d1")
    carried = virtual.carried
    bodies = [b"message %d" % number for number in range(20)]
    for body in bodies:
        recorder.multicast(clients[1], ServiceType.SAFE_MESS, [b"g"], body)
    got = clients[0].received
    assert virtual.clock.run_while(lambda: not {r.body for r in got}.issuperset(bodies), 5)
    # The ring has not spun: a few rotations of retransmissions, then peace.
    virtual.clock.run_until(virtual.clock.now + 5)
    assert virtual.carried - carried < 2000


def test_a_deaf_daemon_does_not_keep_the_others_from_their_ring() -> None:
    virtual = network(5, 5)
    for name in ("d1", "d2", "d4", "d5"):
        virtual.cut(name, "d3")
    shares = shares_of_time_with_a_ring(virtual)
    assert min(share for name, share in shares.items() if name != "d3") > 0.4, shares
    virtual.heal()
    assert virtual.clock.run_while(lambda: not whole(virtual), settling_bound(virtual))


def test_nobody_is_left_out_before_patience_ends() -> None:
    avoidance = Avoidance()
    assert [avoidance.begin([2, 3, 4]) for _ in range(PATIENCE)] == [frozenset()] * PATIENCE


def test_each_half_is_left_out_once_then_everybody() -> None:
    avoidance = Avoidance()
    for _ in range(PATIENCE):
        avoidance.begin([2, 3, 4, 5])
    assert avoidance.begin([2, 3, 4, 5]) == {4, 5}
    assert avoidance.begin([2, 3, 4, 5]) == {2, 3}
    assert avoidance.begin([2, 3, 4, 5]) == {2, 3, 4, 5}
    assert avoidance.begin([2]) == {2}


def test_those_left_out_are_not_heard_until_the_time_is_over() -> None:
    avoidance = Avoidance()
    for _ in range(PATIENCE + 1):
        avoidance.begin([2, 3])
    assert not avoidance.avoids(3, 99.0)
    avoidance.installed([1, 2], 100.0)
    assert avoidance.avoids(3, 99.0)
    assert not avoidance.avoids(2, 99.0)
    assert not avoidance.avoids(3, 100.0)
    assert avoidance.attempts == 0


def test_a_ring_with_those_left_out_ends_the_avoidance() -> None:
    avoidance = Avoidance()
    for _ in range(PATIENCE + 1):
        avoidance.begin([2, 3])
    avoidance.installed([1, 2], 100.0)
    avoidance.installed([1, 2, 3], 50.0)
    assert not avoidance.avoids(3, 60.0)
