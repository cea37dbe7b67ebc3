"""The type word of every datagram.

Source: ``docs/protocol/daemon-datagrams.md`` section 3.
"""

from __future__ import annotations

import enum
from typing import Final

UNRELIABLE: Final = 0x00000001
RELIABLE: Final = 0x00000002
FIFO: Final = 0x00000004
AGREED: Final = 0x00000008
SAFE: Final = 0x00000010
REGULAR: Final = 0x0000001F
"""Any of these bits: a data packet."""
ROUTED: Final = 0x00000020
"""For re-broadcast in the receiver's segment."""
HURRY: Final = 0x00000040
ALIVE: Final = 0x00000100
JOIN: Final = 0x00000200
REFER: Final = 0x00000400
MEMBERSHIP: Final = 0x00000700
FORM1: Final = 0x00001000
FORM2: Final = 0x00002000
FORM: Final = 0x00003000
ARQ: Final = 0x000F0000
ARQ_SHIFT: Final = 16
RETRANS: Final = 0x00F00000
RETRANS_SHIFT: Final = 20
STATUS: Final = 0x01000000
PARTITION: Final = 0x02000000
FC: Final = 0x04000000
"""Flow control."""
RELOAD: Final = 0x08000000
CONTROL: Final = 0x0F000000
"""Any of these bits: from a monitor."""

MONITOR_HASH: Final = 1100
"""Stands for the configuration hash in what a 4.3 or 4.4 monitor sends."""
MONITOR_MAGIC: Final = 15051963
"""``memb_id.proc_id`` of what a 4.3 or 4.4 monitor sends."""


class DatagramType(enum.IntFlag):
    """The same bits, for tools and logs."""

    UNRELIABLE = UNRELIABLE
    RELIABLE = RELIABLE
    FIFO = FIFO
    AGREED = AGREED
    SAFE = SAFE
    ROUTED = ROUTED
    HURRY = HURRY
    ALIVE = ALIVE
    JOIN = JOIN
    REFER = REFER
    FORM1 = FORM1
    FORM2 = FORM2
    STATUS = STATUS
    PARTITION = PARTITION
    FC = FC
    RELOAD = RELOAD


class PacketClass(enum.Enum):
    """What a packet is, by its bits; several may be set and the first of this list wins."""

    PARTITION = PARTITION
    STATUS = STATUS
    FC = FC
    RELOAD = RELOAD
    ALIVE = ALIVE
    JOIN = JOIN
    REFER = REFER
    HURRY = HURRY
    DATA = REGULAR
    UNKNOWN = 0


class TokenClass(enum.Enum):
    """What arrives on the token port."""

    FORM1 = FORM1
    FORM2 = FORM2
    REGULAR = 0


_PACKET_CLASSES: Final = tuple(kind for kind in PacketClass if kind.value)


def packet_class_of(type: int) -> PacketClass:
    """Class of a packet (a datagram on the data port) by its type word."""
    if not type & (CONTROL | MEMBERSHIP | HURRY) and type & REGULAR:
        return PacketClass.DATA
    for kind in _PACKET_CLASSES:
        if type & kind.value:
            return kind
    return PacketClass.UNKNOWN


def token_class_of(type: int) -> TokenClass:
    """Class of a token (a datagram on the token port) by its type word."""
    if not type & FORM:
        return TokenClass.REGULAR
    return TokenClass.FORM1 if type & FORM1 else TokenClass.FORM2


def arq_of(type: int) -> int:
    """Round number of a regular token, modulo 16."""
    return (type & ARQ) >> ARQ_SHIFT


def retrans_of(type: int) -> int:
    """How often the leader has sent this token again, modulo 16."""
    return (type & RETRANS) >> RETRANS_SHIFT


def token_type(arq: int, retrans: int) -> int:
    """Type word of a regular token, without marker; both values modulo 16."""
    return (arq & 15) << ARQ_SHIFT | (retrans & 15) << RETRANS_SHIFT
