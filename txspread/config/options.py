"""The options of spread.conf as one table: what each takes, its default, range and effect.

The scanner takes its keywords from here, the parser the kind of value, the
messages their words, and the reference documentation is held against it by a test.

Source: ``docs/configuration.md`` section 3; upstream ``config_parse.y`` and
``configuration.c``.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from txspread.engine.alarms import Category, Priority

FLAGS: Final[dict[str, int]] = {name: int(member) for name, member in Category.__members__.items()}
"""The words of ``DebugFlags`` and their bits."""

PRIORITIES: Final[dict[str, int]] = {
    "pDEBUG": int(Priority.DEBUG),
    "INFO": int(Priority.INFO),
    "WARNING": int(Priority.WARNING),
    "ERROR": int(Priority.ERROR),
    "CRITICAL": int(Priority.CRITICAL),
    "FATAL": int(Priority.FATAL),
}
"""The words of ``EventPriority``."""

MAX_NUMBER: Final = 999_999
"""The largest number that the language can write."""
MAX_WINDOW: Final = 32_767
"""Flow control keeps windows as signed 16-bit values; upstream lets larger ones wrap."""
MAX_RUNTIME_DIR: Final = 4096
"""Bytes."""
MAX_USER: Final = 32
"""Bytes of a user or group name."""
MAX_AUTH_LIST: Final = 89
"""Bytes of a list of authentication methods; one more and upstream's copy has no end."""
KNOWN_AUTH_METHODS: Final = ("NULL", "IP", "PWORD")
"""The methods that count; other names in the lists are ignored.  Upstream is built
without PWORD; here it is there for a daemon that was given passwords."""


@frozen
class Option:
    """One option."""

    name: str
    """As written in the file, case included."""
    terminal: str
    """Terminal of the grammar; says what kind of value follows."""
    value: str
    """The value in words, for messages and tables."""
    default: str
    """The default in words."""
    effect: str
    """What the option does, in a few words."""
    attribute: str | None = None
    """Attribute of the model that takes the value as it is."""


def _options(*options: Option) -> dict[str, Option]:
    return {option.name: option for option in options}


TIMEOUT_OPTIONS: Final[dict[str, str]] = {
    "TokenTimeout": "token",
    "HurryTimeout": "hurry",
    "AliveTimeout": "alive",
    "JoinTimeout": "join",
    "RepTimeout": "rep",
    "SegTimeout": "seg",
    "GatherTimeout": "gather",
    "FormTimeout": "form",
    "LookupTimeout": "lookup",
}
"""Membership timers: option and attribute of ``Timeouts``."""

_BOOLEAN = "true, yes, false or no (any case)"

OPTIONS: Final[dict[str, Option]] = _options(
    Option(
        "DebugFlags",
        "DEBUG_FLAGS",
        "{ flags, each perhaps with ! before it }",
        "{ PRINT EXIT CONFIGURATION }",
        "which kinds of log lines are shown",
    ),
    Option(
        "EventPriority",
        "EVENT_PRIORITY",
        "pDEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL",
        "INFO",
        "the lowest priority of log lines that are shown",
    ),
    Option(
        "EventLogFile",
        "STRING_OPTION",
        "a file name; %h is the host name",
        "standard output",
        "where log lines go",
        "event_log_file",
    ),
    Option(
        "EventTimeStamp",
        "EVENT_TIME_STAMP",
        "nothing, or = and a strftime format of at most 39 bytes",
        "no time stamps",
        "puts the time before each log line",
    ),
    Option(
        "EventPreciseTimeStamp",
        "EVENT_PRECISE_TIME_STAMP",
        "nothing",
        "off",
        "adds microseconds to the time stamps and switches them on",
    ),
    Option(
        "DangerousMonitor",
        "BOOL_OPTION",
        _BOOLEAN,
        "false",
        "lets a monitor partition the ring, stop daemons and change flow control",
        "dangerous_monitor",
    ),
    Option(
        "SocketPortReuse",
        "REUSE_OPTION",
        "on, off or auto (any case)",
        "AUTO",
        "SO_REUSEADDR on the TCP listeners; AUTO: only where an interface is named",
    ),
    Option(
        "RuntimeDir",
        "STRING_OPTION",
        "a directory of at most 4096 bytes",
        "/var/run/spread",
        "chroot directory when started as root",
        "runtime_dir",
    ),
    Option(
        "DaemonUser",
        "STRING_OPTION",
        "a user name of at most 32 bytes",
        "spread",
        "user to become when started as root",
        "daemon_user",
    ),
    Option(
        "DaemonGroup",
        "STRING_OPTION",
        "a group name of at most 32 bytes",
        "spread",
        "group to become when started as root",
        "daemon_group",
    ),
    Option(
        "AllowedAuthMethods",
        "STRING_OPTION",
        "names separated by blanks, at most 89 bytes",
        "NULL",
        "authentication methods that a client may choose",
    ),
    Option(
        "RequiredAuthMethods",
        "STRING_OPTION",
        "names separated by blanks, at most 89 bytes",
        "none",
        "authentication methods that a client must pass",
    ),
    Option(
        "AccessControlPolicy",
        "STRING_OPTION",
        "PERMIT",
        "PERMIT",
        "what an accepted client may do",
    ),
    Option(
        "MaxSessionMessages",
        "NUMBER_OPTION",
        "0 to 999999 messages",
        "1000",
        "most messages queued for one client before it is cut off",
        "max_session_messages",
    ),
    Option(
        "Window",
        "NUMBER_OPTION",
        "1 to 32767 packets",
        "160",
        "flow control: packets of the whole ring in one round",
        "window",
    ),
    Option(
        "PersonalWindow",
        "NUMBER_OPTION",
        "1 to 32767 packets, at most Window",
        "20",
        "flow control: packets of this daemon in one round",
        "personal_window",
    ),
    Option(
        "AcceleratedRing",
        "BOOL_OPTION",
        _BOOLEAN,
        "not stated: false until a reload",
        "the accelerated ring protocol; part of the configuration hash",
        "accelerated_ring",
    ),
    Option(
        "AcceleratedWindow",
        "NUMBER_OPTION",
        "0 to 32767 packets, at most PersonalWindow",
        "15",
        "packets that may be sent after the token has been passed on",
        "accelerated_window",
    ),
    *(
        Option(
            name,
            "NUMBER_OPTION",
            "1 to 999999 milliseconds; all nine timeouts or none",
            "by LAN or WAN",
            "membership timer",
        )
        for name in TIMEOUT_OPTIONS
    ),
    Option(
        "DebugInitialSequence",
        "DEBUG_INITIAL_SEQUENCE",
        "nothing",
        "off",
        "accepted and ignored: upstream's test aid stops its own daemons",
    ),
    Option(
        "LinkProtocol",
        "LINK_OPTION",
        "Hop or TcpHop",
        "not stated",
        "accepted and ignored, as upstream does",
    ),
)
"""Every option by name."""
