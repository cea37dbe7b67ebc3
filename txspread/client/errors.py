"""The errors of the client library, with upstream's numbers, names and texts.

Every failure that Spread has a code for is a :class:`SpreadError`; its
``code`` is the number that ``SP_connect``, ``SP_receive`` and the rest return
(``docs/protocol/client-session.md`` section 7.1, flush codes 8.8), ``code.name`` the
name of ``sp.h``, ``text`` the line that ``SP_error`` prints.  Subclasses let a
program catch what it can handle.
"""

from __future__ import annotations

from typing import Final

from txspread.wire.constants import SpreadCode

UNRECOGNIZED: Final = "unrecognized error"

TEXTS: Final[dict[int, str]] = {
    SpreadCode.ILLEGAL_SPREAD: "Illegal spread was provided",
    SpreadCode.COULD_NOT_CONNECT: "Could not connect. Is Spread running?",
    SpreadCode.REJECT_QUOTA: "Connection rejected, too many users",
    SpreadCode.REJECT_NO_NAME: "Connection rejected, no name was supplied",
    SpreadCode.REJECT_ILLEGAL_NAME: "Connection rejected, illegal name",
    SpreadCode.REJECT_NOT_UNIQUE: "Connection rejected, name not unique",
    SpreadCode.REJECT_VERSION: "Connection rejected, library does not fit daemon",
    SpreadCode.CONNECTION_CLOSED: "Connection closed by spread",
    SpreadCode.REJECT_AUTH: "Connection rejected, authentication failed",
    SpreadCode.ILLEGAL_SESSION: "Illegal session was supplied",
    SpreadCode.ILLEGAL_SERVICE: "Illegal service request",
    SpreadCode.ILLEGAL_MESSAGE: "Illegal message",
    SpreadCode.ILLEGAL_GROUP: "Illegal group",
    SpreadCode.BUFFER_TOO_SHORT: "The supplied buffer was too short",
    SpreadCode.GROUPS_TOO_SHORT: "The supplied groups list was too short",
    SpreadCode.MESSAGE_TOO_LONG: (
        "The message body + group names was too large to fit in a message"
    ),
    SpreadCode.NET_ERROR_ON_SESSION: (
        "The network socket experienced an error. This Spread mailbox will no longer work "
        "until the connection is disconnected and then reconnected"
    ),
    SpreadCode.SP_BUG: "Internal spread bug detected!",
}
"""Code to the text of upstream's ``SP_error`` (and of SpreadModule's exceptions)."""


def error_text(code: int) -> str:
    """Return what ``SP_error`` says about a code; unknown codes have one text too."""
    return TEXTS.get(code, UNRECOGNIZED)


class SpreadError(Exception):
    """Something that Spread has a code for went wrong."""

    code: SpreadCode
    detail: str

    def __init__(self, code: SpreadCode, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)

    @property
    def text(self) -> str:
        """Upstream's text for the code."""
        return error_text(self.code)

    def again(self) -> SpreadError:
        """Return a copy to raise: one object raised again and again gathers tracebacks."""
        return type(self)(self.code, self.detail)

    def __str__(self) -> str:
        if self.code in TEXTS:
            told = f"{self.code.name} ({self.code.value}): {self.text}"
        else:
            told = f"{self.code.name} ({self.code.value})"
        return f"{told} [{self.detail}]" if self.detail else told


class IllegalSpread(SpreadError):
    """The Spread name is malformed or its host does not resolve (-1)."""


class CouldNotConnect(SpreadError):
    """Nothing answered at the address, in time (-2)."""


class ConnectionRejected(SpreadError):
    """The daemon answered and refused; :attr:`code` is one of the REJECT codes."""


class NameNotUnique(ConnectionRejected):
    """The private name is in use at this daemon, or was a moment ago (-6)."""


class AuthenticationFailed(ConnectionRejected):
    """A method failed, is missing on one side, or a policy refused (-9)."""


class ConnectionClosed(SpreadError):
    """The connection is lost, or was closed by either side (-8)."""


class IllegalSession(SpreadError):
    """The connection was disconnected before this call (-11)."""


class IllegalService(SpreadError):
    """Not exactly one service bit, or bits that a client may not send (-12)."""


class IllegalMessage(SpreadError):
    """A message that cannot be: message type out of range, malformed frame (-13)."""


class IllegalGroup(SpreadError):
    """A group name that cannot be, or too many groups (-14)."""


class MessageTooLong(SpreadError):
    """Body and groups do not fit one message (-17)."""


class BufferTooShort(SpreadError):
    """The supplied buffer is smaller than the body (-15)."""


class GroupsTooShort(SpreadError):
    """The supplied groups list is shorter than the message's (-16)."""


class NetworkError(SpreadError):
    """An earlier call already saw this connection fail (-18)."""


class IllegalParameter(SpreadError):
    """A negative count and the like (-24)."""


class WouldBlock(SpreadError):
    """The call cannot go on now: nothing to receive, or the send buffer is full (-25)."""


class IllegalMessageType(SpreadError):
    """A message type that the flush layer keeps for itself (-26)."""


class IllegalState(SpreadError):
    """The flush layer does not allow the call in the group's state (-27)."""


class IllegalReceivers(SpreadError):
    """A receiver of a subgroup cast is not in the view (-28)."""


_CLASSES: Final[dict[int, type[SpreadError]]] = {
    SpreadCode.ILLEGAL_SPREAD: IllegalSpread,
    SpreadCode.COULD_NOT_CONNECT: CouldNotConnect,
    SpreadCode.REJECT_QUOTA: ConnectionRejected,
    SpreadCode.REJECT_NO_NAME: ConnectionRejected,
    SpreadCode.REJECT_ILLEGAL_NAME: ConnectionRejected,
    SpreadCode.REJECT_NOT_UNIQUE: NameNotUnique,
    SpreadCode.REJECT_VERSION: ConnectionRejected,
    SpreadCode.REJECT_AUTH: AuthenticationFailed,
    SpreadCode.CONNECTION_CLOSED: ConnectionClosed,
    SpreadCode.ILLEGAL_SESSION: IllegalSession,
    SpreadCode.ILLEGAL_SERVICE: IllegalService,
    SpreadCode.ILLEGAL_MESSAGE: IllegalMessage,
    SpreadCode.ILLEGAL_GROUP: IllegalGroup,
    SpreadCode.BUFFER_TOO_SHORT: BufferTooShort,
    SpreadCode.GROUPS_TOO_SHORT: GroupsTooShort,
    SpreadCode.MESSAGE_TOO_LONG: MessageTooLong,
    SpreadCode.NET_ERROR_ON_SESSION: NetworkError,
    SpreadCode.ILLEGAL_PARAM: IllegalParameter,
    SpreadCode.WOULD_BLOCK: WouldBlock,
    SpreadCode.ILLEGAL_MESSAGE_TYPE: IllegalMessageType,
    SpreadCode.ILLEGAL_STATE: IllegalState,
    SpreadCode.ILLEGAL_RECEIVERS: IllegalReceivers,
}


def error_for(code: int, detail: str = "") -> SpreadError:
    """Make the exception for a code.

    A code that Spread does not define becomes :class:`ConnectionClosed`: it can
    only have come from something that is no Spread daemon.
    """
    try:
        known = SpreadCode(code)
    except ValueError:
        return ConnectionClosed(
            SpreadCode.CONNECTION_CLOSED, f"the daemon answered with the unknown code {code}"
        )
    return _CLASSES.get(known, SpreadError)(known, detail)
