"""One client session, sans-IO: the handshake, then messages both ways.

A connection of whatever kind (Twisted, asyncio, a blocking socket) feeds bytes in,
sends the bytes it gets out and tells when the stream ends:

========== ==================== ============================== ==========
state      event                action                         next state
========== ==================== ============================== ==========
HANDSHAKE  bytes, accepted      messages behind the reply      OPEN
HANDSHAKE  bytes, refused       raise the error                CLOSED
OPEN       bytes                return the complete messages   OPEN
OPEN       impossible bytes     raise IllegalMessage           CLOSED
OPEN       disconnect()         return the kill frame          CLOSED
any        connection lost      raise nothing, forget bytes    CLOSED
========== ==================== ============================== ==========

Source: ``docs/protocol/client-session.md`` sections 2 to 5 and 7.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from txspread.client.authentication import AuthenticationMethod, NullMethod
from txspread.client.errors import ConnectionClosed, IllegalSession, SpreadError
from txspread.client.frames import MAX_MEMBERSHIP, FrameParser
from txspread.client.handshake import Handshake
from txspread.client.messages import Message, Name, joined_body, name_text
from txspread.client.requests import SAFE_GROUPS, SAFE_TOTAL, RequestEncoder
from txspread.wire.constants import SpreadCode


class SessionState(enum.Enum):
    """Where a session is in its life."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class ClientSession:
    """The protocol of one connection to a daemon.

    :param private_name: up to 10 bytes from 0x24..0x7E; empty: the daemon invents one.
    :param membership: whether membership messages are wanted.
    :param priority: 0 or 1; no daemon uses it.
    :param methods: authentication methods, in the order to run them.
    :param max_groups: see :class:`~txspread.client.requests.RequestEncoder`.
    :param max_total: see there as well.
    :param max_membership: see :class:`~txspread.client.frames.FrameParser`.
    """

    def __init__(
        self,
        private_name: Name = "",
        *,
        membership: bool = True,
        priority: int = 0,
        methods: Sequence[AuthenticationMethod] = (NullMethod(),),
        max_groups: int = SAFE_GROUPS,
        max_total: int = SAFE_TOTAL,
        max_membership: int = MAX_MEMBERSHIP,
    ) -> None:
        self.state = SessionState.HANDSHAKE
        self.membership = membership
        self.private_group = ""
        self.daemon_version = (0, 0, 0)
        self._max_groups = max_groups
        self._max_total = max_total
        self._max_membership = max_membership
        self._handshake = Handshake(
            private_name, membership=membership, priority=priority, methods=methods
        )
        self._encoder: RequestEncoder | None = None
        self._parser: FrameParser | None = None

    @property
    def missing(self) -> int:
        """Bytes to read next without reading into the message behind, at least 1."""
        return self._handshake.missing if self._parser is None else self._parser.missing

    @property
    def held(self) -> int:
        """Bytes of an incomplete message that wait for the rest."""
        return 0 if self._parser is None else self._parser.held

    @property
    def problem(self) -> SpreadError | None:
        """What is wrong with the stream: close once the messages are delivered."""
        return None if self._parser is None else self._parser.problem

    def data_to_send(self) -> bytes:
        """Bytes of the handshake to send now; call after making it and after each receive."""
        return self._handshake.take_output()

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes of the daemon, return the messages that they complete.

        Look at :attr:`problem` afterwards.

        :raises SpreadError: the session is over; close the connection.
        """
        if self._parser is not None:
            if self.state is SessionState.CLOSED:
                return []
            try:
                return self._parser.feed(data)
            except SpreadError:
                self.lost()
                raise
        if self.state is SessionState.CLOSED:
            return []
        try:
            rest = self._handshake.receive(data)
        except SpreadError:
            self.lost()
            raise
        if not self._handshake.accepted:
            return []
        private_group = self._handshake.private_group
        self.private_group = name_text(private_group)
        self.daemon_version = self._handshake.daemon_version
        self._encoder = RequestEncoder(private_group, self._max_groups, self._max_total)
        self._parser = FrameParser(self.private_group, self._max_membership)
        self.state = SessionState.OPEN
        return self.receive(rest) if rest else []

    def lost(self) -> None:
        """The stream ended: no more messages, requests are refused."""
        self.state = SessionState.CLOSED

    def join(self, group: Name) -> bytes:
        """Frame that joins a group; errors as :meth:`RequestEncoder.join`."""
        return self._open().join(group)

    def leave(self, group: Name) -> bytes:
        """Frame that leaves a group; errors as :meth:`RequestEncoder.leave`."""
        return self._open().leave(group)

    def multicast(
        self,
        service_type: int,
        groups: Name | Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> bytes:
        """Frame of a data message; errors as :meth:`RequestEncoder.multicast`.

        ``body`` may be a sequence of buffers, which are sent one after the other.
        """
        if not isinstance(body, bytes):
            body = joined_body(body)
        return self._open().multicast(service_type, groups, body, mess_type)

    def disconnect(self) -> bytes:
        """Frame that ends the session; afterwards nothing can be sent or received."""
        frame = self._open().disconnect()
        self.lost()
        return frame

    def _open(self) -> RequestEncoder:
        if self.state is SessionState.OPEN and self._encoder is not None:
            return self._encoder
        if self.state is SessionState.HANDSHAKE:
            raise IllegalSession(SpreadCode.ILLEGAL_SESSION, "the handshake is not complete")
        raise IllegalSession(SpreadCode.ILLEGAL_SESSION, "the session is closed")


def connection_closed(reason: str) -> ConnectionClosed:
    """Make the error for a stream that ended."""
    return ConnectionClosed(SpreadCode.CONNECTION_CLOSED, reason)
