"""The load of a soak: a bit of everything that daemons are for, all the time.

Messages of all sizes and services, to one group or several; sessions that join and
leave; visitors that come, join, send, and go with a goodbye or without one.  It is
paced and drawn from a seed, so all clusters get the same.
"""

from __future__ import annotations

import ctypes
import random
import select
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Any

from bench.generators import Generators
from bench.shapes import Address
from bench.wire import Client, unique_name
from txspread.wire.constants import ServiceType
from txspread.wire.message import encode_message

MESSAGES = 200
"""Messages a second in all."""
CHANGES = 20
"""Joins or leaves a second by sessions that stay."""
VISITS = 20
"""Sessions a second that come, and as many that go."""
_BODIES = (32, 100, 1024, 8192, 65536, 100000)
_SHARES = (40, 30, 20, 8, 1, 1)
_SERVICES = (
    ServiceType.RELIABLE_MESS,
    ServiceType.FIFO_MESS,
    ServiceType.AGREED_MESS,
    ServiceType.SAFE_MESS,
)
_GROUPS = tuple(f"soak-{number}".encode() for number in range(20))
_RESIDENTS = 5
"""Sessions at each daemon that stay."""
_VISITORS = 20
"""Visitors at a time."""
_Action = Callable[[list[Client], set[tuple[int, bytes]], deque[Client]], None]
_STEP = 0.01
_READ_BYTES = 1024 * 1024


class SoakLoad(Generators):
    """The load of one cluster, in one process.

    Args:
        addresses: of its daemons.
        seed: what is drawn.

    """

    def __init__(self, addresses: list[Address], seed: int = 1) -> None:
        super().__init__(1)
        self._addresses = addresses
        self._random = random.Random(seed)
        self._counts: Any = RawArray(ctypes.c_uint64, 4)
        self._poller = select.epoll()
        self._clients: dict[int, Client] = {}

    def start(self) -> None:
        """Connect, and go."""
        self._spawn(self._work)
        self._wait_ready(0, 1)
        self.resume()

    def counts(self) -> dict[str, int]:
        """What has been done so far."""
        names = ("messages", "changes", "visitors", "megabytes_received")
        messages, changes, visitors, received = self._counts
        return dict(zip(names, (messages, changes, visitors, received // 10**6), strict=True))

    def _connect(self, address: Address, letter: str, *, membership: bool = True) -> Client:
        client = Client(address, unique_name(letter), membership=membership)
        self._clients[client.socket.fileno()] = client
        self._poller.register(client.socket.fileno(), select.EPOLLIN)
        return client

    def _drop(self, client: Client, *, goodbye: bool) -> None:
        self._poller.unregister(client.socket.fileno())
        del self._clients[client.socket.fileno()]
        if goodbye:
            client.disconnect()
        else:
            client.close()

    def _work(self) -> None:
        residents = [
            self._connect(address, "r") for address in self._addresses for _ in range(_RESIDENTS)
        ]
        joined: set[tuple[int, bytes]] = set()
        visitors: deque[Client] = deque()
        self._ready[0] = 1
        self._wait_for_go()
        rates: dict[_Action, int] = {
            self._send: MESSAGES,
            self._change: CHANGES,
            self._visit: VISITS,
        }
        begin = time.monotonic()
        done = dict.fromkeys(rates, 0)
        while True:
            self._read()
            passed = time.monotonic() - begin
            for action, rate in rates.items():
                while done[action] < passed * rate:
                    action(residents, joined, visitors)
                    done[action] += 1
            time.sleep(_STEP)

    def _send(self, residents: list[Client], *_: object) -> None:
        draw = self._random
        body = bytes(draw.choices(_BODIES, _SHARES)[0])
        groups = draw.sample(_GROUPS, draw.choice((1, 1, 1, 3)))
        sender = draw.choice(residents)
        service = draw.choice(_SERVICES)
        sender.socket.sendall(encode_message(service, sender.private_group, groups, body))
        self._counts[0] += 1

    def _change(self, residents: list[Client], joined: set[tuple[int, bytes]], *_: object) -> None:
        number, group = self._random.randrange(len(residents)), self._random.choice(_GROUPS)
        if (number, group) in joined:
            residents[number].leave(group)
        else:
            residents[number].join(group)
        joined ^= {(number, group)}
        self._counts[1] += 1

    def _visit(
        self, _: list[Client], joined: set[tuple[int, bytes]], visitors: deque[Client]
    ) -> None:
        draw = self._random
        address, told = draw.choice(self._addresses), draw.random() < 0.5
        client = self._connect(address, "v", membership=told)
        for group in draw.sample(_GROUPS, 3):
            client.join(group)
        body = bytes(draw.choice(_BODIES[:3]))
        client.socket.sendall(client.data_frame(draw.choice(_GROUPS), body, _SERVICES[2]))
        visitors.append(client)
        if len(visitors) > _VISITORS:
            self._drop(visitors.popleft(), goodbye=draw.random() < 0.5)
        self._counts[2] += 1

    def _read(self) -> None:
        buffer = bytearray(_READ_BYTES)
        for descriptor, _ in self._poller.poll(0):
            count = self._clients[descriptor].socket.recv_into(buffer)
            if not count:
                raise ConnectionError("a session of the soak was cut off")
            self._counts[3] += count
