"""Time parts of ids: seconds of the wall clock, made to grow.

Three kinds of id take their time part from here: the attempt id of a FORM1,
the id of a transitional membership and the id of a ring.  A daemon never issues
a value twice, and never a smaller one, whatever its wall clock does: equality of
ids is the only relation that peers test, so a repeated value would make two
different rings look like one.

Upstream keeps the last value in memory only, so a daemon that is killed and
started again within one second can issue an id a second time.  Here a ring id
that a peer still remembers is noticed on its FORM token and stepped over
(:meth:`IdClock.seen`).

Source: ``docs/protocol/membership.md`` section 6.6; upstream ``membership.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LARGEST_LEAD: Final = 86_400
"""Seconds by which a time heard from a peer may be ahead of the own clock and still
be believed; a larger one could be a lie that would use up the 32 bits."""


def signed32(value: int) -> int:
    """Wrap a number into a signed 32-bit field."""
    return (value + 0x80000000 & 0xFFFFFFFF) - 0x80000000


class IdClock:
    """Issues times in seconds since the epoch, each larger than the one before."""

    def __init__(self, wall_time: Callable[[], int], last_used: int = -1) -> None:
        """Start above ``last_used``, for instance a value kept from the process before."""
        self._wall_time = wall_time
        self.last_used = last_used
        """The last value issued, or heard of; -1 before the first."""

    def next(self) -> int:
        """Issue the present second, or the one after the last if that is not larger."""
        self.last_used = max(self._wall_time(), self.last_used + 1)
        if self.last_used & 0xFFFFFFFF == 0:
            # The value 0 marks a transitional time that nobody has set yet.
            self.last_used += 1
        return signed32(self.last_used)

    def after(self) -> int:
        """Issue the value that follows the last one."""
        self.last_used += 1
        if self.last_used & 0xFFFFFFFF == 0:
            self.last_used += 1
        return signed32(self.last_used)

    def seen(self, time: int) -> None:
        """Never issue a value up to ``time``: an id with it, of this daemon, is in use."""
        if self.last_used < time <= self._wall_time() + LARGEST_LEAD:
            self.last_used = time
