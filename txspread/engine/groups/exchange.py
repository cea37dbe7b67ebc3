"""The state exchange: what representatives tell each other in GROUPS messages.

Sending.  A synced set's first daemon writes the set's whole state into buffers
of at most 100 000 bytes, message header included: groups by name, daemons in
configuration order, never splitting a daemon's record.  The first buffer names
the synced set; it is sent last, as AGREED, the others before it, last built
first, as RELIABLE.

Receiving.  Per regular membership an :class:`Exchange` collects the messages of
the other representatives and tells when the sizes of the sets add up to the
membership.  Messages with another membership id are stale and ignored.  A message
that contradicts itself, the membership or an earlier one is refused as a whole
and never counted: upstream overruns its memory or aborts there.

Source: ``docs/protocol/groups.md`` sections 2.3, 2.4, 3.10 and 10.4.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field

from txspread.config.model import Configuration
from txspread.engine.groups.names import daemon_order
from txspread.engine.groups.state import DaemonMembers, Group, GroupTable, record_of
from txspread.wire.constants import (
    GROUPS_BUF_SIZE,
    MAX_GROUP_NAME,
    MESSAGE_HEADER_SIZE,
    PacketType,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.groups import DaemonEntry, GroupEntry, GroupsMessage
from txspread.wire.identifiers import MembershipId, ProcId

MAX_RECORD_MEMBERS: Final = 3120
"""Members of one daemon in one group: more would fit in no GROUPS message."""
MAX_GATHERED_MESSAGES: Final = 4096
"""GROUPS messages kept of one representative, 100 000 bytes each."""

_PREAMBLE: Final = 9
_SET_SIZE: Final = 4
_GROUP_ENTRY: Final = 48
_DAEMON_ENTRY: Final = 14


def state_messages(
    table: GroupTable,
    representative: bytes,
    membership_id: MembershipId,
    synced_set: Sequence[ProcId],
) -> list[tuple[bytes, PacketType]]:
    """Write the whole state; messages with their packet types, in sending order."""
    buffers = _Buffers(representative, membership_id, tuple(synced_set))
    for group in table.in_order():
        buffers.write_group(group)
    return buffers.messages()


class _Buffers:
    """The state of a synced set, cut into messages."""

    def __init__(
        self, representative: bytes, membership_id: MembershipId, synced_set: tuple[ProcId, ...]
    ) -> None:
        self._representative = representative
        self._membership_id = membership_id
        self._synced_set = synced_set
        self._entries: list[list[GroupEntry]] = [[]]
        self._used = _PREAMBLE + _SET_SIZE + 4 * len(synced_set)

    def write_group(self, group: Group) -> None:
        """Write one group, into as many buffers as it needs."""
        if not self._room(_GROUP_ENTRY):
            self._next()
        written = 0
        while True:
            self._used += _GROUP_ENTRY
            daemons: list[DaemonEntry] = []
            while written < len(group.ordered):
                record = group.ordered[written]
                size = _DAEMON_ENTRY + MAX_GROUP_NAME * len(record.names)
                if not self._room(size):
                    break
                self._used += size
                # The id is the group's even where the record has another one.
                daemons.append(
                    DaemonEntry(record.proc_id, group.membership_id, tuple(record.names))
                )
                written += 1
            self._entries[-1].append(
                GroupEntry(group.name, group.id, group.changed, tuple(daemons))
            )
            if written == len(group.ordered):
                return
            self._next()

    def messages(self) -> list[tuple[bytes, PacketType]]:
        """Encode what was written, in sending order."""
        result: list[tuple[bytes, PacketType]] = []
        for number in range(len(self._entries) - 1, -1, -1):
            message = GroupsMessage(
                representative=self._representative,
                set_size=len(self._synced_set),
                memb_id=self._membership_id,
                synced_set=self._synced_set if number == 0 else None,
                groups=tuple(self._entries[number]),
                last=number == 0,
            )
            result.append(
                (message.encode(), PacketType.AGREED if number == 0 else PacketType.RELIABLE)
            )
        return result

    def _room(self, size: int) -> bool:
        # Upstream keeps a whole header's room free behind the body.
        return size + MESSAGE_HEADER_SIZE <= GROUPS_BUF_SIZE - self._used

    def _next(self) -> None:
        self._entries.append([])
        self._used = _PREAMBLE


class Arrival(enum.Enum):
    """What became of one GROUPS message."""

    STALE = "stale"
    """It belongs to another membership."""
    UNKNOWN = "unknown"
    """Its representative is not configured."""
    KEPT = "kept"
    COMPLETE = "complete"
    """It was the last one of the exchange."""


@define(eq=False)
class _Gathered:
    """What one representative has told so far."""

    messages: list[GroupsMessage] = field(factory=list)
    synced_set: tuple[ProcId, ...] | None = None
    complete: bool = False


class Exchange:
    """The GROUPS messages of one regular membership, as they arrive."""

    def __init__(
        self,
        membership_id: MembershipId,
        members: Sequence[ProcId],
        synced_set: Sequence[ProcId],
        configuration: Configuration,
    ) -> None:
        """Begin to gather.

        Args:
            membership_id: id of the regular membership.
            members: its daemons.
            synced_set: the set of this daemon when the membership was installed.
            configuration: for names and order of daemons.

        """
        self._membership_id = membership_id
        self._members = frozenset(members)
        self._own_set = tuple(synced_set)
        self._ids: dict[bytes, ProcId] = {}
        self._position: Mapping[ProcId, int] = {}
        self.reload(configuration)
        self._gathered: dict[ProcId, _Gathered] = {}
        self._announced: set[ProcId] = set()
        self.own_complete = False
        """My own representative's last message has been delivered."""
        self.messages = 0
        """Messages taken, those of the own representative included."""
        self.daemons = 0
        """Daemons announced by completed representatives."""

    def reload(self, configuration: Configuration) -> None:
        """Take names and order of daemons from another configuration."""
        self._ids = {daemon.name_bytes: daemon.id for daemon in configuration.daemons}
        self._position = configuration.position

    def take(self, data: bytes) -> Arrival:
        """Take one delivered GROUPS message.

        Raises:
            ProtocolError: it is malformed or contradicts what is known; nothing of
                it was kept.

        """
        if len(data) > GROUPS_BUF_SIZE:
            raise ProtocolError(f"GROUPS message of {len(data)} bytes")
        message = GroupsMessage.decode(data)
        if message.memb_id != self._membership_id:
            return Arrival.STALE
        representative = self._ids.get(message.representative)
        if representative is None:
            return Arrival.UNKNOWN
        if representative == self._own_set[0]:
            self._take_own(message)
        else:
            self._take_other(representative, message)
        self.messages += 1
        return Arrival.COMPLETE if self.daemons == len(self._members) else Arrival.KEPT

    def _take_own(self, message: GroupsMessage) -> None:
        if self.own_complete:
            raise ProtocolError("message of the own representative after its last one")
        if message.last:
            if message.set_size != len(self._own_set):
                raise ProtocolError(
                    f"own synced set announced with {message.set_size} daemons, "
                    f"it has {len(self._own_set)}"
                )
            self.own_complete = True
            self.daemons += message.set_size

    def _take_other(self, representative: ProcId, message: GroupsMessage) -> None:
        if representative not in self._members or representative in self._own_set:
            raise ProtocolError("representative is not one of this membership")
        gathered = self._gathered.setdefault(representative, _Gathered())
        if gathered.complete:
            raise ProtocolError("message of a representative after its last one")
        if len(gathered.messages) >= MAX_GATHERED_MESSAGES:
            raise ProtocolError(f"more than {MAX_GATHERED_MESSAGES} messages of a representative")
        if message.synced_set is not None:
            if gathered.synced_set is not None:
                raise ProtocolError("second synced set of a representative")
            self._check_set(representative, message.set_size, message.synced_set)
            gathered.synced_set = message.synced_set
        gathered.messages.append(message)
        if message.last:
            try:
                self._complete(gathered, message.set_size)
            except ProtocolError:
                del self._gathered[representative]
                raise

    def _check_set(
        self, representative: ProcId, set_size: int, synced_set: tuple[ProcId, ...]
    ) -> None:
        members = set(synced_set)
        if len(members) != len(synced_set) or set_size != len(synced_set):
            raise ProtocolError(f"synced set of {set_size} daemons lists {len(members)}")
        if representative not in members:
            raise ProtocolError("synced set without its representative")
        if not members <= self._members:
            raise ProtocolError("synced set with daemons outside the membership")
        if members & self._announced or not members.isdisjoint(self._own_set):
            raise ProtocolError("synced sets overlap")

    def _complete(self, gathered: _Gathered, set_size: int) -> None:
        synced_set = gathered.synced_set
        if synced_set is None or set_size != len(synced_set):
            raise ProtocolError("last message of a representative without its synced set")
        if not self._announced.isdisjoint(synced_set):
            raise ProtocolError("synced sets overlap")
        for message in gathered.messages:
            for group in message.groups:
                for daemon in group.daemons:
                    if daemon.proc_id not in synced_set:
                        raise ProtocolError("members of a daemon outside the synced set")
        gathered.complete = True
        self._announced.update(synced_set)
        self.daemons += set_size

    def merge(self, table: GroupTable) -> list[ProcId]:
        """Merge every complete representative; the daemons that are now in step."""
        joined: list[ProcId] = []
        created: list[Group] = []
        for gathered in self._gathered.values():
            if gathered.complete and gathered.synced_set is not None:
                joined.extend(gathered.synced_set)
                # Latest first: the first-built buffer is the last one received.
                for message in reversed(gathered.messages):
                    self._merge_message(table, message, created)
        for group in created:
            if not group.daemons:
                table.remove(group)
        return joined

    def _merge_message(
        self, table: GroupTable, message: GroupsMessage, created: list[Group]
    ) -> None:
        for entry in message.groups:
            group = table.groups.get(entry.name)
            if group is None:
                identifier = entry.group_id.membership_id
                group = table.create(entry.name, identifier, entry.group_id.index)
                created.append(group)
            if entry.changed:
                group.changed = True
            for daemon in entry.daemons:
                if daemon.memb_id != group.membership_id:
                    group.changed = True
                if daemon.members:
                    table.put_record(group, self._record(daemon))

    def _record(self, daemon: DaemonEntry) -> DaemonMembers:
        order = daemon_order(self._position, daemon.proc_id)
        return record_of(daemon.proc_id, order, daemon.memb_id, daemon.members)
