"""Each hop of each recorded FORM token: our bytes are upstream's bytes.

For every FORM1 or FORM2 that a recorded daemon sent, a machine is put where that
daemon was, is given what that daemon had received, and must send the same, twice,
to the same address.
"""

from __future__ import annotations

import pytest
from attrs import evolve
from membership_alone import Bench
from membership_recordings import Recorded, configuration_in, datagrams_in

from txspread.engine.ring_interfaces import MembershipState, OldRingState, Timer
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.membership import Form1, Form2, RepresentativeType

SCENARIOS = {
    "broadcast_five_changes": 23,
    "evs_recovery_with_holes": 7,
    "foreign_message": 11,
    "form1_limit_24_daemons": 90,
    "member_loss_and_return": 8,
    "merge_of_two_rings": 11,
    "multicast_three": 5,
    "refer_segment_representative": 7,
    "routing_two_segments_startup": 9,
    "startup_broadcast_five": 9,
    "startup_three_segments": 5,
    "wide_network": 3,
}
"""Recordings with the number of hops in each that can be checked."""


def decode(entry: Recorded) -> Form1 | Form2:
    return Form1.decode(entry.data) if entry.kind == "form1" else Form2.decode(entry.data)


def attempts(name: str) -> dict[MembershipId, list[Recorded]]:
    """The form tokens of a recording by attempt, without second copies."""
    seen = set()
    found: dict[MembershipId, list[Recorded]] = {}
    for entry in datagrams_in(name):
        if entry.kind in ("form1", "form2") and entry.data not in seen:
            seen.add(entry.data)
            found.setdefault(decode(entry).attempt, []).append(entry)
    return found


def prepare(bench: Bench, sent: Form1 | Form2, received: Form1 | None) -> None:
    """Put the bench where the daemon was when it received, or made, a FORM1."""
    me = bench.me.id
    named = (*sent.members, *sent.pending)
    last = sent.rings[-1]
    mine = last if last.commit[last.num_trans - 1] == me else None
    ring_id = MembershipId(me, -1) if mine is None else mine.memb_id
    if received is not None and received.pending[:1] == (me,):
        bench.put(MembershipState.REPRESENTED, ring_id=ring_id)
    else:
        if received is None:
            assert isinstance(sent, Form1)
            kind, reps, brought = sent.reps[0].type, sent.reps, named
        elif isinstance(sent, Form2):
            # The last stop of all brought nobody else.
            kind, reps, brought = received.reps[received.rep_index].type, (), (me,)
        else:
            kind, reps = received.reps[received.rep_index].type, ()
            brought = (me, *(p for p in named if p not in received.members and p != me))
        bench.put(
            MembershipState.GATHER,
            members=brought,
            ring_id=ring_id,
            token_alive=kind is RepresentativeType.RING_REP,
        )
        bench.membership.gathering.heard = list(brought)
        bench.count(*(rep for rep in reps if rep.proc_id != me))
    if mine is not None:
        bench.ring.state = OldRingState(mine.aru, mine.highest_seq, mine.holes, frozenset())
        bench.ring.commit = (me, *mine.commit[mine.num_trans :])


def set_clock(bench: Bench, sent: Form2) -> None:
    """Give the bench the second in which the daemon read FORM2."""
    if len(sent.members) == 1:
        bench.wall = sent.future_memb_id.time - 1
        return
    for entry in sent.rings:
        if entry.memb_id == bench.membership.installed.id:
            bench.wall = entry.trans_time


def same(data: bytes, entry: Recorded, made: bool) -> bool:
    """Compare a token that was sent with a recorded one.

    Of one that was made, rather than passed on, what lies behind the counted entries
    is left from earlier attempts at upstream, and zero here.
    """
    theirs = decode(entry)
    if theirs.byteorder == "<" and not made:
        return data == entry.data
    ours = Form1.decode(data) if entry.kind == "form1" else Form2.decode(data)
    theirs = evolve(theirs, byteorder="<")
    if made:
        assert isinstance(theirs, Form1)
        assert isinstance(ours, Form1)
        return evolve(ours, unused_members=b"") == evolve(
            theirs, unused_members=b"", unused_reps=b""
        )
    return ours == theirs


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_recorded_form_hop_is_sent_byte_for_byte(name):
    configuration = configuration_in(name)
    hops = 0
    for attempt, entries in attempts(name).items():
        benches: dict[ProcId, Bench] = {}
        for number, entry in enumerate(entries):
            sender = configuration.by_id[entry.sender]
            received = [e for e in entries[:number] if e.to[0] == sender.address]
            sent = decode(entry)
            made = not received
            bench = benches.get(sender.id)
            if bench is None:
                if made:
                    assert sender.id == attempt.proc_id
                first = None if made else decode(received[0])
                assert not isinstance(first, Form2)
                bench = benches[sender.id] = Bench(configuration, sender)
                prepare(bench, sent, first)
                if made:
                    bench.wall = attempt.time
                    bench.membership.timer(Timer.GATHER, 0.0)
                else:
                    bench.membership.form1(received[0].data, 0.0)
            else:
                assert isinstance(sent, Form2)
                set_clock(bench, sent)
                bench.membership.form2(received[-1].data, 0.0)
            copies = bench.take_sent()
            assert [to for _, to in copies] == [entry.to, entry.to]
            assert copies[0] == copies[1]
            assert same(copies[0][0], entry, made)
            hops += 1
    assert hops == SCENARIOS[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_second_copies_of_recorded_form_tokens_change_nothing(name):
    """A machine that has handled a token drops its second copy."""
    configuration = configuration_in(name)
    for entries in attempts(name).values():
        form1 = next((e for e in entries if e.kind == "form1"), None)
        if form1 is None:
            continue
        me = configuration.by_id[decode(form1).pending[0]] if decode(form1).pending else None
        if me is None:
            continue
        bench = Bench(configuration, me)
        bench.put(MembershipState.REPRESENTED)
        bench.membership.form1(form1.data, 0.0)
        assert bench.membership.state is MembershipState.FORM
        bench.take_sent()
        before = dict(bench.timers.set)
        bench.membership.form1(form1.data, 0.0)
        assert bench.take_sent() == []
        assert bench.membership.state is MembershipState.FORM
        assert bench.timers.set == before
