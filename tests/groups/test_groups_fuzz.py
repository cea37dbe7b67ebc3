"""Any bytes in any state: nothing escapes, and what was there stays as it was."""

from __future__ import annotations

import struct

import pytest
from groups_harness import AGREED, Daemons, configuration_of, daemon_of, data, join, kill, leave
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from txspread.engine.groups import GroupsState
from txspread.engine.interfaces import DeliveryThreshold
from txspread.wire.constants import ENDIAN_MARKER
from txspread.wire.groups import DaemonEntry, GroupEntry, GroupsMessage
from txspread.wire.identifiers import GroupId, MembershipId

CONFIGURATION = configuration_of({"d1": "127.0.0.1", "d2": "127.0.1.1", "d3": "127.0.2.1"})
D1, D2, D3 = (daemon.id for daemon in CONFIGURATION.daemons)
REGULAR = MembershipId(D1, 20)

LIMITS = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def in_state(state: GroupsState) -> Daemons:
    daemon = daemon_of(CONFIGURATION, "d1", ["#a#d1", "#b#d1"])
    daemon.membership(10, [D1])
    for who, group in (("#a#d1", "g"), ("#b#d1", "g"), ("#a#d1", "h")):
        daemon.join(who, group)
    if state is not GroupsState.GOP:
        daemon.groups.on_transitional((D1,), MembershipId(D1, 19))
    if state in (GroupsState.GGATHER, GroupsState.GGT):
        daemon.groups.on_regular((D1, D2, D3), REGULAR)
        daemon.groups.on_message(daemon.ordering.take()[0])
    if state is GroupsState.GGT:
        daemon.groups.on_transitional((D1,), MembershipId(D1, 29))
    assert daemon.groups.state is state
    return daemon


def state_message(name: bytes = b"d2", number: int = D2) -> bytes:
    entries = tuple(
        GroupEntry(
            group,
            GroupId(number, 15, 3),
            False,
            (DaemonEntry(number, MembershipId(number, 15), (b"#x#" + name, b"#y#" + name)),),
        )
        for group in (b"g", b"k")
    )
    return GroupsMessage(name, 1, REGULAR, (number,), entries, True).encode()


SAMPLES = [
    join("#x#d2", "g"),
    join("#a#d1", "h"),
    leave("#a#d1", "g"),
    kill("#b#d1"),
    data("#x#d2", ["g", "#a#d1"]),
    data("#a#d1", ["g"], kind=AGREED | 0x40),
    state_message(),
    state_message(b"d3", D3),
]


def check_whole(daemon: Daemons) -> None:
    """The replica is consistent, and works on."""
    table = daemon.groups._table
    for group in table.in_order():
        assert group.count == sum(len(record.names) for record in group.ordered)
        assert group.count > 0
        for record in group.ordered:
            assert record.names == sorted(set(record.names))
            assert len(record.fields) == 32 * len(record.names)
    calm = {
        GroupsState.GOP: lambda: daemon.groups.on_transitional((D1,), MembershipId(D1, 39)),
        GroupsState.GGATHER: lambda: daemon.groups.on_transitional((D1,), MembershipId(D1, 39)),
    }
    calm.get(daemon.groups.state, lambda: None)()
    daemon.groups.on_regular((D1,), MembershipId(D1, 40))
    if daemon.groups.state is GroupsState.GGATHER:
        daemon.groups.on_message(
            GroupsMessage(b"d1", 1, MembershipId(D1, 40), (D1,), (), True).encode()
        )
    assert daemon.groups.state is GroupsState.GOP
    assert daemon.ordering.threshold is DeliveryThreshold.NONE
    daemon.sessions.add(b"#new#d1")
    daemon.join("#new#d1", "after")
    assert daemon.groups.members(b"after") == [b"#new#d1"]


@pytest.mark.parametrize("state", GroupsState)
@given(messages=st.lists(st.binary(max_size=200), max_size=5))
@LIMITS
def test_random_bytes_never_raise(state: GroupsState, messages: list[bytes]) -> None:
    daemon = in_state(state)
    for message in messages:
        daemon.groups.on_message(message)
    check_whole(daemon)


@pytest.mark.parametrize("state", GroupsState)
@given(
    kind=st.integers(0, 2**32 - 1),
    marked=st.booleans(),
    sender=st.one_of(st.sampled_from([b"#a#d1", b"#x#d2", b"d2", b"d9"]), st.binary(max_size=32)),
    num_groups=st.one_of(st.integers(-2, 102), st.integers(-(2**31), 2**31 - 1)),
    data_len=st.one_of(st.integers(-40, 200), st.integers(-(2**31), 2**31 - 1)),
    rest=st.binary(max_size=160),
)
@LIMITS
def test_random_headers_never_raise(
    state: GroupsState,
    kind: int,
    marked: bool,
    sender: bytes,
    num_groups: int,
    data_len: int,
    rest: bytes,
) -> None:
    daemon = in_state(state)
    if marked:
        kind |= ENDIAN_MARKER
    header = struct.pack("<I32siIi", kind, sender, num_groups, ENDIAN_MARKER, data_len)
    daemon.groups.on_message(header + rest)
    check_whole(daemon)


@pytest.mark.parametrize("state", GroupsState)
@given(
    choices=st.lists(
        st.tuples(
            st.sampled_from(SAMPLES),
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
            st.one_of(st.none(), st.integers(0, 400)),
        ),
        max_size=5,
    )
)
@LIMITS
def test_mutated_messages_never_raise(
    state: GroupsState, choices: list[tuple[bytes, list[tuple[int, int]], int | None]]
) -> None:
    daemon = in_state(state)
    for sample, changes, cut in choices:
        message = bytearray(sample)
        for place, value in changes:
            message[place % len(message)] = value
        daemon.groups.on_message(bytes(message if cut is None else message[:cut]))
    check_whole(daemon)
