"""A node with a host that only takes notes, and simulated rings that reload."""

from __future__ import annotations

from txspread.config import parse
from txspread.config.reloading import compare
from txspread.engine.alarms import Category
from txspread.engine.node import Channel, Node
from txspread.engine.node_interfaces import OneByOne
from txspread.testing.virtual_client import VirtualClient
from txspread.testing.virtual_network import VirtualNetwork
from txspread.wire.constants import ServiceType

GROUP = b"room"


class NotedHost(OneByOne):
    """A host for a node that is fed by hand; also its alarm sink."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.reloads = 0
        self.left: list[str] = []
        self.lines: list[tuple[Category, str]] = []

    def send_datagram(self, data, address):
        self.sent.append((data, address))

    def pause_accepting(self):
        pass

    def resume_accepting(self):
        pass

    def wall_time(self):
        return 1_700_000_000

    def leave(self, reason):
        self.left.append(reason)

    def reload(self):
        self.reloads += 1

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append((category, text % args if args else text))

    def take_lines(self, *beginnings: str) -> list[str]:
        """The lines so far that begin with one of these; all are forgotten."""
        found = [text for _, text in self.lines if text.startswith(beginnings)]
        self.lines.clear()
        return found


class Alone:
    """One node of a configuration, which hears only what a test gives it."""

    def __init__(self, text: str, name: str, **keywords) -> None:
        self.configuration = parse(text)
        self.host = NotedHost()
        self.now = 100.0
        self.node = Node(
            self.configuration,
            self.configuration.by_name[name],
            self.host,
            self.host,
            lambda: 0.5,
            self.now,
            **keywords,
        )
        self.node.start(self.now)
        self.host.lines.clear()
        self.host.sent.clear()

    def hear(self, data: bytes, channel: Channel = Channel.DATA) -> None:
        self.node.datagram(data, channel, self.now)
        self.node.end_of_turn(self.now)

    def reload(self, text: str) -> None:
        new = parse(text, previous=self.node.configuration)
        self.node.reload(compare(self.node.configuration, new, self.node.me), self.now)
        self.node.end_of_turn(self.now)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while (due := self.node.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.node.timer(self.now)
            self.node.end_of_turn(self.now)
        self.now = end


class Lines:
    """Log lines of one virtual daemon."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        if category & (Category.PRINT | Category.CONFIGURATION):
            self.lines.append(text % args if args else text)

    def starting(self, beginning: str) -> list[str]:
        return [line for line in self.lines if line.startswith(beginning)]


class SimulatedRing:
    """Daemons on a virtual network with a client each, told to reload by a test."""

    def __init__(self, text: str, seed: int = 1) -> None:
        self.logs: dict[str, Lines] = {}
        self.network = VirtualNetwork(parse(text), seed)
        self.network.alarms = lambda daemon: self.logs.setdefault(daemon.daemon.name, Lines())
        self.network.start()
        self.clients: dict[str, VirtualClient] = {}
        self.sent: dict[str, int] = {}

    @property
    def now(self) -> float:
        return self.network.clock.now

    def run(self, seconds: float) -> None:
        self.network.clock.run_until(self.now + seconds)

    def node(self, name: str):
        node = self.network.daemons[name].node
        assert node is not None
        return node

    def connect(self, *names: str) -> None:
        for name in names:
            client = VirtualClient(self.network.daemons[name], f"c{name}".encode())
            self.clients[name] = client
            self.run(0.01)
            client.join(GROUP)

    def write(self, text: str) -> None:
        """Put another file in the daemons' place; each reads it when told to."""
        previous = self.network.configuration
        self.network.reconfigure(parse(text, previous=previous))

    def reload(self, *names: str) -> None:
        for name in names:
            self.network.daemons[name].reload()

    def say(self, *names: str, service: int = ServiceType.AGREED_MESS) -> None:
        """Each of these clients sends one message to the group."""
        for name in names:
            number = self.sent[name] = self.sent.get(name, 0) + 1
            self.clients[name].multicast(service, [GROUP], b"%s %d" % (name.encode(), number))

    def rings(self) -> set[tuple[str, ...]]:
        """The rings that the running daemons believe in."""
        return {
            tuple(self.node(name).history.changes[-1].members)
            for name, daemon in self.network.daemons.items()
            if daemon.node is not None and daemon.node.history.changes
        }

    def bodies(self, name: str) -> list[bytes]:
        """Messages that a client got."""
        return [m.body for m in self.clients[name].received if not m.is_membership]

    def views(self, name: str) -> list[tuple[bytes, ...]]:
        """Members of each view that a client got."""
        return [m.groups for m in self.clients[name].received if m.is_view]
