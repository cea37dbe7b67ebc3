"""Who holds a session name, and whose handshake is under way until when.

Rules.

* A name is held from the moment it is claimed until the session's KILL has been
  delivered, or until its handshake has failed.  Names are compared byte for byte
  and are unique on this daemon only.
* At most 997 names are held: that is the number of sessions.
* A connection without a name has one second, one that is authenticating thirty;
  each has its own timer.  All timers of a kind are equally long, so the oldest
  entry is always the first that is due.
* An invented name is ``r<number>-<socket>``, the number below 9999 and the whole
  cut to 9 bytes.

Source: ``docs/protocol/client-session.md`` sections 1.3, 2.2, 2.3 and 2.6;
upstream ``session.c``, ``Sess_accept`` and ``Sess_accept_continue``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txspread.engine.handshake import AUTHENTICATION_TIMEOUT, CONNECT_TIMEOUT
from txspread.engine.sessions_state import Session
from txspread.wire.constants import MAX_SESSIONS, SpreadCode

MAX_CONNECTING: Final = MAX_SESSIONS
"""Connections that may be without a name at one time."""

_GENERATED_NAMES: Final = 9999
_GENERATED_NAME_SIZE: Final = 9


class Admission:
    """Names and handshake timers of all sessions.

    Args:
        random: numbers in [0, 1), for invented names.

    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.names: dict[bytes, Session] = {}
        """Sessions by the name they hold, oldest first."""
        self._connecting: dict[Session, float] = {}
        self._authenticating: dict[Session, float] = {}

    @property
    def full(self) -> bool:
        """Whether 997 sessions hold a name."""
        return len(self.names) >= MAX_SESSIONS

    @property
    def crowded(self) -> bool:
        """Whether no further connection without a name should be taken."""
        return len(self._connecting) >= MAX_CONNECTING

    def begin(self, session: Session, now: float) -> None:
        """A connection is there; its request is awaited."""
        self._connecting[session] = now + CONNECT_TIMEOUT

    def oldest_connecting(self) -> Session:
        """The connection that has been without a name longest; there must be one."""
        return next(iter(self._connecting))

    def claim(self, session: Session, name: bytes, now: float) -> bytes | SpreadCode:
        """Take a name, or invent one for an empty ``name``.

        Returns the name, or REJECT_NOT_UNIQUE or REJECT_QUOTA.
        """
        if self.full:
            return SpreadCode.REJECT_QUOTA
        if not name:
            name = self._invent(session.mailbox)
        elif name in self.names:
            return SpreadCode.REJECT_NOT_UNIQUE
        self.names[name] = session
        session.name = name
        self._connecting.pop(session, None)
        self._authenticating[session] = now + AUTHENTICATION_TIMEOUT
        return name

    def _invent(self, mailbox: int) -> bytes:
        number = int(self._random() * _GENERATED_NAMES)
        while True:
            # There are more numbers than sessions, so a free one is found.
            name = b"r%d-%d" % (number % _GENERATED_NAMES, mailbox)
            name = name[:_GENERATED_NAME_SIZE]
            if name not in self.names:
                return name
            number += 1

    def settle(self, session: Session) -> None:
        """The handshake has ended, either way: its timer stops."""
        self._connecting.pop(session, None)
        self._authenticating.pop(session, None)

    def release(self, session: Session) -> None:
        """The session's name is free again."""
        if self.names.get(session.name) is session:
            del self.names[session.name]

    def next_timer(self) -> float | None:
        """When the next handshake is due to have got further."""
        if not self._connecting and not self._authenticating:
            return None
        times = [
            next(iter(waiting.values()))
            for waiting in (self._connecting, self._authenticating)
            if waiting
        ]
        return min(times) if times else None

    def expired(self, now: float) -> list[Session]:
        """The sessions whose time is over, without changing anything."""
        expired: list[Session] = []
        for waiting in (self._connecting, self._authenticating):
            for session, deadline in waiting.items():
                if deadline > now:
                    break
                expired.append(session)
        return expired

    def postpone(self, session: Session, now: float) -> None:
        """Give a session its whole time once more."""
        if self._connecting.pop(session, None) is not None:
            self._connecting[session] = now + CONNECT_TIMEOUT
        elif self._authenticating.pop(session, None) is not None:
            self._authenticating[session] = now + AUTHENTICATION_TIMEOUT
