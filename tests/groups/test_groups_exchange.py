"""The state that representatives tell each other: written, cut, read, refused."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from groups_harness import FakeSession, configuration_of, join, proc_id
from groups_replay import load
from groups_ring import Ring

from txspread.engine.groups.exchange import Arrival, Exchange, state_messages
from txspread.engine.groups.state import DaemonMembers, Group, GroupTable, record_of
from txspread.wire.constants import GROUPS_BUF_SIZE, PacketType
from txspread.wire.errors import ProtocolError
from txspread.wire.groups import DaemonEntry, GroupEntry, GroupsMessage
from txspread.wire.identifiers import GroupId, MembershipId

CONFIGURATION = configuration_of({"d1": "127.0.0.1", "d2": "127.0.1.1", "d3": "127.0.2.1"})
D1, D2, D3 = (daemon.id for daemon in CONFIGURATION.daemons)
REGULAR = MembershipId(D1, 100)
OLD = MembershipId(D2, 50)


def message(
    representative: bytes = b"d2",
    synced_set: tuple[int, ...] | None = (D2,),
    groups: tuple[GroupEntry, ...] = (),
    last: bool = True,
    set_size: int | None = None,
    memb_id: MembershipId = REGULAR,
) -> bytes:
    size = set_size if set_size is not None else len(synced_set or (0,))
    return GroupsMessage(representative, size, memb_id, synced_set, groups, last).encode()


def entry(
    name: bytes, *daemons: tuple[int, tuple[bytes, ...]], changed: bool = False
) -> GroupEntry:
    return GroupEntry(
        name,
        GroupId(OLD.proc_id, OLD.time, 3),
        changed,
        tuple(DaemonEntry(daemon, OLD, members) for daemon, members in daemons),
    )


def exchange_at_d1(synced_set: tuple[int, ...] = (D1,)) -> Exchange:
    return Exchange(REGULAR, (D1, D2, D3), synced_set, CONFIGURATION)


@pytest.mark.parametrize("scenario", ["state_multi_packet", "state_multi_message"])
def test_recorded_states_are_rebuilt_byte_for_byte(scenario: str) -> None:
    recording = load(scenario)
    position = {
        proc_id(address): place for place, address in enumerate(recording["daemons"].values())
    }
    rebuilt = 0
    senders = {
        (sent["from"], sent["fields"]["memb_id"]["time"])
        for sent in recording["daemon_messages"]
        if sent["kind"] == "groups"
    }
    for sender, time in sorted(senders):
        sent: list[Any] = [
            sent
            for sent in recording["daemon_messages"]
            if sent["kind"] == "groups"
            and sent["from"] == sender
            and sent["fields"]["memb_id"]["time"] == time
        ]
        table = GroupTable(D1)
        # The message sent last was built first.
        for fields in [sent_one["fields"] for sent_one in reversed(sent)]:
            for group_fields in fields["groups"]:
                load_group(table, group_fields, position)
        first = sent[-1]["fields"]
        synced_set = [proc_id(address) for address in first["synced_set"]]
        memb_id = MembershipId(proc_id(first["memb_id"]["proc"]), first["memb_id"]["time"])
        built = state_messages(table, sender.encode(), memb_id, synced_set)
        assert [data.hex() for data, _ in built] == [one["hex"] for one in sent]
        assert [packet_type for _, packet_type in built] == [one["packet_type"] for one in sent]
        rebuilt += len(built)
    assert rebuilt == sum(sent["kind"] == "groups" for sent in recording["daemon_messages"])


def load_group(table: GroupTable, fields: dict[str, Any], position: dict[int, int]) -> None:
    name = fields["name"].encode()
    membership_id = MembershipId(proc_id(fields["gid"]["proc"]), fields["gid"]["time"])
    group = table.groups.get(name)
    if group is None:
        group = table.create(name, membership_id, fields["gid"]["index"])
    group.changed = bool(fields["changed"])
    for daemon in fields["daemons"]:
        daemon_id = proc_id(daemon["proc"])
        members = [member.encode() for member in daemon["members"]]
        record = record_of(daemon_id, position[daemon_id], membership_id, members)
        table.put_record(group, record)


def full_table(groups: int, members: int) -> GroupTable:
    table = GroupTable(D1)
    for number in range(groups):
        group = table.create(b"g%05d" % number, OLD, 1)
        for daemon, order in ((D1, 0), (D2, 1)):
            names = [b"#m%d#d%d" % (member, order + 1) for member in range(members)]
            table.put_record(group, record_of(daemon, order, OLD, names))
    return table


def content(table: GroupTable) -> list[tuple[bytes, list[tuple[int, list[bytes]]]]]:
    return [
        (group.name, [(record.proc_id, record.names) for record in group.ordered])
        for group in table.in_order()
    ]


@pytest.mark.parametrize(("groups", "members"), [(0, 0), (1, 1), (40, 900), (3, 3100), (2000, 3)])
def test_any_state_fits_messages_of_bounded_size_and_arrives_whole(
    groups: int, members: int
) -> None:
    table = full_table(groups, members)
    messages = state_messages(table, b"d1", REGULAR, (D1, D2))
    assert all(len(data) <= GROUPS_BUF_SIZE for data, _ in messages)
    assert [packet_type for _, packet_type in messages[:-1]] == [PacketType.RELIABLE] * (
        len(messages) - 1
    )
    assert messages[-1][1] is PacketType.AGREED
    receiver = Exchange(REGULAR, (D1, D2, D3), (D3,), CONFIGURATION)
    for data, _ in messages:
        assert receiver.take(data) is Arrival.KEPT
    assert receiver.take(message(b"d3", (D3,))) is Arrival.COMPLETE
    merged = GroupTable(D1)
    assert receiver.merge(merged) == [D1, D2]
    assert content(merged) == content(table)


def test_a_record_that_does_not_fit_goes_on_in_the_next_message() -> None:
    table = GroupTable(D1)
    group = table.create(b"g", OLD, 1)
    for daemon, order in ((D1, 0), (D2, 1)):
        names = [b"#m%d#d%d" % (member, order + 1) for member in range(2000)]
        table.put_record(group, record_of(daemon, order, OLD, names))
    sent = [
        GroupsMessage.decode(data) for data, _ in state_messages(table, b"d1", REGULAR, (D1, D2))
    ]
    assert [[daemon.proc_id for daemon in one.groups[0].daemons] for one in sent] == [[D2], [D1]]
    assert [one.synced_set for one in sent] == [None, (D1, D2)]


def test_a_group_entry_may_have_no_daemon_in_the_message_it_begins_in() -> None:
    table = GroupTable(D1)
    first = table.create(b"a", OLD, 1)
    table.put_record(first, record_of(D1, 0, OLD, [b"#m%d#d1" % n for n in range(3000)]))
    second = table.create(b"b", OLD, 1)
    table.put_record(second, record_of(D1, 0, OLD, [b"#m%d#d1" % n for n in range(200)]))
    sent = [GroupsMessage.decode(data) for data, _ in state_messages(table, b"d1", REGULAR, (D1,))]
    entries = [[(one.name, len(one.daemons)) for one in part.groups] for part in sent]
    assert entries == [[(b"b", 1)], [(b"a", 1), (b"b", 0)]]


def test_another_membership_is_stale_and_an_unknown_daemon_unknown() -> None:
    exchange = exchange_at_d1()
    assert exchange.take(message(memb_id=OLD)) is Arrival.STALE
    assert exchange.take(message(b"d9")) is Arrival.UNKNOWN
    assert exchange.daemons == 0


def test_it_is_complete_when_the_sets_add_up() -> None:
    exchange = exchange_at_d1()
    assert exchange.take(message(b"d2", (D2,))) is Arrival.KEPT
    assert exchange.take(message(b"d3", (D3,))) is Arrival.KEPT
    assert not exchange.own_complete
    assert exchange.take(message(b"d1", (D1,))) is Arrival.COMPLETE
    assert exchange.own_complete
    assert exchange.merge(GroupTable(D1)) == [D2, D3]


def test_only_complete_representatives_are_merged() -> None:
    exchange = exchange_at_d1()
    exchange.take(message(b"d2", None, (entry(b"g", (D2, (b"#x#d2",))),), last=False, set_size=1))
    exchange.take(message(b"d3", (D3,), (entry(b"h", (D3, (b"#y#d3",))),)))
    table = GroupTable(D1)
    assert exchange.merge(table) == [D3]
    assert list(table.groups) == [b"h"]


REFUSED = {
    "second last message": [message(), message()],
    "more after the last message": [message(), message(synced_set=None, last=False, set_size=1)],
    "own representative twice": [message(b"d1", (D1,)), message(b"d1", (D1,))],
    "own set of another size": [message(b"d1", (D1, D2))],
    "last message without a set": [message(synced_set=None, set_size=1)],
    "size in the header is not the set's": [message(set_size=2)],
    "set without its representative": [message(b"d2", (D3,))],
    "set with a daemon twice": [message(b"d2", (D2, D2))],
    "set with a daemon outside": [message(b"d2", (D2, 77))],
    "set that overlaps mine": [message(b"d2", (D1, D2))],
    "set that overlaps another": [message(b"d2", (D2, D3)), message(b"d3", (D3,))],
    "two sets": [message(last=False), message()],
    "members of a daemon outside the set": [
        message(groups=(entry(b"g", (D3, (b"#x#d3",))),)),
    ],
    "too long": [message() + bytes(GROUPS_BUF_SIZE)],
    "cut": [message(groups=(entry(b"g", (D2, (b"#x#d2",))),))[:-1]],
}


@pytest.mark.parametrize("messages", REFUSED.values(), ids=REFUSED)
def test_what_contradicts_itself_or_others_is_refused_and_not_counted(
    messages: list[bytes],
) -> None:
    exchange = exchange_at_d1()
    for data in messages[:-1]:
        exchange.take(data)
    counted = exchange.daemons
    with pytest.raises(ProtocolError):
        exchange.take(messages[-1])
    assert exchange.daemons == counted


def test_a_set_that_overlaps_a_later_one_is_refused_when_it_completes() -> None:
    exchange = exchange_at_d1()
    exchange.take(message(b"d2", (D2, D3), last=False))
    exchange.take(message(b"d3", (D3,)))
    with pytest.raises(ProtocolError, match="overlap"):
        exchange.take(message(b"d2", None, set_size=2))


def test_a_representative_outside_the_membership_or_in_my_set_is_refused() -> None:
    exchange = Exchange(REGULAR, (D1, D2), (D1, D2), CONFIGURATION)
    with pytest.raises(ProtocolError):
        exchange.take(message(b"d3", (D3,)))
    with pytest.raises(ProtocolError):
        exchange.take(message(b"d2", (D2,)))


def test_messages_kept_of_one_representative_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txspread.engine.groups.exchange.MAX_GATHERED_MESSAGES", 3)
    exchange = exchange_at_d1()
    part = message(synced_set=None, last=False, set_size=1)
    for _ in range(3):
        exchange.take(part)
    with pytest.raises(ProtocolError, match="more than 3"):
        exchange.take(part)


def merged(*entries: GroupEntry, table: GroupTable | None = None) -> GroupTable:
    exchange = Exchange(REGULAR, (D1, D2, D3), (D1,), CONFIGURATION)
    exchange.take(message(b"d2", (D2, D3), entries))
    table = table or GroupTable(D1)
    exchange.merge(table)
    return table


def test_a_group_of_one_side_is_learnt_unchanged() -> None:
    group = merged(entry(b"g", (D2, (b"#x#d2",)))).groups[b"g"]
    assert (group.id, group.changed, group.count) == (GroupId(D2, 50, 3), False, 1)


def test_the_changed_flag_of_the_representative_counts() -> None:
    assert merged(entry(b"g", (D2, (b"#x#d2",)), changed=True)).groups[b"g"].changed


def test_a_group_of_both_sides_is_changed() -> None:
    table = GroupTable(D1)
    group = table.create(b"g", MembershipId(D1, 60), 1)
    table.put_record(group, record_of(D1, 0, MembershipId(D1, 60), [b"#a#d1"]))
    merged(entry(b"g", (D3, (b"#z#d3",)), (D2, (b"#y#d2", b"#x#d2"))), table=table)
    assert group.changed
    assert group.id == GroupId(D1, 60, 1)
    assert [record.proc_id for record in group.ordered] == [D1, D2, D3]
    assert group.ordered[1].names == [b"#x#d2", b"#y#d2"]
    assert bytes(group.ordered[1].fields) == b"#x#d2".ljust(32, b"\0") + b"#y#d2".ljust(32, b"\0")


def test_a_daemon_listed_twice_is_counted_once() -> None:
    group = merged(entry(b"g", (D2, (b"#x#d2",)), (D2, (b"#y#d2", b"#y#d2")))).groups[b"g"]
    assert (group.count, group.daemons[D2].names) == (1, [b"#y#d2"])


def test_a_group_without_members_is_not_created() -> None:
    assert not merged(entry(b"g"), entry(b"h", (D2, ()))).groups


def test_one_who_is_listed_under_another_daemon_leaves_the_index_whole() -> None:
    table = merged(entry(b"g", (D2, (b"#x#d2",)), (D3, (b"#x#d2",))))
    group = table.groups[b"g"]
    assert table.remove_member(group, D2, b"#x#d2")
    assert table.groups_of(b"#x#d2") == [group]
    assert table.remove_member(group, D3, b"#x#d2")
    assert table.groups_of(b"#x#d2") == []
    assert not table.groups


def test_my_members_are_mine_whatever_a_peer_lists() -> None:
    table = GroupTable(D1)
    group = table.create(b"g", OLD, 1)
    mine = record_of(D1, 0, OLD, [])
    group.add_record(mine)
    table.add_member(group, mine, b"#a#d1")
    session = FakeSession(b"#a#d1")
    table.add_local(group, session)
    table.put_record(group, record_of(D2, 1, OLD, [b"#a#d1"]))
    table.remove_record(group, D2)
    assert group.fan_out == (session,)
    assert table.groups_of(b"#a#d1") == [group]


def test_a_state_of_several_messages_goes_through_a_ring() -> None:
    ring = Ring(CONFIGURATION)
    ring.client("#a#d1")
    for number in range(2300):
        ring.submit("d1", join("#a#d1", f"group{number:05}"))
    ring.settle()
    ring.change([["d1", "d2", "d3"]])
    assert ring.members["d1"].ordering.queued() == 3
    ring.settle()
    assert ring.members["d3"].groups.group_names() == ring.members["d1"].groups.group_names()
    assert ring.members["d3"].groups.count == 2300


def test_sent_messages_have_the_ids_and_flags_of_the_groups() -> None:
    table = GroupTable(D1)
    group: Group = table.create(b"g", OLD, 7)
    group.changed = True
    record = DaemonMembers(D2, 1, MembershipId(D3, 9))
    group.add_record(record)
    table.add_member(group, record, b"#x#d2")
    ((data, _),) = state_messages(table, b"d2", REGULAR, (D2,))
    decoded = GroupsMessage.decode(data)
    (sent,) = decoded.groups
    assert (sent.group_id, sent.changed) == (GroupId(D2, 50, 7), True)
    # The quirk that peers see: the group's membership id, not the record's own.
    assert sent.daemons[0].memb_id == OLD
    assert evolve(decoded, groups=()).synced_set == (D2,)
