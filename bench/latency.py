"""How long a message takes: one probe for each cluster, used in short slices in turn."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Sequence

from bench.shapes import Address
from bench.wire import Client, frame_size, unique_name

_STAMP = struct.Struct("<Qd")
_READ_BYTES = 1024 * 1024
_LATE = 10.0
"""Seconds after which a message that has not arrived everywhere is missing."""


class Probe:
    """A sender at one daemon and receivers at all, in one process, so there is one clock.

    Args:
        sender: the daemon that the messages are given to.
        receivers: where each receiver connects.
        body: bytes of each message's body, at least 16.
        service: service type bit.

    Raises:
        OSError: the daemons did not let them in.

    """

    def __init__(
        self, sender: Address, receivers: Sequence[Address], body: int, service: int
    ) -> None:
        group = unique_name("l").encode()
        self._clients: list[Client] = []
        self._poller = select.epoll()
        self._index: dict[int, int] = {}
        try:
            # One at each daemon sees the joins; if all did, many receivers would be told of
            # their number squared.
            watchers = [
                Client(address, unique_name("w"), membership=True)
                for address in dict.fromkeys(receivers)
            ]
            self._clients += watchers
            for watcher in watchers:
                watcher.join(group)
            for address in receivers:
                client = Client(address, unique_name("l"))
                self._clients.append(client)
                client.join(group)
            for watcher in watchers:
                watcher.wait_for_members(len(self._clients))
                watcher.close()
            self._clients = self._clients[len(watchers) :]
            self._source = Client(sender, unique_name("t"))
        except BaseException:
            self.close()
            raise
        body = max(body, _STAMP.size)
        self._frame = bytearray(self._source.data_frame(group, bytes(body), service))
        self._size = frame_size(body)
        self._buffers = [bytearray() for _ in self._clients]
        for number, client in enumerate(self._clients):
            client.socket.setblocking(False)
            self._poller.register(client.socket.fileno(), select.EPOLLIN)
            self._index[client.socket.fileno()] = number
        self._clients.append(self._source)

    def run(self, seconds: float) -> list[float]:
        """Seconds from the writing of each message to its arrival at each receiver.

        The next message is sent when the last one has arrived everywhere.

        Raises:
            RuntimeError: a message is missing.
            ConnectionError: a receiver was cut off.

        """
        stamp_at, size = frame_size(0), self._size
        found: list[float] = []
        begin = time.perf_counter()
        missing = sent = 0
        last = begin
        while True:
            if not missing:
                last = time.perf_counter()
                if last - begin > seconds:
                    return found
                _STAMP.pack_into(self._frame, stamp_at, sent, time.perf_counter())
                self._source.socket.sendall(self._frame)
                sent += 1
                missing = len(self._buffers)
            ready = self._poller.poll(1.0)
            if not ready and time.perf_counter() - last > _LATE:
                late = time.perf_counter() - last
                raise RuntimeError(
                    f"message {sent} has not arrived at {missing} of {len(self._buffers)} "
                    f"receivers after {late:.0f} s"
                )
            for descriptor, _ in ready:
                number = self._index[descriptor]
                data = self._clients[number].socket.recv(_READ_BYTES)
                now = time.perf_counter()
                if not data:
                    raise ConnectionError("a receiver was cut off")
                buffer = self._buffers[number]
                buffer += data
                whole = len(buffer) // size
                for position in range(whole):
                    stamp = _STAMP.unpack_from(buffer, position * size + stamp_at)[1]
                    found.append(now - stamp)
                missing -= whole
                del buffer[: whole * size]
            if missing < 0:
                raise RuntimeError("a receiver has got what was not sent to it")

    def close(self) -> None:
        """Drop the connections."""
        self._poller.close()
        for client in self._clients:
            client.close()


def percentiles(found: Sequence[float]) -> tuple[float | None, float | None]:
    """Median and 99th percentile in microseconds."""
    if not found:
        return None, None
    ordered = sorted(found)
    return (
        ordered[len(ordered) // 2] * 1e6,
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e6,
    )
