"""What a connection can receive, as frozen typed objects.

Names (groups, senders, members) are ``str``.  Spread itself treats them as
bytes: they are decoded as UTF-8 with ``surrogateescape``, so that any bytes
survive the way through a program; :func:`name_bytes` is the way back.

Source: ``docs/protocol/client-session.md`` sections 5 and 7.6, 7.8.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import field, frozen

from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId

NATIVE_ORDER: Final[ByteOrder] = "<" if sys.byteorder == "little" else ">"

Name: TypeAlias = str | bytes
"""How a caller may write a name."""


def name_text(name: bytes) -> str:
    """Decode a name from the wire; never fails, and loses nothing."""
    return name.decode("utf-8", "surrogateescape")


def name_bytes(name: Name) -> bytes:
    """Encode a name for the wire; the reverse of :func:`name_text`."""
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else bytes(name)


@frozen
class DataMessage:
    """A message that some client sent."""

    service_type: ServiceType
    """The one service bit, with the other bits that the sender set
    (``SELF_DISCARD``, ``SUBGROUP_CAST``); the endian marker is removed."""
    sender: str
    """Private group of the sender, ``#name#daemon``."""
    groups: tuple[str, ...]
    """The targets as the sender wrote them, order and duplicates included."""
    mess_type: int
    """The sender's 16-bit signed number for the application."""
    byte_order: ByteOrder
    """Order of the sender's machine; nothing on the way touches the body."""
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")

    @property
    def endian_mismatch(self) -> bool:
        """Whether the sender's machine has the other byte order than this one."""
        return self.byte_order != NATIVE_ORDER


@frozen
class MembershipMessage:
    """A new view of a group that this connection is a member of."""

    service_type: ServiceType
    """``REG_MEMB_MESS`` and one of the four ``CAUSED_BY`` bits."""
    group: str
    members: tuple[str, ...]
    """All members of the view: by daemon in configuration order, then by name."""
    index: int
    """Position of this connection in :attr:`members`, -1 if it is not there."""
    group_id: GroupId
    vs_sets: tuple[tuple[str, ...], ...]
    """Virtual-synchrony sets.  For a network change, every member is in exactly
    one; those of one set came here together.  For the other causes there is one
    set with the one member that joined, left or disconnected."""
    vs_set_index: int
    """Which of :attr:`vs_sets` this connection is in, or 0 where that has no meaning."""

    @property
    def cause(self) -> ServiceType:
        """The ``CAUSED_BY`` bit alone."""
        return self.service_type & _CAUSES

    @property
    def caused_by_network(self) -> bool:
        """Whether daemons came or went, rather than one member."""
        return bool(self.service_type & ServiceType.CAUSED_BY_NETWORK)

    @property
    def changed_member(self) -> str | None:
        """Who joined, left or disconnected; None for a network change."""
        if self.caused_by_network or not self.vs_sets or not self.vs_sets[0]:
            return None
        return self.vs_sets[0][0]

    @property
    def vs_set(self) -> tuple[str, ...]:
        """The set that the connection itself is in (see :attr:`vs_sets`)."""
        return self.vs_sets[self.vs_set_index] if self.vs_sets else ()


@frozen
class TransitionMessage:
    """The view is about to change: guarantees for SAFE messages weaken here.

    What follows until the next :class:`MembershipMessage` of the group is
    known to reach only the members that stayed together.
    """

    service_type: ServiceType
    group: str
    group_id: GroupId
    """The view that ends."""


@frozen
class SelfLeave:
    """The own leave took effect: nothing more comes from the group."""

    service_type: ServiceType
    group: str


@frozen
class RejectMessage:
    """The daemon's access policy refused a request of this connection."""

    service_type: ServiceType
    """What was refused, with ``REJECT_MESS``: a join as ``CAUSED_BY_JOIN``, a
    leave as ``CAUSED_BY_LEAVE``, data with its service bit."""
    sender: str
    """This connection's own private group."""
    groups: tuple[str, ...]
    """The groups of the request, and the own private group as the last."""
    mess_type: int
    byte_order: ByteOrder
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")

    @property
    def endian_mismatch(self) -> bool:
        """See :attr:`DataMessage.endian_mismatch`."""
        return self.byte_order != NATIVE_ORDER


Message: TypeAlias = DataMessage | MembershipMessage | TransitionMessage | SelfLeave | RejectMessage

_CAUSES: Final = (
    ServiceType.CAUSED_BY_JOIN
    | ServiceType.CAUSED_BY_LEAVE
    | ServiceType.CAUSED_BY_DISCONNECT
    | ServiceType.CAUSED_BY_NETWORK
)


def message_size(message: Message) -> int:
    """Bytes of a message as the receive limits count them: 48 + names + body."""
    if isinstance(message, DataMessage | RejectMessage):
        return 48 + 32 * len(message.groups) + len(message.body)
    if isinstance(message, MembershipMessage):
        return 68 + 32 * len(message.members) + 32 * sum(len(names) for names in message.vs_sets)
    return 60


def joined_body(body: bytes | bytearray | memoryview | Sequence[bytes]) -> bytes:
    """Make one body of a body or of a scatter of buffers."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    return b"".join(body)
