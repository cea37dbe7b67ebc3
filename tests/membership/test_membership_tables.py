"""Every row of the membership tables, tried on a machine that is put into the state."""

from __future__ import annotations

from pathlib import Path

import pytest
from membership_alone import Bench
from membership_table_text import tables_text
from membership_world import LAN, configuration_of

from txspread.engine.membership.conditions import CONDITIONS
from txspread.engine.membership.machine import ACTIONS
from txspread.engine.membership.tables import (
    EVENT_OF_TIMER,
    TABLE,
    Action,
    Condition,
    DropCause,
    Event,
)
from txspread.engine.ring_interfaces import MembershipState, OldRingState, Timer
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
    encode_alive,
    encode_refer,
)
from txspread.wire.packet import PacketHeader, encode_packet
from txspread.wire.token import NOBODY, Token

OP, SEG, REPRESENTED, GATHER, FORM, EVS = MembershipState
POTENTIAL, SEG_REP, RING_REP = RepresentativeType
TWO = configuration_of((3, 2))
A, B, C, D, E = (daemon.id for daemon in TWO.daemons)
ONE = configuration_of((4,))
RING = MembershipId(A, 1_650_000_000)
ATTEMPT = MembershipId(D, 1_700_000_123)
BLOCKING_EVENTS = (
    Event.ALIVE,
    Event.JOIN,
    Event.REFER,
    Event.FOREIGN,
    Event.FORM1,
    Event.FORM2,
)


def bench(state, me=A, members=(), configuration=TWO, **more):
    made = Bench(configuration, configuration.by_id[me])
    made.put(state, members=members, ring_id=more.pop("ring_id", None), **more)
    return made


def rep(proc_id, kind=SEG_REP, configuration=TWO):
    return Representative(proc_id, kind, configuration.by_id[proc_id].segment)


def send_alive(to, sender):
    data = encode_alive(sender, to.configuration.hash, [sender])
    to.membership.alive(data, PacketHeader.decode(data), 0.0)


def send_join(to, sender, kind=SEG_REP, others=(), members=None):
    reps = (rep(sender, kind, to.configuration), *others)
    members = (sender,) if members is None else members
    data = Join(members, reps).encode(sender, to.configuration.hash)
    to.membership.join(data, PacketHeader.decode(data), 0.0)


def send_refer(to, sender, who, kind):
    data = encode_refer(sender, to.configuration.hash, Representative(who, kind, 0))
    to.membership.refer(data, PacketHeader.decode(data), 0.0)


def foreign_packet(sender, conf_hash=TWO.hash):
    return encode_packet(
        datagram.AGREED, sender, sender, MembershipId(E, 5), 7, 0, conf_hash, [(-1, bytes(48))]
    )


def send_foreign(to, sender):
    to.membership.foreign(foreign_packet(sender), sender)


def form1(members, pending=(), reps=(), rings=None, attempt=ATTEMPT):
    if rings is None:
        rings = (RingBlock(MembershipId(D, -1), 0, 0, 0, (), (D,), 1),)
    return Form1(
        transmiter_id=D,
        proc_id=D,
        attempt=attempt,
        seq=3333,
        conf_hash=TWO.hash,
        members=tuple(members),
        pending=tuple(pending),
        reps=tuple(reps),
        rep_index=min(1, len(reps)),
        rings=rings,
    )


def form2(members, pending, rings, attempt=ATTEMPT, future=None):
    return Form2(
        transmiter_id=D,
        proc_id=D,
        attempt=attempt,
        seq=3433,
        conf_hash=TWO.hash,
        members=tuple(members),
        pending=tuple(pending),
        future_memb_id=future or MembershipId(0, 0),
        rings=tuple(rings),
    )


def sent_types(made):
    return [(data[1] << 8 | data[0] & 0x7F, to) for data, to in made.take_sent()]


def data_port(proc_id):
    daemon = TWO.by_id[proc_id]
    return daemon.address, daemon.port


def token_port(proc_id):
    daemon = TWO.by_id[proc_id]
    return daemon.address, daemon.port + 1


OWN_SEGMENT = (TWO.segments[0].address, TWO.segments[0].port)


# The tables themselves.


def test_every_state_has_rows_for_every_packet_and_token():
    for state, events in TABLE.items():
        assert set(BLOCKING_EVENTS) <= set(events), state


def test_the_last_row_of_each_event_always_applies():
    for events in TABLE.values():
        for rows in events.values():
            assert rows[-1].condition is Condition.ALWAYS


def test_every_condition_and_action_is_implemented_and_used():
    rows = [row for events in TABLE.values() for rows in events.values() for row in rows]
    assert {row.condition for row in rows} == set(CONDITIONS) == set(Condition)
    assert {action for row in rows for action in row.actions} == set(ACTIONS) == set(Action)


@pytest.mark.parametrize("state", MembershipState)
@pytest.mark.parametrize(
    "timer", [Timer.ALIVE, Timer.SEG, Timer.REP, Timer.JOIN, Timer.GATHER, Timer.LOOKUP, Timer.LOSS]
)
def test_a_timer_that_a_state_does_not_use_is_counted_and_ignored(state, timer):
    made = bench(state)
    made.membership.timer(timer, 0.0)
    if made.membership.drops[DropCause.UNEXPECTED_TIMER]:
        assert made.membership.state is state
        assert not made.timers.set
        assert not made.sent
    else:
        (event,) = [e for t, e in EVENT_OF_TIMER.items() if t is timer]
        assert event in TABLE[state]


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


# GATHER.


def test_gather_alive_is_counted_without_a_token():
    made = bench(GATHER, A)
    send_alive(made, B)
    assert made.membership.gathering.heard == [A, B]


def test_gather_alive_of_a_member_breaks_a_working_ring():
    made = bench(GATHER, A, (A, B), token_alive=True)
    send_alive(made, B)
    assert made.membership.state is SEG
    assert made.membership.gathering.heard == [A, B]


def test_gather_alive_of_a_stranger_is_ignored_by_a_working_ring():
    made = bench(GATHER, A, (A, B), token_alive=True)
    send_alive(made, C)
    assert made.membership.state is GATHER
    assert C not in made.membership.gathering.heard


def test_gather_join_is_counted_and_those_it_names_are_asked():
    made = bench(GATHER, A)
    send_join(made, D, SEG_REP, [rep(B, RING_REP)])
    gathering = made.membership.gathering
    assert gathering.reps == [rep(A), rep(D)]
    assert gathering.ask == [rep(D), rep(B, RING_REP)]
    # I am the smallest: my time to gather is not prolonged.
    assert Timer.GATHER not in made.timers.set


def test_gather_join_of_the_smallest_prolongs_the_gathering():
    made = bench(GATHER, D)
    send_join(made, A)
    assert made.timers.set == {Timer.GATHER: LAN.gather}


def test_gather_refer_adds_a_daemon_to_ask():
    made = bench(GATHER, A)
    send_refer(made, D, E, SEG_REP)
    assert made.membership.gathering.ask == [rep(E)]


def test_gather_refer_to_an_unknown_daemon_is_counted():
    made = bench(GATHER, A)
    send_refer(made, D, 0x01020304, SEG_REP)
    assert made.membership.gathering.ask == []
    assert made.membership.drops[DropCause.UNKNOWN_REFERRED] == 1


def test_gather_without_a_token_sends_join_to_its_segment_and_to_those_asked():
    made = bench(GATHER, A)
    send_refer(made, D, E, SEG_REP)
    made.membership.timer(Timer.JOIN, 0.0)
    assert sent_types(made) == [
        (datagram.JOIN, OWN_SEGMENT),
        (datagram.JOIN, data_port(E)),
    ]
    assert made.timers.set == {Timer.JOIN: LAN.join}


def test_gather_does_not_ask_itself():
    made = bench(GATHER, A)
    send_join(made, D, SEG_REP, [rep(A)])
    made.membership.timer(Timer.JOIN, 0.0)
    assert [to for _, to in made.take_sent()] == [OWN_SEGMENT, data_port(D)]


@pytest.mark.parametrize(
    ("alive", "listed", "taken"),
    [
        (False, SEG_REP, True),
        (True, RING_REP, True),
        (False, RING_REP, False),
        (True, SEG_REP, False),
    ],
)
def test_gather_form1_is_taken_when_the_type_listed_is_mine(alive, listed, taken):
    made = bench(GATHER, A, (A, B), token_alive=alive)
    made.membership.form1(form1([D], [], [rep(D), rep(A, listed), rep(E)]).encode(), 0.0)
    assert (made.membership.state is FORM) is taken
    assert bool(made.sent) is taken


def test_gather_form1_is_dropped_while_members_are_pending():
    made = bench(GATHER, A)
    made.membership.form1(form1([D], [A], [rep(D), rep(A)]).encode(), 0.0)
    assert made.membership.state is GATHER
    assert made.membership.drops[DropCause.NOT_MY_TURN] == 1


def test_gather_form1_gets_the_daemons_that_a_segment_representative_heard():
    made = bench(GATHER, A)
    made.membership.gathering.heard = [A, C, B]
    made.membership.form1(form1([D], [], [rep(D), rep(A), rep(B)]).encode(), 0.0)
    token = Form1.decode(made.take_sent()[0][0])
    # B is a representative of its own.
    assert (token.members, token.pending, token.rep_index) == ((D, A), (C,), 2)


def test_gather_form1_gets_the_members_of_a_working_ring():
    made = bench(GATHER, A, (A, B, C), ring_id=RING, token_alive=True)
    made.membership.form1(form1([D], [], [rep(D), rep(A, RING_REP)]).encode(), 0.0)
    token = Form1.decode(made.take_sent()[0][0])
    assert (token.members, token.pending) == ((D, A), (B, C))


def test_gather_form1_leaves_out_a_member_that_restarted_and_speaks_for_itself():
    """Upstream names it twice, and that formation fails by timeout."""
    made = bench(GATHER, A, (A, B, C), ring_id=RING, token_alive=True)
    send_join(made, B)
    made.membership.form1(form1([D], [], [rep(D), rep(A, RING_REP)]).encode(), 0.0)
    token = Form1.decode(made.take_sent()[0][0])
    assert (token.members, token.pending) == ((D, A), (C,))


def test_gather_ends_in_op_when_a_leader_gets_no_answer():
    made = bench(GATHER, A, (A, B), token_alive=True)
    made.timers.set = {Timer.JOIN: 0.1}
    made.membership.timer(Timer.GATHER, 0.0)
    assert made.membership.state is OP
    assert made.timers.set == {Timer.LOOKUP: LAN.lookup}


def test_gather_ends_in_op_when_a_leader_is_not_the_smallest():
    made = bench(GATHER, A, (A, B), token_alive=True)
    send_join(made, D)
    made.membership.timer(Timer.GATHER, 0.0)
    assert made.membership.state is OP
    assert made.membership.token_alive


def test_gather_begins_again_when_a_smaller_representative_does_nothing():
    made = bench(GATHER, D)
    made.membership.gathering.heard = [D, E]
    send_join(made, A)
    made.membership.timer(Timer.GATHER, 0.0)
    gathering = made.membership.gathering
    assert made.membership.state is GATHER
    assert gathering.heard == [D]
    assert gathering.reps == [rep(D)]
    assert gathering.ask == [rep(A)]
    assert made.timers.set == {Timer.JOIN: 0.0, Timer.GATHER: LAN.gather}


def test_gather_ends_in_form_at_the_smallest_representative():
    made = bench(GATHER, A, ring_id=RING)
    made.ring.state = OldRingState(4, 9, (6, 7), frozenset((8, 9)))
    made.ring.commit = (A, C)
    made.membership.gathering.heard = [A, B]
    send_join(made, D)
    made.membership.timer(Timer.GATHER, 0.0)
    assert made.membership.state is FORM
    assert made.ring.calls == ["form1"]
    assert made.timers.set == {Timer.LOSS: LAN.form}
    (data, to), copy = made.take_sent()
    assert (data, to) == copy
    assert to == token_port(B)
    token = Form1.decode(data)
    assert token.attempt == MembershipId(A, made.wall)
    assert token.seq == 9 + 3333
    assert (token.members, token.pending) == ((A,), (B,))
    assert (token.reps, token.rep_index) == ((rep(A), rep(D)), 1)
    assert token.rings == (RingBlock(RING, 0, 4, 9, (6, 7), (A, C), 1),)
    # What a failed attempt will contact.
    assert made.membership.gathering.ask == [Representative(D, POTENTIAL, 1)]


def test_gather_loss_keeps_asking_those_that_were_heard():
    three = configuration_of((1, 1, 1))
    a, b, c = (daemon.id for daemon in three.daemons)
    made = Bench(three, three.by_id[a])
    made.put(GATHER, members=(a, c), token_alive=True)
    send_join(made, b)
    made.membership.timer(Timer.LOSS, 0.0)
    assert made.membership.state is SEG
    assert made.membership.gathering.ask == [
        rep(b, SEG_REP, three),
        Representative(c, POTENTIAL, 2),
    ]


# FORM.


def in_form(me=B, members=(A, B), ring_id=RING):
    made = bench(OP, me, members, ring_id=ring_id)
    made.membership.form1(form1([D, A], [me, C]).encode(), 0.0)
    assert made.membership.state is FORM
    made.take_sent()
    made.ring.calls.clear()
    return made


def my_entry(me=B, trans_time=0):
    return RingBlock(RING, trans_time, 5, 9, (7,), (A, me), 2)


def test_form_ignores_packets():
    made = in_form()
    send_alive(made, A)
    send_join(made, D)
    assert made.membership.state is FORM
    assert not made.sent


def test_form_loss_asks_the_segments_of_the_attempt():
    made = in_form()
    ask = list(made.membership.gathering.ask)
    made.membership.timer(Timer.LOSS, 0.0)
    assert made.membership.state is SEG
    assert made.membership.gathering.ask == ask


def test_form_form2_is_taken_over_and_passed_on_to_the_successor():
    made = in_form()
    ring_id = MembershipId(A, 1_700_000_200)
    entry = my_entry(trans_time=1_700_000_199)
    made.membership.form2(form2([A], [B, C, D], [entry], future=ring_id).encode(), 0.0)
    membership = made.membership
    assert membership.state is EVS
    assert membership.token_alive
    assert membership.active.id == ring_id
    assert membership.active.members == (A, B, C, D)
    assert (membership.active.predecessor, membership.active.successor) == (A, C)
    assert membership.installed.id == RING
    assert made.timers.set == {Timer.LOSS: LAN.token}
    ((last_seq, result, last_member),) = made.ring.results
    assert (last_seq, last_member) == (3433, False)
    assert (result.aru, result.highest_seq, result.holes) == (5, 9, (7,))
    assert (result.commit, result.num_trans) == ((A, B), 2)
    (data, to), copy = made.take_sent()
    assert (data, to) == copy
    assert to == token_port(C)
    token = Form2.decode(data)
    assert (token.members, token.pending) == ((A, B), (C, D))
    assert token.future_memb_id == ring_id
    assert token.rings == (entry,)


def test_form_form2_at_its_first_member_gets_the_id_of_the_ring():
    made = bench(GATHER, A, ring_id=RING)
    made.membership.form1(form1([D], [], [rep(D), rep(A), rep(B)]).encode(), 0.0)
    made.take_sent()
    entry = RingBlock(RING, 0, 0, 0, (), (A,), 1)
    made.membership.form2(form2([], [A, D], [entry]).encode(), 0.0)
    token = Form2.decode(made.take_sent()[0][0])
    assert token.future_memb_id == MembershipId(A, made.wall + 1)
    assert token.rings[0].trans_time == made.wall
    assert made.membership.transitional_id([A]) == MembershipId(A, made.wall)


def test_form_form2_at_its_last_member_makes_the_first_regular_token():
    made = in_form()
    ring_id = MembershipId(A, 1_700_000_200)
    made.membership.form2(form2([A], [B], [my_entry()], future=ring_id).encode(), 0.0)
    (data, to), copy = made.take_sent()
    assert (data, to) == copy
    assert to == token_port(A)
    token = Token.decode(data)
    assert token.memb_id == ring_id
    assert (token.arq, token.retrans, token.seq) == (0, 0, 0)
    assert (token.aru, token.aru_last_id) == (2147483647, NOBODY)
    assert (token.transmiter_id, token.proc_id) == (B, B)
    assert token.requests == ()
    assert made.ring.results[-1][2] is True


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        (form2([A], [B], [my_entry()], MembershipId(D, 1)), DropCause.OTHER_ATTEMPT),
        (form2([A], [C, B], [my_entry()]), DropCause.FORM2_NOT_FOR_ME),
        (form2([A], [B, A], [my_entry()]), DropCause.DUPLICATE_MEMBER),
        (form2([A], [B, 0x01020304], [my_entry()]), DropCause.UNKNOWN_DAEMON),
        (
            form2([A], [B], [RingBlock(MembershipId(A, 7), 0, 0, 0, (), (A, B), 2)]),
            DropCause.OLD_RING_MISSING,
        ),
        (
            form2([A], [B], [RingBlock(RING, 0, 0, 0, (), (A, B), 1)]),
            DropCause.OLD_RING_MISSING,
        ),
    ],
)
def test_form_form2_that_is_not_acceptable_is_dropped(token, cause):
    made = in_form()
    made.membership.form2(token.encode(), 0.0)
    assert made.membership.state is FORM
    assert made.membership.drops[cause] == 1
    assert not made.ring.results
    assert not made.sent


# EVS.


@pytest.mark.parametrize("send", [send_alive, send_join])
def test_evs_packet_of_a_future_member_loses_the_token(send):
    made = bench(EVS, A, (A, B, D))
    send(made, B)
    assert made.membership.state is SEG
    assert made.ring.calls == ["token_loss"]
    assert made.membership.gathering.heard == [A, B]
    assert made.membership.future is None


def test_evs_join_from_another_segment_is_not_counted_as_heard_in_mine():
    """Upstream counts it, and may then be represented by a daemon that cannot."""
    made = bench(EVS, A, (A, B, D))
    send_join(made, D)
    assert made.membership.state is SEG
    assert made.membership.gathering.heard == [A]


@pytest.mark.parametrize("send", [send_alive, send_join])
def test_evs_packet_of_another_daemon_is_ignored(send):
    made = bench(EVS, A, (A, B))
    send(made, E)
    assert made.membership.state is EVS


def test_evs_loss_asks_the_ring_that_was_being_installed():
    made = bench(EVS, A, (A, E))
    made.membership.timer(Timer.LOSS, 0.0)
    assert made.membership.state is SEG
    assert made.membership.gathering.ask == [Representative(E, POTENTIAL, 1)]


def test_evs_ends_with_the_installation():
    made = bench(EVS, A, (A, B, D), ring_id=RING)
    made.membership.foreign_found = True
    view = made.membership.install_future()
    membership = made.membership
    assert membership.state is OP
    assert view is membership.installed is membership.active
    assert membership.members == (A, B, D)
    assert membership.membership_changes == 1
    assert membership.segments == 2
    assert not membership.foreign_found
    assert made.timers.set == {Timer.LOOKUP: LAN.lookup}


def test_only_a_leader_probes_after_the_installation():
    made = bench(EVS, B, (A, B))
    made.membership.install_future()
    assert not made.timers.set


# The documentation.


def test_the_documented_tables_are_the_tables():
    document = Path(__file__).parents[2] / "docs" / "protocol" / "membership.md"
    assert tables_text() in document.read_text()
