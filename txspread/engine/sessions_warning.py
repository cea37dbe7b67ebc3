"""A word about a client before it is cut off for not reading.

Upstream ends such a session without a line that is shown by default; who runs the
client then only sees a connection that was closed.  Here a line names the session once
three quarters of its queue are used, at most once in :data:`PAUSE` for each session.

Source: ``docs/protocol/client-session.md`` section 6.2.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.session_validation import printable
from txspread.engine.sessions_state import Session

PAUSE: Final = 10.0
"""Seconds until the same session is named again."""
MAX_SESSIONS: Final = 64
"""Sessions that are remembered; all are forgotten when there are more."""


class SlowClients:
    """Names sessions whose queue is nearly full."""

    def __init__(self, alarms: AlarmSink) -> None:
        self._alarms = alarms
        self._named: dict[Session, float] = {}
        self.warnings = 0
        """Lines given since the start."""

    def forget(self, session: Session) -> None:
        """The session has ended."""
        self._named.pop(session, None)

    def nearly_full(self, session: Session, limit: int, now: float) -> None:
        """Three quarters of a queue of ``limit`` messages, or of its bytes, are used."""
        named = self._named.get(session)
        if named is not None and now - named < PAUSE:
            return
        if len(self._named) >= MAX_SESSIONS:
            self._named.clear()
        self._named[session] = now
        self.warnings += 1
        self._alarms.alarm(
            Category.SESSION | Category.PRINT,
            Priority.WARNING,
            "Sess_write: session %s ( mailbox %d ) reads too slowly: %d of at most %d messages "
            "wait for it (%d bytes), it is about to be cut off",
            printable(session.name),
            session.mailbox,
            len(session.output),
            limit,
            session.output.size,
        )
