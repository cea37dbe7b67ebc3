"""The menus of spmonitor: the same commands, prompts and lines.

Source: ``docs/protocol/monitoring-and-tools.md`` sections 3.2 to 3.4.  Spelling
errors are upstream's; scripts match them.  Different on purpose: windows that nobody
has entered are -1, which changes nothing, where upstream has 0, which stops the ring;
and a file that cannot be read at a reload is reported instead of ending the program.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Final, NoReturn

from txspread.config import ConfigurationError
from txspread.config.model import Configuration, Daemon
from txspread.tools.spmonitor_link import MonitorLink, load_configuration, unchanged_windows
from txspread.tools.spmonitor_report import Reporter
from txspread.tools.terminal import HasFileno, LineInput, show
from txspread.wire.monitor import FlowControl

BUFFER: Final = 70
PARTITION_SECONDS: Final = 25.0
"""A partition that was sent is repeated after this time; daemons forget it after 60 s."""

MENU: Final = """
=============
Monitor Menu:
-------------
\t0. Activate/Deactivate Status {all, none, Proc, CR}

\t1. Define Partition
\t2. Send   Partition
\t3. Review Partition
\t4. Cancel Partition Effects

\t5. Define Flow Control
\t6. Send   Flow Control
\t7. Review Flow Control

\t8. Terminate Spread Daemons {all, none, Proc, CR}

\tr. Reload Configuration File

\t9. Exit

Monitor> """
PROMPT: Final = "\nMonitor> "


def _number(line: bytes) -> int | None:
    """The number at the start of a line, as C's scanf finds it, as 16 bits; None if none."""
    text = line.strip().decode("ascii", "replace")
    sign = text[:1] if text[:1] in ("+", "-") else ""
    digits = ""
    for character in text[len(sign) :]:
        if character not in "0123456789":
            break
        digits += character
    if not digits:
        return None
    return (int(sign + digits) + 0x8000 & 0xFFFF) - 0x8000


class MonitorProgram:
    """One run of the interactive monitor.

    Args:
        link: to the daemons.
        interval: seconds between two status queries.
        lines: where commands come from; standard input by default.

    """

    def __init__(self, link: MonitorLink, interval: float, lines: LineInput | None = None) -> None:
        self._link = link
        self._interval = interval
        self._lines = LineInput() if lines is None else lines
        self._reporter = Reporter()
        self._query_at: float | None = None
        self._partition_at: float | None = None
        self._reset()

    def _reset(self) -> None:
        """Forget all that was entered."""
        daemons = self._daemons
        self._asked: set[int] = set()
        self._new_partition = [0] * len(daemons)
        self._partition = [0] * len(daemons)
        self._new_windows = self._windows = unchanged_windows(self._configuration)
        self._query_at = self._partition_at = None

    @property
    def _configuration(self) -> Configuration:
        return self._link.configuration

    @property
    def _daemons(self) -> tuple[Daemon, ...]:
        return self._configuration.daemons

    def run(self) -> NoReturn:
        """Serve the user until the end.

        :raises SystemExit: with status 0, always.
        """
        show(MENU)
        while True:
            self._wait()
            self._command(self._line())

    def _line(self) -> bytes:
        """A line; the end of input ends the program."""
        line = self._lines.read_line(BUFFER)
        if not line:
            self._bye()
        return line

    def _bye(self) -> NoReturn:
        show("Bye.\n")
        raise SystemExit(0)

    def _wait(self) -> None:
        """Print reports and repeat what is repeated, until a line is there."""
        while not self._lines.ready(BUFFER):
            now = time.monotonic()
            if self._query_at is not None and now >= self._query_at:
                self._send_query()
            if self._partition_at is not None and now >= self._partition_at:
                self._send_partition()
            times = [at for at in (self._query_at, self._partition_at) if at is not None]
            left = max(0.0, min(times) - now) if times else None
            watched: list[HasFileno] = [self._lines, self._link]
            readable = select.select(watched, [], [], left)[0]
            if self._link in readable:
                status = self._link.receive()
                if status is not None:
                    show(self._reporter.lines(status, self._configuration))
            if self._lines in readable:
                self._lines.fill()

    # --- commands

    def _command(self, line: bytes) -> None:
        command = line[:1]
        if command == b"0":
            self._status()
        elif command == b"1":
            self._define_partition()
        elif command == b"2":
            self._partition = list(self._new_partition)
            self._send_partition()
            show(PROMPT)
        elif command == b"3":
            self._show_partition(self._partition)
        elif command == b"4":
            self._partition = [0] * len(self._daemons)
            self._new_partition = list(self._partition)
            self._send_partition()
            self._partition_at = None
            show(PROMPT)
        elif command == b"5":
            self._define_windows()
        elif command == b"6":
            self._windows = self._new_windows
            show("Monitor: send flow control params\n")
            self._link.send_flow_control(self._windows, self._daemons)
            show(PROMPT)
        elif command == b"7":
            self._show_windows(self._windows)
        elif command == b"8":
            self._terminate()
        elif command == b"r":
            self._reload()
        elif command in (b"9", b"q"):
            self._bye()
        else:
            show("\nUnknown commnad\n" + MENU)

    def _choose(self, prompt: str, chosen: set[int]) -> set[int]:
        """Take names until an empty line."""
        everybody = set(range(len(self._daemons)))
        while True:
            show(f"\t{prompt}: ")
            line = self._line()
            if line == b"\n":
                return chosen
            words = line.split()
            if not words:
                show("Please enter a legal proc name, none, or all\n")
                continue
            name = words[0].decode("utf-8", "surrogateescape")
            found = self._configuration.by_name.get(name)
            if name == "all":
                chosen = set(everybody)
            elif name == "none":
                chosen = set()
            elif found is None:
                show("Please! enter a legal proc name, none, or all\n")
            else:
                chosen = chosen | {self._daemons.index(found)}

    def _picked(self, chosen: set[int]) -> list[Daemon]:
        return [self._daemons[number] for number in sorted(chosen)]

    def _status(self) -> None:
        show("\n=============\nActivate Status\n-------------\n\n")
        self._asked = self._choose("Enter Proc Name", self._asked)
        self._query_at = None
        if self._asked:
            self._send_query()
        show(PROMPT)

    def _send_query(self) -> None:
        show("Monitor: send status query\n")
        self._link.ask_status(self._picked(self._asked))
        self._query_at = time.monotonic() + self._interval

    def _ask_number(self, prompt: str, empty: int | None) -> int:
        while True:
            show(prompt)
            line = self._line()
            if line == b"\n" and empty is not None:
                return empty
            value = _number(line)
            if value is not None:
                return value
            show("Please enter a number\n")

    def _define_partition(self) -> None:
        show("\n=============\nDefine Partition\n-------------\n\n")
        number = 0
        for segment in self._configuration.segments:
            for daemon in segment.daemons:
                self._new_partition[number] = self._ask_number(f"\t{daemon.name}\t", None)
                number += 1
            show("\n")
        self._show_partition(self._new_partition)

    def _show_partition(self, partition: Sequence[int]) -> None:
        text = "\n=============\nPartition Map:\n-------------\n\n"
        values = iter(partition)
        for segment in self._configuration.segments:
            text += "".join(f"\t{daemon.name}\t{next(values)}\n" for daemon in segment.daemons)
            text += "\n"
        show(text + PROMPT)

    def _send_partition(self) -> None:
        show("Monitor: send partition\n")
        self._link.send_partition(self._partition, self._daemons)
        self._partition_at = time.monotonic() + PARTITION_SECONDS

    def _define_windows(self) -> None:
        show("\n===================\nDefine Flow Control\n-------------------\n\n")
        window = self._ask_number("    Window size: ", -1)
        show("\n")
        personal: list[int] = []
        accelerated: list[int] = []
        for segment in self._configuration.segments:
            for daemon in segment.daemons:
                personal.append(self._ask_number(f"\t{daemon.name} personal window\t", -1))
                if self._configuration.accelerated_ring:
                    prompt = f"\t{daemon.name} accelerated window\t"
                    accelerated.append(self._ask_number(prompt, -1))
                else:
                    accelerated.append(-1)
            show("\n")
        self._new_windows = FlowControl(window, tuple(personal), tuple(accelerated))
        self._show_windows(self._new_windows)

    def _show_windows(self, windows: FlowControl) -> None:
        edge = "=" * 24
        text = f"\n{edge}\nFlow Control Parameters:\n{'-' * 24}\n\n"
        text += f"Window size:  {windows.window}\n\n"
        number = 0
        for segment in self._configuration.segments:
            for daemon in segment.daemons:
                text += f"\t{daemon.name} personal window\t{windows.personal_windows[number]}\n"
                if self._configuration.accelerated_ring:
                    value = windows.accelerated_windows[number]
                    text += f"\t{daemon.name} accelerated window\t{value}\n"
                number += 1
            text += "\n"
        show(text + PROMPT)

    def _terminate(self) -> None:
        chosen = self._picked(self._choose("Enter Proc Name to Terminate", set()))
        show("".join(f"Monitor: Terminating {daemon.name}\n" for daemon in chosen))
        self._link.terminate(chosen, self._partition)
        show(PROMPT)

    def _reload(self) -> None:
        name = self._configuration.file_name or ""
        show(f"Old configuration hash is: {self._configuration.hash}\n")
        show("Monitor: send conf reload command\n")
        self._link.send_reload(self._daemons)
        try:
            self._link.configuration, lines = load_configuration(name)
        except ConfigurationError as error:
            show(f"{error}\n{PROMPT}")
            return
        show("".join(f"{line}\n" for line in lines))
        show(
            f"New configuration hash is: {self._configuration.hash}\n"
            "All Status, Partition, FC, etc commands are reset by configuration reload!\n"
            "Reload Membership. \n"
        )
        self._reset()
