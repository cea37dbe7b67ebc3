"""Stand-ins for the neighbours of the groups layer, and message makers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field

from txspread.config.model import Configuration, Daemon, Interface, InterfaceType, Segment, Timeouts
from txspread.engine.alarms import Category, Priority
from txspread.engine.groups import Groups
from txspread.engine.interfaces import DeliveryThreshold, DownQueue, LocalSession
from txspread.wire.constants import (
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    PacketType,
    ServiceType,
)
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.message import MessageHeader, encode_message

AGREED = int(ServiceType.AGREED_MESS)
SELF_DISCARD = int(ServiceType.SELF_DISCARD)


def proc_id(address: str) -> ProcId:
    return int(ipaddress.IPv4Address(address))


def configuration_of(daemons: Mapping[str, str]) -> Configuration:
    """One segment per daemon, in the order given."""
    segments = []
    for index, (name, address) in enumerate(daemons.items()):
        daemon = Daemon(
            name=name,
            address=address,
            id=proc_id(address),
            port=4803,
            interfaces=(Interface(address, 0, InterfaceType.ANY),),
            segment=index,
            index=0,
        )
        segments.append(Segment(index, address, 4803, (daemon,)))
    timeouts = Timeouts(*([1.0] * 9))
    return Configuration(tuple(segments), hash=0, wide_area=False, timeouts=timeouts)


@define(eq=False)
class FakeSession:
    private_group: bytes
    wants_membership: bool = True
    frames: list[bytes] = field(factory=list)


class FakeSessions:
    """The clients of one daemon; everything written is kept per session."""

    def __init__(self, sessions: Iterable[FakeSession] = ()) -> None:
        self.sessions = {session.private_group: session for session in sessions}
        self.calls: list[str] = []
        self.gone: list[bytes] = []

    def add(self, name: bytes, wants_membership: bool = True) -> FakeSession:
        session = self.sessions[name] = FakeSession(name, wants_membership)
        return session

    def find(self, private_group: bytes) -> LocalSession | None:
        return self.sessions.get(private_group)

    def write(self, session: LocalSession, frame: bytes) -> None:
        assert isinstance(session, FakeSession)
        session.frames.append(frame)

    def write_many(self, session: LocalSession, frames: list[bytes]) -> None:
        for frame in frames:
            self.write(session, frame)

    def killed(self, private_group: bytes) -> None:
        self.gone.append(private_group)
        self.sessions.pop(private_group, None)

    def block(self) -> None:
        self.calls.append("block")

    def unblock(self) -> None:
        self.calls.append("unblock")


class ReplaySessions(FakeSessions):
    """Sessions of a recording: a name stays findable after its kill."""

    def killed(self, private_group: bytes) -> None:
        self.gone.append(private_group)


class FakeOrdering:
    def __init__(self, calls: list[str] | None = None) -> None:
        self.submitted: list[tuple[bytes, PacketType]] = []
        self.calls: list[str] = [] if calls is None else calls
        self.queue = DownQueue.NORMAL
        self.threshold: DeliveryThreshold | None = None

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        self.submitted.append((message, packet_type))
        if MessageHeader.decode(message).type & GROUPS_MESS:
            self.calls.append("submit groups")
        else:
            self.calls.append("submit")

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        for message in messages:
            self.submit(message, packet_type)

    def switch_queue(self, queue: DownQueue) -> None:
        self.queue = queue
        self.calls.append(f"queue {queue.value}")

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        self.threshold = threshold
        self.calls.append(f"threshold {threshold.value}")

    def queued(self) -> int:
        return len(self.submitted)

    def take(self) -> list[bytes]:
        """What was submitted since the last call."""
        taken = [message for message, _ in self.submitted]
        self.submitted.clear()
        return taken


class RecordingAlarms:
    """Keeps every line that is asked for."""

    def __init__(self) -> None:
        self.lines: list[tuple[Priority, str]] = []

    def wants(self, category: Category, priority: Priority) -> bool:
        return True

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        self.lines.append((priority, text % args))

    def at_least(self, priority: Priority) -> list[str]:
        """Lines of complaint; PRINT is a level of its own."""
        return [
            text for level, text in self.lines if priority <= level and level is not Priority.PRINT
        ]


@define(eq=False)
class Daemons:
    """One groups layer with its stand-ins."""

    groups: Groups
    ordering: FakeOrdering
    sessions: FakeSessions
    alarms: RecordingAlarms
    reforms: list[str]
    id: ProcId
    name: str

    def join(self, who: str, group: str | bytes) -> None:
        self.groups.on_message(join(who, group))

    def leave(self, who: str, group: str | bytes) -> None:
        self.groups.on_message(leave(who, group))

    def kill(self, who: str) -> None:
        self.groups.on_message(kill(who))

    def membership(
        self, time: int, regular: Sequence[ProcId], transitional: Sequence[ProcId] | None = None
    ) -> None:
        """Both signals of one change; ids as the membership layer makes them."""
        along = regular if transitional is None else transitional
        self.groups.on_transitional(tuple(along), MembershipId(along[0], time - 1))
        self.groups.on_regular(tuple(regular), MembershipId(regular[0], time))


def daemon_of(configuration: Configuration, name: str, clients: Iterable[str] = ()) -> Daemons:
    """A groups layer in a fresh process, with sessions that want membership messages."""
    me = configuration.by_name[name]
    sessions = FakeSessions(FakeSession(client.encode()) for client in clients)
    ordering = FakeOrdering(sessions.calls)
    alarms = RecordingAlarms()
    reforms: list[str] = []
    groups = Groups(me, configuration, ordering, sessions, alarms, reforms.append)
    return Daemons(groups, ordering, sessions, alarms, reforms, me.id, name)


def _bytes(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def join(who: str | bytes, group: str | bytes) -> bytes:
    return encode_message(JOIN_MESS, _bytes(who), [_bytes(group)])


def leave(who: str | bytes, group: str | bytes) -> bytes:
    return encode_message(LEAVE_MESS, _bytes(who), [_bytes(group)])


def kill(who: str | bytes) -> bytes:
    return encode_message(KILL_MESS, _bytes(who), [_bytes(who)])


def data(
    sender: str, groups: Sequence[str | bytes], body: bytes = b"hello", kind: int = AGREED
) -> bytes:
    return encode_message(kind, _bytes(sender), [_bytes(group) for group in groups], body)
