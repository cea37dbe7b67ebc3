"""The public constants of Spread 4, under upstream's names.

Sizes are bytes.  Source: client-session protocol sections 3.1, 7.1 and 11.1
(``docs/protocol/client-session.md``); upstream ``sp.h`` and ``sess_types.h``.
The hot path uses the plain ``int`` constants, everything else the enumerations.
"""

from __future__ import annotations

import enum
from typing import Final

DEFAULT_SPREAD_PORT: Final = 4803
MAX_PRIVATE_NAME: Final = 10
"""Longest session name, without terminator."""
MAX_PROC_NAME: Final = 20
"""Width of a daemon name, terminating NUL included: 19 usable."""
MAX_GROUP_NAME: Final = 32
"""Width of every name field, terminating NUL included."""
MAX_GROUPS_PER_MESSAGE: Final = 100
MESSAGE_HEADER_SIZE: Final = 48
MAX_MESSAGE_BODY_LEN: Final = 144000
MAX_FRAGMENTS: Final = 100
MAX_SESSIONS: Final = 997
MAX_AUTH_METHODS: Final = 3
MAX_AUTH_NAME: Final = 30
MAX_PROCS_RING: Final = 128
MAX_SEGMENTS: Final = 20
DEFAULT_MAX_SESSION_MESSAGES: Final = 1000
WATER_MARK: Final = 500
"""Messages in the down queue above which clients are not read."""
MAX_GROUP_MEMBERS: Final = 2228
"""Members of a group above which a network membership message no longer fits
100 fragments at every peer (groups protocol section 7)."""
GROUPS_BUF_SIZE: Final = 100000
"""Bound of one GROUPS message, message header included."""


class ServiceType(enum.IntFlag):
    """Bits of the ``type`` word of a message header."""

    UNRELIABLE_MESS = 0x00000001
    RELIABLE_MESS = 0x00000002
    FIFO_MESS = 0x00000004
    CAUSAL_MESS = 0x00000008
    AGREED_MESS = 0x00000010
    SAFE_MESS = 0x00000020
    REGULAR_MESS = 0x0000003F
    SELF_DISCARD = 0x00000040
    CAUSED_BY_JOIN = 0x00000100
    CAUSED_BY_LEAVE = 0x00000200
    CAUSED_BY_DISCONNECT = 0x00000400
    CAUSED_BY_NETWORK = 0x00000800
    REG_MEMB_MESS = 0x00001000
    TRANSITION_MESS = 0x00002000
    MEMBERSHIP_MESS = 0x00003F00
    RETRANSMIT_MESS = 0x00004000
    LATENCY_PROBE = 0x00008000
    JOIN_MESS = 0x00010000
    LEAVE_MESS = 0x00020000
    KILL_MESS = 0x00040000
    GROUPS_MESS = 0x00080000
    REJECT_MESS = 0x00400000
    DROP_RECV = 0x01000000
    DONT_BLOCK = 0x10000000
    FLUSH_REQ_MESS = 0x20000000
    SUBGROUP_CAST = 0x40000000
    ENDIAN_MARKER = 0x80000080


ENDIAN_MARKER: Final = 0x80000080
"""Both bits set: written in little-endian; both clear: in big-endian."""
REGULAR_MESS: Final = 0x0000003F
SELF_DISCARD: Final = 0x00000040
MEMBERSHIP_MESS: Final = 0x00003F00
JOIN_MESS: Final = 0x00010000
LEAVE_MESS: Final = 0x00020000
KILL_MESS: Final = 0x00040000
GROUPS_MESS: Final = 0x00080000
REJECT_MESS: Final = 0x00400000
RESERVED: Final = 0x003FC000


class SpreadCode(enum.IntEnum):
    """Return and reject codes; the negative ones fit a signed byte on the wire."""

    ACCEPT_SESSION = 1
    ILLEGAL_SPREAD = -1
    COULD_NOT_CONNECT = -2
    REJECT_QUOTA = -3
    REJECT_NO_NAME = -4
    REJECT_ILLEGAL_NAME = -5
    REJECT_NOT_UNIQUE = -6
    REJECT_VERSION = -7
    CONNECTION_CLOSED = -8
    REJECT_AUTH = -9
    ILLEGAL_SESSION = -11
    ILLEGAL_SERVICE = -12
    ILLEGAL_MESSAGE = -13
    ILLEGAL_GROUP = -14
    BUFFER_TOO_SHORT = -15
    GROUPS_TOO_SHORT = -16
    MESSAGE_TOO_LONG = -17
    NET_ERROR_ON_SESSION = -18
    SP_BUG = -19
    ILLEGAL_PARAM = -24
    WOULD_BLOCK = -25
    ILLEGAL_MESSAGE_TYPE = -26
    ILLEGAL_STATE = -27
    ILLEGAL_RECEIVERS = -28


class PacketType(enum.IntEnum):
    """Type bits of a ring data packet; decide when its messages are delivered."""

    RELIABLE = 0x02
    FIFO = 0x04
    AGREED = 0x08
    SAFE = 0x10
