"""Replicas under random events: they stay equal, and clients' views add up."""

from __future__ import annotations

from typing import Any

from groups_harness import FakeSession, configuration_of, data, join, kill, leave
from groups_ring import Member, Ring
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from txspread.engine.groups import GroupsState
from txspread.wire.constants import ServiceType
from txspread.wire.membership_message import MembershipBody
from txspread.wire.message import MessageHeader, message_groups

DAEMONS = {"d1": "127.0.0.1", "d2": "192.168.0.1", "d3": "10.0.0.1", "d4": "100.64.0.1"}
CLIENTS = [f"#{name}#{daemon}" for daemon in DAEMONS for name in ("a", "B")]
QUIET = {"#B#d2"}
REG_MEMB_MESS = int(ServiceType.REG_MEMB_MESS)
NETWORK = int(ServiceType.CAUSED_BY_NETWORK)

daemons = st.sampled_from(sorted(DAEMONS))
clients = st.sampled_from(CLIENTS)
groups = st.sampled_from(["g", "h", "only", "G"])
counts = st.integers(0, 6)
some = st.integers(0, 3)


def partitions(numbers: list[int]) -> list[list[str]]:
    """Daemons with the same number are in the same part."""
    return [
        [name for name, part in zip(DAEMONS, numbers, strict=True) if part == wanted]
        for wanted in sorted(set(numbers))
    ]


parts = st.lists(st.integers(0, 2), min_size=4, max_size=4).map(partitions)


class ReplicaMachine(RuleBasedStateMachine):
    """Anything that a network can do between calm moments."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = Ring(configuration_of(DAEMONS))
        self.living: dict[str, FakeSession] = {}
        self.last_view: dict[tuple[FakeSession, bytes], list[bytes]] = {}
        self.read: dict[FakeSession, int] = {}

    def daemon(self, client: str) -> Member:
        return self.ring.members[client.split("#")[2]]

    # -- clients

    def session(self, client: str) -> FakeSession | None:
        """Its session; connects it unless its last KILL is still on the way."""
        if client not in self.living:
            if self.daemon(client).sessions.find(client.encode()) is not None:
                return None
            self.living[client] = self.ring.client(client, client not in QUIET)
        return self.living[client]

    def serves_clients(self, client: str) -> bool:
        return self.daemon(client).groups.state in (GroupsState.GOP, GroupsState.GTRANS)

    @rule(client=clients, group=groups)
    def join(self, client: str, group: str) -> None:
        if self.session(client) is not None and self.serves_clients(client):
            self.ring.submit(self.daemon(client).name, join(client, group))

    @rule(client=clients, group=groups)
    def leave(self, client: str, group: str) -> None:
        if client in self.living and self.serves_clients(client):
            self.ring.submit(self.daemon(client).name, leave(client, group))

    @rule(client=clients)
    def disconnect(self, client: str) -> None:
        if client in self.living and self.serves_clients(client):
            del self.living[client]
            self.ring.submit(self.daemon(client).name, kill(client))

    @rule(client=clients, names=st.lists(st.one_of(groups, clients), max_size=3))
    def multicast(self, client: str, names: list[str]) -> None:
        if client in self.living and self.serves_clients(client):
            self.ring.submit(self.daemon(client).name, data(client, names))

    # -- the ring

    @rule(daemon=daemons, count=counts)
    def order(self, daemon: str, count: int) -> None:
        self.ring.order(daemon, count)

    @rule(daemon=daemons, count=counts)
    def deliver(self, daemon: str, count: int) -> None:
        self.ring.deliver(self.ring.component_of(daemon), count)

    @rule()
    def settle(self) -> None:
        self.ring.settle()
        for member in self.ring.members.values():
            assert member.groups.state is GroupsState.GOP

    @rule(pairs=st.lists(st.tuples(clients, groups), min_size=1, max_size=8))
    def populate(self, pairs: list[tuple[str, str]]) -> None:
        """Let several clients join, and all of it be delivered."""
        for client, group in pairs:
            self.join(client, group)
        self.settle()

    def calm(self) -> bool:
        return all(member.groups.state is GroupsState.GOP for member in self.ring.members.values())

    @precondition(calm)
    @rule(layout=parts, before=counts, hole=counts)
    def change(self, layout: list[list[str]], before: int, hole: int) -> None:
        self.ring.change(layout, before=before, hole=max(before, hole))

    # -- what must hold

    @invariant()
    def nothing_was_refused(self) -> None:
        for member in self.ring.members.values():
            assert member.groups.dropped == {}
            assert member.reforms == []

    @invariant()
    def replicas_of_a_ring_are_equal(self) -> None:
        for component in self.ring.components:
            replicas = [
                self.replica(member)
                for member in component.members
                if member.groups.state is GroupsState.GOP
            ]
            assert all(replica == replicas[0] for replica in replicas)

    def replica(self, member: Member) -> Any:
        return [
            (group.name, group.id, group.changed, self.members(group))
            for group in member.groups._table.in_order()
        ]

    def members(self, group: Any) -> list[tuple[int, list[bytes]]]:
        return [(record.proc_id, list(record.names)) for record in group.ordered]

    @invariant()
    def the_indexes_of_a_replica_agree(self) -> None:
        for member in self.ring.members.values():
            table = member.groups._table
            by_member: dict[bytes, set[bytes]] = {}
            for group in table.in_order():
                assert group.ordered
                assert group.count == sum(len(record.names) for record in group.ordered)
                assert [record.order for record in group.ordered] == sorted(
                    record.order for record in group.ordered
                )
                for record in group.ordered:
                    assert record.names == sorted(set(record.names))
                    fields = b"".join(name.ljust(32, b"\0") for name in record.names)
                    assert bytes(record.fields) == fields
                    for name in record.names:
                        by_member.setdefault(name, set()).add(group.name)
                own = group.daemons.get(member.id)
                assert sorted(group.local) == ([] if own is None else own.names)
                assert group.fan_out == tuple(group.local.values())
                kept = table.fan_out.get(group.name_field)
                assert kept is None or kept == group.fan_out
            assert set(table._groups_of) == set(by_member)
            for name, names in by_member.items():
                assert [group.name for group in table.groups_of(name)] == sorted(names)

    @invariant()
    def every_view_partitions_its_members(self) -> None:
        for member in self.ring.members.values():
            for session in member.sessions.sessions.values():
                new = session.frames[self.read.get(session, 0) :]
                self.read[session] = len(session.frames)
                for frame in new:
                    self.look_at(session, frame)

    def look_at(self, session: FakeSession, frame: bytes) -> None:
        header = MessageHeader.decode(frame)
        if header.type & REG_MEMB_MESS:
            assert session.wants_membership
            names = message_groups(frame, header.num_groups)
            body = MembershipBody.decode(frame[48 + 32 * len(names) :], "<")
            assert session.private_group in names
            self.last_view[session, header.sender] = names
            if header.type & NETWORK:
                union = [name for one in body.vs_sets for name in one]
                assert sorted(union) == sorted(names)
                offsets = {0}
                at = 0
                mine: tuple[bytes, ...] = ()
                for one in body.vs_sets:
                    if at == body.local_vs_set_offset:
                        mine = one
                    at += 4 + 32 * len(one)
                    offsets.add(at)
                assert body.local_vs_set_offset in offsets
                assert session.private_group in mine or mine == ()
            else:
                assert len(body.vs_sets) == 1
                assert body.local_vs_set_offset == 0

    @invariant()
    def clients_know_the_members_of_their_groups(self) -> None:
        self.every_view_partitions_its_members()
        for member in self.ring.members.values():
            if member.groups.state not in (GroupsState.GOP, GroupsState.GTRANS):
                continue
            for group in member.groups._table.in_order():
                for session in group.local.values():
                    if session.wants_membership:
                        assert isinstance(session, FakeSession)
                        known = self.last_view[session, group.name]
                        assert known == member.groups.members(group.name)


class CascadeMachine(ReplicaMachine):
    """The same with changes that interrupt a state exchange.

    Group ids may then differ between daemons until the next change; members may
    not.
    """

    @rule(layout=parts, before=counts, hole=counts)
    def cascade(self, layout: list[list[str]], before: int, hole: int) -> None:
        self.ring.change(layout, before=before, hole=max(before, hole))

    @rule(first=parts, delivered=some, second=parts, before=some, hole=counts)
    def interrupt(
        self,
        first: list[list[str]],
        delivered: int,
        second: list[list[str]],
        before: int,
        hole: int,
    ) -> None:
        """A change in the midst of the exchange that another one has begun."""
        self.ring.change(first)
        for component in self.ring.components:
            for member in component.members:
                self.ring.order(member.name)
            self.ring.deliver(component, delivered)
        self.ring.change(second, before=before, hole=max(before, hole))

    def replica(self, member: Member) -> Any:
        return [(group.name, self.members(group)) for group in member.groups._table.in_order()]


LIMITS = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

TestReplicas = ReplicaMachine.TestCase
TestReplicas.settings = LIMITS
TestReplicasInCascades = CascadeMachine.TestCase
TestReplicasInCascades.settings = LIMITS
