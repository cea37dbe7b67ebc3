"""What the engine asks of the world: the face of :class:`~txspread.engine.node.Node`."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import Protocol

from txspread.wire.packet import cut_train


class Channel(enum.Enum):
    """The two UDP sockets of a daemon, by what arrives there."""

    DATA = "data"
    """Packets, UDP port P."""
    TOKEN = "token"
    """Tokens, UDP port P + 1."""


class OneByOne(ABC):
    """For hosts that know nothing of trains: sends their datagrams one by one."""

    def send_train(self, train: bytes | bytearray, size: int, address: tuple[str, int]) -> None:
        """See :meth:`Host.send_train`."""
        for datagram in cut_train(train, size):
            self.send_datagram(datagram, address)

    @abstractmethod
    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """See :meth:`Host.send_datagram`."""


class Host(Protocol):
    """The machine a node runs on: the Twisted shell, or a simulated one."""

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Send one datagram to a dotted quad and a port; errors stay with the host.

        The order of calls is the order on the wire.
        """

    def send_train(self, train: bytes | bytearray, size: int, address: tuple[str, int]) -> None:
        """Send datagrams of ``size`` bytes each, the last perhaps shorter, as if one by one.

        They come one behind the other in ``train``, which nobody changes any more.
        """

    def pause_accepting(self) -> None:
        """Accept no new client connection for now."""

    def resume_accepting(self) -> None:
        """Accept client connections again."""

    def wall_time(self) -> int:
        """Seconds since the epoch, for membership ids and log lines only."""

    def leave(self, reason: str) -> None:
        """End the daemon: a monitor told it to."""

    def reload(self) -> None:
        """Read the configuration again: a monitor told this daemon to.

        Not from inside this call, the result comes back through
        :meth:`~txspread.engine.node.Node.reload`, or not at all if the file is bad.
        """
