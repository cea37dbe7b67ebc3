"""Time parts of ids: seconds of the wall clock, made to grow.

Three kinds of id take their time part from here: the attempt id of a FORM1,
the id of a transitional membership and the id of a ring.  A daemon never issues
a value twice, and never a smaller one, whatever its wall clock does: equality of
ids is the only relation that peers test, so a repeated value would make two
different rings look like one.

Upstream keeps the last value in memory only, so a daemon that is killed and
started again within one second, or whose clock was set back meanwhile, issues ids a
second time.  Here the host is told of each value, so that it can hand the last one
to the next process; and an id that peers still remember is noticed on their FORM
tokens and stepped over (:meth:`IdClock.seen`), for the case that the host has lost it.

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

    def __init__(
        self,
        wall_time: Callable[[], int],
        last_used: int = -1,
        on_use: Callable[[int], None] | None = None,
    ) -> None:
        """Start above ``last_used``, for instance a value kept from the process before.

        Args:
            wall_time: seconds since the epoch.
            last_used: largest value that must not be issued again.
            on_use: told of :attr:`last_used` before an id with that value leaves
                this daemon.

        """
        self._wall_time = wall_time
        self._on_use = on_use
        self.last_used = last_used
        """The last value issued, or heard of; -1 before the first."""

    def next(self) -> int:
        """Issue the present second, or the one after the last if that is not larger."""
        return self._issue(max(self._wall_time(), self.last_used + 1))

    def after(self) -> int:
        """Issue the value that follows the last one."""
        return self._issue(self.last_used + 1)

    def seen(self, time: int) -> None:
        """Never issue a value up to ``time``: an id with it, of this daemon, is in use.

        ``time`` is a signed 32-bit field; the moment it means is the one nearest to now.
        """
        now = self._wall_time()
        moment = now + signed32(time - now)
        if self.last_used < moment <= now + LARGEST_LEAD:
            self.last_used = moment

    def _issue(self, value: int) -> int:
        if value & 0xFFFFFFFF == 0:
            # The value 0 marks a transitional time that nobody has set yet.
            value += 1
        self.last_used = value
        if self._on_use is not None:
            self._on_use(value)
        return signed32(value)
