"""GROUPS: how daemons tell each other which groups they know.

Each set of daemons that stayed together has one representative, which sends its
state in one or more of these messages.  Source: ``docs/protocol/groups.md``
section 2.3; what is refused, section 10.4.
"""

from __future__ import annotations

import struct
from typing import Final

from attrs import frozen

from txspread.wire.byteorder import ByteOrder, byte_order_of
from txspread.wire.constants import (
    ENDIAN_MARKER,
    GROUPS_BUF_SIZE,
    GROUPS_MESS,
    MAX_PROCS_RING,
    MESSAGE_HEADER_SIZE,
    ServiceType,
)
from txspread.wire.derive import Record
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import GroupId, MembershipId, ProcId
from txspread.wire.layouts import groups as layouts
from txspread.wire.message import field_name, hint_for, name_field

_HEADER: Final = Record(layouts.GROUPS_HEADER)
_PREAMBLE: Final = Record(layouts.PREAMBLE)
_SET_SIZE: Final = Record(layouts.SET_SIZE)
_GROUP_START: Final = Record(layouts.GROUP_START)
_DAEMON_START: Final = Record(layouts.DAEMON_START)

_RELIABLE: Final = int(ServiceType.RELIABLE_MESS)
_AGREED: Final = int(ServiceType.AGREED_MESS)

GROUP_ENTRY_SIZE: Final = _GROUP_START.size
"""48 bytes: a group entry without its daemons."""
DAEMON_ENTRY_SIZE: Final = _DAEMON_START.size
"""14 bytes: a daemon entry without its members of 32 bytes each."""


@frozen
class DaemonEntry:
    """The members of one group at one daemon."""

    proc_id: ProcId
    memb_id: MembershipId
    """Upstream always sends the membership part of the group id here."""
    members: tuple[bytes, ...]
    """Private groups, in name order."""


@frozen
class GroupEntry:
    """One group, as the representative knows it; may go on in another message."""

    name: bytes
    group_id: GroupId
    changed: bool
    daemons: tuple[DaemonEntry, ...]
    """In configuration order; may be empty when the first did not fit."""


@frozen
class GroupsMessage:
    """One message of the state exchange."""

    representative: bytes
    """Name of the daemon that sends it."""
    set_size: int
    """How many daemons it speaks for, in every message of the sequence."""
    memb_id: MembershipId
    """Regular membership that this exchange belongs to."""
    synced_set: tuple[ProcId, ...] | None
    """The daemons it speaks for, in configuration order; None in a continuation."""
    groups: tuple[GroupEntry, ...]
    last: bool
    """Last message of the sequence as sent (AGREED); the others are RELIABLE."""

    @classmethod
    def decode(cls, message: bytes) -> GroupsMessage:
        """Read a complete message, in the byte order of its own marker.

        Raises :class:`ProtocolError` unless it is a GROUPS message of at most
        100000 bytes whose counts fill it exactly, with at most 128 daemons.
        """
        order = byte_order_of(message)
        size = len(message)
        if size < MESSAGE_HEADER_SIZE + _PREAMBLE.size or size > GROUPS_BUF_SIZE:
            raise ProtocolError(f"GROUPS message of {size} bytes")
        type_, name, set_size, num_groups, _, data_len = _HEADER.in_order(order).unpack_from(
            message
        )
        if not type_ & GROUPS_MESS or num_groups != 0 or data_len != size - MESSAGE_HEADER_SIZE:
            raise ProtocolError("not a GROUPS message, or one of another length than it says")
        if not 0 <= set_size <= MAX_PROCS_RING:
            raise ProtocolError(f"synced set of {set_size} daemons, at most {MAX_PROCS_RING}")
        at = MESSAGE_HEADER_SIZE
        proc_id, time, flag = _PREAMBLE.in_order(order).unpack_from(message, at)
        at += _PREAMBLE.size
        synced_set: tuple[ProcId, ...] | None = None
        if flag == 1:
            synced_set, at = _read_synced_set(message, at, order)
        elif flag:
            raise ProtocolError(f"flag {flag} where 0 or 1 is needed")
        groups: list[GroupEntry] = []
        while at < size:
            group, at = _read_group(message, at, order)
            groups.append(group)
        return cls(
            field_name(name),
            set_size,
            MembershipId(proc_id, time),
            synced_set,
            tuple(groups),
            bool(type_ & _AGREED),
        )

    def encode(self, byteorder: ByteOrder = "<") -> bytes:
        """The complete message.

        Raises :class:`ProtocolError` when it is longer than 100000 bytes or
        something does not fit its field.
        """
        try:
            body = self._encode_body(byteorder)
            little = byteorder == "<"
            type_ = GROUPS_MESS | (_AGREED if self.last else _RELIABLE)
            if len(self.representative) > 28:
                raise ProtocolError("name of the representative longer than 28 bytes")
            header = _HEADER.in_order(byteorder).pack(
                type_ | ENDIAN_MARKER if little else type_,
                self.representative,
                self.set_size,
                0,
                hint_for(0, byteorder),
                len(body),
            )
        except struct.error as error:
            raise ProtocolError(str(error)) from None
        if len(header) + len(body) > GROUPS_BUF_SIZE:
            raise ProtocolError(f"GROUPS message of {len(header) + len(body)} bytes")
        return header + body

    def _encode_body(self, order: ByteOrder) -> bytes:
        group_start = _GROUP_START.in_order(order)
        daemon_start = _DAEMON_START.in_order(order)
        flag = 0 if self.synced_set is None else 1
        parts = [_PREAMBLE.in_order(order).pack(*self.memb_id, flag)]
        if self.synced_set is not None:
            count = len(self.synced_set)
            parts.append(_SET_SIZE.in_order(order).pack(count))
            parts.append(struct.pack(f"{order}{count}I", *self.synced_set))
        for group in self.groups:
            identity = group.group_id
            parts.append(
                group_start.pack(
                    name_field(group.name),
                    identity.proc_id,
                    identity.time,
                    identity.index,
                    group.changed,
                    len(group.daemons),
                )
            )
            for daemon in group.daemons:
                parts.append(
                    daemon_start.pack(daemon.proc_id, *daemon.memb_id, len(daemon.members))
                )
                parts.extend([name_field(member) for member in daemon.members])
        return b"".join(parts)


def _read_synced_set(message: bytes, at: int, order: ByteOrder) -> tuple[tuple[ProcId, ...], int]:
    if at + _SET_SIZE.size > len(message):
        raise ProtocolError("GROUPS message that ends before its synced set")
    (count,) = _SET_SIZE.in_order(order).unpack_from(message, at)
    at += _SET_SIZE.size
    if count > MAX_PROCS_RING or at + 4 * count > len(message):
        raise ProtocolError(f"synced set of {count} daemons in {len(message) - at} bytes")
    return struct.unpack_from(f"{order}{count}I", message, at), at + 4 * count


def _read_group(message: bytes, at: int, order: ByteOrder) -> tuple[GroupEntry, int]:
    if at + _GROUP_START.size > len(message):
        raise ProtocolError("GROUPS message that ends inside a group entry")
    name, proc_id, time, index, changed, num_daemons = _GROUP_START.in_order(order).unpack_from(
        message, at
    )
    at += _GROUP_START.size
    daemons: list[DaemonEntry] = []
    for _ in range(num_daemons):
        daemon, at = _read_daemon(message, at, order)
        daemons.append(daemon)
    group_id = GroupId(proc_id, time, index)
    return GroupEntry(field_name(name), group_id, bool(changed), tuple(daemons)), at


def _read_daemon(message: bytes, at: int, order: ByteOrder) -> tuple[DaemonEntry, int]:
    if at + _DAEMON_START.size > len(message):
        raise ProtocolError("GROUPS message that ends inside a daemon entry")
    proc_id, memb_proc, memb_time, count = _DAEMON_START.in_order(order).unpack_from(message, at)
    at += _DAEMON_START.size
    end = at + 32 * count
    if end > len(message):
        raise ProtocolError(f"{count} members in {len(message) - at} bytes")
    members = tuple([field_name(message[name : name + 32]) for name in range(at, end, 32)])
    return DaemonEntry(proc_id, MembershipId(memb_proc, memb_time), members), end
