"""Trouble for a ring of real daemons, with clients whose histories are checked.

The same play serves rings of our daemons alone (in the tests) and mixed ones.
"""

from __future__ import annotations

import random
import time

from attrs import define, field

from txspread.testing.client_checker import check_clients
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import DaemonProcess, DaemonRing
from txspread.wire.constants import ServiceType

SERVICES = (
    ServiceType.RELIABLE_MESS,
    ServiceType.FIFO_MESS,
    ServiceType.CAUSAL_MESS,
    ServiceType.AGREED_MESS,
    ServiceType.SAFE_MESS,
)
GROUPS = ("red", "green", "blue")


@define
class Chaos:
    """Clients that talk on a ring whose daemons are killed, paused and restarted."""

    ring: DaemonRing
    seed: int = 1
    largest: int = 20000
    """Bytes of the largest body."""
    clients_each: int = 2
    crowd: Crowd = field(init=False, factory=Crowd)
    problems: list[str] = field(init=False, factory=list)
    _random: random.Random = field(init=False)
    _down: set[str] = field(init=False, factory=set)
    _paused: dict[str, float] = field(init=False, factory=dict)
    _served: dict[str, object] = field(init=False, factory=dict)
    """The process of each upstream daemon that has its clients."""
    _bodies: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def play(self, seconds: float) -> list[str]:
        """Make trouble for a while, repair, and return everything that was wrong."""
        end = time.monotonic() + seconds
        trouble = time.monotonic() + 2.0
        while time.monotonic() < end:
            self.populate()
            self.talk()
            self.crowd.run(0.02)
            self._let_go()
            if time.monotonic() > trouble:
                self._misfortune()
                trouble = time.monotonic() + self._random.uniform(0.3, 2.0)
        self.repair()
        self.last_words()
        return self.verdict()

    def populate(self) -> None:
        """Give each running daemon its clients.

        Upstream's daemon knows the local members of a group by their socket numbers.
        A client that connects while the KILL of an earlier one is still on its way can
        get its number, and with it that one's messages and views.  So a daemon of
        upstream gets all its clients when it has started, and none in place of those
        that go.
        """
        for daemon in self.ring.daemons:
            if daemon.name in self._down or daemon.name in self._paused:
                continue
            here = [
                c for c in self.crowd.connected() if c.private_group.endswith(f"#{daemon.name}")
            ]
            missing = self.clients_each - len(here)
            if daemon.is_upstream:
                if self._served.get(daemon.name) is daemon.process:
                    continue
                self._served[daemon.name] = daemon.process
            for _ in range(missing):
                client = self._connect(daemon)
                if client is not None:
                    for group in self._random.sample(GROUPS, self._random.randint(1, 3)):
                        client.join(group)

    def talk(self) -> None:
        """Let somebody say something."""
        clients = self.crowd.connected()
        if clients:
            client = self._random.choice(clients)
            for _ in range(self._random.choice([1, 1, 5, 30])):
                if client.closed:
                    break
                size = self._random.choice([0, 50, 500, 1500, self.largest])
                self._bodies += 1
                body = b"%d " % self._bodies + b"." * self._random.randint(0, size)
                groups = self._random.sample(GROUPS, self._random.choice([1, 1, 2]))
                client.multicast(self._random.choice(SERVICES), groups, body)

    def repair(self) -> None:
        """Bring every daemon back."""
        for daemon in self.ring.daemons:
            daemon.resume()
        self._paused.clear()
        for daemon in self.ring.daemons:
            if not daemon.running:
                if daemon.name not in self._down:
                    self.problems.append(
                        f"{daemon.name} ended by itself: {daemon.output()[-1500:]}"
                    )
                self.ring.start([daemon])
        self._down.clear()

    def last_words(self, limit: float = 120.0) -> None:
        """Everybody joins one group, says something, and has to hear all others."""
        newcomers = []
        for daemon in self.ring.daemons:
            client = self._connect(daemon, limit)
            if client is not None:
                client.join("everybody")
                newcomers.append(client)
        count = len(self.ring.daemons)
        if not self.crowd.run_until(
            lambda: all(len(c.members("everybody")) == count for c in newcomers), limit
        ):
            views = {c.private_group: len(c.members("everybody")) for c in newcomers}
            self.problems.append(f"no common view after the repair: {views} of {count}")
            return
        bodies = set()
        for client in newcomers:
            for service in (ServiceType.SAFE_MESS, ServiceType.AGREED_MESS):
                self._bodies += 1
                bodies.add(b"%d last words" % self._bodies)
                client.multicast(service, ["everybody"], b"%d last words" % self._bodies)
        if not self.crowd.run_until(
            lambda: all(bodies <= {m.body for m in c.data} for c in newcomers), limit
        ):
            self.problems.append("last words were not heard by everybody")
        self.crowd.run(0.5)

    def verdict(self) -> list[str]:
        """Everything that was wrong."""
        breaches = [str(breach) for breach in check_clients(self.crowd.trace)]
        self.crowd.close()
        return self.problems + self.crowd.problems + breaches

    def _connect(self, daemon: DaemonProcess, limit: float = 30.0) -> LiveClient | None:
        try:
            return self.crowd.connect(daemon.address, daemon.port, limit=limit)
        except OSError as error:
            if daemon.running and daemon.name not in self._paused:
                self.problems.append(f"{daemon.name} did not take a client: {error}")
            return None

    def _let_go(self) -> None:
        for daemon in self.ring.daemons:
            if self._paused.get(daemon.name, float("inf")) < time.monotonic():
                del self._paused[daemon.name]
                daemon.resume()

    def _misfortune(self) -> None:
        daemon = self._random.choice(self.ring.daemons)
        what = self._random.random()
        if daemon.name in self._down:
            self._down.discard(daemon.name)
            self.ring.start([daemon])
        elif daemon.name in self._paused:
            return
        elif not daemon.running:
            self.problems.append(f"{daemon.name} ended by itself: {daemon.output()[-1500:]}")
            self._down.add(daemon.name)
        elif what < 0.4:
            self._down.add(daemon.name)
            daemon.kill()
        elif what < 0.75:
            daemon.pause()
            self._paused[daemon.name] = time.monotonic() + self._random.choice([0.2, 0.8, 3.0])
        else:
            clients = [client for client in self.crowd.connected() if self._may_go(client)]
            if clients:
                client = self._random.choice(clients)
                client.disconnect() if what < 0.9 else client.drop()

    def _may_go(self, client: LiveClient) -> bool:
        """Whether nobody can inherit the client's messages; see :meth:`populate`."""
        name = client.private_group.rpartition("#")[2]
        return not any(d.name == name and d.is_upstream for d in self.ring.daemons)
