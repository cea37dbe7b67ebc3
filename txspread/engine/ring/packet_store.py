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

What is held without a gap stands in two lists, heads and bodies, in the order of the
numbers: a train is added, handed up and forgotten with a few operations on these
whatever its length.  Behind the first gap packets are kept by number.

Source: ``docs/protocol/ring-ordering.md`` sections 4.1, 4.2 and 14.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from txspread.wire.constants import PacketType
from txspread.wire.datagram import REGULAR
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import Fragments, encode_body, with_head

MAX_PACKETS: Final = 8191
"""Numbers above ``last_discarded`` that may be held; upstream's slot array
would reuse a slot beyond it."""

Body: TypeAlias = bytes | Fragments
"""What a packet carries: a message, where it is whole, alone, and neither RELIABLE nor
SAFE, so that nothing but its turn decides when it is delivered; else the fragments."""

NOT_PLAIN: Final = int(PacketType.RELIABLE | PacketType.SAFE)
"""Type bits of packets whose body is always given as fragments."""
NO_HEAD: Final = b""
"""The head of a number that nobody holds (recovery only), and of one that is not here."""
FROM: Final = 8
TO: Final = 12
"""Where the originator's id begins and ends in a head."""
NO_FRAGMENTS: Final[Fragments] = []


def type_of(head: bytes) -> int:
    """Packet type, bits 0x1f, of the head of a packet."""
    return head[0] & REGULAR


def originator_of(head: bytes) -> ProcId:
    """Who made the packet of that head."""
    return int.from_bytes(head[FROM:TO], "little")


class PacketStore:
    """Packets by sequence number, with the sequence variables of one ring."""

    __slots__ = (
        "ahead",
        "aru",
        "bodies",
        "early",
        "heads",
        "highest_seq",
        "last_delivered",
        "last_discarded",
        "my_aru",
    )

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        """Of the packets from ``last_discarded + 1`` on; mostly one object for many."""
        self.bodies: list[Body] = []
        """Of the same packets."""
        self.ahead: dict[int, tuple[bytes, Body]] = {}
        """(head, body) by number of what is held and not in the lists: behind a gap."""
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

    def __len__(self) -> int:
        return len(self.bodies) + len(self.ahead)

    # -- what is held -----------------------------------------------------------

    def holds(self, number: int) -> bool:
        """Tell whether a number counts as held; what is discarded does not."""
        return 0 < number - self.last_discarded <= len(self.bodies) or number in self.ahead

    def get(self, number: int) -> tuple[bytes, Body]:
        """Head and body; :data:`NO_HEAD` for a hole and for what is not held."""
        at = number - self.last_discarded - 1
        if 0 <= at < len(self.bodies):
            return self.heads[at], self.bodies[at]
        return self.ahead.get(number, (NO_HEAD, NO_FRAGMENTS))

    def datagram(self, number: int) -> bytes:
        """A packet as a little-endian datagram; empty if there is none of that number."""
        head, body = self.get(number)
        if not head:
            return b""
        return with_head(head, number, body if isinstance(body, bytes) else encode_body(body))

    def held(self) -> list[int]:
        """All numbers that count as held, ascending."""
        start = self.last_discarded + 1
        return [*range(start, start + len(self.bodies)), *sorted(self.ahead)]

    def missing(self, bound: int, limit: int) -> list[int]:
        """Numbers in (``my_aru``, ``bound``] that are not held, ascending, at most ``limit``."""
        numbers: list[int] = []
        for number in range(self.my_aru + 1, bound + 1):
            if not self.holds(number):
                numbers.append(number)
                if len(numbers) >= limit:
                    break
        return numbers

    def is_delivered(self, number: int) -> bool:
        """Tell whether a held packet has been handed up."""
        return number <= self.last_delivered or number in self.early

    # -- taking packets ---------------------------------------------------------

    def put(self, number: int, head: bytes, body: Body) -> None:
        """Hold a packet that is not held yet; ``my_aru`` stays."""
        if number == self.last_discarded + len(self.bodies) + 1:
            self.heads.append(head)
            self.bodies.append(body)
        else:
            self.ahead[number] = (head, body)

    def put_train(self, heads: list[bytes], bodies: list[Body]) -> None:
        """Hold packets that continue the lists; ``my_aru`` stays."""
        self.heads += heads
        self.bodies += bodies

    def extend(self) -> None:
        """Move ``my_aru`` over all numbers held without a gap, at most to ``highest_seq``."""
        if self.ahead:
            self._close_up()
        number = self.last_discarded + len(self.bodies)
        if number > self.highest_seq:  # noqa: PLR1730 - min() costs a call
            number = self.highest_seq
        if number > self.my_aru >= self.last_discarded:
            self.my_aru = number

    def _close_up(self) -> None:
        """Move into the lists what continues them."""
        ahead = self.ahead
        number = self.last_discarded + len(self.bodies) + 1
        while number in ahead:
            head, body = ahead.pop(number)
            self.heads.append(head)
            self.bodies.append(body)
            number += 1

    # -- forgetting -------------------------------------------------------------

    def discard(self, last: int) -> int:
        """Hold nothing up to ``last`` any more; how many packets and holes that were."""
        count = min(last - self.last_discarded, len(self.bodies))
        if count > 0:
            del self.heads[:count]
            del self.bodies[:count]
        else:
            count = 0
        if self.ahead:
            for number in [number for number in self.ahead if number <= last]:
                del self.ahead[number]
                count += 1
        self.last_discarded = max(self.last_discarded, last)
        return count

    def forget_above(self, number: int) -> None:
        """Treat every packet with a larger number as not received."""
        keep = max(0, number - self.last_discarded)
        del self.heads[keep:]
        del self.bodies[keep:]
        for late in [held for held in self.ahead if held > number]:
            del self.ahead[late]
        for late in [held for held in self.early if held > number]:
            self.early.discard(late)
        self.last_delivered = min(self.last_delivered, max(number, self.last_discarded))

    def mark_holes(self, holes: Iterable[int]) -> None:
        """Agree that these numbers do not exist; what is held there was late and is forgotten."""
        for hole in holes:
            if self.last_discarded < hole <= self.highest_seq:
                at = hole - self.last_discarded - 1
                if at < len(self.bodies):
                    self.heads[at] = NO_HEAD
                    self.bodies[at] = NO_FRAGMENTS
                else:
                    self.ahead[hole] = (NO_HEAD, NO_FRAGMENTS)
                self.early.discard(hole)

    def drop_holes(self) -> None:
        """Make every agreed hole a missing number again."""
        for hole in [number for number, packet in self.ahead.items() if not packet[0]]:
            del self.ahead[hole]
        heads = self.heads
        if NO_HEAD not in heads:
            return
        first = heads.index(NO_HEAD)
        for at in range(first, len(heads)):
            if heads[at]:
                self.ahead[self.last_discarded + 1 + at] = (heads[at], self.bodies[at])
        del heads[first:]
        del self.bodies[first:]

    def recompute_my_aru(self) -> None:
        """Find the contiguity point anew, from what was discarded."""
        self.my_aru = self.last_discarded
        self.extend()

    def reset(self) -> None:
        """Start a new ring: nothing is numbered, held or delivered."""
        self.heads.clear()
        self.bodies.clear()
        self.ahead.clear()
        self.early.clear()
        self.highest_seq = self.my_aru = self.aru = 0
        self.last_delivered = self.last_discarded = 0
