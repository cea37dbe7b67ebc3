"""Stand-ins for everything around the sessions layer."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from txspread.config.model import Configuration, Daemon, Interface, InterfaceType, Segment, Timeouts
from txspread.engine.alarms import Category, Priority
from txspread.engine.authentication import Authentication
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import DeliveryThreshold, DownQueue
from txspread.engine.session_output import OutputQueue
from txspread.engine.sessions import Sessions
from txspread.engine.sessions_state import Session
from txspread.wire.constants import (
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    REGULAR_MESS,
    SELF_DISCARD,
    PacketType,
)
from txspread.wire.message import MessageHeader, encode_message, message_groups, name_field

LOCALHOST = 0x7F000001


def configuration(**changes: object) -> Configuration:
    interface = Interface("127.0.0.1", 0, InterfaceType.ANY)
    daemon = Daemon("d1", "127.0.0.1", LOCALHOST, 4803, (interface,), 0, 0)
    segment = Segment(0, "127.0.0.255", 4803, (daemon,))
    timeouts = Timeouts(5, 2, 1, 1, 2.5, 2, 5, 5, 60)
    return Configuration((segment,), 0, False, timeouts, **changes)  # type: ignore[arg-type]


class FakeTransport:
    """A connection whose kernel takes ``capacity`` bytes, None for any number."""

    def __init__(self, capacity: int | None = None) -> None:
        self.output: OutputQueue | None = None
        self.capacity = capacity
        self.written = b""
        self.writes = 0
        self.closed = False
        self.paused = False
        self.on_flush: Callable[[], None] | None = None

    def flush(self) -> None:
        assert not self.closed
        if self.on_flush is not None:
            self.on_flush()
        if self.output is None:
            return
        data = b"".join(self.output.buffers(1 << 20))
        if self.capacity is not None:
            data = data[: self.capacity]
            self.capacity -= len(data)
        if data:
            self.writes += 1
        self.written += data
        self.output.consumed(len(data))

    def close(self) -> None:
        self.closed = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def take(self) -> bytes:
        written = self.written
        self.written = b""
        return written


class FakeHost:
    def __init__(self) -> None:
        self.accepting = True
        self.changes = 0

    def pause_accepting(self) -> None:
        self.accepting = False
        self.changes += 1

    def resume_accepting(self) -> None:
        self.accepting = True
        self.changes += 1


class RecordingAlarms:
    def __init__(self) -> None:
        self.lines: list[tuple[Category, Priority, str]] = []

    def wants(self, category: Category, priority: Priority) -> bool:
        return True

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        self.lines.append((category, priority, text % args if args else text))

    @property
    def texts(self) -> list[str]:
        return [text for _, _, text in self.lines]


class FakeOrdering:
    """Orders at once, or keeps everything until :meth:`run`."""

    def __init__(self, *, immediate: bool = True) -> None:
        self.immediate = immediate
        self.submitted: list[tuple[bytes, PacketType]] = []
        self.waiting: list[bytes] = []
        self.deliver: Callable[[bytes], None] = lambda message: None
        self._delivering = False

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        self.submitted.append((message, packet_type))
        self.waiting.append(message)
        if self.immediate:
            self.run()

    def run(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        while self.waiting:
            self.deliver(self.waiting.pop(0))
        self._delivering = False

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        for message in messages:
            self.submit(message, packet_type)

    def switch_queue(self, queue: DownQueue) -> None:
        pass

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        pass

    def queued(self) -> int:
        return len(self.waiting)

    def kills(self) -> list[bytes]:
        return [
            MessageHeader.decode(message).sender
            for message, _ in self.submitted
            if MessageHeader.decode(message).type & KILL_MESS
        ]


class FakeGroups:
    """Process groups of one daemon: enough to see what clients get."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.members: dict[bytes, list[bytes]] = {}
        self.index: dict[bytes, int] = {}
        self.delivered: list[bytes] = []

    def on_message(self, message: bytes) -> None:
        self.delivered.append(message)
        header = MessageHeader.decode(message)
        assert not header.type & GROUPS_MESS
        if header.type & JOIN_MESS:
            self._join(header.sender, message_groups(message, 1)[0])
        elif header.type & LEAVE_MESS:
            self._leave(header.sender, message_groups(message, 1)[0])
        elif header.type & KILL_MESS:
            for group in sorted(self.members):
                if header.sender in self.members[group]:
                    self._remove(group, header.sender)
                    self._tell(group, 0x1400, header.sender)
            self.sessions.killed(header.sender)
        else:
            self._route(header, message)

    def _join(self, who: bytes, group: bytes) -> None:
        members = self.members.setdefault(group, [])
        if who in members:
            return
        members.append(who)
        members.sort()
        self._tell(group, 0x1100, who)

    def _leave(self, who: bytes, group: bytes) -> None:
        if who not in self.members.get(group, ()):
            return
        self._remove(group, who)
        session = self.sessions.find(who)
        if session is not None and session.wants_membership:
            self.sessions.write(session, encode_message(0x200, group, ()))
        self._tell(group, 0x1200, who)

    def _remove(self, group: bytes, who: bytes) -> None:
        self.members[group].remove(who)

    def _tell(self, group: bytes, type_: int, who: bytes) -> None:
        members = self.members[group]
        if not members:
            del self.members[group]
            self.index.pop(group, None)
            return
        self.index[group] = self.index.get(group, 0) + 1
        body = struct.pack("<IiiIII", LOCALHOST, 1, self.index[group], 1, 0, 1) + name_field(who)
        frame = encode_message(type_, group, members, body)
        for name in members:
            session = self.sessions.find(name)
            if session is not None and session.wants_membership:
                self.sessions.write(session, frame)

    def _route(self, header: MessageHeader, message: bytes) -> None:
        targets: list[Session] = []
        for name in message_groups(message, header.num_groups):
            for member in [name] if name[:1] == b"#" else self.members.get(name, []):
                session = self.sessions.find(member)
                if session is not None and session not in targets:
                    targets.append(session)
        for session in targets:
            if header.type & SELF_DISCARD and session.private_group == header.sender:
                continue
            self.sessions.write(session, message)


class World:
    """A sessions layer with everything around it faked."""

    def __init__(
        self,
        *,
        immediate: bool = True,
        authentication: Authentication | None = None,
        me_name: bytes = b"d1",
        seed: int = 1,
        max_session_bytes: int = 64 * 1024 * 1024,
        **changes: object,
    ) -> None:
        self.ordering = FakeOrdering(immediate=immediate)
        self.host = FakeHost()
        self.alarms = RecordingAlarms()
        self.sessions = Sessions(
            me_name,
            configuration(**changes),
            self.ordering,
            self.alarms,
            random.Random(seed).random,
            self.host,
            authentication=authentication,
            max_session_bytes=max_session_bytes,
        )
        self.groups = FakeGroups(self.sessions)
        self.ordering.deliver = self.groups.on_message
        self.now = 100.0
        self.mailbox = 10

    def open(self, address: int = LOCALHOST, capacity: int | None = None) -> Client:
        self.mailbox += 1
        return Client(self, address, self.mailbox, capacity)

    def connect(
        self, name: bytes, *, membership: bool = True, capacity: int | None = None
    ) -> Client:
        """A client that is through its handshake, with nothing in its inbox."""
        client = self.open()
        client.send(connect_request(name, membership=membership) + choice("NULL"))
        assert client.transport.take().startswith(b"\x05NULL \x01\x04\x04\x00")
        client.name = name
        client.transport.capacity = capacity
        return client

    def turn(self) -> None:
        self.sessions.flush()

    def timer(self, seconds: float) -> None:
        self.now += seconds
        due = self.sessions.next_timer()
        if due is not None and due <= self.now:
            self.sessions.timer(self.now)
        self.turn()


class Client:
    """One connection to a :class:`World`."""

    def __init__(self, world: World, address: int, mailbox: int, capacity: int | None) -> None:
        self.world = world
        self.name = b""
        self.transport = FakeTransport(capacity)
        self.session = world.sessions.opened(
            self.transport, PeerAddress(address, mailbox), world.now
        )
        self.transport.output = self.session.output
        world.turn()

    @property
    def private_group(self) -> bytes:
        return b"#%b#%b" % (self.name, self.world.sessions.me_name)

    def send(self, data: bytes) -> None:
        """Bytes arrive in one piece, and the turn ends."""
        if not self.transport.closed:
            self.world.sessions.received(self.session, data, self.world.now)
        self.world.turn()

    def end(self) -> None:
        if not self.transport.closed:
            self.world.sessions.closed(self.session, self.world.now)
        self.world.turn()

    def message(
        self, type_: int, groups: Sequence[bytes], body: bytes = b"", mess_type: int = 0
    ) -> bytes:
        return encode_message(type_, self.private_group, groups, body, mess_type)

    def multicast(self, type_: int, groups: Sequence[bytes], body: bytes = b"") -> None:
        self.send(self.message(type_, groups, body))

    def join(self, group: bytes) -> None:
        self.send(self.message(JOIN_MESS, [group]))

    def leave(self, group: bytes) -> None:
        self.send(self.message(LEAVE_MESS, [group]))

    def disconnect(self) -> None:
        self.send(self.message(KILL_MESS, [self.private_group]))

    @property
    def alive(self) -> bool:
        return not self.transport.closed and self.session.operational

    def frames(self) -> list[bytes]:
        """Complete frames that have arrived since the last call."""
        return split_frames(self.transport.take())


def split_frames(data: bytes) -> list[bytes]:
    frames = []
    while data:
        header = MessageHeader.decode(data)
        size = 48 + 32 * header.num_groups + header.data_len
        assert len(data) >= size
        frames.append(data[:size])
        data = data[size:]
    return frames


def connect_request(
    name: bytes,
    version: tuple[int, ...] = (4, 4, 0),
    *,
    membership: bool = True,
    flags: int | None = None,
) -> bytes:
    if flags is None:
        flags = int(membership)
    return bytes((*version, flags, len(name))) + name


def choice(*methods: str) -> bytes:
    return b"".join(method.encode().ljust(30, b"\0") for method in methods).ljust(90, b"\0")


def service_of(message: bytes) -> int:
    return MessageHeader.decode(message).type & REGULAR_MESS
