"""Rows of the membership tables where a ring works or a segment looks for its members."""

from __future__ import annotations

import pytest
from membership_alone import Bench
from membership_events import (
    EVS,
    FORM,
    GATHER,
    ONE,
    OP,
    OWN_SEGMENT,
    POTENTIAL,
    REPRESENTED,
    RING,
    RING_REP,
    SEG,
    SEG_REP,
    TWO,
    A,
    B,
    C,
    D,
    E,
    bench,
    data_port,
    foreign_packet,
    form1,
    form2,
    rep,
    send_alive,
    send_foreign,
    send_join,
    send_refer,
    sent_types,
    token_port,
)
from membership_world import LAN, configuration_of

from txspread.engine.membership.tables import DropCause
from txspread.engine.ring_interfaces import Timer
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId
from txspread.wire.membership import Form1, Join, Representative, RingBlock, encode_alive
from txspread.wire.packet import PacketHeader

# OP.


def test_op_alive_of_a_member_loses_the_token_and_counts_the_sender():
    made = bench(OP, B, (A, B, D))
    send_alive(made, A)
    assert made.membership.state is SEG
    assert made.membership.gathering.heard == [B, A]
    assert made.ring.calls == ["token_loss"]
    assert made.timers.set == {Timer.ALIVE: 0.0, Timer.SEG: LAN.seg}


def test_op_alive_of_a_stranger_is_ignored():
    made = bench(OP, B, (A, B))
    send_alive(made, C)
    assert made.membership.state is OP
    assert not made.sent


def test_op_join_of_a_member_loses_the_token_where_the_file_has_several_segments():
    made = bench(OP, B, (A, B, D))
    send_join(made, D)
    assert made.membership.state is SEG
    assert made.membership.gathering.heard == [B]


def test_op_join_of_a_member_is_a_probe_where_the_file_has_one_segment():
    made = bench(OP, B, (A, B), configuration=ONE)
    send_join(made, A, RING_REP)
    assert made.membership.state is OP
    assert not made.sent


def test_op_join_of_a_stranger_makes_the_leader_gather_with_its_ring_alive():
    made = bench(OP, A, (A, B))
    send_join(made, D)
    membership = made.membership
    assert membership.state is GATHER
    assert membership.token_alive
    assert membership.gathering.reps == [rep(A, RING_REP)]
    assert membership.gathering.ask == [rep(D)]
    assert membership.gathering.heard == []
    assert made.timers.set == {Timer.JOIN: 0.0, Timer.GATHER: LAN.gather}
    made.membership.timer(Timer.JOIN, 0.0)
    ((data, to),) = made.take_sent()
    join = Join.decode(data, PacketHeader.decode(data))
    assert to == data_port(D)
    assert join == Join((), (rep(A, RING_REP),), 0)


@pytest.mark.parametrize(("me", "sender"), [(B, D), (B, E), (D, C), (D, E)])
def test_op_join_of_a_stranger_is_referred_to_the_leader(me, sender):
    """By any member to a daemon of another segment, by the segment's first to its own."""
    members = (A, B, D) if sender != D else (A, B, E)
    made = bench(OP, me, members)
    send_join(made, sender)
    assert made.membership.state is OP
    ((data, to),) = made.take_sent()
    header = PacketHeader.decode(data)
    assert header.type & datagram.REFER
    assert header.memb_id == MembershipId(A, RING_REP)
    assert to == data_port(sender)


def test_op_join_of_a_stranger_of_my_segment_is_left_to_its_first_member():
    made = bench(OP, B, (A, B, D))
    send_join(made, C)
    assert made.membership.state is OP
    assert not made.sent


def test_op_refer_is_ignored():
    made = bench(OP, A, (A, B))
    send_refer(made, D, E, RING_REP)
    assert made.membership.state is OP
    assert not made.sent


def test_op_foreign_packet_makes_the_leader_look_for_the_missing():
    made = bench(OP, A, (A, B))
    send_foreign(made, D)
    assert made.membership.state is GATHER
    assert sent_types(made) == [(datagram.JOIN, data_port(p)) for p in (C, D, E)]


def test_op_foreign_packet_does_nothing_at_the_leader_of_a_complete_ring():
    made = bench(OP, A, (A, B, C, D, E))
    send_foreign(made, D)
    assert made.membership.state is OP
    assert not made.sent


def test_op_foreign_packet_is_forwarded_once_per_ring_by_a_segment_leader():
    made = bench(OP, D, (A, B, D))
    send_foreign(made, E)
    send_foreign(made, E)
    sent = made.take_sent()
    assert [to for _, to in sent] == [data_port(A)] * 2
    header = PacketHeader.decode(sent[0][0])
    assert (header.transmiter_id, header.proc_id) == (D, E)
    assert header.memb_id == MembershipId(E, 5)
    assert made.membership.state is OP


def test_op_foreign_packet_is_ignored_by_other_members():
    made = bench(OP, B, (A, B))
    send_foreign(made, D)
    assert not made.sent


def test_op_foreign_packet_of_an_unknown_daemon_is_counted():
    made = bench(OP, A, (A, B))
    made.membership.foreign(foreign_packet(D), 0x01020304)
    assert made.membership.state is OP
    assert made.membership.drops[DropCause.UNKNOWN_SENDER] == 1


def test_op_form1_is_swallowed_by_the_leader():
    made = bench(OP, A, (A, B))
    made.membership.form1(form1([D], [A]).encode(), 0.0)
    assert made.membership.state is OP
    assert made.membership.drops[DropCause.SWALLOWED] == 1


def test_op_form1_is_filled_by_a_member_whose_turn_it_is():
    made = bench(OP, B, (A, B), ring_id=RING)
    made.membership.form1(form1([D, A], [B, C]).encode(), 0.0)
    assert made.membership.state is FORM
    assert not made.membership.token_alive
    assert made.ring.calls == ["form1"]
    assert made.timers.set == {Timer.LOSS: LAN.form}
    (first, to), second = made.take_sent()
    assert (first, to) == second
    assert to == token_port(C)
    token = Form1.decode(first)
    assert (token.members, token.pending) == ((D, A, B), (C,))
    assert (token.transmiter_id, token.proc_id) == (B, B)
    assert token.rings[-1] == RingBlock(RING, 0, 0, 0, (), (B,), 1)


@pytest.mark.parametrize("state", [OP, REPRESENTED])
def test_form1_for_somebody_else_is_dropped(state):
    made = bench(state, B, (A, B))
    made.membership.form1(form1([D], [A, B]).encode(), 0.0)
    made.membership.form1(form1([D], [], [rep(D), rep(B)]).encode(), 0.0)
    assert made.membership.state is state
    assert made.membership.drops[DropCause.NOT_MY_TURN] == 2
    assert not made.sent


@pytest.mark.parametrize("state", [OP, SEG, REPRESENTED, GATHER, EVS])
def test_form2_is_swallowed_outside_form(state):
    made = bench(state, B)
    entry = RingBlock(made.membership.installed.id, 0, 0, 0, (), (B,), 1)
    made.membership.form2(form2([A], [B], [entry]).encode(), 0.0)
    assert made.membership.state is state
    assert made.membership.drops[DropCause.SWALLOWED] == 1
    assert not made.sent


def test_op_loss_asks_the_last_known_first_member_of_each_other_segment():
    made = bench(OP, A, (A, E))
    made.membership.timer(Timer.LOSS, 0.0)
    membership = made.membership
    assert membership.state is SEG
    assert not membership.token_alive
    assert membership.members == (A,)
    assert membership.gathering.ask == [Representative(E, POTENTIAL, 1)]
    made = bench(OP, A, (A, B))
    made.membership.timer(Timer.LOSS, 0.0)
    assert made.membership.gathering.ask == [Representative(D, POTENTIAL, 1)]


def test_op_lookup_asks_every_configured_daemon_that_is_missing():
    made = bench(OP, A, (A, D))
    made.membership.timer(Timer.LOOKUP, 0.0)
    assert made.membership.state is GATHER
    sent = made.take_sent()
    assert [to for _, to in sent] == [data_port(p) for p in (B, C, E)]
    join = Join.decode(sent[0][0], PacketHeader.decode(sent[0][0]))
    assert join.members == ()
    assert join.reps == (rep(A, RING_REP),)
    # Nobody has answered yet, so the JOINs of this gather go nowhere.
    made.membership.timer(Timer.JOIN, 0.0)
    assert not made.sent


# SEG.


def test_seg_sends_alive_to_its_segment_with_those_heard():
    made = bench(SEG, B)
    send_alive(made, A)
    made.membership.timer(Timer.ALIVE, 0.0)
    ((data, to),) = made.take_sent()
    assert to == OWN_SEGMENT
    assert data == encode_alive(B, TWO.hash, [B, A])
    assert made.timers.set == {Timer.ALIVE: LAN.alive}


def test_seg_of_a_lone_daemon_of_its_segment_sends_nothing():
    lone = configuration_of((1, 2))
    made = Bench(lone, lone.daemons[0])
    made.put(SEG)
    made.membership.timer(Timer.ALIVE, 0.0)
    assert not made.sent
    assert made.timers.set == {Timer.ALIVE: LAN.alive}


def test_seg_join_of_a_representative_of_my_segment_makes_me_represented():
    made = bench(SEG, A)
    made.timers.set = {Timer.ALIVE: 0.1, Timer.SEG: 0.1}
    send_join(made, C)
    assert made.membership.state is REPRESENTED
    assert made.membership.seg_rep == C
    assert sent_types(made) == [(datagram.ALIVE, OWN_SEGMENT)]
    assert made.timers.set == {Timer.REP: LAN.rep}


@pytest.mark.parametrize(("sender", "kind"), [(C, RING_REP), (D, SEG_REP), (D, RING_REP)])
def test_seg_other_joins_are_ignored(sender, kind):
    made = bench(SEG, A)
    send_join(made, sender, kind)
    assert made.membership.state is SEG
    assert not made.sent


def test_seg_ends_in_gather_at_the_first_of_those_heard():
    made = bench(SEG, A)
    send_alive(made, B)
    made.membership.timer(Timer.SEG, 0.0)
    assert made.membership.state is GATHER
    assert not made.membership.token_alive
    assert made.membership.gathering.reps == [rep(A)]
    assert made.membership.gathering.heard == [A, B]


def test_seg_ends_in_represented_at_the_others():
    made = bench(SEG, B)
    send_alive(made, A)
    made.membership.timer(Timer.SEG, 0.0)
    assert made.membership.state is REPRESENTED
    assert made.membership.seg_rep is None
    assert made.timers.set == {Timer.REP: LAN.rep}


@pytest.mark.parametrize("state", [SEG, FORM, EVS])
def test_form1_is_swallowed_where_no_token_is_due(state):
    made = bench(state, B)
    made.membership.form1(form1([D], [B]).encode(), 0.0)
    assert made.membership.state is state
    assert made.membership.drops[DropCause.SWALLOWED] == 1


@pytest.mark.parametrize("state", [SEG, REPRESENTED, GATHER, FORM, EVS])
def test_foreign_packets_are_ignored_outside_op(state):
    made = bench(state, A)
    send_foreign(made, D)
    assert made.membership.state is state
    assert not made.sent


@pytest.mark.parametrize("state", [SEG, REPRESENTED, FORM, EVS])
def test_refer_is_ignored_outside_gather(state):
    made = bench(state, A)
    send_refer(made, D, E, SEG_REP)
    assert made.membership.state is state
    assert made.membership.gathering.ask == []


# REPRESENTED.


def test_represented_goes_on_waiting_while_anybody_is_alive():
    made = bench(REPRESENTED, C)
    send_alive(made, B)
    assert made.timers.set == {Timer.REP: LAN.rep}
    assert made.membership.state is REPRESENTED


def test_represented_answers_its_representative_with_one_alive():
    made = bench(REPRESENTED, C)
    send_join(made, A)
    assert made.membership.seg_rep == A
    assert sent_types(made) == [(datagram.ALIVE, OWN_SEGMENT)]
    assert made.timers.set == {Timer.REP: LAN.rep}


def test_represented_refers_others_to_its_representative():
    made = bench(REPRESENTED, C)
    send_join(made, D)
    assert not made.sent
    send_join(made, A)
    made.take_sent()
    send_join(made, D, RING_REP)
    ((data, to),) = made.take_sent()
    assert PacketHeader.decode(data).memb_id == MembershipId(A, SEG_REP)
    assert to == data_port(D)


def test_represented_starts_again_when_the_representative_is_silent():
    made = bench(REPRESENTED, C)
    made.membership.timer(Timer.REP, 0.0)
    assert made.membership.state is SEG
    assert made.timers.set == {Timer.ALIVE: 0.0, Timer.SEG: LAN.seg}


def test_represented_form1_is_filled_when_it_is_my_turn():
    made = bench(REPRESENTED, C)
    made.timers.set = {Timer.REP: 0.3}
    made.membership.form1(form1([D, A], [C]).encode(), 0.0)
    assert made.membership.state is FORM
    assert made.timers.set == {Timer.LOSS: LAN.form}
