"""Recorded conversations before a formation: given the same inputs, the same answers.

Each recorded daemon is played by a machine of ours: it gets what the daemon got, in
the order of capture; where the daemon sent something of its own accord, the timer that
its state has for that is made to fire.  What it sends must be what was recorded, byte
for byte and in order.
"""

from __future__ import annotations

import pytest
from membership_alone import Bench
from membership_recordings import Recorded, configuration_in, datagrams_in

from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId, ProcId

PACKETS = ("alive", "join", "refer")


def fire(bench: Bench, timer: Timer) -> None:
    bench.timers.set.pop(timer)
    bench.membership.timer(timer, 0.0)


def act(bench: Bench, kind: str) -> None:
    """Let the timer fire that makes a daemon in this state send such a packet."""
    state = bench.membership.state
    if kind == "alive":
        if state is not MembershipState.SEG:
            bench.membership.timer(Timer.LOSS, 0.0)
        fire(bench, Timer.ALIVE)
        return
    assert kind == "join"
    if state is MembershipState.OP:
        bench.membership.timer(Timer.LOOKUP, 0.0)
        return
    if state is MembershipState.SEG:
        fire(bench, Timer.SEG)
    fire(bench, Timer.JOIN)


def feed(bench: Bench, entry: Recorded) -> None:
    header = bench.routing.receive_packet(entry.data)
    if header is None:
        return
    if header.type & datagram.ALIVE:
        bench.membership.alive(entry.data, header, 0.0)
    elif header.type & datagram.JOIN:
        bench.membership.join(entry.data, header, 0.0)
    elif header.type & datagram.REFER:
        bench.membership.refer(entry.data, header, 0.0)
    elif header.type & datagram.REGULAR and header.memb_id != bench.membership.installed.id:
        bench.membership.foreign(entry.data, header.proc_id)


def reaches(bench: Bench, entry: Recorded) -> bool:
    segment = bench.configuration.segments[bench.me.segment]
    return entry.to in (
        (bench.me.address, bench.me.port),
        (segment.address, segment.port),
    )


def play(bench: Bench, entries: list[Recorded]) -> int:
    """Play one daemon; returns how many datagrams it sent as recorded."""
    waiting: list[tuple[bytes, tuple[str, int]]] = []
    sent = 0
    for entry in entries:
        if entry.sender != bench.me.id:
            if reaches(bench, entry):
                feed(bench, entry)
                waiting.extend(bench.take_sent())
            continue
        if entry.kind == "join" and entry.to[0] == bench.me.address:
            continue  # upstream also sends to itself, and drops it
        if entry.kind == "data" and entry.fields["header"]["proc_id"] == bench.me.id:
            continue
        if not waiting:
            act(bench, entry.kind)
            waiting.extend(bench.take_sent())
        assert waiting, (entry.time, entry.kind)
        assert waiting.pop(0) == (entry.data, entry.to), (entry.time, entry.kind)
        sent += 1
    assert not waiting
    return sent


def before_form1(name: str, *kinds: str) -> list[Recorded]:
    """The packets of a recording up to its first FORM1."""
    chosen = []
    for entry in datagrams_in(name):
        if entry.kind == "form1":
            break
        if entry.kind in kinds:
            chosen.append(entry)
    return chosen


def since_start(bench: Bench, entries: list[Recorded]) -> list[Recorded]:
    """What a daemon could hear: its first ALIVE, if it sends any, goes out as it starts."""
    for number, entry in enumerate(entries):
        if entry.sender == bench.me.id and entry.kind == "alive":
            return entries[number:]
    return entries


@pytest.mark.parametrize(
    ("name", "packets"),
    [
        ("startup_three_segments", 30),
        ("startup_broadcast_five", 35),
        ("routing_two_segments_startup", 45),
        ("multicast_three", 21),
        ("wide_network", 20),
    ],
)
def test_daemons_that_start_together_say_what_upstream_says(name, packets):
    configuration = configuration_in(name)
    entries = before_form1(name, *PACKETS)
    sent = 0
    for daemon in configuration.daemons:
        bench = Bench(configuration, daemon)
        bench.membership.start(0.0)
        sent += play(bench, since_start(bench, entries))
    assert sent == packets


def in_ring(name: str, me: ProcId, members: list[ProcId], ring_id: MembershipId) -> Bench:
    configuration = configuration_in(name)
    bench = Bench(configuration, configuration.by_id[me])
    bench.put(MembershipState.OP, members=members, ring_id=ring_id)
    bench.membership.gathering.rep_index = 1 if me == ring_id.proc_id else 0
    return bench


def test_a_daemon_that_is_represented_refers_to_its_representative_as_upstream_does():
    name = "refer_segment_representative"
    configuration = configuration_in(name)
    d1, d2, d4, d5, d6 = (daemon.id for daemon in configuration.daemons)
    entries = before_form1(name, *PACKETS)
    old = MembershipId(d1, 1795467049)
    sent = 0
    for me in (d1, d4, d5, d6):
        if me == d4:
            bench = Bench(configuration, configuration.by_id[d4])
            bench.membership.start(0.0)
            sent += play(bench, since_start(bench, entries))
        else:
            sent += play(in_ring(name, me, [d1, d2, d5, d6], old), entries)
    assert sent == sum(1 for entry in entries if entry.sender != d2)
    assert any(entry.kind == "refer" for entry in entries)


def test_a_segment_leader_forwards_a_foreign_packet_and_two_leaders_gather_as_upstream_does():
    name = "foreign_message"
    configuration = configuration_in(name)
    ids = [daemon.id for daemon in configuration.daemons]
    entries = before_form1(name, "data", *PACKETS)
    ring = MembershipId(ids[0], 1795465979)
    alone = MembershipId(ids[5], 1795465979)
    # The first recorded packet was not forwarded: the partition had not healed yet.
    entries = entries[1:]
    sent = 0
    for me in ids[:5]:
        sent += play(in_ring(name, me, ids[:5], ring), entries)
    sent += play(in_ring(name, ids[5], ids[5:], alone), entries)
    forwarded = [e for e in entries if e.kind == "data" and e.sender == ids[3]]
    assert len(forwarded) == 2
    assert sent == len(forwarded) + sum(1 for e in entries if e.kind == "join")
