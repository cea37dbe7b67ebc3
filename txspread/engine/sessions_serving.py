"""Which clients are read now, and who goes on when.

Rules.

* All clients are stopped while the daemons exchange group state, while the
  ordering layer says so, and while its queue has reached the water mark.  The
  reasons are independent.
* One client rests for a moment when it sends to a client that has fallen behind
  (:mod:`~txspread.engine.sessions_pace`).
* A client that is not read is *held*: its transport is paused, the bytes that
  are there already are kept.  Held clients go on in the order in which they were
  stopped, at the end of a turn.
* Listeners are paused during the state exchange, and when as many connections
  wait for their handshake as may.  The water mark, which comes and goes, does not
  touch them: a new connection costs little and its bytes are held like all others.

Source: ``docs/protocol/client-session.md`` sections 6.2 and 6.3.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from txspread.engine.sessions_admission import Admission
from txspread.engine.sessions_pace import ALMOST_FULL, Pace
from txspread.engine.sessions_state import Session


class SessionHost(Protocol):
    """What the sessions ask of the world besides their transports."""

    def pause_accepting(self) -> None:
        """Accept no new client connection for now."""

    def resume_accepting(self) -> None:
        """Accept client connections again."""


class Serving:
    """Stops clients and lets them go on.

    Args:
        host: pauses and resumes the listeners.
        admission: knows how many connections are in their handshake.

    """

    def __init__(self, host: SessionHost, admission: Admission) -> None:
        self.stopped = False
        """Whether no client is read."""
        self.full = False
        """Whether the queue was seen at the water mark; see :meth:`stop_full`."""
        self._host = host
        self._admission = admission
        self._pace = Pace()
        self._held: deque[Session] = deque()
        self._resting: list[Session] = []
        self._blocked = False
        self._gated = False
        self._accepting = True

    @property
    def usual(self) -> bool:
        """Whether nobody is held and nothing is stopped or paused."""
        return not (self.stopped or self._held or self._pace.resting) and self._accepting

    def block(self, blocked: bool) -> None:
        """The state exchange begins or has ended."""
        self._blocked = blocked
        self._update()
        self.update_accepting()

    def gate(self, gated: bool) -> None:
        """The ordering layer stops clients, or lets them go on."""
        self._gated = gated
        self._update()

    def stop_full(self, full: bool) -> None:
        """The queue has reached the water mark, or is below it again."""
        self.full = full
        self._update()

    def _update(self) -> None:
        self.stopped = self._blocked or self._gated or self.full

    def update_accepting(self) -> None:
        """Pause or resume the listeners, if that has changed."""
        crowded = self.stopped and self._admission.crowded
        accepting = not (self._blocked or crowded)
        if accepting != self._accepting:
            self._accepting = accepting
            if accepting:
                self._host.resume_accepting()
            else:
                self._host.pause_accepting()

    def hold(self, session: Session) -> None:
        """Read no more from a client until it is its turn again."""
        if not session.held:
            session.held = True
            if session.resting:
                self._resting.append(session)
            else:
                self._held.append(session)
            session.transport.pause()

    def next_held(self) -> Session | None:
        """The next client that may go on, no longer held; its transport is still paused."""
        while self._held and not self.stopped:
            session = self._held.popleft()
            if session.resting:
                self._resting.append(session)
            else:
                session.held = False
                return session
        return None

    def outruns(self, size: int, almost_full: bool, now: float) -> bool:
        """Count ``size`` bytes for a client that is behind; whether that is too fast."""
        return self._pace.spend(size, ALMOST_FULL if almost_full else 1, now)

    def careful(self, now: float) -> bool:
        """Whether each message may be the one after which its sender has to rest."""
        return now < self._pace.careful_until

    def rest(self, session: Session) -> None:
        """Do not read a client for a moment."""
        if not session.resting:
            session.resting = True
            self._pace.rest()
            self.hold(session)

    def end_rest(self, now: float) -> None:
        """Let clients go on whose rest is over."""
        if self._pace.over(now):
            for session in self._resting:
                session.resting = False
            self._held.extend(self._resting)
            self._resting.clear()

    def next_timer(self) -> float | None:
        """When :meth:`end_rest` has something to do."""
        return self._pace.next_timer()
