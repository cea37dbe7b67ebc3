"""The replicated state: every process group of the ring and its members.

A group without members and a daemon record without members do not exist; the
operations here remove them at once.  Joins and leaves cost a binary search and
an insertion into a flat list, membership messages join byte strings that are
kept ready, and a disconnect finds the groups of its session in an index.

Source: ``docs/protocol/groups.md`` sections 1.3 and 1.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from attrs import define, field

from txspread.engine.groups.names import daemon_order
from txspread.engine.interfaces import LocalSession
from txspread.wire.constants import MAX_GROUP_NAME
from txspread.wire.identifiers import GroupId, MembershipId, ProcId
from txspread.wire.message import name_field


@define(eq=False)
class DaemonMembers:
    """The members of one group that are connected to one daemon."""

    proc_id: ProcId
    order: int
    """Sort key of the daemon: configuration order."""
    membership_id: MembershipId | None
    """Where the daemon's replica came from; None: partitioned from us."""
    names: list[bytes] = field(factory=list)
    """Private group names, ascending, without duplicates."""
    fields: bytearray = field(factory=bytearray)
    """The same names as they stand in messages, 32 bytes each."""

    def add(self, name: bytes) -> bool:
        """Insert a private group name; False if it is there already."""
        place = bisect_left(self.names, name)
        if place < len(self.names) and self.names[place] == name:
            return False
        self.names.insert(place, name)
        start = place * MAX_GROUP_NAME
        self.fields[start:start] = name_field(name)
        return True

    def remove(self, name: bytes) -> bool:
        """Take a private group name out; False if it is not there."""
        place = bisect_left(self.names, name)
        if place == len(self.names) or self.names[place] != name:
            return False
        del self.names[place]
        start = place * MAX_GROUP_NAME
        del self.fields[start : start + MAX_GROUP_NAME]
        return True

    def has(self, name: bytes) -> bool:
        """Tell whether a private group name is here."""
        place = bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name


@define(eq=False)
class Group:
    """One process group."""

    name: bytes
    """Up to 31 bytes (32 from a peer that left out the NUL)."""
    name_field: bytes
    """The name as it stands in messages, 32 bytes."""
    membership_id: MembershipId
    """Membership part of the group id."""
    index: int
    """Last part of the group id, signed 32-bit."""
    changed: bool = False
    """A network-caused notification is due."""
    daemons: dict[ProcId, DaemonMembers] = field(factory=dict)
    ordered: list[DaemonMembers] = field(factory=list)
    """The same records in configuration order."""
    count: int = 0
    """Members of all daemons."""
    local: dict[bytes, LocalSession] = field(factory=dict)
    """Sessions of this daemon that are members, by private group name."""
    _fan_out: tuple[LocalSession, ...] | None = field(default=None, init=False)
    _told: tuple[LocalSession, ...] | None = field(default=None, init=False)

    @property
    def id(self) -> GroupId:
        """The group id as clients see it."""
        return GroupId(self.membership_id.proc_id, self.membership_id.time, self.index)

    @property
    def fan_out(self) -> tuple[LocalSession, ...]:
        """The local members as one object, the same one until they change."""
        targets = self._fan_out
        if targets is None:
            targets = self._fan_out = tuple(self.local.values())
        return targets

    @property
    def told(self) -> tuple[LocalSession, ...]:
        """The local members that want membership messages."""
        told = self._told
        if told is None:
            everyone = self.fan_out
            told = tuple([session for session in everyone if session.wants_membership])
            if len(told) == len(everyone):
                told = everyone
            self._told = told
        return told

    def renew(self, membership_id: MembershipId) -> None:
        """Give the group the first id of a new membership."""
        self.membership_id = membership_id
        self.index = 1

    def come_from(self, membership_id: MembershipId) -> None:
        """Let all records count as one set of a membership."""
        for record in self.ordered:
            record.membership_id = membership_id

    def next_index(self) -> None:
        """Count one event of the group; wraps as a signed 32-bit number."""
        self.index = self.index + 1 if self.index != 0x7FFFFFFF else -0x80000000

    def add_local(self, session: LocalSession) -> None:
        """Let a session of this daemon receive."""
        self.local[session.private_group] = session
        self._fan_out = self._told = None

    def remove_local(self, private_group: bytes) -> bool:
        """Let a session of this daemon receive no longer; False if it did not."""
        if self.local.pop(private_group, None) is None:
            return False
        self._fan_out = self._told = None
        return True

    def add_record(self, record: DaemonMembers) -> None:
        """Insert a daemon's record in configuration order."""
        self.daemons[record.proc_id] = record
        place = len(self.ordered)
        while place and self.ordered[place - 1].order > record.order:
            place -= 1
        self.ordered.insert(place, record)
        self.count += len(record.names)

    def drop_record(self, proc_id: ProcId) -> None:
        """Take a daemon's record out."""
        record = self.daemons.pop(proc_id)
        self.ordered.remove(record)
        self.count -= len(record.names)


class GroupTable:
    """All groups of the ring, with the indexes that keep events cheap."""

    def __init__(self, me: ProcId) -> None:
        self._me = me
        self.groups: dict[bytes, Group] = {}
        """By name."""
        self.fan_out: dict[bytes, tuple[LocalSession, ...]] = {}
        """Local members by the group's 32-byte name field, padded with NULs: what
        the router has looked up since the group's local members last changed."""
        self._sorted: list[Group] | None = []
        self._groups_of: dict[bytes, set[Group]] = {}
        self.fan_out_of_lists: dict[bytes, tuple[LocalSession, ...]] = {}
        """The same for whole group arrays; emptied when any local member changes."""
        self.routes: dict[bytes, tuple[int, tuple[LocalSession, ...]]] = {}
        """Size and receivers of regular messages to one group, by their first 80
        bytes; emptied when any local member or the layer's state changes."""

    def __len__(self) -> int:
        return len(self.groups)

    def in_order(self) -> list[Group]:
        """All groups by name; a fresh list that survives changes."""
        if self._sorted is None:
            self._sorted = [self.groups[name] for name in sorted(self.groups)]
        return list(self._sorted)

    def groups_of(self, member: bytes) -> list[Group]:
        """The groups a private group name is a member of, by name."""
        return sorted(self._groups_of.get(member, ()), key=_group_name)

    def create(self, name: bytes, membership_id: MembershipId, index: int) -> Group:
        """Add a group; the caller gives it a member."""
        group = self.groups[name] = Group(name, name_field(name), membership_id, index)
        self._sorted = None
        self.fan_out_of_lists.clear()
        self.routes.clear()
        return group

    def remove(self, group: Group) -> None:
        """Forget a group with whatever is left in it."""
        for proc_id in list(group.daemons):
            self.remove_record(group, proc_id)
        del self.groups[group.name]
        self.fan_out.pop(group.name_field, None)
        self._sorted = None
        self.fan_out_of_lists.clear()
        self.routes.clear()

    def add_member(self, group: Group, record: DaemonMembers, name: bytes) -> bool:
        """Add a member to a daemon's record; False if it is there already."""
        if not record.add(name):
            return False
        group.count += 1
        self._index(name, group)
        return True

    def remove_member(self, group: Group, proc_id: ProcId, name: bytes) -> bool:
        """Remove a member, its daemon's record and the group when they get empty."""
        record = group.daemons.get(proc_id)
        if record is None or not record.remove(name):
            return False
        group.count -= 1
        self._forget(name, group)
        if not record.names:
            group.drop_record(proc_id)
        if proc_id == self._me:
            self._remove_local(group, name)
        if not group.daemons:
            self.remove(group)
        return True

    def put_record(self, group: Group, record: DaemonMembers) -> None:
        """Add a whole record, replacing an earlier one of the same daemon."""
        if record.proc_id in group.daemons:
            self.remove_record(group, record.proc_id)
        group.add_record(record)
        groups_of = self._groups_of
        for name in record.names:
            found = groups_of.get(name)
            if found is None:
                groups_of[name] = {group}
            else:
                found.add(group)

    def remove_record(self, group: Group, proc_id: ProcId) -> None:
        """Remove a daemon with its members; the group may be left empty."""
        names = group.daemons[proc_id].names
        group.drop_record(proc_id)
        for name in names:
            self._forget(name, group)
            if proc_id == self._me:
                self._remove_local(group, name)

    def add_local(self, group: Group, session: LocalSession) -> None:
        """Let a session receive the group's messages."""
        group.add_local(session)
        self.fan_out.pop(group.name_field, None)
        self.fan_out_of_lists.clear()
        self.routes.clear()

    def _remove_local(self, group: Group, name: bytes) -> None:
        if group.remove_local(name):
            self.fan_out.pop(group.name_field, None)
            self.fan_out_of_lists.clear()
            self.routes.clear()

    def reorder(self, position: Mapping[ProcId, int]) -> None:
        """Sort every group's daemons by another configuration."""
        for group in self.groups.values():
            for record in group.ordered:
                record.order = daemon_order(position, record.proc_id)
            group.ordered.sort(key=_record_order)

    def _index(self, name: bytes, group: Group) -> None:
        found = self._groups_of.get(name)
        if found is None:
            self._groups_of[name] = {group}
        else:
            found.add(group)

    def _forget(self, name: bytes, group: Group) -> None:
        found = self._groups_of[name]
        # The name can stand in another daemon's record of the same group only if
        # a peer lists it under a daemon that is not its own.
        for record in group.ordered:
            if record.has(name):
                return
        found.discard(group)
        if not found:
            del self._groups_of[name]


def record_of(
    proc_id: ProcId,
    order: int,
    membership_id: MembershipId | None,
    names: Iterable[bytes],
) -> DaemonMembers:
    """Build a record from names in any order, duplicates taken out."""
    members = sorted(names)
    if len(set(members)) != len(members):
        members = sorted(set(members))
    return DaemonMembers(
        proc_id,
        order,
        membership_id,
        members,
        bytearray(b"".join([name_field(name) for name in members])),
    )


def _group_name(group: Group) -> bytes:
    return group.name


def _record_order(record: DaemonMembers) -> int:
    return record.order
