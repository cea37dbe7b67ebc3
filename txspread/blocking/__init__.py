"""The blocking API, call-compatible with the ``spread`` module of SpreadModule.

``import txspread.blocking as spread`` runs programs written for that module::

    mbox = spread.connect("4803@localhost", "me", 0, 1)
    mbox.join("room")
    mbox.multicast(spread.AGREED_MESS, "room", "hello", 17)
    message = mbox.receive()

Names and bodies are taken as ``str`` (sent as UTF-8) or ``bytes``; received names
are ``str``, received bodies ``bytes``.  All constants of the module are here; for its
doubtful points (threads, disconnection) see :mod:`txspread.blocking.mailbox`.
"""

from __future__ import annotations

from typing import Final

from txspread.blocking.mailbox import Mailbox, connect, error
from txspread.blocking.messages import GroupId, MembershipMsgType, RegularMsgType
from txspread.wire import constants as _constants
from txspread.wire.constants import ServiceType as _Service
from txspread.wire.constants import SpreadCode as _Code

MailboxType = Mailbox

LOW_PRIORITY: Final = 0
MEDIUM_PRIORITY: Final = 1
HIGH_PRIORITY: Final = 2
DEFAULT_SPREAD_PORT: Final = _constants.DEFAULT_SPREAD_PORT
SPREAD_VERSION: Final = (4 << 24) | (4 << 16)
MAX_GROUP_NAME: Final = _constants.MAX_GROUP_NAME
MAX_PRIVATE_NAME: Final = _constants.MAX_PRIVATE_NAME
MAX_PROC_NAME: Final = _constants.MAX_PROC_NAME
DEFAULT_BUFFER_SIZE: Final = 10000
DEFAULT_GROUPS_SIZE: Final = 10

UNRELIABLE_MESS: Final = int(_Service.UNRELIABLE_MESS)
RELIABLE_MESS: Final = int(_Service.RELIABLE_MESS)
FIFO_MESS: Final = int(_Service.FIFO_MESS)
CAUSAL_MESS: Final = int(_Service.CAUSAL_MESS)
AGREED_MESS: Final = int(_Service.AGREED_MESS)
SAFE_MESS: Final = int(_Service.SAFE_MESS)
REGULAR_MESS: Final = _constants.REGULAR_MESS
SELF_DISCARD: Final = _constants.SELF_DISCARD
DROP_RECV: Final = int(_Service.DROP_RECV)
REG_MEMB_MESS: Final = int(_Service.REG_MEMB_MESS)
TRANSITION_MESS: Final = int(_Service.TRANSITION_MESS)
CAUSED_BY_JOIN: Final = int(_Service.CAUSED_BY_JOIN)
CAUSED_BY_LEAVE: Final = int(_Service.CAUSED_BY_LEAVE)
CAUSED_BY_DISCONNECT: Final = int(_Service.CAUSED_BY_DISCONNECT)
CAUSED_BY_NETWORK: Final = int(_Service.CAUSED_BY_NETWORK)
MEMBERSHIP_MESS: Final = _constants.MEMBERSHIP_MESS
ENDIAN_RESERVED: Final = -0x7FFFFF80
RESERVED: Final = _constants.RESERVED
REJECT_MESS: Final = _constants.REJECT_MESS

ACCEPT_SESSION: Final = int(_Code.ACCEPT_SESSION)
ILLEGAL_SPREAD: Final = int(_Code.ILLEGAL_SPREAD)
COULD_NOT_CONNECT: Final = int(_Code.COULD_NOT_CONNECT)
REJECT_QUOTA: Final = int(_Code.REJECT_QUOTA)
REJECT_NO_NAME: Final = int(_Code.REJECT_NO_NAME)
REJECT_ILLEGAL_NAME: Final = int(_Code.REJECT_ILLEGAL_NAME)
REJECT_NOT_UNIQUE: Final = int(_Code.REJECT_NOT_UNIQUE)
REJECT_VERSION: Final = int(_Code.REJECT_VERSION)
CONNECTION_CLOSED: Final = int(_Code.CONNECTION_CLOSED)
REJECT_AUTH: Final = int(_Code.REJECT_AUTH)
ILLEGAL_SESSION: Final = int(_Code.ILLEGAL_SESSION)
ILLEGAL_SERVICE: Final = int(_Code.ILLEGAL_SERVICE)
ILLEGAL_MESSAGE: Final = int(_Code.ILLEGAL_MESSAGE)
ILLEGAL_GROUP: Final = int(_Code.ILLEGAL_GROUP)
BUFFER_TOO_SHORT: Final = int(_Code.BUFFER_TOO_SHORT)
GROUPS_TOO_SHORT: Final = int(_Code.GROUPS_TOO_SHORT)
MESSAGE_TOO_LONG: Final = int(_Code.MESSAGE_TOO_LONG)
NET_ERROR_ON_SESSION: Final = int(_Code.NET_ERROR_ON_SESSION)


def version() -> tuple[int, int, int]:
    """Return the version of Spread whose library this behaves like."""
    return (4, 4, 0)


__all__ = [
    "GroupId",
    "Mailbox",
    "MailboxType",
    "MembershipMsgType",
    "RegularMsgType",
    "connect",
    "error",
    "version",
]
