"""Recordings of upstream's group layers, and how to feed one daemon's events."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

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
from recorded import VECTORS

from txspread.engine.groups import Groups
from txspread.wire.identifiers import MembershipId

SCENARIOS = sorted(
    path.stem for path in (VECTORS / "groups").glob("*.json") if not path.stem.startswith("state_")
)


def load(name: str) -> Any:
    return json.loads((VECTORS / "groups" / f"{name}.json").read_text())


def identifier(fields: dict[str, Any]) -> MembershipId:
    return MembershipId(proc_id(fields["proc"]), fields["time"])


def received(recording: Any, only: int = 0xFFFFFFFF) -> dict[str, list[bytes]]:
    """What each client got, of the types with any bit of ``only``."""
    result: dict[str, list[bytes]] = defaultdict(list)
    for message in recording["client_messages"]:
        if int(message["fields"]["type"], 16) & only:
            result[message["client"]].append(bytes.fromhex(message["hex"]))
    return result


class Replay:
    """One daemon's recorded events, fed to a groups layer."""

    groups: Groups

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
        """Feed all events."""
        self._feed(self.events)

    def run_with_recorded_messages(self) -> list[bytes]:
        """Feed all events, those of the last membership as the bytes seen on the wire.

        Regular messages are among them; all are returned.
        """
        last = max(place for place, event in enumerate(self.events) if event[0] == "groups")
        self._feed(self.events[: last + 1])
        on_wire = [sent for sent in self.recording["daemon_messages"] if sent["kind"] != "groups"]
        membership = on_wire[-1]["memb_id"]
        messages = [bytes.fromhex(sent["hex"]) for sent in on_wire if sent["memb_id"] == membership]
        for message in messages:
            self.groups.on_message(message)
        return messages

    @property
    def events(self) -> list[list[Any]]:
        events: list[list[Any]] = self.recording["daemon_events"][self.daemon]
        return events

    def _feed(self, events: list[list[Any]]) -> None:
        ordering = FakeOrdering()
        regular_id = MembershipId(0, 0)
        for event in events:
            what = event[0]
            if what == "boot":
                me = self.configuration.by_name[self.daemon]
                ordering = FakeOrdering()
                self.groups = Groups(me, self.configuration, ordering, self.sessions, self.alarms)
            elif what == "trans":
                self.groups.on_transitional(self.members(event[1]), identifier(event[1]["id"]))
            elif what == "reg":
                regular_id = identifier(event[1]["id"])
                self.groups.on_regular(self.members(event[1]), regular_id)
            else:
                self.groups.on_message(self.message(event, regular_id))
            self.sent.extend(ordering.take())

    def members(self, fields: dict[str, Any]) -> list[int]:
        return [self.ids[name] for name in fields["members"]]

    def message(self, event: list[Any], regular_id: MembershipId) -> bytes:
        if event[0] == "join":
            return join(event[1], event[2])
        if event[0] == "leave":
            return leave(event[1], event[2])
        if event[0] == "kill":
            return kill(event[1])
        if event[0] == "groups":
            return self.groups_message(event[1], regular_id)
        assert event[0] == "stale_groups"
        return self.groups_message(event[1], identifier(event[2]))

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
