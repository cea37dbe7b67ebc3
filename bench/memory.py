"""What idle sessions and groups cost a daemon: its resident memory, taken before and after.

Every figure is taken from a daemon of its own that has just started, for memory that was
freed once is used again.  What the kernel keeps for a connection is not part of it.
"""

from __future__ import annotations

import time
from pathlib import Path

from attrs import frozen

from bench.clusters import Cluster, Kind
from bench.wire import Client, unique_name

SESSIONS = 500
GROUPS = 10_000
REST = 0.7
"""Seconds before memory is read: timers and idle work of the daemon are over."""


@frozen
class Memory:
    """One daemon, alone; KiB."""

    kind: str
    base: float
    """Resident after the start, when one client has been there."""
    session: float
    """For each idle session."""
    member: float
    """For each of the sessions that joins one and the same group, on top of it."""
    group: float
    """For each group with one member, all of them the same session's."""
    again: float
    """What the same sessions take more when all have gone and come once more, in all: nothing,
    or the memory of a session is not given back."""


def resident(pid: int) -> float:
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise RuntimeError(f"process {pid} has no resident memory")


def measure_memory(
    kind: Kind,
    options: str = "",
    sessions: int = SESSIONS,
    groups: int = GROUPS,
    rest: float = REST,
) -> Memory:
    """Take all figures of one kind.

    Raises:
        RuntimeError, OSError: the daemon did not play along.

    """
    base, session, member, again = _sessions(kind, options, sessions, rest)
    group = _groups(kind, options, groups, rest)
    return Memory(kind.name, base, session, member, group, again)


def _sessions(
    kind: Kind, options: str, count: int, rest: float
) -> tuple[float, float, float, float]:
    cluster = Cluster.start(kind, 1, options=options)
    clients: list[Client] = []
    try:
        base = _rest(cluster, rest)
        clients = _connect(cluster, count)
        connected = _rest(cluster, rest)
        _join(clients, [unique_name("g").encode()])
        joined = _rest(cluster, rest)
        for _ in range(2):
            for client in clients:
                client.close()
            cluster.settle()
            time.sleep(rest)
            clients = _connect(cluster, count)
        again = _rest(cluster, rest)
        return base, (connected - base) / count, (joined - connected) / count, again - connected
    finally:
        for client in clients:
            client.close()
        cluster.stop()


def _groups(kind: Kind, options: str, count: int, rest: float) -> float:
    cluster = Cluster.start(kind, 1, options=options)
    clients: list[Client] = []
    try:
        clients = _connect(cluster, 1)
        before = _rest(cluster, rest)
        prefix = unique_name("g")
        _join(clients, [f"{prefix}-{number}".encode() for number in range(count)])
        return (_rest(cluster, rest) - before) / count
    finally:
        for client in clients:
            client.close()
        cluster.stop()


def _connect(cluster: Cluster, count: int) -> list[Client]:
    return [Client(cluster.members[0].address, unique_name("i")) for _ in range(count)]


def _join(clients: list[Client], groups: list[bytes]) -> None:
    """Let all clients join all groups, and wait until that is done."""
    for client in clients:
        for group in groups:
            client.join(group)
    for client in clients:
        client.echo()


def _rest(cluster: Cluster, seconds: float) -> float:
    cluster.settle()
    time.sleep(seconds)
    process = cluster.members[0].process
    if process is None:
        raise RuntimeError("only the memory of daemons that were started here can be read")
    return resident(process.pid)
