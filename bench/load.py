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
import multiprocessing
import os
import select
import signal
import struct
import time
import traceback
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import RawArray
from typing import Any

from bench.wire import Client, frame_size, unique_name

GROUP = b"bench"
_CONTEXT = multiprocessing.get_context("fork")
_BATCH_BYTES = 128 * 1024
_READ_BYTES = 1024 * 1024
_PAUSE = 0.0002
"""Seconds between two readings of a receiver: a daemon that writes each message by
itself should not pay for waking a receiver up each time."""
_STAMP = struct.Struct("<Qd")

Address = tuple[str, int]


def window(body: int) -> int:
    """Messages that may be under way at a time."""
    return max(24, min(4000, 2_000_000 // frame_size(body)))


class Load:
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
        self.body = body
        self._rate = None if rate is None else rate / len(senders)
        self._senders = senders
        self._receivers = receivers
        self._sent: Any = RawArray(ctypes.c_uint64, len(senders))
        self._received: Any = RawArray(ctypes.c_uint64, len(receivers))
        self._ready: Any = RawArray(ctypes.c_uint64, len(senders) + len(receivers))
        self._go: Any = RawArray(ctypes.c_uint64, 1)
        self._service = service
        self._processes: list[ForkProcess] = []

    def start(self) -> None:
        """Connect and join everything, then let the senders begin."""
        by_daemon: dict[Address, list[int]] = {}
        for number, address in enumerate(self._receivers):
            by_daemon.setdefault(address, []).append(number)
        for address, numbers in by_daemon.items():
            self._spawn(self._receive, address, numbers)
        self._wait_ready(len(self._senders), len(self._ready))
        for number, address in enumerate(self._senders):
            self._spawn(self._send, address, number)
        self._wait_ready(0, len(self._senders))
        self._go[0] = 1

    def _spawn(self, function: Any, *arguments: Any) -> None:
        process = _CONTEXT.Process(target=_run, args=(function, *arguments), daemon=True)
        process.start()
        self._processes.append(process)

    def _wait_ready(self, first: int, last: int) -> None:
        deadline = time.monotonic() + 30
        while not all(self._ready[first:last]):
            if time.monotonic() > deadline or any(p.exitcode for p in self._processes):
                self.stop()
                raise RuntimeError("a load generator could not connect")
            time.sleep(0.005)

    def received(self) -> int:
        """Messages received so far by all receivers."""
        return sum(self._received)

    def sent(self) -> int:
        """Messages sent so far by all senders."""
        return sum(self._sent)

    def pids(self) -> list[int]:
        """Processes of the load."""
        return [process.pid for process in self._processes if process.pid is not None]

    def failed(self) -> bool:
        """Whether a generator has ended, for instance because it was cut off."""
        return any(process.exitcode is not None for process in self._processes)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _send(self, address: Address, number: int) -> None:
        client = Client(address, unique_name("s"))
        frame = client.data_frame(GROUP, bytes(self.body), self._service)
        most = window(self.body) // max(1, len(self._senders))
        count = max(1, min(most // 4, _BATCH_BYTES // len(frame)))
        if self._rate is not None:
            # Even pacing: a thousand batches a second at most.
            count = max(1, min(count, int(self._rate / 1000)))
        batch = frame * count
        client.socket.settimeout(None)
        self._ready[number] = 1
        while not self._go[0]:
            time.sleep(0.001)
        sent, share = 0, len(self._senders)
        received = self._received
        send = client.socket.sendall
        begin = time.perf_counter()
        while True:
            if self._rate is not None:
                ahead = begin + sent / self._rate - time.perf_counter()
                if ahead > 0:
                    time.sleep(ahead)
            while sent + count - min(received) // share > most:
                time.sleep(0.0002)
            send(batch)
            sent += count
            self._sent[number] = sent

    def _receive(self, address: Address, numbers: list[int]) -> None:
        size = frame_size(self.body)
        poller = select.epoll()
        clients: dict[int, tuple[Client, int]] = {}
        totals = dict.fromkeys(numbers, 0)
        watcher = Client(address, unique_name("w"), membership=True)
        watcher.join(GROUP)
        for number in numbers:
            client = Client(address, unique_name("r"))
            client.join(GROUP)
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


def _run(function: Any, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def latencies(
    sender: Address, receivers: list[Address], body: int, service: int, seconds: float
) -> list[float]:
    """Seconds from the writing of a message to its arrival, for each receiver.

    One process does it all, so there is one clock.  The next message is sent when the
    last one has arrived everywhere.
    """
    clients = []
    for address in receivers:
        client = Client(address, unique_name("l"), membership=True)
        client.join(b"latency")
        clients.append(client)
    for client in clients:
        client.wait_for_members(len(clients))
    source = Client(sender, unique_name("t"))
    body = max(body, _STAMP.size)
    frame = bytearray(source.data_frame(b"latency", bytes(body), service))
    stamp_at = frame_size(0)
    size = frame_size(body)
    buffers = [bytearray() for _ in clients]
    poller = select.epoll()
    index = {}
    for number, client in enumerate(clients):
        client.socket.setblocking(False)
        poller.register(client.socket.fileno(), select.EPOLLIN)
        index[client.socket.fileno()] = number
    found: list[float] = []
    begin = time.perf_counter()
    sent = arrived = 0
    while True:
        now = time.perf_counter()
        if now - begin > seconds and arrived == sent * len(clients):
            break
        if now - begin > seconds + 5:
            raise RuntimeError("messages are missing")
        if arrived == sent * len(clients):
            _STAMP.pack_into(frame, stamp_at, sent, time.perf_counter())
            source.socket.sendall(frame)
            sent += 1
        for descriptor, _ in poller.poll(1.0):
            number = index[descriptor]
            data = clients[number].socket.recv(_READ_BYTES)
            now = time.perf_counter()
            if not data:
                raise ConnectionError("a receiver was cut off")
            buffers[number] += data
            whole = len(buffers[number]) // size
            for position in range(whole):
                found.append(
                    now - _STAMP.unpack_from(buffers[number], position * size + stamp_at)[1]
                )
            arrived += whole
            del buffers[number][: whole * size]
    for client in [*clients, source]:
        client.close()
    return found
