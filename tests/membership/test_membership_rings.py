"""Rings of several membership machines on a virtual network."""

from __future__ import annotations

import pytest
from membership_world import EPOCH, World


@pytest.mark.parametrize(
    "sizes",
    [(1,), (1, 1, 1), (3,), (5,), (2, 3), (1, 2, 2), (20,), (4, 4, 4, 4, 4), (1,) * 5],
    ids=str,
)
def test_daemons_that_start_together_form_one_ring_in_seg_plus_gather(sizes):
    world = World(sizes)
    world.start()
    world.run(1.70)
    assert not world.rings()
    world.run(0.15)
    ring = world.one_ring()
    assert ring.id.proc_id == ring.members[0] == ring.leader
    assert ring.id.time >= EPOCH + 1
