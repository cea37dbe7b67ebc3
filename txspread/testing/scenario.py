"""Random schedules: what befalls a simulated cluster, drawn from one seed.

A run has three parts: the daemons come up under faults already; a stormy part,
in which clients join, leave, send and vanish while daemons crash, pause, restart
and the network loses, repeats, reorders and splits; and a calm part, in which
everything is repaired and the cluster has to come together again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define, field, frozen

from txspread.config.model import Configuration
from txspread.config.parsing import parse
from txspread.engine.alarms import AlarmSink
from txspread.testing.recorder import Recorder
from txspread.testing.virtual_client import VirtualClient
from txspread.testing.virtual_network import Faults, VirtualDaemon, VirtualNetwork
from txspread.wire.constants import ServiceType

SERVICES = (
    ServiceType.UNRELIABLE_MESS,
    ServiceType.RELIABLE_MESS,
    ServiceType.FIFO_MESS,
    ServiceType.CAUSAL_MESS,
    ServiceType.AGREED_MESS,
    ServiceType.AGREED_MESS,
    ServiceType.SAFE_MESS,
    ServiceType.SAFE_MESS,
)
GROUPS = (b"red", b"green", b"blue")
SETTLE_LIMIT = 150.0
"""Virtual seconds in which a repaired cluster has to come together: several times
the lookup timeout, which bounds how long two rings can fail to notice each other."""


@frozen
class Plan:
    """The shape of a schedule."""

    daemons: int = 5
    segments: int = 5
    storm: float = 20.0
    """Virtual seconds of trouble."""
    accelerated: bool = False
    clients: int = 2
    """For each daemon."""
    loss: float = 0.02
    largest: int = 20000
    """Bytes of the largest message body."""
    low_timeouts: bool = True
    """Shortened timeouts, so that a run holds more membership changes."""


def plan_for(seed: int, smallest: int = 3, largest: int = 8) -> Plan:
    """Draw the shape of the schedule of a seed."""
    draw = random.Random(f"plan/{seed}")
    daemons = draw.randint(smallest, largest)
    return Plan(
        daemons=daemons,
        segments=draw.choice([1, 2, daemons, daemons]) if daemons > 2 else daemons,
        storm=draw.uniform(5, 30),
        accelerated=draw.random() < 0.5,
        clients=draw.randint(1, 3),
        loss=draw.choice([0.0, 0.0, 0.01, 0.03, 0.1]),
        largest=draw.choice([200, 2000, 20000]),
        low_timeouts=draw.random() < 0.8,
    )


def configuration_for(plan: Plan) -> Configuration:
    """The spread.conf of a plan, read by the real parser."""
    lines: list[str] = []
    number = 0
    for segment in range(plan.segments):
        share = plan.daemons // plan.segments + (segment < plan.daemons % plan.segments)
        lines.append(f"Spread_Segment 127.{segment + 1}.0.255:4803 {{")
        for place in range(share):
            number += 1
            lines.append(f"  d{number} 127.{segment + 1}.0.{place + 1}")
        lines.append("}")
    lines.append(f"AcceleratedRing = {'true' if plan.accelerated else 'false'}")
    if plan.low_timeouts:
        times = {
            "TokenTimeout": 500,
            "HurryTimeout": 150,
            "AliveTimeout": 50,
            "JoinTimeout": 50,
            "RepTimeout": 250,
            "SegTimeout": 120,
            "GatherTimeout": 250,
            "FormTimeout": 250,
            "LookupTimeout": 3000,
        }
        lines += [f"{name} = {value}" for name, value in times.items()]
    return parse("\n".join(lines) + "\n", "simulated.conf")


@define
class Run:
    """A schedule being played."""

    seed: int
    plan: Plan
    alarms: Callable[[VirtualDaemon], AlarmSink] | None = None
    network: VirtualNetwork = field(init=False)
    recorder: Recorder = field(init=False)
    problems: list[str] = field(init=False, factory=list)
    """What went wrong besides the traced properties: liveness, contained faults."""
    _random: random.Random = field(init=False)
    _names: int = field(init=False, default=0)
    _bodies: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(f"scenario/{self.seed}")
        draw = self._random
        faults = Faults(
            loss=self.plan.loss,
            token_loss=draw.choice([0.0, 0.0, 0.02]),
            duplication=draw.choice([0.0, 0.02]),
            reordering=draw.choice([0.0, 0.05]),
        )
        self.network = VirtualNetwork(
            configuration_for(self.plan), self.seed, faults, alarms=self.alarms
        )
        self.recorder = Recorder(self.network)

    def play(self) -> None:
        """Play the whole schedule."""
        clock = self.network.clock
        for daemon in self.network.daemons.values():
            clock.after(self._random.uniform(0, 2), daemon.start)
        end = clock.now + self.plan.storm
        while clock.now < end:
            clock.run_until(clock.now + self._random.expovariate(8.0))
            self._misfortune()
        self._repair()
        self._settle()
        self._exchange()
        self._finish()

    # The storm.

    def _misfortune(self) -> None:
        draw = self._random
        what = draw.random()
        if what < 0.50:
            self._send()
        elif what < 0.64:
            self._connect()
        elif what < 0.70:
            self._vanish()
        elif what < 0.76:
            self._leave()
        elif what < 0.82:
            self._crash_or_start()
        elif what < 0.88:
            self._split_or_heal()
        elif what < 0.93:
            self._pause_or_resume()
        elif what < 0.96:
            self._slow_down()
        elif what < 0.98:
            self._step_clock()
        else:
            self._burst()

    def _daemon(self) -> VirtualDaemon:
        return self._random.choice(list(self.network.daemons.values()))

    def _client(self) -> VirtualClient | None:
        clients = self.recorder.connected()
        return self._random.choice(clients) if clients else None

    def _connect(self) -> None:
        daemon = self._daemon()
        most = self.plan.clients * self.plan.daemons
        if daemon.running and daemon.accepting and len(self.recorder.connected()) < most:
            self._names += 1
            client = self.recorder.connect(daemon, b"c%d" % self._names)
            for group in self._random.sample(GROUPS, self._random.randint(1, len(GROUPS))):
                self.network.clock.after(0.01, lambda group=group: self._join(client, group))

    @staticmethod
    def _join(client: VirtualClient, group: bytes) -> None:
        if client.private_group and not client.closed:
            client.join(group)

    def _send(self) -> None:
        client = self._client()
        if client is not None:
            self._multicast(client)

    def _multicast(self, client: VirtualClient) -> None:
        draw = self._random
        self._bodies += 1
        size = draw.choice([0, 10, 100, 1000, self.plan.largest])
        body = b"%d from %s " % (self._bodies, client.name) + b"." * draw.randint(0, size)
        groups = draw.sample(GROUPS, draw.choice([1, 1, 1, 2]))
        self.recorder.multicast(client, draw.choice(SERVICES), groups, body)

    def _burst(self) -> None:
        client = self._client()
        if client is not None:
            for _ in range(self._random.randint(5, 60)):
                self._multicast(client)

    def _vanish(self) -> None:
        client = self._client()
        if client is not None:
            self.recorder.vanish(client, politely=self._random.random() < 0.5)

    def _leave(self) -> None:
        client = self._client()
        if client is not None:
            self.recorder.leave(client, self._random.choice(GROUPS))

    def _crash_or_start(self) -> None:
        daemon = self._daemon()
        if daemon.running:
            daemon.crash()
        else:
            daemon.start()

    def _pause_or_resume(self) -> None:
        daemon = self._daemon()
        if daemon.paused:
            daemon.resume()
        elif daemon.running:
            daemon.pause()

    def _slow_down(self) -> None:
        self._daemon().service_time = self._random.choice([0.0, 0.0001, 0.001])

    def _step_clock(self) -> None:
        self._daemon().clock_error = self._random.choice([-3600, -5, 0, 5, 3600])

    def _split_or_heal(self) -> None:
        draw = self._random
        names = list(self.network.daemons)
        what = draw.random()
        if what < 0.4:
            self.network.heal()
        elif what < 0.75:
            draw.shuffle(names)
            cut = draw.randint(1, len(names) - 1)
            self.network.partition(names[:cut], names[cut:])
        else:
            self.network.cut(*draw.sample(names, 2))

    # The calm.

    def _repair(self) -> None:
        self.network.heal()
        self.network.faults = Faults()
        for daemon in self.network.daemons.values():
            daemon.service_time = 0.0
            daemon.resume()
            daemon.start()

    def _together(self) -> bool:
        nodes = [daemon.node for daemon in self.network.daemons.values()]
        ids = set()
        for node in nodes:
            if node is None or node.ring is None or node.membership_state.value != 1:
                return False
            if len(node.membership) != len(nodes) or node.groups.state.value != 1:
                return False
            ids.add(node.ring.membership.installed.id)
        return len(ids) == 1

    def _settle(self) -> None:
        if not self.network.clock.run_while(lambda: not self._together(), SETTLE_LIMIT):
            states = {
                name: (daemon.node.membership_state.name, len(daemon.node.membership))
                for name, daemon in self.network.daemons.items()
                if daemon.node is not None
            }
            self.problems.append(f"liveness: no single membership after the repair: {states}")

    def _exchange(self) -> None:
        """Everybody says something; everybody has to hear it."""
        clock = self.network.clock
        newcomers = []
        for daemon in self.network.daemons.values():
            self._names += 1
            newcomers.append(self.recorder.connect(daemon, b"n%d" % self._names))
        clock.run_until(clock.now + 1.0)
        for client in newcomers:
            self._join(client, b"everybody")
        clock.run_while(
            lambda: not all(self.recorder.sees(client, len(newcomers)) for client in newcomers),
            10.0,
        )
        bodies = []
        for client in newcomers:
            for service in (ServiceType.SAFE_MESS, ServiceType.AGREED_MESS):
                self._bodies += 1
                bodies.append(b"%d last words" % self._bodies)
                self.recorder.multicast(client, service, [b"everybody"], bodies[-1])

        def heard(client: VirtualClient) -> bool:
            return {r.body for r in client.received}.issuperset(bodies)

        if not clock.run_while(lambda: not all(heard(client) for client in newcomers), 20.0):
            deaf = [client.private_group for client in newcomers if not heard(client)]
            self.problems.append(f"liveness: no traffic after the repair at {deaf}")

    def _finish(self) -> None:
        for daemon in self.network.daemons.values():
            node = daemon.node
            if node is not None and node.faults:
                self.problems.append(f"{node.faults} internal errors in {daemon.daemon.name}")
        self.problems += self.recorder.problems
