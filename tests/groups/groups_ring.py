"""Groups layers of several daemons around an imitated ring.

The ring keeps one list of ordered messages per component and delivers each to all
members of the component; a change of the network gives every group of daemons that
stays together the same signals at the same positions, as the ring layer promises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field
from groups_harness import FakeSession, FakeSessions, RecordingAlarms

from txspread.config.model import Configuration
from txspread.engine.groups import Groups
from txspread.engine.interfaces import DeliveryThreshold, DownQueue
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId, ProcId


class QueueingOrdering:
    """Two down queues, of which the ring serves the active one."""

    def __init__(self) -> None:
        self.queues: dict[DownQueue, list[bytes]] = {queue: [] for queue in DownQueue}
        self.active = DownQueue.NORMAL
        self.threshold = DeliveryThreshold.BLOCK

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        self.queues[self.active].append(message)

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        for message in messages:
            self.submit(message, packet_type)

    def switch_queue(self, queue: DownQueue) -> None:
        self.active = queue

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        self.threshold = threshold

    def queued(self) -> int:
        return len(self.queues[self.active])

    def take(self, count: int | None = None) -> list[bytes]:
        queue = self.queues[self.active]
        taken = queue[:count]
        del queue[: len(taken)]
        return taken


@define(eq=False)
class Member:
    """One daemon."""

    name: str
    id: ProcId
    groups: Groups
    ordering: QueueingOrdering
    sessions: FakeSessions
    alarms: RecordingAlarms
    reforms: list[str]


@define(eq=False)
class Component:
    """Daemons that share a ring, and what the ring has ordered but not delivered."""

    members: list[Member]
    ordered: list[tuple[Member, bytes]] = field(factory=list)


class Ring:
    """All daemons of a configuration; first each is alone."""

    def __init__(
        self,
        configuration: Configuration,
        clients: Mapping[str, Iterable[FakeSession]] | None = None,
    ) -> None:
        self.configuration = configuration
        self.members: dict[str, Member] = {}
        self.components: list[Component] = []
        self.time = 1000
        for daemon in configuration.daemons:
            sessions = FakeSessions((clients or {}).get(daemon.name, ()))
            self.members[daemon.name] = self._fresh(daemon.name, sessions)
        for member in self.members.values():
            self._first_membership(member)

    def _fresh(self, name: str, sessions: FakeSessions) -> Member:
        daemon = self.configuration.by_name[name]
        ordering = QueueingOrdering()
        alarms = RecordingAlarms()
        reforms: list[str] = []
        groups = Groups(daemon, self.configuration, ordering, sessions, alarms, reforms.append)
        return Member(name, daemon.id, groups, ordering, sessions, alarms, reforms)

    def _first_membership(self, member: Member) -> None:
        self.time += 2
        self.components.append(Component([member]))
        member.groups.on_transitional((member.id,), MembershipId(member.id, self.time - 1))
        member.groups.on_regular((member.id,), MembershipId(member.id, self.time))

    def component_of(self, name: str) -> Component:
        return next(
            component
            for component in self.components
            if any(member.name == name for member in component.members)
        )

    def client(self, name: str, wants_membership: bool = True) -> FakeSession:
        """Connect a client, by its private group name."""
        daemon = name.split("#")[2]
        return self.members[daemon].sessions.add(name.encode(), wants_membership)

    def submit(self, daemon: str, message: bytes) -> None:
        """A client of a daemon sends."""
        self.members[daemon].ordering.queues[DownQueue.NORMAL].append(message)

    def order(self, daemon: str, count: int | None = None) -> None:
        """The token visits a daemon, which may send so many messages."""
        member = self.members[daemon]
        ordered = self.component_of(daemon).ordered
        ordered.extend((member, message) for message in member.ordering.take(count))

    def deliver(self, component: Component, count: int | None = None) -> None:
        """Deliver so many of the ordered messages to all members."""
        batch = component.ordered[:count]
        del component.ordered[: len(batch)]
        for _, message in batch:
            for member in component.members:
                member.groups.on_message(message)

    def settle(self) -> None:
        """Let the token turn until nobody has anything to say."""
        for component in self.components:
            while True:
                for member in component.members:
                    self.order(member.name)
                if not component.ordered:
                    break
                self.deliver(component)

    def send(self, daemon: str, message: bytes) -> None:
        """A client of a daemon sends, and all is delivered."""
        self.submit(daemon, message)
        self.settle()

    def crash(self, name: str) -> None:
        """A daemon dies and starts again, alone and without clients; the rest stay."""
        component = self.component_of(name)
        rest = [member for member in component.members if member.name != name]
        self.members[name] = self._fresh(name, FakeSessions())
        # In what was ordered it is not a member any more.
        component.members = rest
        if not rest:
            self.components.remove(component)
        self._first_membership(self.members[name])

    def change(
        self,
        parts: Sequence[Sequence[str]],
        time: int | None = None,
        before: int = 10**9,
        hole: int = 10**9,
    ) -> None:
        """The network divides into ``parts``; every daemon is in one of them.

        Of what its ring had ordered a daemon delivers ``before`` messages before the
        transitional signal, the rest up to ``hole`` after it, and beyond that only
        messages of daemons that come along.
        """
        self.time = self.time + 2 if time is None else time
        old = list(self.components)
        self.components = []
        for part in parts:
            names = [name for name in self.members if name in part]
            members = [self.members[name] for name in names]
            regular = tuple(member.id for member in members)
            for component in old:
                along = [member for member in component.members if member in members]
                self._signals(component, along, regular, before, hole)
            self.components.append(Component(members))

    def _signals(
        self,
        component: Component,
        along: list[Member],
        regular: tuple[ProcId, ...],
        before: int,
        hole: int,
    ) -> None:
        transitional = tuple(member.id for member in along)
        for member in along:
            for _, message in component.ordered[:before]:
                member.groups.on_message(message)
            member.groups.on_transitional(
                transitional, MembershipId(transitional[0], self.time - 1)
            )
            for number, (sender, message) in enumerate(component.ordered):
                if number >= before and (number < hole or sender in along):
                    member.groups.on_message(message)
            member.groups.on_regular(regular, MembershipId(regular[0], self.time))
