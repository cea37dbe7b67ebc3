"""Bodies of the membership messages that clients get.

Source: ``docs/protocol/client-session.md`` sections 5.2 to 5.5,
``docs/protocol/groups.md`` section 4.
"""

from __future__ import annotations

import struct
from typing import Final

from attrs import frozen

from txspread.wire.byteorder import ByteOrder
from txspread.wire.derive import Record
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import GroupId
from txspread.wire.layouts import message as layouts
from txspread.wire.message import field_name, name_field

_GROUP_ID: Final = Record(layouts.GROUP_ID)
_START: Final = Record(layouts.MEMBERSHIP_START)
_COUNT: Final = Record(layouts.COUNT)

GROUP_ID_SIZE: Final = _GROUP_ID.size
"""12 bytes: all of a transition message's body."""


def encode_group_id(group_id: GroupId, byteorder: ByteOrder = "<") -> bytes:
    """12 bytes: the body of a transition message.  Raises :class:`ProtocolError`."""
    try:
        return _GROUP_ID.in_order(byteorder).pack(group_id.proc_id, group_id.time, group_id.index)
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def decode_group_id(body: bytes, byteorder: ByteOrder = "<") -> GroupId:
    """The group id that a membership body begins with, or consists of.

    Raises :class:`ProtocolError` for fewer than 12 bytes.
    """
    if len(body) < _GROUP_ID.size:
        raise ProtocolError(f"membership body of {len(body)} bytes, a group id needs 12")
    proc_id, time, index = _GROUP_ID.in_order(byteorder).unpack_from(body)
    return GroupId(proc_id, time, index)


@frozen
class MembershipBody:
    """What a regular membership message tells beside the list of members."""

    group_id: GroupId
    local_vs_set_offset: int
    """Where the receiver's own set begins: bytes behind offset 20 of the body."""
    vs_sets: tuple[tuple[bytes, ...], ...]
    """Private groups that came together from the same previous view.  For a join,
    leave or disconnect: one set of the one it is about."""

    def encode(self, byteorder: ByteOrder = "<") -> bytes:
        """The body.  Raises :class:`ProtocolError` when something does not fit."""
        count = _COUNT.in_order(byteorder)
        try:
            parts = [
                _START.in_order(byteorder).pack(
                    self.group_id.proc_id,
                    self.group_id.time,
                    self.group_id.index,
                    len(self.vs_sets),
                    self.local_vs_set_offset,
                )
            ]
            for vs_set in self.vs_sets:
                parts.append(count.pack(len(vs_set)))
                parts.extend([name_field(member) for member in vs_set])
        except struct.error as error:
            raise ProtocolError(str(error)) from None
        return b"".join(parts)

    @classmethod
    def decode(cls, body: bytes, byteorder: ByteOrder = "<") -> MembershipBody:
        """Read a body written in ``byteorder`` (that of the message header).

        Raises :class:`ProtocolError` unless the sets fill the body exactly.  The
        offset is not checked: :attr:`local_vs_set` does.
        """
        size = len(body)
        if size < _START.size:
            raise ProtocolError(f"membership body of {size} bytes, {_START.size} are needed")
        proc_id, time, index, num_vs_sets, offset = _START.in_order(byteorder).unpack_from(body)
        count = _COUNT.in_order(byteorder)
        at = _START.size
        if at + 4 * num_vs_sets > size:
            raise ProtocolError(f"{num_vs_sets} vs sets in {size - at} bytes")
        vs_sets: list[tuple[bytes, ...]] = []
        for _ in range(num_vs_sets):
            if at + 4 > size:
                raise ProtocolError("membership body that ends before a vs set")
            (members,) = count.unpack_from(body, at)
            at += 4
            end = at + 32 * members
            if end > size:
                raise ProtocolError(f"vs set of {members} members in {size - at} bytes")
            vs_sets.append(tuple([field_name(body[n : n + 32]) for n in range(at, end, 32)]))
            at = end
        if at != size:
            raise ProtocolError(f"{size - at} bytes behind the last vs set")
        return cls(GroupId(proc_id, time, index), offset, tuple(vs_sets))

    @property
    def local_vs_set_index(self) -> int:
        """Index of the receiver's own set.

        Raises :class:`ProtocolError` when the offset points to the start of none.
        """
        offset = 0
        for index, vs_set in enumerate(self.vs_sets):
            if offset == self.local_vs_set_offset:
                return index
            offset += 4 + 32 * len(vs_set)
        raise ProtocolError(f"no vs set begins at offset {self.local_vs_set_offset}")

    @property
    def local_vs_set(self) -> tuple[bytes, ...]:
        """The receiver's own set.  Raises :class:`ProtocolError` as above."""
        return self.vs_sets[self.local_vs_set_index]
