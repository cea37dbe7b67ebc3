"""What tests of mixed rings share: rings by pattern, clients on each daemon, faults."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import define, field

from txspread.client.messages import MembershipMessage, TransitionMessage
from txspread.testing.client_checker import check_clients
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import (
    LOW_TIMEOUTS,
    DaemonProcess,
    DaemonRing,
    txspread_command,
    upstream_command,
)
from txspread.wire.constants import ServiceType
from txspread.wire.monitor import encode_partition

LIMIT = 90.0
PATTERNS = ("ut", "tu", "utu", "tut", "ututu", "tuutt")
"""An upstream daemon for each u and one of ours for each t."""


def ring_of(
    pattern: str,
    upstream: Path,
    accelerated: str = "false",
    timeouts: dict[str, int] | None = None,
    **further: object,
) -> DaemonRing:
    """A ring of daemons of both kinds, that obeys a monitor; ``further`` lines of spread.conf."""
    commands = [
        upstream_command(upstream) if kind == "u" else txspread_command() for kind in pattern
    ]
    options = {"AcceleratedRing": accelerated, "DangerousMonitor": "true", **further}
    return DaemonRing(commands, options, {**LOW_TIMEOUTS, **(timeouts or {})})


def partition(ring: DaemonRing, components: Sequence[int]) -> None:
    """Have a monitor tell every daemon who is in whose component."""
    monitor = int.from_bytes(socket.inet_aton(ring.daemons[0].address), "big")
    request = encode_partition(components, monitor, 6543)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for daemon in ring.daemons:
            for _ in range(2):
                sender.sendto(request, (daemon.address, daemon.port))


@define
class Members:
    """One client on each daemon of a ring, all in one group."""

    ring: DaemonRing
    group: str = "everybody"
    crowd: Crowd = field(factory=Crowd)
    clients: dict[str, LiveClient] = field(factory=dict)
    """By name of the daemon."""
    _marks: dict[str, int] = field(factory=dict)

    def join(self, daemons: Iterable[DaemonProcess] | None = None) -> None:
        """Connect a client to each daemon, join, wait for a view with everybody."""
        for daemon in self.ring.daemons if daemons is None else daemons:
            client = self.crowd.connect(daemon.address, daemon.port, "member", limit=LIMIT)
            client.join(self.group)
            self.clients[daemon.name] = client
        self.wait_for_views(self.clients)

    def wait_for_views(self, names: Iterable[str]) -> None:
        """Wait until the clients of these daemons have a view of just themselves."""
        chosen = list(names)
        expected = tuple(
            self.clients[daemon.name].private_group
            for daemon in self.ring.daemons
            if daemon.name in chosen
        )

        def complete() -> bool:
            return all(self.clients[n].members(self.group) == expected for n in chosen)

        if not self.crowd.run_until(complete, LIMIT):
            views = {n: self.clients[n].members(self.group) for n in chosen}
            logs = "\n".join(f"{d.name}: {d.output()[-700:]}" for d in self.ring.daemons)
            raise AssertionError(f"wanted {expected}, views are {views}\n{logs}")

    def mark(self) -> None:
        """Forget what was told so far."""
        self._marks = {name: len(client.messages) for name, client in self.clients.items()}

    def told(self, name: str) -> list[object]:
        """What a client was told of the group since the mark, without what is its own."""
        events: list[object] = []
        for message in self.clients[name].messages[self._marks.get(name, 0) :]:
            if isinstance(message, MembershipMessage):
                if message.caused_by_network:
                    assert self.clients[name].private_group in message.vs_set
                assert message.members[message.index] == self.clients[name].private_group
                events.append(
                    (int(message.service_type), message.group_id, message.members, message.vs_sets)
                )
            elif isinstance(message, TransitionMessage):
                events.append(("transition", message.group_id))
        return events

    def all_told_the_same(self, names: Iterable[str]) -> list[object]:
        """Hold what some clients were told since the mark against each other; it."""
        chosen = list(names)
        told = {name: self.told(name) for name in chosen}
        for name in chosen[1:]:
            if told[name] != told[chosen[0]]:
                raise AssertionError(f"clients were told different things: {told}")
        return told[chosen[0]]

    def settle(self) -> None:
        """Wait until every client has what was sent before, by itself at least."""
        probes = {}
        for client in self.clients.values():
            if not client.closed:
                body = f"probe {len(client.messages)} of {client.private_group}".encode()
                probes[body] = client
                client.multicast(ServiceType.SAFE_MESS, [client.private_group], body)

        def came_back() -> bool:
            return all(
                any(message.body == body for message in reversed(client.data))
                for body, client in probes.items()
            )

        if not self.crowd.run_until(came_back, LIMIT):
            raise AssertionError("messages to oneself do not come back")

    def judge(self) -> list[str]:
        """End all connections; everything that was wrong with what was seen."""
        problems = [str(breach) for breach in check_clients(self.crowd.trace)]
        problems += self.crowd.problems
        for daemon in self.ring.daemons:
            at = (log := daemon.output()).find("internal error")
            if at >= 0:
                problems.append(f"{daemon.name}: {log[at : at + 2000]}")
            if not daemon.running:
                problems.append(f"{daemon.name} has ended: {log[-1000:]}")
        self.crowd.close()
        return problems


def formed(ring: DaemonRing) -> list[DaemonProcess]:
    """The daemons of a ring, once all are in it."""
    members = Members(ring)
    members.join()
    members.crowd.close()
    return ring.daemons
