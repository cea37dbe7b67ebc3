"""Rings joined back to back order and deliver the same everywhere."""

from __future__ import annotations

import pytest
from ring_cluster import formed

from txspread.wire.constants import PacketType


def test_a_formed_ring_announces_a_transitional_and_then_a_regular_membership():
    cluster = formed([3])
    ids = tuple(m.id for m in cluster.members)
    for member in cluster.members:
        (first, (trans, trans_id)), (second, (members, regular_id)) = member.upper.events
        assert (first, second) == ("transitional", "regular")
        assert trans == (member.id,)
        assert trans_id == (member.id, cluster.clock)
        assert members == ids
        assert regular_id == (ids[0], cluster.clock + 1)


@pytest.mark.parametrize("sizes", [[1, 1], [3], [1, 1, 1], [3, 2]])
@pytest.mark.parametrize("accelerated", [False, True])
def test_all_members_deliver_everything_in_one_order(sizes, accelerated):
    cluster = formed(sizes, accelerated_ring=accelerated)
    for round_ in range(40):
        for member in cluster.members:
            member.submit(f"{member.daemon.name}-{round_}", size=round_ * 37)
    cluster.settle()
    first = cluster.members[0].upper.texts
    assert len(first) == 40 * len(cluster.members)
    for member in cluster.members:
        assert member.upper.texts == first
        mine = [text for text in first if text.startswith(member.daemon.name + "-")]
        assert mine == [f"{member.daemon.name}-{round_}" for round_ in range(40)]
        assert member.membership.losses == 0


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_loss_duplication_and_reordering_change_neither_order_nor_membership(seed, accelerated):
    cluster = formed([2, 2, 1], seed=seed, accelerated_ring=accelerated)
    cluster.loss, cluster.duplication, cluster.reordering = 0.05, 0.1, 0.2
    kinds = [PacketType.AGREED, PacketType.FIFO, PacketType.SAFE]
    for round_ in range(60):
        for member in cluster.members:
            member.submit(
                f"{member.daemon.name}-{round_}",
                size=cluster.random.choice([0, 10, 300, 1400, 5000]),
                kind=cluster.random.choice(kinds),
            )
    cluster.settle()
    first = cluster.members[0].upper.texts
    assert len(first) == 60 * 5
    for member in cluster.members:
        assert member.upper.texts == first
        assert member.membership.losses == 0
    assert sum(m.ring.counters.retrans for m in cluster.members) > 0
