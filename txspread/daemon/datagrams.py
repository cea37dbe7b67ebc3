"""Reading the daemon's UDP sockets by their priority.

Data are read before tokens: a token that is handled while data sent before it
still waits makes the daemon ask for what it already has.  The accelerated ring
reverses this from time to time (:attr:`prefer_tokens`).  A token is read one at
a time, and the batch of one turn is bounded, so that clients get theirs.

Source: ``docs/protocol/daemon-datagrams.md`` section 13 (reading order).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Container, Sequence
from typing import Final, Protocol

from txspread.daemon.batch_receive import SingleReceiver, make_receiver
from txspread.daemon.hub import READ, Hub
from txspread.engine.node_interfaces import Channel

BATCH: Final = 512
"""Datagrams after which clients get their turn."""


class DatagramEngine(Protocol):
    """The engine's input for datagrams; :class:`~txspread.engine.node.Node` has it."""

    @property
    def prefer_tokens(self) -> bool:
        """Whether to read the token socket before the data socket."""

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Take one datagram."""


class DatagramSocket:
    """One receiving socket as a source of the hub."""

    def __init__(self, opened: socket.socket, channel: Channel) -> None:
        self.socket = opened
        self.channel = channel
        self.interest = READ
        self.watched = 0
        self.receiver = (
            SingleReceiver(opened) if channel is Channel.TOKEN else make_receiver(opened)
        )
        self.descriptor = opened.fileno()

    def fileno(self) -> int:
        """The descriptor."""
        return self.descriptor

    def readable(self) -> None:
        """Never called: the hub asks the :class:`DatagramReader`."""

    def writable(self) -> None:
        """Never asked for."""


class DatagramReader:
    """All receiving sockets of one daemon, read in the right order.

    Args:
        hub: where they are watched.
        engine: gets the datagrams.
        sockets: opened by the plan; owned from now on.
        fault: called when the engine has raised; the exception is the current one.

    """

    def __init__(
        self,
        hub: Hub,
        engine: DatagramEngine,
        sockets: Sequence[DatagramSocket],
        fault: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._engine = engine
        self._fault = fault
        self._sockets = tuple(sockets)
        self._data = [one for one in sockets if one.channel is Channel.DATA]
        self._tokens = [one for one in sockets if one.channel is Channel.TOKEN]
        self.received = 0
        """Datagrams received since the start."""
        self.errors = 0
        """Errors the sockets reported."""
        for one in sockets:
            hub.add(one, datagrams=True)

    def receive(self, ready: Container[int] | None = None) -> None:
        """Read one bounded batch.

        Args:
            ready: descriptors known to be readable; None: all are tried.

        """
        engine = self._engine
        if engine.prefer_tokens:
            if not self._read_tokens(ready):
                for one in self._data:
                    if ready is None or one.descriptor in ready:
                        self._take(one)
            return
        left = BATCH
        tokens = ready
        for one in self._data:
            if ready is not None and one.descriptor not in ready:
                continue
            # A token may have come behind these since the sockets were looked at.
            tokens = None
            while left > 0:
                left -= self._take(one)
                if engine.prefer_tokens:
                    return
                if not one.receiver.full:
                    break
        self._read_tokens(tokens)

    def _read_tokens(self, ready: Container[int] | None) -> bool:
        """Read one token from each socket; tells whether there was one."""
        found = False
        for one in self._tokens:
            if (ready is None or one.descriptor in ready) and self._take(one):
                found = True
        return found

    def _take(self, one: DatagramSocket) -> int:
        try:
            datagrams = one.receiver.receive()
        except OSError:
            self.errors += 1
            return 0
        channel = one.channel
        handle = self._engine.datagram
        now = time.monotonic()
        for datagram in datagrams:
            try:
                handle(datagram, channel, now)
            except Exception:
                self._fault()
        count = len(datagrams)
        self.received += count
        return count

    def close(self) -> None:
        """Stop reading and close the sockets."""
        for one in self._sockets:
            self._hub.remove(one)
            one.socket.close()
