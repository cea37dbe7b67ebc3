"""When a held packet is handed up.

Rules (one order for all: the sequence order):

* *Agreed delivery*: everything up to ``my_aru`` in order, up to the first SAFE
  packet that is not stable yet.
* *Early reliable delivery*: a RELIABLE packet that begins with a whole message
  may be handed up as it arrives, before its turn.
* *Discard*: what every member holds is handed up, whatever its type, and
  forgotten.  The threshold never blocks this.
* The threshold blocks the first two: NONE lets both through, AGREED only the
  first, BLOCK neither.  In recovery (state EVS) both rest.

Source: ``docs/protocol/ring-ordering.md`` section 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.interfaces import DeliveryThreshold
from txspread.engine.ring.assembly import Assembly
from txspread.engine.ring.counters import RingCounters
from txspread.engine.ring.packet_store import PacketStore, type_of
from txspread.engine.ring_interfaces import MembershipState, RingMembership
from txspread.wire.constants import PacketType

_RELIABLE: Final = int(PacketType.RELIABLE)
_SAFE: Final = int(PacketType.SAFE)


class Delivery:
    """Hands packets of the store up when the rules allow it."""

    def __init__(
        self,
        store: PacketStore,
        assembly: Assembly,
        membership: RingMembership,
        counters: RingCounters,
        alarms: AlarmSink,
    ) -> None:
        self._store = store
        self._assembly = assembly
        self._membership = membership
        self._counters = counters
        self._alarms = alarms
        self.threshold = DeliveryThreshold.BLOCK

    def agreed(self) -> None:
        """Hand up what is next in order, as far as it may go."""
        store = self._store
        last = store.my_aru
        if (
            last <= store.last_delivered
            or self.threshold is DeliveryThreshold.BLOCK
            or self._membership.state is MembershipState.EVS
        ):
            return
        heads = store.heads
        bodies = store.bodies
        early = store.early
        assembly = self._assembly
        messages: list[bytes] = []
        delivered = 0
        first = store.last_discarded + 1
        at = store.last_delivered + 1 - first
        end = min(last + 1 - first, len(bodies))
        usual = not early and not assembly.partial
        while at < end:
            body = bodies[at]
            if usual and isinstance(body, bytes):
                messages.append(body)
            elif early and first + at in early:
                early.discard(first + at)
                at += 1
                continue
            else:
                head = heads[at]
                if not head or head[0] & _SAFE:
                    break
                assembly.gather(head, body, messages)
                usual = not early and not assembly.partial
            delivered += 1
            at += 1
        store.last_delivered = first + at - 1
        if delivered:
            assembly.hand_up(messages, delivered)

    def early(self, first: int, last: int) -> None:
        """Hand up whole RELIABLE messages among the numbers ``first`` to ``last``."""
        if (
            self.threshold is not DeliveryThreshold.NONE
            or self._membership.state is MembershipState.EVS
        ):
            return
        store = self._store
        for number in range(max(first, store.last_delivered + 1), last + 1):
            head, body = store.get(number)
            if (
                not isinstance(body, bytes)
                and head
                and type_of(head) == _RELIABLE
                and body[0][0] == -1
                and number not in store.early
            ):
                store.early.add(number)
                self._assembly.deliver(head, body)

    def discard(self) -> bool:
        """Hand up and forget everything up to ``aru``.

        Returns:
            False if a packet that every member was said to hold is not here.
            All that is here is handed up even then.

        """
        store = self._store
        first = store.last_discarded + 1
        last = store.aru
        messages: list[bytes] = []
        delivered = 0
        if last > store.last_delivered:
            # SAFE messages, that is; everything else has been delivered before.
            early = store.early
            gather = self._assembly.gather
            if last - first < len(store.bodies):
                numbers: Iterable[int] = range(store.last_delivered + 1, last + 1)
            else:
                # A wild ``last`` must not cost a walk of its own length.
                numbers = [
                    number for number in store.held() if store.last_delivered < number <= last
                ]
            for number in numbers:
                if number in early:
                    early.discard(number)
                    continue
                head, body = store.get(number)
                if head:
                    gather(head, body, messages)
                    delivered += 1
            store.last_delivered = last
        missing = last - first + 1 - store.discard(last)
        if delivered:
            self._assembly.hand_up(messages, delivered)
        return missing <= 0 or self._breach(missing, first, last)

    def _breach(self, missing: int, first: int, last: int) -> bool:
        self._counters.invariant_breaches += 1
        self._alarms.alarm(
            Category.PROTOCOL,
            Priority.CRITICAL,
            "Discard_packets: %d of the packets %d to %d are not here",
            missing,
            first,
            last,
        )
        return False
