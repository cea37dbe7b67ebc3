"""The client's side of the connection handshake, sans-IO.

The client sends its connect request; the daemon lists the authentication methods
it allows; the client answers with the methods it uses and runs their exchanges;
the daemon accepts, giving its version and the private group, or refuses with one
negative byte and closes.

============== ============================ ======================================
state          bytes awaited                then
============== ============================ ======================================
AUTH_LENGTH    1                            negative: refused; 0..90: AUTH_LIST
AUTH_LIST      as announced                 own methods listed: send the choice,
                                            METHODS; else refused (REJECT_AUTH)
METHODS        what the running method asks next method; after the last, REPLY
REPLY          1                            1: VERSION; else refused with that code
VERSION        3                            too old: refused (REJECT_VERSION);
                                            else NAME_LENGTH
NAME_LENGTH    1                            0..31: NAME; else closed
NAME           as announced                 ACCEPTED
============== ============================ ======================================

Source: ``docs/protocol/client-session.md`` section 2; how a refusal looks, 2.9.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from txspread.client.authentication import AuthenticationMethod, Exchange, NullMethod
from txspread.client.errors import AuthenticationFailed, ConnectionClosed, error_for
from txspread.client.messages import Name
from txspread.client.requests import check_private_name
from txspread.wire.constants import MAX_AUTH_METHODS, MAX_AUTH_NAME, MAX_GROUP_NAME, SpreadCode
from txspread.wire.session import ConnectRequest, encode_auth_choice

LIBRARY_VERSION: Final = (4, 4, 0)
"""The version a client of this library says it has."""
OLDEST_DAEMON: Final = (3, 1, 0)
OLDEST_WITH_PRIORITY: Final = (3, 8, 0)
MAX_AUTH_LIST: Final = 90


class HandshakeState(enum.Enum):
    """Where the handshake is."""

    AUTH_LENGTH = "auth list length"
    AUTH_LIST = "auth list"
    METHODS = "authentication exchange"
    REPLY = "accept reply"
    VERSION = "daemon version"
    NAME_LENGTH = "private group length"
    NAME = "private group"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Handshake:
    """One connection attempt.

    :param private_name: up to 10 bytes, or empty to let the daemon choose.
    :param membership: whether membership messages are wanted.
    :param priority: stored by daemons and never used; anything above 0 becomes 1.
    :param methods: up to three, in the order to run them.
    :raises ConnectionRejected: for a private name that the daemon would refuse.
    """

    def __init__(
        self,
        private_name: Name = "",
        *,
        membership: bool = True,
        priority: int = 0,
        methods: Sequence[AuthenticationMethod] = (NullMethod(),),
    ) -> None:
        if len(methods) > MAX_AUTH_METHODS:
            raise ValueError(f"at most {MAX_AUTH_METHODS} authentication methods")
        for method in methods:
            if not 0 < len(method.name.encode()) < MAX_AUTH_NAME:
                raise ValueError(f"method name {method.name!r} must be 1 to 29 bytes")
        self.state = HandshakeState.AUTH_LENGTH
        self.private_group = b""
        self.daemon_version = (0, 0, 0)
        self._priority = 1 if priority > 0 else 0
        self._methods = tuple(methods)
        self._pending: Iterator[AuthenticationMethod] = iter(self._methods)
        self._exchange: Exchange | None = None
        self._failed = False
        self._wanted = 1
        self._received = bytearray()
        self._output = bytearray(
            ConnectRequest(
                *LIBRARY_VERSION,
                membership=membership,
                priority=self._priority,
                name=check_private_name(private_name),
            ).encode()
        )
        self._steps: dict[HandshakeState, Callable[[bytes], None]] = {
            HandshakeState.AUTH_LENGTH: self._auth_length,
            HandshakeState.AUTH_LIST: self._auth_list,
            HandshakeState.METHODS: self._method_answer,
            HandshakeState.REPLY: self._reply,
            HandshakeState.VERSION: self._version,
            HandshakeState.NAME_LENGTH: self._name_length,
            HandshakeState.NAME: self._name,
        }

    @property
    def accepted(self) -> bool:
        """Whether the session is open."""
        return self.state is HandshakeState.ACCEPTED

    @property
    def missing(self) -> int:
        """Bytes to read next that surely belong to the handshake, at least 1."""
        return max(self._wanted - len(self._received), 1)

    def take_output(self) -> bytes:
        """Bytes to send now; the first call gives the connect request."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the daemon.

        Call :meth:`take_output` afterwards.  Returns the bytes that follow the
        accept reply; empty as long as the handshake runs.

        :raises SpreadError: the daemon refused, or is none.  Final.
        """
        self._received += data
        while self.state in self._steps and len(self._received) >= self._wanted:
            unit = bytes(self._received[: self._wanted])
            del self._received[: self._wanted]
            state = self.state
            try:
                self._steps[state](unit)
            except BaseException:
                self.state = HandshakeState.REFUSED
                raise
        if self.state is not HandshakeState.ACCEPTED:
            return b""
        rest = bytes(self._received)
        self._received.clear()
        return rest

    def _await(self, state: HandshakeState, size: int) -> None:
        self.state = state
        self._wanted = size

    def _auth_length(self, unit: bytes) -> None:
        size = int.from_bytes(unit, "little", signed=True)
        if size < 0:
            raise error_for(size, "refused by the daemon")
        if size > MAX_AUTH_LIST:
            raise _closed(f"an authentication list of {size} bytes")
        self._await(HandshakeState.AUTH_LIST, size)

    def _auth_list(self, unit: bytes) -> None:
        offered = unit.decode("latin-1").split()
        for method in self._methods:
            if method.name not in offered:
                raise AuthenticationFailed(
                    SpreadCode.REJECT_AUTH,
                    f"the daemon allows {' '.join(offered) or 'no method'}, not {method.name}",
                )
        self._output += encode_auth_choice([method.name.encode() for method in self._methods])
        self._next_method()

    def _next_method(self) -> None:
        """Start methods until one waits for the daemon."""
        for method in self._pending:
            self._exchange = method.exchange()
            if self._resume(None):
                return
        if self._failed:
            raise AuthenticationFailed(SpreadCode.REJECT_AUTH, "an authentication method failed")
        self._await(HandshakeState.REPLY, 1)

    def _resume(self, answer: bytes | None) -> bool:
        """Go on with the running method; whether it waits for bytes."""
        exchange = self._exchange
        if exchange is None:
            return False
        try:
            data, size = next(exchange) if answer is None else exchange.send(answer)
        except StopIteration as stop:
            # The daemon runs every method even after a failure, and so must we,
            # or the two sides would read each other's bytes wrongly.
            self._failed = self._failed or not stop.value
            self._exchange = None
            return False
        self._output += data
        self._await(HandshakeState.METHODS, size)
        return True

    def _method_answer(self, unit: bytes) -> None:
        if not self._resume(unit):
            self._next_method()

    def _reply(self, unit: bytes) -> None:
        code = int.from_bytes(unit, "little", signed=True)
        if code != SpreadCode.ACCEPT_SESSION:
            raise error_for(code, "refused by the daemon")
        self._await(HandshakeState.VERSION, 3)

    def _version(self, unit: bytes) -> None:
        version = (unit[0], unit[1], unit[2])
        oldest = OLDEST_WITH_PRIORITY if self._priority else OLDEST_DAEMON
        if version < oldest:
            told = ".".join(str(part) for part in version)
            raise error_for(SpreadCode.REJECT_VERSION, f"the daemon has version {told}")
        self.daemon_version = version
        self._await(HandshakeState.NAME_LENGTH, 1)

    def _name_length(self, unit: bytes) -> None:
        if not 0 <= unit[0] < MAX_GROUP_NAME:
            raise _closed(f"a private group of {unit[0]} bytes")
        self._await(HandshakeState.NAME, unit[0])

    def _name(self, unit: bytes) -> None:
        self.private_group = unit
        self.state = HandshakeState.ACCEPTED


def _closed(what: str) -> ConnectionClosed:
    return ConnectionClosed(SpreadCode.CONNECTION_CLOSED, f"the daemon sent what cannot be: {what}")
