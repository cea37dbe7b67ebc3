"""The subcommands of ``txspmonitor``: one thing each, no questions, an exit status.

Exit status: 0 done, and every daemon asked has answered; 1 some daemon did not
answer; 2 wrong usage, a bad configuration, or the port cannot be had.

Source: ``docs/protocol/monitoring-and-tools.md`` section 10.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

import txspread
from txspread.config import ConfigurationError
from txspread.config.model import Configuration, Daemon
from txspread.tools.spmonitor_link import (
    SEARCHED,
    BindError,
    MonitorLink,
    identity,
    load_configuration,
)
from txspread.tools.spmonitor_report import GROUP_STATES, STATES, status_object
from txspread.wire.identifiers import ProcId
from txspread.wire.monitor import LEAVE_WINDOW, FlowControl, Status

COMMANDS: Final = ("status", "watch", "partition", "flow", "reload", "kill")

EXIT_OK: Final = 0
EXIT_SILENT: Final = 1
EXIT_USAGE: Final = 2


class UsageError(Exception):
    """What was asked cannot be done with this configuration."""


def make_parser() -> argparse.ArgumentParser:
    """The command line of the subcommands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-c", "--config", metavar="FILE", help="configuration file")
    common.add_argument(
        "-n",
        "--name",
        metavar="NAME",
        help="speak as this daemon of the file, to whose address answers are sent",
    )
    common.add_argument(
        "-p", "--port", type=int, default=0, help="UDP port for answers (default: any)"
    )
    common.add_argument(
        "-t",
        "--timeout",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how long to wait for answers (default %(default)s)",
    )
    parser = argparse.ArgumentParser(
        prog="txspmonitor",
        description="Watch and steer Spread daemons.  Without a subcommand: upstream's "
        "interactive spmonitor, with its options -c, -n, -p and -t.",
        epilog="Exit status: 0 done, 1 a daemon did not answer, 2 usage or configuration.  "
        "partition, flow and kill need DangerousMonitor in the daemons' configuration.",
    )
    parser.add_argument("--version", action="version", version=f"txspread {txspread.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=text, description=text)

    status = add("status", "Print the status of daemons.")
    status.add_argument("--json", action="store_true", help="as a JSON array of objects")
    status.add_argument("daemons", nargs="*", metavar="DAEMON", help="default: all")
    watch = add("watch", "Show a table of all daemons with rates, renewed until interrupted.")
    watch.add_argument(
        "-i", "--interval", type=float, default=1.0, metavar="SECONDS", help="default %(default)s"
    )
    watch.add_argument("--count", type=int, default=0, help="end after so many tables")
    partition = add(
        "partition",
        "Emulate a partition.  Each argument is a component, daemons with commas between "
        "them; all others form one more.  Daemons forget it after 60 seconds.",
    )
    partition.add_argument("components", nargs="*", metavar="DAEMON[,DAEMON...]")
    partition.add_argument("--heal", action="store_true", help="end an emulated partition")
    flow = add("flow", "Change flow-control windows until the next reload.")
    flow.add_argument("--window", type=int, help="of the whole ring")
    for kind in ("personal", "accelerated"):
        flow.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar="[DAEMON=]N",
            help=f"{kind} window of a daemon, or of all",
        )
    add("reload", "Have all daemons of the file read their configuration again.")
    kill = add("kill", "End daemons.")
    kill.add_argument("--all", action="store_true", help="all daemons of the file")
    kill.add_argument("daemons", nargs="*", metavar="DAEMON")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Carry a subcommand out; the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        configuration = _configuration(options.config)
        me = identity(configuration, options.name)
        link = MonitorLink(configuration, me, options.port)
    except (ConfigurationError, BindError, OverflowError) as error:
        return _complain(str(error))
    try:
        command = _RUN[options.command]
        return command(link, options)
    except UsageError as error:
        return _complain(str(error))
    except (KeyboardInterrupt, BrokenPipeError):
        return EXIT_OK
    finally:
        link.close()


def _complain(text: str) -> int:
    print(f"txspmonitor: {text}", file=sys.stderr)
    return EXIT_USAGE


def _configuration(stated: str | None) -> Configuration:
    name = stated
    if name is None:
        name = next((place for place in SEARCHED if os.path.exists(place)), SEARCHED[0])
    return load_configuration(name)[0]


def _find(configuration: Configuration, names: Sequence[str]) -> list[Daemon]:
    found = []
    for name in names:
        daemon = configuration.by_name.get(name)
        if daemon is None:
            raise UsageError(f"there is no daemon {name!r} in {configuration.file_name}")
        found.append(daemon)
    return found


# --- status


def _status(link: MonitorLink, options: argparse.Namespace) -> int:
    configuration = link.configuration
    daemons = _find(configuration, options.daemons) or list(configuration.daemons)
    found = link.collect(daemons, options.timeout)
    if options.json:
        objects = [
            status_object(one.name, one.address, found.get(one.id), configuration)
            for one in daemons
        ]
        print(json.dumps(objects, indent=2))
    else:
        print(status_table(configuration, daemons, found))
    return EXIT_OK if len(found) == len({one.id for one in daemons}) else EXIT_SILENT


_COLUMNS: Final = (
    ("daemon", "<"),
    ("state", "<"),
    ("groups", "<"),
    ("up", ">"),
    ("ring", ">"),
    ("leader", "<"),
    ("changes", ">"),
    ("sessions", ">"),
    ("groups", ">"),
    ("delivered", ">"),
    ("retrans", ">"),
    ("window", ">"),
    ("protocol", "<"),
    ("version", "<"),
)


def status_table(
    configuration: Configuration, daemons: Sequence[Daemon], found: dict[ProcId, Status]
) -> str:
    """Statuses in columns, one daemon a line."""
    rows: list[tuple[str, ...]] = [tuple(name for name, _ in _COLUMNS)]
    for daemon in daemons:
        status = found.get(daemon.id)
        if status is None:
            rows.append((daemon.name, "no answer"))
            continue
        leader = configuration.by_id.get(status.leader_id)
        rows.append(
            (
                daemon.name,
                STATES.get(status.state, "unknown"),
                GROUP_STATES.get(status.gstate, "unknown"),
                f"{status.sec} s",
                str(status.num_procs),
                leader.name if leader else "-",
                str(status.membership_changes),
                str(status.num_sessions),
                str(status.num_groups),
                str(status.message_delivered),
                str(status.retrans),
                f"{status.window}/{status.personal_window}/{status.accelerated_window}",
                "accelerated" if status.accelerated_ring else "regular",
                f"{status.major_version}.{status.minor_version}.{status.patch_version}",
            )
        )
    widths = [max(len(row[n]) for row in rows if n < len(row)) for n in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, (_, side), width in zip(row, _COLUMNS, widths, strict=False)
        ).rstrip()
        for row in rows
    )


# --- the others


def _watch(link: MonitorLink, options: argparse.Namespace) -> int:
    # Only this needs the table library, which is an optional extra.
    from txspread.tools.spmonitor_watch import MissingLibrary, watch

    try:
        watch(link, options.interval, options.count)
    except MissingLibrary as error:
        raise UsageError(str(error)) from None
    return EXIT_OK


def _partition(link: MonitorLink, options: argparse.Namespace) -> int:
    configuration = link.configuration
    if bool(options.components) == options.heal:
        raise UsageError("name the components, or --heal")
    values = dict.fromkeys((daemon.name for daemon in configuration.daemons), 0)
    for number, component in enumerate(options.components, 1):
        for daemon in _find(configuration, component.split(",")):
            if values[daemon.name]:
                raise UsageError(f"{daemon.name!r} is in two components")
            values[daemon.name] = number
    link.send_partition(list(values.values()), configuration.daemons)
    for name, value in values.items():
        print(f"{name}\t{value}")
    return EXIT_OK


def _windows(configuration: Configuration, stated: Sequence[str]) -> tuple[int, ...]:
    values = dict.fromkeys((daemon.name for daemon in configuration.daemons), LEAVE_WINDOW)
    for word in stated:
        name, equals, number = word.rpartition("=")
        try:
            value = int(number)
        except ValueError:
            raise UsageError(f"{word!r}: {number!r} is not a number") from None
        if not 0 <= value <= 32767:
            raise UsageError(f"{word!r}: windows are from 0 to 32767")
        for daemon in _find(configuration, [name]) if equals else configuration.daemons:
            values[daemon.name] = value
    return tuple(values.values())


def _flow(link: MonitorLink, options: argparse.Namespace) -> int:
    configuration = link.configuration
    window = LEAVE_WINDOW if options.window is None else options.window
    if not LEAVE_WINDOW <= window <= 32767:
        raise UsageError("--window is from 0 to 32767")
    windows = FlowControl(
        window,
        _windows(configuration, options.personal),
        _windows(configuration, options.accelerated),
    )
    changes = {window, *windows.personal_windows, *windows.accelerated_windows} - {LEAVE_WINDOW}
    if changes:
        link.send_flow_control(windows, configuration.daemons)
    # Whether they obeyed shows only in what they report.
    found = link.collect(configuration.daemons, options.timeout)
    for daemon in configuration.daemons:
        status = found.get(daemon.id)
        print(
            f"{daemon.name}\tno answer"
            if status is None
            else f"{daemon.name}\twindow {status.window}\tpersonal {status.personal_window}\t"
            f"accelerated {status.accelerated_window}"
        )
    return EXIT_OK if len(found) == len(configuration.daemons) else EXIT_SILENT


def _reload(link: MonitorLink, options: argparse.Namespace) -> int:
    link.send_reload(link.configuration.daemons)
    print(f"sent to {len(link.configuration.daemons)} daemons; my file has the hash ", end="")
    print(link.configuration.hash)
    return EXIT_OK


def _kill(link: MonitorLink, options: argparse.Namespace) -> int:
    configuration = link.configuration
    if bool(options.daemons) == options.all:
        raise UsageError("name the daemons to end, or --all")
    chosen = _find(configuration, options.daemons) or list(configuration.daemons)
    # The others' numbers are of no importance: only the chosen ones are told.
    link.terminate(chosen, [0] * len(configuration.daemons))
    print("".join(f"Terminating {daemon.name}\n" for daemon in chosen), end="")
    return EXIT_OK


_RUN: Final = {
    "status": _status,
    "watch": _watch,
    "partition": _partition,
    "flow": _flow,
    "reload": _reload,
    "kill": _kill,
}
