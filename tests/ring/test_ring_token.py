"""What a member does with a token: acceptance, hold, hurry, aru, flow control."""

from __future__ import annotations

import pytest
from ring_cluster import message
from ring_probe import Probe

from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import PacketHeader
from txspread.wire.token import NOBODY


def counted(probe: Probe, name: str) -> int:
    return int(getattr(probe.counters, name))


def test_an_accepted_token_goes_on_with_my_name_and_the_same_arq():
    probe = Probe(1)
    sent = probe.pass_token()
    assert sent is not None
    assert sent.transmiter_id == sent.proc_id == probe.me.id
    assert (sent.arq, sent.retrans) == (probe.arq, 0)
    assert sent.memb_id == probe.ring_id


def test_the_leader_counts_arq_up_and_clears_retrans():
    probe = Probe(0)
    probe.me.submit("x")
    arq = probe.arq
    sent = probe.pass_token(retrans=1)
    assert sent is not None
    assert (sent.arq, sent.retrans) == ((arq + 1) & 15, 0)


@pytest.mark.parametrize(
    ("changes", "counter"),
    [
        ({"transmiter_id": 0x7F000203}, "foreign_tokens"),
        ({"memb_id": MembershipId(1, 2)}, "foreign_tokens"),
        ({"conf_hash": 1}, "foreign_hash_tokens"),
        ({"conf_hash": 1100}, "foreign_hash_tokens"),
        ({"seq": 2**30 + 1}, "rollover_tokens"),
        ({"seq": 8192}, "impossible_tokens"),
        ({"type": 0x00050000}, "stale_tokens"),
    ],
)
def test_a_token_that_does_not_fit_has_no_effect_but_a_count(changes, counter):
    probe = Probe(1)
    deadlines = dict(probe.me.timers.deadlines)
    if "type" in changes:
        changes = {"type": ((probe.arq + 5) & 15) << 16}
    assert probe.pass_token(**changes) is None
    assert counted(probe, counter) == 1
    assert probe.me.timers.deadlines == deadlines
    assert probe.me.sent == []
    assert probe.ring.highest_seq == 0
    assert probe.pass_token() is not None


@pytest.mark.parametrize("cut", [0, 12, 39])
def test_a_token_cut_short_is_dropped(cut):
    probe = Probe(1)
    probe.me.take_token(probe.make_token().encode()[:cut])
    assert counted(probe, "malformed_tokens") == 1
    assert probe.me.sent == []


def test_a_token_with_surplus_bytes_is_dropped():
    probe = Probe(1)
    probe.me.take_token(probe.make_token().encode() + bytes(4))
    assert counted(probe, "malformed_tokens") == 1


def test_a_request_with_a_negative_count_drops_the_token():
    probe = Probe(1)
    token = probe.make_token(
        requests=(probe.request(1, 2, proc_id=NOBODY, seg_index=-1, memb_id=MembershipId(9, 9)),)
    )
    raw = bytearray(token.encode())
    raw[40 + 14 : 40 + 16] = (-4).to_bytes(2, "little", signed=True)
    probe.me.take_token(bytes(raw))
    assert counted(probe, "malformed_tokens") == 1
    assert probe.me.sent == []


def test_no_token_is_taken_while_none_is_expected():
    probe = Probe(1)
    probe.me.membership.token_alive = False
    assert probe.pass_token() is None
    assert counted(probe, "dead_tokens") == 1


def test_an_aru_below_the_safe_line_is_swallowed_before_it_has_any_effect():
    probe = Probe(1)
    for seq in range(1, 5):
        probe.give(seq)
    probe.pass_token()
    probe.pass_token()
    assert probe.ring.aru == 4
    probe.me.submit("x")
    assert probe.pass_token(aru=3, seq=5) is None
    assert counted(probe, "impossible_tokens") == 1
    assert probe.data == []
    assert probe.ring.aru == 4


def test_a_repeated_token_makes_a_member_repeat_its_own_without_requests():
    probe = Probe(1)
    first = probe.pass_token(seq=3, aru=0, aru_last_id=0x7F000001)
    assert first is not None
    assert first.requests[0].seqs == (1, 2, 3)
    again = probe.make_token(type=probe.arq << 16 | 1 << 20)
    probe.me.take_token(again.encode())
    assert len(probe.tokens) == 2
    copy = probe.tokens[1]
    assert (copy.arq, copy.retrans, copy.requests) == (first.arq, 1, ())
    assert (copy.seq, copy.aru, copy.aru_last_id) == (first.seq, first.aru, first.aru_last_id)
    probe.me.take_token(again.encode())
    assert len(probe.tokens) == 2
    assert counted(probe, "stale_tokens") == 1


def test_a_second_repetition_goes_out_three_times():
    probe = Probe(1)
    probe.pass_token()
    probe.me.take_token(probe.make_token(type=probe.arq << 16 | 2 << 20).encode())
    assert len(probe.tokens) == 4


def test_a_new_token_that_was_repeated_twice_is_passed_on_three_times():
    probe = Probe(1)
    before = counted(probe, "token_hurry")
    probe.pass_token(retrans=2)
    assert [t.retrans for t in probe.tokens] == [2, 2, 2]
    assert counted(probe, "token_hurry") == before + 1


def test_the_last_member_of_a_segment_repeats_once_more_on_a_wide_network():
    probe = Probe(1)
    probe.me.membership.wide_area = True
    probe.pass_token()
    probe.me.take_token(probe.make_token(type=probe.arq << 16 | 1 << 20).encode())
    assert len(probe.tokens) == 3


def test_the_leader_keeps_the_token_of_an_idle_ring_until_its_hurry_timer():
    probe = Probe(0)
    assert probe.pass_token() is None
    assert counted(probe, "tokens_held") >= 1
    arq = probe.arq
    probe.ring.timer(Timer.HURRY, 1.0)
    assert [(t.arq, t.retrans) for t in probe.tokens] == [(arq, 1)]
    assert probe.pass_token(retrans=1) is None


def test_the_hurry_timer_repeats_a_lost_token_with_more_copies_each_time():
    probe = Probe(0)
    probe.pass_token()
    for _time in range(3):
        probe.ring.timer(Timer.HURRY, 1.0)
    assert [t.retrans for t in probe.tokens] == [1, 2, 2, 2, 3, 3, 3]


def test_retrans_wraps_at_sixteen():
    probe = Probe(0)
    probe.pass_token()
    for _time in range(16):
        probe.ring.timer(Timer.HURRY, 1.0)
    assert probe.tokens[-1].retrans == 0


def test_only_the_leader_minds_the_hurry_timer():
    probe = Probe(1)
    probe.pass_token()
    probe.me.sent.clear()
    probe.ring.timer(Timer.HURRY, 1.0)
    assert probe.me.sent == []


def test_a_first_message_on_an_idle_ring_sends_one_hurry_to_the_leader():
    probe = Probe(1)
    probe.me.submit("one")
    probe.me.submit("two")
    ((how, to, header),) = probe.data
    assert (how, to) == ("daemon", probe.members[0].id)
    assert header.type & 0x7FFFFF7F == 0x40
    assert (header.proc_id, header.data_len, header.seq) == (probe.me.id, 0, 0)


def test_a_hurry_lets_the_leader_release_the_token_once():
    probe = Probe(0)
    probe.pass_token()
    probe.me.sent.clear()
    header = PacketHeader.decode(probe.packet(1))
    probe.ring.hurry(header, 1.0)
    probe.ring.hurry(header, 1.0)
    assert [t.retrans for t in probe.tokens] == [1]


def test_a_hurry_of_a_stranger_or_at_another_member_has_no_effect():
    probe = Probe(0)
    probe.pass_token()
    probe.me.sent.clear()
    header = PacketHeader.decode(probe.packet(1))
    header.proc_id = 5
    probe.ring.hurry(header, 1.0)
    assert probe.me.sent == []
    other = Probe(1)
    other.ring.hurry(PacketHeader.decode(other.packet(1)), 1.0)
    assert other.me.sent == []


def test_two_more_rotations_follow_a_message_of_the_leader_and_then_the_token_rests():
    probe = Probe(0)
    probe.pass_token()
    probe.me.submit("x")
    assert [t.retrans for t in probe.tokens] == [1]
    passed = [probe.pass_token() for _ in range(4)]
    assert [p is not None for p in passed] == [True, True, False, False]


def test_three_more_rotations_follow_a_message_of_another_member():
    probe = Probe(0)
    probe.pass_token()
    probe.ring.hurry(PacketHeader.decode(probe.packet(1)), 1.0)
    probe.give(1)
    passed = [probe.pass_token(aru=1, seq=1) for _ in range(5)]
    assert [p is not None for p in passed] == [True, True, True, False, False]


def test_a_message_of_the_leader_leaves_before_the_token_that_it_keeps():
    probe = Probe(0)
    assert probe.pass_token() is None
    rounds, arq = probe.ring.token_rounds, probe.arq
    probe.me.sent.clear()
    probe.me.submit("x")
    assert [how for how, _to, _datagram in probe.me.sent] == ["all", "token"]
    (header,) = (header for _how, _to, header in probe.data)
    assert (header.seq, header.token_round) == (1, rounds - 1)
    (token,) = probe.tokens
    assert (token.arq, token.retrans, token.seq, token.aru) == (arq, 1, 1, 1)
    assert (token.flow_control, token.aru_last_id) == (1, probe.me.id)
    probe.cluster.fire(probe.me)
    assert probe.me.upper.texts == ["x"]


def test_the_accelerated_leader_sends_the_rest_of_its_packets_after_the_kept_token():
    probe = Probe(0, accelerated_ring=True, accelerated_window=2)
    probe.pass_token()
    probe.me.sent.clear()
    rounds = probe.ring.token_rounds
    messages = [message(f"m{number}", 1300)[0] for number in range(3)]
    probe.ring.submit_many(messages, PacketType.AGREED)
    assert [how for how, _to, _datagram in probe.me.sent] == ["all", "token", "all", "all"]
    assert [header.token_round - rounds for _, _, header in probe.data] == [-1, 0, 0]
    assert probe.tokens[0].seq == 3


def test_a_token_that_was_let_go_takes_no_more_messages_of_the_leader():
    probe = Probe(0)
    probe.pass_token()
    probe.ring.timer(Timer.HURRY, 1.0)
    probe.me.sent.clear()
    probe.me.submit("x")
    probe.ring.timer(Timer.HURRY, 2.0)
    assert [token.seq for token in probe.tokens] == [0] * len(probe.tokens)
    assert probe.data == []


def test_a_kept_token_that_was_lost_with_a_message_is_sent_again_as_it_was():
    probe = Probe(0)
    probe.pass_token()
    probe.me.submit("x")
    probe.me.sent.clear()
    probe.me.submit("y")
    probe.ring.timer(Timer.HURRY, 2.0)
    assert probe.data == []
    assert [(t.seq, t.aru, t.retrans) for t in probe.tokens] == [(1, 1, 2)] * 3


def test_messages_that_asked_for_no_hurry_go_with_the_timers_release_and_the_ring_calms_anew():
    probe = Probe(0)
    assert probe.pass_token() is None
    probe.me.sent.clear()
    # As after a switch to a queue that has messages already.
    probe.ring._queues.current.append((int(PacketType.AGREED), message("x")[0]))
    probe.ring.timer(Timer.HURRY, 1.0)
    assert [how for how, _to, _datagram in probe.me.sent] == ["all", "token"]
    passed = [probe.pass_token() for _ in range(4)]
    assert [p is not None for p in passed] == [True, True, False, False]


def test_a_leader_without_a_window_lets_the_token_go_alone():
    probe = Probe(0)
    probe.pass_token()
    probe.ring.flow.set_windows(personal_window=0)
    probe.me.sent.clear()
    probe.me.submit("x")
    assert probe.data == []
    assert [(t.seq, t.retrans) for t in probe.tokens] == [(0, 1)]


def test_what_the_leader_sent_with_the_kept_token_is_safe_after_one_rotation():
    probe = Probe(0)
    probe.pass_token()
    probe.me.submit("x", kind=PacketType.SAFE)
    probe.cluster.fire(probe.me)
    assert probe.me.upper.texts == []
    probe.pass_token()
    assert probe.me.upper.texts == ["x"]


def test_seq_and_flow_control_tell_of_the_packets_just_made():
    probe = Probe(1)
    for number in range(3):
        probe.me.submit(f"m{number}", 1300)
    sent = probe.pass_token(flow_control=7)
    assert sent is not None
    assert (sent.seq, sent.flow_control) == (3, 10)
    assert sent.aru == 3
    assert sent.aru_last_id == probe.me.id
    sent = probe.pass_token(flow_control=10)
    assert sent is not None
    assert sent.flow_control == 7


def test_flow_control_wraps_like_the_field_that_carries_it():
    probe = Probe(1, window=32767, personal_window=3)
    for number in range(3):
        probe.me.submit(f"m{number}", 1300)
    sent = probe.pass_token(flow_control=32766)
    assert sent is not None
    assert sent.flow_control == 32766 + 3 - 65536


@pytest.mark.parametrize(
    ("flow_control", "expected"), [(0, 20), (150, 20), (170, 10), (180, 0), (1000, 0), (-5, 20)]
)
def test_the_quota_of_a_visit_is_what_the_windows_leave(flow_control, expected):
    probe = Probe(1)
    for number in range(30):
        probe.me.submit(f"m{number}", 1300)
    probe.pass_token(flow_control=flow_control)
    assert counted(probe, "packet_sent") == expected


def test_nothing_new_is_made_too_far_above_the_safe_line():
    probe = Probe(1)
    probe.me.submit("x")
    probe.pass_token(seq=1601, aru=0, aru_last_id=probe.members[0].id)
    assert counted(probe, "packet_sent") == 0
    probe = Probe(1)
    probe.me.submit("x")
    probe.pass_token(seq=1600, aru=0, aru_last_id=probe.members[0].id)
    assert counted(probe, "packet_sent") == 1


def test_aru_is_lowered_by_who_lacks_a_packet_and_raised_only_by_the_same_member():
    probe = Probe(1)
    sent = probe.pass_token(seq=2, aru=2)
    assert sent is not None
    assert (sent.aru, sent.aru_last_id) == (0, probe.me.id)
    probe.give(1)
    probe.give(2)
    sent = probe.pass_token(seq=2, aru=0, aru_last_id=probe.me.id)
    assert sent is not None
    assert (sent.aru, sent.aru_last_id) == (2, probe.me.id)
    third = probe.members[2].id
    sent = probe.pass_token(seq=3, aru=1, aru_last_id=third)
    assert sent is not None
    assert (sent.aru, sent.aru_last_id) == (1, third)


def test_the_first_token_after_an_installation_may_lower_aru_from_its_recovery_value():
    cluster = Probe(1).cluster
    for member in cluster.members:
        member.alive = True
    cluster.form(cluster.members)
    assert cluster.members[0].membership.state is MembershipState.EVS
    cluster.run(lambda: all(m.membership.state is MembershipState.OP for m in cluster.members))
    for member in cluster.members:
        member.submit("after")
    cluster.settle()
    assert all(m.membership.losses == 1 for m in cluster.members)


def test_sequence_wrap_drops_the_token_and_not_the_messages():
    probe = Probe(1)
    store = probe.ring._store
    store.highest_seq = store.my_aru = store.aru = 2**30 - 1
    store.last_delivered = store.last_discarded = 2**30 - 1
    probe.ring._machine._last_aru = 2**30 - 1
    for number in range(3):
        probe.me.submit(f"m{number}", 1300)
    sent = probe.pass_token()
    assert sent is not None
    assert sent.seq == 2**30 + 2
    assert probe.pass_token() is None
    assert counted(probe, "rollover_tokens") == 1
    assert probe.texts == ["m0", "m1", "m2"]


def test_packets_put_off_the_loss_of_the_token_but_not_with_every_single_one():
    probe = Probe(1)
    now = probe.cluster.now
    probe.pass_token()
    probe.cluster.now = now + 0.4
    probe.give(1)
    assert probe.me.timers.deadlines[Timer.LOSS] == pytest.approx(now + 0.4 + 1.25)
    probe.cluster.now += 0.001
    probe.give(2)
    assert probe.me.timers.deadlines[Timer.LOSS] == pytest.approx(now + 0.4 + 1.25)
    probe.cluster.now += 0.1
    probe.give(2)
    assert probe.me.timers.deadlines[Timer.LOSS] == pytest.approx(now + 0.501 + 1.25)
    assert Timer.HURRY not in probe.me.timers.deadlines


def test_packets_restart_the_leaders_hurry_timer():
    probe = Probe(0)
    probe.pass_token()
    probe.cluster.now += 0.4
    probe.give(1)
    assert probe.me.timers.deadlines[Timer.HURRY] == pytest.approx(probe.cluster.now + 0.5)


def test_the_token_leaves_before_anything_is_delivered():
    probe = Probe(1)
    order: list[str] = []
    probe.me.upper.hook = lambda frame: order.append("delivered")
    send = probe.me.send_token_to
    probe.me.send_token_to = lambda *args: (order.append("token"), send(*args))  # type: ignore
    probe.give(1, kind=PacketType.SAFE)
    probe.me.submit("own")
    probe.pass_token()
    probe.pass_token()
    assert order == ["token", "token", "delivered", "delivered"]
