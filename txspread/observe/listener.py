"""The optional HTTP listener: metrics, status, health and a page for people.

===================  ===============================================================
path                 answer
===================  ===============================================================
``/``                the status page, self-contained
``/status``          everything about the daemon as JSON; ``?list=N`` groups and
                     sessions are listed (100, at most 1000)
``/series``          the samples behind the plots and the peers' status as JSON;
                     ``?since=T`` only those later than T
``/metrics``         Prometheus' text format
``/health``          200 as long as the daemon runs, for liveness probes
``/health/ready``    200 if clients are served, else 503, for readiness probes
===================  ===============================================================

Only GET and HEAD are answered, and no answer changes anything in the daemon.  A
request with a body, with too long a line or too many headers is refused, a
connection that does not complete one in :data:`IDLE_SECONDS` is closed, and so is
the oldest one when there are :data:`MAX_CONNECTIONS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Final, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from txspread.daemon.host import DaemonHost
from txspread.daemon.sockets import SocketError
from txspread.observe import page, snapshot
from txspread.observe.peers import Peers
from txspread.observe.series import COLUMNS, SECONDS, Series
from txspread.observe.snapshot import Json

IDLE_SECONDS: Final = 30
MAX_CONNECTIONS: Final = 64
_NO_BODY: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
_NO_METRICS: Final = b"prometheus_client is missing: pip install 'txspread[metrics]'\n"


def parse_address(text: str) -> tuple[str, int]:
    """Read ``PORT``, ``HOST:PORT``, ``:PORT`` (any address) or ``[IPV6]:PORT``.

    A port alone means the loopback address: what is told here is not for everybody.
    Raises :class:`ValueError` for anything else.
    """
    host, colon, number = text.rpartition(":")
    if not (number.isascii() and number.isdigit()) or int(number) > 65535:
        raise ValueError(f"{text!r}: not PORT or HOST:PORT")
    if not colon:
        return "127.0.0.1", int(number)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets")
    return host, int(number)


class StatusService(Service):
    """Serves HTTP for one daemon; a Twisted service to be started after the daemon's.

    Args:
        find: the daemon that is told of, None while it does not run.
        address: host name or address, and port.
        reactor: the daemon's.

    """

    name = "status"

    def __init__(
        self, find: Callable[[], DaemonHost | None], address: tuple[str, int], reactor: object
    ) -> None:
        self.address = address
        self._find = find
        self._reactor = reactor
        self._series = Series()
        self._peers = Peers(reactor)
        self._sampling = LoopingCall(self._sample)
        self._sampling.clock = cast(IReactorTime, reactor)
        self._port: IListeningPort | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; of interest if 0 was asked for."""
        return (
            self.address[1] if self._port is None else cast(IPv4Address, self._port.getHost()).port
        )

    def privilegedStartService(self) -> None:
        """Listen.

        Raises:
            SocketError: the address cannot be had.

        """
        if self._port is not None:
            return
        host, port = self.address
        site = _Site(Root(self._find, self._series, self._peers), self._reactor)
        try:
            self._port = cast(IReactorTCP, self._reactor).listenTCP(
                port,
                site,  # type: ignore[arg-type]
                backlog=50,
                interface=host,
            )
        except Exception as error:
            # Twisted has an exception of its own here, names that do not resolve others.
            raise SocketError(f"HTTP: cannot listen on {host}:{port} ({error})") from error

    def startService(self) -> None:
        """Listen, if that has not been done, and begin to take samples."""
        self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        self._sampling.start(SECONDS)

    def stopService(self) -> None:
        """Listen no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._sampling.running:
            self._sampling.stop()
        self._peers.stop()
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()

    def _sample(self) -> None:
        node = snapshot.running_node(self._find())
        if node is not None:
            self._series.sample(node)


class Root(Resource):
    """Every path."""

    isLeaf = True

    def __init__(self, find: Callable[[], DaemonHost | None], series: Series, peers: Peers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._find = find
        self._series = series
        self._peers = peers
        self._exposition = _find_exposition(find)
        self._answers: dict[bytes, Callable[[Request], bytes]] = {
            b"/": self._page,
            b"/status": self._status,
            b"/series": self._recent,
            b"/metrics": self._metrics,
            b"/health": self._health,
            b"/health/ready": self._readiness,
        }

    def render(self, request: Request) -> bytes:
        """Answer one request."""
        _header(request, b"cache-control", b"no-store")
        _header(request, b"x-content-type-options", b"nosniff")
        if request.method not in {b"GET", b"HEAD"}:
            _header(request, b"allow", b"GET, HEAD")
            return _refuse(request, 405, "only GET and HEAD are answered")
        answer = self._answers.get(request.path)
        if answer is None:
            known = ", ".join(path.decode() for path in self._answers)
            return _refuse(request, 404, f"there are: {known}")
        try:
            return answer(request)
        except _BadQueryError as error:
            return _refuse(request, 400, str(error))

    def _page(self, request: Request) -> bytes:
        _header(request, b"content-type", b"text/html; charset=utf-8")
        _header(request, b"content-security-policy", page.POLICY)
        _header(request, b"referrer-policy", b"no-referrer")
        return page.PAGE

    def _status(self, request: Request) -> bytes:
        listed = _number(request, b"list", snapshot.DEFAULT_LISTED)
        host = self._find()
        node = snapshot.running_node(host)
        if host is None or node is None:
            return _unavailable(request)
        return _json(request, snapshot.status(host, node, int(listed)))

    def _recent(self, request: Request) -> bytes:
        since = _number(request, b"since", 0.0)
        node = snapshot.running_node(self._find())
        if node is None:
            return _unavailable(request)
        self._peers.watch(node)
        samples: list[Json] = [list(sample) for sample in self._series.since(since)]
        return _json(
            request,
            {"columns": list(COLUMNS), "samples": samples, "peers": self._peers.describe()},
        )

    def _metrics(self, request: Request) -> bytes:
        _header(request, b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        if self._exposition is None:
            request.setResponseCode(501)
            return _NO_METRICS
        return self._exposition()

    def _health(self, request: Request) -> bytes:
        node = snapshot.running_node(self._find())
        if node is None:
            return _unavailable(request)
        return _json(request, {"status": "ok", "state": node.membership_state.name})

    def _readiness(self, request: Request) -> bytes:
        node = snapshot.running_node(self._find())
        if node is None:
            return _unavailable(request)
        ready = snapshot.is_ready(node)
        if not ready:
            request.setResponseCode(503)
        return _json(
            request,
            {
                "status": "ok" if ready else "not ready",
                "state": node.membership_state.name,
                "groups_state": node.groups.state.name,
                "members": len(node.membership),
            },
        )


def _header(request: Request, name: bytes, value: bytes) -> None:
    request.setHeader(name, value)  # type: ignore[no-untyped-call]


class _BadQueryError(Exception):
    """A parameter that is no number."""


def _number(request: Request, name: bytes, default: float) -> float:
    values = request.args.get(name)
    if not values:
        return default
    try:
        value = float(values[-1])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _BadQueryError(f"{name.decode()} must be a number")
    return value


def _json(request: Request, value: Json) -> bytes:
    _header(request, b"content-type", b"application/json")
    return json.dumps(value).encode() + b"\n"


def _refuse(request: Request, code: int, text: str) -> bytes:
    request.setResponseCode(code)
    _header(request, b"content-type", b"text/plain; charset=utf-8")
    return text.encode() + b"\n"


def _unavailable(request: Request) -> bytes:
    return _refuse(request, 503, "the daemon does not run")


def _find_exposition(find: Callable[[], DaemonHost | None]) -> Callable[[], bytes] | None:
    try:
        from txspread.observe.metrics import make_exposition
    except ImportError:
        return None
    return make_exposition(find)


class _Channel(HTTPChannel):
    """One connection."""

    def connectionMade(self) -> None:
        """Make room for a new connection."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        connections = cast("_Site", self.factory).connections
        connections[self] = None
        while len(connections) > MAX_CONNECTIONS:
            oldest = next(iter(connections))
            del connections[oldest]
            cast(ITCPTransport, oldest.transport).abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection."""
        cast("_Site", self.factory).connections.pop(self, None)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:
        """Go on with a request that has no body; refuse any other before it is stored."""
        if self.length == 0:
            super().allHeadersReceived()  # type: ignore[no-untyped-call]
            return
        cast(ITCPTransport, self.transport).write(_NO_BODY)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:
        """Drop a body."""


class _Site(Site):
    """The listener's factory; it writes no log of requests."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, resource: Resource, reactor: object) -> None:
        super().__init__(resource, timeout=IDLE_SECONDS, reactor=reactor)  # type: ignore[no-untyped-call]
        self.displayTracebacks = False
        self.connections: dict[_Channel, None] = {}

    def log(self, request: object) -> None:
        """Write nothing."""
