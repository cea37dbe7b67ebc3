"""The engine keeps nothing of a session that has ended."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest
from session_fakes import World, connect_request

from txspread.engine.handshake import Handshake, PeerAddress
from txspread.engine.session_output import OutputQueue
from txspread.engine.sessions_state import Session
from txspread.wire.constants import ServiceType

OF_A_SESSION = (Session, Handshake, OutputQueue, PeerAddress)


@pytest.fixture(autouse=True)
def without_collections() -> Iterator[None]:
    """Nobody comes by for reference cycles."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    yield
    if enabled:
        gc.enable()


def alive() -> dict[type[object], int]:
    found = Counter(type(one) for one in gc.get_objects())
    return {one: found[one] for one in OF_A_SESSION}


def come_and_go(world: World, how: str) -> None:
    client = world.connect(b"alice", capacity=0 if how == "slow" else None)
    client.join(b"g")
    if how == "goodbye":
        client.disconnect()
    elif how == "end":
        client.end()
    elif how == "illegal":
        client.send(bytes(48))
    elif how == "half":
        client.send(client.message(ServiceType.FIFO_MESS, [b"g"], bytes(100))[:-1])
        client.end()
    elif how == "slow":
        sender = world.connect(b"bob")
        while client.alive:
            sender.multicast(ServiceType.FIFO_MESS, [b"g"], bytes(100))
            world.timer(0.1)
        sender.disconnect()
    elif how == "held":
        world.sessions.block()
        client.multicast(ServiceType.FIFO_MESS, [b"g"], bytes(100))
        client.end()
        world.sessions.unblock()
        world.turn()
    elif how == "killed by a peer":
        world.sessions.killed(client.private_group)


@pytest.mark.parametrize(
    "how", ["goodbye", "end", "illegal", "half", "slow", "held", "killed by a peer"]
)
def test_sessions_are_freed_when_their_kill_is_delivered(how: str) -> None:
    world = World(max_session_messages=100)
    before = alive()
    for _ in range(5):
        come_and_go(world, how)
        world.turn()
        assert world.sessions.count == 0
    assert alive() == before


@pytest.mark.parametrize("how", ["end", "late", "refused", "taken"])
def test_handshakes_that_fail_are_freed(how: str) -> None:
    world = World()
    world.connect(b"alice")
    before = alive()
    for _ in range(5):
        client = world.open()
        if how == "refused":
            client.send(connect_request(b"a#b"))
        elif how == "taken":
            client.send(connect_request(b"alice"))
        elif how == "late":
            client.send(connect_request(b"bob"))
            world.timer(31)
        else:
            client.send(connect_request(b"bob"))
            client.end()
        assert client.transport.closed
        del client
    assert world.sessions.count == 1
    assert alive() == before
