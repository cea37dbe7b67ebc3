"""Received messages in the shape of SpreadModule's types.

The module exists in several dialects; the attributes of all of them are here.
"""

from __future__ import annotations

from attrs import field, frozen

from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    Message,
    RejectMessage,
    SelfLeave,
    TransitionMessage,
)
from txspread.wire.constants import MEMBERSHIP_MESS, ServiceType
from txspread.wire.identifiers import GroupId as WireGroupId

_CAUSES = MEMBERSHIP_MESS & ~int(ServiceType.REG_MEMB_MESS | ServiceType.TRANSITION_MESS)
_SUBTYPES = int(ServiceType.REG_MEMB_MESS | ServiceType.TRANSITION_MESS)


@frozen(repr=False)
class GroupId:
    """Id of a view; only good to be compared for equality."""

    proc_id: int
    time: int
    index: int

    def __repr__(self) -> str:
        numbers = (self.proc_id, self.time & 0xFFFFFFFF, self.index & 0xFFFFFFFF)
        return "<group_id {:08X}:{:08X}:{:08X}>".format(*numbers)


@frozen
class RegularMsgType:
    """A data message."""

    msg_type: int
    """The sender's 16-bit number."""
    endian: int
    """1 when the sender's machine has the other byte order."""
    sender: str
    """Private group of the sender."""
    groups: tuple[str, ...]
    message: bytes = field(repr=lambda body: f"<{len(body)} bytes>")
    service: int
    """Service bits with what the sender set besides."""


@frozen
class MembershipMsgType:
    """A membership, transition or self-leave message."""

    reason: int
    """A ``CAUSED_BY`` constant, or 0 for a transition."""
    msg_subtype: int
    """REG_MEMB_MESS, TRANSITION_MESS, or 0 for the own leave."""
    group: str
    group_id: GroupId
    """All zero for the own leave."""
    members: tuple[str, ...]
    extra: tuple[str, ...]
    """Who joined, left or disconnected; for a network change, the members that
    came here together with this one; empty otherwise."""
    changed_member: str
    """Who joined, left or disconnected, else empty."""
    orig_members: tuple[str, ...]
    """Who was in the group before, as far as the message tells: without the one
    that joined, with the one that left; for a network change as ``extra``."""
    service: int


def message_object(message: Message) -> RegularMsgType | MembershipMsgType | None:
    """Convert a typed message; a reject has no counterpart and gives None."""
    if isinstance(message, DataMessage):
        return RegularMsgType(
            message.mess_type,
            int(message.endian_mismatch),
            message.sender,
            message.groups,
            message.body,
            int(message.service_type),
        )
    if isinstance(message, MembershipMessage):
        return _membership(message)
    if isinstance(message, TransitionMessage):
        return _without_members(message.service_type, message.group, _group_id(message.group_id))
    if isinstance(message, SelfLeave):
        return _without_members(message.service_type, message.group, GroupId(0, 0, 0))
    assert isinstance(message, RejectMessage)
    return None


def _membership(message: MembershipMessage) -> MembershipMsgType:
    changed = message.changed_member
    if changed is None:
        before = message.vs_set
    elif message.service_type & ServiceType.CAUSED_BY_JOIN:
        before = tuple(name for name in message.members if name != changed)
    else:
        before = (*message.members, changed)
    service = int(message.service_type)
    return MembershipMsgType(
        service & _CAUSES,
        service & _SUBTYPES,
        message.group,
        _group_id(message.group_id),
        message.members,
        message.vs_set,
        changed or "",
        before,
        service,
    )


def _without_members(service: ServiceType, group: str, group_id: GroupId) -> MembershipMsgType:
    return MembershipMsgType(
        int(service) & _CAUSES,
        int(service) & _SUBTYPES,
        group,
        group_id,
        (),
        (),
        "",
        (),
        int(service),
    )


def _group_id(group_id: WireGroupId) -> GroupId:
    return GroupId(group_id.proc_id, group_id.time, group_id.index)
