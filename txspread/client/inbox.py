"""Messages received and not yet taken, with a bound.

When what waits reaches ``limit`` bytes the connection stops reading; it reads
again once less than half of that waits.  One read may overshoot, so at most
``limit`` plus one read (256 KiB) plus one incomplete message is ever held.
Behind that the kernel's buffer fills, then the daemon queues, and ends the session
when ``MaxSessionMessages`` wait there: a program must not stop receiving for long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from txspread.client.messages import Message, message_size


class Inbox:
    """Bounded queue of messages.

    :param limit: bytes (48 per message, 32 per name, and the bodies) at which
        :attr:`full` becomes true.
    """

    __slots__ = ("_messages", "full", "limit", "size")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("the receive limit must be at least 1 byte")
        self.limit = limit
        self.size = 0
        """Bytes that wait."""
        self.full = False
        """Whether the connection should not read."""
        self._messages: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, messages: Iterable[Message]) -> None:
        """Append messages; look at :attr:`full` afterwards."""
        for message in messages:
            self._messages.append(message)
            self.size += message_size(message)
        self.full = self.full or self.size >= self.limit

    def take(self) -> Message:
        """Remove and return the oldest message; :class:`IndexError` if there is none."""
        message = self._messages.popleft()
        self.size -= message_size(message)
        if self.full and self.size * 2 < self.limit:
            self.full = False
        return message

    def take_all(self) -> list[Message]:
        """Remove and return everything."""
        messages = list(self._messages)
        self._messages.clear()
        self.size = 0
        self.full = False
        return messages
