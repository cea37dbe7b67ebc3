"""A connection that is made again when it is lost, as a Twisted service.

For example::

    client = SpreadService(["4803@one.example", "4803@two.example"], "worker")
    client.join("jobs")
    client.startService()
    async for event in client:
        if isinstance(event, Disconnected): ...     # a gap begins
        elif isinstance(event, Connected): ...      # it is over; groups are joined again
        else: ...                                   # messages

Nothing can hide a gap: between :class:`Disconnected` and the next :class:`Connected` any
number of messages and membership changes were missed, the private group may be another,
and what was sent last may or may not have reached anybody.  Both are events in the
stream of messages, at the place where the gap is, so that a program can bring its state
up to date there.

========== ======================= ======================================== ==========
state      event                   action                                   next
========== ======================= ======================================== ==========
STOPPED    startService            try the first daemon                     CONNECTING
CONNECTING connected               join the groups, deliver Connected       CONNECTED
CONNECTING refused, all tried once wait (longer each round), begin again    WAITING
CONNECTING refused, more to try    try the next daemon                      CONNECTING
CONNECTING refused, last round     fail who receives                        STOPPED
CONNECTED  connection lost         deliver Disconnected, try the next       CONNECTING
WAITING    time passed             try the first daemon of the round        CONNECTING
any        stopService             disconnect                               STOPPED
========== ======================= ======================================== ==========
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Unpack, cast

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txspread.client.connecting import ConnectOptions, connect
from txspread.client.connection import Connection
from txspread.client.errors import IllegalSession, SpreadError
from txspread.client.events import EventQueue
from txspread.client.messages import Message, Name, name_text
from txspread.client.protocol import connection_closed
from txspread.client.requests import check_group, check_private_name
from txspread.wire.constants import SpreadCode

EVENT_LIMIT: Final = 10_000
"""Events that wait for the program before the connection stops reading."""

_log = Logger()


@frozen
class Connected:
    """A session is open, and its groups are being joined."""

    private_group: str
    """The session's own name; another than before, if the daemon is another."""
    daemon: str
    """Which of the daemons, as it was written."""
    groups: tuple[str, ...]
    """Groups that were asked to be joined again."""
    again: bool
    """Whether there was a session before: a gap ends here."""


@frozen
class Disconnected:
    """The session is lost: a gap begins here."""

    private_group: str
    reason: SpreadError


Event = Message | Connected | Disconnected


class SpreadService(Service):
    """Keeps a session open, at one of several daemons.

    :param daemons: Spread names, tried in this order, from the one after the last that
        worked.
    :param private_name: up to 10 bytes; empty: the daemon invents one each time.
    :param groups: groups to be a member of.
    :param first_delay: seconds to wait after every daemon was tried in vain.
    :param max_delay: the wait doubles each round, up to this.
    :param rounds: give up after all daemons failed so many times in a row; None: never.
    :param event_limit: events that may wait before the connection stops reading.
    :param jitter: random numbers in 0..1, which spread the waits of many clients.
    :param options: further options of :func:`txspread.client.connect`.
    """

    def __init__(
        self,
        daemons: Sequence[str],
        private_name: Name = "",
        *,
        membership: bool = True,
        groups: Sequence[Name] = (),
        first_delay: float = 0.5,
        max_delay: float = 30.0,
        rounds: int | None = None,
        event_limit: int = EVENT_LIMIT,
        jitter: Callable[[], float] = random.random,
        **options: Unpack[ConnectOptions],
    ) -> None:
        if not daemons:
            raise ValueError("at least one daemon is needed")
        self.daemons = tuple(daemons)
        self.connection: Connection | None = None
        """The session that is open now, if any."""
        self._private_name = check_private_name(private_name)
        self._membership = membership
        self._groups = {name_text(check_group(group)): None for group in groups}
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._rounds = rounds
        self._jitter = jitter
        self._options = options
        self._next = 0
        self._ever = False
        self._run: Deferred[None] | None = None
        self._waiters: list[Deferred[Connection]] = []
        self._events: EventQueue[Event] = EventQueue(event_limit, self._pause, self._resume)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that are joined, and joined again after a gap."""
        return tuple(self._groups)

    # The service

    def startService(self) -> None:
        """Begin to connect."""
        cast(Any, super()).startService()
        self._events.reopen()
        self._run = self._keep_connected()
        self._run.addErrback(_not_cancelled)

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """Disconnect; fire when that is done."""
        cast(Any, super()).stopService()
        connection, run = self.connection, self._run
        self._end(IllegalSession(SpreadCode.ILLEGAL_SESSION, "the service was stopped"))
        if connection is not None:
            yield connection.disconnect()
        if run is not None:
            run.cancel()
            yield run

    def connected(self) -> Deferred[Connection]:
        """Fire with the connection as soon as there is one.

        Fails when the service was stopped or has given up.
        """
        waiter: Deferred[Connection] = Deferred(self._waiters_remove)
        if self.connection is not None:
            waiter.callback(self.connection)
        elif self._events.reason is not None:
            waiter.errback(self._events.reason)
        else:
            self._waiters.append(waiter)
        return waiter

    # What a connection can do

    def join(self, group: Name) -> None:
        """Be a member of a group from now on, over all gaps.

        :raises IllegalGroup: the name is not legal.
        """
        self._groups[name_text(check_group(group))] = None
        if self.connection is not None:
            self.connection.join(group)

    def leave(self, group: Name) -> None:
        """Be a member no longer.

        :raises IllegalGroup: the name is not legal.
        """
        self._groups.pop(name_text(check_group(group)), None)
        if self.connection is not None:
            self.connection.leave(group)

    def multicast(
        self,
        service_type: int,
        groups: Name | Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> int:
        """Send, see :meth:`Connection.multicast`.

        :raises ConnectionClosed: there is no session now; see :meth:`connected`.
        """
        if self.connection is None:
            raise connection_closed("not connected at the moment")
        return self.connection.multicast(service_type, groups, body, mess_type)

    def receive(self) -> Deferred[Event]:
        """Fire with the next message or notice; fails after :meth:`stopService`."""
        return self._events.get()

    def __aiter__(self) -> SpreadService:
        """Iterate over messages and notices; ends after :meth:`stopService`."""
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.receive()
        except IllegalSession:
            raise StopAsyncIteration from None

    # Inside

    @inlineCallbacks
    def _keep_connected(self) -> Generator[Deferred[Any], Any, None]:
        failures = 0
        while self.running:
            name = self.daemons[self._next % len(self.daemons)]
            try:
                connection: Connection = yield connect(
                    name, self._private_name, membership=self._membership, **self._options
                )
            except SpreadError as problem:
                self._next += 1
                failures += 1
                _log.info("daemon {daemon}: {problem}", daemon=name, problem=problem)
                if failures % len(self.daemons) == 0:
                    done = failures // len(self.daemons)
                    if self._rounds is not None and done >= self._rounds:
                        self._end(problem)
                        return
                    yield self._wait(done)
                continue
            failures = 0
            reason: SpreadError = yield self._serve(connection, name)
            self.connection = None
            self._next += 1
            if self.running:
                self._events.put(Disconnected(connection.private_group, reason))

    def _serve(self, connection: Connection, name: str) -> Deferred[SpreadError]:
        """Use a new connection; fire when it is lost."""
        self.connection = connection
        again, self._ever = self._ever, True
        for group in self._groups:
            connection.join(group)
        self._events.put(Connected(connection.private_group, name, self.groups, again))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(connection)
        if self._events.paused:
            connection.pauseProducing()
        connection.deliver_batches_to(self._take)
        return connection.when_closed()

    def _wait(self, done: int) -> Deferred[None]:
        delay = min(self._first_delay * 2 ** min(done - 1, 30), self._max_delay)
        reactor = self._options.get("reactor")
        if reactor is None:
            from twisted.internet import reactor as installed

            reactor = cast(IReactorTime, installed)
        return deferLater(reactor, delay * (0.5 + self._jitter() / 2), lambda: None)

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            self._events.put(message)

    def _pause(self) -> None:
        if self.connection is not None:
            self.connection.pauseProducing()

    def _resume(self) -> None:
        if self.connection is not None:
            self.connection.resumeProducing()

    def _end(self, reason: SpreadError) -> None:
        """No more events come, nobody needs to wait for a connection."""
        self._events.end(reason)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(reason)

    def _waiters_remove(self, waiter: Deferred[Connection]) -> None:
        self._waiters.remove(waiter)


def _not_cancelled(failure: Failure) -> None:
    """Stopping cancels; anything else is a fault of this module."""
    if not isinstance(failure.value, CancelledError):
        _log.failure("the service failed", failure)
