"""A ring of one: the total order of a daemon that has no configured peers.

With a single daemon in the configuration the order of arrival *is* the total
order, every message is stable at once, and no datagram is needed.  Rules kept
from the token ring, so that the layers above cannot tell the two apart:

* the first membership is announced as a transitional signal followed by a
  regular one, before any message is delivered;
* a message submitted from inside a delivery is delivered after it, never
  inside it;
* of the two down queues only the active one is served; the state exchange
  between daemons (the GROUPS queue) never has anything to say to itself, but
  switching is honoured.

Source: ``docs/protocol/ring-ordering.md`` section 12,
``docs/protocol/membership.md`` section 6.6 (ids).
"""

from __future__ import annotations

from collections import deque

from txspread.engine.interfaces import DeliveryThreshold, DownQueue, OrderedDelivery
from txspread.engine.ring.assembly import Nobody
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId, ProcId


class LocalRing:
    """An :class:`~txspread.engine.interfaces.Ordering` for one daemon alone."""

    def __init__(self, me: ProcId, delivery: OrderedDelivery | None = None) -> None:
        self._me = me
        self._delivery: OrderedDelivery = delivery if delivery is not None else Nobody()
        self._normal: deque[bytes] = deque()
        self._groups: deque[bytes] = deque()
        self._active = self._normal
        self._delivering = False
        self._started = False
        self.membership_id = MembershipId(me, -1)
        """Id of the installed regular membership; time -1 before the first."""
        self.messages_delivered = 0
        """Messages handed to the groups layer since the start."""
        self.membership_changes = 0
        """Regular memberships installed since the start."""

    def connect(self, delivery: OrderedDelivery) -> None:
        """Name the groups layer; before :meth:`start`."""
        self._delivery = delivery

    def start(self, time: int) -> None:
        """Install the membership that holds this daemon alone.

        Args:
            time: seconds since the epoch, the time part of the new regular
                membership's id; the transitional one gets a second less.

        """
        self.membership_id = MembershipId(self._me, time)
        self.membership_changes += 1
        self._delivering = True
        self._delivery.on_transitional((self._me,), MembershipId(self._me, time - 1))
        self._delivery.on_regular((self._me,), self.membership_id)
        self._delivering = False
        self._started = True
        self._run()

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        """Order one message and, unless a delivery is going on, deliver it now.

        ``packet_type`` has no effect: alone, every service level is safe.
        """
        self._active.append(message)
        if self._started and not self._delivering:
            self._run()

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        """Order several messages; see :meth:`submit`."""
        self._active.extend(messages)
        if self._started and not self._delivering:
            self._run()

    def switch_queue(self, queue: DownQueue) -> None:
        """Make the other down queue the active one."""
        self._active = self._normal if queue is DownQueue.NORMAL else self._groups

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        """Nothing is ever unstable here, so every threshold means the same."""

    def queued(self) -> int:
        """Messages that wait in the active down queue."""
        return len(self._active)

    def queued_messages(self) -> list[bytes]:
        """Take the messages that wait, oldest first: another layer orders them from now on."""
        waiting = [*self._normal]
        self._normal.clear()
        return waiting

    def _run(self) -> None:
        deliver = self._delivery.on_messages
        self._delivering = True
        try:
            while self._active:
                messages = list(self._active)
                self._active.clear()
                self.messages_delivered += len(messages)
                deliver(messages)
        finally:
            self._delivering = False
