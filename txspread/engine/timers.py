"""Named timers of the ring on the engine's clock.

At most one of each kind is set; starting it again replaces it.  Timers that are
due at one moment run in the order of their deadlines, as
``docs/protocol/membership.md`` section 5.2 wants it.
"""

from __future__ import annotations

from txspread.engine.ring_interfaces import Timer


class RingTimers:
    """The :class:`~txspread.engine.ring_interfaces.Timers` of a node.

    The node sets :attr:`now` with each input.  There are about ten kinds of
    timer, and one of them moves with every packet: a dictionary with a search
    for the least, when it may be another one, beats a heap.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        """Time of the input that is being handled, seconds."""
        self._deadlines: dict[Timer, float] = {}
        self._least: float | None = None
        self._searched = True
        """``_least`` is the least deadline."""

    def start(self, timer: Timer, delay: float) -> None:
        """Start or restart; ``delay`` in seconds from the current input's time."""
        deadline = self.now + delay
        least = self._least
        if least is None or deadline <= least:
            self._least = deadline
        elif self._searched and self._deadlines.get(timer) == least:
            self._searched = False
        self._deadlines[timer] = deadline

    def stop(self, timer: Timer) -> None:
        """Cancel if running."""
        self.take(timer)

    def running(self, timer: Timer) -> bool:
        """Tell whether it is set."""
        return timer in self._deadlines

    def deadline(self, timer: Timer) -> float | None:
        """When a timer is due, or None when it is not set."""
        return self._deadlines.get(timer)

    def next(self) -> float | None:
        """The least deadline, or None when no timer is set."""
        if not self._searched:
            self._searched = True
            least: float | None = None
            for deadline in self._deadlines.values():
                if least is None or deadline < least:
                    least = deadline
            self._least = least
        return self._least

    def take_due(self, now: float) -> Timer | None:
        """Take off and return the timer that has been due longest, if any is due."""
        if not self._deadlines:
            return None
        timer = min(self._deadlines, key=self._deadlines.__getitem__)
        if self._deadlines[timer] > now:
            return None
        self.take(timer)
        return timer

    def take(self, timer: Timer) -> bool:
        """Take off one timer; whether it was set."""
        deadline = self._deadlines.pop(timer, None)
        if deadline is None:
            return False
        if deadline == self._least:
            self._searched = False
        return True
