"""The system calls of a turn, by the shortest way that this installation has.

Waiting, receiving and sending are what a daemon in a ring does for each token and
packet.  Python's own bindings make an address, a list of control messages and 64 KiB
of room for each datagram, which takes longer than the kernel does; where a C compiler
was at hand when the package was installed, ``_system_calls`` does without.  What is
None here is done with ``select`` and ``socket`` by the callers, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


def _bound(name: str) -> Any:  # noqa: ANN401 - each has its own type
    try:
        from txspread.daemon import _system_calls
    except ImportError:
        return None
    return getattr(_system_calls, name)


wait: Final[Callable[[int, int], list[tuple[int, int]]] | None] = _bound("wait")
"""Wait on an epoll descriptor for so many milliseconds; descriptors and their events."""
receive: Final[Callable[[int, memoryview, int], list[tuple[bytes | memoryview, int]]] | None] = (
    _bound("receive")
)
"""Read a UDP socket at most so many times, into room for 65 536 bytes each time.

For each read a datagram and 0, or a train, which is a part of the room, and the size at
which to cut it; empty if nothing waits.  Raises OSError if the socket has a pending error
and nothing came before it.
"""
send: Final[Callable[[int, bytes | memoryview], int] | None] = _bound("send")
"""Send on a connected socket; bytes taken, or -1 if the kernel takes none now.

Raises OSError for anything else.
"""
