"""The parsed configuration, immutable.

Source: ``docs/configuration.md``; upstream ``configuration.h``.
"""

from __future__ import annotations

import enum
from functools import cached_property

from attrs import field, frozen

from txspread.wire.identifiers import ProcId


def address_id(address: str) -> ProcId:
    """The proc id of a dotted quad: its 32-bit number."""
    number = 0
    for octet in address.split("."):
        number = number << 8 | int(octet)
    return number


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
class Notice:
    """A log line that reading the file gave, for the shell to print."""

    category: int
    """Type bits of :class:`txspread.engine.alarms.Category`."""
    priority: int
    text: str


@frozen
class Interface:
    """One address of a daemon."""

    address: str
    """Dotted quad."""
    port: int
    """As written, 0 when not; has no effect except that a reload compares it."""
    types: InterfaceType


@frozen
class Daemon:
    """One configured daemon."""

    name: str
    """0 to 19 bytes; bytes that are not UTF-8 stand as surrogate escapes."""
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

    @property
    def name_bytes(self) -> bytes:
        """The name as it travels on the wire and enters the hash."""
        return self.name.encode("utf-8", "surrogateescape")


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
    """None: not stated; the regular ring runs until a reload, which decides
    (:func:`txspread.config.reload`)."""
    accelerated_window: int = 15
    runtime_dir: str | None = None
    daemon_user: str | None = None
    daemon_group: str | None = None
    event_log_file: str | None = None
    """As written, ``%h`` and ``%H`` unexpanded
    (:func:`txspread.config.log_file_name`); None: standard output."""
    event_time_stamp: str | None = None
    """strftime format in force, at most 39 bytes; None: no time stamps."""
    event_precise_time_stamp: bool = False
    """The formatted time is followed by ``.`` and six digits."""
    event_priority: int | None = None
    """1 to 6; None: not stated."""
    debug_flags: int | None = None
    """Mask of 32 bits; None: not stated."""
    allowed_auth_methods: tuple[str, ...] = ("NULL",)
    """Enabled methods; empty: no client can connect."""
    required_auth_methods: tuple[str, ...] = ()
    debug_initial_sequence: bool = False
    """Stated in the file; has no effect."""
    file_name: str | None = None
    warnings: tuple[str, ...] = field(default=(), eq=False)
    """What is allowed but probably not meant, one sentence each."""
    notices: tuple[Notice, ...] = field(default=(), eq=False, repr=False)
    """Log lines in upstream's words, in order, that its flags let through."""
    authentication_stated: bool = field(default=False, repr=False)
    """One of the authentication options has been seen, now or before a reload."""
    time_stamp_state: tuple[str | None, bool] = field(default=(None, False), repr=False)
    """Last custom format, and whether precise stamps were ever asked for."""

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
        """Daemons by every id that names them.

        An id names the first daemon in the file that has it as an interface
        address; a declared address that is no interface address of any daemon
        comes last.  So several ids may lead to one daemon: iterate over
        :attr:`daemons`, not over this.
        """
        found: dict[ProcId, Daemon] = {}
        for daemon in self.daemons:
            for interface in daemon.interfaces:
                found.setdefault(address_id(interface.address), daemon)
        for daemon in self.daemons:
            found.setdefault(daemon.id, daemon)
        return found

    @cached_property
    def position(self) -> dict[ProcId, int]:
        """Configuration order: position of each declared id, from 0, the first if repeated."""
        found: dict[ProcId, int] = {}
        for number, daemon in enumerate(self.daemons):
            found.setdefault(daemon.id, number)
        return found
