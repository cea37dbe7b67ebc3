"""Data packets: what is held, what is dropped, what is requested and sent again."""

from __future__ import annotations

import pytest
from ring_cluster import message
from ring_probe import HASH, Probe

from txspread.engine.ring.lingering import CERTAIN, INTRODUCTIONS
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import encode_packet, read_fragments
from txspread.wire.token import NOBODY


def counted(probe: Probe, name: str) -> int:
    return int(getattr(probe.counters, name))


def test_a_packet_of_another_ring_goes_to_the_membership_machine_and_nowhere_else():
    probe = Probe(1)
    deadlines = dict(probe.me.timers.deadlines)
    probe.cluster.now += 0.3
    probe.give(1, memb_id=MembershipId(1, 2))
    assert len(probe.me.membership.foreign_packets) == 1
    assert probe.me.timers.deadlines == deadlines
    assert probe.ring.highest_seq == 0


@pytest.mark.parametrize("seq", [0, -1, -(2**31), 1])
def test_a_number_that_is_held_or_was_discarded_counts_as_duplicate(seq):
    probe = Probe(1)
    probe.give(1)
    probe.give(seq)
    assert counted(probe, "duplicate_packets") == 1
    assert probe.ring.my_aru == probe.ring.highest_seq == 1


@pytest.mark.parametrize("seq", [8192, 2_000_000_000])
def test_a_number_far_ahead_is_dropped(seq):
    probe = Probe(1)
    probe.give(seq)
    assert counted(probe, "far_packets") == 1
    assert probe.ring.highest_seq == 0


def test_a_packet_of_a_daemon_outside_the_ring_is_dropped():
    probe = Probe(1)
    packet = encode_packet(
        8, 0x7F000055, 0x7F000055, probe.ring_id, 1, 0, HASH, [(-1, message("x")[0])]
    )
    probe.me.take_data(packet)
    assert counted(probe, "stranger_packets") == 1
    assert probe.ring.highest_seq == 0


WHOLE = message("whole")[0]


@pytest.mark.parametrize(
    "fragments",
    [
        [(0, WHOLE)],
        [(101, WHOLE)],
        [(-101, WHOLE)],
        [(-1, b"")],
        [(-1, bytes(47))],
        [(-1, WHOLE), (-1, bytes(47))],
        [(-1, b""), (-1, WHOLE)],
        [(2, b""), (-1, WHOLE)],
    ],
)
def test_a_packet_that_is_no_part_of_a_message_is_never_held(fragments):
    probe = Probe(1)
    probe.give(1, fragments=fragments)
    assert counted(probe, "malformed_packets") == 1
    assert probe.ring.highest_seq == 0
    assert probe.texts == []


@pytest.mark.parametrize("length", [-1, 81, 1433, 32767])
def test_a_packet_that_lies_about_its_first_fragment_is_never_held(length):
    probe = Probe(1)
    raw = bytearray(probe.packet(1, "x"))
    raw[38:40] = length.to_bytes(2, "little", signed=True)
    if length == 81:
        raw[38:40] = (len(raw) - 40 - 1).to_bytes(2, "little")
    probe.me.take_data(bytes(raw))
    assert counted(probe, "malformed_packets") == 1


def test_a_foreign_byte_order_is_read_and_sent_again_in_ours():
    probe = Probe(1)
    fragments = [(-1, message("a" * 5)[0]), (-1, message("b")[0])]
    packet = encode_packet(
        8, probe.members[2].id, probe.members[2].id, probe.ring_id, 1, 7, HASH, fragments, ">"
    )
    probe.me.take_data(packet)
    probe.cluster.fire(probe.me)
    assert probe.texts == ["aaaaa", "b"]
    probe.pass_token(
        seq=1,
        aru=0,
        aru_last_id=probe.predecessor,
        requests=(probe.request(1, proc_id=probe.members[0].id, seg_index=0),),
    )
    ((how, to, header),) = probe.data
    assert (how, to) == ("daemon", probe.members[0].id)
    assert (header.byteorder, header.token_round, header.seq) == ("<", 7, 1)
    assert (header.transmiter_id, header.proc_id) == (probe.me.id, probe.members[2].id)
    datagram = next(data for how, _to, data in probe.me.sent if how == "daemon")
    assert read_fragments(datagram, header) == fragments


@pytest.mark.parametrize(
    ("proc", "segment", "how", "counter"),
    [
        (True, 0, "daemon", "u_retrans"),
        (False, 2, "segment", "s_retrans"),
        (False, -1, "all", "b_retrans"),
    ],
)
def test_a_request_names_where_its_answer_goes(proc, segment, how, counter):
    probe = Probe(1)
    third = probe.members[2].id
    probe.give(1, sender=0)
    probe.give(2, sender=0)
    request = probe.request(1, 2, proc_id=third if proc else NOBODY, seg_index=segment)
    sent = probe.pass_token(seq=2, aru=0, aru_last_id=third, requests=(request,))
    assert sent is not None
    assert sent.requests == ()
    assert sent.flow_control == 2
    target = {"daemon": third, "segment": 2, "all": None}[how]
    assert [(h, to, header.seq) for h, to, header in probe.data] == [
        (how, target, 1),
        (how, target, 2),
    ]
    assert (counted(probe, counter), counted(probe, "retrans")) == (2, 2)


def test_what_is_sent_again_keeps_its_round_and_originator_and_loses_routed():
    probe = Probe(1)
    raw = bytearray(probe.packet(1, sender=0, token_round=9))
    raw[0] |= 0x20
    probe.me.take_data(bytes(raw))
    request = probe.request(1, proc_id=probe.members[2].id, seg_index=2)
    probe.pass_token(seq=1, aru=0, aru_last_id=probe.members[2].id, requests=(request,))
    ((_how, _to, header),) = probe.data
    assert header.type & 0x20 == 0
    assert (header.token_round, header.proc_id) == (9, probe.members[0].id)
    assert header.transmiter_id == probe.me.id


def test_what_i_lack_myself_is_asked_for_by_me_for_several():
    probe = Probe(1)
    probe.give(2)
    same_segment = probe.request(1, 2, proc_id=probe.members[0].id, seg_index=1)
    sent = probe.pass_token(seq=3, aru=0, requests=(same_segment,))
    assert sent is not None
    (mine,) = sent.requests
    assert (mine.proc_id, mine.seg_index, mine.seqs) == (NOBODY, 1, (1, 3))
    other_segment = probe.request(1, proc_id=probe.members[0].id, seg_index=0)
    sent = probe.pass_token(seq=3, aru=0, requests=(other_segment,))
    assert sent is not None
    (mine,) = sent.requests
    assert (mine.proc_id, mine.seg_index) == (NOBODY, -1)


def test_only_what_i_miss_is_asked_for_with_my_own_id():
    probe = Probe(1)
    probe.give(2)
    sent = probe.pass_token(seq=3, aru=3)
    assert sent is not None
    (mine,) = sent.requests
    assert mine.memb_id == probe.ring_id
    assert (mine.proc_id, mine.seg_index, mine.seqs) == (probe.me.id, 1, (1, 3))


def test_entries_of_other_rings_stay_in_front_of_mine():
    probe = Probe(1)
    foreign = [
        probe.request(5, 6, proc_id=NOBODY, seg_index=-1, memb_id=MembershipId(1, time))
        for time in (1, 2)
    ]
    sent = probe.pass_token(seq=1, aru=0, requests=tuple(foreign))
    assert sent is not None
    assert list(sent.requests[:2]) == foreign
    assert sent.requests[2].seqs == (1,)


def test_my_request_ends_where_one_datagram_does():
    probe = Probe(1)
    sent = probe.pass_token(seq=2000, aru=0)
    assert sent is not None
    assert sent.requests[0].seqs == tuple(range(1, 355))
    assert len(sent.encode()) <= 1472


def test_a_crowded_token_still_takes_my_request_within_its_signed_length():
    probe = Probe(1)
    crowd = probe.request(*range(360), proc_id=NOBODY, seg_index=-1, memb_id=MembershipId(1, 1))
    sent = probe.pass_token(seq=8000, aru=0, requests=(crowd,))
    assert sent is not None
    assert len(sent.encode()) <= 40 + 32767
    assert len(sent.requests) == 2


def test_requests_below_the_safe_line_and_for_nobody_we_know_are_left_alone():
    probe = Probe(1)
    for seq in range(1, 5):
        probe.give(seq)
    probe.pass_token(seq=4, aru=4)
    probe.pass_token(seq=4, aru=4)
    assert probe.ring.aru == 4
    probe.give(5)
    first = probe.members[0].id
    sent = probe.pass_token(
        seq=5,
        aru=4,
        aru_last_id=first,
        requests=(
            probe.request(1, 3, proc_id=first, seg_index=0),
            probe.request(5, proc_id=0x7F0000AA, seg_index=0),
            probe.request(5, proc_id=NOBODY, seg_index=77),
        ),
    )
    assert sent is not None
    assert [(how, header.seq) for how, _to, header in probe.data] == [("all", 5)]
    assert counted(probe, "illegal_requests") == 4
    assert sent.flow_control == 2


def test_the_accelerated_ring_asks_one_rotation_later():
    probe = Probe(1, accelerated_ring=True)
    sent = probe.pass_token(seq=3, aru=0)
    assert sent is not None
    assert sent.requests == ()
    sent = probe.pass_token(seq=9, aru=0)
    assert sent is not None
    assert sent.requests[0].seqs == (1, 2, 3)


@pytest.mark.parametrize(("count", "window", "before"), [(20, 15, 5), (10, 15, 0), (4, 0, 4)])
def test_the_accelerated_ring_sends_its_last_packets_behind_the_token(count, window, before):
    probe = Probe(1, accelerated_ring=True, accelerated_window=window)
    for number in range(count):
        probe.me.submit(f"m{number}", 1300)
    probe.me.sent.clear()
    rounds = probe.ring.token_rounds
    sent = probe.pass_token()
    assert sent is not None
    kinds = [how for how, _to, _datagram in probe.me.sent]
    assert kinds == ["all"] * before + ["token"] + ["all"] * (count - before)
    assert sent.seq == count
    assert sent.flow_control == count
    assert [header.seq for _how, _to, header in probe.data] == list(range(1, count + 1))
    assert [header.token_round for _how, _to, header in probe.data] == [rounds] * before + [
        rounds + 1
    ] * (count - before)


def test_the_regular_ring_sends_everything_before_the_token():
    probe = Probe(1)
    for number in range(5):
        probe.me.submit(f"m{number}", 1300)
    probe.me.sent.clear()
    rounds = probe.ring.token_rounds
    probe.pass_token()
    assert [how for how, _to, _datagram in probe.me.sent] == ["all"] * 5 + ["token"]
    assert {header.token_round for _how, _to, header in probe.data} == {rounds}


def test_a_packet_sent_behind_the_predecessors_token_makes_tokens_come_first():
    probe = Probe(1, accelerated_ring=True)
    rounds = probe.ring._machine.received_token_rounds
    probe.give(1, sender=0, token_round=rounds)
    assert not probe.ring.prefer_tokens
    probe.give(2, sender=2, token_round=rounds + 1)
    assert not probe.ring.prefer_tokens
    probe.give(3, sender=0, token_round=rounds + 1)
    assert probe.ring.prefer_tokens
    probe.pass_token(seq=3, aru=0)
    assert not probe.ring.prefer_tokens


def test_the_regular_ring_never_prefers_tokens():
    probe = Probe(1)
    probe.give(1, sender=0, token_round=1000)
    assert not probe.ring.prefer_tokens


def test_a_token_is_expected_close_behind_the_predecessors_packets():
    probe = Probe(1)
    assert not probe.ring.token_follows
    probe.give(1, sender=2)
    assert not probe.ring.token_follows
    probe.give(2, sender=0)
    assert probe.ring.token_follows
    heard = {member.id for member in probe.members}
    for seq, sender, follows in ((3, 2, False), (4, 0, True)):
        datagram = probe.packet(seq, sender=sender)
        assert probe.ring.data_packets([datagram], 0, 0.0, heard, 0) == 1
        assert probe.ring.token_follows is follows


def test_no_token_is_expected_behind_the_packets_of_who_keeps_it():
    probe = Probe(1)
    heard = {member.id for member in probe.members}
    probe.ring._machine.keeper._called[probe.members[0].id] = INTRODUCTIONS
    probe.pass_token(seq=0)
    begin = probe.cluster.now
    follows = []
    for seq in range(1, 5):
        now = begin + seq * 0.6 * CERTAIN
        assert probe.ring.data_packets([probe.packet(seq, sender=0)], 0, now, heard, 0) == 1
        follows.append(probe.ring.token_follows)
    assert follows == [True, True, False, False]
    probe.pass_token(seq=4)
    assert probe.ring.data_packets([probe.packet(5, sender=0)], 0, now, heard, 0) == 1
    assert probe.ring.token_follows


def test_the_store_forgets_what_everybody_has():
    probe = Probe(1)
    for seq in range(1, 101):
        probe.give(seq)
    assert len(probe.ring._store) == 100
    probe.pass_token(seq=100, aru=100)
    probe.pass_token(seq=100, aru=100)
    assert len(probe.ring._store) == 0
    assert probe.ring._store.last_discarded == 100


def test_reliable_kinds_of_packets_keep_one_order():
    probe = Probe(1)
    for seq, kind in enumerate([PacketType.FIFO, PacketType.AGREED, PacketType.RELIABLE], start=1):
        probe.give(seq, kind=kind)
    assert probe.texts == ["m1", "m2", "m3"]
