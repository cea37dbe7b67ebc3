"""The packets of one ring, and how far this daemon and all daemons have them.

Rules:

* A packet is held from the moment it is created or received until every member
  is known to hold it; until then any member may ask for it again.
* ``my_aru`` is the contiguity point: everything up to it is held here.
* ``aru`` is the safe line: everything up to it is held by every member.
* In recovery a number that no daemon of the new ring holds is an agreed
  *hole*.  It counts as held, but there is no packet behind it.
* At most :data:`MAX_PACKETS` numbers above ``last_discarded`` are taken, which
  bounds the memory to that many datagrams and keeps a wild number from
  wrecking the numbering.

Source: ``docs/protocol/ring-ordering.md`` sections 4.1, 4.2 and 14.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from txspread.wire.identifiers import ProcId

MAX_PACKETS: Final = 8191
"""Numbers above ``last_discarded`` that may be held; upstream's slot array
would reuse a slot beyond it."""

StoredPacket: TypeAlias = tuple[bytes, int, ProcId, list[tuple[int, bytes]]]
"""(datagram, packet type bits 0x1f, originator, [(fragment index, bytes)]).

A plain tuple because one is made for every packet; the datagram is complete and
little-endian, ready to be sent again.  Most packets are one whole message: these have
:data:`UNCUT` for their fragments, and the message is what follows the header."""

UNCUT: Final[list[tuple[int, bytes]]] = []
"""Of a packet that is one whole message, which is cut off when it is delivered: what
arrives before a token holds the token up."""

HOLE: Final[StoredPacket] = (b"", 0, 0, [])
"""Stands for a number that nobody holds (recovery only): the one without a datagram."""


class PacketStore:
    """Packets by sequence number, with the sequence variables of one ring."""

    __slots__ = (
        "aru",
        "early",
        "highest_seq",
        "last_delivered",
        "last_discarded",
        "my_aru",
        "packets",
    )

    def __init__(self) -> None:
        self.packets: dict[int, StoredPacket] = {}
        self.early: set[int] = set()
        """Numbers above :attr:`last_delivered` that have been delivered already."""
        self.highest_seq = 0
        """Largest number known to exist in the ring."""
        self.my_aru = 0
        """Everything up to here is held, or was."""
        self.aru = 0
        """Everything up to here is held by every member of the ring."""
        self.last_delivered = 0
        """Everything up to here is delivered."""
        self.last_discarded = 0
        """Everything up to here is delivered and no longer held."""

    def extend(self) -> None:
        """Move ``my_aru`` over all numbers held without a gap, at most to ``highest_seq``."""
        packets = self.packets
        number = self.my_aru + 1
        while number in packets:
            number += 1
        number -= 1
        if number > self.highest_seq:
            number = max(self.my_aru, self.highest_seq)
        self.my_aru = number

    def missing(self, bound: int, limit: int) -> list[int]:
        """Numbers in (``my_aru``, ``bound``] that are not held, ascending, at most ``limit``."""
        packets = self.packets
        numbers: list[int] = []
        for number in range(self.my_aru + 1, bound + 1):
            if number not in packets:
                numbers.append(number)
                if len(numbers) >= limit:
                    break
        return numbers

    def is_delivered(self, number: int) -> bool:
        """Tell whether a held packet has been handed up."""
        return number <= self.last_delivered or number in self.early

    def forget(self, number: int) -> None:
        """Treat a packet as not received."""
        self.packets.pop(number, None)
        self.early.discard(number)

    def forget_above(self, number: int) -> None:
        """Treat every packet with a larger number as not received."""
        for late in [held for held in self.packets if held > number]:
            self.forget(late)
        self.last_delivered = min(self.last_delivered, max(number, self.last_discarded))

    def mark_holes(self, holes: Iterable[int]) -> None:
        """Agree that these numbers do not exist; what is held there was late and is forgotten."""
        for hole in holes:
            if self.last_discarded < hole <= self.highest_seq:
                self.packets[hole] = HOLE
                self.early.discard(hole)

    def drop_holes(self) -> None:
        """Make every agreed hole a missing number again."""
        for number in [held for held, packet in self.packets.items() if not packet[0]]:
            del self.packets[number]

    def recompute_my_aru(self) -> None:
        """Find the contiguity point anew, from what was discarded."""
        self.my_aru = self.last_discarded
        self.extend()

    def reset(self) -> None:
        """Start a new ring: nothing is numbered, held or delivered."""
        self.packets.clear()
        self.early.clear()
        self.highest_seq = self.my_aru = self.aru = 0
        self.last_delivered = self.last_discarded = 0
