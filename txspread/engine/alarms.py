"""What the engine says of itself: categories, priorities and the sink for lines.

The engine never formats a line nobody asked for and never touches a logging
handler: it calls an :class:`AlarmSink`, which the shell or a simulator supplies.
Source of bits and numbers: ``docs/configuration.md`` (DebugFlags, EventPriority).
"""

from __future__ import annotations

import enum
from typing import Protocol


class Category(enum.IntFlag):
    """Type bits of a log line, selected by ``DebugFlags``."""

    DEBUG = 0x1
    EXIT = 0x2
    PRINT = 0x4
    DATA_LINK = 0x10
    NETWORK = 0x20
    PROTOCOL = 0x40
    SESSION = 0x80
    CONFIGURATION = 0x100
    MEMBERSHIP = 0x200
    FLOW_CONTROL = 0x400
    STATUS = 0x800
    EVENTS = 0x1000
    GROUPS = 0x2000
    MEMORY = 0x10000
    SKIPLIST = 0x200000
    ACM = 0x400000
    SECURITY = 0x800000
    ALL = 0xFFFFFFFF
    NONE = 0


DEFAULT_CATEGORIES = Category.PRINT | Category.EXIT | Category.CONFIGURATION


class Priority(enum.IntEnum):
    """Priority of a log line, compared with ``EventPriority``."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    CRITICAL = 5
    FATAL = 6
    PRINT = 7


class AlarmSink(Protocol):
    """Where log lines go."""

    def wants(self, category: Category, priority: Priority) -> bool:
        """Tell whether a line of this kind would be shown."""

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        """Show ``text % args`` if such lines are shown.

        One call is one log line (without line end), or a block of several that
        gets one time stamp.
        """


class SilentAlarms:
    """A sink that shows nothing; the default in tests."""

    def wants(self, category: Category, priority: Priority) -> bool:
        """Nothing is wanted."""
        return False

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        """Drop the line."""
