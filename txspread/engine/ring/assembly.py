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
from txspread.engine.ring.packet_store import FROM, TO, Body, originator_of, type_of
from txspread.wire.constants import MESSAGE_HEADER_SIZE, PacketType
from txspread.wire.identifiers import MembershipId, ProcId, format_address

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
        self.partial: dict[bytes, list[bytes]] = {}
        """The fragments of open messages by originator, as it stands in a head."""

    def deliver(self, head: bytes, body: Body) -> None:
        """Hand up the messages that this packet completes, in their order."""
        messages: list[bytes] = []
        self.gather(head, body, messages)
        self.hand_up(messages, 1)

    def gather(self, head: bytes, body: Body, messages: list[bytes]) -> None:
        """Add the messages that this packet completes; :meth:`hand_up` must follow."""
        if isinstance(body, bytes):
            if not self.partial:
                messages.append(body)
                return
            body = [(-1, body)]
        if body[0][0] == -1 and (
            not self.partial or head[FROM:TO] not in self.partial or type_of(head) == _RELIABLE
        ):
            if len(body) == 1:
                messages.append(body[0][1])
            else:
                messages += [fragment for _index, fragment in body]
        else:
            self._continue(head, body, messages)

    def hand_up(self, messages: list[bytes], packets: int) -> None:
        """Hand up what was gathered from so many packets."""
        self._counters.packet_delivered += packets
        if messages:
            self.upper.on_messages(messages)

    def _continue(
        self, head: bytes, fragments: list[tuple[int, bytes]], messages: list[bytes]
    ) -> None:
        index, fragment = fragments[0]
        originator = head[FROM:TO]
        parts = self.partial.pop(originator, None)
        if parts is None:
            parts = []
        expected = len(parts) + 1
        if expected != abs(index):
            self._counters.sequence_errors += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.ERROR,
                "Deliver_packet: sequence error from %s: sec is %d, should be %d; message dropped",
                format_address(originator_of(head)),
                index,
                expected,
            )
            parts.clear()
        if abs(index) == len(parts) + 1:
            parts.append(fragment)
            if index > 0:
                self.partial[originator] = parts
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
        self.partial.clear()
