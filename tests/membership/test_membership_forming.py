"""Rows of the membership tables on the way to a ring: GATHER, FORM, EVS."""

from __future__ import annotations

import pytest
from membership_alone import Bench
from membership_events import (
    EVS,
    FORM,
    GATHER,
    OP,
    OWN_SEGMENT,
    POTENTIAL,
    RING,
    RING_REP,
    SEG,
    SEG_REP,
    A,
    B,
    C,
    D,
    E,
    bench,
    data_port,
    form1,
    form2,
    rep,
    send_alive,
    send_join,
    send_refer,
    sent_types,
    token_port,
)
from membership_world import LAN, configuration_of

from txspread.engine.membership.tables import DropCause
from txspread.engine.ring_interfaces import OldRingState, Timer
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId
from txspread.wire.membership import Form1, Form2, Representative, RingBlock
from txspread.wire.token import NOBODY, Token

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
