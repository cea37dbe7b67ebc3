"""Frames on their way to the transport, with a bound.

Frames are collected during one turn of the reactor and written at once.  When the
transport's own buffer (256 KiB) is full they wait here; at ``limit`` bytes no more are
taken.
"""

from __future__ import annotations

from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProducer,
    IPullProducer,
    IPushProducer,
    IReactorTime,
)
from zope.interface import implementer

from txspread.client.errors import SpreadError, WouldBlock
from txspread.wire.constants import SpreadCode


class StreamTransport(Protocol):
    """What the connection needs of a Twisted stream transport."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the socket."""

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Pause and resume ``producer`` as the write buffer fills and empties."""

    def unregisterProducer(self) -> None:
        """Forget it."""

    def pauseProducing(self) -> None:
        """Stop reading."""

    def resumeProducing(self) -> None:
        """Read again."""

    def loseConnection(self) -> None:
        """Close when everything is written."""

    def abortConnection(self) -> None:
        """Close now."""


@implementer(IPushProducer)
class Outbox:
    """The sending half of a connection; the transport's streaming producer.

    :param limit: bytes at which :meth:`put` refuses.
    """

    def __init__(self, reactor: IReactorTime, limit: int) -> None:
        if limit < 1:
            raise ValueError("the send limit must be at least 1 byte")
        self.limit = limit
        self._reactor = reactor
        self._transport: StreamTransport | None = None
        self._frames: list[bytes] = []
        self._waiting = 0
        self._written = 0
        self._full = False
        self._flush_call: IDelayedCall | None = None
        self._ended: SpreadError | None = None
        self._drain_waiters: list[Deferred[None]] = []
        self._producer: IProducer | None = None
        self._streaming = False
        self._paused = False

    @property
    def size(self) -> int:
        """Bytes that wait; those in a transport whose buffer is full are counted."""
        return self._waiting + self._written

    def attach(self, transport: StreamTransport) -> None:
        """Begin to use the transport."""
        self._transport = transport
        transport.registerProducer(self, True)

    def put(self, frame: bytes, force: bool = False) -> None:
        """Queue a frame; it is written at the end of the turn.

        :raises WouldBlock: ``limit`` bytes wait already, unless ``force``.
        """
        size = self._waiting + self._written
        if size >= self.limit and not force:
            raise WouldBlock(
                SpreadCode.WOULD_BLOCK,
                f"{size} bytes wait to be sent, the limit is {self.limit}",
            )
        self._frames.append(frame)
        self._waiting += len(frame)
        if self._flush_call is None and not self._full:
            self._flush_call = self._reactor.callLater(0, self._flush)
        if self._producer is not None and self.size * 2 >= self.limit:
            self._pause_producer()

    def drained(self) -> Deferred[None]:
        """Fire when less than half of the limit waits; fail when the connection ends."""
        waiter: Deferred[None] = Deferred(self._drain_waiters_remove)
        if self._ended is not None:
            waiter.errback(self._ended)
        elif self.size * 2 < self.limit:
            waiter.callback(None)
        else:
            self._drain_waiters.append(waiter)
        return waiter

    def register(self, producer: IProducer, streaming: bool) -> None:
        """See :meth:`Connection.registerProducer`."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._ended is not None:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._paused = False
        if not streaming and self._flush_call is None:
            self._flush_call = self._reactor.callLater(0, self._flush)

    def unregister(self) -> None:
        """Forget the producer."""
        self._producer = None

    def end(self, reason: SpreadError) -> bytes:
        """Take no more; fail who waits; return what was not written yet."""
        self._ended = reason
        if self._flush_call is not None:
            if self._flush_call.active():
                self._flush_call.cancel()
            self._flush_call = None
        rest = b"".join(self._frames)
        self._frames.clear()
        self._waiting = self._written = 0
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            waiter.errback(reason)
        return rest

    # Called by the transport

    def pauseProducing(self) -> None:
        """Keep frames here: the transport's buffer is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """Write on: the transport's buffer is empty."""
        self._full = False
        self._written = 0
        if self._ended is None:
            self._flush()

    def stopProducing(self) -> None:
        """Do nothing: the connection learns of the end by itself."""

    def _flush(self) -> None:
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
        if self._frames and not self._full and self._transport is not None:
            data = b"".join(self._frames)
            self._frames.clear()
            self._waiting = 0
            # The transport says from inside write whether its buffer is full now.
            self._written = len(data)
            self._transport.write(data)
            if not self._full:
                self._written = 0
        if self.size * 2 < self.limit:
            self._tell_room()

    def _tell_room(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            waiter.callback(None)
        producer = self._producer
        if producer is None:
            return
        if not self._streaming:
            cast(IPullProducer, producer).resumeProducing()
        elif self._paused:
            self._paused = False
            cast(IPushProducer, producer).resumeProducing()

    def _pause_producer(self) -> None:
        if self._streaming and not self._paused:
            self._paused = True
            cast(IPushProducer, self._producer).pauseProducing()

    def _drain_waiters_remove(self, waiter: Deferred[None]) -> None:
        self._drain_waiters.remove(waiter)
