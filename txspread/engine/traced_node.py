"""A node that tells a sink everything it is given and does.

It is made instead of a plain :class:`~txspread.engine.node.Node` when a trace is
wanted, so that a daemon without a trace has not even a test for it on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink
from txspread.engine.authentication import Authentication
from txspread.engine.interfaces import DeliveryThreshold, DownQueue, Ordering
from txspread.engine.local_ring import LocalRing
from txspread.engine.node import Node
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.sessions_state import Session
from txspread.engine.trace import TraceSink
from txspread.wire.constants import PacketType
from txspread.wire.packet import cut_train


class TracedHost:
    """A :class:`~txspread.engine.node_interfaces.Host` that records what is sent."""

    def __init__(self, host: Host, sink: TraceSink) -> None:
        self._host = host
        self._send = host.send_datagram
        self._event = sink.event

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Record and send one datagram."""
        self._event("sent", data=data, to=address)
        self._send(data, address)

    def send_train(self, train: bytes | bytearray, size: int, address: tuple[str, int]) -> None:
        """Record and send each datagram."""
        for datagram in cut_train(train, size):
            self.send_datagram(datagram, address)

    def pause_accepting(self) -> None:
        """Pass on."""
        self._host.pause_accepting()

    def resume_accepting(self) -> None:
        """Pass on."""
        self._host.resume_accepting()

    def wall_time(self) -> int:
        """Pass on."""
        return self._host.wall_time()

    def leave(self, reason: str) -> None:
        """Pass on."""
        self._host.leave(reason)

    def reload(self) -> None:
        """Pass on."""
        self._host.reload()


class TracedOrdering:
    """An :class:`~txspread.engine.interfaces.Ordering` that records what is submitted."""

    def __init__(self, ordering: Ordering, sink: TraceSink) -> None:
        self._ordering = ordering
        self._event = sink.event

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        """Record and pass on."""
        self._event("submitted", message=message)
        self._ordering.submit(message, packet_type)

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        """Record and pass on."""
        for message in messages:
            self._event("submitted", message=message)
        self._ordering.submit_many(messages, packet_type)

    def switch_queue(self, queue: DownQueue) -> None:
        """Pass on."""
        self._ordering.switch_queue(queue)

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        """Pass on."""
        self._ordering.set_threshold(threshold)

    def queued(self) -> int:
        """Pass on."""
        return self._ordering.queued()


class TracedNode(Node):
    """See :class:`~txspread.engine.node.Node`; the sink is required."""

    def __init__(
        self,
        configuration: Configuration,
        me: Daemon,
        host: Host,
        alarms: AlarmSink,
        random: Callable[[], float],
        now: float,
        *,
        trace: TraceSink,
        authentication: Authentication | None = None,
        last_time_used: int = -1,
        time_used: Callable[[int], None] | None = None,
        guard_reload: bool = False,
    ) -> None:
        super().__init__(
            configuration,
            me,
            TracedHost(host, trace),
            alarms,
            random,
            now,
            authentication=authentication,
            trace=trace,
            last_time_used=last_time_used,
            time_used=time_used,
            guard_reload=guard_reload,
        )
        self._sink = trace
        self._seen_state = self.membership_state
        self._seen_groups = self.groups.state
        self._seen_faults = 0
        self.sessions.ordering = TracedOrdering(self.sessions.ordering, trace)

    def start(self, now: float) -> None:
        """See :meth:`Node.start`."""
        super().start(now)
        self._look_around()

    def stop(self, now: float) -> None:
        """See :meth:`Node.stop`."""
        super().stop(now)
        self._sink.event("stopped")

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """See :meth:`Node.datagram`."""
        self._sink.event("received", data=data, channel=channel)
        super().datagram(data, channel, now)
        self._look_around()

    def datagrams(self, batch: Sequence[bytes], channel: Channel, now: float) -> None:
        """See :meth:`Node.datagrams`."""
        for data in batch:
            self.datagram(data, channel, now)

    def train(self, train: bytes | memoryview, size: int, channel: Channel, now: float) -> None:
        """See :meth:`Node.train`."""
        for data in cut_train(train, size):
            self.datagram(data, channel, now)

    def session_received(self, session: Session, data: bytes, now: float) -> None:
        """See :meth:`Node.session_received`."""
        super().session_received(session, data, now)
        self._look_around()

    def timer(self, now: float) -> None:
        """See :meth:`Node.timer`."""
        super().timer(now)
        self._look_around()

    def end_of_turn(self, now: float) -> None:
        """See :meth:`Node.end_of_turn`."""
        super().end_of_turn(now)
        self._look_around()

    def _leave_local_ring(self, local: LocalRing) -> None:
        super()._leave_local_ring(local)
        self.sessions.ordering = TracedOrdering(self.sessions.ordering, self._sink)

    def _look_around(self) -> None:
        state = self.membership_state
        if state is not self._seen_state:
            self._sink.event("state", before=self._seen_state, after=state)
            self._seen_state = state
        groups = self.groups.state
        if groups is not self._seen_groups:
            self._sink.event("groups_state", before=self._seen_groups, after=groups)
            self._seen_groups = groups
        if self.faults != self._seen_faults:
            self._seen_faults = self.faults
            self._sink.event("fault", count=self.faults)
