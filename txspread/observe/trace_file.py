"""The file that ``--trace`` writes: the engine's structured trace as JSON lines.

Lines are collected and written when there are many, and by :meth:`TraceFile.flush`,
which the daemon calls twice a second.  The file is bounded: when :attr:`limit` bytes
have been written, a last line of kind ``full`` says so.  A file that cannot be
written, for want of room or whatever, ends the trace and not the daemon.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.groups.machine import GroupsState
from txspread.engine.node_interfaces import Channel
from txspread.engine.ring_interfaces import MembershipState
from txspread.observe.snapshot import Json
from txspread.observe.trace_records import (
    describe_datagram,
    describe_message,
    membership_text,
    start_record,
)
from txspread.wire.identifiers import MembershipId, ProcId, format_address

FLUSH_SECONDS: Final = 0.5
DEFAULT_LIMIT: Final = 1 << 30
"""Bytes of one run of a daemon."""
_BUFFER: Final = 1 << 16


class TraceFile:
    """A :class:`~txspread.engine.trace.TraceSink` that writes to a file.

    Args:
        path: appended to; several runs of a daemon may share a file.
        configuration: in force at the start.
        me: the daemon.
        alarms: told when the trace ends early.
        limit: bytes after which it ends.
        clock: monotonic seconds.
        wall_time: seconds since the epoch, for the first record.

    Raises:
        OSError: the file cannot be opened.

    """

    def __init__(
        self,
        path: str,
        configuration: Configuration,
        me: Daemon,
        alarms: AlarmSink,
        limit: int = DEFAULT_LIMIT,
        clock: Callable[[], float] = time.monotonic,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.limit = limit
        self.written = 0
        self._alarms = alarms
        self._clock = clock
        self._lines: list[bytes] = []
        self._waiting = 0
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        self._line("start", start_record(configuration, me, wall_time()))

    @property
    def open(self) -> bool:
        """Whether records are still taken."""
        return self._descriptor >= 0

    def event(self, kind: str, **fields: object) -> None:
        """See :meth:`~txspread.engine.trace.TraceSink.event`."""
        if self._descriptor < 0:
            return
        try:
            described = _DESCRIBERS[kind](fields) if kind in _DESCRIBERS else {}
        except Exception as error:
            # What the engine handles safely a trace must not make unsafe.
            described = {"error": repr(error)}
        self._line(kind, described)
        if kind == "stopped":
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._descriptor < 0 or not self._lines:
            return
        data = b"".join(self._lines)
        self._lines.clear()
        self._waiting = 0
        self.written += len(data)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._end(f"cannot be written ({error.strerror})")

    def close(self) -> None:
        """Write what has been collected, and close the file."""
        self.flush()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _line(self, kind: str, fields: dict[str, Json]) -> None:
        record: dict[str, Json] = {"t": round(self._clock(), 6), "kind": kind, **fields}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._lines.append(line)
        self._waiting += len(line)
        if self.written + self._waiting > self.limit:
            self._lines.append(b'{"t":%.6f,"kind":"full"}\n' % self._clock())
            self.flush()
            self._end(f"has reached its limit of {self.limit} bytes")
        elif self._waiting > _BUFFER:
            self.flush()

    def _end(self, why: str) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._alarms.alarm(
                Category.PRINT,
                Priority.WARNING,
                "Trace: %s %s; nothing more is traced",
                self.path,
                why,
            )


def _received(fields: dict[str, object]) -> dict[str, Json]:
    channel = cast(Channel, fields["channel"])
    return {"channel": channel.value, **describe_datagram(cast(bytes, fields["data"]))}


def _sent(fields: dict[str, object]) -> dict[str, Json]:
    host, port = cast("tuple[str, int]", fields["to"])
    return {"to": host, "port": port, **describe_datagram(cast(bytes, fields["data"]))}


def _message(fields: dict[str, object]) -> dict[str, Json]:
    return describe_message(cast(bytes, fields["message"]))


def _membership(fields: dict[str, object]) -> dict[str, Json]:
    members = cast("Sequence[ProcId]", fields["members"])
    return {
        "ring": membership_text(cast(MembershipId, fields["membership_id"])),
        "members": [format_address(member) for member in members],
    }


def _states(fields: dict[str, object]) -> dict[str, Json]:
    before = cast("MembershipState | GroupsState", fields["before"])
    after = cast("MembershipState | GroupsState", fields["after"])
    return {"before": before.name, "after": after.name}


def _fault(fields: dict[str, object]) -> dict[str, Json]:
    return {"count": cast(int, fields["count"])}


_DESCRIBERS: Final[dict[str, Callable[[dict[str, object]], dict[str, Json]]]] = {
    "received": _received,
    "sent": _sent,
    "submitted": _message,
    "message": _message,
    "regular": _membership,
    "transitional": _membership,
    "state": _states,
    "groups_state": _states,
    "fault": _fault,
}
