"""The activity log of ``-l y``: a file that says when the daemon lived and who came.

One text file in the working directory, named like the daemon, appended to:

===========  ==================================================================
record       fields behind the letter
===========  ==================================================================
``B``        start: time
``A``        alive: time, highest sequence number; 28 bytes with the line end.  It
             is the last line of the file and is written over by the next record
``M``        membership: time, time of its id, sequence number, ``>``, then for
             each configured daemon in ring order its index, or ``--``
``C``        client connected: time, sequence number, socket, address, name
``D``        client gone: the same, and 0 where upstream counts messages
===========  ==================================================================

Times are seconds since the epoch.  Upstream writes the index of the first
present daemon for all of them; here each has its own.

Source: ``docs/configuration.md`` section 8.8; upstream ``log.c``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from txspread.config.model import Configuration
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.sessions_state import Session
from txspread.wire.identifiers import MembershipId, ProcId, format_address

ALIVE_SECONDS: Final = 10.0
"""Time between two alive records."""


class ActivityLog:
    """One open activity log; also a ``TraceSink``, through which it hears of memberships.

    Args:
        path: the file.
        configuration: lists the daemons.
        alarms: hears of a file that can no longer be written.
        wall_time: seconds since the epoch.

    Raises:
        OSError: the file cannot be opened.

    """

    def __init__(
        self,
        path: str,
        configuration: Configuration,
        alarms: AlarmSink,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        self.sequence: Callable[[], int] = lambda: 0
        """Gives the highest sequence number of the ring; 0 where there is none."""
        self.configuration = configuration
        """Lists the daemons; a reload replaces it."""
        self._alarms = alarms
        self._wall_time = wall_time
        self._waiting: dict[Session, None] = {}
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)
        self._record(f"B {self._now():13d}\n")

    def _now(self) -> int:
        return int(self._wall_time())

    def alive(self) -> None:
        """Write the alive record, to be called every :data:`ALIVE_SECONDS`."""
        self._write(f"A {self._now():13d} {self.sequence():11d}\n".encode())

    def event(self, kind: str, **fields: object) -> None:
        """See :meth:`txspread.engine.trace.TraceSink.event`."""
        if kind == "regular":
            members, membership_id = fields["members"], fields["membership_id"]
            if isinstance(members, tuple) and isinstance(membership_id, MembershipId):
                self.membership(members, membership_id)

    def membership(self, members: tuple[ProcId, ...], membership_id: MembershipId) -> None:
        """A regular membership is installed."""
        marks = "".join(
            f" {number:2d}" if daemon.id in members else " --"
            for number, daemon in enumerate(self.configuration.daemons)
        )
        self._record(
            f"M {self._now():13d} {membership_id.time:13d} {self.sequence():11d} >{marks}\n"
        )

    def opened(self, session: Session) -> None:
        """A connection has been accepted; it becomes a client later, or never."""
        self._waiting[session] = None

    def check(self) -> None:
        """Write of connections that have become clients, at the end of each turn."""
        for session in [one for one in self._waiting if one.private_group]:
            del self._waiting[session]
            self._record(f"C {self._client(session)}\n")

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        waited = session in self._waiting
        if waited:
            del self._waiting[session]
        if not session.private_group:
            return
        if waited:
            self._record(f"C {self._client(session)}\n")
        self._record(f"D {self._client(session)} 0\n")

    def _client(self, session: Session) -> str:
        address = format_address(session.peer.address)
        name = session.name.decode("ascii", "backslashreplace")
        return (
            f"{self._now():13d} {self.sequence():11d} {session.mailbox:3d} {address:<16} {name:<10}"
        )

    def _record(self, text: str) -> None:
        record = text.encode()
        if self._write(record):
            self._end += len(record)
            self.alive()

    def _write(self, record: bytes) -> bool:
        """Write at the end, where the alive record stands."""
        try:
            self._file.seek(self._end)
            self._file.write(record)
            self._file.truncate()
        except (OSError, ValueError) as error:
            self._alarms.alarm(
                Category.PRINT, Priority.ERROR, "Log: cannot write the activity log: %s", error
            )
            return False
        return True

    def close(self) -> None:
        """Write the last alive record and close the file."""
        if not self._file.closed:
            self.alive()
            self._file.close()
