"""Connections that are on their way to become sessions.

Each has a :class:`~txspread.engine.handshake.Handshake`, which knows what to answer;
here its bytes go in, what it answers goes out, and its end has its consequences: the
name is free again and the connection closed, or the session is accepted.

Source: ``docs/protocol/client-session.md`` section 2; upstream ``session.c``,
``Sess_accept`` and ``Sess_accept_continue``.
"""

from __future__ import annotations

from collections.abc import Callable

from txspread.engine.alarms import AlarmSink
from txspread.engine.authentication import Authentication
from txspread.engine.handshake import Handshake, State
from txspread.engine.sessions_admission import Admission
from txspread.engine.sessions_serving import Serving
from txspread.engine.sessions_state import Session, SessionState
from txspread.wire.message import name_field


class Handshakes:
    """All handshakes of one daemon.

    Args:
        me_name: name of the daemon, 1 to 19 bytes.
        daemon_version: version that clients are told.
        admission: names and timers.
        serving: told when a connection has got a name or lost it.
        alarms: sink for log lines.
        send: queues bytes for a client.
        close: closes a connection behind what is queued.
        accepted: takes a session that is accepted, and what has come behind its
            handshake.

    """

    def __init__(
        self,
        me_name: bytes,
        daemon_version: tuple[int, int, int],
        admission: Admission,
        serving: Serving,
        alarms: AlarmSink,
        send: Callable[[Session, bytes], None],
        close: Callable[[Session], None],
        accepted: Callable[[Session, bytes], None],
    ) -> None:
        self._me_name = me_name
        self._daemon_version = daemon_version
        self._admission = admission
        self._serving = serving
        self._alarms = alarms
        self._send = send
        self._close = close
        self._accepted = accepted
        self._now = 0.0

    def begin(self, session: Session, authentication: Authentication, now: float) -> None:
        """Expect the request of a new connection."""
        self._now = now
        session.handshake = Handshake(
            authentication,
            lambda name: self._admission.claim(session, name, self._now),
            self._me_name,
            self._daemon_version,
            session.peer,
            self._alarms,
        )
        self._admission.begin(session, now)
        self._serving.update_accepting()

    def read(self, session: Session, data: bytes, now: float) -> None:
        """Take bytes of a client that is not accepted yet."""
        self._now = now
        handshake = session.handshake
        if handshake is None or session.closing:
            return
        handshake.receive(data)
        self._advance(session, handshake)

    def expire(self, session: Session) -> None:
        """The time for a step is over."""
        handshake = session.handshake
        if handshake is not None:
            handshake.expire()
            self._advance(session, handshake)

    def end_of_file(self, session: Session) -> None:
        """The client has closed its stream."""
        handshake = session.handshake
        if handshake is not None:
            handshake.end_of_file()
            self._advance(session, handshake)

    def _advance(self, session: Session, handshake: Handshake) -> None:
        output = handshake.take_output()
        if output:
            self._send(session, output)
        if handshake.state is State.REFUSED:
            self._forget(session)
            self._admission.release(session)
            self._close(session)
        elif handshake.state is State.ACCEPTED:
            self._forget(session)
            session.private_group = handshake.private_group
            session.sender_field = name_field(session.private_group)
            session.wants_membership = handshake.membership
            session.state = SessionState.OPERATIONAL
            self._accepted(session, handshake.rest)

    def _forget(self, session: Session) -> None:
        session.handshake = None
        self._admission.settle(session)
        self._serving.update_accepting()
