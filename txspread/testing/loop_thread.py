"""A thread that runs daemons, beside whatever loop the program under test has.

Daemons need little of a reactor: descriptors watched, calls made later
(:class:`~txspread.daemon.hub.Reactor`).  A second Twisted reactor would do, but it
leaves descriptors behind when it stops and registers its thread as the one of the
process; this loop owns a selector and a pair of sockets, and gives them back.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.internet.task import Clock

T = TypeVar("T")

CALL_LIMIT: Final = 60.0
"""Seconds after which a loop that does not answer counts as stuck."""


@define(eq=False)
class _Watched:
    """What is to be done when a descriptor is ready."""

    reader: IReadDescriptor | None = None
    writer: IWriteDescriptor | None = None

    @property
    def events(self) -> int:
        events = 0 if self.reader is None else selectors.EVENT_READ
        return events if self.writer is None else events | selectors.EVENT_WRITE


@define(eq=False)
class _Call:
    """A function on its way into the thread, and what came of it."""

    function: Callable[[], object]
    done: threading.Event = field(factory=threading.Event)
    result: object = None
    error: BaseException | None = None


class LoopThread(Clock):
    """An event loop in a thread of its own, from the making to :meth:`close`.

    A :class:`~txspread.daemon.hub.Reactor`.  All methods but :meth:`call` and :meth:`close`
    are for the thread itself.

    Args:
        name: of the thread.

    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._base = time.monotonic()
        self._watched: dict[int, _Watched] = {}
        self._calls: deque[_Call] = deque()
        self._ending = False
        self._problem: BaseException | None = None
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        # Not kept alive by a program that forgets to close it.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # From other threads.

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the thread, between two turns; its result or exception.

        Raises:
            RuntimeError: the loop has ended, or is stuck.

        """
        if threading.current_thread() is self._thread:
            return function()
        call = _Call(function)
        self._calls.append(call)
        self._notify()
        end = time.monotonic() + CALL_LIMIT
        while not call.done.wait(0.2):
            if not self._thread.is_alive():
                raise RuntimeError(f"{self._thread.name} has ended") from self._problem
            if time.monotonic() > end:
                raise RuntimeError(f"{self._thread.name} is stuck")
        if call.error is not None:
            raise call.error
        result: T = call.result  # type: ignore[assignment]
        return result

    def close(self) -> None:
        """End the thread and release its descriptors; what it watches is not closed.

        Raises:
            RuntimeError: something that was watched has raised and ended the loop.

        """
        if self._wake.fileno() < 0:
            return
        self._ending = True
        self._notify()
        self._thread.join(CALL_LIMIT)
        self._wake.close()
        if self._problem is not None:
            raise RuntimeError(f"{self._thread.name} has ended") from self._problem

    def _notify(self) -> None:
        try:
            self._wake.send(b"\0")
        except BlockingIOError:
            pass  # as many wakings as fit are waiting already
        except OSError:
            pass  # the loop has ended; call() finds that out itself

    # From the thread: what daemons use of a reactor.

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch for reading."""
        self._watch(reader.fileno()).reader = reader
        self._update(reader.fileno())

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Watch no longer."""
        self._watch(reader.fileno()).reader = None
        self._update(reader.fileno())

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Watch for writing."""
        self._watch(writer.fileno()).writer = writer
        self._update(writer.fileno())

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Watch no longer."""
        self._watch(writer.fileno()).writer = None
        self._update(writer.fileno())

    def _watch(self, descriptor: int) -> _Watched:
        return self._watched.setdefault(descriptor, _Watched())

    def _update(self, descriptor: int) -> None:
        watched = self._watched[descriptor]
        registered = descriptor in self._selector.get_map()
        if not watched.events:
            del self._watched[descriptor]
            if registered:
                self._selector.unregister(descriptor)
        elif registered:
            self._selector.modify(descriptor, watched.events)
        else:
            self._selector.register(descriptor, watched.events)

    # The loop.

    def _run(self) -> None:
        try:
            while not self._ending:
                self._turn()
        except BaseException as problem:
            self._problem = problem
        finally:
            self._selector.close()
            self._woken.close()

    def _turn(self) -> None:
        for key, events in self._selector.select(self._patience()):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
                continue
            watched = self._watched.get(key.fd)
            if watched is None:
                continue
            if events & selectors.EVENT_READ and watched.reader is not None:
                watched.reader.doRead()
            if events & selectors.EVENT_WRITE and watched.writer is not None:
                watched.writer.doWrite()
        self.advance(max(0.0, time.monotonic() - self._base - self.seconds()))
        while self._calls:
            call = self._calls.popleft()
            try:
                call.result = call.function()
            except BaseException as error:
                call.error = error
            call.done.set()

    def _patience(self) -> float | None:
        if self._calls or self._ending:
            return 0.0
        waiting = self.getDelayedCalls()
        if not waiting:
            return None
        due = min(delayed.getTime() for delayed in waiting)
        return max(0.0, self._base + due - time.monotonic())


__all__ = ["CALL_LIMIT", "LoopThread"]
