"""What each event does in each state, and in which order the neighbours hear of it."""

from __future__ import annotations

import pytest
from groups_harness import (
    AGREED,
    Daemons,
    FakeSession,
    configuration_of,
    daemon_of,
    data,
    join,
    kill,
    leave,
)
from groups_ring import Ring

from txspread.engine.groups import GroupsState
from txspread.engine.groups.machine import TRANSITIONS, Action, Event, RingOutOfOrder
from txspread.engine.interfaces import DeliveryThreshold, DownQueue
from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import MEMBERSHIP_MESS, ServiceType
from txspread.wire.groups import GroupsMessage
from txspread.wire.identifiers import GroupId, MembershipId
from txspread.wire.membership_message import MembershipBody
from txspread.wire.message import MessageHeader, message_groups

CONFIGURATION = configuration_of({"d1": "127.0.0.1", "d2": "127.0.1.1", "d3": "127.0.2.1"})
D1, D2, D3 = (daemon.id for daemon in CONFIGURATION.daemons)

JOINED = ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_JOIN
LEFT = ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_LEAVE
DISCONNECTED = ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_DISCONNECT
NETWORK = ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_NETWORK
TRANSITION = ServiceType.TRANSITION_MESS
SELF_LEAVE = ServiceType.CAUSED_BY_LEAVE


def kinds(session: FakeSession) -> list[int]:
    """Types of the membership messages a session got, without byte-order marker."""
    return [MessageHeader.decode(frame).type & MEMBERSHIP_MESS for frame in session.frames]


def body(frame: bytes) -> MembershipBody:
    header = MessageHeader.decode(frame)
    order: ByteOrder = header.byteorder
    return MembershipBody.decode(frame[48 + 32 * header.num_groups :], order)


def members(frame: bytes) -> list[bytes]:
    return message_groups(frame, MessageHeader.decode(frame).num_groups)


def alone(*clients: str) -> Daemons:
    """The first daemon, operational, alone in its ring."""
    daemon = daemon_of(CONFIGURATION, "d1", clients)
    daemon.membership(10, [D1])
    daemon.sessions.calls.clear()
    return daemon


def exchanging(*clients: str) -> Daemons:
    """The first daemon, waiting for the second one's state."""
    daemon = alone(*clients)
    daemon.groups.on_transitional((D1,), MembershipId(D1, 19))
    daemon.groups.on_regular((D1, D2), MembershipId(D1, 20))
    assert daemon.groups.state is GroupsState.GGATHER
    daemon.groups.on_message(daemon.ordering.take()[0])
    return daemon


def state_of_d2(time: int = 20) -> bytes:
    return GroupsMessage(b"d2", 1, MembershipId(D1, time), (D2,), (), True).encode()


def in_state(state: GroupsState, *clients: str) -> Daemons:
    if state in (GroupsState.GOP, GroupsState.GTRANS):
        daemon = alone(*clients)
        if state is GroupsState.GTRANS:
            daemon.groups.on_transitional((D1,), MembershipId(D1, 19))
    else:
        daemon = exchanging(*clients)
        if state is GroupsState.GGT:
            daemon.groups.on_transitional((D1,), MembershipId(D1, 29))
    assert daemon.groups.state is state
    return daemon


# -- the table -------------------------------------------------------------------


def test_every_event_has_a_step_in_every_state() -> None:
    expected = {(state, event) for state in GroupsState for event in Event}
    expected -= {
        (GroupsState.GOP, Event.GROUPS_COMPLETE),
        (GroupsState.GTRANS, Event.GROUPS_COMPLETE),
    }
    assert set(TRANSITIONS) == expected


@pytest.mark.parametrize("state", GroupsState)
def test_states_have_the_numbers_of_the_status_report(state: GroupsState) -> None:
    assert (
        in_state(state).groups.state.value
        == ["GOP", "GTRANS", "GGATHER", "GGT"].index(state.name) + 1
    )


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_membership_signals_out_of_order_are_a_fault_of_the_ring(
    state: GroupsState, event: Event
) -> None:
    signals = {
        Event.TRANSITIONAL: lambda d: d.groups.on_transitional((D1,), MembershipId(D1, 40)),
        Event.REGULAR_SMALLER: lambda d: d.groups.on_regular((D1,), MembershipId(D1, 40)),
        Event.REGULAR_LARGER: lambda d: d.groups.on_regular((D1, D2), MembershipId(D1, 40)),
    }
    if event not in signals:
        return
    daemon = in_state(state)
    step = TRANSITIONS[state, event]
    if step.action is Action.BROKEN:
        with pytest.raises(RingOutOfOrder):
            signals[event](daemon)
    else:
        signals[event](daemon)
    assert daemon.groups.state is step.next_state


# -- the neighbours ----------------------------------------------------------------


def test_the_first_membership_leads_back_to_operational() -> None:
    daemon = daemon_of(CONFIGURATION, "d1")
    assert daemon.groups.state is GroupsState.GOP
    daemon.membership(10, [D1])
    assert daemon.groups.state is GroupsState.GOP
    assert daemon.sessions.calls == ["threshold none"]


def test_an_exchange_holds_clients_then_switches_queue_then_threshold_then_sends() -> None:
    daemon = alone()
    daemon.membership(20, [D1, D2], [D1])
    assert daemon.sessions.calls == ["block", "queue groups", "threshold agreed", "submit groups"]


def test_the_end_of_an_exchange_releases_in_order() -> None:
    daemon = exchanging()
    daemon.sessions.calls.clear()
    daemon.groups.on_message(state_of_d2())
    assert daemon.groups.state is GroupsState.GOP
    assert daemon.sessions.calls == ["queue normal", "unblock", "threshold none"]


def test_an_interrupted_exchange_keeps_queue_and_threshold_and_sends_again() -> None:
    daemon = exchanging()
    daemon.sessions.calls.clear()
    daemon.membership(30, [D1, D2], [D1])
    assert daemon.groups.state is GroupsState.GGATHER
    assert daemon.sessions.calls == ["submit groups"]
    assert daemon.ordering.queue is DownQueue.GROUPS
    assert daemon.ordering.threshold is DeliveryThreshold.AGREED


def test_even_a_subtractive_membership_restarts_an_interrupted_exchange() -> None:
    daemon = exchanging()
    daemon.membership(30, [D1])
    assert daemon.groups.state is GroupsState.GGATHER
    sent = GroupsMessage.decode(daemon.ordering.take()[0])
    assert (sent.synced_set, sent.memb_id) == ((D1,), MembershipId(D1, 30))


def test_only_the_first_of_the_synced_set_speaks() -> None:
    daemon = daemon_of(CONFIGURATION, "d2")
    daemon.membership(10, [D2])
    daemon.membership(20, [D1, D2], [D2])
    assert len(daemon.ordering.take()) == 1
    daemon.groups.on_message(
        GroupsMessage(b"d1", 1, MembershipId(D1, 20), (D1,), (), True).encode()
    )
    daemon.groups.on_message(state_of_d2())
    assert daemon.groups.synced_set == (D1, D2)
    daemon.membership(30, [D1, D2, D3], [D1, D2])
    assert daemon.ordering.take() == []


def test_a_subtractive_change_sends_nothing_and_blocks_nobody() -> None:
    ring = Ring(CONFIGURATION)
    ring.change([["d1", "d2", "d3"]])
    ring.settle()
    daemon = ring.members["d1"]
    daemon.sessions.calls.clear()
    ring.change([["d1", "d2"], ["d3"]])
    assert daemon.sessions.calls == []
    assert daemon.ordering.take() == []
    assert daemon.ordering.threshold is DeliveryThreshold.NONE


# -- joins, leaves, kills ------------------------------------------------------------


def test_members_are_listed_by_daemon_then_name_and_never_by_time() -> None:
    daemon = alone("#zz#d1", "#aa#d1")
    for who in ("#zz#d1", "#aa#d1", "#mid#d2", "#BIG#d2", "#aa#d3"):
        daemon.join(who, "g")
    session = daemon.sessions.sessions[b"#zz#d1"]
    assert members(session.frames[-1]) == [
        b"#aa#d1",
        b"#zz#d1",
        b"#BIG#d2",
        b"#mid#d2",
        b"#aa#d3",
    ]
    assert daemon.groups.members(b"g") == members(session.frames[-1])


def test_the_index_counts_events_and_starts_again_with_the_group() -> None:
    daemon = alone("#a#d1", "#b#d1")
    session = daemon.sessions.sessions[b"#a#d1"]
    daemon.join("#a#d1", "g")
    daemon.join("#b#d1", "g")
    daemon.join("#b#d1", "g")
    daemon.leave("#c#d1", "g")
    daemon.leave("#b#d1", "g")
    daemon.leave("#b#d1", "g")
    assert [body(frame).group_id.index for frame in session.frames] == [1, 2, 3]
    daemon.leave("#a#d1", "g")
    assert daemon.groups.count == 0
    daemon.join("#a#d1", "g")
    assert body(session.frames[-1]).group_id == GroupId(D1, 10, 1)


def test_the_leaver_gets_a_bare_header_and_the_others_a_leave_message() -> None:
    daemon = alone("#a#d1", "#b#d1")
    a, b = daemon.sessions.sessions.values()
    daemon.join("#a#d1", "g")
    daemon.join("#b#d1", "g")
    daemon.leave("#a#d1", "g")
    assert kinds(a) == [JOINED, JOINED, SELF_LEAVE]
    assert kinds(b) == [JOINED, LEFT]
    assert len(a.frames[-1]) == 48
    assert body(b.frames[-1]).vs_sets == ((b"#a#d1",),)


def test_a_kill_leaves_all_groups_in_name_order_and_frees_the_name() -> None:
    daemon = alone("#a#d1", "#b#d1")
    for name in ("c", "a", "b"):
        daemon.join("#a#d1", name)
        daemon.join("#b#d1", name)
    daemon.join("#a#d1", "only")
    b = daemon.sessions.sessions[b"#b#d1"]
    b.frames.clear()
    daemon.kill("#a#d1")
    assert [MessageHeader.decode(frame).sender for frame in b.frames] == [b"a", b"b", b"c"]
    assert kinds(b) == [DISCONNECTED] * 3
    assert daemon.sessions.gone == [b"#a#d1"]
    assert daemon.groups.group_names() == [b"a", b"b", b"c"]


def test_a_kill_of_nobodys_member_still_frees_the_name() -> None:
    daemon = alone("#a#d1")
    daemon.kill("#a#d1")
    assert daemon.sessions.gone == [b"#a#d1"]


def test_sessions_without_membership_messages_are_members_and_hear_nothing() -> None:
    daemon = alone("#a#d1")
    quiet = daemon.sessions.add(b"#q#d1", wants_membership=False)
    daemon.join("#q#d1", "g")
    daemon.join("#a#d1", "g")
    daemon.leave("#q#d1", "g")
    assert quiet.frames == []
    a = daemon.sessions.sessions[b"#a#d1"]
    assert [members(frame) for frame in a.frames] == [[b"#a#d1", b"#q#d1"], [b"#a#d1"]]


def test_a_membership_message_is_built_once_for_all_its_receivers() -> None:
    daemon = alone("#a#d1", "#b#d1", "#c#d1")
    for who in ("#a#d1", "#b#d1", "#c#d1"):
        daemon.join(who, "g")
    last = [session.frames[-1] for session in daemon.sessions.sessions.values()]
    assert last[0] is last[1] is last[2]


# -- transitional period ---------------------------------------------------------------


def split_group() -> Daemons:
    """The group g has members on all three daemons and has just lost the third."""
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1", "#n#d1"])
    ring_of_three(daemon)
    for who in ("#a#d1", "#b#d2", "#c#d3"):
        daemon.join(who, "g")
    daemon.groups.on_transitional((D1, D2), MembershipId(D1, 29))
    return daemon


def ring_of_three(daemon: Daemons) -> None:
    daemon.membership(10, [D1])
    daemon.membership(20, [D1, D2, D3], [D1])
    own, *_ = daemon.ordering.take()
    daemon.groups.on_message(own)
    for name, number in ((b"d2", D2), (b"d3", D3)):
        message = GroupsMessage(name, 1, MembershipId(D1, 20), (number,), (), True)
        daemon.groups.on_message(message.encode())
    assert daemon.groups.state is GroupsState.GOP


def test_lost_daemons_are_announced_with_the_old_id() -> None:
    daemon = split_group()
    a = daemon.sessions.sessions[b"#a#d1"]
    assert kinds(a)[-1] == TRANSITION
    assert a.frames[-1][48:] == a.frames[-2][48 + 3 * 32 :][:12]
    assert daemon.groups.synced_set == (D1, D2)


def test_a_joiner_of_a_changed_group_is_alone_in_the_last_set() -> None:
    daemon = split_group()
    daemon.join("#n#d1", "g")
    a, n = daemon.sessions.sessions.values()
    assert kinds(n) == [NETWORK, TRANSITION]
    assert kinds(a)[-2:] == [NETWORK, TRANSITION]
    expected = ((b"#a#d1", b"#b#d2"), (b"#c#d3",), (b"#n#d1",))
    assert body(a.frames[-2]).vs_sets == body(n.frames[0]).vs_sets == expected
    assert body(a.frames[-2]).group_id == GroupId(D1, 29, 2)
    assert (body(a.frames[-2]).local_vs_set_offset, body(n.frames[0]).local_vs_set_offset) == (
        0,
        4 + 64 + 4 + 32,
    )


def test_a_joiner_that_is_alone_on_its_daemon_leaves_an_empty_set() -> None:
    daemon = daemon_of(CONFIGURATION, "d1", ["#n#d1"])
    ring_of_three(daemon)
    daemon.join("#b#d2", "g")
    daemon.join("#c#d3", "g")
    daemon.groups.on_transitional((D1,), MembershipId(D1, 29))
    daemon.join("#n#d1", "g")
    (network, transition) = daemon.sessions.sessions[b"#n#d1"].frames
    assert body(network).vs_sets == ((), (b"#b#d2",), (b"#c#d3",), (b"#n#d1",))
    assert body(network).local_vs_set_offset == 4 + 36 + 36
    assert MessageHeader.decode(transition).type & TRANSITION


def test_a_partitioned_joiner_makes_a_group_changed() -> None:
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1"])
    ring_of_three(daemon)
    daemon.join("#a#d1", "g")
    daemon.groups.on_transitional((D1, D2), MembershipId(D1, 29))
    a = daemon.sessions.sessions[b"#a#d1"]
    assert kinds(a) == [JOINED]
    daemon.join("#x#d3", "g")
    assert kinds(a) == [JOINED, NETWORK, TRANSITION]
    assert body(a.frames[1]).vs_sets == ((b"#a#d1",), (), (b"#x#d3",))
    assert body(a.frames[1]).group_id == GroupId(D1, 20, 2)
    daemon.groups.on_regular((D1, D2), MembershipId(D1, 30))
    assert members(a.frames[-1]) == [b"#a#d1"]
    assert body(a.frames[-1]).group_id == GroupId(D1, 30, 1)


def test_leaves_and_kills_in_a_changed_group_are_network_changes() -> None:
    daemon = split_group()
    a = daemon.sessions.sessions[b"#a#d1"]
    a.frames.clear()
    daemon.join("#n#d1", "g")
    daemon.leave("#n#d1", "g")
    daemon.kill("#b#d2")
    assert kinds(a) == [NETWORK, TRANSITION] * 3
    assert kinds(daemon.sessions.sessions[b"#n#d1"]) == [NETWORK, TRANSITION, SELF_LEAVE]
    assert body(a.frames[-2]).vs_sets == ((b"#a#d1",), (b"#c#d3",))
    assert body(a.frames[-2]).group_id.index == 4


def test_a_group_created_in_the_transitional_period_has_the_transitional_id() -> None:
    daemon = split_group()
    daemon.join("#n#d1", "new")
    daemon.groups.on_regular((D1, D2), MembershipId(D1, 30))
    daemon.join("#a#d1", "new")
    n = daemon.sessions.sessions[b"#n#d1"]
    assert kinds(n) == [JOINED, JOINED]
    assert [body(frame).group_id for frame in n.frames] == [GroupId(D1, 29, 1), GroupId(D1, 29, 2)]


def test_groups_that_lose_nobody_hear_nothing_and_keep_their_id() -> None:
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1"])
    ring_of_three(daemon)
    daemon.join("#a#d1", "g")
    daemon.membership(30, [D1])
    daemon.join("#b#d1", "g")
    a = daemon.sessions.sessions[b"#a#d1"]
    assert kinds(a) == [JOINED, JOINED]
    assert body(a.frames[-1]).group_id == GroupId(D1, 20, 2)


def test_groups_without_local_members_are_renewed_as_well() -> None:
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1"])
    ring_of_three(daemon)
    daemon.join("#b#d2", "g")
    daemon.join("#c#d3", "g")
    daemon.membership(30, [D1, D2])
    daemon.join("#a#d1", "g")
    (frame,) = daemon.sessions.sessions[b"#a#d1"].frames
    assert body(frame).group_id == GroupId(D1, 30, 2)


def test_a_group_whose_members_are_all_lost_is_gone() -> None:
    daemon = daemon_of(CONFIGURATION, "d1")
    ring_of_three(daemon)
    daemon.join("#c#d3", "g")
    daemon.membership(30, [D1, D2])
    assert daemon.groups.count == 0


def test_an_exchange_that_completes_after_the_signal_is_followed_by_the_losses() -> None:
    daemon = exchanging("#a#d1")
    daemon.groups.on_transitional((D1,), MembershipId(D1, 29))
    message = GroupsMessage.decode(state_of_d2())
    daemon.sessions.calls.clear()
    daemon.groups.on_message(message.encode())
    assert daemon.groups.state is GroupsState.GTRANS
    assert daemon.sessions.calls == ["queue normal", "unblock", "threshold none"]
    assert daemon.groups.synced_set == (D1,)
    daemon.groups.on_regular((D1,), MembershipId(D1, 30))
    assert daemon.groups.state is GroupsState.GOP


# -- what may not come ---------------------------------------------------------------


EXCHANGE_STATES = [GroupsState.GGATHER, GroupsState.GGT]


@pytest.mark.parametrize("state", EXCHANGE_STATES)
@pytest.mark.parametrize(
    "message",
    [join("#x#d2", "g"), leave("#x#d2", "g"), kill("#x#d2")],
    ids=["join", "leave", "kill"],
)
def test_requests_during_an_exchange_are_dropped_and_a_new_membership_asked_for(
    state: GroupsState, message: bytes
) -> None:
    daemon = in_state(state, "#a#d1")
    daemon.groups.on_message(message)
    assert daemon.groups.state is state
    assert daemon.groups.count == 0
    assert len(daemon.reforms) == 1


def test_a_kill_of_an_own_session_that_was_dropped_is_ordered_again() -> None:
    daemon = exchanging("#a#d1")
    daemon.kill("#a#d1")
    daemon.kill("#x#d2")
    assert len(daemon.reforms) == 2
    assert daemon.sessions.gone == []
    daemon.groups.on_message(state_of_d2())
    (again,) = daemon.ordering.take()
    header = MessageHeader.decode(again)
    assert header.sender == b"#a#d1"
    assert header.type == 0x800400A0
    daemon.groups.on_message(again)
    assert daemon.sessions.gone == [b"#a#d1"]


@pytest.mark.parametrize("state", EXCHANGE_STATES)
def test_messages_to_a_group_during_an_exchange_reach_nobody(state: GroupsState) -> None:
    daemon = alone("#a#d1")
    daemon.join("#a#d1", "g")
    daemon.groups.on_transitional((D1,), MembershipId(D1, 19))
    daemon.groups.on_regular((D1, D2), MembershipId(D1, 20))
    if state is GroupsState.GGT:
        daemon.groups.on_transitional((D1,), MembershipId(D1, 29))
    a = daemon.sessions.sessions[b"#a#d1"]
    a.frames.clear()
    daemon.groups.on_message(data("#x#d2", ["g"]))
    daemon.groups.on_message(data("#x#d2", ["none", "#a#d1", "g"]))
    assert a.frames == []
    assert daemon.groups.dropped == {"message during exchange": 2}
    daemon.groups.on_message(data("#x#d2", ["#a#d1"]))
    daemon.groups.on_message(data("#a#d1", ["#a#d1"], kind=AGREED | ServiceType.SELF_DISCARD))
    assert len(a.frames) == 1
    assert daemon.groups.messages_delivered == 2


@pytest.mark.parametrize("state", [GroupsState.GOP, GroupsState.GTRANS])
def test_groups_messages_out_of_turn_are_ignored(state: GroupsState) -> None:
    daemon = in_state(state)
    daemon.groups.on_message(state_of_d2())
    assert daemon.groups.state is state
    assert daemon.groups.dropped == {"GROUPS out of turn": 1}
    assert daemon.reforms == []


def test_a_refused_groups_message_is_not_counted_and_a_new_membership_asked_for() -> None:
    daemon = exchanging()
    bad = GroupsMessage(b"d2", 2, MembershipId(D1, 20), (D1, D2), (), True).encode()
    daemon.groups.on_message(bad)
    assert daemon.groups.state is GroupsState.GGATHER
    assert len(daemon.reforms) == 1
    daemon.groups.on_message(state_of_d2())
    assert daemon.groups.state is GroupsState.GOP


def test_stale_and_unknown_groups_messages_are_ignored() -> None:
    daemon = exchanging()
    daemon.groups.on_message(state_of_d2(time=19))
    daemon.groups.on_message(
        GroupsMessage(b"d9", 1, MembershipId(D1, 20), (D2,), (), True).encode()
    )
    assert daemon.groups.state is GroupsState.GGATHER
    assert daemon.reforms == []


# -- reload ----------------------------------------------------------------------------


def test_a_reload_sorts_daemons_by_the_new_configuration() -> None:
    daemon = alone("#a#d1")
    for who in ("#a#d1", "#b#d2", "#c#d3"):
        daemon.join(who, "g")
    daemon.groups.reload(configuration_of({"d3": "127.0.2.1", "d1": "127.0.0.1"}))
    assert daemon.groups.members(b"g") == [b"#c#d3", b"#a#d1", b"#b#d2"]
    daemon.join("#e#d2", "g")
    assert daemon.groups.dropped == {"unknown daemon": 1}


def test_a_reload_during_an_exchange_takes_the_new_names() -> None:
    daemon = exchanging()
    daemon.groups.reload(configuration_of({"d1": "127.0.0.1", "other": "127.0.1.1"}))
    daemon.groups.on_message(state_of_d2())
    assert daemon.groups.state is GroupsState.GGATHER
    message = GroupsMessage(b"other", 1, MembershipId(D1, 20), (D2,), (), True)
    daemon.groups.on_message(message.encode())
    assert daemon.groups.state is GroupsState.GOP


def test_kill_by_its_name_only() -> None:
    """The group array of a KILL is not read, nor needed."""
    daemon = alone("#a#d1", "#b#d1")
    daemon.join("#a#d1", "g")
    daemon.groups.on_message(kill("#a#d1")[:48])
    assert daemon.groups.count == 0
