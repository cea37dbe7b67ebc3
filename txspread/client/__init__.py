"""The client library: connections to a Spread daemon for Twisted programs.

Start with :func:`connect`; the messages that arrive are the classes of
:mod:`txspread.client.messages`, the errors those of :mod:`txspread.client.errors`.
For asyncio see :mod:`txspread.aio`, for blocking programs :mod:`txspread.blocking`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from txspread.client.authentication import (
    AuthenticationMethod,
    IPMethod,
    NullMethod,
    PasswordMethod,
)
from txspread.client.errors import (
    AuthenticationFailed,
    ConnectionClosed,
    ConnectionRejected,
    CouldNotConnect,
    IllegalGroup,
    IllegalMessage,
    IllegalService,
    IllegalSession,
    IllegalSpread,
    MessageTooLong,
    NameNotUnique,
    SpreadError,
    WouldBlock,
)
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    Message,
    RejectMessage,
    SelfLeave,
    TransitionMessage,
)
from txspread.client.names import parse_spread_name
from txspread.wire.constants import ServiceType, SpreadCode
from txspread.wire.identifiers import GroupId

if TYPE_CHECKING:
    from txspread.client.connecting import connect, endpoint_for
    from txspread.client.connection import Connection
    from txspread.client.flush import FlushConnection, connect_flush
    from txspread.client.service import Connected, Disconnected, SpreadService

UNRELIABLE_MESS = ServiceType.UNRELIABLE_MESS
RELIABLE_MESS = ServiceType.RELIABLE_MESS
FIFO_MESS = ServiceType.FIFO_MESS
CAUSAL_MESS = ServiceType.CAUSAL_MESS
AGREED_MESS = ServiceType.AGREED_MESS
SAFE_MESS = ServiceType.SAFE_MESS
SELF_DISCARD = ServiceType.SELF_DISCARD

__all__ = [
    "AGREED_MESS",
    "CAUSAL_MESS",
    "FIFO_MESS",
    "RELIABLE_MESS",
    "SAFE_MESS",
    "SELF_DISCARD",
    "UNRELIABLE_MESS",
    "AuthenticationFailed",
    "AuthenticationMethod",
    "Connected",
    "Connection",
    "ConnectionClosed",
    "ConnectionRejected",
    "CouldNotConnect",
    "DataMessage",
    "Disconnected",
    "FlushConnection",
    "GroupId",
    "IPMethod",
    "IllegalGroup",
    "IllegalMessage",
    "IllegalService",
    "IllegalSession",
    "IllegalSpread",
    "MembershipMessage",
    "Message",
    "MessageTooLong",
    "NameNotUnique",
    "NullMethod",
    "PasswordMethod",
    "RejectMessage",
    "SelfLeave",
    "ServiceType",
    "SpreadCode",
    "SpreadError",
    "SpreadService",
    "TransitionMessage",
    "WouldBlock",
    "connect",
    "connect_flush",
    "endpoint_for",
    "parse_spread_name",
]

_TWISTED = {
    "Connected": "service",
    "Connection": "connection",
    "Disconnected": "service",
    "FlushConnection": "flush",
    "SpreadService": "service",
    "connect": "connecting",
    "connect_flush": "flush",
    "endpoint_for": "connecting",
}


def __getattr__(name: str) -> object:
    """Import what needs Twisted when it is asked for.

    The blocking and the asyncio API stand on this package too, and do without.
    """
    if name not in _TWISTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_TWISTED[name]}"), name)
