"""What clients of upstream's rings were told when the network changed."""

from __future__ import annotations

import json
from collections import defaultdict

from groups_harness import FakeSession, configuration_of
from groups_ring import Ring
from recorded import VECTORS

from txspread.wire.constants import JOIN_MESS, KILL_MESS, LEAVE_MESS
from txspread.wire.identifiers import MembershipId
from txspread.wire.message import MessageHeader

THREE = {"d1": "127.0.0.1", "d2": "127.0.1.2", "d3": "127.0.2.3"}
FOUR = {**THREE, "d4": "127.0.3.4"}


class Recording:
    """One conversation: who the connections are, what they sent and got."""

    def __init__(self, name: str) -> None:
        self.events = json.loads((VECTORS / "client" / f"{name}.json").read_text())["events"]
        flags: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.clients: dict[str, list[FakeSession]] = defaultdict(list)
        self.sessions: dict[str, FakeSession] = {}
        for event in self.events:
            data = bytes.fromhex(event["hex"])
            if event["what"] == "connect request":
                flags[event["conn"]] = data[3]
            elif event["what"] == "private group":
                connection = event["conn"]
                session = FakeSession(data, bool(flags[connection] & 1))
                self.names[connection] = data.decode()
                self.sessions[connection] = session
                self.clients[self.daemon(connection)].append(session)

    def daemon(self, connection: str) -> str:
        return self.names[connection].split("#")[2]

    def requests(self) -> list[tuple[str, bytes]]:
        """Connection and bytes of every message sent, with its place in the file."""
        return [
            (event["conn"], bytes.fromhex(event["hex"]))
            for event in self.events
            if event["dir"] == "c2d" and "type" in (event.get("fields") or {})
        ]

    def stages(self) -> list[tuple[str, list[tuple[str, bytes]]]]:
        """Messages sent between two notes, each list with the note before it."""
        result: list[tuple[str, list[tuple[str, bytes]]]] = [("", [])]
        for event in self.events:
            if event["dir"] == "note":
                result.append((event["what"], []))
            elif event["dir"] == "c2d" and "type" in (event.get("fields") or {}):
                result[-1][1].append((event["conn"], bytes.fromhex(event["hex"])))
        return result

    def received(self) -> dict[str, list[str]]:
        """What each connection got after its handshake."""
        result: dict[str, list[str]] = {connection: [] for connection in self.names}
        for event in self.events:
            if event["dir"] == "d2c" and "type" in (event.get("fields") or {}):
                result[event["conn"]].append(event["hex"])
        return result

    def written(self) -> dict[str, list[str]]:
        return {
            connection: [frame.hex() for frame in session.frames]
            for connection, session in self.sessions.items()
        }


def play(ring: Ring, recording: Recording, messages: list[tuple[str, bytes]]) -> None:
    for connection, message in messages:
        ring.send(recording.daemon(connection), message)


def test_a_daemon_that_dies_is_told_as_in_the_recording() -> None:
    recording = Recording("network-daemon-dies")
    ring = Ring(configuration_of(THREE), recording.clients)
    ring.change([["d1", "d2", "d3"]], time=1795466273)
    ring.settle()
    (_, joins), (_, _), (_, later) = recording.stages()
    play(ring, recording, joins)
    # The dead daemon's clients hear nothing more; the new process has other ones.
    dead = list(ring.members["d3"].sessions.sessions.values())
    ring.crash("d3")
    ring.change([["d1", "d2"], ["d3"]], time=1795466289)
    for session in dead:
        if session.private_group != b"#cat#d3":
            ring.members["d3"].sessions.sessions[session.private_group] = session
    ring.change([["d1", "d2", "d3"]], time=1795466299)
    ring.settle()
    play(ring, recording, later)
    assert recording.written() == recording.received()


def test_partitions_and_merges_are_told_as_in_the_recording() -> None:
    recording = Recording("network-partition-merge")
    ring = Ring(configuration_of(FOUR), recording.clients)
    ring.change([["d1", "d2", "d3", "d4"]], time=1795466304)
    ring.settle()
    layouts = {
        "ring is split into {d1,d2} and {d3,d4}": ([["d1", "d2"], ["d3", "d4"]], 1795466319),
        "ring is split into {d1},{d2},{d3},{d4}": (
            [["d1"], ["d2"], ["d3"], ["d4"]],
            1795466341,
        ),
    }
    heals = iter([1795466329, 1795466351])
    for note, messages in recording.stages():
        if note in layouts:
            parts, time = layouts[note]
            ring.change(parts, time)
        elif note == "split is healed":
            ring.change([["d1", "d2", "d3", "d4"]], next(heals))
        ring.settle()
        play(ring, recording, messages)
    assert recording.written() == recording.received()


def test_changes_inside_a_transitional_membership_are_told_as_in_the_recording() -> None:
    recording = Recording("network-transitional-changes")
    ring = Ring(configuration_of(THREE), recording.clients)
    ring.change([["d1", "d2", "d3"]], time=1795466364)
    ring.settle()
    stages = recording.stages()
    play(ring, recording, stages[0][1])
    inside = [message for _, message in stages[1][1]]
    kinds = [MessageHeader.decode(message).type for message in inside]
    assert kinds[1] & LEAVE_MESS
    assert kinds[2] & KILL_MESS
    assert kinds[3] & JOIN_MESS
    ids = {name: member.id for name, member in ring.members.items()}
    left = [ids["d1"], ids["d2"]]
    for name in ("d1", "d2"):
        groups = ring.members[name].groups
        order = list(inside)
        if name == "d2":
            # The sender's daemon delivers its one-packet RELIABLE message at once.
            groups.on_message(order.pop())
        groups.on_transitional(left, MembershipId(ids["d1"], 1795466373))
        for message in order:
            groups.on_message(message)
        groups.on_regular(left, MembershipId(ids["d1"], 1795466374))
    everybody = [ids["d1"], ids["d2"], ids["d3"]]
    groups = ring.members["d3"].groups
    groups.on_transitional([ids["d3"]], MembershipId(ids["d3"], 1795466381))
    for message in inside:
        groups.on_message(message)
    groups.on_regular(everybody, MembershipId(ids["d1"], 1795466381))
    for name in ("d1", "d2"):
        groups = ring.members[name].groups
        groups.on_transitional(left, MembershipId(ids["d1"], 1795466380))
        groups.on_regular(everybody, MembershipId(ids["d1"], 1795466381))
    ring.settle()
    written, received = recording.written(), recording.received()
    # Its connection was closed when it sent the KILL; a real session drops what comes later.
    del written["K"][len(received["K"]) :]
    assert written == received
