"""Recorded rings of upstream daemons: the same events give the same bytes."""

from __future__ import annotations

import pytest
from groups_replay import SCENARIOS, Replay, load, received

from txspread.engine.alarms import Priority
from txspread.engine.groups import GroupsState
from txspread.wire.byteorder import byte_order_of
from txspread.wire.constants import (
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MEMBERSHIP_MESS,
)
from txspread.wire.groups import GroupsMessage
from txspread.wire.message import MessageHeader, normalize

CASES = [(name, daemon) for name in SCENARIOS for daemon in load(name)["daemons"]]
REQUESTS = JOIN_MESS | LEAVE_MESS | KILL_MESS
CLOSED_ITS_CONNECTION = {("transitional_events", "#w#d2")}
REWRITTEN_ON_THE_WAY = ("big_endian_sender", "d2")
"""Others saw its messages in big-endian, it did not."""
DIED_IN_THE_EXCHANGE = ("cascade_partial_exchange", "d3")
MISREAD_BY_UPSTREAM = 44
"""Number of group names from which on upstream's daemons read other ones."""


def group_count(message: bytes) -> int:
    return MessageHeader.decode(message).num_groups


@pytest.mark.parametrize(("scenario", "daemon"), CASES)
def test_recorded_events_give_the_recorded_membership_messages(scenario: str, daemon: str) -> None:
    recording = load(scenario)
    replay = Replay(recording, daemon)
    replay.run()
    expected = received(recording, MEMBERSHIP_MESS)
    for session in replay.sessions.sessions.values():
        name = session.private_group.decode()
        written = session.frames
        if (scenario, name) in CLOSED_ITS_CONNECTION:
            written = written[: len(expected[name])]
        assert [frame.hex() for frame in written] == [frame.hex() for frame in expected[name]], name
    assert replay.alarms.at_least(Priority.WARNING) == []
    if (scenario, daemon) != DIED_IN_THE_EXCHANGE:
        assert replay.groups.state is GroupsState.GOP
    assert replay.groups.dropped == {}


@pytest.mark.parametrize(("scenario", "daemon"), CASES)
def test_recorded_events_give_the_recorded_groups_messages(scenario: str, daemon: str) -> None:
    replay = Replay(load(scenario), daemon)
    replay.run()
    sent = [frame for frame in replay.sent if MessageHeader.decode(frame).type & GROUPS_MESS]
    recorded = replay.recorded_groups_messages()
    if (scenario, daemon) == DIED_IN_THE_EXCHANGE:
        assert len(sent) == 1
        assert recorded == []
        return
    # One recording shows a daemon's messages rewritten to big-endian on their way.
    written = [
        GroupsMessage.decode(frame).encode(byte_order_of(seen))
        for frame, seen in zip(sent, recorded, strict=True)
    ]
    assert [frame.hex() for frame in written] == [frame.hex() for frame in recorded]
    if scenario != "big_endian_sender":
        assert sent == recorded


@pytest.mark.parametrize("scenario", ["routing", "big_endian_sender"])
def test_recorded_messages_reach_the_recorded_clients(scenario: str) -> None:
    """One of the two has the messages of a daemon rewritten to big-endian."""
    recording = load(scenario)
    expected = received(recording)
    for daemon in recording["daemons"]:
        if (scenario, daemon) == REWRITTEN_ON_THE_WAY:
            continue
        replay = Replay(recording, daemon)
        messages = replay.run_with_recorded_messages()
        data = [frame for frame in messages if not MessageHeader.decode(frame).type & REQUESTS]
        assert replay.groups.messages_delivered == len(data)
        for session in replay.sessions.sessions.values():
            frames = [frame for frame in session.frames if group_count(frame) < MISREAD_BY_UPSTREAM]
            assert frames == expected[session.private_group.decode()]
            # What was written in our order is passed on as the same object.
            ours = [message for message in data if normalize(message) is message]
            for frame in frames:
                assert frame not in ours or any(frame is message for message in ours)


def test_lists_of_44_and_more_groups_are_read_right() -> None:
    """Upstream's daemons deliver these to nobody, or to a group that is not named."""
    recording = load("routing_many_groups")
    replay = Replay(recording, "d1")
    messages = replay.run_with_recorded_messages()
    sent = [message for message in messages if group_count(message) >= 43]
    assert [group_count(message) for message in sent] == [43, 44, 100, 44]
    sessions = replay.sessions.sessions
    assert [frame for frame in sessions[b"#a#d1"].frames if frame in sent] == sent
    assert [frame for frame in sessions[b"#b#d1"].frames if frame in sent] == []
