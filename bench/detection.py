"""How long the survivors of a killed daemon take to tell their clients."""

from __future__ import annotations

import select
import time

from attrs import frozen

from bench.clusters import Cluster, Kind
from bench.wire import Client, unique_name
from txspread.wire.constants import ServiceType

TIMEOUTS = {
    "default": "",
    "low": "\n".join(
        f"{name}Timeout = {milliseconds}"
        for name, milliseconds in (
            ("Token", 100),
            ("Hurry", 30),
            ("Alive", 20),
            ("Join", 20),
            ("Rep", 50),
            ("Seg", 40),
            ("Gather", 100),
            ("Form", 100),
            ("Lookup", 5000),
        )
    ),
}
_LIMIT = 60.0


@frozen
class Detection:
    """One killed daemon."""

    kind: str
    daemons: int
    timeouts: str
    """``default`` or ``low``."""
    victim: int
    """Its place in the ring."""
    seconds: tuple[float, ...]
    """From the kill to the membership message, for a client of each survivor."""


def detect(kind: Kind, daemons: int, timeouts: str, victim: int, options: str = "") -> Detection:
    """Start a ring, kill one daemon, and wait for the others' membership messages.

    Raises:
        RuntimeError: they do not come within a minute.

    """
    cluster = Cluster.start(kind, daemons, options=f"{options}\n{TIMEOUTS[timeouts]}")
    clients: dict[int, Client] = {}
    try:
        group = unique_name("g").encode()
        for number, member in enumerate(cluster.members):
            clients[number] = Client(member.address, unique_name("k"), membership=True)
            clients[number].join(group)
        for client in clients.values():
            client.wait_for_members(daemons)
        process = cluster.members[victim].process
        if process is None:
            raise RuntimeError("only daemons that were started here can be killed")
        waiting = {client.socket.fileno(): client for n, client in clients.items() if n != victim}
        begin = time.perf_counter()
        process.kill()
        return Detection(kind.name, daemons, timeouts, victim, _arrivals(waiting, begin))
    finally:
        for client in clients.values():
            client.close()
        cluster.stop()


def _arrivals(waiting: dict[int, Client], begin: float) -> tuple[float, ...]:
    poller = select.epoll()
    for descriptor in waiting:
        poller.register(descriptor, select.EPOLLIN)
    found = []
    while waiting:
        left = begin + _LIMIT - time.perf_counter()
        if left <= 0:
            raise RuntimeError(f"{len(waiting)} clients have not heard of the killed daemon")
        for descriptor, _ in poller.poll(left):
            header, _ = waiting[descriptor].receive()
            if header.type & ServiceType.REG_MEMB_MESS:
                found.append(time.perf_counter() - begin)
                poller.unregister(descriptor)
                del waiting[descriptor]
    return tuple(found)
