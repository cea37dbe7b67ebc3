"""From messages to packets: the down queues, fragmentation and packing.

Rules:

* A message (48-byte header, group names, body) is cut into elements of 1432
  bytes; only the last is shorter.  Fragment index k is the k-th element, -n
  the last of n.
* Messages go out strictly in the order in which they were submitted, each
  completely before the next.
* After the *last* element of a message, whole messages are appended to the
  same packet while the next one fits (each costs up to 3 pad bytes and a
  4-byte fragment header) and its packet type is the same, or both are FIFO or
  AGREED.  The packet keeps the type of its first fragment.
* The first message that does not fit ends the packet; nothing is pulled
  forward.  As an element that is not the last fills a packet, only the first
  fragment of a packet can belong to a longer message.
* Only one of the two queues is served; a message that was sent in part stays
  first in its queue.

Source: ``docs/protocol/ring-ordering.md`` sections 9.1, 9.2, 12.2;
``docs/protocol/daemon-datagrams.md`` sections 6.2, 6.3.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from txspread.engine.interfaces import DownQueue
from txspread.engine.ring.packet_store import NOT_PLAIN, Body
from txspread.wire.constants import MAX_FRAGMENTS, MESSAGE_HEADER_SIZE, PacketType
from txspread.wire.packet import PACKET_BODY_SIZE, Fragments

ELEMENT_SIZE: Final = PACKET_BODY_SIZE
"""Bytes of every element of a message but its last: 1432."""
MAX_MESSAGE_SIZE: Final = MAX_FRAGMENTS * ELEMENT_SIZE
"""Largest message, header and group names included: 143 200 bytes."""
MIN_MESSAGE_SIZE: Final = MESSAGE_HEADER_SIZE

_FIFO: Final = int(PacketType.FIFO)
_AGREED: Final = int(PacketType.AGREED)
_MIXABLE: Final = _FIFO | _AGREED


class DownQueues:
    """Messages that wait for a number: the NORMAL queue and the GROUPS queue."""

    __slots__ = ("current", "groups", "next_element", "normal")

    def __init__(self) -> None:
        self.normal: deque[tuple[int, bytes]] = deque()
        """(packet type, message)"""
        self.groups: deque[tuple[int, bytes]] = deque()
        self.current = self.normal
        """The one that is served."""
        self.next_element = 0
        """Elements of the current queue's first message that are numbered already."""

    def switch(self, queue: DownQueue) -> None:
        """Serve the other queue.

        A partly sent message would be sent again from its start when its queue
        comes back; by the order of events there is none (section 9.5).
        """
        wanted = self.normal if queue is DownQueue.NORMAL else self.groups
        if wanted is not self.current:
            self.current = wanted
            self.next_element = 0

    def restart_first(self) -> None:
        """Send the first message from its first element again (new membership)."""
        self.next_element = 0

    def make_packets(self, limit: int) -> list[tuple[int, Body]]:
        """Take up to ``limit`` packets' worth of messages from the current queue.

        Returns:
            (packet type, fragments) for each packet, in sending order; the message
            itself in place of the fragments of a packet that is one whole message.

        """
        queue = self.current
        popleft = queue.popleft
        element_size = ELEMENT_SIZE
        made: list[tuple[int, Body]] = []
        while len(made) < limit and queue:
            first = queue[0]
            packet_type, message = first
            size = len(message)
            start = self.next_element * element_size
            if start + element_size < size:
                self.next_element += 1
                made.append(
                    (packet_type, [(self.next_element, message[start : start + element_size])])
                )
                continue
            popleft()
            used = size - start
            if not start and not packet_type & NOT_PLAIN:
                if not queue:
                    made.append(first)
                    break
                if ((used + 3) & ~3) + 4 + len(queue[0][1]) > element_size:
                    made.append(first)
                    continue
            fragments: Fragments = [(-1 - self.next_element, message[start:] if start else message)]
            self.next_element = 0
            append = fragments.append
            while queue:
                next_type, message = queue[0]
                used = ((used + 3) & ~3) + 4 + len(message)
                if used > element_size:
                    break
                if next_type != packet_type and (next_type | packet_type) != _MIXABLE:
                    break
                append((-1, message))
                popleft()
            if len(fragments) == 1 and not start and not packet_type & NOT_PLAIN:
                made.append(first)
            else:
                made.append((packet_type, fragments))
        return made
