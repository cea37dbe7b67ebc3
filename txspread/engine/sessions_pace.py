"""How fast clients may send while one that reads has fallen behind.

A client whose queue is full loses its session, and it should: it has stopped
reading.  But a daemon that takes hundreds of messages from one read fills the
queue of a healthy client within the few milliseconds in which that client's
machine runs something else.  Upstream cannot: it takes one message a turn, and
while it does the receiver reads.

So, once a queue is half full, messages for such clients are counted, and at most
:data:`MESSAGES` of them (fewer large ones) are taken in one :data:`WINDOW`.  Once
it is three quarters full each counts for :data:`ALMOST_FULL`.  When they are used
up, whoever sends another one is not read until the window is over.  A client that
reads catches up; one that does not is cut off about 120 windows later if messages
come as fast as that, or when its queue is full if they come more slowly.  Clients
that send to others are not held up at all.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 0.001
"""Seconds."""
MESSAGES: Final = 20
"""Small messages for clients that are behind, in one window."""
ALMOST_FULL: Final = 8
"""What a message counts for a client whose queue is three quarters full."""
CAREFUL: Final = 0.1
"""Seconds for which messages are taken one by one after a client was behind."""
UNIT: Final = 8192
"""Bytes of a message that count like a message of their own."""


class Pace:
    """Counts messages for clients that are behind."""

    __slots__ = ("_credit", "_window_end", "careful_until", "resting")

    def __init__(self) -> None:
        self._credit = MESSAGES
        self._window_end = 0.0
        self.resting = False
        """Whether somebody is not read until the window is over."""
        self.careful_until = 0.0
        """Until then messages are taken one by one: a client was behind."""

    def spend(self, size: int, weight: int, now: float) -> bool:
        """Count a message of ``size`` bytes ``weight`` times.

        Returns whether the window's share is used up.
        """
        if now >= self._window_end:
            self._window_end = now + WINDOW
            self._credit = MESSAGES
            self.careful_until = now + CAREFUL
        self._credit -= weight * (1 + size // UNIT)
        return self._credit <= 0

    def rest(self) -> None:
        """Somebody begins to rest, to the end of the window."""
        self.resting = True

    def over(self, now: float) -> bool:
        """End all rests if their time is over; tell whether they just ended."""
        if self.resting and now >= self._window_end:
            self.resting = False
            return True
        return False

    def next_timer(self) -> float | None:
        """When the rest is over; None when nobody rests."""
        return self._window_end if self.resting else None
