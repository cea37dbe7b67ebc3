"""One daemon's protocol, sans-IO: the only engine class the outside touches.

Bytes and time go in through the methods, effects come out through the
:class:`~txspread.engine.node_interfaces.Host` and the sessions' transports.
Nothing in here asks for the time, opens a socket or rolls dice of its own, so a
node is a function of its inputs and of the ``random`` that is passed in.

* A daemon whose configuration lists nobody else orders locally
  (:mod:`~txspread.engine.local_ring`); any other runs the token ring
  (:mod:`~txspread.engine.ring_stack`).  The layers above cannot tell.  A reload that
  names the first peer puts the token ring in the place of the local one while
  clients are connected; with its last peer gone a token ring goes on alone.
* A configuration that was read again takes effect when the ring is in operation, in
  the order of :meth:`Node._go_on_with`.
* Inputs come in turns: any number of datagrams, session events and timers, then
  one :meth:`Node.end_of_turn`, in which deliveries reach the sessions' queues and
  each session that has output is written to once.
* An exception that escapes from a layer breaks no invariant of the process: it
  is counted and logged here, and the ring is formed anew, since what the layer
  knew of it can no longer be trusted.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from txspread.config.model import Configuration, Daemon
from txspread.config.reloading import Reload, compare
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.authentication import Authentication
from txspread.engine.groups import Groups
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import OrderedDelivery, StreamTransport
from txspread.engine.local_ring import LocalRing
from txspread.engine.membership import lines
from txspread.engine.membership.identifiers import IdClock
from txspread.engine.monitor import Monitor
from txspread.engine.monitor_status import local_status, ring_status
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.ring.token_machine import TokenRing
from txspread.engine.ring_history import RingHistory
from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.engine.ring_stack import RingStack
from txspread.engine.routing import Routing
from txspread.engine.routing_partition import PartitionCommands
from txspread.engine.sessions import Sessions
from txspread.engine.sessions_state import Session
from txspread.engine.timers import RingTimers
from txspread.engine.trace import TracedDelivery, TraceSink
from txspread.wire.datagram import CONTROL
from txspread.wire.identifiers import ProcId
from txspread.wire.message import MessageHeader, packet_type_of
from txspread.wire.monitor import Status
from txspread.wire.packet import cut_train

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
        guard_reload: see :class:`~txspread.engine.monitor.Monitor`.

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
        guard_reload: bool = False,
    ) -> None:
        self.configuration = configuration
        self.me = me
        self.started_at = now
        self.faults = 0
        """Internal errors that were contained since the start; 0 in a healthy daemon."""
        self.reloads = 0
        """Configurations taken over since the start, the first not included."""
        self._host = host
        self._alarms = alarms
        self._time_used = time_used
        self._id_clock = IdClock(host.wall_time, last_time_used, time_used)
        self._timers = RingTimers(now)
        self.routing = Routing(me, configuration, host, alarms)
        self.history = RingHistory(configuration, alarms, now)
        """The memberships so far."""
        self.monitor = Monitor(
            me,
            configuration,
            PartitionCommands(me, configuration, self.routing, self._timers, host, alarms),
            host,
            alarms,
            self.status,
            guard_reload,
        )
        self._local: LocalRing | None = None
        self._stack: RingStack | None = None
        self._reform_reason: str | None = None
        self._reload: Reload | None = None
        local: LocalRing | None = None
        stack: RingStack | None = None
        order: LocalRing | TokenRing
        if len(configuration.daemons) > 1:
            stack = self._make_stack(last_time_used)
            order = stack.ring
        else:
            order = local = self._local = LocalRing(me.id)
        self.sessions = Sessions(
            me.name_bytes, configuration, order, alarms, random, host, authentication=authentication
        )
        self.groups = Groups(me, configuration, order, self.sessions, alarms, self._reform)
        self.sessions.join_allowed = self.groups.admit_join
        self._delivery: OrderedDelivery = self.groups
        if trace is not None:
            self._delivery = TracedDelivery(self.groups, trace)
        if stack is not None:
            stack.ring.connect(self._delivery, self.sessions)
        if local is not None:
            local.connect(self._delivery)

    def _make_stack(self, last_time_used: int) -> RingStack:
        """Put a token ring in its place; :meth:`RingStack.start` comes later."""
        stack = self._stack = RingStack(
            self.me,
            self.configuration,
            self._host,
            self._alarms,
            self.routing,
            self._timers,
            self.history,
            lambda header, data: self.monitor.handle(header, data, self._timers.now),
            last_time_used,
            self._time_used,
        )
        self.monitor.flow = stack.ring.flow
        return stack

    # --- life

    def start(self, now: float) -> None:
        """Begin: order locally at once, or look for peers."""
        self._timers.now = now
        if self._local is not None:
            self._install_alone(self._local)
        if self._stack is not None:
            self._stack.start(now)

    def _install_alone(self, ring: LocalRing) -> None:
        """Install the ring of a daemon without peers, and say so."""
        self._id_clock.next()
        ring.start(self._id_clock.after())
        members, ring_id = (self.me.id,), ring.membership_id
        block = lines.membership_block(self.me.name, self.configuration, members)
        for text in (lines.membership_line(ring_id), block):
            self._alarms.alarm(Category.PRINT, Priority.WARNING, "%s", text)
        self.history.installed(members, ring_id, self._timers.now, self._host.wall_time())

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

    def status(self, now: float) -> Status:
        """What a monitor is told."""
        seconds = int(now - self.started_at)
        if self._stack is not None:
            return ring_status(self._stack, self.sessions, self.groups, self.me.id, seconds)
        assert self._local is not None
        return local_status(
            self._local, self.monitor.flow, self.sessions, self.groups, self.me.id, seconds
        )

    # --- another configuration

    def reload(self, reload: Reload, now: float) -> None:
        """Go on with a configuration that was read again, as soon as the ring is in operation.

        Of several that wait the last one counts.  ``reload`` must have been compared
        with the one before it.
        """
        self._timers.now = now
        try:
            if self._reload is not None:
                # It was compared with the one that waits and is replaced.
                reload = compare(self.configuration, reload.configuration, self.me)
            self._reload = reload
            if self._stack is None:
                self._take_reload()
            else:
                self._stack.membership.when_in_op(self._take_reload)
        except Exception as error:
            self._fault("a reload", error)

    def _take_reload(self) -> None:
        reload, self._reload = self._reload, None
        if reload is not None:
            self.reloads += 1
            for daemon in reload.added:
                self._alarms.alarm(
                    Category.CONFIGURATION,
                    Priority.INFO,
                    "Conf_reload_initiate: Config Added daemon at %s ",
                    daemon.address,
                )
            for note in reload.notes or ("nothing changed",):
                self._alarms.alarm(Category.PRINT, Priority.INFO, "Reload: %s", note)
            self._go_on_with(reload)

    def _go_on_with(self, reload: Reload) -> None:
        """Routing first, since all else sends through it; the loss of the token last."""
        me, configuration = reload.me, reload.configuration
        self.me, self.configuration = me, configuration
        self.routing.reconfigure(me, configuration)
        self.monitor.reconfigure(me, configuration)
        self.history.reconfigure(configuration)
        self.groups.reload(configuration)
        self.sessions.reconfigure(configuration)
        self.history.begin(
            "the configuration was reloaded", self._timers.now, token_lost=False, searching=False
        )
        if self._stack is not None:
            self._stack.reload(reload)
            return
        self.monitor.flow.reload(configuration)
        assert self._local is not None
        if len(configuration.daemons) == 1:
            self._install_alone(self._local)
        else:
            self._leave_local_ring(self._local)

    def _leave_local_ring(self, local: LocalRing) -> None:
        """The first peer was configured: order by the token ring from now on."""
        stack = self._make_stack(self._id_clock.last_used)
        self._local = None
        stack.ring.flow.reload(self.configuration)
        stack.ring.connect(self._delivery, self.sessions)
        self.sessions.ordering = stack.ring
        self.groups.order_by(stack.ring)
        for message in local.queued_messages():
            header = MessageHeader.decode(message)
            stack.ring.submit(message, packet_type_of(header.type))
        stack.start(self._timers.now)

    # --- the ring's sockets

    @property
    def prefer_tokens(self) -> bool:
        """Whether the token socket is to be read before the data socket."""
        return self._stack is not None and self._stack.ring.prefer_tokens

    @property
    def token_follows(self) -> bool:
        """Whether the token may be close behind the packets taken last."""
        stack = self._stack
        return stack is not None and stack.ring.token_follows

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Take one received datagram, of any content."""
        try:
            if self._stack is not None:
                self._stack.datagram(data, channel, now)
                return
            # Without peers there is nobody to hear but monitors.
            self._timers.now = now
            if channel is Channel.DATA:
                header = self.routing.receive_packet(data)
                if header is not None and header.type & CONTROL:
                    self.monitor.handle(header, data, now)
        except Exception as error:
            self._fault("a datagram", error)

    def datagrams(self, batch: Sequence[bytes], channel: Channel, now: float) -> None:
        """Take several received datagrams of one channel, in order of arrival.

        After an internal error the rest of the batch is as good as lost on the network.
        """
        if self._stack is None:
            for data in batch:
                self.datagram(data, channel, now)
            return
        try:
            self._stack.datagrams(batch, channel, now)
        except Exception as error:
            self._fault("datagrams", error)

    def train(self, train: bytes | memoryview, size: int, channel: Channel, now: float) -> None:
        """Take several received datagrams as :meth:`datagrams` does.

        Args:
            train: one behind the other; not kept.
            size: of each but perhaps the last, bytes.
            channel: where they came from.
            now: seconds on the node's clock.

        """
        if self._stack is None:
            self.datagrams(cut_train(train, size), channel, now)
            return
        try:
            self._stack.train(train, size, channel, now)
        except Exception as error:
            self._fault("a train", error)

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
            else:
                self._local_timer(now)
            self.sessions.timer(now)
        except Exception as error:
            self._fault("a timer", error)

    def next_timer(self) -> float | None:
        """When to call :meth:`timer`, on the clock of the inputs; None for never."""
        sessions = self.sessions.next_timer()
        ring = self._timers.next()
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
        self._timers.now = now

    def _local_timer(self, now: float) -> None:
        """Without peers only a monitor's partition runs out."""
        self._timers.now = now
        while (timer := self._timers.take_due(now)) is not None:
            if timer is Timer.PARTITION:
                self.routing.clear_components()

    def _reform(self, reason: str) -> None:
        """A layer asks for a new ring, from inside a delivery; it happens at the turn's end."""
        self._reform_reason = reason

    def _form_anew(self, now: float) -> None:
        reason, self._reform_reason = self._reform_reason, None
        if self._stack is not None and self._stack.form_anew(now, str(reason)):
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
