"""The client sessions of one daemon: admission, reading, delivery, ending.

Rules in prose (the states are in :mod:`~txspread.engine.sessions_state`, the
handshake in :mod:`~txspread.engine.handshake`, the checks of messages in
:mod:`~txspread.engine.session_validation`).

* At most 997 sessions hold a name.  Each connection has a timer of its own; a
  silent or slow client delays nobody.
* A batch of bytes is cut into frames, each frame is checked and submitted to the
  ordering layer.  A bad frame ends its session and nothing else.
* Clients are not served while the ordering layer's queue has reached the water
  mark, while it says so, and during the state exchange between daemons.  Bytes
  that arrive then are kept, the transport is paused, and :meth:`Sessions.flush`
  goes on where processing stopped, in the order in which clients were stopped.
  A stream that ends meanwhile is noticed afterwards.
* Frames for a client are queued, and written once in each turn by
  :meth:`Sessions.flush`.  A client whose queue is full is written to at once and,
  if that does not help, loses its session.
* Every accepted session is ended by exactly one KILL; its name is free again
  when that KILL has been delivered.

Source: ``docs/protocol/client-session.md`` sections 2 to 6; upstream
``session.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txspread.config.model import Configuration
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.authentication import Authentication
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import LocalSession, Ordering, StreamTransport
from txspread.engine.session_validation import (
    DATA_TYPE_MASK,
    DATA_TYPES,
    HINT_FOREIGN_BITS,
    MAX_MESSAGE_SIZE,
    Refusal,
    check_header,
    finish_frame,
    printable,
    targets_bounded,
    unbounded_target,
)
from txspread.engine.sessions_admission import Admission
from txspread.engine.sessions_handshakes import Handshakes
from txspread.engine.sessions_serving import Serving, SessionHost
from txspread.engine.sessions_state import Session, SessionState
from txspread.engine.sessions_warning import SlowClients
from txspread.wire.constants import (
    JOIN_MESS,
    KILL_MESS,
    MAX_GROUP_NAME,
    MAX_GROUPS_PER_MESSAGE,
    MESSAGE_HEADER_SIZE,
    SELF_DISCARD,
    WATER_MARK,
    PacketType,
    ServiceType,
    SpreadCode,
)
from txspread.wire.identifiers import format_address
from txspread.wire.message import HEADER_LE, encode_message, encode_reject, field_name
from txspread.wire.session import encode_reject as encode_reject_code

DAEMON_VERSION: Final = (4, 4, 0)
"""Version that clients are told."""
MAX_SESSION_BYTES: Final = 64 * 1024 * 1024
"""Bytes that may be queued for one client, besides the bound in messages."""

TOGETHER: Final = 64
"""Most messages of a client that are ordered before anything can stop it; an eighth
of what may be queued for one, if that is less."""
TOGETHER_BYTES: Final = 32768
"""The same in bytes, as far as whole messages go."""
_OPERATIONAL: Final = SessionState.OPERATIONAL
_DAEMON_KILL: Final = ServiceType.KILL_MESS | ServiceType.SAFE_MESS
_unpack_header = HEADER_LE.unpack_from
_data_type = DATA_TYPES.get


class Sessions:
    """All client sessions; a ``LocalSessions`` and a ``ClientGate``.

    Args:
        me_name: name of this daemon, 1 to 19 bytes.
        configuration: limits; see :meth:`reconfigure`.
        ordering: takes messages.  :attr:`ordering` may be replaced until the
            first client is there.
        alarms: sink for log lines.
        random: numbers in [0, 1), for invented names.
        host: pauses and resumes the listeners.
        authentication: methods in force; None takes the names of the
            configuration, without access file and passwords.
        daemon_version: version that clients are told.
        max_session_bytes: bytes that may be queued for one client; at least
            one largest message is always let in.

    """

    def __init__(
        self,
        me_name: bytes,
        configuration: Configuration,
        ordering: Ordering,
        alarms: AlarmSink,
        random: Callable[[], float],
        host: SessionHost,
        *,
        authentication: Authentication | None = None,
        daemon_version: tuple[int, int, int] = DAEMON_VERSION,
        max_session_bytes: int = MAX_SESSION_BYTES,
    ) -> None:
        self.me_name = me_name
        self.ordering = ordering
        self.authentication = authentication or Authentication.build(
            configuration.allowed_auth_methods, configuration.required_auth_methods
        )
        self.join_allowed: Callable[[bytes], bool] | None = None
        """Asked before a JOIN is ordered, with the group; False sends a reject
        message (docs/protocol/client-session.md section 5.6)."""
        self._alarms = alarms
        self._max_messages = configuration.max_session_messages
        self._max_bytes = max(max_session_bytes, MAX_MESSAGE_SIZE)
        self._behind_messages = self._max_messages // 2
        self._together = max(1, min(TOGETHER, self._max_messages // 8))
        self._behind_bytes = self._max_bytes // 2
        self._now = 0.0
        self._admission = Admission(random)
        self._serving = Serving(host, self._admission)
        self._handshakes = Handshakes(
            me_name,
            daemon_version,
            self._admission,
            self._serving,
            alarms,
            self._send,
            self._close_after_flush,
            self._accepted,
        )
        self._slow = SlowClients(alarms)
        self._authorized: dict[bytes, Session] = {}
        self._dirty: list[Session] = []

    # --- what others may know

    @property
    def count(self) -> int:
        """Sessions that hold a name: in authentication, operational, or being killed."""
        return len(self._admission.names)

    @property
    def serving(self) -> bool:
        """Whether clients are read."""
        return not self._serving.stopped

    def sessions(self) -> list[Session]:
        """The sessions that hold a name, oldest first."""
        return list(self._admission.names.values())

    def reconfigure(self, configuration: Configuration) -> None:
        """Take over MaxSessionMessages and the authentication methods of a reloaded file."""
        self._max_messages = configuration.max_session_messages
        self._behind_messages = self._max_messages // 2
        self._together = max(1, min(TOGETHER, self._max_messages // 8))
        old = self.authentication
        self.authentication = Authentication.build(
            configuration.allowed_auth_methods,
            configuration.required_auth_methods,
            old.access,
            old.passwords,
            old.verify,
        )

    # --- inputs from the shell

    def opened(self, transport: StreamTransport, peer: PeerAddress, now: float) -> Session:
        """Take a new connection."""
        self._now = now
        session = Session(transport, peer)
        if self._admission.full:
            self._alarm("Sess_accept: rejecting session due to quota")
            self._send(session, encode_reject_code(SpreadCode.REJECT_QUOTA))
            self._close_after_flush(session)
            return session
        if self._admission.crowded:
            # Whoever has been silent longest makes room for a client that may speak.
            self._handshakes.expire(self._admission.oldest_connecting())
        self._handshakes.begin(session, self.authentication, now)
        return session

    def received(self, session: Session, data: bytes, now: float) -> None:
        """Take bytes from a client, whole frames or not."""
        self._now = now
        if session.held or self._serving.stopped:
            if session.state in (SessionState.HANDSHAKE, _OPERATIONAL) and not session.closing:
                session.keep(data)
                self._serving.hold(session)
            return
        if session.state is _OPERATIONAL:
            if session.chunks:
                session.keep(data)
                if session.chunks_size < session.needed:
                    return
                data = session.take()
            self._read_frames(session, data)
        elif session.state is SessionState.HANDSHAKE:
            self._handshakes.read(session, data, now)

    def writable(self, session: Session, now: float) -> None:
        """The kernel takes bytes for this client again."""
        self._now = now
        if len(session.output):
            session.transport.flush()

    def closed(self, session: Session, now: float) -> None:
        """The client's stream has ended: end of file or an error."""
        self._now = now
        if session.state in (SessionState.KILLED, SessionState.GONE):
            return
        session.ended = True
        if self._serving.stopped or session.held:
            self._serving.hold(session)
        else:
            self._end(session)

    def timer(self, now: float) -> None:
        """End a rest, close connections that have not completed a step in time."""
        self._now = now
        self._serving.end_rest(now)
        for session in self._admission.expired(now):
            if self._serving.stopped or session.held:
                # Its bytes may be here, not read through no fault of its own.
                self._admission.postpone(session, now)
            else:
                self._handshakes.expire(session)

    def next_timer(self) -> float | None:
        """When :meth:`timer` has something to do, on the clock of the inputs."""
        admission = self._admission.next_timer()
        rest = self._serving.next_timer()
        if admission is None or (rest is not None and rest < admission):
            return rest
        return admission

    def flush(self) -> None:
        """End a turn: serve clients that had to wait, then write to all that have output.

        Each session written to since the last flush is flushed once.
        """
        serving = self._serving
        if not serving.usual:
            self._serve(serving)
        while self._dirty:
            dirty = self._dirty
            self._dirty = []
            for session in dirty:
                session.dirty = False
                if session.closing:
                    session.transport.flush()
                    session.transport.close()
                elif session.output.size:
                    session.transport.flush()

    def _serve(self, serving: Serving) -> None:
        if serving.full and self.ordering.queued() < WATER_MARK:
            serving.stop_full(False)
        serving.end_rest(self._now)
        self._serve_held()
        serving.update_accepting()

    # --- LocalSessions, for the groups layer

    def find(self, private_group: bytes) -> Session | None:
        """The accepted session of that private group whose KILL is not delivered yet."""
        return self._authorized.get(private_group)

    def write(self, session: LocalSession, frame: bytes) -> None:
        """Queue one frame for a client; a full queue ends its session."""
        assert isinstance(session, Session)
        if session.state is not _OPERATIONAL:
            return
        output = session.output
        queue = output.queue
        size = output.size + len(frame)
        if len(queue) >= self._behind_messages or size > self._behind_bytes:
            if not self._make_room(session, frame):
                return
            size = output.size + len(frame)
        queue.append(frame)
        output.size = size
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def write_many(self, session: LocalSession, frames: list[bytes]) -> None:
        """Queue several frames for a client; one by one where it is behind."""
        assert isinstance(session, Session)
        if session.state is not _OPERATIONAL:
            return
        output = session.output
        size = output.size
        for frame in frames:
            size += len(frame)
        if len(output.queue) + len(frames) > self._behind_messages or size > self._behind_bytes:
            for frame in frames:
                self.write(session, frame)
            return
        output.queue.extend(frames)
        output.size = size
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def killed(self, private_group: bytes) -> None:
        """A KILL of that session was delivered: forget it, its name is free."""
        session = self._authorized.pop(private_group, None)
        if session is None:
            return
        self._admission.release(session)
        self._slow.forget(session)
        if session.state is _OPERATIONAL:
            # Only a peer that lies can order a KILL for a client of ours.
            self._alarms.alarm(
                Category.SESSION | Category.PRINT,
                Priority.WARNING,
                "Sess_handle_kill: session %s ( mailbox %d ) was killed by a peer",
                printable(session.name),
                session.mailbox,
            )
            session.state = SessionState.KILLED
            self._disconnect(session)
        session.state = SessionState.GONE
        self._serving.update_accepting()

    def block(self) -> None:
        """Stop reading clients and accepting connections: the state exchange begins."""
        self._serving.block(True)

    def unblock(self) -> None:
        """Serve clients again, from the next :meth:`flush` on."""
        self._serving.block(False)

    # --- ClientGate, for the ordering layer

    def stop_clients(self) -> None:
        """Stop reading clients: the down queue has reached the water mark."""
        self._serving.gate(True)

    def serve_clients(self) -> None:
        """Serve clients again, from the next :meth:`flush` on."""
        self._serving.gate(False)

    # --- stopping and serving

    def _serve_held(self) -> None:
        serving = self._serving
        while (session := serving.next_held()) is not None:
            if session.state is _OPERATIONAL:
                if session.chunks:
                    self._read_frames(session, session.take())
            elif session.state is SessionState.HANDSHAKE:
                if session.chunks:
                    self._handshakes.read(session, session.take(), self._now)
            else:
                continue
            if session.held:
                continue
            if session.ended:
                self._end(session)
            elif session.state in (SessionState.HANDSHAKE, _OPERATIONAL):
                session.transport.resume()

    # --- reading

    def _read_frames(self, session: Session, data: bytes) -> None:
        """Cut ``data`` into frames, check and submit them, keep the rest.

        A header that is byte for byte the one before has passed before: clients
        that send much send alike.  Everything but little-endian data goes the
        long way round through :func:`check_header`.
        """
        serving = self._serving
        ordering = self.ordering
        submit_many = ordering.submit_many
        together = 1 if serving.careful(self._now) else self._together
        frames: list[bytes] = []
        field = session.sender_field
        header = session.known_header
        size = session.known_size
        groups = session.known_groups
        last = session.known_last
        packet_type = session.known_type
        end = len(data)
        at = 0
        room = WATER_MARK - ordering.queued()
        needed = MESSAGE_HEADER_SIZE
        while end - at >= MESSAGE_HEADER_SIZE:
            if room <= 0:
                room = WATER_MARK - ordering.queued()
                if room <= 0:
                    serving.stop_full(True)
            if serving.stopped:
                break
            if data[at : at + MESSAGE_HEADER_SIZE] != header:
                type_, sender, groups, hint, data_len = _unpack_header(data, at)
                kind = _data_type(type_ & DATA_TYPE_MASK)
                size = MESSAGE_HEADER_SIZE + MAX_GROUP_NAME * groups + data_len
                if (
                    kind is None
                    or sender != field
                    or hint & HINT_FOREIGN_BITS
                    or not 0 <= groups <= MAX_GROUPS_PER_MESSAGE
                    or not 0 <= data_len <= size <= MAX_MESSAGE_SIZE
                ):
                    header = b""
                    if frames:
                        submit_many(frames, packet_type)
                        frames = []
                        if session.held or session.state is not _OPERATIONAL:
                            break
                    needed = self._read_other(session, data, at)
                    if at + needed > end:
                        break
                    at += needed
                    needed = MESSAGE_HEADER_SIZE
                    room -= 1
                    if session.state is not _OPERATIONAL:
                        return
                    if session.held:
                        break
                    continue
                if frames and kind is not packet_type:
                    submit_many(frames, packet_type)
                    frames = []
                    if session.held or session.state is not _OPERATIONAL:
                        header = b""
                        break
                packet_type = kind
                header = data[at : at + MESSAGE_HEADER_SIZE]
                # The last byte of the only name; without one a byte that is 0.
                last = 79 if groups else 35
            stop = at + size
            if stop > end:
                needed = size
                break
            if (groups > 1 or data[at + last]) and not targets_bounded(data, groups, at):
                if frames:
                    submit_many(frames, packet_type)
                self._refuse_frame(session, unbounded_target(session.private_group))
                return
            frames.append(data[at:stop])
            at = stop
            room -= 1
            if room <= 0 or len(frames) >= together or len(frames) * size >= TOGETHER_BYTES:
                submit_many(frames, packet_type)
                frames = []
                if session.held or session.state is not _OPERATIONAL:
                    break
                if serving.careful(self._now):
                    together = 1
        if frames:
            submit_many(frames, packet_type)
        if session.state is not _OPERATIONAL:
            return
        session.known_header = header
        session.known_size = size
        session.known_groups = groups
        session.known_last = last
        session.known_type = packet_type
        if at < end:
            session.needed = needed
            session.keep(data[at:])
            if serving.stopped:
                serving.hold(session)

    def _read_other(self, session: Session, data: bytes, at: int) -> int:
        """Take one frame that is not plain little-endian data; its size.

        The size may reach beyond ``data``: then nothing was done.
        """
        checked = check_header(data, at, session.private_group)
        if isinstance(checked, Refusal):
            self._refuse_frame(session, checked)
            return 0
        size = checked.size
        if at + size > len(data):
            return size
        frame = finish_frame(checked, data[at : at + size], session.private_group)
        if isinstance(frame, Refusal):
            self._refuse_frame(session, frame)
        elif checked.request == KILL_MESS:
            self._alarm(
                "Sess_read: disconnecting session %s ( mailbox %d )",
                printable(session.name),
                session.mailbox,
            )
            self._disconnect(session)
            self.ordering.submit(frame, checked.packet_type)
        elif checked.request == JOIN_MESS and not self._may_join(frame):
            self._reject(session, frame)
        else:
            self.ordering.submit(frame, checked.packet_type)
        return size

    def _may_join(self, frame: bytes) -> bool:
        return self.join_allowed is None or self.join_allowed(field_name(frame[48:80]))

    def _reject(self, session: Session, frame: bytes) -> None:
        """Send the reject message for a JOIN that is refused."""
        group = field_name(frame[48:80])
        self._alarms.alarm(
            Category.PRINT,
            Priority.WARNING,
            "Sess_read: Attempt by session %s to join group %s failed: too many members.",
            printable(session.private_group),
            printable(group),
        )
        old_type = ServiceType.CAUSED_BY_JOIN | (frame[0] & SELF_DISCARD)
        self.write(session, encode_reject(frame, old_type, [group, session.private_group]))

    def _accepted(self, session: Session, rest: bytes) -> None:
        """The handshake is complete; ``rest`` has come behind it."""
        self._authorized[session.private_group] = session
        self._alarm(
            "Sess_session_authorized: Accepting from %s with private name %s on mailbox %d",
            format_address(session.peer.address),
            printable(session.name),
            session.mailbox,
        )
        if rest:
            self._read_frames(session, rest)

    # --- ending

    def _end(self, session: Session) -> None:
        """The stream has ended and everything before that is processed."""
        if session.state is _OPERATIONAL:
            self._kill(session)
        else:
            self._handshakes.end_of_file(session)

    def _refuse_frame(self, session: Session, refusal: Refusal) -> None:
        self._alarms.alarm(refusal.category, Priority.WARNING, refusal.text, *refusal.args)
        self._kill(session)

    def _kill(self, session: Session) -> None:
        """End a session and order a KILL of the daemon's own."""
        self._alarm(
            "Sess_kill: killing session %s ( mailbox %d )",
            printable(session.name),
            session.mailbox,
        )
        self._disconnect(session)
        self.ordering.submit(
            encode_message(_DAEMON_KILL, session.private_group, ()), PacketType.SAFE
        )

    def _disconnect(self, session: Session) -> None:
        """Close the connection of an accepted session, whose KILL is on its way."""
        session.state = SessionState.KILLED
        session.take()
        if len(session.output):
            # What the kernel takes now, a client that only stopped sending can read.
            session.transport.flush()
            session.output.clear()
        session.transport.close()

    def _make_room(self, session: Session, frame: bytes) -> bool:
        """Deal with a client that is behind; tell whether it may have one more frame.

        A full queue is written to at once, and the session ends if that does not
        help.  A queue that is half full slows the senders down.
        """
        output = session.output
        size = len(frame)
        full = len(output) >= self._max_messages or output.size + size > self._max_bytes
        if not full:
            almost_full = (
                len(output) * 4 >= self._max_messages * 3 or output.size * 4 >= self._max_bytes * 3
            )
            if almost_full:
                self._slow.nearly_full(session, self._max_messages, self._now)
            if not self._serving.outruns(size, almost_full, self._now):
                return True
        if len(output):
            session.transport.flush()
            if session.state is not _OPERATIONAL:
                return False
        if len(output) >= self._max_messages or output.size + size > self._max_bytes:
            self._alarm("Sess_write: killing mbox %d for not reading", session.mailbox)
            self._kill(session)
            return False
        if len(output) >= self._behind_messages or output.size + size > self._behind_bytes:
            sender = self._authorized.get(field_name(frame[4:36]))
            if sender is not None and sender.state is _OPERATIONAL:
                self._serving.rest(sender)
        return True

    # --- output outside of the message layer

    def _send(self, session: Session, data: bytes) -> None:
        session.output.append(data)
        self._mark_dirty(session)

    def _mark_dirty(self, session: Session) -> None:
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def _close_after_flush(self, session: Session) -> None:
        session.state = SessionState.GONE
        session.closing = True
        session.take()
        self._mark_dirty(session)

    def _alarm(self, text: str, *args: object) -> None:
        self._alarms.alarm(Category.SESSION, Priority.WARNING, text, *args)
