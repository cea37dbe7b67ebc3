"""From packets back to messages.

Rules:

* The first fragment of a packet continues (or completes, with a negative
  index) its originator's open message; the further ones are whole messages.
* The open message must have exactly |index| - 1 fragments.  If it has not, what
  is there is thrown away, the packet counts as delivered, and nothing crashes
  (upstream exits).
* A RELIABLE packet that holds a whole message first may overtake others and so
  never touches its originator's open message.
* Open messages are thrown away when a membership ends.

Source: ``docs/protocol/ring-ordering.md`` sections 9.3, 9.5, 14.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.interfaces import OrderedDelivery
from txspread.engine.ring.counters import RingCounters
from txspread.engine.ring.packet_store import StoredPacket
from txspread.wire.constants import MESSAGE_HEADER_SIZE, PacketType
from txspread.wire.identifiers import MembershipId, ProcId, format_address
from txspread.wire.packet import PACKET_HEADER_SIZE

_RELIABLE: Final = int(PacketType.RELIABLE)


class Nobody:
    """Stands in for an upper layer that is not connected yet; hears and does nothing."""

    def on_message(self, message: bytes) -> None:
        """Drop the message."""

    def on_messages(self, messages: list[bytes]) -> None:
        """Drop the messages."""

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Take no notice."""

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Take no notice."""

    def stop_clients(self) -> None:
        """There are none."""

    def serve_clients(self) -> None:
        """There are none."""


class Assembly:
    """The open message of each originator, and the way up."""

    def __init__(self, upper: OrderedDelivery, counters: RingCounters, alarms: AlarmSink) -> None:
        self.upper = upper
        self._counters = counters
        self._alarms = alarms
        self._partial: dict[ProcId, list[bytes]] = {}

    def deliver(self, packet: StoredPacket) -> None:
        """Hand up the messages that this packet completes, in their order."""
        messages: list[bytes] = []
        self.gather(packet, messages)
        self.hand_up(messages, 1)

    def gather(self, packet: StoredPacket, messages: list[bytes]) -> None:
        """Add the messages that this packet completes; :meth:`hand_up` must follow."""
        datagram, packet_type, proc_id, fragments = packet
        if not fragments:
            message = datagram[PACKET_HEADER_SIZE:]
            if packet_type == _RELIABLE or proc_id not in self._partial:
                messages.append(message)
                return
            fragments = [(-1, message)]
        if fragments[0][0] == -1 and (packet_type == _RELIABLE or proc_id not in self._partial):
            if len(fragments) == 1:
                messages.append(fragments[0][1])
            else:
                messages += [fragment for _index, fragment in fragments]
        else:
            self._continue(proc_id, fragments, messages)

    def hand_up(self, messages: list[bytes], packets: int) -> None:
        """Hand up what was gathered from so many packets."""
        self._counters.packet_delivered += packets
        if messages:
            self.upper.on_messages(messages)

    def _continue(
        self, proc_id: ProcId, fragments: list[tuple[int, bytes]], messages: list[bytes]
    ) -> None:
        index, fragment = fragments[0]
        parts = self._partial.pop(proc_id, None)
        if parts is None:
            parts = []
        expected = len(parts) + 1
        if expected != abs(index):
            self._counters.sequence_errors += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.ERROR,
                "Deliver_packet: sequence error from %s: sec is %d, should be %d; message dropped",
                format_address(proc_id),
                index,
                expected,
            )
            parts.clear()
        if abs(index) == len(parts) + 1:
            parts.append(fragment)
            if index > 0:
                self._partial[proc_id] = parts
            else:
                message = fragment if index == -1 else b"".join(parts)
                if len(message) >= MESSAGE_HEADER_SIZE:
                    messages.append(message)
                else:
                    self._counters.sequence_errors += 1
        for _index, whole in fragments[1:]:
            messages.append(whole)

    def clear(self) -> None:
        """Throw every open message away."""
        self._partial.clear()
