"""``txspmonitor watch``: a table of all daemons with rates, renewed in place.

Rates are differences of two reports of the same daemon over the time between their
arrivals.  The time of a token's rotation is that time divided by the tokens handled
in it: on an idle ring the leader holds the token, so it is long there.

Source: ``docs/protocol/monitoring-and-tools.md`` section 10.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from attrs import frozen

from txspread.config.model import Configuration, Daemon
from txspread.tools.spmonitor_link import MonitorLink
from txspread.tools.spmonitor_report import GROUP_STATES, STATES
from txspread.wire.identifiers import ProcId
from txspread.wire.monitor import Status

if TYPE_CHECKING:
    from rich.table import Table

_WRAP: Final = 1 << 32


class MissingLibrary(Exception):
    """The library that draws the table is not installed."""


@frozen
class Sample:
    """A report and when it came, in seconds of the monotonic clock."""

    status: Status
    time: float


@frozen
class Rates:
    """What happened between two reports, per second."""

    messages: float
    packets_sent: float
    retransmissions: float
    rotation: float | None
    """Seconds for one rotation of the token; None if it did not move, or a new ring
    counts from 0."""


def rates(before: Sample, now: Sample) -> Rates:
    """Compare two reports of one daemon; counters may have wrapped, or begun anew."""
    seconds = max(now.time - before.time, 1e-6)
    old, new = before.status, now.status

    def per_second(name: str) -> float:
        difference = int(getattr(new, name)) - int(getattr(old, name))
        if difference < 0:
            # Begun anew by a restart, or wrapped.
            restarted = new.sec < old.sec
            difference = int(getattr(new, name)) if restarted else difference % _WRAP
        return difference / seconds

    rounds = new.token_rounds - old.token_rounds
    same_ring = new.membership_changes == old.membership_changes and rounds > 0
    return Rates(
        messages=per_second("message_delivered"),
        packets_sent=per_second("packet_sent"),
        retransmissions=per_second("retrans"),
        rotation=seconds / rounds if same_ring else None,
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def row(
    daemon: Daemon, configuration: Configuration, now: Sample | None, before: Sample | None
) -> tuple[str, ...]:
    """The cells of one daemon."""
    if now is None:
        return (daemon.name, "[red]no answer[/]")
    status = now.status
    leader = configuration.by_id.get(status.leader_id)
    state = STATES.get(status.state, "unknown")
    groups = GROUP_STATES.get(status.gstate, "unknown")
    change = None if before is None else rates(before, now)
    return (
        f"[bold]{daemon.name}[/] *" if leader == daemon else daemon.name,
        state if status.state == 1 else f"[yellow]{state}[/]",
        groups if status.gstate == 1 else f"[yellow]{groups}[/]",
        f"{status.num_procs}/{len(configuration.daemons)}",
        leader.name if leader else "-",
        str(status.membership_changes),
        "-" if change is None else f"{change.messages:,.0f}",
        "-" if change is None else f"{change.packets_sent:,.0f}",
        "-" if change is None else f"{change.retransmissions:,.1f}",
        "-" if change is None else _duration(change.rotation),
        str(status.num_sessions),
        str(status.num_groups),
        f"{status.window}/{status.personal_window}/{status.accelerated_window}",
        str(status.sec),
    )


@frozen
class Column:
    """A column and the width of terminal from which it is shown."""

    heading: str
    right: bool = False
    from_width: int = 0


_COLUMNS: Final = (
    Column("daemon"),
    Column("state"),
    Column("groups", from_width=125),
    Column("ring", right=True),
    Column("leader", from_width=90),
    Column("changes", right=True, from_width=100),
    Column("msg/s", right=True),
    Column("sent/s", right=True, from_width=80),
    Column("retrans/s", right=True),
    Column("rotation", right=True),
    Column("sessions", right=True, from_width=135),
    Column("groups", right=True, from_width=145),
    Column("windows", right=True, from_width=160),
    Column("up s", right=True, from_width=110),
)
_PIPE_WIDTH: Final = 170
"""Columns where the output is no terminal."""


def table(
    configuration: Configuration,
    now: dict[ProcId, Sample],
    before: dict[ProcId, Sample],
    width: int = _PIPE_WIDTH,
) -> Table:
    """All daemons of a file, in as many columns as a terminal of that width has room for.

    Raises:
        MissingLibrary: the table library is not installed.

    """
    try:
        from rich import box
        from rich.table import Table
    except ImportError:
        raise MissingLibrary("watch needs the library rich: install txspread[monitor]") from None
    answered = [sample.status for sample in now.values()]
    rings = {(status.leader_id, status.num_procs) for status in answered if status.state == 1}
    result = Table(
        title=f"{len(answered)} of {len(configuration.daemons)} daemons"
        f" answer, {len(rings)} ring{'' if len(rings) == 1 else 's'}",
        caption=f"* leads its ring   {time.strftime('%H:%M:%S')}   {configuration.file_name}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    shown = [number for number, column in enumerate(_COLUMNS) if width >= column.from_width]
    for number in shown:
        column = _COLUMNS[number]
        result.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
    for daemon in configuration.daemons:
        cells = row(daemon, configuration, now.get(daemon.id), before.get(daemon.id))
        result.add_row(*(cells[number] for number in shown if number < len(cells)))
    return result


def watch(link: MonitorLink, interval: float, count: int = 0) -> None:
    """Show the table and renew it.

    Args:
        link: to the daemons.
        interval: seconds from one table to the next.
        count: end after so many; 0: go on until interrupted.

    Raises:
        MissingLibrary: the table library is not installed.

    """
    configuration = link.configuration
    table(configuration, {}, {})
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    before: dict[ProcId, Sample] = {}
    shown = 0
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            started = time.monotonic()
            found = link.collect(configuration.daemons, max(0.05, min(interval, 2.0)))
            arrived = time.monotonic()
            now = {number: Sample(status, arrived) for number, status in found.items()}
            live.update(table(configuration, now, before, console.width), refresh=True)
            # A daemon that misses an answer is compared with its last one.
            before = before | now
            shown += 1
            if shown == count:
                return
            time.sleep(max(0.0, started + interval - time.monotonic()))
