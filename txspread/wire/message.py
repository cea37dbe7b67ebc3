"""Messages: the frame that clients, the ring and members share.

A frame is a 48-byte header, ``num_groups`` names of 32 bytes and ``data_len``
bytes of body.  The same bytes travel from the sending client through the ring to
the receiving client, so codecs here read and write headers and leave bodies
alone.  Source: ``docs/protocol/client-session.md`` section 3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from attrs import define

from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import (
    ENDIAN_MARKER,
    MAX_GROUP_NAME,
    MESSAGE_HEADER_SIZE,
    PacketType,
)
from txspread.wire.derive import derive
from txspread.wire.errors import ProtocolError
from txspread.wire.layouts import message as layouts

HEADER_LE: Final = derive(layouts.HEADER, "<")
"""48 bytes: type, sender (32 bytes), num_groups, hint, data_len."""
HEADER_BE: Final = derive(layouts.HEADER, ">")
_OLD_TYPE_LE: Final = derive(layouts.OLD_TYPE, "<")
_OLD_TYPE_BE: Final = derive(layouts.OLD_TYPE, ">")

_NOT_MARKER: Final = 0xFFFFFFFF & ~ENDIAN_MARKER


@define(unsafe_hash=True)
class MessageHeader:
    """A message header as it was read.  Not to be changed after that."""

    type: int
    """Type word with its marker bits."""
    sender: bytes
    """Name up to its NUL: sender's private group, or the group of a membership message."""
    num_groups: int
    """As written: may be negative or absurd, the caller checks."""
    hint: int
    """The hint word read in the header's byte order, without regard to its own
    marker; :attr:`mess_type` reads it right."""
    data_len: int
    """Bytes of body as written: may be negative or absurd, the caller checks."""
    byteorder: ByteOrder

    @classmethod
    def decode(cls, data: bytes | memoryview, offset: int = 0) -> MessageHeader:
        """Read the header at ``offset``.

        Raises :class:`ProtocolError` for fewer than 48 bytes or half a marker.
        """
        try:
            type_, sender, num_groups, hint, data_len = HEADER_LE.unpack_from(data, offset)
        except struct.error:
            raise ProtocolError("message shorter than its header of 48 bytes") from None
        marker = type_ & ENDIAN_MARKER
        if marker == ENDIAN_MARKER:
            return cls(type_, field_name(sender), num_groups, hint, data_len, "<")
        if marker:
            raise ProtocolError("message type with only one of its two byte-order bits")
        type_, sender, num_groups, hint, data_len = HEADER_BE.unpack_from(data, offset)
        return cls(type_, field_name(sender), num_groups, hint, data_len, ">")

    @property
    def mess_type(self) -> int:
        """The sending client's 16-bit message type, signed."""
        return mess_type_of(self.hint, self.byteorder)

    @property
    def endian_mismatch(self) -> bool:
        """Whether the client that wrote the hint was not little-endian.

        It says in which order the body was written; nothing converts bodies.
        """
        return hint_order_of(self.hint) == ">"


def name_field(name: bytes) -> bytes:
    """The 32-byte field of a name, NUL padded.

    Raises :class:`ProtocolError` for a name longer than 32 bytes.  (A name of
    exactly 32 has no NUL; upstream daemons relay such names.)
    """
    if len(name) > MAX_GROUP_NAME:
        raise ProtocolError(f"name of {len(name)} bytes, a field has {MAX_GROUP_NAME}")
    return name.ljust(MAX_GROUP_NAME, b"\0")


def field_name(field: bytes) -> bytes:
    """The name in a field: up to its first NUL, all of it without one."""
    return field.partition(b"\0")[0]


def encode_message(
    type: int,
    sender: bytes,
    groups: Sequence[bytes],
    body: bytes = b"",
    mess_type: int = 0,
    byteorder: ByteOrder = "<",
) -> bytes:
    """A complete frame; the marker bits of type and hint are set or cleared here.

    Raises :class:`ProtocolError` when a name or a number does not fit its field.
    """
    if byteorder == "<":
        header = HEADER_LE
        type_ = type | ENDIAN_MARKER
    else:
        header = HEADER_BE
        type_ = type & _NOT_MARKER
    try:
        start = header.pack(
            type_, name_field(sender), len(groups), hint_for(mess_type, byteorder), len(body)
        )
    except struct.error as error:
        raise ProtocolError(str(error)) from None
    if len(groups) == 1:
        return start + name_field(groups[0]) + body
    return b"".join([start, *[name_field(group) for group in groups], body])


def encode_reject(message: bytes, old_type: int, groups: Sequence[bytes]) -> bytes:
    """The reject message for a refused little-endian ``message``.

    ``message`` is the refused frame, ``old_type`` the word that tells the client
    what was refused, ``groups`` the names to list (the original ones, then the
    sender).  Keeps SELF_DISCARD, hint and body.  Raises :class:`ProtocolError`.
    Source: ``docs/protocol/client-session.md`` section 5.6.
    """
    header = MessageHeader.decode(message)
    body_at = MESSAGE_HEADER_SIZE + MAX_GROUP_NAME * max(header.num_groups, 0)
    body = message[body_at:]
    start = encode_message(0x00400000 | header.type & 0x40, header.sender, groups, body)
    try:
        old = _OLD_TYPE_LE.pack(old_type | ENDIAN_MARKER)
    except struct.error as error:
        raise ProtocolError(str(error)) from None
    return b"".join([start[:40], message[40:44], start[44:48], old, start[48:]])


def rejected_type(message: bytes) -> int:
    """The refused type that a reject message carries behind its header.

    Raises :class:`ProtocolError` when it is not there.
    """
    header = MessageHeader.decode(message)
    old_type = _OLD_TYPE_LE if header.byteorder == "<" else _OLD_TYPE_BE
    try:
        value: int = old_type.unpack_from(message, MESSAGE_HEADER_SIZE)[0]
    except struct.error:
        raise ProtocolError("reject message without the refused type") from None
    return value


def message_groups(message: bytes, num_groups: int) -> list[bytes]:
    """The group names of a message, each up to its NUL.

    Raises :class:`ProtocolError` when they are not all there.
    """
    end = MESSAGE_HEADER_SIZE + MAX_GROUP_NAME * num_groups
    if num_groups < 0 or len(message) < end:
        raise ProtocolError(f"message of {len(message)} bytes cannot hold {num_groups} groups")
    if num_groups == 1:
        return [message[48:80].partition(b"\0")[0]]
    return [message[at : at + 32].partition(b"\0")[0] for at in range(48, end, 32)]


def hint_for(mess_type: int, byteorder: ByteOrder = "<") -> int:
    """The hint word of a 16-bit message type, for a header written in ``byteorder``.

    Takes the type signed or unsigned; bits above 16 are cut off as upstream does.
    """
    hint = (mess_type & 0xFFFF) << 8
    return hint | ENDIAN_MARKER if byteorder == "<" else hint


def hint_order_of(hint: int) -> ByteOrder:
    """Byte order of the client that wrote a hint.

    The marker reads the same both ways, so it does not matter in which order
    the hint was read.  Half a marker counts as big-endian, as a
    little-endian client library takes it.
    """
    return "<" if hint & ENDIAN_MARKER == ENDIAN_MARKER else ">"


def mess_type_of(hint: int, byteorder: ByteOrder = "<") -> int:
    """The message type in a hint, signed 16 bits.

    ``byteorder`` is the one in which ``hint`` was read from the header.  A hint
    is relayed untouched by all daemons, so it may have been written in the other
    one: its own marker decides.
    """
    if hint_order_of(hint) != byteorder:
        # read back to front: the 16 bits lie in the same two bytes, exchanged
        value = (hint >> 16 & 0xFF) | (hint & 0xFF00)
    else:
        value = hint >> 8 & 0xFFFF
    return value - 0x10000 if value & 0x8000 else value


def _packet_type(bits: int) -> PacketType:
    if bits & 0x03:
        return PacketType.RELIABLE
    if bits & 0x04:
        return PacketType.FIFO
    if bits & 0x18:
        return PacketType.AGREED
    if bits & 0x20:
        return PacketType.SAFE
    return PacketType.AGREED


_PACKET_TYPES: Final = tuple(_packet_type(bits) for bits in range(64))


def packet_type_of(message_type: int) -> PacketType:
    """The packet type by which a message is ordered.

    Source: ``docs/protocol/daemon-datagrams.md`` section 6.4.
    """
    return _PACKET_TYPES[message_type & 0x3F]


def normalize(message: bytes) -> bytes:
    """The message with type, num_groups and data_len in little-endian.

    The hint is never swapped, nor the body: decode a GROUPS message before, its
    body is in the order that the original marker tells.  Raises
    :class:`ProtocolError` for fewer than 48 bytes or half a marker.
    """
    if len(message) < MESSAGE_HEADER_SIZE:
        raise ProtocolError("message shorter than its header of 48 bytes")
    marker = (message[0] & 0x80) + (message[3] & 0x80)
    if marker == 0x100:
        return message
    if marker:
        raise ProtocolError("message type with only one of its two byte-order bits")
    type_, sender, num_groups, _, data_len = HEADER_BE.unpack_from(message)
    swapped = int.from_bytes(message[40:44], "little")
    start = HEADER_LE.pack(type_ | ENDIAN_MARKER, sender, num_groups, swapped, data_len)
    return start + message[MESSAGE_HEADER_SIZE:]
