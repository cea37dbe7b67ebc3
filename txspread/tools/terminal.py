"""Line input that shares its waiting with a socket.

Upstream's tools read with ``fgets`` into fixed buffers; what does not fit is taken
as the next line.  That is visible to scripts, so it is kept; that pasted lines wait
in a buffer until the next key press is not.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Protocol


class HasFileno(Protocol):
    """Anything that ``select`` takes."""

    def fileno(self) -> int:
        """Return the descriptor."""


class LineInput:
    """Lines of a file descriptor, standard input by default."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False

    def fileno(self) -> int:
        """Return the descriptor, for ``select``."""
        return self._descriptor

    def ready(self, limit: int) -> bool:
        """Whether :meth:`read_line` would return at once."""
        return self._ended or b"\n" in self._buffer or len(self._buffer) >= limit - 1

    def fill(self) -> None:
        """Read once what has arrived; waits if nothing has."""
        data = os.read(self._descriptor, 1 << 16)
        self._buffer += data
        self._ended = not data

    def read_line(self, limit: int) -> bytes:
        """Return the next line with its line end, empty at the end of input.

        :param limit: size of upstream's buffer: a longer line is cut after
            ``limit - 1`` bytes, the rest is the next line.
        """
        while not self.ready(limit):
            self.fill()
        end = self._buffer.find(b"\n", 0, limit - 1)
        size = end + 1 if end >= 0 else min(limit - 1, len(self._buffer))
        line = bytes(self._buffer[:size])
        del self._buffer[:size]
        return line

    def wait(self, other: HasFileno | None, limit: int) -> tuple[bool, bool]:
        """Wait for a line or for ``other`` to be readable; say which it is."""
        while not self.ready(limit):
            watched: list[HasFileno] = [self] if other is None else [self, other]
            readable = select.select(watched, [], [])[0]
            if self in readable:
                self.fill()
            if other is not None and other in readable:
                return self.ready(limit), True
        if other is None:
            return True, False
        return True, bool(select.select([other], [], [], 0)[0])


def show(text: str) -> None:
    """Print without line end, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def use_byte_output() -> None:
    """Make standard output carry any bytes of names and bodies."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="surrogateescape")
