"""The handshake of one client, up to the moment it is accepted or turned away.

Rules in prose.

* The client speaks first: two version bytes, a third one from version 3.15 on,
  flags, name length, name.  The request is collected for one second; whoever has
  not sent it by then is closed without a byte.
* A client older than 3.1 is refused; then the name is checked and claimed.  An
  empty name asks for an invented one.  From here on the session holds its name
  and counts.
* A client before 3.16 cannot choose a method: it is checked at once, by IP if
  that is allowed, else by NULL, and by every required method.
* Any other client gets the list of allowed methods and answers with exactly 90
  bytes, three slots of 30.  No method allowed: an empty list and REJECT_AUTH.
* The chosen methods are run in the client's order, then the required ones it did
  not choose.  All are run even if one fails; one failure is REJECT_AUTH.
* The choice and what the methods ask for have to arrive within a bounded time.
* What follows the handshake in the stream belongs to the message layer.

The table :data:`TABLE` says the same as data: (state, event) -> (action, next
state).  Every reject is one byte, the code, followed by close.

Source: ``docs/protocol/client-session.md`` section 2; upstream ``session.c``,
``Sess_accept_continue``, ``Sess_recv_client_auth``, ``Sess_session_authorized``.
Deviations: requests and choices are collected instead of being read once,
exactly the announced name length is read, old clients do not get round the
required methods, and the wait for a choice is bounded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import frozen

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.authentication import IP, PWORD, Authentication
from txspread.engine.session_validation import printable
from txspread.wire.constants import SpreadCode
from txspread.wire.names import private_group_name
from txspread.wire.session import (
    AUTH_CHOICE_SIZE,
    AUTH_VERSION,
    PASSWORD_SIZE,
    PATCH_VERSION,
    ConnectRequest,
    HandshakeError,
    decode_auth_choice,
    decode_password,
    encode_accept,
    encode_auth_list,
    encode_reject,
)

CONNECT_TIMEOUT: Final = 1.0
"""Seconds a new connection has to send its request."""
AUTHENTICATION_TIMEOUT: Final = 30.0
"""Seconds from the list of methods to the end of authentication."""


class State(enum.Enum):
    """Where a handshake stands."""

    REQUEST = "request"
    """The connect request is awaited; no name is held."""
    CHOICE = "choice"
    """The list has been sent, the choice is awaited; the name is held."""
    METHODS = "methods"
    """A method has asked for bytes."""
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Event(enum.Enum):
    """What a handshake can meet."""

    BAD_VERSION = "version too old"
    ILLEGAL_NAME = "illegal name"
    NAME_IN_USE = "name in use"
    NO_SLOT = "no free session"
    NO_METHOD = "no method allowed"
    NEW_CLIENT = "client that chooses methods"
    OLD_CLIENT = "client before 3.16"
    OLD_CLIENT_DENIED = "client before 3.16, no method it can pass"
    BAD_CHOICE = "choice not acceptable"
    CHOICE = "choice acceptable"
    BYTES_NEEDED = "method waits for bytes"
    PASSED = "all methods passed"
    FAILED = "a method failed"
    TIMEOUT = "time is over"
    END_OF_FILE = "client has gone"


class Action(enum.Enum):
    """What a handshake does at a transition."""

    CLOSE = "close without a byte"
    REJECT_VERSION = "send REJECT_VERSION, close"
    REJECT_ILLEGAL_NAME = "send REJECT_ILLEGAL_NAME, close"
    REJECT_NOT_UNIQUE = "send REJECT_NOT_UNIQUE, close"
    REJECT_QUOTA = "send REJECT_QUOTA, close"
    REJECT_AUTH = "send REJECT_AUTH, close"
    EMPTY_LIST = "send an empty list and REJECT_AUTH, close"
    SEND_LIST = "send the list of methods"
    RUN_METHODS = "run the methods"
    WAIT = "nothing"
    ACCEPT = "send the accept reply"


TABLE: Final[dict[tuple[State, Event], tuple[Action, State]]] = {
    (State.REQUEST, Event.BAD_VERSION): (Action.REJECT_VERSION, State.REFUSED),
    (State.REQUEST, Event.ILLEGAL_NAME): (Action.REJECT_ILLEGAL_NAME, State.REFUSED),
    (State.REQUEST, Event.NAME_IN_USE): (Action.REJECT_NOT_UNIQUE, State.REFUSED),
    (State.REQUEST, Event.NO_SLOT): (Action.REJECT_QUOTA, State.REFUSED),
    (State.REQUEST, Event.NO_METHOD): (Action.EMPTY_LIST, State.REFUSED),
    (State.REQUEST, Event.NEW_CLIENT): (Action.SEND_LIST, State.CHOICE),
    (State.REQUEST, Event.OLD_CLIENT): (Action.RUN_METHODS, State.METHODS),
    (State.REQUEST, Event.OLD_CLIENT_DENIED): (Action.REJECT_AUTH, State.REFUSED),
    (State.REQUEST, Event.TIMEOUT): (Action.CLOSE, State.REFUSED),
    (State.REQUEST, Event.END_OF_FILE): (Action.CLOSE, State.REFUSED),
    (State.CHOICE, Event.BAD_CHOICE): (Action.REJECT_AUTH, State.REFUSED),
    (State.CHOICE, Event.CHOICE): (Action.RUN_METHODS, State.METHODS),
    (State.CHOICE, Event.TIMEOUT): (Action.REJECT_AUTH, State.REFUSED),
    (State.CHOICE, Event.END_OF_FILE): (Action.REJECT_AUTH, State.REFUSED),
    (State.METHODS, Event.BYTES_NEEDED): (Action.WAIT, State.METHODS),
    (State.METHODS, Event.PASSED): (Action.ACCEPT, State.ACCEPTED),
    (State.METHODS, Event.FAILED): (Action.REJECT_AUTH, State.REFUSED),
    (State.METHODS, Event.TIMEOUT): (Action.REJECT_AUTH, State.REFUSED),
    (State.METHODS, Event.END_OF_FILE): (Action.REJECT_AUTH, State.REFUSED),
}
"""A pair that is not here cannot happen: ACCEPTED and REFUSED take no event."""

_REJECT_CODES: Final[dict[Action, SpreadCode]] = {
    Action.REJECT_VERSION: SpreadCode.REJECT_VERSION,
    Action.REJECT_ILLEGAL_NAME: SpreadCode.REJECT_ILLEGAL_NAME,
    Action.REJECT_NOT_UNIQUE: SpreadCode.REJECT_NOT_UNIQUE,
    Action.REJECT_QUOTA: SpreadCode.REJECT_QUOTA,
    Action.REJECT_AUTH: SpreadCode.REJECT_AUTH,
}
_CLAIM_EVENTS: Final[dict[SpreadCode, Event]] = {
    SpreadCode.REJECT_NOT_UNIQUE: Event.NAME_IN_USE,
    SpreadCode.REJECT_QUOTA: Event.NO_SLOT,
}

Claim: TypeAlias = Callable[[bytes], "bytes | SpreadCode"]
"""Claims a session name (empty: invents one).  The name, which is held from then
on, or REJECT_NOT_UNIQUE or REJECT_QUOTA."""


@frozen
class PeerAddress:
    """Where a client comes from."""

    address: int
    """IPv4 address, unsigned 32-bit; 0 for a client of the Unix socket."""
    mailbox: int
    """Number of its socket; appears in log lines and in invented names."""


class Handshake:
    """One client's handshake.

    Feed it with :meth:`receive`, :meth:`expire` or :meth:`end_of_file`, then send
    :meth:`take_output` and look at :attr:`state`.  When that is ACCEPTED,
    :attr:`rest` has the bytes that followed; when it is REFUSED, close.

    Args:
        authentication: methods in force.
        claim: takes a name.
        daemon_name: of this daemon, 1 to 19 bytes.
        daemon_version: major, minor and patch version that the daemon claims.
        peer: where the client comes from.
        alarms: sink for log lines.

    """

    __slots__ = (
        "_alarms",
        "_authentication",
        "_buffer",
        "_claim",
        "_daemon_name",
        "_daemon_version",
        "_failed",
        "_methods",
        "_output",
        "_peer",
        "_version",
        "membership",
        "name",
        "state",
    )

    def __init__(
        self,
        authentication: Authentication,
        claim: Claim,
        daemon_name: bytes,
        daemon_version: tuple[int, int, int],
        peer: PeerAddress,
        alarms: AlarmSink,
    ) -> None:
        self._authentication = authentication
        self._claim = claim
        self._daemon_name = daemon_name
        self._daemon_version = daemon_version
        self._peer = peer
        self._alarms = alarms
        self._buffer = b""
        self._output = b""
        self._methods: list[str] = []
        self._failed = False
        self._version = 0
        self.state = State.REQUEST
        self.name = b""
        """Session name once it is held, else empty."""
        self.membership = False
        """Whether the client wants membership messages."""

    @property
    def private_group(self) -> bytes:
        """``#name#daemon``; only with a name."""
        return private_group_name(self.name, self._daemon_name)

    @property
    def rest(self) -> bytes:
        """Bytes received behind what the handshake has used."""
        return self._buffer

    def take_output(self) -> bytes:
        """Bytes to send, once."""
        output = self._output
        self._output = b""
        return output

    def receive(self, data: bytes) -> None:
        """Take bytes from the client and go as far as they reach."""
        self._buffer += data
        if self.state is State.REQUEST:
            self._read_request()
        if self.state is State.CHOICE:
            self._read_choice()
        elif self.state is State.METHODS:
            self._run_methods()

    def expire(self) -> None:
        """The time for the present step is over."""
        if self.state not in (State.ACCEPTED, State.REFUSED):
            self._happen(Event.TIMEOUT)

    def end_of_file(self) -> None:
        """The client sends nothing more."""
        if self.state not in (State.ACCEPTED, State.REFUSED):
            self._happen(Event.END_OF_FILE)

    def _happen(self, event: Event) -> None:
        action, self.state = TABLE[self.state, event]
        if action is Action.ACCEPT:
            self._output += self._accept_reply()
        elif action is Action.SEND_LIST:
            self._output += self._method_list()
        elif action is Action.EMPTY_LIST:
            self._output += b"\0" + encode_reject(SpreadCode.REJECT_AUTH)
            self._log_denied()
        elif action is Action.RUN_METHODS:
            self._run_methods()
        elif action in _REJECT_CODES:
            self._output += encode_reject(_REJECT_CODES[action])
            if action is Action.REJECT_AUTH:
                self._log_denied()

    def _log(self, text: str, *args: object) -> None:
        self._alarms.alarm(Category.SESSION, Priority.WARNING, text, *args)

    def _log_denied(self) -> None:
        self._log(
            "Sess_session_denied: Authorization denied for %s on mailbox %d",
            printable(self.name),
            self._peer.mailbox,
        )

    # --- the connect request

    def _read_request(self) -> None:
        try:
            decoded = ConnectRequest.decode(self._buffer)
        except HandshakeError as error:
            self._refuse_request(error.code)
            return
        if decoded is None:
            return
        request, size = decoded
        self._buffer = self._buffer[size:]
        self._version = request.version
        self.membership = request.membership
        self._claim_name(request.name)

    def _refuse_request(self, code: SpreadCode) -> None:
        data = self._buffer
        major, minor, patch = (byte - 256 if byte > 127 else byte for byte in (data + bytes(3))[:3])
        if code is SpreadCode.REJECT_VERSION:
            self._log(
                "Sess_accept_continue: version %d.%d.%d is not supported", major, minor, patch
            )
            self._happen(Event.BAD_VERSION)
            return
        name = data[3:] if major * 100 + minor < 315 else data[4:]
        self._log(
            "Sess_accept_continue: illegal private name %s on mailbox %d",
            printable(name[1 : 1 + name[0]]),
            self._peer.mailbox,
        )
        self._happen(Event.ILLEGAL_NAME)

    def _claim_name(self, name: bytes) -> None:
        claimed = self._claim(name)
        if isinstance(claimed, SpreadCode):
            if claimed is SpreadCode.REJECT_NOT_UNIQUE:
                self._log(
                    "Sess_accept_continue: non unique private name %s on mailbox %d",
                    printable(name),
                    self._peer.mailbox,
                )
            else:
                self._log("Sess_accept: rejecting session due to quota")
            self._happen(_CLAIM_EVENTS[claimed])
            return
        self.name = claimed
        if self._version >= AUTH_VERSION:
            self._happen(Event.NEW_CLIENT if self._authentication.allowed else Event.NO_METHOD)
            return
        methods = self._authentication.methods_of_old_client()
        if methods is None:
            self._happen(Event.OLD_CLIENT_DENIED)
            return
        self._methods = list(methods)
        self._happen(Event.OLD_CLIENT)

    # --- authentication

    def _method_list(self) -> bytes:
        return encode_auth_list(name.encode() for name in self._authentication.allowed)

    def _read_choice(self) -> None:
        if len(self._buffer) < AUTH_CHOICE_SIZE:
            return
        names = decode_auth_choice(self._buffer)
        self._buffer = self._buffer[AUTH_CHOICE_SIZE:]
        for name in names:
            self._log(
                "Sess_recv_client_auth: Client requested %s type authentication", printable(name)
            )
        methods = self._authentication.methods_chosen(names)
        if methods is None:
            self._happen(Event.BAD_CHOICE)
            return
        self._methods = list(methods)
        self._happen(Event.CHOICE)

    def _run_methods(self) -> None:
        while self._methods:
            method = self._methods[0]
            if method == PWORD:
                if len(self._buffer) < PASSWORD_SIZE:
                    self._happen(Event.BYTES_NEEDED)
                    return
                passed = self._authentication.allows_password(*decode_password(self._buffer))
                self._buffer = self._buffer[PASSWORD_SIZE:]
                self._output += b"\1" if passed else b"\0"
            elif method == IP:
                passed = self._check_address()
            else:
                passed = True
            self._failed = self._failed or not passed
            del self._methods[0]
        self._happen(Event.FAILED if self._failed else Event.PASSED)

    def _check_address(self) -> bool:
        if self._authentication.access is None:
            self._alarms.alarm(
                Category.ACM,
                Priority.CRITICAL,
                "ip_open_connection: No spread.access_ip file loaded. "
                "NO connections will be allowed!\nYou probably don't want this!!",
            )
        return self._authentication.allows_address(self._peer.address)

    # --- acceptance

    def _accept_reply(self) -> bytes:
        return encode_accept(
            self.private_group, self._daemon_version, patch=self._version >= PATCH_VERSION
        )
