"""A clock that runs as fast as the events on it allow.

Everything in a simulation happens in one queue ordered by (time, order of
scheduling), so a run is a function of its seed alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeAlias

Action: TypeAlias = Callable[[], None]


class Event:
    """One thing that will happen; :meth:`cancel` makes it not happen."""

    __slots__ = ("action", "cancelled", "time")

    def __init__(self, time: float, action: Action) -> None:
        self.time = time
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the event; harmless after it has happened."""
        self.cancelled = True


class VirtualClock:
    """Virtual time in seconds, from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._events: list[tuple[float, int, Event]] = []

    def at(self, time: float, action: Action) -> Event:
        """Schedule ``action`` at an absolute time, not before now."""
        time = max(time, self.now)
        event = Event(time, action)
        self._order += 1
        heapq.heappush(self._events, (time, self._order, event))
        return event

    def after(self, delay: float, action: Action) -> Event:
        """Schedule ``action`` ``delay`` seconds from now."""
        return self.at(self.now + delay, action)

    def run_until(self, time: float) -> None:
        """Let everything happen that is due up to ``time``, and stop there."""
        events = self._events
        pop = heapq.heappop
        while events and events[0][0] <= time:
            self.now, _, event = pop(events)
            if not event.cancelled:
                event.action()
        self.now = max(self.now, time)

    def run_while(self, condition: Callable[[], bool], limit: float) -> bool:
        """Run while ``condition()`` holds, for at most ``limit`` virtual seconds.

        Returns whether the condition ended, as opposed to the time.
        """
        end = self.now + limit
        while condition():
            if not self._events or self._events[0][0] > end:
                self.now = max(self.now, end)
                return not condition()
            self.step()
        return True

    def step(self) -> None:
        """Let the next event happen, if there is one."""
        if self._events:
            self.now, _, event = heapq.heappop(self._events)
            if not event.cancelled:
                event.action()
