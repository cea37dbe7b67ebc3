"""Client connections: listeners and the transport of one session.

A transport reads up to :data:`READ_SIZE` bytes for each readable event and hands
them to the engine in one piece; the engine's end of turn calls :meth:`flush`
once for each session that was written to, which makes one ``sendmsg`` of what
the kernel takes.  Reading and writing never block, so one silent or slow client
delays nobody.

Source of the socket options: ``docs/protocol/client-session.md`` section 1.3.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

from txspread.daemon.hub import READ, WRITE, Hub
from txspread.daemon.system_calls import send
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import StreamTransport
from txspread.engine.sessions_state import Session, SessionState

READ_SIZE: Final = 256 * 1024
"""Most bytes taken from one client for one readable event."""
WRITE_SIZE: Final = 256 * 1024
"""Most bytes offered to the kernel in one call."""
CLIENT_BUFFER: Final = 200 * 1024
"""SO_SNDBUF and SO_RCVBUF of a client connection, bytes (Linux reports double)."""
ACCEPT_BATCH: Final = 64
"""Most connections taken from one listener in one turn."""
_JOIN_BELOW: Final = 2048
"""Mean frame size under which joining costs less than a gather list."""
_MAX_BUFFERS: Final = 1000
"""Most elements in one gather list (the system's limit is 1024)."""


class StreamEngine(Protocol):
    """The engine's inputs for streams; :class:`~txspread.engine.node.Node` has them."""

    def session_opened(self, transport: StreamTransport, peer: PeerAddress, now: float) -> Session:
        """Begin a session."""

    def session_received(self, session: Session, data: bytes, now: float) -> None:
        """Take bytes of a client."""

    def session_writable(self, session: Session, now: float) -> None:
        """The kernel takes output again."""

    def session_closed(self, session: Session, now: float) -> None:
        """The client is gone."""


class _Nowhere:
    """The ``StreamTransport`` of a session that is none."""

    def flush(self) -> None:
        """Nothing is ever written."""

    def pause(self) -> None:
        """Nothing is ever read."""

    def resume(self) -> None:
        """Nothing is ever read."""

    def close(self) -> None:
        """There is nothing to close."""


def _make_no_session() -> Session:
    session = Session(_Nowhere(), PeerAddress(0, -1))
    session.state = SessionState.GONE
    return session


_NO_SESSION: Final = _make_no_session()
"""What a transport has for a session before it is opened and after it is closed."""


class ClientTransport:
    """One accepted connection: a ``StreamTransport`` for the engine, a source for the hub.

    Args:
        hub: where the descriptor is watched.
        engine: gets what arrives.
        connection: an accepted, non-blocking stream socket; owned from now on.
        buffer: scratch space of :data:`READ_SIZE` bytes, shared by all transports.
        closed: called once when the connection is closed, by either side.

    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_descriptor",
        "_ended",
        "_engine",
        "_hub",
        "_socket",
        "_write_failed",
        "interest",
        "session",
        "watched",
    )

    def __init__(
        self,
        hub: Hub,
        engine: StreamEngine,
        connection: socket.socket,
        buffer: memoryview,
        closed: Callable[[ClientTransport], None],
    ) -> None:
        self._hub = hub
        self._engine = engine
        self._socket = connection
        self._descriptor = connection.fileno()
        self._buffer = buffer
        self._closed: Callable[[ClientTransport], None] | None = closed
        self._write_failed = False
        self._ended = False
        self.interest = READ
        self.watched = 0
        self.session = _NO_SESSION

    def open(self, peer: PeerAddress) -> None:
        """Announce the connection to the engine and begin to read."""
        self._hub.add(self)
        self.session = self._engine.session_opened(self, peer, time.monotonic())

    # The hub's side

    def fileno(self) -> int:
        """The descriptor; stays the same number after the connection is closed."""
        return self._descriptor

    def readable(self) -> None:
        """Hand the engine what has arrived, or tell it that the client is gone."""
        try:
            count = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count:
            self._engine.session_received(
                self.session, self._buffer[:count].tobytes(), time.monotonic()
            )
        else:
            self.lost()

    def writable(self) -> None:
        """Write on; the engine may have stopped clients, then it declines."""
        self.interest &= ~WRITE
        self._hub.changed(self)
        self._engine.session_writable(self.session, time.monotonic())

    def lost(self) -> None:
        """The client has closed, or its connection has failed.

        The engine closes the transport, after what it still has to write or, while
        clients are not served, when it gets to it.
        """
        if self._closed is not None:
            self._ended = True
            self.interest = 0
            self._hub.changed(self)
            self._engine.session_closed(self.session, time.monotonic())

    # The engine's side

    def flush(self) -> None:
        """Write as much of the session's output queue as the kernel takes now.

        In the engine's end of turn nothing is tried while the kernel's buffer is
        known to be full: the hub calls :meth:`writable` when there is room.  In the
        middle of a turn a full output queue depends on it, so it is tried.
        """
        if self._write_failed or self._closed is None:
            return
        if self.interest & WRITE and self._hub.ending:
            return
        self._write()

    def _write(self) -> None:
        output = self.session.output
        while output.size:
            buffers = output.buffers(WRITE_SIZE)
            count = len(buffers)
            try:
                if count == 1:
                    offered = len(buffers[0])
                    written = self._send(buffers[0])
                elif count > _MAX_BUFFERS or output.size < count * _JOIN_BELOW:
                    joined = b"".join(buffers)
                    offered = len(joined)
                    written = self._send(joined)
                else:
                    offered = sum(map(len, buffers))
                    written = self._socket.sendmsg(buffers)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # Only the reading side or a full queue ends a session.
                self._write_failed = True
                self.interest &= ~WRITE
                self._hub.changed(self)
                return
            if written < 0:
                break
            output.consumed(written)
            if written < offered:
                break
        wanted = self.interest | WRITE if output.size else self.interest & ~WRITE
        if wanted != self.interest and not self._ended:
            self.interest = wanted
            self._hub.changed(self)

    def _send(self, data: bytes | memoryview) -> int:
        """Bytes taken; -1 or BlockingIOError if none are."""
        return self._socket.send(data) if send is None else send(self._descriptor, data)

    def pause(self) -> None:
        """Stop reading from this connection."""
        self._set_reading(0)

    def resume(self) -> None:
        """Read from this connection again."""
        self._set_reading(READ)

    def _set_reading(self, reading: int) -> None:
        interest = self.interest & ~READ | reading
        if interest != self.interest and not self._ended:
            self.interest = interest
            self._hub.changed(self)

    def close(self) -> None:
        """Drop what is queued and close the connection; the engine is not told."""
        if self._closed is not None:
            # Bytes left unread would turn the close into a reset, which can
            # overtake a reject code.
            try:
                self._socket.recv_into(self._buffer)
            except OSError:
                pass  # nothing to read, or nobody there: closing is all that is left
            self._release()

    def fail(self) -> None:
        """Give the client up after a fault of the engine's own while serving it."""
        if not self._ended:
            self.lost()
        self.close()

    def _release(self) -> None:
        closed, self._closed = self._closed, None
        self._ended = True
        self._hub.remove(self)
        self._socket.close()
        if closed is not None:
            closed(self)
        # The session has this transport.  Without this the two would keep each
        # other in memory until the garbage collector comes by.
        self.session = _NO_SESSION


class StreamListener:
    """One listening socket.

    Args:
        hub: where the descriptor is watched.
        listening: a bound, listening, non-blocking stream socket; owned from now on.
        accepted: called with each new connection (non-blocking, options set)
            and the address of its peer as the system gives it.
        exhausted: called when the process has no descriptor left for a connection.

    """

    def __init__(
        self,
        hub: Hub,
        listening: socket.socket,
        accepted: Callable[[socket.socket, tuple[str, int] | str], None],
        exhausted: Callable[[OSError], None],
    ) -> None:
        self._hub = hub
        self._socket = listening
        self._descriptor = listening.fileno()
        self._accepted = accepted
        self._exhausted = exhausted
        self._spare = _spare_descriptor()
        self.interest = READ
        self.watched = 0
        hub.add(self)

    def fileno(self) -> int:
        """The descriptor; stays the same number after closing."""
        return self._descriptor

    def readable(self) -> None:
        """Take the connections that wait."""
        for _ in range(ACCEPT_BATCH):
            # The engine may have asked to accept no more, even to end the daemon.
            if not self.interest & READ or self._socket.fileno() < 0:
                return
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._refuse_one(error)
                # Anything else concerns a connection that is gone already.
                return
            if self._spare is None:
                self._spare = _spare_descriptor()
            try:
                prepare_client_socket(connection)
            except OSError:
                connection.close()
                continue
            self._accepted(connection, address)

    def writable(self) -> None:
        """Never asked for."""

    def pause(self) -> None:
        """Accept nothing for now."""
        self._set(0)

    def resume(self) -> None:
        """Accept again."""
        self._set(READ)

    def _set(self, interest: int) -> None:
        if interest != self.interest and self._socket.fileno() >= 0:
            self.interest = interest
            self._hub.changed(self)

    def _refuse_one(self, error: OSError) -> None:
        """Close one waiting connection, lest it be reported readable for ever."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
            try:
                self._socket.accept()[0].close()
            except OSError:
                pass  # taken by nobody: reported again
            self._spare = _spare_descriptor()
        self._exhausted(error)

    def close(self) -> None:
        """Stop listening."""
        if self._socket.fileno() >= 0:
            self._hub.remove(self)
            self._socket.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


def _spare_descriptor() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def prepare_client_socket(connection: socket.socket) -> None:
    """Set the options of an accepted connection."""
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CLIENT_BUFFER)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER)
    if connection.family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
