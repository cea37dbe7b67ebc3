"""Everything below the groups layer of a daemon that has peers, put together.

Routing examines datagrams and sends them, the membership machine decides who is
in the ring, the token ring orders messages; this class hands each datagram and
each timer to the one it concerns.

Dispatch, the first match wins (``docs/protocol/daemon-datagrams.md`` sections 3
and 5.2): on the token port any FORM bit is for membership, the rest for the
ring; on the data port control, membership (ALIVE, JOIN, REFER), HURRY, data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink
from txspread.engine.membership import Membership
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.ring.token_machine import TokenRing
from txspread.engine.ring_interfaces import Timer
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
)
from txspread.wire.packet import PacketHeader

_NOT_DATA: Final = CONTROL | MEMBERSHIP | HURRY
_RING_TIMERS: Final = frozenset((Timer.HURRY, Timer.DELIVERY))


class RingStack:
    """Routing, membership and ordering of one daemon.

    Args:
        me: this daemon.
        configuration: in force.
        host: sends datagrams, tells the wall-clock time.
        alarms: where log lines go.
        now: monotonic time in seconds.
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
        now: float,
        on_control: Callable[[PacketHeader, bytes], None],
        last_time_used: int = -1,
        time_used: Callable[[int], None] | None = None,
    ) -> None:
        self.timers = RingTimers(now)
        self.routing = Routing(me, configuration, host, alarms)
        self.membership = Membership(
            me,
            configuration,
            self.routing,
            self.timers,
            host.wall_time,
            alarms,
            last_time_used,
            time_used,
        )
        self.ring = TokenRing(
            me, configuration, self.routing, self.timers, self.membership, None, None, alarms
        )
        self.membership.connect(self.ring)
        self._on_control = on_control

    def start(self, now: float) -> None:
        """Begin to look for peers."""
        self.timers.now = now
        self.membership.start(now)

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Handle one datagram as it was received."""
        self.timers.now = now
        if channel is Channel.TOKEN:
            kind = self.routing.receive_token(data)
            if kind is None:
                return
            if not kind & FORM:
                self.ring.token(data, now)
            elif kind & FORM1:
                self.membership.form1(data, now)
            else:
                self.membership.form2(data, now)
            return
        header = self.routing.receive_packet(data)
        if header is None:
            return
        kind = header.type
        if not kind & _NOT_DATA:
            if kind & REGULAR:
                self.ring.data_packet(data, header, now)
        elif kind & CONTROL:
            self._on_control(header, data)
        elif kind & ALIVE:
            self.membership.alive(data, header, now)
        elif kind & JOIN:
            self.membership.join(data, header, now)
        elif kind & REFER:
            self.membership.refer(data, header, now)
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

    def next_timer(self) -> float | None:
        """When :meth:`timer` has something to do."""
        return self.timers.next()

    def form_anew(self, now: float) -> bool:
        """Give the ring up, so that it forms again; whether there was a live one."""
        self.timers.now = now
        if not self.membership.token_alive:
            return False
        self.membership.token_loss()
        return True

    def _run(self, timer: Timer, now: float) -> None:
        if timer in _RING_TIMERS:
            self.ring.timer(timer, now)
        else:
            self.membership.timer(timer, now)
