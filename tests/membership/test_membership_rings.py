"""Rings of several membership machines on a virtual network.

Durations are those of ``docs/protocol/membership.md`` section 8.2, with the LAN
timeouts: lone start 1.75, crash 2.5 to 3.0, late joiner 1.75, merge at the next probe.
"""

from __future__ import annotations

import pytest
from membership_world import EPOCH, World

from txspread.engine.membership import DropCause
from txspread.engine.node_interfaces import Channel
from txspread.engine.ring_interfaces import MembershipState
from txspread.wire import datagram
from txspread.wire.membership import Form1


def started(*sizes: int) -> World:
    """A world whose daemons have formed one ring."""
    world = World(sizes)
    world.start()
    world.run(2.0)
    world.one_ring()
    return world


def is_form1(data: bytes, channel: Channel) -> bool:
    return channel is Channel.TOKEN and bool(data[1] & datagram.FORM1 >> 8)


def is_form2(data: bytes, channel: Channel) -> bool:
    return channel is Channel.TOKEN and bool(data[1] & datagram.FORM2 >> 8)


@pytest.mark.parametrize(
    "sizes",
    [
        (1,),
        (2,),
        (1, 1, 1),
        (3,),
        (5,),
        (2, 3),
        (1, 2, 2),
        (20,),
        (4, 4, 4, 4, 4),
        (1,) * 5,
        (1,) * 20,
    ],
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


def test_a_first_ring_has_one_transitional_membership_for_each_daemon():
    world = started(1, 2)
    for node in world.nodes:
        (trans_id, transitional, _), *_ = node.installed
        assert transitional == (node.daemon.id,)
        assert trans_id.proc_id == node.daemon.id


def test_more_daemons_than_old_rings_fit_come_together_in_two_formations():
    world = World((24,))
    world.start()
    world.run(1.9)
    assert sorted(len(names) for names in world.rings().values()) == [20]
    assert sum(node.membership.drops[DropCause.RING_LIMIT] for node in world.nodes) == 4
    world.run(3.5)
    assert len(world.one_ring().members) == 24


@pytest.mark.parametrize(
    ("sizes", "late"),
    [((3,), "d0c"), ((3,), "d0a"), ((1, 1, 1), "d2a"), ((2, 2), "d1b"), ((2, 2), "d0a")],
    ids=str,
)
def test_a_late_daemon_is_taken_in_while_the_ring_works_on(sizes, late):
    world = World(sizes)
    early = [node.daemon.name for node in world.nodes if node.daemon.name != late]
    world.start(*early)
    world.run(5.0)
    ring_before = world.one_ring()
    world.start(late)
    world.run(1.6)
    for name in early:
        membership = world.node(name).membership
        assert membership.token_alive
        assert membership.installed.id == ring_before.id
    world.run(0.6)
    ring = world.one_ring()
    losses = {n.daemon.name: n.ring.losses for n in world.nodes if n.daemon.name != late}
    # Only the loss that every daemon starts with.
    assert all(lost == [MembershipState.OP] for lost in losses.values()), losses
    for node in world.nodes:
        trans_id, transitional, _ = node.installed[-1]
        if node.daemon.name != late:
            assert set(transitional) == set(ring_before.members)
            assert trans_id.proc_id == ring_before.members[0]
        else:
            assert transitional == (node.daemon.id,)
    assert ring.id != ring_before.id


@pytest.mark.parametrize("victim", ["d0a", "d0b", "d1a", "d1c"])
def test_the_others_form_a_ring_after_a_crash(victim):
    world = started(2, 3)
    world.run(1.23)
    before = world.node("d0b").membership.installed
    world.node(victim).crash()
    world.run(2.4)
    assert not world.rings()
    world.run(0.65)
    ring = world.one_ring()
    assert len(ring.members) == 4
    for node in world.nodes:
        if node.up:
            assert set(node.installed[-1][1]) == set(ring.members)
            assert node.installed[-1][0] != before.id


def test_a_daemon_that_restarts_at_once_breaks_the_ring_and_is_in_the_next_one():
    world = started(1, 1, 1)
    node = world.node("d1a")
    node.crash()
    node.start()
    world.run(0.6)
    assert world.node("d0a").membership.state is MembershipState.SEG
    world.run(1.8)
    world.one_ring()
    assert set(world.node("d0a").installed[-1][1]) == {
        world.node("d0a").daemon.id,
        world.node("d2a").daemon.id,
    }


def test_a_restarted_daemon_of_a_shared_segment_breaks_the_ring_with_its_first_alive():
    world = started(3)
    node = world.node("d0b")
    node.crash()
    node.start()
    world.run(0.01)
    assert world.node("d0a").membership.state is MembershipState.SEG
    world.run(1.8)
    assert len(world.one_ring().members) == 3


def test_a_partition_makes_two_rings_that_find_each_other_by_a_probe():
    world = started(1, 1, 1, 1)
    world.part(("d0a", "d1a"), ("d2a", "d3a"))
    world.run(3.2)
    halves = sorted(world.rings().values())
    assert halves == [["d0a", "d1a"], ["d2a", "d3a"]]
    world.heal()
    world.run(20.0)
    assert len(world.rings()) == 2
    world.run(13.0)
    ring = world.one_ring()
    assert len(ring.members) == 4
    # Everybody comes with the half it was in.
    assert {len(node.installed[-1][1]) for node in world.nodes} == {2}


def test_rings_that_share_a_broadcast_segment_merge_when_one_of_them_says_something():
    world = started(4)
    world.part(("d0a", "d0b"), ("d0c", "d0d"))
    world.run(3.2)
    assert len(world.rings()) == 2
    world.heal()
    world.node("d0d").say_something()
    world.run(1.35)
    world.one_ring()


def test_a_segment_leader_tells_the_ring_leader_of_a_foreign_packet():
    world = started(1, 3)
    world.part(("d0a", "d1a", "d1b"), ("d1c",))
    world.run(3.2)
    world.lose = lambda source, node, data, channel: (
        {source.daemon.name, node.daemon.name} == {"d0a", "d1c"}
        and channel is Channel.DATA
        and bool(data[0] & 0x1F)
    )
    world.sent.clear()
    world.node("d1c").say_something()
    world.run(1.35)
    world.one_ring()
    teller = world.node("d1a").daemon.id
    forwarded = [s for s in world.sent if s[1] == teller and s[3][0] & 0x1F]
    assert len(forwarded) == 2
    assert forwarded[0][2] == (world.node("d0a").daemon.address, 4803)


@pytest.mark.parametrize("victim", ["d0a", "d1a", "d2a"])
def test_a_ring_of_those_that_hear_each_other_forms_when_one_daemon_goes_deaf(victim):
    """One-way loss: the others hear the deaf one, which hears nobody."""
    world = started(1, 1, 1)
    world.lose = lambda source, node, *_: node.daemon.name == victim
    hearing = [n.daemon.name for n in world.nodes if n.daemon.name != victim]
    world.run(60.0)
    seconds_together = 0
    for _ in range(600):
        world.run(0.1)
        rings = world.rings()
        seconds_together += any(sorted(names) == hearing for names in rings.values())
    assert seconds_together > 400
    world.heal()
    world.run(40.0)
    assert len(world.one_ring().members) == 3


@pytest.mark.parametrize("victim", ["d0a", "d1a", "d2a"])
def test_a_daemon_that_nobody_hears_is_left_out_and_comes_back(victim):
    """One-way loss the other way round."""
    world = started(1, 1, 1)
    world.lose = lambda source, node, *_: source.daemon.name == victim
    hearing = [n.daemon.name for n in world.nodes if n.daemon.name != victim]
    world.run(10.0)
    assert world.one_ring_of(hearing)
    world.heal()
    world.run(40.0)
    assert len(world.one_ring().members) == 3


@pytest.mark.parametrize("which", [is_form1, is_form2])
@pytest.mark.parametrize("hop", [0, 1, 2])
def test_a_lost_form_token_costs_one_form_and_a_new_attempt(which, hop):
    """Both copies of one hop are lost; everybody is together one attempt later."""
    world = World((1, 1, 1))
    hops: list[bytes] = []

    def lose(source, node, data, channel):
        if not which(data, channel):
            return False
        if data not in hops:
            hops.append(data)
        return hops.index(data) == hop

    world.lose = lose
    world.start()
    world.run(1.9)
    complete = len(world.rings()) == 1 and len(next(iter(world.rings().values()))) == 3
    assert not complete or len(hops) <= hop
    world.run(4.0)
    world.one_ring()


def test_one_copy_of_a_form_token_is_enough():
    world = World((2, 2))
    seen: set[bytes] = set()

    def lose_first_copy(source, node, data, channel):
        if (is_form1(data, channel) or is_form2(data, channel)) and data not in seen:
            seen.add(data)
            return True
        return False

    world.lose = lose_first_copy
    world.start()
    world.run(1.9)
    world.one_ring()


def test_form_tokens_that_arrive_ten_times_change_nothing():
    world = World((2, 2))
    world.copies = lambda data, channel: (
        10 if is_form1(data, channel) or is_form2(data, channel) else 1
    )
    world.start()
    world.run(2.0)
    world.one_ring()
    world.run(10.0)
    assert all(len(node.installed) == 1 for node in world.nodes)


def test_a_form1_that_arrives_again_after_the_installation_does_not_break_the_ring():
    world = started(1, 1, 1)
    tokens = [s for s in world.sent if is_form1(s[3], Channel.TOKEN)]
    for _, _, _, data in tokens:
        form1 = Form1.decode(data)
        for node in world.nodes:
            if form1.reps[form1.rep_index].proc_id == node.daemon.id:
                node.receive(data, Channel.TOKEN)
    world.run(5.0)
    world.one_ring()
    assert all(len(node.installed) == 1 for node in world.nodes)


def test_a_second_crash_while_gathering_is_survived():
    world = started(1, 1, 1, 1)
    world.run(1.2)
    world.node("d1a").crash()
    world.run(2.0)
    world.node("d2a").crash()
    world.run(4.5)
    ring = world.one_ring()
    assert len(ring.members) == 2


def test_first_daemons_that_are_down_delay_two_segments_until_a_probe():
    world = World((2, 2))
    world.start("d0b", "d1b")
    world.run(2.0)
    assert sorted(map(len, world.rings().values())) == [1, 1]
    world.run(31.5)
    assert len(world.one_ring().members) == 2


def test_a_complete_ring_of_several_segments_does_not_probe():
    world = started(1, 2)
    world.sent.clear()
    world.run(70.0)
    assert not [s for s in world.sent if s[3][1] & datagram.JOIN >> 8]


def test_a_complete_ring_of_one_segment_probes_with_one_broadcast():
    world = started(3)
    world.sent.clear()
    world.run(35.0)
    probes = [s for s in world.sent if s[3][1] & datagram.JOIN >> 8]
    assert len(probes) == 1
    assert probes[0][2] == ("10.0.0.255", 4803)
    assert all(len(node.installed) == 1 for node in world.nodes)


def test_ids_only_grow_although_clocks_are_set_back():
    world = started(1, 1)
    times = [world.node("d0a").membership.installed.id.time]
    for node in world.nodes:
        node.clock_error = -10_000
    for _ in range(3):
        world.node("d1a").crash()
        world.run(3.2)
        world.node("d1a").start()
        world.run(3.2)
        times.append(world.node("d0a").membership.installed.id.time)
    assert times == sorted(set(times))


def test_a_ring_id_is_not_used_again_by_a_leader_that_restarts_within_one_second():
    world = started(1, 1)
    before = world.node("d0a").membership.installed.id
    leader = world.node("d0a")
    leader.crash()
    # Its clock says that no time has passed since it formed the ring.
    leader.clock_error = -30
    leader.start()
    world.run(3.2)
    ring = world.one_ring()
    assert ring.id.proc_id == before.proc_id
    assert ring.id.time > before.time
