"""Reading trace files: runs of daemons with their records in order.

Times become seconds since the epoch, by the two clocks in each run's first record,
so that the files of several machines can be laid side by side as far as their clocks
agree.  A last line that was cut off, as by a power failure, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from attrs import define, field

from txspread.observe.trace_records import FORMAT

Record: TypeAlias = dict[str, Any]
"""One line, with ``time`` (seconds since the epoch) in place of ``t``."""


class TraceError(Exception):
    """A file is no trace."""


@define(eq=False)
class Run:
    """One run of a daemon, from its start to the end of the records."""

    daemon: str
    id: str
    """Its address."""
    start: Record
    records: list[Record] = field(factory=list)

    @property
    def stopped(self) -> bool:
        """Whether it ended in an orderly way."""
        return any(record["kind"] == "stopped" for record in self.records[-5:])

    @property
    def cut(self) -> bool:
        """Whether the trace ended before the daemon."""
        return bool(self.records) and self.records[-1]["kind"] == "full"

    @property
    def names(self) -> dict[str, str]:
        """Names of the configured daemons by id."""
        return {daemon["id"]: daemon["name"] for daemon in self.start["daemons"]}


def read_files(paths: Iterable[str]) -> list[Run]:
    """All runs in files, in order of their start.

    Raises:
        OSError: a file cannot be read.
        TraceError: it is no trace.

    """
    runs = [run for path in paths for run in read_runs(path)]
    return sorted(runs, key=lambda run: float(run.start["wall"]))


def read_runs(path: str) -> list[Run]:
    """The runs in one file; see :func:`read_files`."""
    runs: list[Run] = []
    offset = 0.0
    for number, record in _lines(path):
        try:
            kind = record["kind"]
            moment = float(record.pop("t"))
            if kind == "start":
                if record["format"] != FORMAT:
                    raise TraceError(f"{path}:{number}: format {record['format']} is unknown")
                offset = float(record["wall"]) - moment
                runs.append(Run(str(record["daemon"]), str(record["id"]), record))
            record["time"] = moment + offset
            if not runs:
                raise TraceError(f"{path}:{number}: no start record before it")
            runs[-1].records.append(record)
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{path}:{number}: not a record of a trace ({error!r})") from error
    if not runs:
        raise TraceError(f"{path}: no trace in it")
    return runs


def _lines(path: str) -> Iterator[tuple[int, Record]]:
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise TraceError(f"{path}:{number}: {error}") from error
            if not isinstance(record, dict):
                raise TraceError(f"{path}:{number}: not an object")
            yield number, record
