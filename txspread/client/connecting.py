"""Making Twisted connections: endpoints, deadlines, what the failures mean."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, TypedDict, cast

from twisted.internet import endpoints, error
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from txspread.client.authentication import AuthenticationMethod, NullMethod
from txspread.client.connection import (
    RECEIVE_LIMIT,
    SEND_LIMIT,
    SILENCE_TIMEOUT,
    Connection,
)
from txspread.client.errors import ConnectionClosed, CouldNotConnect, IllegalSpread
from txspread.client.frames import MAX_MEMBERSHIP
from txspread.client.messages import Name
from txspread.client.names import TcpAddress, UnixAddress, parse_spread_name
from txspread.client.protocol import ClientSession
from txspread.client.requests import SAFE_GROUPS, SAFE_TOTAL
from txspread.wire.constants import SpreadCode

CONNECT_TIMEOUT: Final = 10.0


class ConnectOptions(TypedDict, total=False):
    """Options of :func:`connect` that the layers above hand through."""

    priority: int
    methods: Sequence[AuthenticationMethod]
    timeout: float
    silence_timeout: float | None
    receive_limit: int
    send_limit: int
    max_groups: int
    max_total: int
    max_membership: int
    reactor: IReactorTime | None


def endpoint_for(reactor: IReactorTime, name: str | None) -> IStreamClientEndpoint:
    """Make the Twisted endpoint of a Spread name.

    :raises IllegalSpread: the name is none of :mod:`txspread.client.names`.
    """
    address = parse_spread_name(name)
    core = cast(Any, reactor)
    makers = cast(Any, endpoints)
    endpoint: IStreamClientEndpoint
    if isinstance(address, TcpAddress):
        endpoint = makers.HostnameEndpoint(core, address.host, address.port)
    elif isinstance(address, UnixAddress):
        endpoint = makers.UNIXClientEndpoint(core, address.path)
    else:
        try:
            endpoint = makers.clientFromString(core, address.description)
        except (ValueError, TypeError, KeyError) as problem:
            raise IllegalSpread(SpreadCode.ILLEGAL_SPREAD, f"{name!r}: {problem}") from problem
    return endpoint


@inlineCallbacks
def connect(
    name: str | IStreamClientEndpoint | None = None,
    private_name: Name = "",
    *,
    membership: bool = True,
    priority: int = 0,
    methods: Sequence[AuthenticationMethod] = (NullMethod(),),
    timeout: float = CONNECT_TIMEOUT,
    silence_timeout: float | None = SILENCE_TIMEOUT,
    receive_limit: int = RECEIVE_LIMIT,
    send_limit: int = SEND_LIMIT,
    max_groups: int = SAFE_GROUPS,
    max_total: int = SAFE_TOTAL,
    max_membership: int = MAX_MEMBERSHIP,
    reactor: IReactorTime | None = None,
) -> Generator[Deferred[Any], Any, Connection]:
    """Connect to a daemon.

    :param name: which daemon (:mod:`txspread.client.names`), or a Twisted endpoint.
    :param private_name: up to 10 bytes of 0x24..0x7E; empty: the daemon invents one.
    :param membership: whether membership messages are wanted.
    :param priority: 0 or 1; no daemon uses it.
    :param methods: up to three authentication methods, in the order to run them.
    :param timeout: seconds for everything until the session is open.
    :param silence_timeout: seconds after which a daemon that says nothing, not even to
        a probe, counts as dead (:mod:`txspread.client.liveness`); None: never.
    :param receive_limit: bytes of messages kept for the program before reading stops.
    :param send_limit: bytes that may wait to be sent.
    :param max_groups: most groups of one message; 43 is what 4.x rings deliver.
    :param max_total: most bytes of one message, header and groups included; more than
        143199 kills 4.4.0 daemons, more than 143200 no daemon takes.
    :param max_membership: largest membership message that is taken, in bytes.
    :raises IllegalSpread: the name is malformed or its host does not resolve.
    :raises CouldNotConnect: nothing answers there, in time.
    :raises ConnectionRejected: the daemon refused; ``code`` tells why.
    :raises ConnectionClosed: the connection was lost in the handshake, or it took too long.
    """
    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = cast(IReactorTime, installed)
    deadline = reactor.seconds() + timeout
    endpoint = endpoint_for(reactor, name) if name is None or isinstance(name, str) else name
    session = ClientSession(
        private_name,
        membership=membership,
        priority=priority,
        methods=methods,
        max_groups=max_groups,
        max_total=max_total,
        max_membership=max_membership,
    )
    connection = Connection(
        session,
        reactor,
        receive_limit=receive_limit,
        send_limit=send_limit,
        silence_timeout=silence_timeout,
    )
    ready = connection.opening()
    yield _Attempt(endpoint, connection, timeout, reactor).result
    try:
        opened: Connection = yield ready.addTimeout(
            max(deadline - reactor.seconds(), 0.001), reactor
        )
    except DeadlinePassed as problem:
        raise ConnectionClosed(
            SpreadCode.CONNECTION_CLOSED, f"no complete handshake within {timeout:g} seconds"
        ) from problem
    return opened


class _Attempt:
    """Reaching a daemon: ends once, whatever the endpoint makes of being cancelled."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        connection: Connection,
        timeout: float,
        reactor: IReactorTime,
    ) -> None:
        self.result: Deferred[None] = Deferred(self._cancelled)
        self._over = False
        self._connection = connection
        self._timeout = timeout
        self._timer = reactor.callLater(timeout, self._expired)
        self._attempt = endpoint.connect(Factory.forProtocol(lambda: connection))
        self._attempt.addCallbacks(self._connected, self._failed)

    def _end(self) -> bool:
        """Whether it was not over yet."""
        if self._over:
            return False
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        return True

    def _connected(self, _protocol: object) -> None:
        if self._end():
            self.result.callback(None)
        else:
            self._connection.abort()

    def _failed(self, failure: Failure) -> None:
        if not self._end():
            return
        problem = failure.value
        told = str(problem) or type(problem).__name__
        if isinstance(problem, error.DNSLookupError):
            self.result.errback(IllegalSpread(SpreadCode.ILLEGAL_SPREAD, told))
        else:
            self.result.errback(CouldNotConnect(SpreadCode.COULD_NOT_CONNECT, told))

    def _expired(self) -> None:
        self._end()
        self._attempt.cancel()
        self.result.errback(
            CouldNotConnect(
                SpreadCode.COULD_NOT_CONNECT, f"no connection within {self._timeout:g} seconds"
            )
        )

    def _cancelled(self, _result: Deferred[None]) -> None:
        self._end()
        self._attempt.cancel()
