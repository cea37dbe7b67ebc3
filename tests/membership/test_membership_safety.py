"""What peers send wrongly costs a counter and nothing else.

Cases of ``docs/protocol/membership.md`` section 12.3 and
``docs/protocol/daemon-datagrams.md`` section 14: upstream aborts, crashes or reads
beyond its buffers on most of them.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from membership_alone import Bench
from membership_world import configuration_of

from txspread.engine.membership import DropCause
from txspread.engine.ring_interfaces import MembershipState, OldRingState, Timer
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId
from txspread.wire.membership import (
    Form1,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
    encode_alive,
    encode_refer,
)
from txspread.wire.packet import NO_MEMBERSHIP, PacketHeader, encode_bare

OP, SEG, REPRESENTED, GATHER, FORM, EVS = MembershipState
CONFIGURATION = configuration_of((3, 2))
A, B, C, D, E = (daemon.id for daemon in CONFIGURATION.daemons)
HASH = CONFIGURATION.hash
UNKNOWN = 0x01020304
POTENTIAL, SEG_REP, RING_REP = RepresentativeType


def bench(state, me=A, members=(A, B, D)):
    made = Bench(CONFIGURATION, CONFIGURATION.by_id[me])
    made.put(state, members=members)
    return made


def join(to, data):
    to.membership.join(data, PacketHeader.decode(data), 0.0)


def dropped(to):
    return {cause for cause, count in to.membership.drops.items() if count}


def unchanged(to, state):
    return to.membership.state is state and not to.sent and not to.timers.set


@pytest.mark.parametrize("state", MembershipState)
def test_packets_of_an_unconfigured_daemon_are_dropped(state):
    made = bench(state)
    alive = encode_alive(UNKNOWN, HASH, [UNKNOWN])
    made.membership.alive(alive, PacketHeader.decode(alive), 0.0)
    join(made, Join((UNKNOWN,), (Representative(UNKNOWN, SEG_REP, 0),)).encode(UNKNOWN, HASH))
    refer = encode_refer(UNKNOWN, HASH, Representative(D, SEG_REP, 1))
    made.membership.refer(refer, PacketHeader.decode(refer), 0.0)
    assert made.membership.drops[DropCause.UNKNOWN_SENDER] == 3
    assert unchanged(made, state)


@pytest.mark.parametrize("state", MembershipState)
def test_packets_that_speak_for_this_daemon_itself_do_not_break_its_ring(state):
    made = bench(state)
    alive = encode_alive(A, HASH, [A])
    made.membership.alive(alive, PacketHeader.decode(alive), 0.0)
    join(made, Join((A,), (Representative(A, SEG_REP, 0),)).encode(A, HASH))
    assert made.membership.drops[DropCause.FROM_MYSELF] == 2
    assert unchanged(made, state)


@pytest.mark.parametrize(
    ("reps", "cause"),
    [
        ((), DropCause.MALFORMED),
        ((Representative(UNKNOWN, SEG_REP, 1),), DropCause.UNKNOWN_DAEMON),
        (
            (Representative(D, SEG_REP, 1), Representative(UNKNOWN, SEG_REP, 1)),
            DropCause.UNKNOWN_DAEMON,
        ),
        ((Representative(E, SEG_REP, 1),), DropCause.FOREIGN_REPRESENTATIVE),
        ((Representative(D, POTENTIAL, 1),), DropCause.REP_TYPE),
        ((Representative(D, SEG_REP, -1),), DropCause.WRONG_SEGMENT),
        ((Representative(D, SEG_REP, 32000),), DropCause.WRONG_SEGMENT),
    ],
)
def test_a_join_with_wrong_representatives_is_dropped(reps, cause):
    made = bench(GATHER)
    join(made, Join((D,), reps).encode(D, HASH))
    assert dropped(made) == {cause}
    assert unchanged(made, GATHER)
    assert len(made.membership.gathering.reps) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        struct.pack("<hh", -32000, 0),
        struct.pack("<hh", 32000, 0),
        struct.pack("<hhI", 1, 0, D),
        struct.pack("<hhIhh", 1, 0, D, -1, 0),
        struct.pack("<hhIhh", 1, 0, D, 25, 0),
        struct.pack("<hhIhhIhh", 1, 0, D, 1, 0, D, 7, 1),
        struct.pack("<hhIhhIhh", 1, 5, D, 1, 0, D, 1, 1),
    ],
)
def test_a_join_whose_counts_lie_is_dropped(body):
    made = bench(GATHER)
    join(made, encode_bare(datagram.JOIN, D, D, NO_MEMBERSHIP, HASH, body))
    assert dropped(made) == {DropCause.MALFORMED}
    assert unchanged(made, GATHER)


@pytest.mark.parametrize("kind", [-1, 3, 32000])
def test_a_refer_to_a_representative_of_no_known_type_is_dropped(kind):
    made = bench(GATHER)
    data = encode_bare(datagram.REFER, D, D, MembershipId(E, kind), HASH)
    made.membership.refer(data, PacketHeader.decode(data), 0.0)
    assert dropped(made) == {DropCause.REP_TYPE}
    assert made.membership.gathering.ask == []


def form1(**changes):
    values = {
        "transmiter_id": D,
        "proc_id": D,
        "attempt": MembershipId(D, 9),
        "seq": 3333,
        "conf_hash": HASH,
        "members": (D,),
        "pending": (),
        "reps": (Representative(D, SEG_REP, 1), Representative(A, SEG_REP, 0)),
        "rep_index": 1,
        "rings": (RingBlock(MembershipId(D, -1), 0, 0, 0, (), (D,), 1),),
    }
    values.update(changes)
    return Form1(**values)


def gathering_alone():
    made = Bench(CONFIGURATION, CONFIGURATION.by_id[A])
    made.put(GATHER, ring_id=MembershipId(A, 7))
    return made


MINE = MembershipId(A, 7)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"members": (D, UNKNOWN)}, DropCause.UNKNOWN_DAEMON),
        (
            {"reps": (Representative(UNKNOWN, SEG_REP, 1), Representative(A, SEG_REP, 0))},
            DropCause.UNKNOWN_DAEMON,
        ),
        (
            {"rings": (RingBlock(MembershipId(D, -1), 0, 0, 0, (), (UNKNOWN,), 1),)},
            DropCause.UNKNOWN_DAEMON,
        ),
        ({"members": (D, A)}, DropCause.DUPLICATE_MEMBER),
        (
            {"rings": (RingBlock(MINE, 0, 0, 0, (), (D, A), 2),)},
            DropCause.ALREADY_TRANSITIONAL,
        ),
        ({"members": (D,) * 128}, DropCause.TOO_MANY_MEMBERS),
    ],
)
def test_a_form1_that_cannot_be_right_is_dropped(changes, cause):
    made = gathering_alone()
    made.membership.form1(form1(**changes).encode(), 0.0)
    assert dropped(made) == {cause}
    assert unchanged(made, GATHER)


def test_a_form1_entry_with_more_holes_than_form2_may_have_is_taken():
    holes = tuple(range(1, 1701))
    rings = (RingBlock(MINE, 0, 0, 1700, holes, (D,), 1),)
    made = gathering_alone()
    made.ring.state = OldRingState(0, 1700, (4, 5), frozenset())
    made.membership.form1(form1(rings=rings).encode(), 0.0)
    # The last stop and first member at once: its FORM2 was read already.
    assert made.ring.results[-1][1].holes == (4, 5)


def test_a_form_token_that_would_be_too_large_is_not_sent_and_the_attempt_times_out():
    made = gathering_alone()
    made.ring.state = OldRingState(0, 9000, tuple(range(1, 9000)), frozenset())
    made.membership.gathering.heard = [A, B]
    made.membership.timer(Timer.GATHER, 0.0)
    assert not made.sent
    assert dropped(made) == {DropCause.TOKEN_TOO_LARGE}
    assert made.membership.state is FORM
    assert Timer.LOSS in made.timers.set
    made.membership.timer(Timer.LOSS, 0.0)
    assert made.membership.state is SEG


@pytest.mark.parametrize("state", MembershipState)
@given(data=st.binary(max_size=1000), kind=st.sampled_from(["form1", "form2"]), salt=st.binary())
@settings(max_examples=60, deadline=None)
def test_no_token_bytes_raise(state, data, kind, salt):
    made = bench(state)
    whole = bytearray(form1().encode())
    for place, value in enumerate(salt):
        whole[(place * 37 + value) % len(whole)] ^= value
    for token in (data, bytes(whole)):
        if kind == "form1":
            made.membership.form1(token, 0.0)
        else:
            made.membership.form2(token, 0.0)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["alive", "join", "refer", "form1", "foreign", "timer", "install"]),
            st.sampled_from([A, B, C, D, E]),
            st.sampled_from([SEG_REP, RING_REP]),
            st.sampled_from(list(Timer)),
        ),
        max_size=60,
    )
)
@settings(max_examples=200, deadline=None)
def test_no_order_of_well_formed_inputs_breaks_a_machine(steps):
    """Whatever happens, in whatever state, the machine stays in one of its six."""
    made = Bench(CONFIGURATION, CONFIGURATION.by_id[A])
    membership = made.membership
    membership.start(0.0)
    for what, sender, kind, timer in steps:
        segment = CONFIGURATION.by_id[sender].segment
        if what == "alive":
            data = encode_alive(sender, HASH, [sender])
            membership.alive(data, PacketHeader.decode(data), 0.0)
        elif what == "join":
            rep = Representative(sender, kind, segment)
            join(made, Join((sender,), (rep,)).encode(sender, HASH))
        elif what == "refer":
            data = encode_refer(sender, HASH, Representative(E, kind, 1))
            membership.refer(data, PacketHeader.decode(data), 0.0)
        elif what == "form1":
            reps = (Representative(D, SEG_REP, 1), Representative(A, kind, 0))
            membership.form1(form1(reps=reps, seq=membership.token_losses).encode(), 0.0)
        elif what == "foreign":
            membership.foreign(encode_alive(sender, HASH, [sender]), sender)
        elif what == "install":
            if membership.state is EVS:
                membership.install_future()
        elif timer in made.timers.set:
            made.timers.set.pop(timer)
            membership.timer(timer, 0.0)
        assert A in membership.members
        assert membership.token_alive or membership.members == (A,)
        assert (membership.future is not None) == (membership.state is EVS)
        if membership.state in (SEG, REPRESENTED, FORM):
            assert not membership.token_alive
        if membership.state is OP:
            assert membership.token_alive
        # Some timer always leads on, except in a working ring without a leader's duties.
        assert made.timers.set or membership.state is OP
