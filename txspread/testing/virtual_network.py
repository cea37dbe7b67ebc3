"""Daemons on a virtual network: no socket, no real time, one seed.

:class:`VirtualNetwork` carries datagrams between :class:`VirtualDaemon`
objects, each of which is the engine's :class:`~txspread.engine.node.Host`.
It loses, repeats, delays and reorders them as its :class:`Faults` say, and cuts
links one way or both.  A daemon can crash, start again under its address, be
paused, and be slow.

What a real host does is kept where the protocol depends on it: a broadcast
reaches its sender as well, a socket holds a bounded amount while nobody reads
it, and data are read before tokens unless the node asks for the reverse.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

from attrs import define, field

from txspread.config.model import Configuration, Daemon
from txspread.config.reloading import compare
from txspread.engine.alarms import AlarmSink, SilentAlarms
from txspread.engine.node import Channel, Node
from txspread.engine.node_interfaces import OneByOne
from txspread.engine.trace import TraceSink
from txspread.testing.virtual_clock import Event, VirtualClock
from txspread.wire.identifiers import ProcId

EPOCH = 1_700_000_000
"""Wall-clock seconds at virtual time 0."""

SOCKET_CAPACITY = 4096
"""Datagrams a paused or slow daemon's socket holds before it drops."""


@define
class Faults:
    """What the network does to a datagram; probabilities from 0 to 1, times in seconds."""

    loss: float = 0.0
    token_loss: float = 0.0
    """Extra loss for datagrams to the token port."""
    duplication: float = 0.0
    reordering: float = 0.0
    """Share of the datagrams that are held back by up to ``reordering_delay``."""
    reordering_delay: float = 0.005
    delay: float = 0.0001
    jitter: float = 0.00005


class VirtualDaemon(OneByOne):
    """One configured daemon: its node while it runs, and the host below it."""

    def __init__(self, network: VirtualNetwork, daemon: Daemon) -> None:
        self.network = network
        self.daemon = daemon
        self.node: Node | None = None
        self.incarnation = 0
        self.paused = False
        self.accepting = True
        self.service_time = 0.0
        """Seconds this daemon needs for each datagram it reads."""
        self.clock_error = 0
        """Seconds by which this daemon's wall clock is wrong."""
        self.dies_after = 0
        """Datagrams that this daemon sends yet before it crashes, in the middle of what
        it is doing; 0: it does not."""
        self.last_time_used = -1
        """What the node wants to be told after a restart; a disk that survives crashes."""
        self.left: str | None = None
        """Why the node asked to end, once it did."""
        self._sockets: dict[Channel, deque[bytes]] = {
            Channel.DATA: deque(maxlen=SOCKET_CAPACITY),
            Channel.TOKEN: deque(maxlen=SOCKET_CAPACITY),
        }
        self._work: Event | None = None
        self._timer: Event | None = None
        self.on_start: list[Callable[[VirtualDaemon], None]] = []
        self.on_crash: list[Callable[[VirtualDaemon], None]] = []
        """Called while the node is still there to be looked at."""

    # The engine's Host.

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Hand a datagram to the network, unless death has come in the middle of a turn."""
        if self.node is None:
            return
        self.network.carry(self, data, address)
        if self.dies_after:
            self.dies_after -= 1
            if not self.dies_after:
                self.crash()

    def pause_accepting(self) -> None:
        """New clients wait."""
        self.accepting = False

    def resume_accepting(self) -> None:
        """New clients are served again."""
        self.accepting = True

    def wall_time(self) -> int:
        """Seconds since the epoch by this daemon's own clock."""
        return EPOCH + int(self.network.clock.now) + self.clock_error

    def leave(self, reason: str) -> None:
        """End because the node says so."""
        self.left = reason
        self.network.clock.after(0.0, self.crash)

    def reload(self) -> None:
        """Read the configuration again: take the one that the network has by now."""
        self.network.clock.after(0.0, self._take_configuration)

    def _take_configuration(self) -> None:
        node = self.node
        if node is not None:
            new = self.network.configuration
            node.reload(compare(node.configuration, new, node.me), self.network.clock.now)
            self.turn_over()

    def _time_used(self, value: int) -> None:
        self.last_time_used = value

    # Life and death.

    @property
    def running(self) -> bool:
        """Whether a node lives here (paused or not)."""
        return self.node is not None

    def start(self) -> None:
        """Boot a fresh node under this address."""
        if self.node is not None:
            return
        self.incarnation += 1
        self.accepting = True
        self.left = None
        for socket in self._sockets.values():
            socket.clear()
        seed = f"{self.network.seed}/{self.daemon.name}/{self.incarnation}"
        clock = self.network.clock
        self.node = Node(
            self.network.configuration,
            self.daemon,
            self,
            self.network.alarms_for(self),
            random.Random(seed).random,
            clock.now,
            trace=None if self.network.trace_for is None else self.network.trace_for(self),
            last_time_used=self.last_time_used,
            time_used=self._time_used,
        )
        for hook in self.on_start:
            hook(self)
        self.node.start(clock.now)
        self.turn_over()

    def crash(self) -> None:
        """Die without a word, as by ``kill -9``."""
        if self.node is None:
            return
        for hook in self.on_crash:
            hook(self)
        self.node = None
        self.paused = False
        self.dies_after = 0
        for event in (self._work, self._timer):
            if event is not None:
                event.cancel()
        self._work = self._timer = None

    def pause(self) -> None:
        """Stop as by SIGSTOP: nothing is read, no timer runs, sockets fill."""
        self.paused = True

    def resume(self) -> None:
        """Go on as by SIGCONT: what is overdue happens at once."""
        if self.paused:
            self.paused = False
            self._wake()
            self._arm()

    # The event loop.

    def arrive(self, data: bytes, channel: Channel) -> None:
        """A datagram reaches one of this daemon's sockets."""
        node = self.node
        if node is None:
            return
        if self._work is None and not self.paused and not self.service_time:
            # Nothing waits: it is read as it comes.
            node.datagram(data, channel, self.network.clock.now)
            self.turn_over()
            return
        socket = self._sockets[channel]
        if len(socket) < SOCKET_CAPACITY:
            socket.append(data)
        self._wake()

    def turn_over(self) -> None:
        """Close a batch of inputs: the node flushes, the timer is set anew."""
        if self.node is not None:
            self.node.end_of_turn(self.network.clock.now)
            self._arm()

    def _wake(self) -> None:
        if self._work is None and not self.paused:
            self._work = self.network.clock.after(self.service_time, self._run)

    def _run(self) -> None:
        self._work = None
        node = self.node
        if node is None or self.paused:
            return
        first, second = Channel.DATA, Channel.TOKEN
        if node.prefer_tokens:
            first, second = second, first
        for channel in (first, second):
            socket = self._sockets[channel]
            if socket:
                node.datagram(socket.popleft(), channel, self.network.clock.now)
                break
        self.turn_over()
        if any(self._sockets.values()):
            self._wake()

    def _arm(self) -> None:
        node = self.node
        if node is None or self.paused:
            return
        due = node.next_timer()
        timer = self._timer
        if timer is not None:
            # Timers mostly move away; an alarm that comes early finds that out itself.
            if due is not None and timer.time <= due:
                return
            timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self.network.clock.at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        node = self.node
        if node is None or self.paused:
            return
        due = node.next_timer()
        if due is not None and due <= self.network.clock.now:
            node.timer(self.network.clock.now)
            self.turn_over()
        else:
            self._arm()


@define(eq=False)
class VirtualNetwork:
    """All daemons of one configuration and the wires between them."""

    configuration: Configuration
    seed: int = 0
    faults: Faults = field(factory=Faults)
    clock: VirtualClock = field(factory=VirtualClock)
    alarms: Callable[[VirtualDaemon], AlarmSink] | None = None
    """Where each daemon's log lines go; silent when absent."""
    trace_for: Callable[[VirtualDaemon], TraceSink] | None = None
    """Makes the trace sink of each daemon that starts."""
    daemons: dict[str, VirtualDaemon] = field(init=False, factory=dict)
    """By name."""
    carried: int = field(init=False, default=0)
    """Datagrams delivered to a socket so far."""
    dropped: int = field(init=False, default=0)
    """Datagrams lost or cut off so far."""
    tap: Callable[[VirtualDaemon, VirtualDaemon, bytes, Channel], bool] | None = None
    """Sees every copy (sender, receiver, data, channel); false drops it."""
    _random: random.Random = field(init=False)
    _cut: set[tuple[ProcId, ProcId]] = field(init=False, factory=set)
    _routes: dict[tuple[str, int], tuple[tuple[VirtualDaemon, ...], Channel]] = field(
        init=False, factory=dict
    )

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(f"network/{self.seed}")
        self.reconfigure(self.configuration)

    def reconfigure(self, configuration: Configuration) -> None:
        """Give the daemons another file: what they start with, or read at a reload.

        Daemons that are new in it exist from now on; others stay as they are.  A broadcast
        reaches those that the new file lists.
        """
        self.configuration = configuration
        for segment in configuration.segments:
            members = []
            for daemon in segment.daemons:
                virtual = self.daemons.get(daemon.name)
                if virtual is None:
                    virtual = self.daemons[daemon.name] = VirtualDaemon(self, daemon)
                virtual.daemon = daemon
                members.append(virtual)
                self._routes[daemon.address, segment.port] = ((virtual,), Channel.DATA)
                self._routes[daemon.address, segment.port + 1] = ((virtual,), Channel.TOKEN)
            if len(members) > 1:
                self._routes[segment.address, segment.port] = (tuple(members), Channel.DATA)

    def alarms_for(self, daemon: VirtualDaemon) -> AlarmSink:
        """The sink of one daemon's log lines."""
        return SilentAlarms() if self.alarms is None else self.alarms(daemon)

    def start(self, names: Iterable[str] | None = None) -> None:
        """Boot all daemons, or those named."""
        for name in self.daemons if names is None else names:
            self.daemons[name].start()

    def carry(self, sender: VirtualDaemon, data: bytes, address: tuple[str, int]) -> None:
        """Take a datagram from a daemon and schedule its arrivals."""
        route = self._routes.get(address)
        if route is None:
            self.dropped += 1
            return
        receivers, channel = route
        faults, rand = self.faults, self._random.random
        for receiver in receivers:
            if (sender.daemon.id, receiver.daemon.id) in self._cut:
                self.dropped += 1
                continue
            if self.tap is not None and not self.tap(sender, receiver, data, channel):
                self.dropped += 1
                continue
            loss = faults.loss + (faults.token_loss if channel is Channel.TOKEN else 0.0)
            if sender is not receiver and loss and rand() < loss:
                self.dropped += 1
                continue
            copies = 2 if faults.duplication and rand() < faults.duplication else 1
            for _ in range(copies):
                delay = faults.delay + faults.jitter * rand()
                if faults.reordering and rand() < faults.reordering:
                    delay += faults.reordering_delay * rand()
                self._schedule(receiver, receiver.incarnation, data, channel, delay)

    def _schedule(
        self,
        receiver: VirtualDaemon,
        incarnation: int,
        data: bytes,
        channel: Channel,
        delay: float,
    ) -> None:
        def arrive() -> None:
            if receiver.incarnation == incarnation:
                self.carried += 1
                receiver.arrive(data, channel)

        self.clock.at(self.clock.now + delay, arrive)

    # Cuts.

    def cut(self, sender: str, receiver: str) -> None:
        """Lose everything one daemon sends to another, one way."""
        self._cut.add((self.daemons[sender].daemon.id, self.daemons[receiver].daemon.id))

    def partition(self, *components: Iterable[str]) -> None:
        """Let daemons hear only those of their own component; the rest is one more."""
        self.heal()
        place: dict[str, int] = {}
        for number, component in enumerate(components):
            for name in component:
                place[name] = number
        for one in self.daemons:
            for other in self.daemons:
                if place.get(one, -1) != place.get(other, -1):
                    self.cut(one, other)

    def heal(self) -> None:
        """Mend every cut."""
        self._cut.clear()
