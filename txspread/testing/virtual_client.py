"""A client of a virtual daemon: connects, joins, sends, remembers what it gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import field, frozen

from txspread.engine.node import PeerAddress, Session
from txspread.testing.virtual_network import VirtualDaemon
from txspread.wire.constants import MEMBERSHIP_MESS, MESSAGE_HEADER_SIZE, ServiceType
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import GroupId
from txspread.wire.membership_message import MembershipBody
from txspread.wire.message import MessageHeader, encode_message, mess_type_of, message_groups

_HANDSHAKE_CHOICE = b"NULL".ljust(90, b"\0")


@frozen
class Received:
    """One message as a client got it."""

    time: float
    type: int
    sender: bytes
    """Private group of the sender, or the group of a membership message."""
    groups: tuple[bytes, ...]
    """Target groups, or the members of a view."""
    mess_type: int
    body: bytes = field(repr=False)
    view: MembershipBody | None = None
    """Of a regular membership message."""

    @property
    def is_membership(self) -> bool:
        """Whether it tells of a view, a transition or the client's own leaving."""
        return bool(self.type & MEMBERSHIP_MESS)

    @property
    def is_view(self) -> bool:
        """Whether it installs a view."""
        return bool(self.type & ServiceType.REG_MEMB_MESS)

    @property
    def is_transition(self) -> bool:
        """Whether it is a transitional signal."""
        return bool(self.type & ServiceType.TRANSITION_MESS) and not self.is_view

    @property
    def group_id(self) -> GroupId | None:
        """Id of the view, of a regular membership message."""
        return None if self.view is None else self.view.group_id


class VirtualClient:
    """One client program, also the transport that the sessions layer writes to.

    Args:
        daemon: a running daemon.
        name: session name, 1 to 10 bytes; empty lets the daemon invent one.
        on_received: told of every message, after it was recorded.
        on_ended: told when the daemon ends the connection.

    """

    def __init__(
        self,
        daemon: VirtualDaemon,
        name: bytes,
        on_received: Callable[[VirtualClient, Received], None] | None = None,
        on_ended: Callable[[VirtualClient], None] | None = None,
    ) -> None:
        self.daemon = daemon
        self.name = name
        self.private_group = b""
        """Set when the daemon has accepted the client."""
        self.received: list[Received] = []
        self.closed = False
        """Whether the connection is gone, whoever ended it."""
        self.rejected: int | None = None
        """Reject code, if the daemon refused the client."""
        self.reading = True
        """Whether the program takes what is there for it; see :meth:`stop_reading`."""
        self._on_received = on_received
        self._on_ended = on_ended
        self._clock = daemon.network.clock
        self._input = b""
        self._output: list[bytes] = []
        self._paused = False
        self._stage = 0
        node = daemon.node
        assert node is not None
        self._node = node
        self.session: Session = node.session_opened(
            self, PeerAddress(0x7F000001, len(daemon.network.daemons)), self._clock.now
        )
        self._send(bytes((4, 4, 0, 1, len(name))) + name)

    # What programs do.

    def join(self, group: bytes) -> None:
        """Ask to become a member."""
        self._request(ServiceType.JOIN_MESS, [group])

    def leave(self, group: bytes) -> None:
        """Ask to leave."""
        self._request(ServiceType.LEAVE_MESS, [group])

    def multicast(
        self, service: int, groups: Sequence[bytes], body: bytes, mess_type: int = 0
    ) -> None:
        """Send to groups or private groups."""
        self._send(encode_message(service, self.private_group, groups, body, mess_type))

    def disconnect(self) -> None:
        """Leave politely: a KILL, then the end of the stream."""
        self._request(ServiceType.KILL_MESS, [self.private_group])
        self.drop()

    def drop(self) -> None:
        """End the stream without a word."""
        if not self.closed:
            self.closed = True
            self._tell_of_end()

    def _tell_of_end(self) -> None:
        if self.daemon.node is not self._node:
            return
        if self.daemon.paused:
            self._clock.after(0.05, self._tell_of_end)
            return
        self._node.session_closed(self.session, self._clock.now)
        self.daemon.turn_over()

    def stop_reading(self) -> None:
        """Leave what comes where it is, so that the daemon has to queue it."""
        self.reading = False

    def read_again(self) -> None:
        """Take what has piled up, and all that follows."""
        if not self.reading:
            self.reading = True
            if not self.closed and self.daemon.node is self._node:
                self._node.session_writable(self.session, self._clock.now)
                self.daemon.turn_over()

    # The sessions layer's transport.

    def flush(self) -> None:
        """Take what is queued for this client, unless it does not read."""
        output = self.session.output
        if not self.reading:
            return
        data = b"".join(output.buffers(1 << 30))
        output.consumed(len(data))
        if data:
            self._clock.after(0.0, lambda: self._take(data))

    def close(self) -> None:
        """The daemon ends the connection."""
        self._clock.after(0.0, self._end)

    def pause(self) -> None:
        """The daemon does not read for now."""
        self._paused = True

    def resume(self) -> None:
        """The daemon reads again."""
        self._paused = False
        if self._output:
            self._clock.after(0.0, self._push)

    # Inside.

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            if self._on_ended is not None:
                self._on_ended(self)

    def _request(self, kind: int, groups: Sequence[bytes]) -> None:
        self._send(encode_message(kind, self.private_group, groups))

    def _send(self, data: bytes) -> None:
        if self.closed:
            return
        self._output.append(data)
        if not self._paused:
            self._clock.after(0.0, self._push)

    def _push(self) -> None:
        if self.closed or self._paused or not self._output or self.daemon.node is not self._node:
            return
        if self.daemon.paused:
            self._clock.after(0.05, self._push)
            return
        data = b"".join(self._output)
        self._output.clear()
        self._node.session_received(self.session, data, self._clock.now)
        self.daemon.turn_over()

    def _take(self, data: bytes) -> None:
        if self.closed and not data:
            return
        self._input += data
        if self._stage < 2 and not self._shake_hands():
            return
        while len(self._input) >= MESSAGE_HEADER_SIZE:
            header = MessageHeader.decode(self._input)
            size = MESSAGE_HEADER_SIZE + 32 * header.num_groups + header.data_len
            if len(self._input) < size:
                return
            frame, self._input = self._input[:size], self._input[size:]
            self._record(header, frame)

    def _record(self, header: MessageHeader, frame: bytes) -> None:
        groups = tuple(message_groups(frame, header.num_groups))
        body = frame[MESSAGE_HEADER_SIZE + 32 * header.num_groups :]
        view = None
        if header.type & ServiceType.REG_MEMB_MESS:
            view = MembershipBody.decode(body, header.byteorder)
        received = Received(
            self._clock.now,
            header.type & 0x7FFFFF7F,
            header.sender,
            groups,
            mess_type_of(header.hint),
            body,
            view,
        )
        self.received.append(received)
        if self._on_received is not None:
            self._on_received(self, received)

    def _shake_hands(self) -> bool:
        """Go through the handshake as far as the bytes reach; whether it is over."""
        if self._stage == 0:
            if not self._input:
                return False
            size = self._input[0]
            if size >= 0x80:
                self.rejected = size - 256
                return False
            if len(self._input) < 1 + size:
                return False
            self._input = self._input[1 + size :]
            self._stage = 1
            self._send(_HANDSHAKE_CHOICE)
        if len(self._input) < 5 or len(self._input) < 5 + self._input[4]:
            return False
        if self._input[0] != 1:
            raise ProtocolError(f"not accepted: {self._input!r}")
        end = 5 + self._input[4]
        self.private_group, self._input = self._input[5:end], self._input[end:]
        self._stage = 2
        return True
