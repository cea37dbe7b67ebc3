"""Load generators: processes that send, receive and take the time.

A sender writes batches that were encoded before the measurement; a receiver
counts bytes, for all frames of a run have one size.  Counters lie in shared
memory, where the measuring process samples them, so that nothing is reported
while the clock runs.  A sender holds at most a window of messages that the
slowest receiver has not counted: no queue in a daemon grows without bound, and
no receiver is cut off for being slow.
"""

from __future__ import annotations

import ctypes
import select
import time
from multiprocessing.sharedctypes import RawArray
from typing import Any

from bench.generators import Generators
from bench.shapes import Address
from bench.wire import Client, frame_size, unique_name

_BATCH_BYTES = 128 * 1024
_READ_BYTES = 1024 * 1024
_PAUSE = 0.0002
"""Seconds between two readings of a receiver: a daemon that writes each message by
itself should not pay for waking a receiver up each time."""


def window(body: int) -> int:
    """Messages that may be under way at a time."""
    return max(24, min(4000, 2_000_000 // frame_size(body)))


class Load(Generators):
    """Senders and receivers of one run, each daemon's in processes of their own.

    Args:
        senders: where each sender connects.
        receivers: where each receiver connects.
        body: bytes of each message's body.
        service: service type bit.
        rate: messages a second of all senders together; None: as fast as it goes.

    """

    def __init__(
        self,
        senders: list[Address],
        receivers: list[Address],
        body: int,
        service: int,
        rate: float | None = None,
    ) -> None:
        super().__init__(len(senders) + len(receivers))
        self.body = body
        self._rate = None if rate is None else rate / len(senders)
        self._senders = senders
        self._receivers = receivers
        self._sent: Any = RawArray(ctypes.c_uint64, len(senders))
        self._received: Any = RawArray(ctypes.c_uint64, len(receivers))
        self._service = service
        # A group of its own: what an earlier run has left under way stays out of the count.
        self._group = unique_name("b").encode()

    def start(self) -> None:
        """Connect and join everything, then let the senders begin."""
        self.prepare()
        self.resume()

    def prepare(self) -> None:
        """Connect and join everything; the senders wait for ``resume``."""
        by_daemon: dict[Address, list[int]] = {}
        for number, address in enumerate(self._receivers):
            by_daemon.setdefault(address, []).append(number)
        for address, numbers in by_daemon.items():
            self._spawn(self._receive, address, numbers)
        self._wait_ready(len(self._senders), len(self._ready))
        for number, address in enumerate(self._senders):
            self._spawn(self._send, address, number)
        self._wait_ready(0, len(self._senders))

    def received(self) -> int:
        """Messages received so far by all receivers."""
        return sum(self._received)

    def sent(self) -> int:
        """Messages sent so far by all senders."""
        return sum(self._sent)

    def _send(self, address: Address, number: int) -> None:
        client = Client(address, unique_name("s"))
        frame = client.data_frame(self._group, bytes(self.body), self._service)
        most = window(self.body) // max(1, len(self._senders))
        count = max(1, min(most // 4, _BATCH_BYTES // len(frame)))
        if self._rate is not None:
            # Even pacing: a thousand batches a second at most.
            count = max(1, min(count, int(self._rate / 1000)))
        batch = frame * count
        client.socket.settimeout(None)
        self._ready[number] = 1
        self._wait_for_go()
        sent, share = 0, len(self._senders)
        received = self._received
        send = client.socket.sendall
        begin, first, go = time.perf_counter(), 0, self._go
        while True:
            if not go[0]:
                self._wait_for_go()
                begin, first = time.perf_counter(), sent
            if self._rate is not None:
                ahead = begin + (sent - first) / self._rate - time.perf_counter()
                if ahead > 0:
                    time.sleep(ahead)
            while sent + count - min(received) // share > most:
                time.sleep(_PAUSE)
            send(batch)
            sent += count
            self._sent[number] = sent

    def _receive(self, address: Address, numbers: list[int]) -> None:
        size = frame_size(self.body)
        poller = select.epoll()
        clients: dict[int, tuple[Client, int]] = {}
        totals = dict.fromkeys(numbers, 0)
        watcher = Client(address, unique_name("w"), membership=True)
        watcher.join(self._group)
        for number in numbers:
            client = Client(address, unique_name("r"))
            client.join(self._group)
            clients[client.socket.fileno()] = client, number
            poller.register(client.socket.fileno(), select.EPOLLIN)
        # The last join of this daemon has been ordered when the watcher sees it.
        last = next(reversed(clients.values()))[0].private_group
        while True:
            header, frame = watcher.receive()
            if last in frame[48 : 48 + 32 * header.num_groups]:
                break
        watcher.close()
        for number in numbers:
            self._ready[len(self._senders) + number] = 1
        buffer = memoryview(bytearray(_READ_BYTES))
        received = self._received
        while True:
            for descriptor, _ in poller.poll():
                client, number = clients[descriptor]
                count = client.socket.recv_into(buffer)
                if not count:
                    raise ConnectionError(f"receiver {number} was cut off")
                totals[number] += count
                received[number] = totals[number] // size
            time.sleep(_PAUSE)
