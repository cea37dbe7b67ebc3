"""Identifiers that travel on the wire and are compared everywhere.

Source: ``docs/protocol/groups.md`` section 1.2.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from attrs import frozen

ProcId: TypeAlias = int
"""32-bit id of a daemon, unsigned: its declared IPv4 address in host order
(127.0.0.1 is 0x7F000001).  Comparisons that upstream makes on the signed value
say so where they are made."""


class MembershipId(NamedTuple):
    """Id of a daemon membership, 8 bytes: regular or transitional."""

    proc_id: ProcId
    """First daemon of the membership in configuration order."""
    time: int
    """Signed 32-bit, seconds since the epoch as that daemon chose it; only grows."""


@frozen
class GroupId:
    """Id of one view of a process group, 12 bytes."""

    proc_id: ProcId
    time: int
    index: int
    """Signed 32-bit, grows with each event of the group in one membership."""

    @property
    def membership_id(self) -> MembershipId:
        """The membership part."""
        return MembershipId(self.proc_id, self.time)


def format_address(proc_id: ProcId) -> str:
    """Write a proc id as a dotted quad, as upstream's log lines do."""
    return f"{proc_id >> 24 & 255}.{proc_id >> 16 & 255}.{proc_id >> 8 & 255}.{proc_id & 255}"
