"""Log lines in upstream's format: categories, priorities, time stamps, the file.

A line has a category (a bit) and a priority.  It is shown if its bit is in the
mask and its priority reaches the configured one; FATAL lines are always shown.
Each line may begin with the time in a ``strftime`` format.

Repeats are held down: of lines made from one text at WARNING or above,
:data:`BURST` are shown in :data:`BURST_SECONDS`; how many more there were is
said once that time is over.

Source: ``docs/configuration.md`` sections 3.2 to 3.4; upstream ``alarm.c``.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from attrs import define

from txspread.config import Configuration, log_file_name
from txspread.daemon.structured_log import StructuredLines
from txspread.engine.alarms import DEFAULT_CATEGORIES, Category, Priority

BURST: Final = 50
"""Lines made from one text that are shown in a period."""
BURST_SECONDS: Final = 10.0
_MAX_TEXTS: Final = 256
"""Texts whose repeats are counted at one time."""


@define
class _Repeats:
    began: float
    count: int = 0


class TimeStamp:
    """What stands before each line.

    Args:
        layout: a ``strftime`` format.
        precise: add ``.`` and the microseconds.

    """

    def __init__(self, layout: str, *, precise: bool = False) -> None:
        self.layout = layout
        self.precise = precise
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        """The stamp for a time in seconds since the epoch."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self.layout, time.localtime(second))
        if self.precise:
            return f"{self._text}.{int(now % 1 * 1e6):06d}"
        return self._text


class EventLog:
    """An :class:`~txspread.engine.alarms.AlarmSink` that writes lines.

    Args:
        write: takes each complete text, line end included; by default standard
            output, flushed.
        wall_time: seconds since the epoch.
        monotonic: the clock of the repeat limit.

    """

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        wall_time: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = _write_to_stdout if write is None else write
        self._wall_time = wall_time
        self._monotonic = monotonic
        self.mask = int(DEFAULT_CATEGORIES)
        self.priority = int(Priority.INFO)
        self.time_stamp: TimeStamp | None = None
        self.structured: StructuredLines | None = None
        """Makes JSON of each line instead; time stamps of the configuration do not count."""
        self.file_name: str | None = None
        """The file written to instead, once opened."""
        self._file: TextIO | None = None
        self._repeats: dict[str, _Repeats] = {}

    def configure(self, configuration: Configuration) -> None:
        """Take over the log options of a configuration (at start and at a reload)."""
        if configuration.debug_flags is not None:
            self.mask = configuration.debug_flags
        if configuration.event_priority is not None:
            self.priority = configuration.event_priority
        if configuration.event_time_stamp is not None:
            self.time_stamp = TimeStamp(
                configuration.event_time_stamp, precise=configuration.event_precise_time_stamp
            )
        if configuration.event_log_file is not None:
            name = log_file_name(configuration.event_log_file, socket.gethostname())
            if name != self.file_name:
                self.open_file(name)

    def open_file(self, name: str) -> bool:
        """Append to a file from now on; False, and a line, if it cannot be opened."""
        try:
            opened = open(  # noqa: SIM115 - open as long as the log is
                name, "a", buffering=1, encoding="utf-8", errors="backslashreplace"
            )
        except OSError as error:
            self.alarm(
                Category.PRINT,
                Priority.FATAL,
                "Alarm: cannot open log file %s (%s); lines stay where they went",
                name,
                error.strerror,
            )
            return False
        self.close()
        self._file = opened
        self.file_name = name
        return True

    def reopen(self) -> None:
        """Open the log file again under its name: it may have been moved away."""
        if self.file_name is not None:
            self.open_file(self.file_name)

    def close(self) -> None:
        """Close the log file, if there is one; lines go where they went before."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def file_descriptor(self) -> int | None:
        """Of the log file, for redirecting standard output and error to it."""
        return None if self._file is None else self._file.fileno()

    def wants(self, category: Category, priority: Priority) -> bool:
        """Tell whether a line of this kind would be shown."""
        return priority == Priority.FATAL or (
            self.mask & int(category) != 0 and priority >= self.priority
        )

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        """Show one line, or a block of lines under one stamp."""
        if not self.wants(category, priority):
            return
        if priority >= Priority.WARNING and not self._admit(text):
            return
        if self.structured is not None:
            self._put(self.structured.line(self._wall_time(), category, priority, text, args))
        else:
            self.show(text % args if args else text)

    def show(self, line: str) -> None:
        """Show a line whatever its kind."""
        if self.structured is not None:
            line = self.structured.line(self._wall_time(), Category.PRINT, Priority.PRINT, line, ())
        elif self.time_stamp is not None:
            line = f"{self.time_stamp.text(self._wall_time())} {line}"
        self._put(line)

    def _put(self, line: str) -> None:
        try:
            if self._file is not None:
                self._file.write(line + "\n")
            else:
                self._write(line + "\n")
        except (OSError, ValueError):
            pass  # a full disk or a closed pipe must not end the daemon

    def _admit(self, text: str) -> bool:
        now = self._monotonic()
        repeats = self._repeats.get(text)
        if repeats is None or now - repeats.began > BURST_SECONDS:
            if repeats is not None:
                self._report(text, repeats)
            elif len(self._repeats) >= _MAX_TEXTS:
                self._sweep(now)
            repeats = self._repeats[text] = _Repeats(now)
        repeats.count += 1
        return repeats.count <= BURST

    def _sweep(self, now: float) -> None:
        for text, repeats in list(self._repeats.items()):
            if now - repeats.began > BURST_SECONDS or len(self._repeats) >= _MAX_TEXTS:
                self._report(text, repeats)
                del self._repeats[text]

    def _report(self, text: str, repeats: _Repeats) -> None:
        if repeats.count > BURST:
            self.show(f"({repeats.count - BURST} more lines like this held back: {text})")


def redirect_output(descriptor: int) -> None:
    """Make standard output and error of the process end in an open file."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _write_to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
