"""Several membership machines on a virtual network, each with a scripted token machine.

The token machine here is as small as the membership algorithm allows: it passes the
token on, holds it at the leader of an idle ring, and installs a ring on its second
visit.  Nothing is ordered.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

from txspread.config.model import (
    Configuration,
    Daemon,
    Interface,
    InterfaceType,
    Segment,
    Timeouts,
    address_id,
)
from txspread.engine.membership import Membership
from txspread.engine.node_interfaces import Channel, OneByOne
from txspread.engine.ring_interfaces import (
    MembershipState,
    OldRingResult,
    OldRingState,
    RingView,
    Timer,
)
from txspread.engine.routing import Routing
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.packet import encode_packet
from txspread.wire.token import NOBODY, Token

LAN = Timeouts(
    token=1.25,
    hurry=0.5,
    alive=0.25,
    join=0.25,
    rep=0.625,
    seg=0.5,
    gather=1.25,
    form=1.25,
    lookup=30.0,
)
EPOCH = 1_700_000_000
PORT = 4803
LATENCY = 0.0002
SERVICES = InterfaceType.ANY | InterfaceType.MONITOR | InterfaceType.CLIENT | InterfaceType.DAEMON


def configuration_of(
    sizes: Sequence[int], conf_hash: int = 0x1640DCA1, timeouts: Timeouts = LAN
) -> Configuration:
    """A configuration with so many daemons in each segment: 10.0.S.1, 10.0.S.2, ..."""
    segments = []
    for segment, size in enumerate(sizes):
        daemons = []
        for index in range(size):
            address = f"10.0.{segment}.{index + 1}"
            daemons.append(
                Daemon(
                    name=f"d{segment}{chr(97 + index)}" if index < 26 else f"d{segment}x{index}",
                    address=address,
                    id=address_id(address),
                    port=PORT,
                    interfaces=(Interface(address, 0, SERVICES),),
                    segment=segment,
                    index=index,
                )
            )
        segments.append(Segment(segment, f"10.0.{segment}.255", PORT, tuple(daemons)))
    return Configuration(
        segments=tuple(segments), hash=conf_hash, wide_area=False, timeouts=timeouts
    )


class Clock:
    """Virtual time and what is to happen in it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._number), action))

    def run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end


class VirtualTimers:
    """The engine's named timers, on the virtual clock."""

    def __init__(self, clock: Clock, fire: Callable[[Timer], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._generation: dict[Timer, int] = {}
        self._set: dict[Timer, int] = {}
        self.delays: dict[Timer, float] = {}

    @property
    def now(self) -> float:
        return self._clock.now

    def start(self, timer: Timer, delay: float) -> None:
        generation = self._generation.get(timer, 0) + 1
        self._generation[timer] = self._set[timer] = generation
        self.delays[timer] = delay

        def due() -> None:
            if self._set.get(timer) == generation:
                del self._set[timer]
                self._fire(timer)

        self._clock.after(delay, due)

    def stop(self, timer: Timer) -> None:
        self._set.pop(timer, None)

    def running(self, timer: Timer) -> bool:
        return timer in self._set

    def stop_all(self) -> None:
        self._set.clear()


class ScriptedRing:
    """A token machine without messages: enough to keep a ring and to install one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.last_arq = 0
        self.visits = 0
        self.aru = 0
        self.highest_seq = 0
        self.missing: tuple[int, ...] = ()
        self.commit: tuple[ProcId, ...] = (node.daemon.id,)
        self.results: list[tuple[int, OldRingResult, bool]] = []
        self.losses: list[MembershipState] = []
        self.forms = 0

    def on_token_loss(self) -> None:
        self.losses.append(self.node.membership.state)
        self.last_arq = 0

    def describe(self) -> OldRingState:
        return OldRingState(self.aru, self.highest_seq, self.missing, frozenset())

    def commit_list(self) -> tuple[tuple[ProcId, ...], int]:
        return self.commit, 1

    def on_form1(self) -> None:
        self.forms += 1

    def on_form2(self, last_seq: int, entry: OldRingResult, last_member: bool) -> None:
        self.results.append((last_seq, entry, last_member))
        self.last_arq = 0
        self.visits = 0
        if self.node.routing.members == (self.node.daemon.id,):
            self.node.timers.start(Timer.DELIVERY, 0.0)

    def install(self) -> None:
        membership = self.node.membership
        entry = self.results[-1][1]
        transitional = entry.commit[: entry.num_trans]
        self.node.installed.append(
            (membership.transitional_id(transitional), transitional, membership.install_future())
        )

    def alone(self) -> None:
        if self.node.membership.state is MembershipState.EVS:
            self.install()
            self.node.timers.stop(Timer.LOSS)

    def token(self, data: bytes) -> None:
        membership = self.node.membership
        ring = membership.active
        token = Token.decode(data)
        if (
            not membership.token_alive
            or token.memb_id != ring.id
            or token.transmiter_id != ring.predecessor
        ):
            return
        lead = ring.leader == self.node.daemon.id
        if token.arq != (self.last_arq if lead else (self.last_arq + 1) % 16):
            return
        if lead:
            token.type = datagram.token_type((token.arq + 1) % 16, 0)
        self.last_arq = token.arq
        token.transmiter_id = token.proc_id = self.node.daemon.id
        self.visits += 1
        membership_timers = self.node.timers
        membership_timers.start(Timer.LOSS, LAN.token)
        packet = token.encode()
        hold = LAN.hurry if lead and self.visits > 3 else 0.0
        incarnation = self.node.incarnation

        def leave() -> None:
            if self.node.incarnation == incarnation and membership.token_alive:
                self.node.routing.send_token(packet)

        if hold:
            self.node.world.clock.after(hold, leave)
        else:
            leave()
        if membership.state is MembershipState.EVS and self.visits >= 2:
            self.install()


class Node(OneByOne):
    """One daemon of the virtual world; the :class:`Host` of its engine."""

    def __init__(self, world: World, daemon: Daemon) -> None:
        self.world = world
        self.daemon = daemon
        self.up = False
        self.incarnation = 0
        self.clock_error = 0
        self.boot()
        self.up = False

    def boot(self) -> None:
        self.up = True
        self.incarnation += 1
        self.timers = VirtualTimers(self.world.clock, self.fire)
        self.routing = Routing(self.daemon, self.world.configuration, self)
        self.membership = Membership(
            self.daemon, self.world.configuration, self.routing, self.timers, self.wall_time
        )
        self.ring = ScriptedRing(self)
        self.membership.connect(self.ring)
        self.installed: list[tuple[MembershipId, tuple[ProcId, ...], RingView]] = []

    def start(self) -> None:
        self.boot()
        self.membership.start(self.world.clock.now)

    def crash(self) -> None:
        self.up = False
        self.incarnation += 1
        self.timers.stop_all()

    def fire(self, timer: Timer) -> None:
        if timer is Timer.DELIVERY:
            self.ring.alone()
        else:
            self.membership.timer(timer, self.world.clock.now)

    def wall_time(self) -> int:
        return EPOCH + int(self.world.clock.now) + self.clock_error

    def pause_accepting(self) -> None:
        raise AssertionError("membership never stops clients")

    def resume_accepting(self) -> None:
        raise AssertionError("membership never stops clients")

    def leave(self, reason: str) -> None:
        self.world.left.append((self.daemon.name, reason))

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        self.world.carry(self, data, address)

    def receive(self, data: bytes, channel: Channel) -> None:
        now = self.world.clock.now
        if channel is Channel.TOKEN:
            kind = self.routing.receive_token(data)
            if kind is None:
                return
            if kind & datagram.FORM1:
                self.membership.form1(data, now)
            elif kind & datagram.FORM2:
                self.membership.form2(data, now)
            else:
                self.ring.token(data)
            return
        header = self.routing.receive_packet(data)
        if header is None:
            return
        if header.type & datagram.ALIVE:
            self.membership.alive(data, header, now)
        elif header.type & datagram.JOIN:
            self.membership.join(data, header, now)
        elif header.type & datagram.REFER:
            self.membership.refer(data, header, now)
        elif header.memb_id != self.membership.installed.id:
            self.membership.foreign(data, header.proc_id)

    def say_something(self) -> None:
        """Send one data packet of the installed ring, as if a client had spoken."""
        me = self.daemon.id
        self.routing.send_to_all(
            encode_packet(
                datagram.AGREED,
                me,
                me,
                self.membership.installed.id,
                1,
                0,
                self.world.configuration.hash,
                [(-1, bytes(48))],
            )
        )


class World:
    """All daemons of a configuration and the network between them."""

    def __init__(self, sizes: Sequence[int], timeouts: Timeouts = LAN) -> None:
        self.clock = Clock()
        self.configuration = configuration_of(sizes, timeouts=timeouts)
        self.left: list[tuple[str, str]] = []
        self.sent: list[tuple[float, ProcId, tuple[str, int], bytes]] = []
        self.lose: Callable[[Node, Node, bytes, Channel], bool] = lambda *_: False
        self.copies: Callable[[bytes, Channel], int] = lambda *_: 1
        self.nodes = [Node(self, daemon) for daemon in self.configuration.daemons]
        self._by_address: dict[tuple[str, int], list[tuple[Node, Channel]]] = {}
        for node in self.nodes:
            daemon = node.daemon
            self._by_address[(daemon.address, daemon.port)] = [(node, Channel.DATA)]
            self._by_address[(daemon.address, daemon.port + 1)] = [(node, Channel.TOKEN)]
            segment = self.configuration.segments[daemon.segment]
            self._by_address.setdefault((segment.address, segment.port), []).append(
                (node, Channel.DATA)
            )

    def carry(self, source: Node, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((self.clock.now, source.daemon.id, address, data))
        for node, channel in self._by_address.get(address, ()):
            if node is not source and self.lose(source, node, data, channel):
                continue
            for copy in range(self.copies(data, channel)):
                self.clock.after(
                    LATENCY * (1 + copy), lambda n=node, c=channel: n.up and n.receive(data, c)
                )

    def start(self, *names: str, apart: float = 0.002) -> None:
        """Start the named daemons, or all, shortly after one another."""
        chosen = [n for n in self.nodes if not names or n.daemon.name in names]
        for number, node in enumerate(chosen):
            self.clock.after(apart * number, node.start)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.daemon.name == name)

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    def part(self, *groups: Sequence[str]) -> None:
        """Let only daemons of one group hear each other."""
        side = {name: number for number, group in enumerate(groups) for name in group}
        self.lose = lambda source, node, *_: (
            side.get(source.daemon.name) != side.get(node.daemon.name)
        )

    def heal(self) -> None:
        self.lose = lambda *_: False

    def rings(self) -> dict[MembershipId, list[str]]:
        """Installed rings of the running daemons that are in OP, with the daemons in them."""
        rings: dict[MembershipId, list[str]] = {}
        for node in self.nodes:
            if node.up and node.membership.state is MembershipState.OP:
                rings.setdefault(node.membership.installed.id, []).append(node.daemon.name)
        return rings

    def one_ring_of(self, names: Sequence[str]) -> MembershipId:
        """The ring that exactly these daemons are in; fails if there is none."""
        for ring_id, present in self.rings().items():
            if sorted(present) == sorted(names):
                return ring_id
        raise AssertionError(self.rings())

    def one_ring(self) -> RingView:
        """The ring that every running daemon is in; fails if there is none."""
        running = [node for node in self.nodes if node.up]
        states = {node.daemon.name: node.membership.state for node in running}
        assert set(states.values()) == {MembershipState.OP}, states
        rings = self.rings()
        assert len(rings) == 1, rings
        view = running[0].membership.installed
        assert view.members == tuple(node.daemon.id for node in running)
        for node in running:
            assert node.membership.installed.members == view.members
        return view


__all__ = ["EPOCH", "LAN", "NOBODY", "Node", "ScriptedRing", "World", "configuration_of"]
