"""Log lines as JSON objects, for collectors of logs.

=============  ======================================================================
key            value
=============  ======================================================================
``time``       ISO 8601 in UTC, with microseconds
``daemon``     its name, once known
``priority``   ``DEBUG`` ... ``FATAL``, ``PRINT``
``category``   list of the line's categories
``message``    the line, or block of lines, as it would be shown
``template``   the text that the line was made from, the same for all lines of its kind
``fields``     values of a record that the line was made from, such as a membership
               change; left out where there is none
=============  ======================================================================

Which lines are shown is decided as for plain ones, by DebugFlags and EventPriority.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import attrs

from txspread.engine.alarms import Category, Priority


class StructuredLines:
    """Makes the objects."""

    def __init__(self) -> None:
        self.daemon: str | None = None
        """Name in each object."""

    def line(
        self,
        now: float,
        category: Category,
        priority: Priority,
        text: str,
        args: tuple[object, ...],
    ) -> str:
        """One object, without a line end; ``now`` in seconds since the epoch."""
        record: dict[str, object] = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds"),
            "priority": Priority(priority).name,
            "category": _names(category),
            "message": text % args if args else text,
        }
        if self.daemon is not None:
            record["daemon"] = self.daemon
        if args:
            record["template"] = text
            for value in args:
                if attrs.has(type(value)):
                    record["fields"] = attrs.asdict(cast(Any, value))
        return json.dumps(record, default=str)


def _names(category: Category) -> list[str]:
    if category == Category.ALL:
        return ["ALL"]
    return [str(bit.name) for bit in Category if int(bit) and int(bit) & int(category) == int(bit)]
