"""Any bytes at all: nothing escapes, and only the offender is hurt."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from session_fakes import Client, World, choice, connect_request
from session_replay import load, names

from txspread.engine.sessions_state import SessionState
from txspread.wire.constants import WATER_MARK
from txspread.wire.message import HEADER_BE, HEADER_LE, MessageHeader

FIFO = 0x04

RECORDED = [
    bytes.fromhex("".join(event["hex"] for event in load(name)["events"] if event["dir"] == "c2d"))
    for name in names("*")
    if name != "largest-message"
]


class Watched:
    """A world with two well-behaved clients in a group."""

    def __init__(self) -> None:
        self.world = World()
        self.well = [self.world.connect(b"well%d" % number) for number in range(2)]
        for client in self.well:
            client.join(b"quiet")
        for client in self.well:
            client.frames()

    def check(self) -> None:
        first, second = self.well
        assert first.alive
        assert second.alive
        message = first.message(FIFO, [b"quiet"], b"ping")
        first.send(message)
        # The offender may join the group, and may leave it by being cut off.
        assert message in first.frames()
        assert message in second.frames()
        for submitted, _ in self.world.ordering.submitted:
            header = MessageHeader.decode(submitted)
            assert not header.type & 0x00F8FF00 & ~0x40000
            assert len(submitted) == 48 + 32 * header.num_groups + header.data_len <= 143200


def throw(watched: Watched, data: bytes, cuts: list[int]) -> None:
    client = watched.world.open()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        client.send(data[start:end])
        watched.world.timer(0)
    client.end()
    assert client.session.state is SessionState.GONE
    assert client.transport.closed
    private_group = client.session.private_group
    kills = watched.world.ordering.kills()
    assert kills == ([private_group] if private_group else [])
    assert watched.world.sessions.count == 2
    assert watched.world.sessions.next_timer() is None
    watched.check()


CUTS = st.lists(st.integers(0, 5000), max_size=8)
LOGIN = connect_request(b"evil") + choice("NULL")


@settings(deadline=None)
@given(st.binary(max_size=400), CUTS)
def test_random_bytes_from_the_start(data: bytes, cuts: list[int]) -> None:
    throw(Watched(), data, cuts)


@settings(deadline=None)
@given(st.binary(max_size=400), CUTS)
def test_random_bytes_behind_a_good_handshake(data: bytes, cuts: list[int]) -> None:
    throw(Watched(), LOGIN + data, cuts)


_NUMBERS = st.one_of(
    st.integers(-3, 130), st.sampled_from((-(2**31), 2**31 - 1, 143120, 143121, 144000))
)
_TYPES = st.builds(
    lambda bits, marker: sum({1 << bit for bit in bits}) & 0x7FFFFF7F | marker,
    st.lists(st.integers(0, 30), min_size=1, max_size=3),
    st.sampled_from((0, 0x80000080, 0x80000080, 0x80000000)),
)
_NAMES = st.sampled_from(
    [b"#evil#d1", b"#evil#d1\0junk", b"#well0#d1", b"quiet", b"", b"#" + b"x" * 31, b"\xff" * 32]
)


@st.composite
def nearly_frames(draw: st.DrawFn) -> bytes:
    type_ = draw(_TYPES)
    order = HEADER_LE if type_ & 0x80000080 else HEADER_BE
    sender = draw(st.one_of(st.just(b"#evil#d1"), _NAMES)).ljust(32, b"\0")[:32]
    groups = draw(st.one_of(st.integers(0, 4), _NUMBERS))
    body = draw(st.binary(max_size=50))
    size = draw(st.one_of(st.just(len(body)), _NUMBERS))
    hint = draw(st.sampled_from((0, 0x80000080, 0x00123400, 0x80FFFF80, 1)))
    listed = [draw(_NAMES).ljust(32, b"\0")[:32] for _ in range(min(max(groups, 0), 4))]
    return order.pack(type_, sender, groups, hint, size) + b"".join(listed) + body


@settings(max_examples=200, deadline=None)
@given(st.lists(nearly_frames(), min_size=1, max_size=5), CUTS)
def test_frames_that_are_nearly_right(frames: list[bytes], cuts: list[int]) -> None:
    throw(Watched(), LOGIN + b"".join(frames), cuts)


@pytest.mark.parametrize("seed", range(60))
def test_mutated_recorded_conversations(seed: int) -> None:
    """The seed in the test's name replays a failure."""
    dice = random.Random(seed)
    for _ in range(4):
        data = bytearray(dice.choice(RECORDED)[:20000])
        for _ in range(dice.randrange(1, 6)):
            if not data:
                break
            at = dice.randrange(len(data))
            kind = dice.randrange(5)
            if kind == 0:
                data[at] ^= 1 << dice.randrange(8)
            elif kind == 1:
                data[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif kind == 2:
                del data[at : at + dice.randrange(1, 60)]
            elif kind == 3:
                data[at:at] = dice.randbytes(dice.randrange(1, 60))
            else:
                data[at:at] = data[max(0, at - 80) : at]
        throw(Watched(), bytes(data), [dice.randrange(20000) for _ in range(dice.randrange(9))])


class SessionsMachine(RuleBasedStateMachine):
    """Clients come, talk, block and go while the ring stalls, blocks and delivers."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(immediate=False, max_session_messages=8)
        self.clients: list[Client] = []
        self.speakers: dict[bytes, Client] = {}
        self.earlier: dict[Client, int] = {}
        self.blocked = False
        self.serial = 0

    def pick(self, index: int) -> Client:
        return self.clients[index % len(self.clients)]

    @rule(name=st.sampled_from((b"", b"a", b"b", b"c")), old=st.booleans(), slow=st.booleans())
    def arrive(self, name: bytes, old: bool, slow: bool) -> None:
        client = self.world.open(capacity=0 if slow else None)
        client.name = name
        version = (3, 15, 0) if old else (4, 4, 0)
        client.send(connect_request(name, version) + (b"" if old else choice("NULL")))
        self.clients.append(client)

    @precondition(lambda self: self.clients)
    @rule(index=st.integers(0, 99), cut=st.integers(1, 200), to_group=st.booleans())
    def talk(self, index: int, cut: int, to_group: bool) -> None:
        client = self.pick(index)
        if not client.session.private_group:
            return
        client.name = client.session.name
        self.serial += 1
        self.speakers[b"%d" % self.serial] = client
        target = b"g" if to_group else client.private_group
        data = client.message(0x10000, [b"g"])
        data += client.message(FIFO, [target], b"%d" % self.serial) * 3
        client.send(data[:cut])
        client.send(data[cut:])

    @precondition(lambda self: self.clients)
    @rule(index=st.integers(0, 99), data=st.binary(min_size=1, max_size=100))
    def misbehave(self, index: int, data: bytes) -> None:
        self.pick(index).send(data)

    @precondition(lambda self: self.clients)
    @rule(index=st.integers(0, 99), how=st.sampled_from(("kill", "end")))
    def go(self, index: int, how: str) -> None:
        client = self.pick(index)
        if how == "kill" and client.session.private_group:
            client.name = client.session.name
            client.disconnect()
        else:
            client.end()

    @rule()
    def block(self) -> None:
        self.world.sessions.block()
        self.blocked = True

    @rule()
    def unblock(self) -> None:
        self.world.sessions.unblock()
        self.blocked = False
        self.world.turn()

    @rule(stop=st.booleans())
    def gate(self, stop: bool) -> None:
        if stop:
            self.world.sessions.stop_clients()
        else:
            self.world.sessions.serve_clients()
            self.world.turn()

    @rule()
    def deliver(self) -> None:
        if not self.blocked:
            self.world.ordering.run()
        self.world.turn()

    @rule(seconds=st.sampled_from((0.5, 1.0, 31.0)))
    def wait(self, seconds: float) -> None:
        self.world.timer(seconds)

    @invariant()
    def one_kill_for_each_accepted_session_at_most(self) -> None:
        kills = self.world.ordering.kills()
        ended = [
            client.session.private_group
            for client in self.clients
            if client.session.private_group and not client.session.operational
        ]
        assert sorted(kills) == sorted(ended)

    @invariant()
    def nothing_of_a_session_is_ordered_behind_its_kill(self) -> None:
        for client in self.clients:
            group = client.session.private_group
            if group and client not in self.earlier:
                self.earlier[client] = sum(
                    other.session.private_group == group for other in self.earlier
                )
        kills: Counter[bytes] = Counter()
        for message, _ in self.world.ordering.submitted:
            header = MessageHeader.decode(message)
            if header.type & 0x40000:
                kills[header.sender] += 1
            elif header.type & FIFO:
                assert kills[header.sender] == self.earlier[self.speakers[message[80:]]]

    @invariant()
    def names_are_unique_and_everything_is_bounded(self) -> None:
        sessions = self.world.sessions.sessions()
        assert len({session.name for session in sessions}) == len(sessions)
        assert self.world.ordering.queued() <= WATER_MARK + len(self.clients)
        for session in sessions:
            assert len(session.output) <= 8 or not session.operational
            assert session.chunks_size <= 143200 or session.held

    @invariant()
    def closed_means_closed(self) -> None:
        for client in self.clients:
            if client.session.state in (SessionState.KILLED, SessionState.GONE):
                assert client.transport.closed

    def teardown(self) -> None:
        self.world.sessions.unblock()
        self.world.sessions.serve_clients()
        for client in self.clients:
            client.end()
        for _ in range(20):
            self.world.ordering.run()
            self.world.turn()
        self.world.timer(31)
        assert self.world.sessions.count == 0
        assert self.world.sessions.next_timer() is None
        self.one_kill_for_each_accepted_session_at_most()


TestSessionsMachine = SessionsMachine.TestCase
TestSessionsMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
