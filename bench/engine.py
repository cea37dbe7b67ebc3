"""``python -m bench.engine``: the engine alone, without sockets or a kernel.

The nodes of a ring run in this process, in turn as the token passes, and hand each
other their datagrams as Python objects; a client on each node sends, another one
receives.  What is measured is the CPU time of the protocol itself for each message
at each receiver, and which functions it goes to: the figures repeat within a few
percent even on a busy machine, since the best of several runs counts.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections import deque
from collections.abc import Sequence

from txspread.config import Configuration, parse
from txspread.engine.alarms import SilentAlarms
from txspread.engine.node import Channel, Node, PeerAddress, Session
from txspread.engine.ring_interfaces import MembershipState
from txspread.wire.constants import JOIN_MESS, ServiceType
from txspread.wire.message import encode_message

GROUP = b"bench"
_CHOICE = b"NULL".ljust(90, b"\0")
_PORT = 4803
_READ = 256 * 1024
_STEP = 50e-6
"""Seconds by which the nodes' clock moves with every turn."""


Datagrams = deque[tuple[bytes | bytearray, int]]
"""What waits at a socket: a datagram and 0, or a train and the size at which to cut it."""


class EngineHost:
    """One node, its two sockets and its clients' transports."""

    def __init__(self, world: World, configuration: Configuration, number: int) -> None:
        self.world = world
        self.data: Datagrams = deque()
        self.tokens: Datagrams = deque()
        me = configuration.daemons[number]
        self.node = Node(
            configuration, me, self, SilentAlarms(), lambda: 0.5, world.now, last_time_used=1000
        )

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Put a datagram where its receiver finds it."""
        self.world.sockets[address].append((data, 0))

    def send_train(self, train: bytes | bytearray, size: int, address: tuple[str, int]) -> None:
        """Likewise, a train."""
        self.world.sockets[address].append((train, size))

    def pause_accepting(self) -> None:
        """Nobody connects."""

    def resume_accepting(self) -> None:
        """Nobody connects."""

    def wall_time(self) -> int:
        """As far as the engine needs it."""
        return int(self.world.now)

    def leave(self, reason: str) -> None:
        """Nobody asks for it."""

    def reload(self) -> None:
        """Nobody asks for it."""

    def turn(self, now: float) -> None:
        """Read everything, data before tokens, in one batch as the daemon does."""
        node = self.node
        due = node.next_timer()
        if due is not None and due <= now:
            node.timer(now)
        data, tokens = self.data, self.tokens
        batch: list[bytes] = []
        while data:
            received, size = data.popleft()
            if not size:
                batch.append(bytes(received))
                continue
            if batch:
                node.datagrams(batch, Channel.DATA, now)
                batch = []
            node.train(received, size, Channel.DATA, now)
        if batch:
            node.datagrams(batch, Channel.DATA, now)
        if tokens:
            node.datagram(bytes(tokens.popleft()[0]), Channel.TOKEN, now)
        node.end_of_turn(now)


class EngineClient:
    """A session whose kernel takes everything at once."""

    def __init__(self, host: EngineHost, name: bytes) -> None:
        self.host = host
        self.paused = False
        self.taken = 0
        self.session: Session = host.node.session_opened(
            self, PeerAddress(0x7F000001, 1), host.world.now
        )
        self.send(bytes((4, 4, 0, 1, len(name))) + name)
        self.send(_CHOICE)

    def send(self, data: bytes) -> None:
        """Let the daemon read that."""
        self.host.node.session_received(self.session, data, self.host.world.now)

    def flush(self) -> None:
        """See ``StreamTransport``."""
        output = self.session.output
        while output.size:
            offered = sum(len(one) for one in output.buffers(_READ))
            self.taken += offered
            output.consumed(offered)

    def close(self) -> None:
        """See ``StreamTransport``."""

    def pause(self) -> None:
        """See ``StreamTransport``."""
        self.paused = True

    def resume(self) -> None:
        """See ``StreamTransport``."""
        self.paused = False


class World:
    """A ring of nodes, each alone in its segment."""

    def __init__(self, size: int, accelerated: bool) -> None:
        text = [f"AcceleratedRing = {'true' if accelerated else 'false'}"]
        for number in range(size):
            text += [
                f"Spread_Segment 10.0.{number}.255:{_PORT} {{",
                f" d{number} 10.0.{number}.1",
                "}",
            ]
        self.now = 1000.0
        configuration = parse("\n".join(text) + "\n")
        self.sockets: dict[tuple[str, int], Datagrams] = {}
        self.hosts = [EngineHost(self, configuration, number) for number in range(size)]
        for host, daemon in zip(self.hosts, configuration.daemons, strict=True):
            self.sockets[daemon.address, daemon.port] = host.data
            self.sockets[daemon.address, daemon.port + 1] = host.tokens
            host.node.start(self.now)
        self.run_until_operational()

    def turns(self) -> None:
        """One turn of each node."""
        for host in self.hosts:
            self.now += _STEP
            host.turn(self.now)

    def run_until_operational(self) -> None:
        """Let the nodes find each other."""
        size = len(self.hosts)
        while not all(
            host.node.membership_state is MembershipState.OP and len(host.node.membership) == size
            for host in self.hosts
        ):
            self.turns()
            if not any(host.data or host.tokens for host in self.hosts):
                self.now += 0.01


def run(size: int, body: int, messages: int, accelerated: bool = False) -> tuple[World, float]:
    """CPU seconds for ``messages`` of every node to every node, twice; the last is kept."""
    world = World(size, accelerated)
    receivers = [EngineClient(host, b"r") for host in world.hosts]
    senders = [EngineClient(host, b"s") for host in world.hosts]
    while not all(client.session.operational for client in receivers + senders):
        world.turns()
    for receiver in receivers:
        receiver.send(encode_message(JOIN_MESS, receiver.session.private_group, [GROUP]))
    for _ in range(20):
        world.turns()
    _exchange(world, senders, receivers, body, messages)
    return world, _exchange(world, senders, receivers, body, messages)


def _exchange(
    world: World,
    senders: list[EngineClient],
    receivers: list[EngineClient],
    body: int,
    messages: int,
) -> float:
    frames = [
        encode_message(ServiceType.AGREED_MESS, sender.session.private_group, [GROUP], bytes(body))
        for sender in senders
    ]
    count = max(1, min(messages, 65536 // len(frames[0])))
    batches = [frame * count for frame in frames]
    left = [messages // count] * len(senders)
    wanted = len(frames[0]) * count * sum(left)
    before = [receiver.taken for receiver in receivers]
    started = time.process_time()
    while any(
        receiver.taken - taken < wanted for receiver, taken in zip(receivers, before, strict=True)
    ):
        for number, sender in enumerate(senders):
            if left[number] and not sender.paused:
                left[number] -= 1
                sender.send(batches[number])
            world.now += _STEP
            world.hosts[number].turn(world.now)
    used = time.process_time() - started
    return used / (count * (messages // count)) / len(senders) / len(receivers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each body size; with ``--profile`` where the time goes."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--bodies", default="100,1024,8192")
    parser.add_argument("--messages", type=int, default=3000, help="of each sender")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accelerated", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(arguments)
    for body in (int(word) for word in options.bodies.split(",")):
        messages = max(100, options.messages * 1024 // max(1024, body))
        profile = cProfile.Profile()
        best = float("inf")
        packets = 0
        for _ in range(1 if options.profile else options.rounds):
            if options.profile:
                profile.enable()
            world, spent = run(options.daemons, body, messages, options.accelerated)
            profile.disable()
            best = min(best, spent)
            stack = world.hosts[0].node.ring
            packets = stack.ring.counters.packet_delivered if stack is not None else 0
        print(
            f"{options.daemons} daemons, {body} B: {best * 1e6:.2f} µs for each message at each "
            f"receiver ({packets} packets at the first)"
        )
        if options.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    return 0


if __name__ == "__main__":
    sys.exit(main())
