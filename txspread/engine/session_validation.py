"""What a client may send: the checks of one message header and of its names.

Rules, in the order in which they are applied; the first one that is broken ends
the session (upstream closes without a code, and so does this daemon).

1. Of the six service bits and the request bits JOIN, LEAVE and KILL exactly one
   is set in the whole type word.
2. No bit that only daemons may use, or that would make peers misread the
   message, is set: GROUPS, REJECT, the membership bits, bits 14, 15, 20, 21 and
   23.  Data may carry SELF_DISCARD and bits 24 to 30, a request SELF_DISCARD.
   (Upstream lets all of these through; some of them stop a whole ring.)
3. The sender is this session of this daemon.  Byte 31 of the field counts as
   NUL; what stands behind the name is zeroed.
4. 0 <= num_groups <= 100, and at least one for JOIN and LEAVE.
5. The hint has no bits outside its 16-bit type and its marker.
6. 0 <= data_len <= 144 000, and header, names and body together are at most
   143 200 bytes, which is what a peer can reassemble.
7. Once it is complete: a JOIN or LEAVE names a group of 1 to 31 bytes in
   0x24..0x7E; a message to ``#...`` has a NUL in that name's field.

What is forwarded is the client's frame with a little-endian header.  JOIN,
LEAVE and KILL are cut to the one name that counts.

Source: ``docs/protocol/client-session.md`` sections 4.2, 4.3 and 9; upstream
``session.c``, ``Sess_validate_read_header``.
"""

from __future__ import annotations

from typing import Final

from attrs import define, frozen

from txspread.engine.alarms import Category
from txspread.wire.constants import (
    ENDIAN_MARKER,
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MAX_FRAGMENTS,
    MAX_GROUP_NAME,
    MAX_GROUPS_PER_MESSAGE,
    MAX_MESSAGE_BODY_LEN,
    MESSAGE_HEADER_SIZE,
    REGULAR_MESS,
    REJECT_MESS,
    SELF_DISCARD,
    PacketType,
)
from txspread.wire.message import HEADER_BE, HEADER_LE, name_field, packet_type_of
from txspread.wire.names import legal_characters, split_private_group

MAX_MESSAGE_SIZE: Final = MAX_FRAGMENTS * 1432
"""Header, names and body: what fits 100 ring packets of upstream 4.4 (143 200)."""
_LIBRARY_LIMIT: Final = MAX_MESSAGE_BODY_LEN - MESSAGE_HEADER_SIZE

_REQUESTS: Final = JOIN_MESS | LEAVE_MESS | KILL_MESS
_DATA_BITS: Final = REGULAR_MESS | SELF_DISCARD | ENDIAN_MARKER | 0x7F000000
_REQUEST_BITS: Final = _REQUESTS | SELF_DISCARD | ENDIAN_MARKER
HINT_FOREIGN_BITS: Final = 0x7F00007F
_HARMFUL_BITS: Final = GROUPS_MESS | REJECT_MESS

DATA_TYPES: Final[dict[int, PacketType]] = {
    1 << bit | ENDIAN_MARKER: packet_type_of(1 << bit) for bit in range(6)
}
"""Packet type of a little-endian data message by ``type & DATA_TYPE_MASK``."""
DATA_TYPE_MASK: Final = 0xFFFFFFFF & ~(SELF_DISCARD | 0x7F000000)


@frozen
class Refusal:
    """Why a session ends: one line for the log."""

    category: Category
    text: str
    args: tuple[object, ...] = ()


@define
class CheckedHeader:
    """A header that passed; what is needed to take the frame off the stream.

    Not changed once it is made; a frozen one takes several times as long to make.
    """

    type: int
    """Type word in little-endian reading, marker bits set."""
    size: int
    """Bytes of the whole frame as the client sent it."""
    num_groups: int
    header: bytes
    """The 48 bytes as they are forwarded."""
    packet_type: PacketType

    @property
    def request(self) -> int:
        """``JOIN_MESS``, ``LEAVE_MESS`` or ``KILL_MESS``, or 0 for data."""
        return self.type & _REQUESTS


def check_header(data: bytes, offset: int, private_group: bytes) -> CheckedHeader | Refusal:
    """Apply rules 1 to 6 to the 48 bytes at ``offset``, in either byte order.

    Args:
        data: at least 48 bytes from ``offset``.
        offset: where the header begins.
        private_group: ``#session#daemon`` of the session that sent them.

    """
    type_, sender, num_groups, hint, data_len = HEADER_LE.unpack_from(data, offset)
    if type_ & ENDIAN_MARKER != ENDIAN_MARKER:
        type_, sender, num_groups, _, data_len = HEADER_BE.unpack_from(data, offset)
        if type_ & ENDIAN_MARKER:
            return _illegal_type(type_)
        type_ |= ENDIAN_MARKER
    selected = type_ & (REGULAR_MESS | _REQUESTS)
    if not selected or selected & (selected - 1):
        return _illegal_type(type_)
    if type_ & ~(_REQUEST_BITS if selected & _REQUESTS else _DATA_BITS):
        return _illegal_type(type_)
    refusal = _check_sender(sender, private_group)
    if refusal is not None:
        return refusal
    if not 0 <= num_groups <= MAX_GROUPS_PER_MESSAGE:
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: Message has negative or too large num_groups field",
        )
    if hint & HINT_FOREIGN_BITS:
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: Message has illegal hint field 0x%x",
            (hint,),
        )
    if not 0 <= data_len <= MAX_MESSAGE_BODY_LEN:
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: Message has negative or too large data_len %d",
            (data_len,),
        )
    names = MAX_GROUP_NAME * num_groups
    size = MESSAGE_HEADER_SIZE + names + data_len
    if size > MAX_MESSAGE_SIZE:
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: Message + Groups is too large (%d + %d = %d). "
            "MAX size is: %d",
            (
                data_len,
                names,
                data_len + names,
                min(_LIBRARY_LIMIT, MAX_MESSAGE_SIZE - MESSAGE_HEADER_SIZE),
            ),
        )
    if not num_groups and selected & (JOIN_MESS | LEAVE_MESS):
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: Session %s sent a request of type 0x%x without a group",
            (printable(private_group), type_),
        )
    header = HEADER_LE.pack(type_, name_field(private_group), num_groups, hint, data_len)
    return CheckedHeader(type_, size, num_groups, header, packet_type_of(type_))


def _illegal_type(type_: int) -> Refusal:
    # Frames with these bits stop an upstream ring, so the line is always shown.
    shown = Category.SESSION | Category.PRINT if type_ & _HARMFUL_BITS else Category.SESSION
    return Refusal(
        shown, "Sess_validate_read_header: Message has illegal type field 0x%x", (type_,)
    )


def _check_sender(field: bytes, private_group: bytes) -> Refusal | None:
    sender = field[: MAX_GROUP_NAME - 1].partition(b"\0")[0]
    if sender == private_group:
        return None
    names = split_private_group(sender)
    if names is None:
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: Message has illegal private_group_name (priv, proc)",
        )
    mine, _, my_daemon = private_group[1:].partition(b"#")
    session, daemon = names
    if daemon != my_daemon:
        return Refusal(
            Category.SESSION,
            "Sess_validate_read_header: proc name %s is not my name %s",
            (printable(daemon), printable(my_daemon)),
        )
    return Refusal(
        Category.PRINT,
        "Sess_validate_read_header: Session %s trying to make session %s do something",
        (printable(session), printable(mine)),
    )


def finish_frame(checked: CheckedHeader, frame: bytes, private_group: bytes) -> bytes | Refusal:
    """Apply rule 7 to a complete frame and give the bytes to forward.

    Args:
        checked: what :func:`check_header` said of its header.
        frame: ``checked.size`` bytes as the client sent them.
        private_group: of the session, for the log.

    """
    request = checked.request
    if request == KILL_MESS:
        return _cut_to_one_name(checked, name_field(private_group), frame)
    if request:
        field = frame[48:80]
        name, terminator, _ = field.partition(b"\0")
        if not name or not terminator or not legal_characters(name):
            shown = Category.SESSION if terminator else Category.SESSION | Category.PRINT
            return Refusal(
                shown,
                "Sess_read: Session %s named an illegal group in a request of type 0x%x",
                (printable(private_group), checked.type),
            )
        return _cut_to_one_name(checked, name_field(name), frame)
    if not targets_bounded(frame, checked.num_groups):
        return unbounded_target(private_group)
    if frame.startswith(checked.header):
        return frame
    return checked.header + frame[MESSAGE_HEADER_SIZE:]


def _cut_to_one_name(checked: CheckedHeader, field: bytes, frame: bytes) -> bytes:
    if checked.num_groups == 1 and frame == checked.header + field:
        return frame
    return checked.header[:36] + b"\1\0\0\0" + checked.header[40:44] + bytes(4) + field


def unbounded_target(private_group: bytes) -> Refusal:
    """Why a message to ``#`` and 31 bytes without NUL is refused: peers read past it."""
    return Refusal(
        Category.SESSION | Category.PRINT,
        "Sess_read: Session %s sent to a private group name without an end",
        (printable(private_group),),
    )


def targets_bounded(frame: bytes, num_groups: int, offset: int = 0) -> bool:
    """Tell whether every private name among the targets ends within its field.

    ``offset`` is where the frame begins in ``frame``.
    """
    first = offset + MESSAGE_HEADER_SIZE
    for start in range(first, first + MAX_GROUP_NAME * num_groups, MAX_GROUP_NAME):
        if frame[start + 31] and frame[start] == 0x23 and 0 not in frame[start : start + 32]:
            return False
    return True


def printable(name: bytes) -> str:
    """A name for a log line: ASCII as it is, everything else escaped."""
    return name.decode("ascii", "backslashreplace")
