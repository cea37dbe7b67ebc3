"""One client session: its state and what it holds.

The states and who changes them:

==============  ==============================  ===============================
state           event                           action, next state
==============  ==============================  ===============================
HANDSHAKE       accepted                        reply, OPERATIONAL
HANDSHAKE       refused, time over, end of file name freed, close, GONE
OPERATIONAL     KILL message from the client    close, order it, KILLED
OPERATIONAL     end of file, illegal message,   close, order a KILL of the
                output queue full               daemon's own, KILLED
OPERATIONAL     KILL delivered that nobody      close, GONE
                here has ordered
KILLED          KILL delivered                  name freed, GONE
KILLED, GONE    anything else                   nothing
==============  ==============================  ===============================

So every session that was accepted is ended by exactly one KILL in the total
order, and its name stays taken until that KILL has been delivered.

Source: ``docs/protocol/client-session.md`` sections 2.3 and 4.7.
"""

from __future__ import annotations

import enum

from txspread.engine.handshake import Handshake, PeerAddress
from txspread.engine.interfaces import StreamTransport
from txspread.engine.session_output import OutputQueue
from txspread.wire.constants import PacketType

MAX_CHUNKS = 64
"""Pieces of an incomplete frame that are kept apart before they are joined."""


class SessionState(enum.Enum):
    """Life of a session, see the table above."""

    HANDSHAKE = "handshake"
    OPERATIONAL = "operational"
    KILLED = "killed"
    GONE = "gone"


class Session:
    """A client connection; implements :class:`~txspread.engine.interfaces.LocalSession`.

    Only :class:`~txspread.engine.sessions.Sessions` changes one.
    """

    __slots__ = (
        "chunks",
        "chunks_size",
        "closing",
        "dirty",
        "ended",
        "handshake",
        "held",
        "known_groups",
        "known_header",
        "known_last",
        "known_size",
        "known_type",
        "name",
        "needed",
        "output",
        "peer",
        "private_group",
        "resting",
        "sender_field",
        "state",
        "transport",
        "wants_membership",
    )

    def __init__(self, transport: StreamTransport, peer: PeerAddress) -> None:
        self.transport = transport
        self.peer = peer
        self.state = SessionState.HANDSHAKE
        self.handshake: Handshake | None = None
        """Until the client is accepted."""
        self.name = b""
        """Session name, once it is held."""
        self.private_group = b""
        """``#session#daemon``, once the client is accepted."""
        self.sender_field = b""
        """The private group as its 32-byte field."""
        self.wants_membership = False
        self.output = OutputQueue()
        self.chunks: list[bytes] = []
        """Bytes received that have not been processed."""
        self.chunks_size = 0
        self.needed = 0
        """Bytes that must be there before processing them can get any further."""
        self.held = False
        """Whether its bytes wait until clients are served again."""
        self.resting = False
        """Whether it is not read for a moment, because a receiver is behind."""
        self.ended = False
        """Whether the stream has ended behind the bytes that wait."""
        self.dirty = False
        """Whether it was written to since the last flush."""
        self.closing = False
        """Whether it is to be closed after the next flush."""
        # The last header that passed all checks: clients repeat themselves.
        self.known_header = b""
        self.known_size = 0
        self.known_groups = 0
        self.known_last = 0
        self.known_type = PacketType.RELIABLE

    @property
    def mailbox(self) -> int:
        """Number of the client's socket, for log lines."""
        return self.peer.mailbox

    @property
    def operational(self) -> bool:
        """Whether it is accepted and not ended."""
        return self.state is SessionState.OPERATIONAL

    def keep(self, data: bytes) -> None:
        """Add received bytes to those that wait."""
        self.chunks.append(data)
        self.chunks_size += len(data)
        if len(self.chunks) > MAX_CHUNKS:
            self.chunks = [b"".join(self.chunks)]

    def take(self) -> bytes:
        """Take all bytes that wait."""
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks = []
        self.chunks_size = 0
        return data
