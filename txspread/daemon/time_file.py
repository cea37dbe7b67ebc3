"""The last time that a membership id of this daemon held, kept over restarts.

A daemon that is killed and started again within a second, or whose clock was set
back, must not give a new ring the id of an old one.  The file holds one decimal
number and stays open, so that it can be written from inside a changed root and
under another user.  It is written without waiting for the disk: it has to outlive
the process, not the machine.

Source: ``docs/protocol/membership.md`` sections 6.6 and 12.4.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from txspread.config.model import Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority

SYSTEM_DIRECTORY: Final = "/var/lib/txspread"
_WIDTH: Final = 12
_MOST_AHEAD: Final = 30 * 24 * 3600
"""Seconds beyond the present that are still believed: the clock was wrong, then."""


def default_directory() -> str:
    """Where the file is kept unless said otherwise."""
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "txspread")


class TimeFile:
    """The file of one daemon.

    Without a directory, or where it cannot be used, nothing is kept and
    :attr:`last` is -1.
    """

    def __init__(self, directory: str | None, me: Daemon, alarms: AlarmSink) -> None:
        self.last = -1
        """What an earlier process has left; -1 if nothing is known."""
        self._descriptor = -1
        if directory is None:
            return
        path = Path(directory) / f"{me.address}-{me.port}.time"
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._descriptor = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
            )
            self.last = self._read()
        except OSError as error:
            alarms.alarm(
                Category.CONFIGURATION,
                Priority.INFO,
                "Memb: times of memberships are not kept over a restart: %s: %s",
                path,
                error.strerror,
            )

    def _read(self) -> int:
        text = os.pread(self._descriptor, 2 * _WIDTH, 0).strip()
        if text.isdigit() and int(text) < min(time.time() + _MOST_AHEAD, 1 << 31):
            return int(text)
        os.ftruncate(self._descriptor, 0)
        return -1

    def keep(self, number: int) -> None:
        """Keep a number for the next process."""
        if self._descriptor >= 0:
            try:
                os.pwrite(self._descriptor, b"%*d\n" % (_WIDTH, number), 0)
            except OSError:
                pass  # a full disk: the next start takes the clock's word

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
