"""When messages are handed up: services, thresholds, fragments that do not fit."""

from __future__ import annotations

import pytest
from ring_cluster import message
from ring_probe import Probe

from txspread.engine.interfaces import DeliveryThreshold
from txspread.wire.constants import PacketType

AGREED, SAFE = PacketType.AGREED, PacketType.SAFE
FIFO, RELIABLE = PacketType.FIFO, PacketType.RELIABLE


def test_a_gap_holds_everything_back_but_whole_reliable_messages():
    probe = Probe(1)
    probe.give(2, kind=AGREED)
    probe.give(3, kind=RELIABLE)
    probe.give(4, kind=FIFO)
    assert probe.texts == ["m3"]
    probe.give(1)
    assert probe.texts == ["m3", "m1", "m2", "m4"]


def test_a_reliable_message_in_order_waits_behind_an_unstable_safe_one():
    probe = Probe(1)
    probe.give(1, kind=SAFE)
    probe.give(2, kind=RELIABLE)
    assert probe.texts == []
    probe.pass_token(seq=2, aru=2)
    assert probe.texts == []
    probe.pass_token(seq=2, aru=2)
    assert probe.texts == ["m1", "m2"]


def test_a_safe_message_comes_with_the_second_token_that_everybody_has_it():
    probe = Probe(1)
    probe.me.submit("own", kind=SAFE)
    probe.pass_token()
    assert probe.texts == []
    probe.pass_token(seq=1, aru=0, aru_last_id=probe.members[0].id)
    assert probe.texts == []
    probe.pass_token(seq=1, aru=1)
    assert probe.texts == []
    probe.pass_token(seq=1, aru=1)
    assert probe.texts == ["own"]


def test_own_agreed_messages_are_delivered_in_the_visit_that_numbers_them():
    probe = Probe(1)
    probe.me.submit("own")
    probe.pass_token()
    assert probe.texts == ["own"]


def test_own_reliable_messages_overtake_a_gap():
    probe = Probe(1)
    probe.me.submit("own", kind=RELIABLE)
    probe.pass_token(seq=1, aru=1)
    assert probe.texts == ["own"]


def test_a_reliable_message_of_several_packets_keeps_its_place():
    probe = Probe(1)
    frame = message("long", 2000)[0]
    probe.give(2, kind=RELIABLE, fragments=[(1, frame[:1432])])
    probe.give(3, kind=RELIABLE, fragments=[(-2, frame[1432:])])
    assert probe.texts == []
    probe.give(1)
    assert probe.texts == ["m1", "long"]


def test_a_reliable_message_overtakes_within_the_long_message_of_its_sender():
    probe = Probe(1)
    frame = message("long", 4000)[0]
    probe.give(1, kind=FIFO, fragments=[(1, frame[:1432])])
    probe.give(4, kind=RELIABLE)
    probe.give(2, kind=FIFO, fragments=[(2, frame[1432:2864])])
    probe.give(3, kind=FIFO, fragments=[(-3, frame[2864:])])
    assert probe.texts == ["m4", "long"]


def test_a_tail_is_followed_by_the_whole_messages_of_its_packet():
    probe = Probe(1)
    frame = message("long", 1500)[0]
    short = message("short")[0]
    probe.give(1, fragments=[(1, frame[:1432])])
    probe.give(2, fragments=[(-2, frame[1432:]), (-1, short)])
    assert probe.texts == ["long", "short"]


@pytest.mark.parametrize("index", [2, -2, -100, 7])
def test_a_fragment_that_continues_nothing_is_dropped_and_the_rest_goes_on(index):
    probe = Probe(1)
    probe.give(1, fragments=[(index, bytes(100)), (-1, message("behind")[0])])
    probe.give(2)
    assert probe.texts == ["behind", "m2"]
    assert probe.counters.sequence_errors == 1


def test_a_new_message_in_the_middle_of_another_replaces_it():
    probe = Probe(1)
    frame = message("long", 2000)[0]
    probe.give(1, fragments=[(1, frame[:1432])])
    probe.give(2, fragments=[(1, frame[:1432])])
    probe.give(3, fragments=[(-2, frame[1432:])])
    probe.give(4, fragments=[(1, frame[:1432])])
    probe.give(5, text="whole")
    assert probe.texts == ["long", "whole"]
    assert probe.counters.sequence_errors == 2


def test_a_message_shorter_than_its_header_in_two_pieces_is_dropped():
    probe = Probe(1)
    probe.give(1, fragments=[(1, bytes(10))])
    probe.give(2, fragments=[(-2, bytes(10))])
    probe.give(3)
    assert probe.texts == ["m3"]
    assert probe.counters.sequence_errors == 1


def test_blocked_delivery_hands_up_only_what_is_stable():
    probe = Probe(1)
    probe.ring.set_threshold(DeliveryThreshold.BLOCK)
    probe.give(1)
    probe.give(3, kind=RELIABLE)
    assert probe.texts == []
    probe.pass_token(seq=1, aru=1)
    probe.pass_token(seq=1, aru=1)
    assert probe.texts == ["m1"]


def test_agreed_threshold_keeps_reliable_messages_in_order():
    probe = Probe(1)
    probe.ring.set_threshold(DeliveryThreshold.AGREED)
    probe.give(2, kind=RELIABLE)
    assert probe.texts == []
    probe.give(1)
    assert probe.texts == ["m1", "m2"]


def test_a_lowered_threshold_sets_free_what_waits_but_not_from_inside_the_call():
    probe = Probe(1)
    probe.ring.set_threshold(DeliveryThreshold.BLOCK)
    probe.give(1)
    probe.give(3, kind=RELIABLE)
    probe.give(4)
    probe.ring.set_threshold(DeliveryThreshold.NONE)
    assert probe.texts == []
    probe.cluster.fire(probe.me)
    assert probe.texts == ["m3", "m1"]


def test_a_threshold_raised_again_cancels_what_the_lowering_would_have_done():
    probe = Probe(1)
    probe.ring.set_threshold(DeliveryThreshold.BLOCK)
    probe.give(1)
    probe.ring.set_threshold(DeliveryThreshold.AGREED)
    probe.ring.set_threshold(DeliveryThreshold.BLOCK)
    probe.cluster.fire(probe.me)
    assert probe.texts == []


def test_messages_submitted_from_a_delivery_are_numbered_by_the_next_token():
    probe = Probe(1)

    def answer(_frame: bytes) -> None:
        if probe.me.upper.texts == ["m1"]:
            probe.me.submit("reply")

    probe.me.upper.hook = answer
    probe.give(1)
    assert probe.texts == ["m1"]
    probe.pass_token(seq=1, aru=1)
    assert probe.texts == ["m1", "reply"]


def test_nothing_is_delivered_twice_however_the_paths_cross():
    probe = Probe(1)
    probe.ring.set_threshold(DeliveryThreshold.BLOCK)
    probe.give(1)
    probe.give(2, kind=RELIABLE)
    probe.give(4, kind=RELIABLE)
    probe.ring.set_threshold(DeliveryThreshold.NONE)
    probe.cluster.fire(probe.me)
    probe.give(3)
    probe.pass_token(seq=4, aru=4)
    probe.pass_token(seq=4, aru=4)
    assert probe.texts == ["m2", "m4", "m1", "m3"]
    assert probe.counters.packet_delivered == 4
