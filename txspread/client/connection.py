"""The Twisted connection to a Spread daemon.

For example::

    connection = await connect("4803@example.net", "worker")
    connection.join("jobs")
    async for message in connection:
        ...

Buffers are bounded both ways.  Received messages wait in an
:class:`~txspread.client.inbox.Inbox` of ``receive_limit`` bytes, at which reading
stops.  Frames to send are collected during one turn of the reactor and written at
once; when ``send_limit`` bytes wait, :meth:`Connection.multicast` raises
:class:`~txspread.client.errors.WouldBlock` and :meth:`Connection.send` waits.  Beyond
the limits at most one read and one write buffer (256 KiB each) and one incomplete
message are held.

Every way in which a connection can end gives one error, the same to all that
wait and to all later calls: :attr:`Connection.reason`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, cast

from twisted.internet import error
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import (
    IDelayedCall,
    IProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txspread.client.errors import IllegalSession, SpreadError
from txspread.client.inbox import Inbox
from txspread.client.liveness import PROBE_BODY, PROBE_SERVICE, Liveness
from txspread.client.messages import Message, Name
from txspread.client.outbox import Outbox, StreamTransport
from txspread.client.protocol import ClientSession, SessionState, connection_closed
from txspread.wire.constants import SpreadCode

READ_SIZE: Final = 1 << 18
SILENCE_TIMEOUT: Final = 60.0
RECEIVE_LIMIT: Final = 1 << 20
SEND_LIMIT: Final = 1 << 20
DISCONNECT_TIMEOUT: Final = 5.0

_log = Logger()


@implementer(IPushProducer)
class Connection(Protocol):
    """One open session with a daemon.  Made by :func:`connect`."""

    def __init__(
        self,
        session: ClientSession,
        reactor: IReactorTime,
        *,
        receive_limit: int = RECEIVE_LIMIT,
        send_limit: int = SEND_LIMIT,
        silence_timeout: float | None = SILENCE_TIMEOUT,
    ) -> None:
        self._session = session
        self._reactor = reactor
        self._silence_timeout = silence_timeout
        self._inbox = Inbox(receive_limit)
        self._outbox = Outbox(reactor, send_limit)
        self._ready: Deferred[Connection] | None = Deferred(self._give_up)
        self._receivers: deque[tuple[Deferred[Any], bool]] = deque()
        self._callback: Callable[[list[Message]], object] | None = None
        self._reading = True
        self._held_back = False
        self._liveness: Liveness | None = None
        self._liveness_call: IDelayedCall | None = None
        self._abort_call: IDelayedCall | None = None
        self._close_waiters: list[Deferred[SpreadError]] = []
        self._closed = False
        self.reason: SpreadError | None = None
        """Why the connection ended; None while it is open."""

    # What the connection is

    @property
    def private_group(self) -> str:
        """The session's own name, ``#name#daemon``; others can send to it."""
        return self._session.private_group

    @property
    def daemon_version(self) -> tuple[int, int, int]:
        """Version that the daemon told in the handshake."""
        return self._session.daemon_version

    @property
    def membership(self) -> bool:
        """Whether membership messages were asked for."""
        return self._session.membership

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._session.state is SessionState.OPEN

    # Sending

    def join(self, group: Name) -> None:
        """Ask to become a member of a group.

        There is no answer but the first :class:`MembershipMessage` of the group.

        :raises IllegalGroup: the name is not 1 to 31 bytes of 0x24..0x7E.
        """
        self._request(self._session.join, group)

    def leave(self, group: Name) -> None:
        """Ask to be a member no longer; :class:`SelfLeave` tells when it is done.

        :raises IllegalGroup: as :meth:`join`.
        """
        self._request(self._session.leave, group)

    def multicast(
        self,
        service_type: int,
        groups: Name | Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
        *,
        urgent: bool = False,
    ) -> int:
        """Send a message to one group or private group, or to several.

        Returns at once; frames of one reactor turn leave together.  ``body`` may be
        a sequence of buffers.  Returns the number of body bytes.  An ``urgent`` message
        is taken by a full buffer too: for the few small ones that a layer above this
        one cannot do without.

        :raises WouldBlock: ``send_limit`` bytes wait already; see :meth:`drained`.
        :raises SpreadError: as :meth:`RequestEncoder.multicast`, or :attr:`reason`.
        """
        if self.reason is not None:
            raise self.reason.again()
        frame = self._session.multicast(service_type, groups, body, mess_type)
        self._outbox.put(frame, force=urgent)
        if isinstance(body, list | tuple):
            return sum(len(part) for part in body)
        return len(body)

    @inlineCallbacks
    def send(
        self,
        service_type: int,
        groups: Name | Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> Generator[Deferred[Any], Any, int]:
        """Like :meth:`multicast`, but wait for room instead of raising WouldBlock."""
        while self.buffered >= self.send_limit:
            yield self.drained()
        return self.multicast(service_type, groups, body, mess_type)

    @property
    def send_limit(self) -> int:
        """Bytes at which :meth:`multicast` refuses."""
        return self._outbox.limit

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.size

    def drained(self) -> Deferred[None]:
        """Fire when less than half of ``send_limit`` waits to be sent.

        Fails with :attr:`reason` if the connection ends before.
        """
        return self._outbox.drained()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let a producer that calls :meth:`multicast` be paused while the buffer is full.

        As Twisted's ``IConsumer``: a streaming producer is paused and resumed, a pull
        producer is asked for one more piece whenever there is room.
        """
        self._outbox.register(producer, streaming)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._outbox.unregister()

    def _request(self, encode: Callable[[Name], bytes], group: Name) -> None:
        if self.reason is not None:
            raise self.reason.again()
        self._outbox.put(encode(group))

    # Receiving

    def receive(self) -> Deferred[Message]:
        """Fire with the next message.

        What was received before the end is given out first; then it fails with
        :attr:`reason`.  Cancelling it loses no message.
        """
        receiver: Deferred[Message] = Deferred(self._forget_receiver)
        if len(self._inbox):
            receiver.callback(self._inbox.take())
            self._regulate()
        elif self.reason is not None:
            receiver.errback(self.reason)
        else:
            self._receivers.append((receiver, False))
        return receiver

    def receive_batch(self) -> Deferred[list[Message]]:
        """Fire with all messages that wait, at least one.  The quick way to receive."""
        receiver: Deferred[list[Message]] = Deferred(self._forget_receiver)
        if len(self._inbox):
            receiver.callback(self._inbox.take_all())
            self._regulate()
        elif self.reason is not None:
            receiver.errback(self.reason)
        else:
            self._receivers.append((receiver, True))
        return receiver

    def deliver_to(self, callback: Callable[[Message], object]) -> None:
        """Call ``callback`` with every message from now on, waiting ones first.

        An exception from it is logged and the next message is delivered.  To stop the
        flow for a while use :meth:`pauseProducing`.
        """

        def deliver(messages: list[Message]) -> None:
            for message in messages:
                try:
                    callback(message)
                except Exception:
                    _log.failure("message callback failed")

        self.deliver_batches_to(deliver)

    def deliver_batches_to(self, callback: Callable[[list[Message]], object]) -> None:
        """Call ``callback`` with lists of messages, everything that one read completed."""
        self._callback = callback
        if len(self._inbox) and not self._held_back:
            self._call_back(self._inbox.take_all())
            self._regulate()

    @property
    def waiting(self) -> int:
        """Messages received and not yet taken."""
        return len(self._inbox)

    def poll(self) -> int:
        """Bytes of messages received and not yet taken; 0 when :meth:`receive` would wait."""
        return self._inbox.size

    def __aiter__(self) -> Connection:
        """Iterate over messages.

        Ends after :meth:`disconnect`; raises :attr:`reason` when the connection is lost.
        """
        return self

    async def __anext__(self) -> Message:
        if len(self._inbox):
            message = self._inbox.take()
            if not self._reading:
                self._regulate()
            return message
        try:
            return await self.receive()
        except IllegalSession:
            raise StopAsyncIteration from None

    def pauseProducing(self) -> None:
        """Deliver nothing to the callback and stop reading, until :meth:`resumeProducing`."""
        self._held_back = True
        self._regulate()

    def resumeProducing(self) -> None:
        """Deliver and read again."""
        self._held_back = False
        if self._callback is not None and len(self._inbox):
            self._call_back(self._inbox.take_all())
        self._regulate()

    def stopProducing(self) -> None:
        """End the connection, as a consumer that went away demands."""
        self.abort()

    def _forget_receiver(self, receiver: Deferred[Any]) -> None:
        self._receivers = deque(item for item in self._receivers if item[0] is not receiver)

    def _call_back(self, messages: list[Message]) -> None:
        try:
            if self._callback is not None:
                self._callback(messages)
        except Exception:
            _log.failure("message callback failed")

    def _distribute(self, messages: list[Message]) -> None:
        """Give messages to whoever waits, and keep the rest."""
        if self._callback is not None and not self._held_back and not len(self._inbox):
            self._call_back(messages)
            return
        self._inbox.put(messages)
        while self._receivers and len(self._inbox):
            receiver, batch = self._receivers.popleft()
            receiver.callback(self._inbox.take_all() if batch else self._inbox.take())
        self._regulate()

    def _regulate(self) -> None:
        """Read from the transport, or do not, as the inbox has room."""
        wanted = not (self._inbox.full or self._held_back)
        if wanted == self._reading or self.reason is not None:
            return
        self._reading = wanted
        if wanted:
            self._transport.resumeProducing()
        else:
            self._transport.pauseProducing()

    # Ending

    def disconnect(self) -> Deferred[None]:
        """End the session: tell the daemon, close, fire when it is closed.

        Frames queued before are sent first, for at most 5 seconds.  Never fails.
        """
        done: Deferred[None] = Deferred()
        self.when_closed().addBoth(lambda _: done.callback(None))
        if self.is_open:
            kill = self._session.disconnect()
            rest = self._end(
                IllegalSession(SpreadCode.ILLEGAL_SESSION, "disconnected by the program")
            )
            self._transport.unregisterProducer()
            self._transport.write(rest + kill)
            self._transport.loseConnection()
            self._abort_call = self._reactor.callLater(
                DISCONNECT_TIMEOUT, self._transport.abortConnection
            )
        elif not self._closed:
            self.abort()
        return done

    def abort(self) -> None:
        """Close at once, telling the daemon nothing and dropping what is queued."""
        self._end(IllegalSession(SpreadCode.ILLEGAL_SESSION, "aborted by the program"))
        if not self._closed and self.transport is not None:
            self._transport.abortConnection()

    def when_closed(self) -> Deferred[SpreadError]:
        """Fire with :attr:`reason` once the transport is closed.  Never fails."""
        waiter: Deferred[SpreadError] = Deferred()
        if self._closed and self.reason is not None:
            waiter.callback(self.reason)
        else:
            self._close_waiters.append(waiter)
        return waiter

    def _end(self, reason: SpreadError) -> bytes:
        """Nothing can be sent or received from now on; return what was not written."""
        if self.reason is not None:
            return b""
        self.reason = reason
        self._session.lost()
        if self._liveness_call is not None and self._liveness_call.active():
            self._liveness_call.cancel()
        self._liveness_call = None
        rest = self._outbox.end(reason)
        if self._ready is not None:
            ready, self._ready = self._ready, None
            ready.errback(reason)
        receivers, self._receivers = self._receivers, deque()
        for receiver, _batch in receivers:
            receiver.errback(reason)
        return rest

    # Called by Twisted

    @property
    def _transport(self) -> StreamTransport:
        return cast(StreamTransport, self.transport)

    def connectionMade(self) -> None:
        """Begin the handshake."""
        if ITCPTransport.providedBy(self.transport):
            tcp: ITCPTransport = self.transport
            tcp.setTcpNoDelay(True)
            tcp.setTcpKeepAlive(True)
        if hasattr(self.transport, "bufferSize"):
            # Twisted writes up to 128 KiB in a turn but reads only 64 KiB: a program
            # that hears its own messages would fall behind, until the daemon cuts it
            # off for not reading.
            cast(Any, self.transport).bufferSize = READ_SIZE
        self._outbox.attach(self._transport)
        self._transport.write(self._session.data_to_send())

    def dataReceived(self, data: bytes) -> None:
        """Take one read of the transport."""
        if self.reason is not None:
            return
        try:
            messages = self._session.receive(data)
        except SpreadError as problem:
            self._fail(problem)
            return
        if self._liveness is not None:
            self._liveness.heard(self._reactor.seconds())
            if self._liveness.probing:
                messages = self._liveness.without_echo(messages)
        elif self._ready is not None:
            output = self._session.data_to_send()
            if output:
                self._transport.write(output)
            if not self.is_open:
                return
            self._opened()
        if messages:
            self._distribute(messages)
        problem_behind = self._session.problem
        if problem_behind is not None:
            self._fail(problem_behind)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note that the transport is closed."""
        done = isinstance(reason.value, error.ConnectionDone)
        told = "by the daemon" if done else str(reason.value)
        if self._ready is not None:
            told = f"during the handshake: {told}"
        self._end(connection_closed(told))
        self._closed = True
        if self._abort_call is not None and self._abort_call.active():
            self._abort_call.cancel()
        assert self.reason is not None
        waiters, self._close_waiters = self._close_waiters, []
        for waiter in waiters:
            waiter.callback(self.reason)

    def opening(self) -> Deferred[Connection]:
        """Fire with the connection once the handshake is complete.  To be called once."""
        assert self._ready is not None
        return self._ready

    def _give_up(self, _ready: Deferred[Connection]) -> None:
        """Nobody waits for the handshake any more."""
        self._ready = None
        self.abort()

    def _opened(self) -> None:
        if self._silence_timeout is not None:
            now = self._reactor.seconds()
            self._liveness = Liveness(self._silence_timeout, self.private_group, now)
            self._watch(now)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(self)

    def _watch(self, now: float) -> None:
        if self._liveness is not None:
            self._liveness_call = self._reactor.callLater(
                self._liveness.next_check(now), self._check_liveness
            )

    def _check_liveness(self) -> None:
        self._liveness_call = None
        liveness = self._liveness
        if liveness is None or self.reason is not None:
            return
        now = self._reactor.seconds()
        if not self._reading:
            liveness.heard(now)
        if liveness.dead(now):
            self._fail(connection_closed(f"the daemon was silent for {liveness.timeout:g} seconds"))
            return
        if liveness.due(now):
            probe = self._session.multicast(PROBE_SERVICE, self.private_group, PROBE_BODY)
            self._outbox.put(probe, force=True)
        self._watch(now)

    def _fail(self, problem: SpreadError) -> None:
        if self.reason is None:
            self._end(problem)
            self._transport.abortConnection()
