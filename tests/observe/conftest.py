from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from attrs import frozen
from twisted.internet.epollreactor import EPollReactor

from txspread.config import parse
from txspread.daemon.service import SpreadService
from txspread.engine.alarms import SilentAlarms
from txspread.observe.listener import StatusService
from txspread.observe.trace_file import TraceFile
from txspread.testing.live_clients import Crowd

LIMIT = 30.0


class RunningReactor:
    """A reactor in a thread of its own."""

    def __init__(self):
        self.reactor = EPollReactor()
        self._thread = threading.Thread(
            target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
        )
        self._thread.start()
        self.call(lambda: None)

    def call(self, function: Callable):
        done = threading.Event()
        result = []

        def run():
            try:
                result.append((function(), None))
            except BaseException as error:
                result.append((None, error))
            done.set()

        self.reactor.callFromThread(run)
        assert done.wait(LIMIT), "the reactor is stuck"
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def stop(self):
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(LIMIT)


@pytest.fixture
def running_reactor() -> Iterator[RunningReactor]:
    running = RunningReactor()
    yield running
    running.stop()


def free_port(host: str) -> int:
    while True:
        port = random.randrange(10000, 32000, 2)
        with contextlib.ExitStack() as stack:
            try:
                for kind, number in (
                    (socket.SOCK_STREAM, port),
                    (socket.SOCK_DGRAM, port),
                    (socket.SOCK_DGRAM, port + 1),
                ):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    probe.bind((host, number))
            except OSError:
                continue
            return port


TIMEOUTS = """
TokenTimeout = 2000
HurryTimeout = 300
AliveTimeout = 50
JoinTimeout = 50
RepTimeout = 200
SegTimeout = 100
GatherTimeout = 250
FormTimeout = 250
LookupTimeout = 5000
"""


@frozen
class Observed:
    """A daemon with its listener."""

    service: SpreadService
    status_service: StatusService
    running: RunningReactor

    @property
    def node(self):
        return self.service.host.engine

    def ask(self, path: str, method: str = "GET", headers=None):
        """One request; status code, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.status_service.port, LIMIT)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, path: str):
        code, _headers, body = self.ask(path)
        assert code == 200, body
        return json.loads(body)


@pytest.fixture
def observe(running_reactor, tmp_path) -> Iterator[Callable[..., list[Observed]]]:
    """Start daemons d1, d2, ... each with a listener; ``started`` of ``size`` are started."""
    services: list = []

    def start(
        size: int = 1, started: int | None = None, options: str = "", traces: Sequence[str] = ()
    ) -> list[Observed]:
        text = f"AcceleratedRing = false\n{TIMEOUTS}{options}\n"
        for number in range(1, size + 1):
            host = f"127.0.{number}.7"
            text += (
                f"Spread_Segment 127.0.{number}.255:{free_port(host)} "
                f"{{ d{number} {host} {{ {host} }} }}\n"
            )
        configuration = parse(text)
        made = []
        for number in range(1, (size if started is None else started) + 1):
            me = configuration.by_name[f"d{number}"]
            trace = None
            if traces:
                trace = TraceFile(traces[number - 1], configuration, me, SilentAlarms())
            service = SpreadService(
                configuration,
                me,
                reactor=running_reactor.reactor,
                socket_directory=None,
                trace=trace,
            )
            status = StatusService(
                lambda service=service: service.host, ("127.0.0.1", 0), running_reactor.reactor
            )
            for one in (service, status):
                running_reactor.call(one.startService)
                services.append(one)
            made.append(Observed(service, status, running_reactor))
        return made

    yield start
    for service in reversed(services):
        running_reactor.call(service.stopService)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    def wait(condition: Callable[[], object], limit: float = LIMIT) -> None:
        deadline = time.monotonic() + limit
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            pause.wait(0.01)

    return wait
