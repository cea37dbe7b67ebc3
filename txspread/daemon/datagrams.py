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
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from txspread.daemon.batch_receive import SingleReceiver, make_receiver, receive_single
from txspread.daemon.hub import READ, Hub
from txspread.engine.node_interfaces import Channel

_TOKEN: Final = Channel.TOKEN
monotonic: Final = time.monotonic
BATCH: Final = 512
"""Datagrams after which clients get their turn."""


class DatagramEngine(Protocol):
    """The engine's input for datagrams; :class:`~txspread.engine.node.Node` has it."""

    @property
    def prefer_tokens(self) -> bool:
        """Whether to read the token socket before the data socket."""

    @property
    def token_follows(self) -> bool:
        """Whether the token may be close behind the packets taken last."""

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Take one datagram."""

    def datagrams(self, batch: Sequence[bytes], channel: Channel, now: float) -> None:
        """Take several datagrams of one channel."""

    def train(self, train: bytes | memoryview, size: int, channel: Channel, now: float) -> None:
        """Take several datagrams of one channel that stand one behind the other."""


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
        # Looked up once: these are called for every datagram.
        self._take_one = engine.datagram
        self._take_train = engine.train
        self._fault = fault
        self._sockets = {one.descriptor: one for one in sockets}
        self._left = BATCH
        self._found = 0
        """Datagrams that the last read of data gave."""
        self.received = 0
        """Datagrams received since the start."""
        self.errors = 0
        """Errors the sockets reported."""
        for one in sockets:
            hub.add(one, datagrams=True)

    def receive(self, ready: list[int] | None, look: int) -> bool:
        """Read what comes next by priority; tells whether to look again at the sockets.

        Data are read one batch at a time and tokens only when a look has found no
        data, which costs less than reading until a socket says that it is empty.  After
        a single packet there is no second look unless a token may come close behind it:
        a look for nothing takes as long as the packet has taken.

        Args:
            ready: descriptors known to be readable; None: nothing is known.
            look: how often the sockets have been looked at before in this turn.

        """
        if look == 0:
            self._left = BATCH
        if ready is not None and len(ready) == 1:
            one = self._sockets[ready[0]]
            if one.channel is _TOKEN:
                self._read_single(one)
                return False
            return (
                self._left > 0
                and self._read([one], many=look > 0)
                and (self._found > 1 or self._engine.token_follows)
            )
        tokens: list[DatagramSocket] = []
        data: list[DatagramSocket] = []
        for descriptor in self._sockets if ready is None else ready:
            one = self._sockets[descriptor]
            (tokens if one.channel is _TOKEN else data).append(one)
        if self._left <= 0:
            data = []  # a flood of data must not keep the token away
        tried = bool(data) and not (tokens and self._engine.prefer_tokens)
        if tried and self._read(data, many=look > 0):
            return bool(tokens) or self._found > 1 or self._engine.token_follows
        if self._read(tokens, many=False) or tried:
            return False
        return self._read(data, many=look > 0)

    def _read_single(self, one: DatagramSocket) -> None:
        """Read one datagram, which is what waits at a token socket."""
        try:
            datagram = receive_single(one.socket)
        except OSError:
            self.errors += 1
            return
        if datagram is not None:
            self.received += 1
            self._left -= 1
            try:
                self._take_one(datagram, one.channel, monotonic())
            except Exception:
                self._fault()

    def _read(self, sockets: list[DatagramSocket], *, many: bool) -> bool:
        """Read once from each socket; tells whether there was anything."""
        found = 0
        for one in sockets:
            try:
                received = one.receiver.receive(many)
            except OSError:
                self.errors += 1
                continue
            if not received:
                continue
            channel = one.channel
            now = monotonic()
            batch: list[bytes] = []
            for data, size in received:
                if not size:
                    batch.append(bytes(data))
                    found += 1
                    continue
                if batch:
                    self._take(batch, channel, now)
                    batch = []
                found += (len(data) + size - 1) // size
                try:
                    self._take_train(data, size, channel, now)
                except Exception:
                    self._fault()
            if batch:
                self._take(batch, channel, now)
        self._found = found
        self.received += found
        self._left -= found
        return found > 0

    def _take(self, batch: list[bytes], channel: Channel, now: float) -> None:
        """Hand the engine datagrams that came by themselves."""
        try:
            if len(batch) == 1:
                self._take_one(batch[0], channel, now)
            else:
                self._engine.datagrams(batch, channel, now)
        except Exception:
            self._fault()

    def close(self) -> None:
        """Stop reading and close the sockets."""
        for one in self._sockets.values():
            self._hub.remove(one)
            one.socket.close()
