"""Noticing that a daemon has gone silent, sans-IO.

The client protocol has no heartbeat: a daemon with nothing to say and a daemon
that is stopped look the same, and TCP notices a vanished machine only after
hours.  So a session that has heard nothing for half of its ``timeout`` sends a
small message to its own private group, which a living daemon brings back; after
``timeout`` without a byte the connection counts as lost.

A ring that re-forms holds messages back for seconds (for a minute with the timeouts of
wide-area configurations), so the timeout should stay well above that.
"""

from __future__ import annotations

from typing import Final

from txspread.client.messages import DataMessage, Message
from txspread.wire.constants import ServiceType

PROBE_BODY: Final = b"txspread: are you there?"
PROBE_SERVICE: Final = ServiceType.RELIABLE_MESS
"""Delivered to the sender by its own daemon without waiting for other messages."""


class Liveness:
    """When to probe, and when to give up.

    :param timeout: seconds without a byte from the daemon after which it is dead.
    :param private_group: the session's own private group.
    :param now: seconds on the clock that all later calls use.
    """

    __slots__ = ("_asked", "_echoes", "_heard", "_private_group", "timeout")

    def __init__(self, timeout: float, private_group: str, now: float) -> None:
        if timeout <= 0:
            raise ValueError("the silence timeout must be positive")
        self.timeout = timeout
        self._private_group = private_group
        self._heard = now
        self._asked: float | None = None
        self._echoes = 0

    @property
    def probing(self) -> bool:
        """Whether an echo may come, which must be removed with :meth:`without_echo`."""
        return self._echoes > 0

    def heard(self, now: float) -> None:
        """Bytes came, or the caller itself does not read at the moment."""
        self._heard = now
        self._asked = None

    def dead(self, now: float) -> bool:
        """Whether the daemon has not answered a probe in time.

        A program that was stopped itself for a while thus probes before it judges.
        """
        return self._asked is not None and now - self._asked >= self.timeout / 2

    def due(self, now: float) -> bool:
        """Whether a probe should be sent; the caller then does so."""
        if self._asked is not None or now - self._heard < self.timeout / 2:
            return False
        self._asked = now
        self._echoes += 1
        return True

    def next_check(self, now: float) -> float:
        """Seconds after which to ask again."""
        since = self._heard if self._asked is None else self._asked
        return max(since + self.timeout / 2 - now, self.timeout / 20)

    def without_echo(self, messages: list[Message]) -> list[Message]:
        """Remove the echo of the probe, which is not the application's."""
        for position, message in enumerate(messages):
            if (
                isinstance(message, DataMessage)
                and message.body == PROBE_BODY
                and message.sender == self._private_group
                and message.groups == (self._private_group,)
            ):
                self._echoes -= 1
                return messages[:position] + messages[position + 1 :]
        return messages
