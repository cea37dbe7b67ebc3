"""Random schedules: what befalls a simulated cluster, drawn from one seed.

A run has three parts: the daemons come up under faults already; a stormy part,
in which clients join, leave, send and vanish while daemons crash, pause, restart
and the network loses, repeats, reorders and splits; and a calm part, in which
everything is repaired and the cluster has to come together again.

What a run leaves is a trace for the checker and a list of *problems*: what went
wrong besides the traced properties (no single membership within the bound, no
traffic, internal errors, replicas that differ, clients cut off for nothing).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define, field

from txspread.engine.alarms import AlarmSink
from txspread.engine.membership.avoidance import PERIOD
from txspread.engine.node import Node
from txspread.engine.ring_interfaces import MembershipState
from txspread.testing.plan import Plan, configuration_for
from txspread.testing.recorder import Recorder
from txspread.testing.snares import KINDS, Snare, Snares
from txspread.testing.virtual_client import VirtualClient
from txspread.testing.virtual_network import Faults, VirtualDaemon, VirtualNetwork
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import MembershipId

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
IMPOSSIBLE = (
    "sequence_errors",
    "malformed_packets",
    "malformed_tokens",
    "stranger_packets",
    "illegal_requests",
    "refused_messages",
    "invariant_breaches",
)
"""Counters of the ring that stay 0 among correct daemons, whatever the network does."""
GOP = 1
"""Number of the groups layer's normal state."""


def settling_bound(network: VirtualNetwork) -> float:
    """Virtual seconds within which a repaired cluster has to be one ring.

    Two rings can fail to notice each other for a lookup timeout; what meets then may
    find some daemon just gathering or forming, which costs an attempt.  Three rounds
    of that are allowed for, after the time for which a daemon does not hear another
    that it could not form a ring with.
    """
    times = network.configuration.timeouts
    attempt = times.seg + times.gather + times.form
    rounds = PERIOD + 3
    return times.token + rounds * times.lookup + 3 * (times.gather + attempt)


@define
class Run:
    """A schedule being played."""

    seed: int
    plan: Plan
    alarms: Callable[[VirtualDaemon], AlarmSink] | None = None
    network: VirtualNetwork = field(init=False)
    recorder: Recorder = field(init=False)
    snares: Snares = field(init=False)
    problems: list[str] = field(init=False, factory=list)
    """What went wrong besides the traced properties."""
    settled_after: float = field(init=False, default=0.0)
    """Virtual seconds from the repair to one membership."""
    _random: random.Random = field(init=False)
    _answering: random.Random = field(init=False)
    _groups: tuple[bytes, ...] = field(init=False)
    _names: int = field(init=False, default=0)
    _bodies: int = field(init=False, default=0)
    _storm: bool = field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        self._random = random.Random(f"scenario/{self.seed}")
        self._answering = random.Random(f"answers/{self.seed}")
        self._groups = tuple(b"group-%d" % number for number in range(plan.groups))
        faults = Faults(
            loss=plan.loss,
            token_loss=plan.token_loss,
            duplication=plan.duplication,
            reordering=plan.reordering,
        )
        self.network = VirtualNetwork(
            configuration_for(plan), self.seed, faults, alarms=self.alarms
        )
        self.recorder = Recorder(self.network, self._answer)
        self.snares = Snares(self.network)
        for daemon in self.network.daemons.values():
            daemon.on_crash.append(self._crashed)
            daemon.on_start.append(self._started)

    def play(self) -> None:
        """Play the whole schedule."""
        clock = self.network.clock
        for daemon in self.network.daemons.values():
            clock.after(self._random.uniform(0, 2), daemon.start)
        end = clock.now + self.plan.storm
        happens: dict[str, Callable[[], None]] = {
            "send": self._send,
            "burst": self._burst,
            "connect": self._connect,
            "vanish": self._vanish,
            "leave": self._leave,
            "crash": self._crash_or_start,
            "die": self._die_soon,
            "split": self._split_or_heal,
            "pause": self._pause_or_resume,
            "slow": self._slow_down,
            "clock": self._step_clock,
            "snare": self._lay_snare,
            "hole": self._dig_hole,
            "ambush": self._lay_ambush,
            "read": self._read_or_not,
        }
        kinds, shares = list(self.plan.shares), list(self.plan.shares.values())
        while clock.now < end:
            clock.run_until(clock.now + self._random.expovariate(self.plan.rate))
            happens[self._random.choices(kinds, shares)[0]]()
        self._repair()
        if self._settle():
            self._exchange()
        self._finish()

    # The storm.

    def _daemon(self) -> VirtualDaemon:
        return self._random.choice(list(self.network.daemons.values()))

    def _client(self) -> VirtualClient | None:
        clients = self.recorder.connected()
        return self._random.choice(clients) if clients else None

    def _started(self, daemon: VirtualDaemon) -> None:
        """A daemon has come up: before long it has a client."""
        if self._storm:
            self.network.clock.after(0.1, lambda: self._connect_to(daemon))

    def _connect(self) -> None:
        self._connect_to(self._daemon())

    def _connect_to(self, daemon: VirtualDaemon) -> None:
        most = self.plan.clients * self.plan.daemons
        if not daemon.running or daemon.paused or not daemon.accepting:
            return
        if not self._storm or len(self.recorder.connected()) >= most:
            return
        self._names += 1
        client = self.recorder.connect(daemon, b"c%d" % self._names)
        wanted = min(len(self._groups), self._random.choice([1, 2, 3, 10]))
        groups = self._random.sample(self._groups, wanted)
        self.network.clock.after(0.01, lambda: self._join(client, groups))

    @staticmethod
    def _join(client: VirtualClient, groups: list[bytes]) -> None:
        if client.private_group and not client.closed:
            for group in groups:
                client.join(group)

    def _send(self) -> None:
        client = self._client()
        if client is not None:
            self._multicast(client, self._random)

    def _multicast(self, client: VirtualClient, draw: random.Random) -> None:
        self._bodies += 1
        size = draw.choice([0, 10, 100, 1000, self.plan.largest])
        body = b"%d from %s " % (self._bodies, client.name) + b"." * draw.randint(0, size)
        wanted = min(len(self._groups), draw.choice([1, 1, 1, 2]))
        groups = draw.sample(self._groups, wanted)
        if draw.random() < 0.05:
            groups.append(draw.choice(self.recorder.connected()).private_group)
        self.recorder.multicast(client, draw.choice(SERVICES), groups, body)

    def _answer(self, client: VirtualClient) -> None:
        """A client has got a message: now and then it says something to that."""
        answers = self.plan.answers
        if answers and self._storm and self._answering.random() < answers and not client.closed:
            self._multicast(client, self._answering)

    def _burst(self) -> None:
        """Many messages at once, or one after the other while other things happen."""
        client = self._client()
        if client is None:
            return
        spacing = self._random.choice([0.0, 0.0, 0.0003, 0.003])
        for number in range(self._random.randint(5, 60)):
            if spacing:
                self.network.clock.after(number * spacing, lambda: self._say(client))
            else:
                self._multicast(client, self._random)

    def _say(self, client: VirtualClient) -> None:
        if self._storm and client in self.recorder.connected():
            self._multicast(client, self._answering)

    def _vanish(self) -> None:
        client = self._client()
        if client is not None:
            self.recorder.vanish(client, politely=self._random.random() < 0.5)

    def _leave(self) -> None:
        client = self._client()
        if client is not None:
            self.recorder.leave(client, self._random.choice(self._groups))

    def _read_or_not(self) -> None:
        client = self._client()
        if client is None:
            return
        if client.reading:
            self.recorder.stop_reading(client)
        else:
            client.read_again()

    def _crash_or_start(self) -> None:
        daemon = self._daemon()
        if not daemon.running:
            daemon.start()
            return
        daemon.crash()
        if self._random.random() < 0.3:
            self.network.clock.after(self._random.uniform(0, 0.3), daemon.start)

    def _die_soon(self) -> None:
        """Crash in the middle of something, for instance between two datagrams of FORM2."""
        daemon = self._daemon()
        if daemon.running:
            daemon.dies_after = self._random.choice([1, 2, 3, 5, 8, 20, 50])

    def _pause_or_resume(self) -> None:
        daemon = self._daemon()
        if daemon.paused:
            daemon.resume()
        elif daemon.running:
            daemon.pause()
            if self._random.random() < 0.5:
                self.network.clock.after(self._random.uniform(0, 1.5), daemon.resume)

    def _slow_down(self) -> None:
        self._daemon().service_time = self._random.choice([0.0, 0.0, 0.0001, 0.001, 0.003])

    def _step_clock(self) -> None:
        self._daemon().clock_error = self._random.choice([-3600, -5, -1, 0, 1, 5, 3600])

    def _lay_snare(self) -> None:
        draw = self._random
        names = [None, *self.network.daemons]
        self.snares.lay(
            Snare(
                draw.choice(KINDS),
                draw.choice([1, 2, 4, 15]),
                draw.choice(names),
                draw.choice(names),
            )
        )

    def _dig_hole(self) -> None:
        """Take a daemon away of whose last packets some are lost and others are not.

        If nobody has a packet that came before others, the daemons that are left have
        to agree on what may still be delivered behind it.
        """
        draw = self._random
        clients = self.recorder.connected()
        if not clients:
            return
        talker = draw.choice(clients)
        victim = talker.daemon
        others = draw.sample(clients, min(len(clients), 3))
        after = self.network.clock.after
        for number in range(draw.randint(5, 40)):
            after(number * 0.0003, lambda: self._say(draw.choice(others)))
        for _ in range(draw.randint(3, 20)):
            after(0.002, lambda: self._say(talker))
        names = list(self.network.daemons)
        late = draw.random() < 0.4
        hole = Snare("data", draw.randint(1, 2 * len(names)), victim.daemon.name, keeps=late)
        if draw.random() < 0.6:
            sends = draw.randint(1, 4 * len(names))
            hole.action = lambda: self._doom(victim, sends)
        else:
            rest = [name for name in names if name != victim.daemon.name]
            wait = draw.uniform(0.0, 0.001)
            hole.action = lambda: after(wait, lambda: self._split(rest))
        after(draw.uniform(0.0, 0.003), lambda: self._lay(hole))
        count = draw.randint(1, 2 * len(names))
        if late:
            kind = draw.choice(["form1", "form2", "form2", "token"])
            after(0.05, lambda: self._lay(Snare(kind, count, takes=False, action=self._release)))
        elif draw.random() < 0.6:
            after(0.05, lambda: self._lay(Snare("form2", count, takes=False, action=self._pounce)))

    def _doom(self, daemon: VirtualDaemon, sends: int) -> None:
        if self._storm and daemon.running:
            daemon.dies_after = sends

    def _release(self) -> None:
        if self._storm:
            self.network.clock.after(self._answering.uniform(0, 0.001), self.snares.release)

    def _lay_ambush(self) -> None:
        """Begin a membership change and disturb it when FORM2 is under way."""
        draw = self._random
        names = list(self.network.daemons)
        count = draw.randint(1, 2 * len(names))
        self.snares.lay(Snare("form2", count, takes=False, action=self._pounce))
        what = draw.random()
        if what < 0.4:
            self._split(draw.sample(names, draw.randint(1, len(names) - 1)))
        elif what < 0.7:
            self._daemon().crash()

    def _pounce(self) -> None:
        """Something bad, within the milliseconds that recovery takes."""
        if not self._storm:
            return
        draw = self._answering
        names = list(self.network.daemons)
        if draw.random() < 0.4:
            count = draw.randint(1, 4 * len(names))
            self._lay(Snare("form2", count, takes=False, action=self._pounce))
        what = draw.random()
        if what < 0.3:
            lost = Snare(draw.choice(["token", "form2"]), draw.randint(1, 6))
            self.network.clock.after(draw.uniform(0, 0.002), lambda: self._lay(lost))
        elif what < 0.5:
            lost = Snare("data", draw.randint(1, 20), receiver=draw.choice(names))
            self._lay(lost)
        elif what < 0.7:
            victim = self.network.daemons[draw.choice(names)]
            self.network.clock.after(draw.uniform(0, 0.003), lambda: self._kill(victim))
        else:
            side = draw.sample(names, draw.randint(1, len(names) - 1))
            self.network.clock.after(draw.uniform(0, 0.003), lambda: self._split(side))

    def _kill(self, daemon: VirtualDaemon) -> None:
        if self._storm:
            daemon.crash()

    def _lay(self, snare: Snare) -> None:
        if self._storm:
            self.snares.lay(snare)

    def _split(self, names: list[str]) -> None:
        if self._storm:
            self.network.partition(names)

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
        elif what < 0.9:
            self.network.cut(*draw.sample(names, 2))
        else:
            deaf = draw.choice(names)
            for name in names:
                if name != deaf:
                    self.network.cut(name, deaf)

    # The calm.

    def _repair(self) -> None:
        self._storm = False
        self.snares.clear()
        self.network.heal()
        self.network.faults = Faults()
        for daemon in self.network.daemons.values():
            daemon.service_time = 0.0
            daemon.dies_after = 0
            daemon.resume()
            daemon.start()
        for client in self.recorder.connected():
            client.read_again()

    def together(self) -> bool:
        """Whether all daemons are in one ring and know the same of each other's groups."""
        ids = set()
        for daemon in self.network.daemons.values():
            node = daemon.node
            if node is None or node.ring is None or node.membership_state is not MembershipState.OP:
                return False
            if len(node.membership) != len(self.network.daemons) or node.groups.state.value != GOP:
                return False
            ids.add(node.ring.membership.installed.id)
        return len(ids) == 1

    def _settle(self) -> bool:
        clock = self.network.clock
        started = clock.now
        # A token that the storm has swallowed is missed up to a timeout later.
        timeouts = self.network.configuration.timeouts
        clock.run_until(started + max(timeouts.token, timeouts.form))
        if clock.run_while(lambda: not self.together(), settling_bound(self.network)):
            self.settled_after = clock.now - started
            return True
        states = {
            name: (daemon.node.membership_state.name, len(daemon.node.membership))
            for name, daemon in self.network.daemons.items()
            if daemon.node is not None
        }
        self.problems.append(f"liveness: no single membership after the repair: {states}")
        return False

    def _rings(self) -> set[MembershipId]:
        """The rings installed last; a leader that looks for others keeps its ring."""
        return {
            daemon.node.ring.membership.installed.id
            for daemon in self.network.daemons.values()
            if daemon.node is not None and daemon.node.ring is not None
        }

    def _exchange(self) -> None:
        """Everybody says something; everybody has to hear it."""
        clock = self.network.clock
        rings = self._rings()
        newcomers = []
        for daemon in self.network.daemons.values():
            self._names += 1
            newcomers.append(self.recorder.connect(daemon, b"n%d" % self._names))
        clock.run_while(lambda: not all(client.private_group for client in newcomers), 5.0)
        for client in newcomers:
            self._join(client, [b"everybody"])
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
        # What older clients still have to get goes out as well.
        clock.run_until(clock.now + 2.0)
        if self._rings() != rings:
            self.problems.append("liveness: the membership broke again although nothing happened")

    def _finish(self) -> None:
        tables = set()
        for daemon in self.network.daemons.values():
            self._examine(daemon)
            if daemon.node is not None:
                tables.add(_replica(daemon.node))
        if len(tables) > 1 and not self.problems:
            self.problems.append(f"replicas: the daemons know different groups: {tables}")
        self.problems += self.recorder.problems

    def _crashed(self, daemon: VirtualDaemon) -> None:
        self._examine(daemon)

    def _examine(self, daemon: VirtualDaemon) -> None:
        """Look for what correct daemons never count."""
        node = daemon.node
        if node is None:
            return
        if node.faults:
            self.problems.append(f"{node.faults} internal errors in {daemon.daemon.name}")
        if node.ring is not None:
            for name in IMPOSSIBLE:
                count = getattr(node.ring.ring.counters, name)
                if count:
                    self.problems.append(f"{daemon.daemon.name} has counted {count} {name}")


def _replica(node: Node) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    groups = node.groups
    return tuple((name, tuple(groups.members(name))) for name in groups.group_names())
