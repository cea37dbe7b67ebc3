"""Cutting the daemon's byte stream into messages, sans-IO.

:meth:`FrameParser.feed` takes whatever a read returned and gives every message
that is complete with it; the rest waits.  Bytes are copied once more only where a
message spans reads.  Nothing is believed: a count, a length or an offset that
cannot be ends the connection with :class:`~txspread.client.errors.IllegalMessage`,
because the stream cannot be in step behind it
(``docs/protocol/client-session.md`` section 7.6).

What is held is bounded: a data or reject message has at most 100 groups and 144000
bytes in all, a membership message at most ``max_membership`` bytes.
"""

from __future__ import annotations

from typing import Final

from txspread.client.errors import IllegalMessage
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    Message,
    RejectMessage,
    SelfLeave,
    TransitionMessage,
    name_text,
)
from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import (
    ENDIAN_MARKER,
    MAX_GROUP_NAME,
    MAX_GROUPS_PER_MESSAGE,
    MAX_MESSAGE_BODY_LEN,
    MEMBERSHIP_MESS,
    MESSAGE_HEADER_SIZE,
    REGULAR_MESS,
    REJECT_MESS,
    ServiceType,
    SpreadCode,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.membership_message import GROUP_ID_SIZE, MembershipBody, decode_group_id
from txspread.wire.message import HEADER_BE, HEADER_LE, hint_order_of, mess_type_of, rejected_type

MAX_MEMBERSHIP: Final = 1 << 20
"""Default bound of one membership message in bytes: some 16000 members."""
OLD_TYPE_SIZE: Final = 4
_NOT_MARKER: Final = 0xFFFFFFFF & ~ENDIAN_MARKER
_REG_MEMB_MESS: Final = int(ServiceType.REG_MEMB_MESS)
_TRANSITION_MESS: Final = int(ServiceType.TRANSITION_MESS)
_CAUSED_BY_LEAVE: Final = int(ServiceType.CAUSED_BY_LEAVE)
_CACHE: Final = 4096
"""Most entries of each of the parser's caches."""


class FrameParser:
    """The receiving half of one open session.

    :param private_group: the session's own name, to find its index in views.
    :param max_membership: bound of one membership message in bytes.
    """

    __slots__ = (
        "_chunks",
        "_held",
        "_hints",
        "_missing",
        "_names",
        "_types",
        "max_membership",
        "private_group",
        "problem",
    )

    def __init__(self, private_group: str, max_membership: int = MAX_MEMBERSHIP) -> None:
        self.private_group = private_group
        self.max_membership = max_membership
        self.problem: IllegalMessage | None = None
        """What is wrong with the stream; nothing behind it can be read."""
        self._chunks: list[bytes] = []
        self._held = 0
        self._missing = MESSAGE_HEADER_SIZE
        self._names: dict[bytes, str] = {}
        self._types: dict[int, ServiceType] = {}
        self._hints: dict[int, tuple[int, ByteOrder]] = {}

    @property
    def held(self) -> int:
        """Bytes of an incomplete message that wait for the rest."""
        return self._held

    @property
    def missing(self) -> int:
        """Bytes to read next that surely belong to the current message, at least 1.

        A reader that never takes more than this leaves the next message in the
        socket, which is what programs that ``select`` on it rely on.
        """
        return self._missing - self._held

    def feed(self, data: bytes) -> list[Message]:
        """Take what was read; return the messages that are complete now.

        Messages in front of impossible bytes are still returned, and
        :attr:`problem` is set: the connection must be closed.

        :raises IllegalMessage: the stream is broken and there is no message.
        """
        messages: list[Message] = []
        if self.problem is None:
            try:
                self._split(data, messages)
            except IllegalMessage as problem:
                self.problem = problem
                self._chunks.clear()
        if self.problem is not None and not messages:
            raise self.problem
        return messages

    def _split(self, data: bytes, messages: list[Message]) -> None:
        held = self._held + len(data)
        if held < self._missing:
            self._chunks.append(data)
            self._held = held
            return
        if self._chunks:
            self._chunks.append(data)
            data = b"".join(self._chunks)
            self._chunks.clear()
        append = messages.append
        unpack = HEADER_LE.unpack_from
        names = self._names
        hints = self._hints
        types = self._types
        offset = 0
        size = len(data)
        while size - offset >= MESSAGE_HEADER_SIZE:
            word, sender, count, hint, length = unpack(data, offset)
            start = offset + MESSAGE_HEADER_SIZE
            if not (word & ENDIAN_MARKER == ENDIAN_MARKER and word & REGULAR_MESS) or (
                word & REJECT_MESS
            ):
                end = self._special_end(data, offset)
                if end > size:
                    self._missing = end - offset
                    break
                append(self._special(data, offset, end))
                offset = end
                continue
            if not 0 <= count <= MAX_GROUPS_PER_MESSAGE or not 0 <= length <= MAX_MESSAGE_BODY_LEN:
                raise _impossible(f"a data message of {length} bytes to {count} groups")
            body = start + MAX_GROUP_NAME * count
            end = body + length
            if end > size:
                self._missing = end - offset
                break
            # The common case of one group and of names and numbers seen before
            # costs four dictionary look-ups.
            if count == 1:
                group = data[start:body]
                groups: tuple[str, ...] = (names.get(group) or self._name(group),)
            else:
                groups = self._list(data, start, count)
            mess_type, order = hints.get(hint) or self._hint(hint, "<")
            append(
                DataMessage(
                    types.get(word) or self._type(word),
                    names.get(sender) or self._name(sender),
                    groups,
                    mess_type,
                    order,
                    data[body:end],
                )
            )
            offset = end
        else:
            self._missing = MESSAGE_HEADER_SIZE
        if offset < size:
            self._chunks.append(data[offset:] if offset else data)
        self._held = size - offset

    def _special_end(self, data: bytes, offset: int) -> int:
        """Where a message that is no little-endian data message ends."""
        word, count, _hint, length, _order = self._header(data, offset)
        start = offset + MESSAGE_HEADER_SIZE
        if word & REJECT_MESS:
            start += OLD_TYPE_SIZE
        if word & (REGULAR_MESS | REJECT_MESS):
            if not 0 <= count <= MAX_GROUPS_PER_MESSAGE or not 0 <= length <= MAX_MESSAGE_BODY_LEN:
                raise _impossible(f"a message of {length} bytes to {count} groups")
        elif word & MEMBERSHIP_MESS:
            total = MESSAGE_HEADER_SIZE + MAX_GROUP_NAME * count + length
            if count < 0 or length < 0 or total > self.max_membership:
                raise _impossible(f"a membership message of {count} members and {length} bytes")
        else:
            raise _impossible(f"a message of type {word:#x}")
        return start + MAX_GROUP_NAME * count + length

    def _header(self, data: bytes, offset: int) -> tuple[int, int, int, int, ByteOrder]:
        """Type without marker, groups, hint, length, order of the header."""
        word, _sender, count, hint, length = HEADER_LE.unpack_from(data, offset)
        marker = word & ENDIAN_MARKER
        if marker == ENDIAN_MARKER:
            return word & _NOT_MARKER, count, hint, length, "<"
        if marker:
            raise _impossible("a message with only one of its two byte-order bits")
        word, _sender, count, hint, length = HEADER_BE.unpack_from(data, offset)
        return word & _NOT_MARKER, count, hint, length, ">"

    def _special(self, data: bytes, offset: int, end: int) -> Message:
        """Read a complete message of any kind."""
        word, count, hint, length, order = self._header(data, offset)
        sender = data[offset + 4 : offset + 4 + MAX_GROUP_NAME]
        name = self._names.get(sender) or self._name(sender)
        body = data[end - length : end]
        groups = self._list(data, end - length - MAX_GROUP_NAME * count, count)
        if word & (REGULAR_MESS | REJECT_MESS):
            number, writer = self._hint(hint, order)
            if not word & REJECT_MESS:
                service = self._type(word)
                return DataMessage(service, name, groups, number, writer, body)
            try:
                old_type = rejected_type(data[offset:end]) & _NOT_MARKER
            except ProtocolError as error:
                raise _impossible(str(error)) from error
            service = self._type(old_type | REJECT_MESS)
            return RejectMessage(service, name, groups, number, writer, body)
        try:
            return self._membership(word, name, groups, body, order)
        except ProtocolError as error:
            raise _impossible(f"a membership message: {error}") from error

    def _membership(
        self, word: int, group: str, members: tuple[str, ...], body: bytes, order: ByteOrder
    ) -> Message:
        service = self._type(word)
        if word & _REG_MEMB_MESS:
            decoded = MembershipBody.decode(body, order)
            vs_sets = tuple(
                tuple(name_text(member) for member in members_of_set)
                for members_of_set in decoded.vs_sets
            )
            index = members.index(self.private_group) if self.private_group in members else -1
            return MembershipMessage(
                service,
                group,
                members,
                index,
                decoded.group_id,
                vs_sets,
                _set_at(decoded.vs_sets, decoded.local_vs_set_offset),
            )
        if word & _TRANSITION_MESS:
            if len(body) < GROUP_ID_SIZE:
                raise ProtocolError(f"a transition with {len(body)} bytes of group id")
            return TransitionMessage(service, group, decode_group_id(body, order))
        if word & _CAUSED_BY_LEAVE:
            return SelfLeave(service, group)
        raise ProtocolError(f"type {word:#x}")

    def _list(self, data: bytes, start: int, count: int) -> tuple[str, ...]:
        names = self._names
        fields = [
            data[at : at + MAX_GROUP_NAME]
            for at in range(start, start + MAX_GROUP_NAME * count, MAX_GROUP_NAME)
        ]
        return tuple([names.get(field) or self._name(field) for field in fields])

    def _name(self, field: bytes) -> str:
        """Decode a name field, remembering it: the same few come again and again."""
        name = name_text(field.partition(b"\0")[0])
        if len(self._names) >= _CACHE:
            self._names.clear()
        self._names[field] = name
        return name

    def _type(self, word: int) -> ServiceType:
        service = ServiceType(word & _NOT_MARKER)
        if len(self._types) >= _CACHE:
            self._types.clear()
        self._types[word] = service
        return service

    def _hint(self, hint: int, order: ByteOrder) -> tuple[int, ByteOrder]:
        """Message type, and byte order of the client that wrote the hint."""
        writer = hint_order_of(hint)
        number = mess_type_of(hint, order)
        if order == "<":
            if len(self._hints) >= _CACHE:
                self._hints.clear()
            self._hints[hint] = (number, writer)
        return number, writer


def _set_at(vs_sets: tuple[tuple[bytes, ...], ...], offset: int) -> int:
    """Find the set that begins ``offset`` bytes behind the first one's count."""
    at = 0
    for index, members in enumerate(vs_sets):
        if at == offset:
            return index
        at += 4 + MAX_GROUP_NAME * len(members)
    raise ProtocolError(f"no vs set begins at offset {offset}")


def _impossible(what: str) -> IllegalMessage:
    return IllegalMessage(SpreadCode.ILLEGAL_MESSAGE, f"the daemon sent what cannot be: {what}")
