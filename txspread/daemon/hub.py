"""The daemon's own event loop inside Twisted's: one descriptor, one turn.

Every socket of a daemon is watched by an ``epoll`` of its own, and only the
descriptor of that epoll is given to the reactor.  What this buys:

* a *turn* is a well-defined thing: all that is readable now is read in the
  daemon's order (datagrams before clients, due timers before both), then the
  engine's end of turn runs once, so that each client is written to once;
* under load the reactor's own work per event is paid once for many turns;
* timers run by the monotonic clock (:mod:`txspread.daemon.timer_descriptor`).

It works under any reactor that can watch a descriptor.  Where the system has no
epoll, :class:`ReactorHub` registers each socket with the reactor instead, with
one turn for each event.

Source of the order: ``docs/protocol/daemon-datagrams.md`` section 13,
``docs/protocol/client-session.md`` section 6.3.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from twisted.internet.interfaces import (
    IReactorCore,
    IReadDescriptor,
    IReadWriteDescriptor,
    IWriteDescriptor,
)
from zope.interface import implementer

from txspread.daemon.outer_wait import OuterWait
from txspread.daemon.system_calls import wait
from txspread.daemon.timer_descriptor import TimerDescriptor

monotonic: Final = time.monotonic
READ: Final = 1
WRITE: Final = 4
_ROUNDS: Final = 16
"""Turns in a row before the reactor's other work gets its chance."""
_MAX_EVENTS: Final = 512
_LINGER: Final = 0.01
_LONGEST_WAIT: Final = 60.0
_LINGER_LIMIT: Final = 0.05
"""Seconds for which a hub that lingers may keep the reactor from other work."""
_DATAGRAM_PATIENCE: Final = 0.001
"""Seconds of client work after which waiting datagrams are looked at again."""
_EPOLL_READ: Final = 0x1 | 0x8 | 0x10
_EPOLL_WRITE: Final = 0x4


class DelayedCall(Protocol):
    """What a hub uses of ``IDelayedCall``."""

    def cancel(self) -> None:
        """Do not call after all."""


class Reactor(Protocol):
    """What a hub uses of a Twisted reactor: ``IReactorFDSet`` and ``IReactorTime``."""

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch for reading."""

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Watch no longer."""

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Watch for writing."""

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Watch no longer."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object
    ) -> DelayedCall:
        """Call once, later."""


class Source(Protocol):
    """Something with a descriptor that a hub watches."""

    interest: int
    """Or-ed :data:`READ` and :data:`WRITE`: what to wait for."""
    watched: int
    """What the hub has told the kernel; belongs to the hub."""

    def fileno(self) -> int:
        """The descriptor."""

    def readable(self) -> None:
        """Take what there is; called only while ``interest`` has :data:`READ`."""

    def writable(self) -> None:
        """Called only while ``interest`` has :data:`WRITE`."""


class Turn(Protocol):
    """What a hub drives."""

    def due(self, now: float) -> None:
        """The time of :meth:`next_due` has come."""

    def next_due(self) -> float | None:
        """When to call :meth:`due`, on the monotonic clock."""

    def receive_datagrams(self, ready: list[int] | None, look: int) -> bool:
        """Read a batch of datagrams, by priority; tells whether to look again.

        Args:
            ready: descriptors known to be readable; None: nothing is known.
            look: how often the sockets have been looked at before in this turn.

        """

    def datagrams_received(self) -> None:
        """There are no more datagrams for now; what the engine sent may leave."""

    def end_turn(self, now: float) -> None:
        """Everything that was ready has been handled."""

    def fault(self, source: Source | None) -> None:
        """An exception came out of a handler; it is the current exception."""


class Hub(Protocol):
    """Watches sources and drives turns."""

    ending: bool
    """Whether :meth:`Turn.end_turn` is running."""

    def add(self, source: Source, *, datagrams: bool = False) -> None:
        """Watch a source; with ``datagrams`` its events mean ``receive_datagrams``."""

    def remove(self, source: Source) -> None:
        """Stop watching; must precede the closing of the descriptor."""

    def changed(self, source: Source) -> None:
        """``source.interest`` is another; takes effect before the next wait."""

    def run_soon(self) -> None:
        """Make a turn happen although nothing is readable."""

    def close(self) -> None:
        """Stop watching everything."""


@implementer(IReadDescriptor)
class _Ready:
    """The descriptor of a hub as the reactor sees it.

    Apart from the hub, so that nothing hinders a compiler there.
    """

    def __init__(self, hub: EpollHub) -> None:
        self.fileno = hub.fileno
        self.doRead = hub.run

    def logPrefix(self) -> str:
        return "spread"

    def connectionLost(self, reason: object) -> None:
        # The reactor has dropped this descriptor; nothing to do.
        return


class EpollHub:
    """A hub on an epoll and a timer descriptor of its own.

    Args:
        reactor: any Twisted reactor (``IReactorFDSet``).
        turn: what is driven.
        linger: wait in the reactor's place (:mod:`~txspread.daemon.outer_wait`), or where
            that is not possible wait for more, up to 10 ms, before the reactor gets
            control back: the reactor's part of the latency falls away, but whatever
            else it serves is delayed, by 60 ms at most while the daemon is busy.  For
            a process that is a daemon and no more.

    Raises:
        OSError, AttributeError: the system has no epoll or no timer descriptor.

    """

    def __init__(self, reactor: Reactor, turn: Turn, *, linger: bool = False) -> None:
        self._reactor = reactor
        self._turn = turn
        self._linger = _LINGER if linger else 0.0
        self._timer = TimerDescriptor()
        self._timer_descriptor = self._timer.fileno()
        self._epoll = select.epoll()
        self._descriptor = self._epoll.fileno()
        self._closed = False
        # Looked up once: these are called in every turn.
        self._poll: Callable[[float, int], list[tuple[int, int]]] = self._epoll.poll
        self._receive = turn.receive_datagrams
        self._received = turn.datagrams_received
        self._end_turn = turn.end_turn
        self._next_due = turn.next_due
        self._sources: dict[int, Source] = {}
        self._datagrams: set[int] = set()
        self._changed: dict[int, Source] = {}
        self._alarm: float | None = None
        self._due: float | None = None
        self.ending = False
        self._epoll.register(self._timer_descriptor, READ)
        self._ready = cast(IReadDescriptor, _Ready(self))
        self._outer: OuterWait | None = None
        self._outer_descriptor = -1
        self._reactor_is_ready = False
        if linger:
            try:
                self._outer = OuterWait(cast(IReactorCore, reactor), self.iterate)
            except AttributeError:
                pass  # as described above
        if self._outer is None:
            reactor.addReader(self._ready)
        else:
            self._outer_descriptor = self._outer.descriptor
            self._epoll.register(self._outer_descriptor, READ)

    # The reactor's side

    def fileno(self) -> int:
        """The epoll's descriptor."""
        return self._epoll.fileno()

    def iterate(self, delay: float | None) -> None:
        """Wait in the reactor's place, then run turns until nothing is ready, within bounds.

        Args:
            delay: seconds until the reactor has something to do; None: for ever.

        """
        events = self._wait(_LONGEST_WAIT if delay is None else min(delay, _LONGEST_WAIT))
        limit = monotonic() + _LINGER_LIMIT
        while events:
            now = self._run(events)
            if self._closed:
                return
            if self._reactor_is_ready:
                self._reactor_is_ready = False
                if self._outer is not None:
                    self._outer.reactor_turn()
                return
            if now > limit:
                return
            events = self._wait(self._linger)

    def run(self) -> None:
        """Run turns until nothing is ready, within bounds."""
        linger = self._linger
        events = self._wait(0.0)
        limit = monotonic() + _LINGER_LIMIT
        turns = 0
        while events:
            now = self._run(events)
            turns += 1
            if self._closed or (now > limit if linger else turns >= _ROUNDS):
                return
            events = self._wait(linger)

    def _wait(self, seconds: float) -> list[tuple[int, int]]:
        """What is ready, at the latest after ``seconds``."""
        if wait is not None:
            # Rounded up: a wait that ends before something is due would be followed by another.
            return wait(self._descriptor, int(seconds * 1000 + 0.999))
        return self._poll(seconds, _MAX_EVENTS)

    def _run(self, events: list[tuple[int, int]]) -> float:
        """One turn; the time at its end."""
        turn = self._turn
        now = monotonic()
        datagrams = self._datagrams
        ready, clients = self._sort(events)
        if self._due is not None and self._due <= now:
            try:
                turn.due(now)
            except Exception:
                turn.fault(None)
        if ready:
            try:
                look = 0
                while ready and self._receive(ready, look):
                    look += 1
                    ready, clients = self._sort(self._wait(0.0))
                self._received()
            except Exception:
                turn.fault(None)
        started = now
        sources = self._sources
        for descriptor, mask in clients:
            source = sources.get(descriptor)
            if source is None:
                continue
            try:
                if mask & _EPOLL_READ and source.interest & READ:
                    source.readable()
                if mask & ~0x1 and source.interest & WRITE:
                    source.writable()
            except Exception:
                turn.fault(source)
            if datagrams:
                now = monotonic()
                if now - started > _DATAGRAM_PATIENCE:
                    self._receive_datagrams()
                    started = now
        return self._finish()

    def _sort(self, events: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Datagram descriptors, and the events of everything else but the timer."""
        datagrams = self._datagrams
        if len(events) == 1 and events[0][0] in datagrams:
            return [events[0][0]], []
        timer = self._timer_descriptor
        ready: list[int] = []
        clients: list[tuple[int, int]] = []
        for event in events:
            descriptor = event[0]
            if descriptor in datagrams:
                ready.append(descriptor)
            elif descriptor == timer:
                self._timer.acknowledge()
                self._alarm = None
            elif descriptor == self._outer_descriptor:
                self._reactor_is_ready = True
            else:
                clients.append(event)
        return ready, clients

    def _receive_datagrams(self) -> None:
        """In the middle of long work for clients."""
        try:
            look = 0
            while self._receive(None, look):
                look += 1
            self._received()
        except Exception:
            self._turn.fault(None)

    def _finish(self) -> float:
        now = monotonic()
        self.ending = True
        try:
            self._end_turn(now)
        except Exception:
            self._turn.fault(None)
        self.ending = False
        if self._closed:
            return now
        if self._changed:
            self._apply_changes()
        self._due = due = self._next_due()
        if due is not None and (self._alarm is None or due < self._alarm):
            # A timer that moved further away is left to ring early: most timers
            # of a working ring are pushed back with every token.
            self._alarm = due
            self._timer.set(due - now)
        return now

    # The daemon's side

    def add(self, source: Source, *, datagrams: bool = False) -> None:
        """See :meth:`Hub.add`."""
        descriptor = source.fileno()
        self._sources[descriptor] = source
        if datagrams:
            self._datagrams.add(descriptor)
        source.watched = 0
        self._watch(descriptor, source)

    def remove(self, source: Source) -> None:
        """See :meth:`Hub.remove`."""
        descriptor = source.fileno()
        if self._sources.pop(descriptor, None) is None:
            return
        self._datagrams.discard(descriptor)
        self._changed.pop(descriptor, None)
        if source.watched:
            self._epoll.unregister(descriptor)
            source.watched = 0

    def changed(self, source: Source) -> None:
        """See :meth:`Hub.changed`."""
        self._changed[source.fileno()] = source

    def run_soon(self) -> None:
        """See :meth:`Hub.run_soon`."""
        self._alarm = 0.0
        self._timer.set(0.0)

    def close(self) -> None:
        """See :meth:`Hub.close`."""
        if not self._closed:
            self._closed = True
            if self._outer is None:
                self._reactor.removeReader(self._ready)
            else:
                self._outer.close()
            self._sources.clear()
            self._changed.clear()
            self._epoll.close()
            self._timer.close()

    def _apply_changes(self) -> None:
        for descriptor, source in self._changed.items():
            self._watch(descriptor, source)
        self._changed.clear()

    def _watch(self, descriptor: int, source: Source) -> None:
        interest = source.interest
        if interest == source.watched:
            return
        # Without any interest the descriptor leaves the epoll altogether, for
        # a hang-up is reported even to those who wait for nothing.
        if interest == 0:
            self._epoll.unregister(descriptor)
        elif source.watched == 0:
            self._epoll.register(descriptor, interest)
        else:
            self._epoll.modify(descriptor, interest)
        source.watched = interest


@implementer(IReadWriteDescriptor)
class _Registration:
    """One source as the reactor sees it."""

    def __init__(self, hub: ReactorHub, source: Source, datagrams: bool) -> None:
        self._hub = hub
        self.source = source
        self._datagrams = datagrams
        self._descriptor = source.fileno()

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "spread"

    def connectionLost(self, reason: object) -> None:
        # A hang-up: the reader finds out by itself what it means.  The reactor no
        # longer watches the descriptor.
        self.source.watched = 0
        self._hub.event(self.source, self._datagrams, READ | WRITE)

    def doRead(self) -> None:
        self._hub.event(self.source, self._datagrams, READ)

    def doWrite(self) -> None:
        self._hub.event(self.source, self._datagrams, WRITE)


class ReactorHub:
    """A hub without epoll: every source is registered with the reactor.

    It has nothing to wait on, so ``linger`` has no effect.
    """

    def __init__(self, reactor: Reactor, turn: Turn, *, linger: bool = False) -> None:
        self._reactor = reactor
        self._turn = turn
        self._registrations: dict[int, _Registration] = {}
        self._changed: dict[int, Source] = {}
        self._alarm: float | None = None
        self._call: DelayedCall | None = None
        self._closed = False
        self.ending = False

    def add(self, source: Source, *, datagrams: bool = False) -> None:
        """See :meth:`Hub.add`."""
        registration = _Registration(self, source, datagrams)
        self._registrations[source.fileno()] = registration
        source.watched = 0
        self._watch(registration)

    def remove(self, source: Source) -> None:
        """See :meth:`Hub.remove`."""
        registration = self._registrations.pop(source.fileno(), None)
        if registration is not None:
            self._changed.pop(source.fileno(), None)
            self._reactor.removeReader(cast(IReadDescriptor, registration))
            self._reactor.removeWriter(cast(IWriteDescriptor, registration))
            source.watched = 0

    def changed(self, source: Source) -> None:
        """See :meth:`Hub.changed`."""
        self._changed[source.fileno()] = source

    def run_soon(self) -> None:
        """See :meth:`Hub.run_soon`."""
        self._set_alarm(monotonic())

    def close(self) -> None:
        """See :meth:`Hub.close`."""
        self._closed = True
        for registration in list(self._registrations.values()):
            self.remove(registration.source)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def event(self, source: Source, datagrams: bool, mask: int) -> None:
        """One turn for one event."""
        turn = self._turn
        try:
            now = monotonic()
            due = turn.next_due()
            if due is not None and due <= now:
                turn.due(now)
            if datagrams:
                look = 0
                while turn.receive_datagrams(None, look):
                    look += 1
                turn.datagrams_received()
            else:
                if mask & READ and source.interest & READ:
                    source.readable()
                if mask & WRITE and source.interest & WRITE:
                    source.writable()
        except Exception:
            turn.fault(source)
        self._finish()

    def _finish(self) -> None:
        now = monotonic()
        self.ending = True
        try:
            self._turn.end_turn(now)
        except Exception:
            self._turn.fault(None)
        self.ending = False
        if self._closed:
            return
        for descriptor in list(self._changed):
            registration = self._registrations.get(descriptor)
            if registration is not None:
                self._watch(registration)
        self._changed.clear()
        due = self._turn.next_due()
        if due is not None and (self._alarm is None or due < self._alarm):
            self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._alarm = due
        self._call = self._reactor.callLater(max(0.0, due - monotonic()), self._ring)

    def _ring(self) -> None:
        self._call = None
        self._alarm = None
        now = monotonic()
        due = self._turn.next_due()
        try:
            if due is not None and due <= now:
                self._turn.due(now)
        except Exception:
            self._turn.fault(None)
        self._finish()

    def _watch(self, registration: _Registration) -> None:
        source = registration.source
        interest, watched = source.interest, source.watched
        reactor = self._reactor
        if interest & READ and not watched & READ:
            reactor.addReader(cast(IReadDescriptor, registration))
        elif watched & READ and not interest & READ:
            reactor.removeReader(cast(IReadDescriptor, registration))
        if interest & WRITE and not watched & WRITE:
            reactor.addWriter(cast(IWriteDescriptor, registration))
        elif watched & WRITE and not interest & WRITE:
            reactor.removeWriter(cast(IWriteDescriptor, registration))
        source.watched = interest


def make_hub(reactor: Reactor, turn: Turn, *, linger: bool = False) -> EpollHub | ReactorHub:
    """The best hub that this system and reactor allow."""
    try:
        return EpollHub(reactor, turn, linger=linger)
    except (OSError, AttributeError):
        return ReactorHub(reactor, turn)
