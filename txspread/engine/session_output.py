"""What waits to be written to one client.

Frames are queued whole and shared: one delivered message queued for a thousand
clients exists once.  The shell takes as many bytes as the kernel may accept,
makes one system call, and reports how many were accepted; the queue restarts at
the exact byte.  A partly written frame still counts as one message
(``docs/protocol/client-session.md`` section 6.2).
"""

from __future__ import annotations

from collections import deque
from typing import Final

LARGE_FRAME: Final = 4096
"""Mean size in bytes from which frames are written without joining them."""
MAX_BUFFERS: Final = 1024
"""Buffers that one gathering write takes."""


class OutputQueue:
    """Frames for one client, in order, never interleaved."""

    __slots__ = ("_written", "queue", "size")

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        """The frames that wait, oldest first.  Who appends to it adds to
        :attr:`size`; the hot path does that without a call."""
        self._written = 0
        self.size = 0
        """Bytes that wait."""

    @property
    def frames(self) -> int:
        """Messages that wait, the partly written one included."""
        return len(self.queue)

    def __len__(self) -> int:
        return len(self.queue)

    def append(self, frame: bytes) -> None:
        """Queue one frame; empty ones are left out."""
        if frame:
            self.queue.append(frame)
            self.size += len(frame)

    def buffers(self, limit: int) -> list[bytes | memoryview]:
        """The next bytes to write, in order, without taking them off.

        Small frames come joined, since gathering many buffers costs a system
        call more than copying them; large ones come as they are.

        Args:
            limit: stop once this many bytes are collected.  The last frame is
                given whole, so the sum may be larger.

        """
        frames = self.queue
        if not frames:
            return []
        taken: list[bytes | memoryview] = []
        total = -self._written
        for frame in frames:
            taken.append(frame)
            total += len(frame)
            if total >= limit:
                break
        if self._written:
            taken[0] = memoryview(frames[0])[self._written :]
        if len(taken) > 1 and total < len(taken) * LARGE_FRAME:
            return [b"".join(taken)]
        return taken[:MAX_BUFFERS]

    def consumed(self, count: int) -> None:
        """Take off ``count`` bytes, which the kernel has accepted."""
        count = min(count, self.size)
        self.size -= count
        if not self.size:
            self.queue.clear()
            self._written = 0
            return
        count += self._written
        frames = self.queue
        while count >= len(frames[0]):
            count -= len(frames.popleft())
        self._written = count

    def clear(self) -> None:
        """Drop everything."""
        self.queue.clear()
        self._written = 0
        self.size = 0
