"""How long a message takes: one probe for each cluster, used in short slices in turn.

Where the kernel says when a message arrived at the receiver's socket, that is what
counts, so that neither the probe's own work nor its waiting for a core is measured
as the daemons'.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence

from bench.shapes import Address
from bench.wire import Client, frame_size, unique_name

_STAMP = struct.Struct("<QQ")
"""Number of a message, and when it was written: nanoseconds of the wall clock."""
_TIMESTAMPS = 35
"""``SO_TIMESTAMPNS`` of Linux: the control message has a ``struct timespec``."""
_TIMESPEC = struct.Struct("@qq")
_CONTROL_BYTES = 64
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
            with contextlib.suppress(OSError):
                client.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
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
                _STAMP.pack_into(self._frame, stamp_at, sent, time.time_ns())
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
                data, control, _, _ = self._clients[number].socket.recvmsg(
                    _READ_BYTES, _CONTROL_BYTES
                )
                now = _arrival(control)
                if not data:
                    raise ConnectionError("a receiver was cut off")
                buffer = self._buffers[number]
                buffer += data
                whole = len(buffer) // size
                for position in range(whole):
                    stamp = _STAMP.unpack_from(buffer, position * size + stamp_at)[1]
                    found.append((now - stamp) / 1e9)
                missing -= whole
                del buffer[: whole * size]
            if missing < 0:
                raise RuntimeError("a receiver has got what was not sent to it")

    def close(self) -> None:
        """Drop the connections."""
        self._poller.close()
        for client in self._clients:
            client.close()


def _arrival(control: Sequence[tuple[int, int, bytes]]) -> int:
    """When the last of what was read came to the socket; nanoseconds of the wall clock."""
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == _TIMESTAMPS and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            if seconds:
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def percentiles(found: Sequence[float]) -> tuple[float | None, float | None]:
    """Median and 99th percentile in microseconds."""
    if not found:
        return None, None
    ordered = sorted(found)
    return (
        ordered[len(ordered) // 2] * 1e6,
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e6,
    )
