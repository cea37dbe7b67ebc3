"""A daemon inside the process of the tests: real sockets, no process to wait for.

It runs in a :class:`~txspread.testing.loop_thread.LoopThread`, so blocking, asyncio and
Twisted programs can use it alike.  No Unix socket and no file is made.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import define, field

from txspread.config.model import Configuration, Daemon
from txspread.daemon.host import Engine, make_node
from txspread.daemon.service import SpreadService
from txspread.daemon.sockets import SocketError
from txspread.engine.alarms import DEFAULT_CATEGORIES, AlarmSink, Category, Priority
from txspread.engine.node import Node
from txspread.engine.node_interfaces import Host
from txspread.testing.loop_thread import LoopThread

MAX_DAEMONS: Final = 128
"""As many as a ring can have."""
LOG_LINES: Final = 1000
"""Lines of a daemon's log that are kept."""


class SpreadTestError(Exception):
    """What a test asked for did not come about: a daemon's start, a ring in time."""


class KeptLog:
    """An alarm sink that keeps the last lines; any thread may read them."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)

    def wants(self, category: Category, priority: Priority) -> bool:
        """What a daemon prints by default."""
        return bool(category & DEFAULT_CATEGORIES)

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        """Keep a line."""
        if self.wants(category, priority):
            self._lines.append(text % args if args else text)

    @property
    def lines(self) -> list[str]:
        """What was said so far, the last :data:`LOG_LINES` lines."""
        return list(self._lines)


@define(eq=False)
class InProcessDaemon:
    """One daemon that can be started, stopped, crashed and started again.

    Made by :func:`~txspread.testing.spread_ring.running_daemon` and
    :class:`~txspread.testing.spread_ring.SpreadRing`.  The methods block, and may be
    called from any thread.
    """

    configuration: Configuration
    entry: Daemon
    """What it is in the configuration."""
    thread: LoopThread
    host_for: Callable[[Daemon, Host], Host] = field(default=lambda _daemon, host: host)
    """What stands between the engine and the sockets."""
    alarms: KeptLog = field(init=False, factory=KeptLog)
    service: SpreadService | None = field(init=False, default=None)
    """While it runs; belongs to the loop's thread."""
    _last_time: int = field(init=False, default=-1)

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self.entry.name

    @property
    def address(self) -> str:
        """IPv4 address, in 127.0.0.0/8."""
        return self.entry.address

    @property
    def port(self) -> int:
        """TCP port for clients, UDP port for daemons; the next UDP port is taken as well."""
        return self.entry.port

    @property
    def location(self) -> str:
        """The Spread name to connect to, ``port@address``."""
        return f"{self.port}@{self.address}"

    @property
    def running(self) -> bool:
        """Whether it runs."""
        service = self.service
        return service is not None and service.host is not None

    @property
    def log(self) -> list[str]:
        """Its log so far, over restarts."""
        return self.alarms.lines

    @property
    def client_count(self) -> int:
        """Open client connections."""
        return self.thread.call(lambda: 0 if self.service is None else self.service.client_count)

    def members(self, group: str | bytes) -> list[str]:
        """Private groups of a group's members, as this daemon knows them now.

        Raises:
            SpreadTestError: the daemon does not run.

        """
        name = group.encode() if isinstance(group, str) else group

        def ask() -> list[bytes]:
            node = self.node
            if node is None:
                raise SpreadTestError(f"{self.name} does not run")
            return node.groups.members(name)

        return [member.decode("utf-8", "surrogateescape") for member in self.thread.call(ask)]

    def wait_for_members(self, group: str | bytes, count: int, timeout: float = 30.0) -> list[str]:
        """Wait until a group has ``count`` members at this daemon; they are returned.

        Raises:
            SpreadTestError: it has another number after ``timeout`` seconds.

        """
        found: list[str] = []

        def enough() -> bool:
            found[:] = self.members(group)
            return len(found) == count

        wait_until(enough, timeout, lambda: f"{count} members of {group!r}, not {found}")
        return found

    @property
    def node(self) -> Node | None:
        """The engine while it runs; belongs to the loop's thread."""
        host = None if self.service is None else self.service.host
        engine = None if host is None else host.engine
        return engine if isinstance(engine, Node) else None

    def start(self) -> None:
        """Start, or start again under the same address; nothing if it runs.

        Raises:
            SpreadTestError: its sockets cannot be had.

        """
        try:
            self.thread.call(self._start)
        except SocketError as error:
            raise SpreadTestError(f"{self.name} at {self.location}: {error}") from error

    def stop(self) -> None:
        """End it the way a signal does: its clients' connections are closed in order."""
        self.thread.call(self._stop)

    def crash(self) -> None:
        """End it like ``kill -9``: all its sockets close, nobody is told anything."""
        self.thread.call(self._crash)

    def _start(self) -> None:
        if self.running:
            return
        service = SpreadService(
            self.configuration,
            self.entry,
            self.alarms,
            reactor=self.thread,
            socket_directory=None,
            engine_factory=self._make_engine,
        )
        service.startService()
        self.service = service

    def _stop(self) -> None:
        service, self.service = self.service, None
        if service is not None:
            service.stopService()

    def _crash(self) -> None:
        service = self.service
        if service is not None:
            host, service.host = service.host, None
            if host is not None:
                host.close()
            self._stop()

    def _make_engine(
        self, configuration: Configuration, me: Daemon, host: Host, alarms: AlarmSink, now: float
    ) -> Engine:
        return make_node(
            configuration,
            me,
            self.host_for(me, host),
            alarms,
            now,
            last_time_used=self._last_time,
            time_used=self._keep_time,
        )

    def _keep_time(self, number: int) -> None:
        self._last_time = number


def wait_until(condition: Callable[[], bool], timeout: float, what: Callable[[], str]) -> None:
    """Ask until a condition holds.

    Raises:
        SpreadTestError: it does not after ``timeout`` seconds; the text is ``what()``.

    """
    end = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end:
            raise SpreadTestError(f"waited {timeout:g} s in vain for {what()}")
        pause.wait(0.005)


def written(value: object) -> str:
    """An option's value as spread.conf has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


__all__ = [
    "MAX_DAEMONS",
    "InProcessDaemon",
    "KeptLog",
    "SpreadTestError",
    "wait_until",
    "written",
]
