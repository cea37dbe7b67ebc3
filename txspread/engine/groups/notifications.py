"""The membership messages that a daemon makes for its own clients.

Five kinds, all with the group's name where a data message has its sender:

* join, leave, disconnect: all members, one set with the one name concerned;
  the same bytes for every receiver;
* network: all members, and the sets "who came together with whom"; the receiver
  is told where its own set lies, so a joiner in a changed group gets other bytes
  than the rest;
* transition: only the present group id;
* self-leave: a bare header, for the one who left.

Everything is built from fields that are kept ready, never name by name.
Source: ``docs/protocol/groups.md`` section 4.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.groups.names import virtual_synchrony_order
from txspread.engine.groups.state import DaemonMembers, Group
from txspread.wire.constants import ENDIAN_MARKER, MAX_GROUP_NAME, ServiceType
from txspread.wire.derive import derive
from txspread.wire.identifiers import ProcId
from txspread.wire.layouts import message as layouts
from txspread.wire.message import HEADER_LE, name_field

JOINED: Final = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_JOIN) | ENDIAN_MARKER
LEFT: Final = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_LEAVE) | ENDIAN_MARKER
DISCONNECTED: Final = (
    int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_DISCONNECT) | ENDIAN_MARKER
)
_NETWORK: Final = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_NETWORK) | ENDIAN_MARKER
_TRANSITION: Final = int(ServiceType.TRANSITION_MESS) | ENDIAN_MARKER
_SELF_LEAVE: Final = int(ServiceType.CAUSED_BY_LEAVE) | ENDIAN_MARKER

_BODY_START: Final = derive(layouts.MEMBERSHIP_START, "<")
_ONE: Final = (1).to_bytes(4, "little")
_GROUP_ID_SIZE: Final = 12


def _start(
    kind: int, group: Group, data_len: int, sets: int, own_set: int
) -> list[bytes | bytearray]:
    """Header, member names and the first 20 bytes of the body."""
    parts: list[bytes | bytearray] = [
        HEADER_LE.pack(kind, group.name_field, group.count, ENDIAN_MARKER, data_len)
    ]
    for record in group.ordered:
        parts.append(record.fields)
    parts.append(
        _BODY_START.pack(
            group.membership_id.proc_id, group.membership_id.time, group.index, sets, own_set
        )
    )
    return parts


def caused_by_one(kind: int, group: Group, who: bytes) -> bytes:
    """Make a join, leave or disconnect message; the group is as after the event."""
    parts = _start(kind, group, _BODY_START.size + 4 + MAX_GROUP_NAME, 1, 0)
    parts.append(_ONE)
    parts.append(name_field(who))
    return b"".join(parts)


def transition(group: Group) -> bytes:
    """Make a transition message with the group's present id."""
    identifier = _BODY_START.pack(
        group.membership_id.proc_id, group.membership_id.time, group.index, 0, 0
    )[:_GROUP_ID_SIZE]
    header = HEADER_LE.pack(_TRANSITION, group.name_field, 0, ENDIAN_MARKER, _GROUP_ID_SIZE)
    return header + identifier


def self_leave(name: bytes) -> bytes:
    """Make the message that tells a client it has left the group."""
    return HEADER_LE.pack(_SELF_LEAVE, name_field(name), 0, ENDIAN_MARKER, 0)


def virtual_synchrony_sets(group: Group) -> list[list[DaemonMembers]]:
    """Say who came together with whom; each partitioned daemon is a set of its own."""
    sets: list[list[DaemonMembers]] = []
    for record in virtual_synchrony_order(group.ordered):
        known = record.membership_id
        if sets and known is not None and sets[-1][0].membership_id == known:
            sets[-1].append(record)
        else:
            sets.append([record])
    return sets


def caused_by_network(group: Group, me: ProcId, joiner: bytes | None = None) -> tuple[bytes, bytes]:
    """Make a network-caused message: one for the local members, one for the joiner.

    Args:
        group: the group after the event.
        me: id of this daemon, whose set the local members belong to.
        joiner: private group name of one who joins a changed group.  It is left
            out of its daemon's set, even if that leaves the set empty, and gets
            one of its own, the last; its own copy points there.  Without a
            joiner both results are the same.

    """
    sets: list[bytes] = []
    number = own_set = size = 0
    for records in virtual_synchrony_sets(group):
        parts = [bytes(record.fields) for record in records]
        for place, record in enumerate(records):
            if record.proc_id == me:
                own_set = size
            if joiner is not None and record.has(joiner):
                at = record.names.index(joiner) * MAX_GROUP_NAME
                parts[place] = parts[place][:at] + parts[place][at + MAX_GROUP_NAME :]
        names = b"".join(parts)
        sets.append((len(names) // MAX_GROUP_NAME).to_bytes(4, "little"))
        sets.append(names)
        size += 4 + len(names)
        number += 1
    last_set = size
    if joiner is not None:
        sets.append(_ONE)
        sets.append(name_field(joiner))
        size += 4 + MAX_GROUP_NAME
        number += 1
    data_len = _BODY_START.size + size
    tail = b"".join(sets)
    message = b"".join(_start(_NETWORK, group, data_len, number, own_set)) + tail
    if joiner is None:
        return message, message
    return message, b"".join(_start(_NETWORK, group, data_len, number, last_set)) + tail
