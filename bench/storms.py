"""Storms of joins and leaves: how many changes of groups the daemons get through.

At every daemon some sessions join all groups in turn and then leave them all in turn,
over and over, as fast as the daemons take it, and get all the membership messages that
members get.  A watcher at every daemon is in all the groups the whole time and counts
the membership messages: a change is done when every watcher has been told.  The
sessions wait for the slowest watcher once a window of changes is under way, so no queue
grows without bound and both kinds of daemons bear the same load.
"""

from __future__ import annotations

import ctypes
import select
import time
from multiprocessing.sharedctypes import RawArray
from typing import Any

from bench.clusters import Cluster
from bench.generators import Generators
from bench.metering import meter
from bench.shapes import Address, Result, Storm
from bench.wire import Client, frame_size, unique_name
from txspread.wire.constants import JOIN_MESS, LEAVE_MESS, MESSAGE_HEADER_SIZE, ServiceType
from txspread.wire.message import HEADER_LE, encode_message

SESSIONS = 4
"""That join and leave, at each daemon."""
_WINDOW = 512
"""Changes that may be under way at a time, in all."""
_CHUNK = 32
"""Requests that are written at once, at most."""
_READ_BYTES = 1024 * 1024
_PAUSE = 0.0002
_WARM_UP = 0.5


class StormLoad(Generators):
    """The sessions and watchers of one storm, each daemon's in processes of their own.

    Args:
        addresses: of the daemons.
        groups: how many groups are joined and left.
        sessions: that do so, at each daemon.

    """

    def __init__(self, addresses: list[Address], groups: int, sessions: int = SESSIONS) -> None:
        super().__init__(2 * len(addresses))
        self._addresses = addresses
        self._sessions = sessions
        prefix = unique_name("g")
        self._groups = [f"{prefix}-{number}".encode() for number in range(groups)]
        self._seen: Any = RawArray(ctypes.c_uint64, len(addresses))

    def start(self) -> None:
        """Connect, let the watchers join, then let the storm begin."""
        count = len(self._addresses)
        for number, address in enumerate(self._addresses):
            self._spawn(self._watch, address, number)
        self._wait_ready(0, count)
        for number, address in enumerate(self._addresses):
            self._spawn(self._storm, address, count + number)
        self._wait_ready(count, 2 * count)
        self.resume()

    def changes(self) -> float:
        """Changes that watchers have been told of so far, the mean over the watchers."""
        return float(sum(self._seen)) / len(self._addresses)

    def _watch(self, address: Address, number: int) -> None:
        client = Client(address, unique_name("w"), membership=True)
        for group in self._groups:
            client.join(group)
        # All watchers join the last group last: nothing of theirs comes after this.
        last = self._groups[-1]
        while True:
            header, _ = client.receive()
            if (
                header.sender == last
                and header.type & ServiceType.REG_MEMB_MESS
                and header.num_groups == len(self._addresses)
            ):
                break
        self._ready[number] = 1
        client.socket.settimeout(None)
        counter, seen = FrameCounter(), self._seen
        while True:
            data = client.socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("a watcher was cut off")
            seen[number] = counter.feed(data)
            time.sleep(_PAUSE)

    def _storm(self, address: Address, part: int) -> None:
        clients = [
            Client(address, unique_name("j"), membership=True) for _ in range(self._sessions)
        ]
        requests = [
            (client, kind, group)
            for kind in (JOIN_MESS, LEAVE_MESS)
            for client in clients
            for group in self._groups
        ]
        share = len(self._addresses)
        most = _WINDOW // share
        chunks = _chunks(requests, max(1, min(_CHUNK, most // 4)))
        poller = select.poll()
        for client in clients:
            poller.register(client.socket, select.POLLIN)
        by_descriptor = {client.socket.fileno(): client.socket for client in clients}
        buffer = bytearray(_READ_BYTES)
        self._ready[part] = 1
        self._wait_for_go()
        sent, seen = 0, self._seen
        while True:
            for client, count, data in chunks:
                while True:
                    for descriptor, _ in poller.poll(0):
                        # A member has to take its membership messages; nobody looks at them.
                        if not by_descriptor[descriptor].recv_into(buffer):
                            raise ConnectionError("a session of the storm was cut off")
                    if sent + count - min(seen) // share <= most:
                        break
                    time.sleep(_PAUSE)
                client.socket.sendall(data)
                sent += count


def _chunks(
    requests: list[tuple[Client, int, bytes]], most: int
) -> list[tuple[Client, int, bytes]]:
    """Neighbouring requests of one session joined into writes: session, requests, bytes."""
    chunks: list[tuple[Client, int, bytes]] = []
    for client, kind, group in requests:
        data = encode_message(kind, client.private_group, [group])
        if chunks and chunks[-1][0] is client and chunks[-1][1] < most:
            _, count, before = chunks.pop()
            chunks.append((client, count + 1, before + data))
        else:
            chunks.append((client, 1, data))
    return chunks


class FrameCounter:
    """Counts whole frames of any size in a stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._count = 0

    def feed(self, data: bytes) -> int:
        """Take what has been read; frames so far."""
        data = self._rest + data
        unpack, length, position = HEADER_LE.unpack_from, len(data), 0
        while position + MESSAGE_HEADER_SIZE <= length:
            _, _, groups, _, body = unpack(data, position)
            end = position + frame_size(body, groups)
            if end > length:
                break
            position = end
            self._count += 1
        self._rest = data[position:]
        return self._count


def measure_storm(cluster: Cluster, storm: Storm, seconds: float) -> Result:
    """Take one measurement of a storm.

    Raises:
        RuntimeError, OSError: the daemon or a generator did not play along.

    """
    load = StormLoad([member.address for member in cluster.members], storm.groups)
    return meter(cluster, load, load.changes, 1, _WARM_UP, seconds)
