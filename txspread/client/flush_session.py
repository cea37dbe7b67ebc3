"""The flush layer of one connection, sans-IO: groups, wire encoding, sending rules.

Everything travels as ordinary data messages between the members; the daemon knows
nothing of it.  Wire-compatible with upstream's flush library 2.0.0.

==================== ============== =========== ====================================
message              service        mess_type   body
==================== ============== =========== ====================================
FLUSH_OK             FIFO           -32768      group id (12 bytes)
FLUSH_RECV           FIFO           -32767      group id (12 bytes)
VULNERABLE data      the user's     -32766      user body, mess_type (2), group id (12)
subgroup cast        + 0x40000000   any of      as above, then the group name (32)
                                    the user's
==================== ============== =========== ====================================

Integers are in the sender's byte order.  Source:
``docs/protocol/client-session.md`` sections 8.2, 8.5 to 8.7.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

from attrs import evolve, frozen

from txspread.client.errors import (
    IllegalGroup,
    IllegalMessageType,
    IllegalReceivers,
    IllegalService,
    IllegalState,
)
from txspread.client.flush_group import (
    FlushEvent,
    FlushGroup,
    MemberState,
    ViewState,
)
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    Message,
    Name,
    RejectMessage,
    SelfLeave,
    TransitionMessage,
    name_bytes,
    name_text,
)
from txspread.client.requests import check_target
from txspread.wire.constants import (
    MAX_GROUP_NAME,
    MEMBERSHIP_MESS,
    RESERVED,
    ServiceType,
    SpreadCode,
)
from txspread.wire.identifiers import GroupId
from txspread.wire.membership_message import GROUP_ID_SIZE, decode_group_id, encode_group_id

FLUSH_OK_TYPE: Final = -32768
FLUSH_RECV_TYPE: Final = -32767
VULNERABLE_TYPE: Final = -32766
LOWEST_USER_TYPE: Final = -32765
SUBGROUP_CAST: Final = int(ServiceType.SUBGROUP_CAST)
_FORBIDDEN: Final = (
    int(ServiceType.FLUSH_REQ_MESS) | MEMBERSHIP_MESS | int(ServiceType.ENDIAN_MARKER) | RESERVED
)
_VULNERABLE_SERVICES: Final = int(
    ServiceType.UNRELIABLE_MESS | ServiceType.RELIABLE_MESS | ServiceType.FIFO_MESS
)


@frozen
class Outgoing:
    """A data message for the plain connection to send."""

    service_type: int
    groups: tuple[str, ...]
    body: bytes
    mess_type: int


class FlushSession:
    """View synchrony over one session that wants membership messages.

    :param private_group: the session's own private group.
    """

    def __init__(self, private_group: str) -> None:
        self.private_group = private_group
        self.events: deque[FlushEvent | RejectMessage] = deque()
        """What the program shall receive, oldest first."""
        self.outgoing: deque[Outgoing] = deque()
        """What must be sent now, in this order."""
        self._groups: dict[str, FlushGroup] = {}

    # What the program does

    def check_join(self, group: Name) -> None:
        """Whether the group may be joined.

        :raises IllegalGroup: the connection knows the group already.
        """
        if _text(group) in self._groups:
            raise IllegalGroup(SpreadCode.ILLEGAL_GROUP, f"already in group {group!r}")

    def leave(self, group: Name) -> None:
        """Take note that the group is being left.

        :raises IllegalGroup: unless the connection is a member.
        """
        known = self._groups.get(_text(group))
        if known is None or known.member_state is not MemberState.JOINED:
            raise IllegalGroup(SpreadCode.ILLEGAL_GROUP, f"not a member of group {group!r}")
        known.member_state = MemberState.LEAVING

    def flush(self, group: Name) -> None:
        """Answer a flush request: nothing more is sent before the next view.

        :raises IllegalGroup: unknown, or being left.
        :raises IllegalState: no flush was asked for.
        """
        known = self._groups.get(_text(group))
        if known is None or known.member_state is MemberState.LEAVING:
            raise IllegalGroup(SpreadCode.ILLEGAL_GROUP, f"not a member of group {group!r}")
        if not known.flush():
            raise IllegalState(SpreadCode.ILLEGAL_STATE, f"no flush of {group!r} was asked for")

    def multicast(self, service_type: int, target: Name, body: bytes, mess_type: int = 0) -> None:
        """Send to all members of a group, or to a private group.

        :raises IllegalService: bits that this layer or the daemon keep for themselves.
        :raises IllegalMessageType: below -32765.
        :raises IllegalGroup: not a member of the group.
        :raises IllegalState: between flush and view nothing may be sent.
        """
        group = self._check(service_type, target, mess_type)
        if group is not None:
            mess_type, body = self._mark(group, service_type, mess_type, body)
        self.outgoing.append(Outgoing(service_type, (_text(target),), body, mess_type))

    def subgroupcast(
        self,
        service_type: int,
        target: Name,
        receivers: Sequence[Name],
        body: bytes,
        mess_type: int = 0,
    ) -> None:
        """Send to some members of a group's view.

        :raises IllegalReceivers: one is not in the view (or, for a private group, not it).
        :raises SpreadError: as :meth:`multicast`.
        """
        group = self._check(service_type, target, mess_type)
        names = tuple(_text(receiver) for receiver in receivers)
        allowed = (_text(target),) if group is None else group.view.members
        for name in names:
            if name not in allowed:
                raise IllegalReceivers(
                    SpreadCode.ILLEGAL_RECEIVERS, f"{name!r} is not in the view of {target!r}"
                )
        if group is not None:
            mess_type, body = self._mark(group, service_type, mess_type, body)
        trailer = check_target(target).ljust(MAX_GROUP_NAME, b"\0")
        self.outgoing.append(
            Outgoing(service_type | SUBGROUP_CAST, names, body + trailer, mess_type)
        )

    def _check(self, service_type: int, target: Name, mess_type: int) -> FlushGroup | None:
        """Apply the sending rules; return the group, or None for a private one."""
        if service_type & _FORBIDDEN:
            raise IllegalService(
                SpreadCode.ILLEGAL_SERVICE, f"service type {service_type:#x} has reserved bits"
            )
        if mess_type < LOWEST_USER_TYPE:
            raise IllegalMessageType(
                SpreadCode.ILLEGAL_MESSAGE_TYPE, f"message type {mess_type} is reserved"
            )
        name = _text(target)
        known = self._groups.get(name)
        if known is None or known.member_state is not MemberState.JOINED:
            if "#" in name:
                return None
            raise IllegalGroup(SpreadCode.ILLEGAL_GROUP, f"not a member of group {target!r}")
        if known.view_state is ViewState.AGREE:
            raise IllegalState(
                SpreadCode.ILLEGAL_STATE, f"{target!r} is flushed and the next view has not come"
            )
        return known

    def _mark(
        self, group: FlushGroup, service_type: int, mess_type: int, body: bytes
    ) -> tuple[int, bytes]:
        """Put a message that could overtake the view's installation into VULNERABLE form."""
        if not group.vulnerable or not service_type & _VULNERABLE_SERVICES:
            return mess_type, body
        trailer = struct.pack("<h", mess_type) + encode_group_id(group.view.group_id)
        return VULNERABLE_TYPE, body + trailer

    # What arrives

    def receive(self, message: Message) -> None:
        """Take a message of the plain connection; fills :attr:`events` and :attr:`outgoing`."""
        if isinstance(message, DataMessage):
            self._data(message)
        elif isinstance(message, MembershipMessage):
            group = self._groups.get(message.group)
            if group is None:
                group = FlushGroup(message.group, self.private_group, self)
                self._groups[message.group] = group
            group.membership(message)
        elif isinstance(message, TransitionMessage):
            known = self._groups.get(message.group)
            if known is not None:
                known.transition()
        elif isinstance(message, SelfLeave):
            self._groups.pop(message.group, None)
            self.events.append(message)
        else:
            self.events.append(message)

    def _data(self, message: DataMessage) -> None:
        """Take trailers off a data message, from the end, and give it to its group."""
        body = message.body
        subgroup = message.service_type & SUBGROUP_CAST
        if subgroup:
            if len(body) < MAX_GROUP_NAME:
                return
            target = name_text(body[-MAX_GROUP_NAME:].partition(b"\0")[0])
            body = body[:-MAX_GROUP_NAME]
            message = evolve(message, groups=(*message.groups, target), body=body)
        else:
            target = message.groups[0] if message.groups else ""
        group_id: GroupId | None = None
        reserved = message.mess_type
        if reserved < LOWEST_USER_TYPE:
            if len(body) < GROUP_ID_SIZE:
                return
            group_id = decode_group_id(body[-GROUP_ID_SIZE:], message.byte_order)
            body = body[:-GROUP_ID_SIZE]
        if reserved == VULNERABLE_TYPE:
            if len(body) < 2:
                return
            (mess_type,) = struct.unpack(f"{message.byte_order}h", body[-2:])
            message = evolve(message, mess_type=mess_type, body=body[:-2])
        group = self._groups.get(target)
        if group is None:
            if target == self.private_group and reserved >= LOWEST_USER_TYPE:
                self.events.append(message)
        elif reserved == FLUSH_OK_TYPE and group_id is not None:
            group.flush_ok(group_id, message.sender)
        elif reserved == FLUSH_RECV_TYPE and group_id is not None:
            group.flush_recv(group_id)
        else:
            group.data(message, group_id)

    # Called by the groups

    def deliver(self, event: FlushEvent) -> None:
        """Queue something for the program."""
        self.events.append(event)

    def send_flush_ok(self, group: str, group_id: GroupId) -> None:
        """Queue a FLUSH_OK."""
        self._send_own(group, group_id, FLUSH_OK_TYPE)

    def send_flush_recv(self, group: str, group_id: GroupId) -> None:
        """Queue a FLUSH_RECV."""
        self._send_own(group, group_id, FLUSH_RECV_TYPE)

    def _send_own(self, group: str, group_id: GroupId, mess_type: int) -> None:
        body = encode_group_id(group_id)
        self.outgoing.append(Outgoing(int(ServiceType.FIFO_MESS), (group,), body, mess_type))


def _text(name: Name) -> str:
    return name if isinstance(name, str) else name_text(name_bytes(name))
