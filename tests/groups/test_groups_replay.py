"""Recorded rings of upstream daemons: the same events give the same bytes."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from groups_harness import (
    FakeOrdering,
    FakeSession,
    RecordingAlarms,
    ReplaySessions,
    configuration_of,
    join,
    kill,
    leave,
    proc_id,
)

from conftest import VECTORS
from txspread.engine.alarms import Priority
from txspread.engine.groups import Groups
from txspread.wire.byteorder import byte_order_of
from txspread.wire.constants import GROUPS_MESS, MEMBERSHIP_MESS
from txspread.wire.groups import GroupsMessage
from txspread.wire.identifiers import MembershipId
from txspread.wire.message import MessageHeader

SCENARIOS = sorted(
    path.stem for path in (VECTORS / "groups").glob("*.json") if not path.stem.startswith("state_")
)
CLOSED_ITS_CONNECTION = {("transitional_events", "#w#d2")}


def load(name: str) -> Any:
    return json.loads((VECTORS / "groups" / f"{name}.json").read_text())


def identifier(fields: dict[str, Any]) -> MembershipId:
    return MembershipId(proc_id(fields["proc"]), fields["time"])


class Replay:
    """One daemon's recorded events, fed to a groups layer."""

    def __init__(self, recording: Any, daemon: str) -> None:
        self.recording = recording
        self.daemon = daemon
        self.configuration = configuration_of(recording["daemons"])
        self.ids = {name: proc_id(address) for name, address in recording["daemons"].items()}
        self.sessions = ReplaySessions(
            FakeSession(client["name"].encode(), client["membership_messages"])
            for client in recording["clients"]
            if client["daemon"] == daemon
        )
        self.alarms = RecordingAlarms()
        self.sent: list[bytes] = []
        self.used: set[int] = set()

    def run(self) -> None:
        groups: Groups | None = None
        ordering = FakeOrdering()
        regular_id: MembershipId | None = None
        for event in self.recording["daemon_events"][self.daemon]:
            what = event[0]
            if what == "boot":
                ordering = FakeOrdering()
                me = self.configuration.by_name[self.daemon]
                groups = Groups(me, self.configuration, ordering, self.sessions, self.alarms)
                continue
            assert groups is not None
            if what in ("trans", "reg"):
                members = [self.ids[name] for name in event[1]["members"]]
                if what == "trans":
                    groups.on_transitional(members, identifier(event[1]["id"]))
                else:
                    regular_id = identifier(event[1]["id"])
                    groups.on_regular(members, regular_id)
            elif what == "join":
                groups.on_message(join(event[1], event[2]))
            elif what == "leave":
                groups.on_message(leave(event[1], event[2]))
            elif what == "kill":
                groups.on_message(kill(event[1]))
            elif what == "groups":
                assert regular_id is not None
                groups.on_message(self.groups_message(event[1], regular_id))
            else:
                assert what == "stale_groups"
                groups.on_message(self.groups_message(event[1], identifier(event[2])))
            self.sent.extend(ordering.take())

    def groups_message(self, representative: str, membership_id: MembershipId) -> bytes:
        """The next unused recorded message of a representative for a membership."""
        for number, message in enumerate(self.recording["daemon_messages"]):
            if (
                number not in self.used
                and message["kind"] == "groups"
                and message["fields"]["name"] == representative
                and identifier(message["fields"]["memb_id"]) == membership_id
            ):
                self.used.add(number)
                return bytes.fromhex(message["hex"])
        raise AssertionError(f"no message of {representative} for {membership_id}")

    def recorded_groups_messages(self) -> list[bytes]:
        """What it sent; a stale one, sent in a later ring than it was made for, too."""
        return [
            bytes.fromhex(message["hex"])
            for message in self.recording["daemon_messages"]
            if message["kind"] == "groups" and message["from"] == self.daemon
        ]


CASES = [(name, daemon) for name in SCENARIOS for daemon in load(name)["daemons"]]


@pytest.mark.parametrize(("scenario", "daemon"), CASES)
def test_recorded_events_give_the_recorded_membership_messages(scenario: str, daemon: str) -> None:
    recording = load(scenario)
    replay = Replay(recording, daemon)
    replay.run()
    expected: dict[str, list[bytes]] = defaultdict(list)
    for message in recording["client_messages"]:
        if int(message["fields"]["type"], 16) & MEMBERSHIP_MESS:
            expected[message["client"]].append(bytes.fromhex(message["hex"]))
    for session in replay.sessions.sessions.values():
        name = session.private_group.decode()
        wanted = expected[name]
        written = session.frames
        if (scenario, name) in CLOSED_ITS_CONNECTION:
            written = written[: len(wanted)]
        assert [frame.hex() for frame in written] == [frame.hex() for frame in wanted], name
    assert replay.alarms.at_least(Priority.WARNING) == []


@pytest.mark.parametrize(("scenario", "daemon"), CASES)
def test_recorded_events_give_the_recorded_groups_messages(scenario: str, daemon: str) -> None:
    replay = Replay(load(scenario), daemon)
    replay.run()
    sent = [frame for frame in replay.sent if MessageHeader.decode(frame).type & GROUPS_MESS]
    recorded = replay.recorded_groups_messages()
    if not recorded:
        # A daemon alone in its ring puts nothing on the wire.
        assert all(GroupsMessage.decode(frame).set_size == 1 for frame in sent)
        return
    # One recording shows a daemon's messages rewritten to big-endian on their way.
    written = [
        GroupsMessage.decode(frame).encode(byte_order_of(seen))
        for frame, seen in zip(sent, recorded, strict=True)
    ]
    assert [frame.hex() for frame in written] == [frame.hex() for frame in recorded]
    if scenario != "big_endian_sender":
        assert sent == recorded
