"""What runs beside the daemon in its process because the command line asks for it.

The command line adds :func:`add_options`, makes :class:`Companions` from the result,
and calls them in the order *open* (before privileges are given up), *start* (once the
daemon serves), *stop* (before it ends), *close* (after that).
"""

from __future__ import annotations

import argparse
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from txspread.config.model import Configuration, Daemon
from txspread.daemon.service import SpreadService
from txspread.daemon.systemd import ServiceManager
from txspread.engine.alarms import AlarmSink
from txspread.observe.snapshot import running_node
from txspread.observe.trace_file import DEFAULT_LIMIT, FLUSH_SECONDS, TraceFile

TELL_SECONDS = 5.0
"""How often the service manager is told of a changed state."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this package."""
    group = parser.add_argument_group("observing")
    group.add_argument(
        "--http",
        metavar="[HOST:]PORT",
        type=_http_address,
        help="serve metrics, status, health checks and a status page over HTTP; on the loopback "
        "address unless HOST is given, on all addresses with ':PORT'",
    )
    group.add_argument(
        "--trace",
        metavar="FILE",
        help="append everything that the engine is given and does to FILE, as JSON lines for "
        "txspread-trace; slows the daemon down",
    )
    group.add_argument(
        "--trace-limit",
        metavar="MIB",
        type=int,
        default=DEFAULT_LIMIT >> 20,
        help="end the trace after so many MiB (default %(default)s)",
    )


def open_trace(
    options: argparse.Namespace, configuration: Configuration, me: Daemon, alarms: AlarmSink
) -> TraceFile | None:
    """The trace file that was asked for.

    Raises:
        OSError: it cannot be opened.

    """
    if options.trace is None:
        return None
    return TraceFile(options.trace, configuration, me, alarms, options.trace_limit << 20)


def _http_address(text: str) -> tuple[str, int]:
    from txspread.observe.listener import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Companions:
    """Everything that was asked for.

    Args:
        options: from a parser with :func:`add_options`.
        service: the daemon.
        reactor: its reactor.
        trace: flushed now and then, and closed.

    """

    def __init__(
        self,
        options: argparse.Namespace,
        service: SpreadService,
        reactor: object,
        trace: TraceFile | None = None,
    ) -> None:
        self._trace = trace
        self._flushing = LoopingCall(self._flush)
        self._flushing.clock = cast(IReactorTime, reactor)
        self._service = service
        self._manager = ServiceManager()
        self._told = ""
        self._telling = LoopingCall(self._tell)
        self._telling.clock = cast(IReactorTime, reactor)
        self._status = None
        if options.http is not None:
            from txspread.observe.listener import StatusService

            self._status = StatusService(lambda: service.host, options.http, reactor)

    def open(self) -> None:
        """Take what must be taken as root.

        Raises:
            SocketError: an address cannot be had.

        """
        if self._status is not None:
            self._status.privilegedStartService()

    def start(self) -> None:
        """The daemon serves."""
        if self._status is not None:
            self._status.startService()
        if self._trace is not None:
            self._flushing.start(FLUSH_SECONDS)
        if self._manager.present:
            self._manager.tell("READY=1")
            watchdog = self._manager.watchdog_seconds
            self._telling.start(TELL_SECONDS if watchdog is None else watchdog / 3)

    def stop(self) -> None:
        """The daemon is about to end."""
        self._manager.tell("STOPPING=1")
        if self._telling.running:
            self._telling.stop()
        if self._status is not None:
            self._status.stopService()
        if self._flushing.running:
            self._flushing.stop()

    def close(self) -> None:
        """The daemon has ended."""
        if self._trace is not None:
            self._trace.close()
        self._manager.close()

    def _tell(self) -> None:
        """Tell the service manager that this process lives, and what it does."""
        node = running_node(self._service.host)
        if node is None:
            return
        told = (
            f"STATUS={node.membership_state.name}, {len(node.membership)} of "
            f"{len(node.configuration.daemons)} daemons, {node.sessions.count} clients"
        )
        news = [told] if told != self._told else []
        self._told = told
        if self._manager.watchdog_seconds is not None:
            news.append("WATCHDOG=1")
        if news:
            self._manager.tell(*news)

    def _flush(self) -> None:
        if self._trace is not None:
            self._trace.flush()
