"""A client that reads too slowly is named before it is cut off."""

from __future__ import annotations

from monitor_bench import Lines, SimulatedRing

from txspread.engine.handshake import PeerAddress
from txspread.engine.sessions_state import Session
from txspread.engine.sessions_warning import MAX_SESSIONS, PAUSE, SlowClients
from txspread.testing.virtual_client import VirtualClient

ALONE = "MaxSessionMessages = 100\nSpread_Segment 10.0.0.255:4803 {\n a 10.0.0.1\n}\n"


def warnings(ring):
    return [line for line in ring.logs["a"].lines if "reads too slowly" in line]


def test_a_client_is_named_at_three_quarters_of_its_queue():
    ring = SimulatedRing(ALONE)
    ring.connect("a")
    slow = ring.clients["a"]
    ring.run(0.1)
    slow.stop_reading()
    other = VirtualClient(ring.network.daemons["a"], b"other")
    ring.run(0.1)
    sent = 0
    while not warnings(ring) and sent < 100:
        other.multicast(0x10, [b"room"], b"x")
        sent += 1
        ring.run(0.01)
    (line,) = warnings(ring)
    assert "session ca ( mailbox" in line
    assert 75 <= sent <= 77
    assert not slow.closed
    while not slow.closed and sent < 200:
        other.multicast(0x10, [b"room"], b"x")
        sent += 1
        ring.run(0.01)
    assert slow.closed
    assert len(warnings(ring)) == 1


class Transport:
    def flush(self): ...
    def close(self): ...
    def pause(self): ...
    def resume(self): ...


def test_the_same_session_is_named_now_and_then_and_few_are_remembered():
    lines = Lines()
    slow = SlowClients(lines)
    sessions = [Session(Transport(), PeerAddress(0, n)) for n in range(MAX_SESSIONS + 5)]
    slow.nearly_full(sessions[0], 100, 1.0)
    slow.nearly_full(sessions[0], 100, 1.0 + PAUSE / 2)
    assert slow.warnings == 1
    slow.nearly_full(sessions[0], 100, 1.0 + PAUSE)
    assert slow.warnings == 2
    for session in sessions:
        slow.nearly_full(session, 100, 12.0)
    assert slow.warnings == 1 + len(sessions)
    assert len(lines.lines) == slow.warnings
