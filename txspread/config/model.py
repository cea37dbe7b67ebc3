"""The parsed configuration, immutable.

Source: ``docs/configuration.md``; upstream ``configuration.h``.
"""

from __future__ import annotations

import enum
from functools import cached_property

from attrs import field, frozen

from txspread.wire.identifiers import ProcId


class InterfaceType(enum.IntFlag):
    """What an interface of a daemon serves."""

    MONITOR = 0x1
    CLIENT = 0x2
    DAEMON = 0x4
    ANY = 0x8
    """A daemon without interface stanza: bound to 0.0.0.0."""


class PortReuse(enum.Enum):
    """Values of ``SocketPortReuse``."""

    AUTO = "AUTO"
    ON = "ON"
    OFF = "OFF"


@frozen
class Interface:
    """One address of a daemon."""

    address: str
    """Dotted quad."""
    port: int
    """As written, 0 when not; has no effect (kept for reports)."""
    types: InterfaceType


@frozen
class Daemon:
    """One configured daemon."""

    name: str
    """1 to 19 bytes."""
    address: str
    """Declared IPv4 address, dotted quad."""
    id: ProcId
    """``address`` as an unsigned 32-bit number."""
    port: int
    """Segment port P: data on UDP P, tokens on UDP P+1, clients on TCP P."""
    interfaces: tuple[Interface, ...]
    segment: int
    """Index of the segment, from 0."""
    index: int
    """Position within the segment, from 0."""


@frozen
class Segment:
    """One ``Spread_Segment`` block."""

    index: int
    address: str
    """Broadcast or multicast address, dotted quad."""
    port: int
    daemons: tuple[Daemon, ...]


@frozen
class Timeouts:
    """The nine membership timers, in seconds."""

    token: float
    hurry: float
    alive: float
    join: float
    rep: float
    seg: float
    gather: float
    form: float
    lookup: float


@frozen(slots=False)
class Configuration:
    """Everything one spread.conf says, with defaults filled in."""

    segments: tuple[Segment, ...]
    hash: int
    """Unsigned 32-bit, stamped on every datagram between daemons."""
    wide_area: bool
    timeouts: Timeouts
    """In force: configured, or the LAN or WAN defaults."""
    timeouts_configured: bool = False
    dangerous_monitor: bool = False
    socket_port_reuse: PortReuse = PortReuse.AUTO
    max_session_messages: int = 1000
    window: int = 160
    personal_window: int = 20
    accelerated_ring: bool | None = None
    """None: not stated; the regular ring runs until a reload."""
    accelerated_window: int = 15
    runtime_dir: str | None = None
    daemon_user: str | None = None
    daemon_group: str | None = None
    event_log_file: str | None = None
    event_time_stamp: str | None = None
    event_precise_time_stamp: bool = False
    event_priority: int | None = None
    debug_flags: int | None = None
    allowed_auth_methods: tuple[str, ...] = ("NULL",)
    required_auth_methods: tuple[str, ...] = ()
    file_name: str | None = None
    warnings: tuple[str, ...] = field(default=(), eq=False)

    @cached_property
    def daemons(self) -> tuple[Daemon, ...]:
        """All daemons in configuration order."""
        return tuple(daemon for segment in self.segments for daemon in segment.daemons)

    @cached_property
    def by_name(self) -> dict[str, Daemon]:
        """Daemons by name (case-sensitive)."""
        return {daemon.name: daemon for daemon in self.daemons}

    @cached_property
    def by_id(self) -> dict[ProcId, Daemon]:
        """Daemons by declared id."""
        return {daemon.id: daemon for daemon in self.daemons}

    @cached_property
    def position(self) -> dict[ProcId, int]:
        """Configuration order: position of each daemon id, from 0."""
        return {daemon.id: number for number, daemon in enumerate(self.daemons)}
