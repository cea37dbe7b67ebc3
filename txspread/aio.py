"""Connections to a Spread daemon for asyncio programs, on asyncio's own loop.

For example::

    async with await connect("4803@example.net", "worker") as connection:
        connection.join("jobs")
        async for message in connection:
            ...

Nothing of Twisted is used.  Messages, errors, names and limits are those of
:mod:`txspread.client`.  Buffers are bounded both ways: at ``receive_limit`` bytes of
messages that wait the connection stops reading, at ``send_limit`` bytes that wait
:meth:`Connection.multicast` raises :class:`~txspread.client.errors.WouldBlock` and
:meth:`Connection.send` waits; beyond that, at most one read and one write buffer
(256 KiB each) and one incomplete message are held.

(A Twisted program on the asyncio reactor can await the connections of
:mod:`txspread.client` as well.)
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from txspread.client.authentication import AuthenticationMethod, NullMethod
from txspread.client.errors import (
    CouldNotConnect,
    IllegalSession,
    IllegalSpread,
    SpreadError,
    WouldBlock,
)
from txspread.client.frames import MAX_MEMBERSHIP
from txspread.client.inbox import Inbox
from txspread.client.liveness import PROBE_BODY, PROBE_SERVICE, Liveness
from txspread.client.messages import Message, Name
from txspread.client.names import TcpAddress, UnixAddress, parse_spread_name
from txspread.client.protocol import ClientSession, SessionState, connection_closed
from txspread.client.requests import SAFE_GROUPS, SAFE_TOTAL
from txspread.wire.constants import SpreadCode

CONNECT_TIMEOUT: Final = 10.0
SILENCE_TIMEOUT: Final = 60.0
RECEIVE_LIMIT: Final = 1 << 20
SEND_LIMIT: Final = 1 << 20
DISCONNECT_TIMEOUT: Final = 5.0
WRITE_BUFFER: Final = 1 << 18


class Connection(asyncio.Protocol):
    """One open session with a daemon.  Made by :func:`connect`.

    Also an asynchronous context manager: leaving it disconnects.
    """

    def __init__(
        self,
        session: ClientSession,
        *,
        receive_limit: int = RECEIVE_LIMIT,
        send_limit: int = SEND_LIMIT,
        silence_timeout: float | None = SILENCE_TIMEOUT,
    ) -> None:
        if send_limit < 1:
            raise ValueError("the send limit must be at least 1 byte")
        self._loop = asyncio.get_running_loop()
        self._session = session
        self._inbox = Inbox(receive_limit)
        self.send_limit = send_limit
        self._silence_timeout = silence_timeout
        self._transport: asyncio.Transport | None = None
        self._frames: list[bytes] = []
        self._waiting_bytes = 0
        self._transport_full = False
        self._flush_handle: asyncio.Handle | None = None
        self._reading = True
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._senders: deque[asyncio.Future[None]] = deque()
        self._opened: asyncio.Future[bool] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._liveness: Liveness | None = None
        self._liveness_handle: asyncio.TimerHandle | None = None
        self.reason: SpreadError | None = None
        """Why the connection ended; None while it is open."""

    @property
    def private_group(self) -> str:
        """The session's own name, ``#name#daemon``; others can send to it."""
        return self._session.private_group

    @property
    def daemon_version(self) -> tuple[int, int, int]:
        """Version that the daemon told in the handshake."""
        return self._session.daemon_version

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._session.state is SessionState.OPEN

    # Sending

    def join(self, group: Name) -> None:
        """Ask to become a member of a group.

        There is no answer but the first membership message of the group.

        :raises IllegalGroup: the name is not 1 to 31 bytes of 0x24..0x7E.
        """
        self._check()
        self._put(self._session.join(group))

    def leave(self, group: Name) -> None:
        """Ask to be a member no longer; a ``SelfLeave`` tells when it is done."""
        self._check()
        self._put(self._session.leave(group))

    def multicast(
        self,
        service_type: int,
        groups: Name | Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> None:
        """Send a message to one group or private group, or to several.

        Returns at once; frames of one turn of the loop leave together.

        :raises WouldBlock: ``send_limit`` bytes wait already; see :meth:`drained`.
        :raises SpreadError: as :meth:`RequestEncoder.multicast`, or :attr:`reason`.
        """
        self._check()
        self._put(self._session.multicast(service_type, groups, body, mess_type))

    async def send(
        self,
        service_type: int,
        groups: Name | Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> None:
        """Like :meth:`multicast`, but wait for room instead of raising WouldBlock."""
        while self.buffered >= self.send_limit:
            await self.drained()
        self.multicast(service_type, groups, body, mess_type)

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent."""
        if self._transport is None or not self._transport_full:
            return self._waiting_bytes
        return self._waiting_bytes + self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Wait until less than half of ``send_limit`` waits to be sent.

        :raises SpreadError: :attr:`reason`, if the connection ends before.
        """
        while self.buffered * 2 >= self.send_limit:
            self._check()
            await self._wait(self._senders)
        self._check()

    def _check(self) -> None:
        if self.reason is not None:
            raise self.reason.again()

    def _put(self, frame: bytes, force: bool = False) -> None:
        if self.buffered >= self.send_limit and not force:
            raise WouldBlock(
                SpreadCode.WOULD_BLOCK,
                f"{self.buffered} bytes wait to be sent, the limit is {self.send_limit}",
            )
        self._frames.append(frame)
        self._waiting_bytes += len(frame)
        if self._flush_handle is None and not self._transport_full:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        if self._frames and not self._transport_full and self._transport is not None:
            data = b"".join(self._frames)
            self._frames.clear()
            self._waiting_bytes = 0
            self._transport.write(data)
        if self.buffered * 2 < self.send_limit:
            _wake(self._senders, len(self._senders))

    # Receiving

    async def receive(self) -> Message:
        """Wait for the next message.

        What was received before the end is given out first.

        :raises SpreadError: :attr:`reason`.
        """
        await self._some()
        message = self._inbox.take()
        self._regulate()
        return message

    async def receive_batch(self) -> list[Message]:
        """Wait for messages and take all there are, at least one; the quick way."""
        await self._some()
        messages = self._inbox.take_all()
        self._regulate()
        return messages

    @property
    def waiting(self) -> int:
        """Messages received and not yet taken."""
        return len(self._inbox)

    def poll(self) -> int:
        """Bytes of messages received and not yet taken; 0 when receive would wait."""
        return self._inbox.size

    def __aiter__(self) -> Connection:
        """Iterate over messages.

        Ends after :meth:`disconnect`; raises :attr:`reason` when the connection is lost.
        """
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except IllegalSession:
            raise StopAsyncIteration from None

    async def _some(self) -> None:
        while not len(self._inbox):
            self._check()
            await self._wait(self._receivers)

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        waiter = self._loop.create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                waiters.remove(waiter)
            else:
                # Woken and cancelled in the same turn: somebody else should look.
                _wake(waiters, 1)
            raise

    def _regulate(self) -> None:
        """Read from the transport, or do not, as the inbox has room."""
        wanted = not self._inbox.full
        if wanted == self._reading or self.reason is not None or self._transport is None:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Ending

    async def disconnect(self) -> None:
        """End the session: tell the daemon, close, wait until it is closed.

        Frames queued before are sent first, for at most 5 seconds.
        """
        if self.is_open and self._transport is not None:
            self._frames.append(self._session.disconnect())
            data = b"".join(self._frames)
            self._end(IllegalSession(SpreadCode.ILLEGAL_SESSION, "disconnected by the program"))
            self._transport.write(data)
            self._transport.close()
        try:
            async with asyncio.timeout(DISCONNECT_TIMEOUT):
                await asyncio.shield(self._closed)
        except TimeoutError:
            self.abort()
            await asyncio.shield(self._closed)

    def abort(self) -> None:
        """Close at once, telling the daemon nothing and dropping what is queued."""
        self._end(IllegalSession(SpreadCode.ILLEGAL_SESSION, "aborted by the program"))
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> SpreadError:
        """Wait until the transport is closed; return :attr:`reason`."""
        await asyncio.shield(self._closed)
        assert self.reason is not None
        return self.reason

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    def _end(self, reason: SpreadError) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        self._session.lost()
        self._frames.clear()
        self._waiting_bytes = 0
        for handle in (self._flush_handle, self._liveness_handle):
            if handle is not None:
                handle.cancel()
        self._flush_handle = self._liveness_handle = None
        if not self._opened.done():
            self._opened.set_result(False)
        _wake(self._receivers, len(self._receivers))
        _wake(self._senders, len(self._senders))

    def _fail(self, problem: SpreadError) -> None:
        self._end(problem)
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.write(self._session.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Take one read of the transport."""
        if self.reason is not None:
            return
        try:
            messages = self._session.receive(data)
        except SpreadError as problem:
            self._fail(problem)
            return
        if self._liveness is not None:
            self._liveness.heard(self._loop.time())
            if self._liveness.probing:
                messages = self._liveness.without_echo(messages)
        if not self._opened.done() and not self._advance():
            return
        if messages:
            self._inbox.put(messages)
            _wake(self._receivers, len(messages))
            self._regulate()
        broken = self._session.problem
        if broken is not None:
            self._fail(broken)

    def _advance(self) -> bool:
        """Go on with the handshake; whether it is complete."""
        output = self._session.data_to_send()
        if output and self._transport is not None:
            self._transport.write(output)
        if not self.is_open:
            return False
        if self._silence_timeout is not None:
            now = self._loop.time()
            self._liveness = Liveness(self._silence_timeout, self.private_group, now)
            self._watch(self._liveness, now)
        self._opened.set_result(True)
        return True

    def eof_received(self) -> None:
        """Let the transport close: nothing can follow."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the transport is closed."""
        told = "by the daemon" if exc is None else str(exc)
        if not self._opened.done():
            told = f"during the handshake: {told}"
        self._end(connection_closed(told))
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Keep frames here: the transport's buffer is full."""
        self._transport_full = True

    def resume_writing(self) -> None:
        """Write on."""
        self._transport_full = False
        if self.reason is None:
            self._flush()

    def _watch(self, liveness: Liveness, now: float) -> None:
        self._liveness_handle = self._loop.call_later(
            liveness.next_check(now), self._check_liveness, liveness
        )

    def _check_liveness(self, liveness: Liveness) -> None:
        now = self._loop.time()
        if not self._reading:
            liveness.heard(now)
        if liveness.dead(now):
            self._fail(connection_closed(f"the daemon was silent for {liveness.timeout:g} seconds"))
            return
        if liveness.due(now):
            probe = self._session.multicast(PROBE_SERVICE, self.private_group, PROBE_BODY)
            self._put(probe, force=True)
        self._watch(liveness, now)


def _wake(waiters: deque[asyncio.Future[None]], count: int) -> None:
    """Wake the first ``count`` of those that wait."""
    while count > 0 and waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            count -= 1


async def connect(
    name: str | None = None,
    private_name: Name = "",
    *,
    membership: bool = True,
    priority: int = 0,
    methods: Sequence[AuthenticationMethod] = (NullMethod(),),
    timeout: float = CONNECT_TIMEOUT,
    silence_timeout: float | None = SILENCE_TIMEOUT,
    receive_limit: int = RECEIVE_LIMIT,
    send_limit: int = SEND_LIMIT,
    max_groups: int = SAFE_GROUPS,
    max_total: int = SAFE_TOTAL,
    max_membership: int = MAX_MEMBERSHIP,
) -> Connection:
    """Connect to a daemon; parameters and errors as :func:`txspread.client.connect`.

    Names of other endpoints than TCP and Unix sockets are for Twisted only.
    """
    address = parse_spread_name(name)
    session = ClientSession(
        private_name,
        membership=membership,
        priority=priority,
        methods=methods,
        max_groups=max_groups,
        max_total=max_total,
        max_membership=max_membership,
    )
    connection = Connection(
        session,
        receive_limit=receive_limit,
        send_limit=send_limit,
        silence_timeout=silence_timeout,
    )
    loop = asyncio.get_running_loop()
    late = f"no complete handshake within {timeout:g} seconds"
    try:
        async with asyncio.timeout(timeout):
            if isinstance(address, TcpAddress):
                await loop.create_connection(lambda: connection, address.host, address.port)
            elif isinstance(address, UnixAddress):
                await loop.create_unix_connection(lambda: connection, address.path)
            else:
                raise IllegalSpread(
                    SpreadCode.ILLEGAL_SPREAD, f"{name!r} is for the Twisted API only"
                )
            if not await asyncio.shield(connection._opened):
                connection._check()
    except TimeoutError as problem:
        if connection._transport is None:
            raise CouldNotConnect(
                SpreadCode.COULD_NOT_CONNECT, f"no connection within {timeout:g} seconds"
            ) from problem
        connection.abort()
        raise connection_closed(late) from problem
    except socket.gaierror as problem:
        raise IllegalSpread(SpreadCode.ILLEGAL_SPREAD, str(problem)) from problem
    except OSError as problem:
        raise CouldNotConnect(SpreadCode.COULD_NOT_CONNECT, str(problem)) from problem
    except asyncio.CancelledError:
        connection.abort()
        raise
    return connection
