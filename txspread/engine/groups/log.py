"""What the groups layer says of itself, in the words of upstream's log lines.

A peer's bad messages are counted by cause, and only the first of a cause and then
ever rarer ones (the second, fourth, eighth...) are logged, so that a flood of
them does not become a flood of lines.

Source: ``docs/protocol/groups.md`` section 12.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.groups.state import Group
from txspread.wire.identifiers import MembershipId, ProcId, format_address


class GroupsLog:
    """Lines of category GROUPS."""

    def __init__(self, alarms: AlarmSink) -> None:
        self._alarms = alarms
        self.dropped: dict[str, int] = {}
        """Messages from peers that were dropped, by cause."""

    def info(self, text: str, *args: object) -> None:
        """Tell what happens; names are passed as bytes, ids as they are."""
        if self._alarms.wants(Category.GROUPS, Priority.INFO):
            self._alarms.alarm(Category.GROUPS, Priority.INFO, text, *map(_shown, args))

    def drop(
        self, cause: str, text: str, *args: object, priority: Priority = Priority.ERROR
    ) -> None:
        """Count a dropped message and log it unless its cause has been seen often."""
        count = self.dropped.get(cause, 0) + 1
        self.dropped[cause] = count
        if count & (count - 1) == 0:
            self._alarms.alarm(
                Category.GROUPS, priority, text + " (%d so far)", *map(_shown, args), count
            )

    def synced_set(self, where: str, daemons: Sequence[ProcId]) -> None:
        """List the daemons that hold the same replica."""
        if self._alarms.wants(Category.GROUPS, Priority.INFO):
            lines = [f"{where}: Synced Set (with {len(daemons)} members):"]
            lines.extend(f"\t{format_address(proc_id)}" for proc_id in daemons)
            self._alarms.alarm(Category.GROUPS, Priority.INFO, "%s", "\n".join(lines))

    def list_groups(self, groups: Iterable[Group]) -> None:
        """List groups and members, as upstream does after every exchange."""
        if not self._alarms.wants(Category.GROUPS, Priority.PRINT):
            return
        lines: list[str] = []
        number = 0
        for group in groups:
            number += 1
            lines.append(f"[{number}] group {_text(group.name)} with {group.count} members:")
            for record in group.ordered:
                lines.extend(
                    f"\t[{place}] {_text(name)}" for place, name in enumerate(record.names, 1)
                )
        lines.insert(0, f"Num of groups: {number}")
        self._alarms.alarm(Category.GROUPS, Priority.PRINT, "%s", "\n".join(lines))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _shown(value: object) -> object:
    if isinstance(value, MembershipId):
        return f"({format_address(value.proc_id)}, {value.time})"
    return _text(value) if isinstance(value, bytes) else value
