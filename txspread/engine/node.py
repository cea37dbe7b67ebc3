"""One daemon's protocol, sans-IO: the only engine class the outside touches.

Bytes and time go in through the methods, effects come out through the
:class:`~txspread.engine.node_interfaces.Host` and the sessions' transports.
Nothing in here asks for the time, opens a socket or rolls dice of its own, so a
node is a function of its inputs and of the ``random`` that is passed in.

* A daemon whose configuration lists nobody else orders locally
  (:mod:`~txspread.engine.local_ring`); any other runs the token ring
  (:mod:`~txspread.engine.ring_stack`).  The layers above cannot tell.
* Inputs come in turns: any number of datagrams, session events and timers, then
  one :meth:`Node.end_of_turn`, in which deliveries reach the sessions' queues and
  each session that has output is written to once.
* An exception that escapes from a layer breaks no invariant of the process: it
  is counted and logged here, and the ring is formed anew, since what the layer
  knew of it can no longer be trusted.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.authentication import Authentication
from txspread.engine.groups import Groups
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import OrderedDelivery, StreamTransport
from txspread.engine.local_ring import LocalRing
from txspread.engine.membership.identifiers import IdClock
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.ring.token_machine import TokenRing
from txspread.engine.ring_interfaces import MembershipState
from txspread.engine.ring_stack import RingStack
from txspread.engine.sessions import Sessions
from txspread.engine.sessions_state import Session
from txspread.engine.trace import TracedDelivery, TraceSink
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import PacketHeader

__all__ = ["Channel", "Host", "Node", "PeerAddress", "Session"]

MAX_FAULT_LINES = 20
"""Internal errors that are logged in full; later ones are only counted."""


class Node:
    """A Spread daemon without its sockets.

    Args:
        configuration: in force.
        me: this daemon's entry in it.
        host: where effects go.
        alarms: where log lines go.
        random: numbers in [0, 1).
        now: monotonic time in seconds.
        authentication: methods, rules and passwords in force; None takes the
            method names of the configuration, with no access file.
        trace: takes the structured trace; None traces nothing, at no cost.
        last_time_used: the last value that ``time_used`` was told of by an earlier
            process of this daemon; -1 if none is known.
        time_used: told of a number that is to be kept for the next process: ids of
            memberships hold times, which have to grow over a restart as well, or two
            rings could be taken for one (``docs/protocol/membership.md`` section 6.6).

    """

    def __init__(
        self,
        configuration: Configuration,
        me: Daemon,
        host: Host,
        alarms: AlarmSink,
        random: Callable[[], float],
        now: float,
        *,
        authentication: Authentication | None = None,
        trace: TraceSink | None = None,
        last_time_used: int = -1,
        time_used: Callable[[int], None] | None = None,
    ) -> None:
        self.configuration = configuration
        self.me = me
        self.started_at = now
        self.faults = 0
        """Internal errors that were contained since the start; 0 in a healthy daemon."""
        self.ignored_control = 0
        """Monitor datagrams that were not handled."""
        self._host = host
        self._alarms = alarms
        self._id_clock = IdClock(host.wall_time, last_time_used, time_used)
        self._local: LocalRing | None = None
        self._stack: RingStack | None = None
        self._reform_reason: str | None = None
        order: LocalRing | TokenRing
        if len(configuration.daemons) > 1:
            self._stack = RingStack(
                me, configuration, host, alarms, now, self._control, last_time_used, time_used
            )
            order = self._stack.ring
        else:
            order = self._local = LocalRing(me.id)
        self.sessions = Sessions(
            me.name_bytes, configuration, order, alarms, random, host, authentication=authentication
        )
        self.groups = Groups(me, configuration, order, self.sessions, alarms, self._reform)
        self.sessions.join_allowed = self.groups.admit_join
        delivery: OrderedDelivery = self.groups
        if trace is not None:
            delivery = TracedDelivery(self.groups, trace)
        if self._stack is not None:
            self._stack.ring.connect(delivery, self.sessions)
        if self._local is not None:
            self._local.connect(delivery)

    # --- life

    def start(self, now: float) -> None:
        """Begin: order locally at once, or look for peers."""
        if self._local is not None:
            self._id_clock.next()
            self._local.start(self._id_clock.after())
        if self._stack is not None:
            self._stack.start(now)

    def stop(self, now: float) -> None:
        """End for good: what is queued for clients is written, then all are closed.

        No KILL is ordered: to the peers this daemon has crashed, and they tell
        the remaining members (``docs/protocol/membership.md`` section 9.4).
        """
        self.sessions.flush()
        for session in self.sessions.sessions():
            session.transport.close()

    # --- what a status report says

    @property
    def ring(self) -> RingStack | None:
        """The layers below the groups of a daemon with peers."""
        return self._stack

    @property
    def membership_state(self) -> MembershipState:
        """State of the membership machine; a daemon without peers is always operational."""
        return MembershipState.OP if self._stack is None else self._stack.membership.state

    @property
    def membership(self) -> tuple[ProcId, ...]:
        """Members of the ring last installed, in configuration order."""
        if self._stack is None:
            return (self.me.id,)
        return self._stack.membership.installed.members

    # --- the ring's sockets

    @property
    def prefer_tokens(self) -> bool:
        """Whether the token socket is to be read before the data socket."""
        return self._stack is not None and self._stack.ring.prefer_tokens

    @property
    def uses_datagrams(self) -> bool:
        """Whether this daemon has peers to exchange datagrams with."""
        return self._stack is not None

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Take one received datagram, of any content."""
        if self._stack is None:
            return
        try:
            self._stack.datagram(data, channel, now)
        except Exception as error:
            self._fault("a datagram", error)

    # --- clients

    def session_opened(self, transport: StreamTransport, peer: PeerAddress, now: float) -> Session:
        """Take a new client connection; the result names it in later calls."""
        self._set_time(now)
        return self.sessions.opened(transport, peer, now)

    def session_received(self, session: Session, data: bytes, now: float) -> None:
        """Take bytes from a client, of any content and cut anywhere."""
        self._set_time(now)
        try:
            self.sessions.received(session, data, now)
        except Exception as error:
            self._fault("a client's bytes", error)
            self._drop(session, now)

    def session_writable(self, session: Session, now: float) -> None:
        """The kernel takes bytes for this client again."""
        self.sessions.writable(session, now)

    def session_closed(self, session: Session, now: float) -> None:
        """The client's connection has ended: end of file or an error."""
        self._set_time(now)
        try:
            self.sessions.closed(session, now)
        except Exception as error:
            self._fault("the end of a client", error)

    # --- time

    def timer(self, now: float) -> None:
        """Do what is due; to be called when :meth:`next_timer` says so, or later."""
        try:
            if self._stack is not None:
                self._stack.timer(now)
            self.sessions.timer(now)
        except Exception as error:
            self._fault("a timer", error)

    def next_timer(self) -> float | None:
        """When to call :meth:`timer`, on the clock of the inputs; None for never."""
        sessions = self.sessions.next_timer()
        if self._stack is None:
            return sessions
        ring = self._stack.next_timer()
        if ring is None or (sessions is not None and sessions < ring):
            return sessions
        return ring

    def end_of_turn(self, now: float) -> None:
        """Close a batch of inputs: deliver what they set free, write to clients."""
        try:
            if self._reform_reason is not None:
                self._form_anew(now)
            if self._stack is not None:
                self._stack.end_of_turn(now)
            self.sessions.flush()
        except Exception as error:
            self._fault("the end of a turn", error)

    # --- inside

    def _set_time(self, now: float) -> None:
        if self._stack is not None:
            self._stack.timers.now = now

    def _control(self, header: PacketHeader, data: bytes) -> None:
        self.ignored_control += 1

    def _reform(self, reason: str) -> None:
        """A layer asks for a new ring, from inside a delivery; it happens at the turn's end."""
        self._reform_reason = reason

    def _form_anew(self, now: float) -> None:
        reason, self._reform_reason = self._reform_reason, None
        if self._stack is not None and self._stack.form_anew(now):
            self._alarms.alarm(
                Category.PRINT, Priority.ERROR, "the ring is formed anew: %s", reason
            )

    def _fault(self, where: str, error: Exception) -> None:
        self.faults += 1
        if self.faults <= MAX_FAULT_LINES:
            self._alarms.alarm(
                Category.PRINT,
                Priority.ERROR,
                "internal error while handling %s: %s",
                where,
                "".join(traceback.format_exception(error)).rstrip(),
            )
        self._reform_reason = f"internal error while handling {where}"

    def _drop(self, session: Session, now: float) -> None:
        """End a session whose bytes a layer could not handle."""
        try:
            self.sessions.closed(session, now)
        except Exception as error:
            self._fault("the end of a client", error)
            session.transport.close()
