"""Everything below the groups layer of a daemon that has peers, put together.

Routing examines datagrams and sends them, the membership machine decides who is
in the ring, the token ring orders messages; this class hands each datagram and
each timer to the one it concerns, and watches what becomes of the ring:

* whenever the state has changed, the history of the ring hears of it, with the
  input that was the cause;
* while a ring of several works, a timer looks now and then how close the token is
  to being lost, and says so once three quarters of the token timeout have passed.

Dispatch, the first match wins (``docs/protocol/daemon-datagrams.md`` sections 3
and 5.2): on the token port any FORM bit is for membership, the rest for the
ring; on the data port control, membership (ALIVE, JOIN, REFER), HURRY, data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.config.reloading import Reload
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.membership import Membership
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.ring.token_machine import TokenRing
from txspread.engine.ring_history import RingHistory
from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.engine.routing import Routing
from txspread.engine.timers import RingTimers
from txspread.wire.datagram import (
    ALIVE,
    CONTROL,
    FORM,
    FORM1,
    HURRY,
    JOIN,
    MEMBERSHIP,
    REFER,
    REGULAR,
    ROUTED,
)
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import PacketHeader, cut_train

WARN_LEFT: Final = 0.25
"""Part of the token timeout that is left when the warning comes."""

_TOKEN: Final = Channel.TOKEN
_NOT_DATA: Final = CONTROL | MEMBERSHIP | HURRY
_RING_TIMERS: Final = frozenset((Timer.HURRY, Timer.LINGER, Timer.DELIVERY))
_OP: Final = MembershipState.OP
_LOST: Final = "the token was lost"
_TIMER_CAUSES: Final[dict[Timer, str]] = {
    Timer.LOSS: _LOST,
    Timer.LOOKUP: "this daemon looked for others",
}
_WITHOUT_TOKEN: Final = frozenset((MembershipState.SEG, MembershipState.REPRESENTED))


class RingStack:
    """Membership and ordering of one daemon, above a network that exists already.

    Args:
        me: this daemon.
        configuration: in force.
        host: tells the wall-clock time.
        alarms: where log lines go.
        routing: examines and sends datagrams.
        timers: shared with the monitor's commands.
        history: hears of the rings.
        on_control: takes monitor datagrams (header, whole datagram).
        last_time_used: see :class:`~txspread.engine.membership.Membership`.
        time_used: likewise.

    """

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        host: Host,
        alarms: AlarmSink,
        routing: Routing,
        timers: RingTimers,
        history: RingHistory,
        on_control: Callable[[PacketHeader, bytes], None],
        last_time_used: int = -1,
        time_used: Callable[[int], None] | None = None,
    ) -> None:
        self.timers = timers
        self.routing = routing
        self.membership = Membership(
            me, configuration, routing, timers, host.wall_time, alarms, last_time_used, time_used
        )
        self.ring = TokenRing(
            me, configuration, routing, timers, self.membership, None, None, alarms
        )
        self.membership.connect(self.ring)
        self.late_tokens = 0
        """Times that a token was late enough for a warning."""
        self._host = host
        self._alarms = alarms
        self._history = history
        self._on_control = on_control
        self._state = self.membership.state
        self._installed = 0

    def start(self, now: float) -> None:
        """Begin to look for peers."""
        self.timers.now = now
        self.membership.start(now)
        self._look(_LOST)

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Handle one datagram as it was received."""
        self.timers.now = now
        if channel is _TOKEN:
            kind = self.routing.receive_token(data)
            if kind is None:
                return
            if not kind & FORM:
                self.ring.token(data, now)
                if self.membership.state is not self._state:
                    self._look("the ring was given up")
            elif kind & FORM1:
                self.membership.form1(data, now)
                self._look("others form a ring")
            else:
                self.membership.form2(data, now)
                self._look("others form a ring")
            return
        if not self._usual((data,), 0, now):
            self._packet(data, now)

    def datagrams(self, batch: Sequence[bytes], channel: Channel, now: float) -> None:
        """Handle several datagrams of one channel, as if one by one."""
        if channel is _TOKEN:
            for data in batch:
                self.datagram(data, channel, now)
            return
        self.timers.now = now
        position = 0
        while True:
            position = self._usual(batch, position, now)
            if position >= len(batch):
                return
            self._packet(batch[position], now)
            position += 1

    def train(self, train: bytes | memoryview, size: int, channel: Channel, now: float) -> None:
        """Handle a train as if its datagrams came one by one."""
        taken = 0
        if channel is not Channel.TOKEN:
            self.timers.now = now
            taken = self.ring.data_train(train, size, now, self.routing.heard, self._refused())
        rest = train[taken * size :] if taken else train
        if len(rest):
            self.datagrams(cut_train(rest, size), channel, now)

    def _refused(self) -> int:
        """Type bits of packets that need a closer look."""
        return _NOT_DATA | ROUTED if self.routing.has_broadcast else _NOT_DATA

    def _usual(self, batch: Sequence[bytes], start: int, now: float) -> int:
        """Index of the first packet from ``start`` that needs a closer look; takes the others."""
        return self.ring.data_packets(batch, start, now, self.routing.heard, self._refused())

    def _packet(self, data: bytes, now: float) -> None:
        """Handle one datagram of the data port with every check."""
        header = self.routing.receive_packet(data)
        if header is None:
            return
        kind = header.type
        if not kind & _NOT_DATA:
            if kind & REGULAR:
                self.ring.data_packet(data, header, now)
                if self.membership.state is not self._state:
                    self._look("another ring was heard", header.proc_id)
        elif kind & CONTROL:
            self._on_control(header, data)
        elif kind & ALIVE:
            self.membership.alive(data, header, now)
            self._look("a member lost the token", header.proc_id)
        elif kind & JOIN:
            self.membership.join(data, header, now)
            self._look("others look for daemons", header.proc_id)
        elif kind & REFER:
            self.membership.refer(data, header, now)
            self._look("a daemon was named", header.proc_id)
        else:
            self.ring.hurry(header, now)

    def timer(self, now: float) -> None:
        """Run what is due, each timer at most once, in the order of the deadlines."""
        self.timers.now = now
        for _ in Timer:
            timer = self.timers.take_due(now)
            if timer is None:
                return
            self._run(timer, now)

    def end_of_turn(self, now: float) -> None:
        """Deliver what the turn's packets have set free."""
        timers = self.timers
        timers.now = now
        if timers.take(Timer.DELIVERY):
            self.ring.timer(Timer.DELIVERY, now)
            if self.membership.state is not self._state:
                self._look("the ring was given up")

    def next_timer(self) -> float | None:
        """When :meth:`timer` has something to do."""
        return self.timers.next()

    def form_anew(self, now: float, reason: str) -> bool:
        """Give the ring up, so that it forms again; whether there was a live one."""
        self.timers.now = now
        if not self.membership.token_alive:
            return False
        self.membership.token_loss()
        self._look(reason)
        return True

    def reload(self, reload: Reload) -> None:
        """Go on with another configuration, in a ring that forms anew; in state OP only.

        Routing has it already.
        """
        self.ring.reload(reload.configuration)
        self.membership.reconfigure(reload.me, reload.configuration, reload.singleton_partition)
        self._look("the configuration was reloaded")

    # -- inside

    def _run(self, timer: Timer, now: float) -> None:
        if timer is Timer.WATCH:
            self._watch(now)
            return
        if timer in _RING_TIMERS:
            self.ring.timer(timer, now)
        else:
            self.membership.timer(timer, now)
        if self.membership.state is not self._state:
            self._look(_TIMER_CAUSES.get(timer, "the ring was given up"))

    def _look(self, cause: str, proc_id: ProcId | None = None) -> None:
        """Tell the history what has become of the ring by the input just handled."""
        membership = self.membership
        state = membership.state
        if state is self._state:
            return
        before, self._state = self._state, state
        now = self.timers.now
        if state is _OP:
            if membership.membership_changes == self._installed:
                self._history.give_up()
            else:
                self._installed = membership.membership_changes
                ring = membership.installed
                self._history.installed(ring.members, ring.id, now, self._host.wall_time())
                if len(ring.members) > 1:
                    self.timers.start(Timer.WATCH, self._patience())
            return
        lost = state in _WITHOUT_TOKEN and before not in _WITHOUT_TOKEN
        if lost or before is _OP:
            if proc_id is not None:
                cause = f"{cause} ({self._history.name(proc_id)})"
            self._history.begin(
                cause, now, token_lost=lost, searching=state is MembershipState.GATHER
            )

    def _patience(self) -> float:
        """Seconds without a sign of the ring after which a warning is due.

        Where an idle ring is silent for longer than that, because its HurryTimeout is
        long, half of what is left after it.
        """
        timeouts = self.membership.timeouts
        return max(timeouts.token * (1.0 - WARN_LEFT), (timeouts.token + timeouts.hurry) / 2)

    def _watch(self, now: float) -> None:
        timers = self.timers
        deadline = timers.deadline(Timer.LOSS)
        if deadline is None:
            return  # no token is awaited; the next ring sets the timer again
        membership = self.membership
        timeout = membership.timeouts.token
        left = deadline - now
        warn_left = timeout - self._patience()
        if left > warn_left:
            timers.start(Timer.WATCH, left - warn_left)
            return
        self.late_tokens += 1
        timers.start(Timer.WATCH, left + self._patience())
        ring = membership.active
        self._alarms.alarm(
            Category.PRINT,
            Priority.WARNING,
            "Token late: nothing from the ring for %.3f s, it is given up in %.3f s; "
            "the token is expected from %s, %s leads%s",
            timeout - left,
            max(0.0, left),
            self._history.name(ring.predecessor),
            "this daemon" if ring.leader == membership.me.id else self._history.name(ring.leader),
            "" if membership.state is _OP else " (the ring is not in operation)",
        )
