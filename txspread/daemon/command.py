"""The command line of the daemon: ``txspread`` and ``python -m txspread``.

Source of the options, the order of steps and the printed lines:
``docs/configuration.md`` sections 8.1 to 8.5.  What differs on purpose, and the
exit codes, are in ``docs/operating.md``.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import txspread
from txspread.config import Configuration, ConfigurationError, Daemon, find_me, load
from txspread.config.report import check_report
from txspread.daemon import process_options
from txspread.daemon.access_files import AccessError, make_authentication
from txspread.daemon.activity_log import ActivityLog
from txspread.daemon.addresses import local_addresses, resolve
from txspread.daemon.event_log import EventLog, redirect_output
from txspread.daemon.privileges import PrivilegeError
from txspread.daemon.service import SpreadService
from txspread.daemon.sockets import SocketError
from txspread.daemon.structured_log import StructuredLines
from txspread.daemon.systemd import Inherited, inherited_sockets
from txspread.daemon.time_file import default_directory
from txspread.daemon.twisted_log import show_failures
from txspread.engine.alarms import Category, Priority
from txspread.form import form
from txspread.observe.companions import Companions, add_options, open_trace
from txspread.observe.trace_file import TraceFile

EXIT_OK: Final = 0
EXIT_CONFIGURATION: Final = 1
"""The configuration is bad, cannot be read, or does not have this daemon."""
EXIT_USAGE: Final = 2
EXIT_SOCKET: Final = 3
"""An address, a port or the Unix socket is in use or not this machine's."""
EXIT_PRIVILEGES: Final = 4
"""Root could not be given up, or the runtime directory not be entered."""
EXIT_ABORT: Final = 134
"""Ended by a monitor's kill or by a fault: what a shell reports for SIGABRT."""

SEARCHED: Final = ("spread.conf", "/usr/local/etc/spread.conf", "/etc/spread.conf")
"""Where a configuration is looked for without ``-c``."""
_WIDTH: Final = 79
_OPEN_FILES: Final = 8192


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="txspread",
        description="The Spread daemon: group communication with ordering, reliability and "
        "membership.",
        epilog="Without -c the first of "
        + ", ".join(SEARCHED)
        + " that exists is used, and if there is none the embedded default: one daemon on "
        "127.0.0.1:4803 and /tmp/4803.  Exit codes: 0 ended by SIGTERM or SIGINT, 1 bad "
        "configuration, 2 usage, 3 address or socket in use, 4 privileges, 134 killed by a "
        "monitor or aborted.",
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="configuration file")
    parser.add_argument(
        "-n", "--name", metavar="NAME", help="be the daemon of this name in the configuration"
    )
    parser.add_argument(
        "-l",
        "--log",
        choices=("y", "n"),
        default="n",
        help="write an activity log named like the daemon to the current directory",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="lines in Spread's format (default), or each as a JSON object",
    )
    parser.add_argument(
        "--socket-directory",
        metavar="DIR",
        default="/tmp",
        help="directory of the Unix socket (default /tmp, where Spread clients look)",
    )
    parser.add_argument("--no-unix-socket", action="store_true", help="serve TCP only")
    parser.add_argument(
        "--state-directory",
        metavar="DIR",
        default=default_directory(),
        help="where the last time used in a membership id is kept over restarts "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--passwords",
        metavar="FILE",
        help="offer the PWORD method with this file of users and crypted passwords",
    )
    parser.add_argument(
        "--guard-reload",
        action="store_true",
        help="let a monitor reload the configuration only with DangerousMonitor, as it may "
        "partition or kill daemons (upstream lets anyone reload)",
    )
    process_options.add_options(parser)
    add_options(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="read the configuration, print what it means, and end",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"txspread {txspread.__version__} (speaks Spread 4.4.0; {form()})",
    )
    return parser


def find_configuration_file(stated: str | None) -> str | None:
    """The file to read; None: the embedded default."""
    if stated is not None:
        return stated
    return next((name for name in SEARCHED if os.path.exists(name)), None)


def read_configuration(stated: str | None, name: str | None) -> tuple[Configuration, Daemon]:
    """Read the configuration and find the daemon to be.

    Raises:
        ConfigurationError: either is not possible.

    """
    configuration = load(find_configuration_file(stated), resolve)
    return configuration, choose_daemon(configuration, name)


def choose_daemon(configuration: Configuration, name: str | None) -> Daemon:
    """The daemon to be: by name, or by this machine's addresses.

    Raises:
        ConfigurationError: there is none.

    """
    return find_me(
        configuration, name, socket.gethostname(), () if name is not None else local_addresses()
    )


def banner() -> str:
    """What is printed first; scripts look for the line with the version."""
    lines = (
        "txspread: the Spread 4 group communication toolkit, in Python on Twisted",
        f"Version 4.04.00 Built as txspread {txspread.__version__} ({form()})",
    )
    edge = "=" * _WIDTH
    return "\n".join((edge, *(f"| {line:<{_WIDTH - 4}} |" for line in lines), edge))


def show_configuration(log: EventLog, configuration: Configuration, me: Daemon) -> None:
    """Print the lines that reading the configuration gives, in upstream's words."""
    for notice in configuration.notices:
        log.show(notice.text)
    log.alarm(
        Category.CONFIGURATION,
        Priority.INFO,
        "Conf_load_conf_file: My name: %s, id: %s, port: %d",
        me.name,
        me.address,
        me.port,
    )
    for warning in configuration.warnings:
        log.alarm(Category.PRINT, Priority.WARNING, "Conf_load_conf_file: warning: %s", warning)


def check(stated: str | None, name: str | None) -> int:
    """``--check``: print what the configuration means; the exit code says if it is good.

    A file that does not concern this machine is good as long as no daemon was named.
    """
    try:
        configuration = load(find_configuration_file(stated), resolve)
        if name is not None:
            print(check_report(configuration, choose_daemon(configuration, name)))
            return EXIT_OK
    except ConfigurationError as error:
        print(f"txspread: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        print(check_report(configuration, choose_daemon(configuration, None)))
    except ConfigurationError as error:
        print(check_report(configuration, None))
        print(f"txspread: note: {error}", file=sys.stderr)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to end; returns the exit code."""
    options = make_parser().parse_args(arguments)
    if options.check:
        return check(options.config, options.name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may be any bytes
    log = EventLog()
    if options.log_format == "json":
        log.structured = StructuredLines()
    log.show(banner())
    try:
        configuration, me = read_configuration(options.config, options.name)
    except ConfigurationError as error:
        print(f"txspread: {error}", file=sys.stderr, flush=True)
        return EXIT_CONFIGURATION
    log.configure(configuration)
    descriptor = log.file_descriptor()
    if descriptor is not None:
        redirect_output(descriptor)
    if log.structured is not None:
        log.structured.daemon = me.name
    show_configuration(log, configuration, me)
    _raise_limits()
    try:
        authentication = make_authentication(configuration, log, options.passwords)
        activity = ActivityLog(me.name, configuration, log) if options.log == "y" else None
        trace = open_trace(options, configuration, me, log)
    except (AccessError, OSError) as error:
        log.alarm(Category.EXIT, Priority.FATAL, "%s", error)
        return EXIT_CONFIGURATION
    inherited = Inherited(inherited_sockets())
    service = SpreadService(
        configuration,
        me,
        log,
        socket_directory=None if options.no_unix_socket else options.socket_directory,
        drop_privileges=True,
        authentication=authentication,
        activity=activity,
        trace=trace,
        state_directory=options.state_directory,
        linger=True,
        inherited=inherited,
        guard_reload=options.guard_reload,
    )
    return run(service, log, options, trace, inherited)


def run(
    service: SpreadService,
    log: EventLog,
    options: argparse.Namespace,
    trace: TraceFile | None = None,
    inherited: Inherited | None = None,
) -> int:
    """Serve until a signal or the engine ends it; returns the exit code."""
    from twisted.internet import reactor as global_reactor
    from twisted.internet.posixbase import PosixReactorBase

    assert isinstance(global_reactor, PosixReactorBase)
    reactor = global_reactor
    exit_code = EXIT_OK
    show_failures(log)

    def leave(reason: str) -> None:
        nonlocal exit_code
        log.alarm(Category.PRINT, Priority.FATAL, "%s", reason)
        log.alarm(Category.EXIT, Priority.FATAL, "Exit caused by Alarm(EXIT)")
        exit_code = EXIT_ABORT
        reactor.stop()

    service.left = leave
    companions = Companions(options, service, reactor, trace)
    try:
        companions.open()
        process_options.apply_before_start(options, log)
        service.privilegedStartService()
    except SocketError as error:
        log.alarm(Category.EXIT, Priority.FATAL, "%s", error)
        return EXIT_SOCKET
    except PrivilegeError as error:
        log.alarm(Category.EXIT, Priority.FATAL, "%s", error)
        return EXIT_PRIVILEGES

    def start() -> None:
        try:
            service.startService()
            companions.start()
        except Exception:
            leave("Internal error: the engine does not start: " + traceback.format_exc().rstrip())
            return
        for name in inherited.close() if inherited is not None else ():
            log.alarm(
                Category.PRINT,
                Priority.WARNING,
                "A socket was handed down that no client address of the configuration needs: %s",
                name,
            )
        process_options.apply_started(options)

    def stop() -> None:
        companions.stop()
        service.stopService()
        companions.close()
        if exit_code == EXIT_OK:
            log.alarm(Category.PRINT, Priority.PRINT, "Spread daemon exiting normally!")

    reactor.callWhenRunning(start)
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(_hang_up, log, service))
    reactor.run()
    log.close()
    return exit_code


def _hang_up(log: EventLog, service: SpreadService) -> None:
    """SIGHUP: open the log file again, as after a rotation; take a changed configuration over."""
    log.reopen()
    service.reload(only_if_changed=True)
    log.alarm(
        Category.PRINT, Priority.PRINT, "SIGHUP: log reopened; %d clients", service.client_count
    )


def _raise_limits() -> None:
    """Allow as many open files as the protocol allows clients, if the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
