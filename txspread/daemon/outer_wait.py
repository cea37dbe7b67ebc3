"""A hub that waits in the reactor's place.

A reactor that waits for a hub takes about as long to get there as the hub's turn does.
So in a process that is a daemon and no more the hub waits itself, for its own
descriptors and for the one of the reactor's epoll, and the reactor has its turn when
something of its own is ready or due.  Only Twisted's epoll reactor allows it, and only
one hub at a time can do it.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from twisted.internet.interfaces import IReactorCore

Iterate = Callable[[float | None], None]
"""Waits for so many seconds at most (None: for ever) and handles what is ready."""


class OuterWait:
    """The reactor's wait, replaced by another.

    Args:
        reactor: in the place of its ``doIteration`` from now on:
        iterate: what the main loop calls.

    Raises:
        AttributeError: the reactor is of another kind, or another hub waits for it.

    """

    def __init__(self, reactor: IReactorCore, iterate: Iterate) -> None:
        poller = getattr(reactor, "_poller", None)
        inner: Iterate | None = getattr(reactor, "doIteration", None)
        if not isinstance(poller, select.epoll) or inner is None:
            raise AttributeError("no epoll reactor")
        if "doIteration" in vars(reactor):
            raise AttributeError("another hub waits in the reactor's place")
        self._reactor = reactor
        self._inner = inner
        self.descriptor = poller.fileno()
        """Readable when something of the reactor's own is ready."""
        vars(reactor)["doIteration"] = iterate

    def reactor_turn(self) -> None:
        """Let the reactor handle what is ready."""
        self._inner(0.0)

    def close(self) -> None:
        """Give the wait back."""
        vars(self._reactor).pop("doIteration", None)
