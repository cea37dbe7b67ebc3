"""Who gets a regular message, and what is done with messages nobody may send."""

from __future__ import annotations

import pytest
from groups_harness import (
    AGREED,
    SELF_DISCARD,
    Daemons,
    FakeSession,
    configuration_of,
    daemon_of,
    data,
    join,
    kill,
    leave,
)

from txspread.engine.alarms import Priority
from txspread.engine.groups import GroupsState
from txspread.wire.constants import (
    ENDIAN_MARKER,
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MAX_GROUP_MEMBERS,
    ServiceType,
)
from txspread.wire.message import HEADER_LE, MessageHeader, encode_message, name_field

CONFIGURATION = configuration_of({"d1": "127.0.0.1", "d2": "127.0.1.1"})
D1, D2 = (daemon.id for daemon in CONFIGURATION.daemons)
REJECT_MESS = int(ServiceType.REJECT_MESS)


@pytest.fixture
def daemon() -> Daemons:
    """Clients a, b in g1; a in g2; c in none; all hear."""
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1", "#b#d1", "#c#d1"])
    daemon.membership(10, [D1])
    for who, group in (("#a#d1", "g1"), ("#b#d1", "g1"), ("#a#d1", "g2")):
        daemon.join(who, group)
    for session in daemon.sessions.sessions.values():
        session.frames.clear()
    return daemon


def receivers(daemon: Daemons, message: bytes) -> list[str]:
    """Sessions that get a message, as often as they get it."""
    before = {session: len(session.frames) for session in daemon.sessions.sessions.values()}
    daemon.groups.on_message(message)
    found: list[str] = []
    for session, count in before.items():
        name = session.private_group.decode().split("#")[1]
        found.extend([name] * (len(session.frames) - count))
    return found


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["g1"], ["a", "b"]),
        (["g1", "g2"], ["a", "b"]),
        (["g1", "g1"], ["a", "b"]),
        (["g2"], ["a"]),
        (["nobody"], []),
        (["G1"], []),
        ([], []),
        (["#c#d1"], ["c"]),
        (["g1", "#a#d1", "#c#d1"], ["a", "b", "c"]),
        (["#a#d2"], []),
        (["#nobody#d1"], []),
        (["#a"], []),
        (["#a#D1"], []),
        (["##d1"], []),
        (["g" * 32], []),
        (["none"] * 99 + ["g2"], ["a"]),
    ],
)
def test_each_recipient_gets_one_copy(
    daemon: Daemons, groups: list[str], expected: list[str]
) -> None:
    # A second time the answer comes from what the first one left behind.
    for _ in range(2):
        assert receivers(daemon, data("#x#d2", groups)) == expected


@pytest.mark.parametrize(
    ("sender", "groups", "expected"),
    [
        ("#a#d1", ["g1"], ["b"]),
        ("#a#d1", ["g1", "g2"], ["b"]),
        ("#a#d1", ["#a#d1"], []),
        ("#c#d1", ["g1"], ["a", "b"]),
        ("#a#d2", ["g1"], ["a", "b"]),
        ("nonsense", ["g1"], ["a", "b"]),
    ],
)
def test_self_discard_takes_out_the_sending_session_only(
    daemon: Daemons, sender: str, groups: list[str], expected: list[str]
) -> None:
    assert receivers(daemon, data(sender, groups, kind=AGREED | SELF_DISCARD)) == expected


def test_the_very_object_is_passed_on(daemon: Daemons) -> None:
    message = data("#x#d2", ["g1"], kind=int(ServiceType.SAFE_MESS) | 0x41000000)
    daemon.groups.on_message(message)
    assert daemon.sessions.sessions[b"#a#d1"].frames[-1] is message


def test_a_big_endian_header_is_turned_and_the_hint_left_alone(daemon: Daemons) -> None:
    message = encode_message(AGREED, b"#x#d2", [b"g1"], b"body", mess_type=0x1234, byteorder=">")
    daemon.groups.on_message(message)
    (frame,) = daemon.sessions.sessions[b"#a#d1"].frames
    header = MessageHeader.decode(frame)
    assert header.type == AGREED | ENDIAN_MARKER
    assert (header.num_groups, header.data_len, header.mess_type) == (1, 4, 0x1234)
    assert frame[40:44] == message[40:44]
    assert frame[48:] == message[48:]


@pytest.mark.parametrize("service", [1, 2, 4, 8, 0x10, 0x20, 0x11, 0, 0x1110, 0x2010, 0x4010])
def test_any_message_that_is_no_request_is_delivered(daemon: Daemons, service: int) -> None:
    """Also with membership bits or without a service bit: a peer's clients may send them."""
    assert receivers(daemon, data("#x#d2", ["g1"], kind=service)) == ["a", "b"]


def test_bytes_behind_the_nul_of_a_name_are_ignored_and_passed_on(daemon: Daemons) -> None:
    for field, expected in (
        (b"g1\0garbage".ljust(32, b"x"), ["a", "b"]),
        (b"#c#d1\0garbage".ljust(32, b"x"), ["c"]),
    ):
        plain = data("#x#d2", ["g1"])
        message = plain[:48] + field + plain[80:]
        assert receivers(daemon, message) == expected
        session = daemon.sessions.sessions[b"#a#d1" if "a" in expected else b"#c#d1"]
        assert session.frames[-1] is message


def test_a_group_that_looks_like_a_private_one_gets_no_data(daemon: Daemons) -> None:
    daemon.join("#b#d1", "#c#d1")
    daemon.join("#b#d1", "#odd")
    assert receivers(daemon, data("#x#d2", ["#c#d1"])) == ["c"]
    assert receivers(daemon, data("#x#d2", ["#odd", "#odd"])) == []


def test_odd_group_names_can_be_joined_and_get_data(daemon: Daemons) -> None:
    for name in (b"", b"two words", b"\x01\xff", b"n" * 32):
        daemon.join("#c#d1", name)
        assert receivers(daemon, data("#x#d2", [name])) == ["c"]
        assert receivers(daemon, data("#x#d2", [name, b"none"])) == ["c"]


def test_receivers_follow_every_change(daemon: Daemons) -> None:
    to_one, to_two = data("#x#d2", ["g1"]), data("#x#d2", ["g1", "g2"])
    assert receivers(daemon, to_one) == receivers(daemon, to_two) == ["a", "b"]
    daemon.groups.on_message(join("#c#d1", "g1"))
    daemon.sessions.sessions[b"#c#d1"].frames.clear()
    assert receivers(daemon, to_one) == receivers(daemon, to_two) == ["a", "b", "c"]
    daemon.groups.on_message(leave("#a#d1", "g1"))
    assert receivers(daemon, to_one) == ["b", "c"]
    assert receivers(daemon, to_two) == ["a", "b", "c"]
    daemon.groups.on_message(kill("#b#d1"))
    daemon.groups.on_message(kill("#c#d1"))
    assert receivers(daemon, to_one) == []
    assert receivers(daemon, to_two) == ["a"]
    daemon.sessions.add(b"#b#d1")
    assert receivers(daemon, data("#x#d2", ["#b#d1", "g2"])) == ["a", "b"]
    assert receivers(daemon, to_one) == []


def test_a_private_group_follows_its_session(daemon: Daemons) -> None:
    message = data("#x#d2", ["#new#d1"])
    assert receivers(daemon, message) == []
    daemon.sessions.add(b"#new#d1")
    assert receivers(daemon, message) == ["new"]
    daemon.groups.on_message(kill("#new#d1"))
    assert receivers(daemon, message) == []


def test_what_is_kept_for_routing_is_bounded(daemon: Daemons) -> None:
    router = daemon.groups._router
    for number in range(5000):
        receivers(daemon, data("#x#d2", ["g1", f"none{number}"]))
        assert len(router._table.fan_out_of_lists) <= 1024
    assert receivers(daemon, data("#x#d2", ["g1", "none7"])) == ["a", "b"]


def test_regular_messages_are_counted_with_receivers_or_without(daemon: Daemons) -> None:
    for groups in (["g1"], ["none"], [], ["g1", "g2"], ["#c#d1"]):
        daemon.groups.on_message(data("#x#d2", groups))
    assert daemon.groups.messages_delivered == 5


# -- malformed and forged -----------------------------------------------------------


def header(kind: int, num_groups: int, data_len: int, sender: bytes = b"#x#d2") -> bytes:
    return HEADER_LE.pack(
        kind | ENDIAN_MARKER, name_field(sender), num_groups, ENDIAN_MARKER, data_len
    )


G1 = name_field(b"g1")
MALFORMED = {
    "empty": (b"", "short message"),
    "47 bytes": (data("#x#d2", [])[:47], "short message"),
    "body shorter than it says": (data("#x#d2", ["g1"])[:-1], "wrong length"),
    "body longer than it says": (data("#x#d2", ["g1"]) + b"!", "wrong length"),
    "groups missing": (header(AGREED, 3, 0) + G1, "wrong length"),
    "negative groups": (header(AGREED, -1, 32) + G1, "wrong length"),
    "too many groups": (header(AGREED, 101, 0) + G1 * 101, "wrong length"),
    "negative length": (header(AGREED, 1, -16) + G1[:16], "wrong length"),
    "negative length, all there": (header(AGREED, 2, -32) + G1, "wrong length"),
    "half a marker": (b"\x80\0\0\0" + data("#x#d2", ["g1"])[4:], "malformed"),
    "reject": (data("#a#d1", ["g1"], kind=AGREED | REJECT_MESS), "reject"),
    "join and reject": (data("#x#d2", ["g1"], kind=JOIN_MESS | REJECT_MESS), "reject"),
    "groups with a service bit": (
        data("#x#d2", ["g1"], kind=GROUPS_MESS | 4),
        "GROUPS out of turn",
    ),
    "join without a group": (header(JOIN_MESS, 0, 0), "no group"),
    "join with half a group": (header(JOIN_MESS, 1, 0) + G1[:31], "no group"),
    "leave without a group": (header(LEAVE_MESS, 0, 0), "no group"),
    "join of a malformed name": (encode_message(JOIN_MESS, b"nobody", [b"g1"]), "illegal name"),
    "leave of a malformed name": (encode_message(LEAVE_MESS, b"#a", [b"g1"]), "illegal name"),
    "kill of a malformed name": (encode_message(KILL_MESS, b"#a#" + b"d" * 29, []), "illegal name"),
    "join at an unknown daemon": (join("#a#d9", "g1"), "unknown daemon"),
    "leave at an unknown daemon": (leave("#a#d9", "g1"), "unknown daemon"),
    "kill at an unknown daemon": (kill("#a#d9"), "unknown daemon"),
}


@pytest.mark.parametrize(("message", "cause"), MALFORMED.values(), ids=MALFORMED)
def test_what_no_daemon_may_send_is_dropped_and_counted(
    daemon: Daemons, message: bytes, cause: str
) -> None:
    assert receivers(daemon, message) == []
    assert daemon.groups.dropped == {cause: 1}
    assert daemon.groups.state is GroupsState.GOP
    assert daemon.groups.members(b"g1") == [b"#a#d1", b"#b#d1"]
    assert daemon.ordering.take() == []


def test_a_flood_of_bad_messages_is_logged_ever_more_rarely(daemon: Daemons) -> None:
    daemon.alarms.lines.clear()
    for _ in range(1000):
        daemon.groups.on_message(b"short")
    assert daemon.groups.dropped == {"short message": 1000}
    assert len(daemon.alarms.at_least(Priority.ERROR)) == 10


def test_further_names_and_a_body_of_a_join_are_ignored(daemon: Daemons) -> None:
    daemon.groups.on_message(encode_message(JOIN_MESS, b"#x#d2", [b"one", b"two"], b"body"))
    assert b"one" in daemon.groups.group_names()
    assert b"two" not in daemon.groups.group_names()


def test_a_join_with_its_name_in_the_body_acts_as_at_every_other_daemon(daemon: Daemons) -> None:
    daemon.groups.on_message(header(JOIN_MESS, 0, 32) + name_field(b"body"))
    assert daemon.groups.members(b"body") == [b"#x#d2"]


def test_a_join_that_no_session_here_sent_is_taken_back_for_all(daemon: Daemons) -> None:
    daemon.join("#ghost#d1", "g1")
    assert daemon.groups.members(b"g1") == [b"#a#d1", b"#b#d1", b"#ghost#d1"]
    (taken_back,) = daemon.ordering.take()
    assert MessageHeader.decode(taken_back).type == 0x800400A0
    daemon.groups.on_message(taken_back)
    assert daemon.groups.members(b"g1") == [b"#a#d1", b"#b#d1"]


def test_requests_for_a_session_that_is_gone_keep_the_replica_equal(daemon: Daemons) -> None:
    del daemon.sessions.sessions[b"#a#d1"]
    daemon.leave("#a#d1", "g2")
    assert daemon.groups.members(b"g2") == []
    daemon.kill("#a#d1")
    assert daemon.groups.members(b"g1") == [b"#b#d1"]


# -- limits ---------------------------------------------------------------------------


def test_joins_above_the_limit_are_not_admitted() -> None:
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1"])
    daemon.membership(10, [D1])
    for number in range(MAX_GROUP_MEMBERS - 1):
        daemon.join(f"#{number}#d2", "g")
    assert daemon.groups.admit_join(b"g")
    # The admitted one is still on its way.
    assert not daemon.groups.admit_join(b"g")
    assert daemon.groups.admit_join(b"other")
    daemon.join("#a#d1", "g")
    assert not daemon.groups.admit_join(b"g")
    daemon.leave("#a#d1", "g")
    assert daemon.groups.admit_join(b"g")


def test_admitted_joins_that_are_ignored_or_dropped_count_no_longer() -> None:
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1"])
    daemon.membership(10, [D1])
    for _ in range(3):
        assert daemon.groups.admit_join(b"g")
        daemon.join("#a#d1", "g")
    daemon.membership(20, [D1, D2], [D1])
    assert daemon.groups.admit_join(b"g")
    daemon.join("#a#d1", "g")
    assert daemon.groups._pending_joins == {}


def test_a_group_beyond_all_limits_is_still_told_and_exchanged() -> None:
    """Peers' clients can do it; upstream's daemons abort, this one goes on."""
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1"])
    daemon.membership(10, [D1])
    daemon.join("#a#d1", "g")
    for number in range(3200):
        daemon.join(f"#{number}#d2", "g")
    assert len(daemon.groups.members(b"g")) == 3121
    assert daemon.groups.dropped == {"full group": 80}
    session: FakeSession = daemon.sessions.sessions[b"#a#d1"]
    assert MessageHeader.decode(session.frames[-1]).num_groups == 3121
    daemon.membership(20, [D1, D2], [D1])
    assert daemon.ordering.queued() >= 1
