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
from txspread.engine.ring.packet_store import HOLE, PacketStore
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
        packets = store.packets
        early = store.early
        gather = self._assembly.gather
        messages: list[bytes] = []
        delivered = 0
        number = store.last_delivered
        while number < last:
            number += 1
            if early and number in early:
                early.discard(number)
                continue
            packet = packets.get(number, HOLE)
            if not packet[0] or packet[1] & _SAFE:
                number -= 1
                break
            gather(packet, messages)
            delivered += 1
        store.last_delivered = number
        if delivered:
            self._assembly.hand_up(messages, delivered)

    def early(self, first: int, last: int) -> None:
        """Hand up whole RELIABLE messages among the numbers ``first`` to ``last``."""
        if (
            self.threshold is not DeliveryThreshold.NONE
            or self._membership.state is MembershipState.EVS
        ):
            return
        store = self._store
        packets = store.packets
        for number in range(max(first, store.last_delivered + 1), last + 1):
            packet = packets.get(number, HOLE)
            fragments = packet[3]
            if (
                packet[1] == _RELIABLE
                and (not fragments or fragments[0][0] == -1)
                and number not in store.early
            ):
                store.early.add(number)
                self._assembly.deliver(packet)

    def discard(self) -> bool:
        """Hand up and forget everything up to ``aru``.

        Returns:
            False if a packet that every member was said to hold is not here.
            All that is here is handed up even then.

        """
        store = self._store
        packets = store.packets
        early = store.early
        first = store.last_discarded + 1
        last = store.aru
        if last <= store.last_delivered and last - first < len(packets):
            # Everything is delivered: the usual case, but for SAFE messages.
            missing = 0
            for number in range(first, last + 1):
                if packets.pop(number, None) is None:
                    missing += 1
            store.last_discarded = max(store.last_discarded, last)
            return not missing or self._breach(missing, first, last)
        messages: list[bytes] = []
        delivered = 0
        gather = self._assembly.gather
        numbers: Iterable[int] = range(first, last + 1)
        if last - first >= len(packets):
            # Walk what is held: a wild ``last`` must not cost a walk of its own length.
            numbers = sorted(number for number in packets if number <= last)
        missing = last - first + 1
        for number in numbers:
            packet = packets.pop(number, None)
            if packet is None:
                continue
            missing -= 1
            store.last_discarded = number
            if number in early:
                early.discard(number)
                store.last_delivered = max(store.last_delivered, number)
            elif number > store.last_delivered:
                store.last_delivered = number
                if packet[0]:
                    gather(packet, messages)
                    delivered += 1
        store.last_discarded = max(store.last_discarded, last)
        store.last_delivered = max(store.last_delivered, last)
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
