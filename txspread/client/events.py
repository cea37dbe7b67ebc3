"""A bounded queue between something that produces events and a program that takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from txspread.client.errors import SpreadError

E = TypeVar("E")


class EventQueue(Generic[E]):
    """Events, and the Deferreds of those that wait for one.

    :param limit: events that may wait; at that many ``pause`` is called, and
        ``resume`` once less than half of them wait.
    """

    def __init__(
        self, limit: int, pause: Callable[[], object], resume: Callable[[], object]
    ) -> None:
        if limit < 1:
            raise ValueError("the event limit must be at least 1")
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self._events: deque[E] = deque()
        self._receivers: deque[Deferred[E]] = deque()
        self.reason: SpreadError | None = None
        """Why no more events come; None as long as some may."""
        self.paused = False
        """Whether the source was told to pause."""

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: E) -> None:
        """Hand an event to who waits longest, or keep it."""
        if self._receivers:
            self._receivers.popleft().callback(event)
            return
        self._events.append(event)
        if not self.paused and len(self._events) >= self._limit:
            self.paused = True
            self._pause()

    def get(self) -> Deferred[E]:
        """Fire with the next event; after the last one, fail as :meth:`end` said."""
        receiver: Deferred[E] = Deferred(self._forget)
        if self._events:
            receiver.callback(self._events.popleft())
            if self.paused and len(self._events) * 2 < self._limit:
                self.paused = False
                self._resume()
        elif self.reason is not None:
            receiver.errback(self.reason)
        else:
            self._receivers.append(receiver)
        return receiver

    def end(self, reason: SpreadError) -> None:
        """No more events come."""
        self.reason = reason
        receivers, self._receivers = self._receivers, deque()
        for receiver in receivers:
            receiver.errback(reason)

    def reopen(self) -> None:
        """Events come again."""
        self.reason = None

    def _forget(self, receiver: Deferred[Any]) -> None:
        self._receivers.remove(receiver)
