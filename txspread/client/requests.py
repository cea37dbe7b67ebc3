"""Frames that a client sends, checked before they are built.

The daemon's answer to an illegal frame is to close the connection without a
word, so everything it would refuse is refused here, with an error that says the
limit (``docs/protocol/client-session.md`` sections 3.4, 4.2, 4.3, 7.4, 7.5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from txspread.client.errors import (
    ConnectionRejected,
    IllegalGroup,
    IllegalMessage,
    IllegalService,
    MessageTooLong,
)
from txspread.client.messages import Name, name_bytes
from txspread.wire.constants import (
    ENDIAN_MARKER,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MAX_GROUP_NAME,
    MAX_GROUPS_PER_MESSAGE,
    MAX_PRIVATE_NAME,
    MESSAGE_HEADER_SIZE,
    REGULAR_MESS,
    SpreadCode,
)
from txspread.wire.message import HEADER_LE, encode_message, hint_for, name_field

SAFE_GROUPS: Final = 43
"""Most groups of one message that every daemon of a 4.4.0 ring handles: with 44
the header no longer fits the first fragment and upstream delivers to nobody."""
MAX_TOTAL: Final = 143200
"""Header, groups and body of the largest message that fits the fragments of a ring."""
SAFE_TOTAL: Final = MAX_TOTAL - 1
"""Largest message that every 4.4.0 daemon survives: one that fills the last
fragment makes it write behind a table, and a freshly started one dies of it."""
FREE_BITS: Final = 0x7F000040
"""Bits that may stand beside the service bit: SELF_DISCARD and bits 24 to 30,
of which the flush layer uses one."""

_NAME: Final = re.compile(rb"[\x24-\x7e]+\Z")


def check_private_name(name: Name) -> bytes:
    """Return the private name for the connect request.

    :raises ConnectionRejected: (REJECT_ILLEGAL_NAME, as the daemon would) for more
        than 10 bytes or bytes outside 0x24..0x7E; an empty name is legal.
    """
    data = name_bytes(name)
    if len(data) > MAX_PRIVATE_NAME:
        raise ConnectionRejected(
            SpreadCode.REJECT_ILLEGAL_NAME,
            f"private name {name!r} has {len(data)} bytes, the limit is {MAX_PRIVATE_NAME}",
        )
    if data and not _NAME.match(data):
        raise ConnectionRejected(
            SpreadCode.REJECT_ILLEGAL_NAME,
            f"private name {name!r}: only the characters '$' to '~' of ASCII are legal",
        )
    return data


def check_group(group: Name) -> bytes:
    """Return the name of a group to join or leave.

    :raises IllegalGroup: unless it is 1 to 31 bytes from 0x24..0x7E.
    """
    data = name_bytes(group)
    if not 0 < len(data) < MAX_GROUP_NAME:
        raise IllegalGroup(
            SpreadCode.ILLEGAL_GROUP,
            f"group name {group!r} has {len(data)} bytes, 1 to {MAX_GROUP_NAME - 1} are legal",
        )
    if not _NAME.match(data):
        raise IllegalGroup(
            SpreadCode.ILLEGAL_GROUP,
            f"group name {group!r}: only the characters '$' to '~' of ASCII are legal",
        )
    return data


def check_target(group: Name) -> bytes:
    """Return the name of a group or private group to send to.

    Laxer than :func:`check_group`: groups that other clients joined under odd
    names can be reached.

    :raises IllegalGroup: for an empty name, more than 31 bytes, or a NUL in it.
    """
    data = name_bytes(group)
    if not 0 < len(data) < MAX_GROUP_NAME or b"\0" in data:
        raise IllegalGroup(
            SpreadCode.ILLEGAL_GROUP,
            f"target {group!r}: 1 to {MAX_GROUP_NAME - 1} bytes without NUL are legal",
        )
    return data


class RequestEncoder:
    """Builds the frames of one session.

    :param private_group: as the daemon gave it, ``#name#daemon``.
    :param max_groups: most groups per message; above 43 no upstream 4.x daemon
        delivers the message (:data:`SAFE_GROUPS`), 100 is the protocol's limit.
    :param max_total: most bytes of header, groups and body (:data:`SAFE_TOTAL`);
        143200 is the protocol's limit.
    """

    __slots__ = ("_groups", "_sender", "max_groups", "max_total", "private_group")

    def __init__(
        self, private_group: bytes, max_groups: int = SAFE_GROUPS, max_total: int = SAFE_TOTAL
    ) -> None:
        if not MESSAGE_HEADER_SIZE < max_total <= MAX_TOTAL:
            raise ValueError(f"max_total must be at most {MAX_TOTAL}")
        if not 1 <= max_groups <= MAX_GROUPS_PER_MESSAGE:
            raise ValueError(f"max_groups must be 1 to {MAX_GROUPS_PER_MESSAGE}")
        self.private_group = private_group
        self.max_groups = max_groups
        self.max_total = max_total
        self._sender = name_field(private_group)
        self._groups: dict[Name, bytes] = {}

    def join(self, group: Name) -> bytes:
        """Encode the request to become a member of a group."""
        return encode_message(JOIN_MESS, self.private_group, [check_group(group)])

    def leave(self, group: Name) -> bytes:
        """Encode the request to be a member no longer."""
        return encode_message(LEAVE_MESS, self.private_group, [check_group(group)])

    def disconnect(self) -> bytes:
        """Encode the message that ends the session."""
        return encode_message(KILL_MESS, self.private_group, [self.private_group])

    def multicast(
        self, service_type: int, groups: Name | Sequence[Name], body: bytes, mess_type: int = 0
    ) -> bytes:
        """Encode a data message to one group or to several.

        :param service_type: one of the six service bits, with ``SELF_DISCARD`` or
            ``SUBGROUP_CAST`` if wanted.
        :param groups: a name, or up to :attr:`max_groups` names.
        :param body: up to ``max_total - 48 - 32 * number of groups`` bytes.
        :param mess_type: -32768 to 32767, for the application.
        :raises IllegalService: not exactly one service bit, or bits of the daemon's.
        :raises IllegalGroup: a name that cannot be, or too many of them.
        :raises IllegalMessage: the message type does not fit 16 bits.
        :raises MessageTooLong: body and groups are over the limit.
        """
        service = service_type & REGULAR_MESS
        if service == 0 or service & (service - 1) or service_type & ~(REGULAR_MESS | FREE_BITS):
            raise _illegal_service(service_type)
        if isinstance(groups, str | bytes):
            count = 1
            fields = self._groups.get(groups) or self._field(groups)
        else:
            count = len(groups)
            if count > self.max_groups:
                raise IllegalGroup(
                    SpreadCode.ILLEGAL_GROUP,
                    f"{count} groups in one message, the limit is {self.max_groups}",
                )
            fields = b"".join([self._groups.get(group) or self._field(group) for group in groups])
        length = len(body)
        if MESSAGE_HEADER_SIZE + len(fields) + length > self.max_total:
            raise MessageTooLong(
                SpreadCode.MESSAGE_TOO_LONG,
                f"{length} bytes to {count} groups, the limit is"
                f" {self.max_total - MESSAGE_HEADER_SIZE - len(fields)} bytes",
            )
        if not -32768 <= mess_type <= 32767:
            raise IllegalMessage(
                SpreadCode.ILLEGAL_MESSAGE,
                f"message type {mess_type} is outside -32768 to 32767",
            )
        return (
            HEADER_LE.pack(
                service_type | ENDIAN_MARKER, self._sender, count, hint_for(mess_type), length
            )
            + fields
            + body
        )

    def _field(self, group: Name) -> bytes:
        """Pad a target name, remembering the most recent ones."""
        padded = name_field(check_target(group))
        if len(self._groups) >= 1000:
            self._groups.clear()
        self._groups[group] = padded
        return padded


def _illegal_service(service_type: int) -> IllegalService:
    foreign = service_type & ~(REGULAR_MESS | FREE_BITS)
    if foreign:
        reason = f"bits {foreign & 0xFFFFFFFF:#x} are not a client's to send"
    else:
        reason = "exactly one of the six service bits must be set"
    return IllegalService(SpreadCode.ILLEGAL_SERVICE, f"service type {service_type:#x}: {reason}")
