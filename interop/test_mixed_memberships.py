"""Clients of both kinds of daemons in one ring are told the same of every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.mixed import PATTERNS, Members, partition, ring_of
from txspread.testing.packet_filters import FilterError, lose
from txspread.wire.constants import ServiceType

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(400)]

JOIN = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_JOIN)
LEAVE = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_LEAVE)
DISCONNECT = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_DISCONNECT)
NETWORK = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_NETWORK)


def names(count: int) -> list[str]:
    return [f"d{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_joins_leaves_and_disconnects(upstream: Path, pattern: str) -> None:
    with ring_of(pattern, upstream) as ring:
        members = Members(ring)
        members.join()
        everybody = list(members.clients)
        members.mark()
        visitors = [members.crowd.connect(d.address, d.port, "visitor") for d in ring.daemons]
        for visitor in visitors:
            visitor.join("everybody")
        count = len(everybody)
        assert members.crowd.run_until(
            lambda: all(len(c.views[-1].members) == 2 * count for c in members.clients.values())
        )
        for number, visitor in enumerate(visitors):
            if number % 2:
                visitor.leave("everybody")
            elif number % 4:
                visitor.disconnect()
            else:
                visitor.drop()
        members.wait_for_views(everybody)
        told = members.all_told_the_same(everybody)
        causes = sorted(event[0] for event in told if isinstance(event, tuple))
        leaves = count // 2
        assert causes == sorted([JOIN] * count + [LEAVE] * leaves + [DISCONNECT] * (count - leaves))
        assert members.judge() == []


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_crash_and_a_late_joiner(upstream: Path, pattern: str, place: str) -> None:
    with ring_of(pattern, upstream) as ring:
        victim = ring.daemons[0 if place == "first" else -1]
        members = Members(ring)
        members.join()
        before = members.clients["d1"].views[-1].group_id
        rest = [name for name in members.clients if name != victim.name]
        members.mark()
        victim.kill()
        members.crowd.run_until(lambda: members.clients[victim.name].closed)
        members.clients.pop(victim.name)
        members.wait_for_views(rest)
        transition, view = members.all_told_the_same(rest)
        assert transition == ("transition", before)
        expected = tuple(members.clients[name].private_group for name in rest)
        assert isinstance(view, tuple)
        assert view[0] == NETWORK
        assert view[2:] == (expected, (expected,))
        members.mark()
        ring.start([victim])
        late = members.crowd.connect(victim.address, victim.port, "late", limit=60)
        late.join("everybody")
        members.clients[victim.name] = late
        members.wait_for_views(names(len(pattern)))
        members.settle()
        told = members.all_told_the_same(rest)
        # It joins before or after the rings merge; everybody sees the same of it.
        assert late.views[-1].group_id == members.clients[rest[0]].views[-1].group_id
        assert all(isinstance(event, tuple) and event[0] in (JOIN, NETWORK) for event in told)
        assert members.judge() == []


@pytest.mark.parametrize("accelerated", ["false", "true"])
@pytest.mark.parametrize(
    ("pattern", "components"),
    [
        ("ut", (0, 1)),
        ("tu", (0, 1)),
        ("utu", (0, 0, 1)),
        ("utu", (0, 1, 0)),
        ("tut", (0, 1, 1)),
        ("tut", (0, 1, 2)),
        ("ututu", (0, 0, 1, 1, 1)),
        ("tuutt", (0, 1, 0, 1, 0)),
    ],
)
def test_a_partition_and_a_merge(
    upstream: Path, pattern: str, components: tuple[int, ...], accelerated: str
) -> None:
    with ring_of(pattern, upstream, accelerated) as ring:
        members = Members(ring)
        members.join()
        before = members.clients["d1"].views[-1].group_id
        parts = [
            [f"d{i}" for i, other in enumerate(components, 1) if other == component]
            for component in sorted(set(components))
        ]
        members.mark()
        partition(ring, components)
        ids = []
        for part in parts:
            members.wait_for_views(part)
            told = members.all_told_the_same(part)
            expected = tuple(members.clients[name].private_group for name in part)
            assert told[0] == ("transition", before)
            last = told[-1]
            assert isinstance(last, tuple)
            assert (last[0], last[2], last[3]) == (NETWORK, expected, (expected,))
            ids.append(last[1])
        assert len(set(ids)) == len(parts)
        members.mark()
        partition(ring, [0] * len(pattern))
        members.wait_for_views(members.clients)
        if len(parts) == 2:
            (view,) = members.all_told_the_same(members.clients)
        else:  # three may come together in two steps
            (view,) = {members.told(name)[-1] for name in members.clients}
        assert isinstance(view, tuple)
        assert view[0] == NETWORK
        for part in parts:
            together = tuple(members.clients[name].private_group for name in part)
            assert any(set(together) <= set(vs_set) for vs_set in view[3])
        assert members.judge() == []


@pytest.mark.parametrize("pattern", ["utu", "tut", "ttu", "uut"])
@pytest.mark.parametrize("unheard", [0, 2])
def test_a_daemon_that_one_other_cannot_hear(upstream: Path, pattern: str, unheard: int) -> None:
    with ring_of(pattern, upstream) as ring:
        members = Members(ring)
        members.join()
        middle, other = ring.daemons[1].process, ring.daemons[unheard].address
        assert middle is not None
        try:
            lose(middle.pid, daemons=[other])
        except FilterError as error:
            pytest.skip(f"cannot borrow a daemon's sockets: {error}")
        # Whatever rings come and go now, what clients are told has to fit together.
        for number in range(40):
            for name, client in members.clients.items():
                client.multicast(0x10, ["everybody"], b"%d of %s" % (number, name.encode()))
            members.crowd.run(0.25)
        lose(middle.pid)
        members.wait_for_views(members.clients)
        members.settle()
        assert members.judge() == []


def test_a_group_that_no_lost_daemon_had_members_of_hears_nothing(upstream: Path) -> None:
    with ring_of("utu", upstream) as ring:
        members = Members(ring)
        members.join(ring.daemons[:2])
        members.mark()
        ring.daemons[2].kill()
        members.crowd.run(4.0)
        ring.start(ring.daemons[2:])
        members.crowd.run(4.0)
        members.settle()
        assert members.all_told_the_same(["d1", "d2"]) == []
        assert members.judge() == []
