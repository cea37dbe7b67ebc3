"""Plays recorded client conversations against sessions and the real groups layer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recorded import VECTORS
from session_fakes import LOCALHOST, FakeHost, FakeOrdering, FakeTransport, RecordingAlarms

from txspread.config import parse
from txspread.engine.authentication import Authentication, parse_access_ip, parse_access_pword
from txspread.engine.groups import Groups
from txspread.engine.handshake import PeerAddress
from txspread.engine.sessions import Sessions
from txspread.engine.sessions_state import Session
from txspread.wire.identifiers import MembershipId

FOLDER = VECTORS / "client"
_PASSWORDS = {(b"x", b"zzXjar5EX/ECI"), (b"secret12", b"abhv/ZnAzL36k")}
"""Clear and crypted passwords of the recordings, instead of crypt(3)."""


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())  # type: ignore[no-any-return]


def names(*patterns: str) -> list[str]:
    found = {path.stem for pattern in patterns for path in Path(FOLDER).glob(f"{pattern}.json")}
    return sorted(found)


def _memberships(value: object) -> Iterator[MembershipId]:
    if isinstance(value, dict):
        if isinstance(value.get("group_id"), dict):
            group_id = value["group_id"]
            quad = bytes(int(part) for part in group_id["proc_id"].split("."))
            yield MembershipId(int.from_bytes(quad, "big"), group_id["time"])
        for inner in value.values():
            yield from _memberships(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _memberships(inner)


class Recording:
    """A daemon like the recorded one, and the clients of the conversation."""

    def __init__(
        self,
        name: str,
        *,
        piece: int | None = None,
        version: tuple[int, int, int] = (4, 4, 0),
    ) -> None:
        self.vector = load(name)
        self.piece = piece
        self.now = 0.0
        self.unix = "Unix" in self.vector["description"]
        generated = re.search(r"#r(\d+)-(\d+)#", json.dumps(self.vector))
        self.generated = int(generated[1]) if generated else 0
        self.mailbox = int(generated[2]) if generated else 8
        configuration = parse(self.vector["conf"])
        me = configuration.daemons[0]
        access = self.vector.get("access_ip")
        passwords = self.vector.get("access_pword")
        authentication = Authentication.build(
            configuration.allowed_auth_methods if passwords is None else ("PWORD", "NULL", "IP"),
            configuration.required_auth_methods,
            None if access is None else parse_access_ip(access),
            None if passwords is None else parse_access_pword(passwords),
            None if passwords is None else lambda *pair: pair in _PASSWORDS,
        )
        self.alarms = RecordingAlarms()
        self.host = FakeHost()
        self.ring = FakeOrdering()
        self.sessions = Sessions(
            me.name_bytes,
            configuration,
            self.ring,
            self.alarms,
            lambda: (self.generated + 0.5) / 9999,
            self.host,
            authentication=authentication,
            daemon_version=version,
        )
        self.groups = Groups(
            me, configuration, self.ring, self.sessions, self.alarms, lambda reason: None
        )
        self.ring.deliver = self.groups.on_message
        recorded = next(_memberships(self.vector), MembershipId(me.id, 1))
        self.groups.on_transitional((me.id,), MembershipId(me.id, recorded.time - 1))
        self.groups.on_regular((me.id,), recorded)
        self.clients: dict[str | None, tuple[Session, FakeTransport]] = {}
        self.read: dict[str | None, bytes] = {}

    def client(self, conn: str | None) -> tuple[Session, FakeTransport]:
        if conn not in self.clients:
            transport = FakeTransport()
            peer = PeerAddress(0 if self.unix else LOCALHOST, self.mailbox)
            self.mailbox += 1
            session = self.sessions.opened(transport, peer, self.now)
            transport.output = session.output
            self.clients[conn] = session, transport
            self.read[conn] = b""
            self.sessions.flush()
        return self.clients[conn]

    def send(self, conn: str | None, data: bytes) -> None:
        session, transport = self.client(conn)
        step = self.piece or max(len(data), 1)
        for at in range(0, len(data), step):
            if not transport.closed:
                self.sessions.received(session, data[at : at + step], self.now)
            self.sessions.flush()

    def end(self, conn: str | None) -> None:
        session, transport = self.client(conn)
        if not transport.closed:
            self.sessions.closed(session, self.now)
        self.sessions.flush()

    def pass_time(self) -> None:
        due = self.sessions.next_timer()
        assert due is not None
        self.now = due
        self.sessions.timer(due)
        self.sessions.flush()

    def take(self, conn: str | None, size: int) -> bytes:
        _, transport = self.client(conn)
        taken = transport.written[:size]
        transport.written = transport.written[size:]
        return taken

    def play(self, events: Iterable[dict[str, Any]] | None = None) -> None:
        """Send what the clients sent and insist on what the daemon answered."""
        for number, event in enumerate(self.vector["events"] if events is None else events):
            conn = event.get("conn")
            data = bytes.fromhex(event["hex"])
            where = f"event {number}: {event['what']} on {conn}"
            if event["dir"] == "note":
                self._note(event["what"])
            elif event["dir"] == "c2d":
                self.send(conn, data)
            elif "closed" in event["what"]:
                _, transport = self.client(conn)
                if not transport.closed:
                    self.pass_time()
                assert transport.closed, where
            else:
                assert self.take(conn, len(data)).hex() == event["hex"], where
        for conn, (_, transport) in self.clients.items():
            assert transport.written == b"", f"more arrived on {conn}"

    def _note(self, text: str) -> None:
        quiet = re.fullmatch(r"nothing arrives on connection (\w*)", text)
        ended = re.match(r"connection (\w+) closes its socket", text)
        if quiet:
            assert self.clients[quiet[1] or None][1].written == b""
        elif ended:
            self.end(ended[1])
        else:
            raise AssertionError(f"unknown note: {text}")
