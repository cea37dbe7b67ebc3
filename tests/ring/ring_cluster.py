"""Token rings joined back to back, with a scripted membership.

The cluster stands in for the sockets and for the membership machine: it moves
datagrams between the rings, with loss, duplication and reordering from a seeded
source, and forms rings when a test says so, by the rules for FORM entries
(docs/protocol/membership.md section 6.3).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from txspread.config.model import Configuration, Daemon, Segment, Timeouts
from txspread.engine.alarms import SilentAlarms
from txspread.engine.interfaces import DeliveryThreshold, DownQueue
from txspread.engine.ring import TokenRing
from txspread.engine.ring_interfaces import (
    MembershipState,
    OldRingResult,
    RingView,
    Timer,
)
from txspread.wire.constants import PacketType
from txspread.wire.datagram import CONTROL, HURRY, MEMBERSHIP
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.message import encode_message
from txspread.wire.packet import PacketHeader, cut_train
from txspread.wire.token import NOBODY, Token

TIMEOUTS = Timeouts(1.25, 0.5, 0.25, 0.25, 0.625, 0.5, 1.25, 1.25, 30.0)


def make_configuration(sizes: Sequence[int], **changes: object) -> Configuration:
    """A configuration with segments of these sizes; daemons d1, d2, ... on 127.0.s.n."""
    segments = []
    number = 0
    for index, size in enumerate(sizes):
        daemons = []
        for position in range(size):
            number += 1
            address = f"127.0.{index}.{number}"
            proc_id = 0x7F000000 | index << 8 | number
            daemons.append(
                Daemon(f"d{number}", address, proc_id, 14803, (), index, position),
            )
        segments.append(Segment(index, f"127.0.{index}.255", 14803, tuple(daemons)))
    values: dict[str, object] = {
        "segments": tuple(segments),
        "hash": 0x1234ABCD,
        "wide_area": False,
        "timeouts": TIMEOUTS,
    }
    values.update(changes)
    return Configuration(**values)  # type: ignore[arg-type]


def message(
    text: str, size: int = 0, packet_type: PacketType = PacketType.AGREED
) -> tuple[bytes, PacketType]:
    """A message that carries ``text``, its body padded to ``size`` bytes."""
    body = text.encode().ljust(size, b".")
    return encode_message(0x10, b"#u#d", [b"g"], body), packet_type


def text_of(frame: bytes) -> str:
    return frame[80:].rstrip(b".").decode(errors="replace")


class ManualTimers:
    """Timers of one member on the cluster's clock."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.deadlines: dict[Timer, float] = {}

    @property
    def now(self) -> float:
        return self._cluster.now

    def start(self, timer: Timer, delay: float) -> None:
        self.deadlines[timer] = self._cluster.now + delay

    def stop(self, timer: Timer) -> None:
        self.deadlines.pop(timer, None)

    def running(self, timer: Timer) -> bool:
        return timer in self.deadlines


class Upper:
    """What a member delivered, as one list of events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.hook: Callable[[bytes], None] | None = None
        self.regular_hook: Callable[[tuple[ProcId, ...]], None] | None = None

    def on_message(self, frame: bytes) -> None:
        self.events.append(("message", text_of(frame)))
        if self.hook is not None:
            self.hook(frame)

    def on_messages(self, messages: list[bytes]) -> None:
        for message in messages:
            self.on_message(message)

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        self.events.append(("transitional", (tuple(members), membership_id)))

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        self.events.append(("regular", (tuple(members), membership_id)))
        if self.regular_hook is not None:
            self.regular_hook(tuple(members))

    @property
    def texts(self) -> list[str]:
        return [str(value) for kind, value in self.events if kind == "message"]


class Gate:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def stop_clients(self) -> None:
        self.calls.append("stop")

    def serve_clients(self) -> None:
        self.calls.append("serve")


class ScriptedMembership:
    """A membership machine that does what the test says."""

    def __init__(self, cluster: Cluster, me: Daemon) -> None:
        alone = RingView(MembershipId(me.id, -1), (me.id,), me.id, me.id, me.id)
        self._cluster = cluster
        self._me = me
        self.state = MembershipState.SEG
        self.token_alive = False
        self.installed = alone
        self.future = alone
        self.trans_time = 0
        self.wide_area = False
        self.foreign_packets: list[bytes] = []
        self.losses = 0

    @property
    def active(self) -> RingView:
        return self.future if self.state is MembershipState.EVS else self.installed

    @property
    def last_of_my_segment(self) -> bool:
        position = self._cluster.configuration.by_id
        mine = [m for m in self.active.members if position[m].segment == self._me.segment]
        return mine[-1] == self._me.id

    def foreign(self, datagram: bytes, proc_id: ProcId) -> None:
        self.foreign_packets.append(datagram)

    def token_loss(self) -> None:
        self.losses += 1
        self._cluster.member(self._me.id).ring.on_token_loss()
        self.token_alive = False
        self.state = MembershipState.SEG
        timers = self._cluster.member(self._me.id).timers
        timers.stop(Timer.LOSS)
        timers.stop(Timer.HURRY)

    def transitional_id(self, transitional_members: Sequence[ProcId]) -> MembershipId:
        return MembershipId(transitional_members[0], self.trans_time)

    def install_future(self) -> RingView:
        self.installed = self.future
        self.state = MembershipState.OP
        return self.installed


class Member:
    """One daemon of the cluster: its ring and everything around it."""

    def __init__(self, cluster: Cluster, daemon: Daemon) -> None:
        self.cluster = cluster
        self.daemon = daemon
        self.id = daemon.id
        self.alive = True
        self.timers = ManualTimers(cluster)
        self.membership = ScriptedMembership(cluster, daemon)
        self.upper = Upper()
        self.gate = Gate()
        self.sent: list[tuple[str, object, bytes]] = []
        self.data_queue: deque[bytes] = deque()
        self.token_queue: deque[bytes] = deque()
        self.ring = TokenRing(
            daemon,
            cluster.configuration,
            self,
            self.timers,
            self.membership,
            self.upper,
            self.gate,
            SilentAlarms(),
        )

    # Network
    def send_to_all(self, packet: bytes) -> None:
        self.sent.append(("all", None, packet))
        for other in self.cluster.members:
            if other is not self:
                self.cluster.put_data(self, other, packet)

    def send_train_to_all(self, train: bytearray, size: int) -> None:
        for packet in cut_train(train, size):
            self.send_to_all(packet)

    def send_to_segment(self, segment: int, packet: bytes) -> None:
        self.sent.append(("segment", segment, packet))
        for other in self.cluster.members:
            if other is not self and other.daemon.segment == segment:
                self.cluster.put_data(self, other, packet)

    def send_to_daemon(self, daemon: ProcId, packet: bytes) -> None:
        self.sent.append(("daemon", daemon, packet))
        self.cluster.put_data(self, self.cluster.member(daemon), packet)

    def send_token(self, token: bytes) -> None:
        self.send_token_to(self.membership.active.successor, token)

    def send_token_to(self, daemon: ProcId, token: bytes) -> None:
        self.sent.append(("token", daemon, token))
        self.cluster.put_token(self, self.cluster.member(daemon), token)

    def route_by(self, members: Sequence[ProcId]) -> None:
        self.routed_by = tuple(members)

    # The inputs
    def take_data(self, packet: bytes) -> None:
        now = self.cluster.now
        others = {member.id for member in self.cluster.members}
        if self.ring.data_packets([packet], 0, now, others, CONTROL | MEMBERSHIP | HURRY):
            return
        header = PacketHeader.decode(packet)
        if header.type & HURRY:
            self.ring.hurry(header, now)
        else:
            self.ring.data_packet(packet, header, now)

    def take_token(self, token: bytes) -> None:
        self.ring.token(token, self.cluster.now)

    def submit(self, text: str, size: int = 0, kind: PacketType = PacketType.AGREED) -> None:
        self.ring.submit(*message(text, size, kind))


class Cluster:
    """Rings of some daemons on one virtual clock."""

    def __init__(
        self,
        sizes: Sequence[int],
        seed: int = 1,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        token_loss: float = 0.0,
        threshold: DeliveryThreshold = DeliveryThreshold.NONE,
        configuration: Configuration | None = None,
        **changes: object,
    ) -> None:
        self.configuration = configuration or make_configuration(sizes, **changes)
        self.now = 0.0
        self.random = random.Random(seed)
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.token_loss = token_loss
        self.threshold = threshold
        self.clock = 1000
        self.drop: Callable[[Member, Member, bytes], bool] | None = None
        self.members = [Member(self, daemon) for daemon in self.configuration.daemons]

    def member(self, proc_id: ProcId) -> Member:
        return next(member for member in self.members if member.id == proc_id)

    # The wire
    def put_data(self, source: Member, target: Member, packet: bytes) -> None:
        if not target.alive or not source.alive or self.random.random() < self.loss:
            return
        if self.drop is not None and self.drop(source, target, packet):
            return
        copies = 2 if self.random.random() < self.duplication else 1
        for _copy in range(copies):
            if target.data_queue and self.random.random() < self.reordering:
                at = self.random.randrange(len(target.data_queue) + 1)
                target.data_queue.insert(at, packet)
            else:
                target.data_queue.append(packet)

    def put_token(self, source: Member, target: Member, token: bytes) -> None:
        if target.alive and source.alive and self.random.random() >= self.token_loss:
            target.token_queue.append(token)

    # Membership
    def form(self, members: Sequence[Member], lose_first_token: bool = False) -> None:
        """Take ``members`` through FORM1 and FORM2 up to the first regular token."""
        order = sorted(members, key=lambda member: self.configuration.position[member.id])
        self.clock += 10
        entries: dict[MembershipId, dict[str, list[int] | int]] = {}
        last_seq = 0
        for member in order:
            if member.membership.token_alive:
                member.membership.token_loss()
            state = member.ring.describe()
            commit, _num = member.ring.commit_list()
            last_seq = max(last_seq, state.highest_seq + 3333)
            entry = entries.get(member.membership.installed.id)
            if entry is None:
                entries[member.membership.installed.id] = {
                    "aru": state.aru,
                    "highest": state.highest_seq,
                    "holes": list(state.missing),
                    "trans": [member.id],
                    "commit": [p for p in commit if p != member.id],
                }
            else:
                highest = entry["highest"]
                assert isinstance(highest, int)
                holes = [
                    hole for hole in entry["holes"] if hole not in state.held and hole > state.aru
                ]  # type: ignore[union-attr]
                holes += [q for q in state.missing if q > highest]
                my_aru = member.ring.my_aru
                entry["holes"] = [hole for hole in holes if hole > my_aru]
                entry["aru"] = max(entry["aru"], state.aru)  # type: ignore[type-var]
                entry["highest"] = max(highest, state.highest_seq)
                entry["trans"].append(member.id)  # type: ignore[union-attr]
                entry["commit"].extend(commit)  # type: ignore[union-attr]
            member.ring.on_form1()
            member.membership.state = MembershipState.FORM
        ids = tuple(member.id for member in order)
        for member in order:
            member.data_queue.clear()
            member.token_queue.clear()
        for position, member in enumerate(order):
            entry = entries[member.membership.installed.id]
            trans = entry["trans"]
            assert isinstance(trans, list)
            rest = [p for p in dict.fromkeys(entry["commit"]) if p not in trans]  # type: ignore
            result = OldRingResult(
                entry["aru"],  # type: ignore[arg-type]
                entry["highest"],  # type: ignore[arg-type]
                tuple(entry["holes"]),  # type: ignore[arg-type]
                tuple(trans + rest),
                len(trans),
            )
            membership = member.membership
            membership.future = RingView(
                MembershipId(ids[0], self.clock + 1),
                ids,
                ids[0],
                ids[position - 1],
                ids[(position + 1) % len(ids)],
            )
            membership.trans_time = self.clock
            last = position == len(order) - 1
            member.ring.on_form2(last_seq, result, last)
            membership.state = MembershipState.EVS
            membership.token_alive = True
            member.timers.start(Timer.LOSS, TIMEOUTS.token)
            member.upper.regular_hook = self._regular(member)
            if last and not lose_first_token:
                first = Token(
                    0,
                    member.id,
                    member.id,
                    membership.future.id,
                    0,
                    0x7FFFFFFF,
                    NOBODY,
                    0,
                    self.configuration.hash,
                ).encode()
                member.send_token(first)
                member.send_token(first)

    def _regular(self, member: Member) -> Callable[[tuple[ProcId, ...]], None]:
        def hook(members: tuple[ProcId, ...]) -> None:
            member.ring.set_threshold(self.threshold)

        return hook

    # Running
    def step(self) -> bool:
        """Let every member handle what has arrived; tell whether anything had."""
        busy = False
        for member in self.members:
            if not member.alive:
                member.data_queue.clear()
                member.token_queue.clear()
                continue
            while member.data_queue:
                busy = True
                member.take_data(member.data_queue.popleft())
            if member.token_queue:
                busy = True
                member.take_token(member.token_queue.popleft())
            self.fire(member)
        return busy

    def fire(self, member: Member) -> None:
        due = [t for t, at in member.timers.deadlines.items() if at <= self.now]
        for timer in due:
            if member.timers.deadlines.pop(timer, None) is not None:
                member.ring.timer(timer, self.now)

    def run(self, until: Callable[[], bool], limit: float = 60.0) -> None:
        """Run until the condition holds; the virtual clock moves when nothing else does."""
        end = self.now + limit
        while not until():
            if not self.step() and not until():
                deadlines = [
                    at for m in self.members if m.alive for at in m.timers.deadlines.values()
                ]
                assert deadlines, "nothing is left that could happen"
                self.now = max(self.now, min(deadlines))
            else:
                self.now += 0.0001
            assert self.now <= end, "the condition did not come true in time"

    def settle(self) -> None:
        """Run until every member has installed its ring and everything is stable."""
        alive = [member for member in self.members if member.alive]
        self.run(
            lambda: all(
                m.membership.state is MembershipState.OP
                and m.ring.queued() == 0
                and m.ring.aru == m.ring.highest_seq == max(o.ring.highest_seq for o in alive)
                for m in alive
                if m.membership.token_alive
            )
        )


def formed(sizes: Sequence[int], **changes: object) -> Cluster:
    """A cluster whose members have all installed one ring."""
    cluster = Cluster(sizes, **changes)  # type: ignore[arg-type]
    cluster.form(cluster.members)
    cluster.run(lambda: all(m.membership.state is MembershipState.OP for m in cluster.members))
    return cluster


__all__ = [
    "Cluster",
    "DownQueue",
    "Member",
    "formed",
    "make_configuration",
    "message",
    "text_of",
]
