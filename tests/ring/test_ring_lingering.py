"""The token stays with the only daemon that speaks, and with nobody else."""

from __future__ import annotations

from collections import Counter

import pytest
from ring_cluster import Cluster, Member, formed
from ring_probe import Probe

from txspread.engine.ring.lingering import (
    INTRODUCTIONS,
    LIMIT,
    LONGEST,
    LOOP_GAP,
    MOST,
    NEEDED,
    PATIENCE,
    RENEWAL,
    SHARE,
    SHARE_OF_HURRY,
    SPAN,
)
from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.wire.constants import PacketType
from txspread.wire.datagram import HURRY
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import NO_MEMBERSHIP, PacketHeader

BIG = 1300
"""Bytes of a body that leaves no room for another message in its packet."""


def say(cluster: Cluster, member: Member, text: str, kind: PacketType = PacketType.AGREED) -> None:
    """Submit a message and wait until everybody has it."""
    member.submit(text, kind=kind)
    cluster.run(lambda: all(text in one.upper.texts for one in cluster.members if one.alive))


def talking(index: int, **changes: object) -> tuple[Cluster, Member]:
    """A ring in which one member has sent often enough for the token to linger there."""
    cluster = formed((1, 1, 1), **changes)
    cluster.settle()
    member = cluster.members[index]
    for number in range(50):
        say(cluster, member, f"warm {number}")
        if member.ring._machine.lingering.active:
            return cluster, member
    raise AssertionError("the token has not lingered")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_lone_speakers_next_message_leaves_without_a_rotation(index: int):
    cluster, member = talking(index)
    others = [one for one in cluster.members if one is not member]
    before = [one.ring.counters.tokens_accepted for one in others]
    say(cluster, member, "at once")
    assert [one.ring.counters.tokens_accepted for one in others] == before
    assert member.ring.counters.tokens_lingered >= 1


def test_it_takes_several_messages_in_a_row():
    cluster = formed((1, 1, 1))
    cluster.settle()
    for number in range(NEEDED):
        say(cluster, cluster.members[1], f"m{number}")
    assert cluster.members[1].ring.counters.tokens_lingered == 0


def test_messages_now_and_then_are_not_waited_for():
    cluster = formed((1, 1, 1))
    cluster.settle()
    for number in range(3 * NEEDED):
        say(cluster, cluster.members[1], f"m{number}")
        cluster.settle()
        cluster.now += 2 * LOOP_GAP
    assert cluster.members[1].ring.counters.tokens_lingered == 0


def test_the_token_leaves_when_no_further_message_comes():
    cluster, member = talking(1)
    begin = cluster.now
    cluster.run(lambda: not member.ring._machine.lingering.active)
    assert cluster.now - begin <= PATIENCE + 0.001
    cluster.settle()
    assert not member.timers.running(Timer.LINGER)


def test_the_token_leaves_with_a_message_after_the_limit():
    cluster, member = talking(1, window=1000, personal_window=1000)
    begin = cluster.now
    accepted = cluster.members[2].ring.counters.tokens_accepted
    for number in range(1000):
        if cluster.members[2].ring.counters.tokens_accepted > accepted:
            break
        say(cluster, member, f"m{number}")
    assert cluster.now - begin <= LIMIT + PATIENCE


def test_a_visit_makes_no_more_packets_than_flow_control_allows():
    cluster, member = talking(1, window=60, personal_window=3)
    for number in range(40):
        say(cluster, member, f"m{number}")
    assert most_in_a_visit(member) == 3
    cluster.settle()
    assert all(one.ring._machine._last.flow_control == 0 for one in cluster.members)


def most_in_a_visit(member: Member) -> int:
    """Packets that one visit of the token has made at most."""
    headers = [PacketHeader.decode(packet) for how, _to, packet in member.sent if how == "all"]
    return max(Counter(header.token_round for header in headers).values())


def undisturbed(silent: float, hurry_timeout: float = 2.0, **changes: object):
    """A ring in which the others were silent for so many seconds, and the token lingers."""
    cluster, member = talking(1, **changes)
    machine = member.ring._machine
    machine._identity.hurry_timeout = hurry_timeout
    others = [one for one in cluster.members if one is not member]
    number = 0
    while any(one.ring._machine.keeper._called.get(member.id, 0) < INTRODUCTIONS for one in others):
        number += 1
        assert number < 1000, "the others have not introduced themselves"
        cluster.now += SPAN
        say(cluster, member, f"known {number}")
    cluster.run(lambda: not machine.lingering.active)
    cluster.settle()
    cluster.now += silent
    for number in range(50):
        say(cluster, member, f"again {number}")
        if machine.lingering.active:
            return cluster, member
    raise AssertionError("the token has not lingered")


@pytest.mark.parametrize(
    ("silent", "hurry_timeout", "expected"),
    [
        (0.0, 2.0, LIMIT),
        (0.01 * SHARE, 2.0, 0.01),
        (0.03 * SHARE, 2.0, 0.03),
        (100.0, 2.0, LONGEST),
        (100.0, 0.4, 0.4 / SHARE_OF_HURRY),
        (100.0, 0.01, LIMIT),
    ],
)
def test_the_longer_others_are_silent_the_longer_the_token_stays(
    silent: float, hurry_timeout: float, expected: float
):
    cluster, member = undisturbed(silent, hurry_timeout, window=1000, personal_window=1000)
    begin = cluster.now
    number = 0
    while member.ring._machine.lingering.active:
        number += 1
        cluster.now += 0.0004
        say(cluster, member, f"m{number}")
    assert 0.99 * expected <= cluster.now - begin <= 1.1 * expected + 0.002


@pytest.mark.parametrize("how", ["speaks", "lacks a packet"])
def test_it_is_short_again_when_another_member(how: str):
    cluster, member = undisturbed(100.0)
    cluster.run(lambda: not member.ring._machine.lingering.active)
    other = cluster.members[2]
    if how == "speaks":
        say(cluster, other, "one word")
    else:
        cluster.drop = lambda source, target, _packet: source is member and target is other
        member.submit("lost")
        cluster.run(lambda: "lost" in member.upper.texts)
        cluster.drop = None
        cluster.run(lambda: "lost" in other.upper.texts)
    for number in range(50):
        say(cluster, member, f"again {number}")
        if member.ring._machine.lingering.active:
            break
    assert cluster.now < member.ring._machine.lingering._leaves_at <= cluster.now + LIMIT + 0.001


def test_flow_control_does_not_count_what_has_long_arrived():
    cluster, member = undisturbed(100.0, window=60, personal_window=3)
    others = [one for one in cluster.members if one is not member]
    accepted = [one.ring.counters.tokens_accepted for one in others]
    for number in range(30):
        say(cluster, member, f"slow {number}")
        cluster.now += RENEWAL
    assert [one.ring.counters.tokens_accepted for one in others] == accepted
    assert member.ring._machine._last.flow_control <= 3
    cluster.settle()
    assert all(one.ring._machine._last.flow_control == 0 for one in cluster.members)


def test_a_visit_makes_a_bounded_number_of_packets_in_all():
    cluster, member = undisturbed(100.0, window=1000, personal_window=1000)
    for number in range(2 * MOST):
        member.submit(f"m{number}", BIG)
        if number % 10 == 0:
            cluster.run(lambda number=number: f"m{number}" in member.upper.texts)
    cluster.settle()
    assert most_in_a_visit(member) == MOST


def test_who_lacks_a_packet_asks_the_keeper_of_the_token():
    probe = acquainted()
    heard = {one.id for one in probe.members}
    hurries = probe.counters.hurries_sent
    for seq, at in ((1, 0.0), (2, 2 * SPAN)):
        now = probe.cluster.now + at
        assert probe.ring.data_packets([probe.packet(seq)], 0, now, heard, 0) == 1
    assert probe.counters.hurries_sent == hurries
    for seq in (4, 6):
        now = probe.cluster.now + seq * SPAN
        assert probe.ring.data_packets([probe.packet(seq)], 0, now, heard, 0) == 1
    assert probe.counters.hurries_sent == hurries + 1
    how, to, header = probe.data[-1]
    assert (how, to) == ("daemon", probe.members[2].id)
    assert header.type & HURRY


def test_two_that_talk_in_turn_never_wait_for_each_other():
    cluster = formed((1, 1, 1))
    cluster.settle()
    for number in range(20):
        say(cluster, cluster.members[1], f"question {number}")
        say(cluster, cluster.members[2], f"answer {number}")
    assert [one.ring.counters.tokens_lingered for one in cluster.members] == [0, 0, 0]


def test_safe_messages_are_not_held_up():
    cluster, member = talking(1)
    lingered = member.ring.counters.tokens_lingered
    for number in range(10):
        say(cluster, member, f"safe {number}", PacketType.SAFE)
    assert member.ring.counters.tokens_lingered <= lingered + 1


def test_a_safe_message_ends_a_visit_that_lingers():
    _cluster, member = talking(1)
    member.submit("safe", kind=PacketType.SAFE)
    assert not member.ring._machine.lingering.active


@pytest.mark.parametrize("index", [0, 1])
def test_a_hurry_of_a_member_makes_the_token_leave(index: int):
    cluster, member = talking(index)
    sent = len([one for one in member.sent if one[0] == "token"])
    assert not member.ring._machine.hurry(0x7F0000FE)
    assert member.ring._machine.lingering.active
    assert not member.ring._machine.hurry(cluster.members[2].id)
    assert not member.ring._machine.lingering.active
    assert len([one for one in member.sent if one[0] == "token"]) == sent + 1
    cluster.settle()


def acquainted(index: int = 1) -> Probe:
    """A member that the others know to call for the token."""
    probe = Probe(index)
    for one in probe.members:
        probe.ring._machine.keeper._called[one.id] = INTRODUCTIONS
    probe.pass_token(seq=0)
    return probe


def test_who_waits_asks_the_keeper_of_the_token():
    probe = acquainted()
    heard = {one.id for one in probe.members}
    probe.me.submit("mine")
    hurries = probe.counters.hurries_sent
    now = probe.cluster.now
    for seq, at in ((1, now), (2, now + SPAN / 2), (3, now + 2 * SPAN), (4, now + 3 * SPAN)):
        probe.cluster.now = at
        assert probe.ring.data_packets([probe.packet(seq)], 0, at, heard, 0) == 1
    assert probe.counters.hurries_sent == hurries + 1
    how, to, header = probe.data[-1]
    assert (how, to) == ("daemon", probe.members[2].id)
    assert header.type & HURRY


def test_who_speaks_first_asks_the_keeper_that_it_has_heard():
    probe = acquainted()
    heard = {one.id for one in probe.members}
    hurries = probe.counters.hurries_sent
    for seq, at in ((1, 0.0), (2, 2 * SPAN)):
        now = probe.cluster.now + at
        assert probe.ring.data_packets([probe.packet(seq)], 0, now, heard, 0) == 1
    assert probe.counters.hurries_sent == hurries
    probe.me.submit("mine")
    assert probe.counters.hurries_sent == hurries + 1


def test_a_member_introduces_itself_to_a_keeper_though_it_needs_nothing():
    probe = Probe(1)
    heard = {one.id for one in probe.members}
    ring = probe.me.membership.active.id
    seq = 0
    for turn in range(INTRODUCTIONS + 2):
        before = len(probe.data)
        probe.pass_token(seq=seq)
        for _packet in range(4):
            seq += 1
            now = probe.cluster.now + seq * SPAN
            assert probe.ring.data_packets([probe.packet(seq)], 0, now, heard, 0) == 1
        called = [(how, to, one.memb_id) for how, to, one in probe.data[before:]]
        expected = [("daemon", probe.members[2].id, ring)] if turn < INTRODUCTIONS else []
        assert called == expected


def test_a_hurry_to_the_leader_of_an_idle_ring_names_no_ring_as_upstreams():
    probe = Probe(1)
    for _turn in range(3):
        probe.pass_token()
    probe.me.submit("mine")
    how, to, header = probe.data[-1]
    assert (how, to, header.memb_id) == ("daemon", probe.members[0].id, NO_MEMBERSHIP)
    assert header.type & HURRY


@pytest.mark.parametrize("missing", ["one is silent", "one names no ring", "one named the last"])
def test_the_token_stays_longer_only_where_every_other_member_calls(missing: str):
    cluster, member = undisturbed(100.0)
    machine = member.ring._machine
    machine.lingering._callers.clear()
    first, last = (one.id for one in cluster.members if one is not member)
    ring = machine._membership.active.id
    machine.hurry(first, ring)
    if missing == "one names no ring":
        machine.hurry(last, NO_MEMBERSHIP)
    elif missing == "one named the last":
        machine.hurry(last, MembershipId(ring.proc_id, ring.time - 1))
    now = cluster.now
    machine.lingering.begin(now, 20, 1, 2, 2.0)
    assert machine.lingering._leaves_at == now + LIMIT
    machine.hurry(last, ring)
    machine.lingering.begin(now, 20, 1, 2, 2.0)
    assert machine.lingering._leaves_at == now + LONGEST


def test_nobody_is_asked_when_several_have_spoken():
    probe = acquainted()
    heard = {one.id for one in probe.members}
    for seq, sender in ((1, 2), (2, 0), (3, 2)):
        now = probe.cluster.now + seq * SPAN
        packet = probe.packet(seq, sender=sender)
        assert probe.ring.data_packets([packet], 0, now, heard, 0) == 1
    hurries = probe.counters.hurries_sent
    probe.me.submit("mine")
    assert probe.counters.hurries_sent == hurries


def test_to_the_others_the_visit_has_only_lasted_longer():
    def visit(patient: bool) -> tuple[list[bytes], bytes]:
        probe = Probe(1)
        lingering = probe.ring._machine.lingering
        if patient:
            lingering._row = NEEDED
            lingering._spoken_at = probe.cluster.now
        probe.me.submit("first", BIG)
        if not patient:
            probe.me.submit("second", BIG)
            probe.me.submit("third", BIG)
        probe.pass_token(flow_control=7)
        if patient:
            assert probe.tokens == []
            probe.me.submit("second", BIG)
            probe.me.submit("third", BIG)
            assert probe.tokens == []
            probe.ring.hurry(PacketHeader.decode(probe.packet(9)), probe.cluster.now)
        probe.cluster.fire(probe.me)
        assert probe.texts == ["first", "second", "third"]
        packets = [datagram for how, _to, datagram in probe.me.sent if how == "all"]
        return packets, probe.me.sent[-1][2]

    assert visit(patient=True) == visit(patient=False)


@pytest.mark.parametrize("how", ["loss", "form"])
def test_a_token_that_lingers_is_gone_with_its_ring(how: str):
    cluster, member = talking(1)
    if how == "loss":
        member.membership.token_loss()
    else:
        member.ring.on_form1()
        member.membership.state = MembershipState.FORM
    sent = len(member.sent)
    assert not member.timers.running(Timer.LINGER)
    member.submit("later")
    member.ring.timer(Timer.LINGER, cluster.now + 1.0)
    assert len(member.sent) == sent


def test_who_lacks_a_packet_is_served_first():
    cluster, member = talking(1)
    lost = cluster.members[2]
    cluster.drop = lambda _source, target, _packet: target is lost
    member.submit("lost")
    cluster.run(lambda: "lost" in member.upper.texts)
    cluster.drop = None
    cluster.run(lambda: "lost" in lost.upper.texts)
    cluster.settle()
    assert lost.upper.texts == member.upper.texts


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_order_holds_while_tokens_linger_on_a_bad_network(seed: int, accelerated: bool):
    cluster = formed(
        (1, 1, 1),
        seed=seed,
        loss=0.05,
        duplication=0.05,
        reordering=0.2,
        accelerated_ring=accelerated,
    )
    cluster.settle()
    for turn in range(4):
        speaker = cluster.members[(turn + seed) % 3]
        for number in range(60):
            text = f"{turn}.{number}"
            speaker.submit(text)
            cluster.run(lambda text=text, speaker=speaker: text in speaker.upper.texts)
    cluster.settle()
    cluster.run(lambda: all(len(one.upper.texts) == 240 for one in cluster.members))
    first = cluster.members[0].upper.texts
    assert all(one.upper.texts == first for one in cluster.members)
    assert sum(one.ring.counters.tokens_lingered for one in cluster.members) > 0
    assert all(one.ring.counters.invariant_breaches == 0 for one in cluster.members)
