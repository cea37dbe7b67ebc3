"""From the syntax tree to the immutable model: every statement in its turn.

Statements act in file order, as upstream's do: the last of several wins, flags
and time stamps build on what stands before, and the log lines that a statement
causes pass the flags in force at that point.  For a reload the builder starts
from the configuration in force, because options that a new file leaves out keep
their values.

Source: ``docs/configuration.md`` sections 2 and 3; upstream
``config_parse.y``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

from attrs import Factory, define
from lark import Token, Tree

from txspread.config.errors import ConfigurationError
from txspread.config.hashing import segment_text
from txspread.config.model import (
    Configuration,
    Daemon,
    Interface,
    InterfaceType,
    Notice,
    PortReuse,
    Segment,
    address_id,
)
from txspread.config.options import (
    FLAGS,
    KNOWN_AUTH_METHODS,
    MAX_AUTH_LIST,
    MAX_RUNTIME_DIR,
    MAX_USER,
    MAX_WINDOW,
    OPTIONS,
    PRIORITIES,
    TIMEOUT_OPTIONS,
)
from txspread.engine.alarms import DEFAULT_CATEGORIES, Category, Priority
from txspread.wire.constants import (
    DEFAULT_SPREAD_PORT,
    MAX_PROC_NAME,
    MAX_PROCS_RING,
    MAX_SEGMENTS,
)

Resolver: TypeAlias = Callable[[str], str | None]
"""Host lookup: a name to its first IPv4 address as a dotted quad, None if unknown."""

MAX_INTERFACES: Final = 10
MAX_COST: Final = 100
DEFAULT_TIME_STAMP: Final = "%m/%d/%y %H:%M:%S"
MAX_TIME_STAMP: Final = 39
"""Bytes of a time stamp format; longer ones are cut."""

_TYPES: Final = {
    "M": InterfaceType.MONITOR,
    "C": InterfaceType.CLIENT,
    "D": InterfaceType.DAEMON,
}
_ALL_TYPES: Final = InterfaceType.MONITOR | InterfaceType.CLIENT | InterfaceType.DAEMON
_REUSE_LINES: Final = {
    PortReuse.AUTO: "Setting SO_REUSEADDR to auto",
    PortReuse.ON: "Setting SO_REUSEADDR to always on -- make sure Spread daemon host is secured!",
    PortReuse.OFF: "Setting SO_REUSEADDR to always off",
}
_SET_LINES: Final = {
    "RuntimeDir": "Set runtime directory to '%s'",
    "DaemonUser": "Set user name to '%s'",
    "DaemonGroup": "Set group name to '%s'",
}
_LIMITS: Final = {
    "RuntimeDir": MAX_RUNTIME_DIR,
    "DaemonUser": MAX_USER,
    "DaemonGroup": MAX_USER,
    "AllowedAuthMethods": MAX_AUTH_LIST,
    "RequiredAuthMethods": MAX_AUTH_LIST,
}
_LOWEST: Final = {"MaxSessionMessages": 0, "AcceleratedWindow": 0}
_WINDOWS: Final = ("Window", "PersonalWindow", "AcceleratedWindow")


def encoded(text: str) -> bytes:
    """The bytes of a name as they stand in the file."""
    return text.encode("utf-8", "surrogateescape")


def _tokens(tree: Tree[Token]) -> list[Token]:
    return [child for child in tree.children if isinstance(child, Token)]


def _trees(tree: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in tree.children if isinstance(child, Tree)]


@define
class Builder:
    """Collects what a file says; :mod:`txspread.config.parsing` makes the model of it."""

    file_name: str | None
    resolver: Resolver | None
    debug_flags: int | None = None
    event_priority: int | None = None
    time_stamp: str | None = None
    microseconds: bool = False
    custom_format: str | None = None
    precise: bool = False
    allowed: tuple[str, ...] = ("NULL",)
    required: tuple[str, ...] = ()
    authentication_stated: bool = False
    initial_sequence: bool = False
    values: dict[str, Any] = Factory(dict)
    """Attributes of the model as stated."""
    timeouts: dict[str, float] = Factory(dict)
    """Seconds, by attribute of ``Timeouts``."""
    places: dict[str, Token] = Factory(dict)
    """The value of each option as it stands in the file, for messages."""
    segments: list[Segment] = Factory(list)
    segment_places: list[Token] = Factory(list)
    names: dict[str, Daemon] = Factory(dict)
    daemon_places: dict[str, Token] = Factory(dict)
    notices: list[Notice] = Factory(list)
    warnings: list[str] = Factory(list)
    route_rows: int = 0

    @classmethod
    def on_top_of(
        cls, previous: Configuration | None, file_name: str | None, resolver: Resolver | None
    ) -> Builder:
        """A builder for a first reading, or for a reload over ``previous``."""
        if previous is None:
            return cls(file_name, resolver)
        custom_format, precise = previous.time_stamp_state
        return cls(
            file_name,
            resolver,
            debug_flags=previous.debug_flags,
            event_priority=previous.event_priority,
            time_stamp=previous.event_time_stamp,
            microseconds=previous.event_precise_time_stamp,
            custom_format=custom_format,
            precise=precise,
            allowed=previous.allowed_auth_methods,
            required=previous.required_auth_methods,
            authentication_stated=previous.authentication_stated,
            initial_sequence=previous.debug_initial_sequence,
        )

    # -- messages ---------------------------------------------------------------------

    def refuse(self, place: Token | None, message: str) -> NoReturn:
        """Raise the error for the token at ``place``."""
        if place is None:
            raise ConfigurationError(message, self.file_name)
        raise ConfigurationError(
            message, self.file_name, place.line, place.column, found=str(place.value)
        )

    def warn(self, place: Token | None, message: str) -> None:
        """Note something that is allowed but probably not meant."""
        where = self.file_name or "configuration"
        if place is not None:
            where += f":{place.line}"
        self.warnings.append(f"{where}: {message}")

    def notice(
        self,
        text: str,
        category: Category = Category.CONFIGURATION,
        priority: Priority = Priority.WARNING,
    ) -> None:
        """Keep a log line if the flags in force here show it."""
        mask = DEFAULT_CATEGORIES if self.debug_flags is None else self.debug_flags
        lowest = Priority.INFO if self.event_priority is None else self.event_priority
        if mask & category and priority >= lowest:
            self.notices.append(Notice(int(category), int(priority), text))

    def notice_string(self, what: str, string: bytes) -> None:
        """Keep a log line about a part of what is hashed, for debugging."""
        shown = string.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        self.notice(f"{what} is {len(string)} characters long:\n{shown}", priority=Priority.DEBUG)

    # -- statements -------------------------------------------------------------------

    def run(self, tree: Tree[Token]) -> None:
        """Carry out every statement of a file."""
        actions: dict[str, Callable[[Tree[Token]], None]] = {
            "segment": self._segment,
            "routes": self._routes,
            "debug_flags": self._debug_flags,
            "event_priority": self._event_priority,
            "time_stamp": self._time_stamp,
            "precise_time_stamp": self._precise_time_stamp,
            "initial_sequence": self._initial_sequence,
            "string_option": self._string_option,
            "number_option": self._number_option,
            "bool_option": self._bool_option,
            "reuse_option": self._reuse_option,
            "link_option": self._link_option,
        }
        for statement in _trees(tree):
            actions[str(statement.data)](statement)
        self.notice("Finished configuration file.")
        self.notice_string("config_parse.y:The full segment string", segment_text(self.segments))

    def _debug_flags(self, tree: Tree[Token]) -> None:
        mask = 0
        for flag in _trees(tree):
            *bang, word = _tokens(flag)
            bits = FLAGS[str(word)]
            mask = mask & ~bits if bang else mask | bits
        self.debug_flags = mask
        self.notice(f"Set Alarm mask to: {mask:x}")

    def _event_priority(self, tree: Tree[Token]) -> None:
        self.event_priority = PRIORITIES[str(tree.children[-1])]

    def _set_time_stamp(self, custom: str | None, microseconds: bool) -> None:
        data = encoded(custom if custom is not None else DEFAULT_TIME_STAMP)[:MAX_TIME_STAMP]
        if microseconds and not data.endswith((b"%s", b"%S")):
            if len(data) + 3 <= MAX_TIME_STAMP:
                data += b" %s"
            else:
                microseconds = False
        self.time_stamp = data.decode("utf-8", "surrogateescape")
        self.microseconds = microseconds

    def _time_stamp(self, tree: Tree[Token]) -> None:
        custom = str(tree.children[-1]) if len(tree.children) > 1 else None
        if custom is not None:
            if len(encoded(custom)) > MAX_TIME_STAMP:
                self.warn(
                    _tokens(tree)[-1], f"EventTimeStamp: only {MAX_TIME_STAMP} bytes are used"
                )
            self.custom_format = custom
        self._set_time_stamp(custom, self.precise)

    def _precise_time_stamp(self, tree: Tree[Token]) -> None:
        self.precise = True
        self._set_time_stamp(self.custom_format, True)
        if not self.microseconds:
            self.warn(
                _tokens(tree)[0],
                "EventPreciseTimeStamp: the format is too long for microseconds, "
                "end it in %S or shorten it to 36 bytes",
            )

    def _initial_sequence(self, tree: Tree[Token]) -> None:
        self.initial_sequence = True
        self.warn(_tokens(tree)[0], "DebugInitialSequence has no effect")

    def _string_option(self, tree: Tree[Token]) -> None:
        keyword, _, value = _tokens(tree)
        name, text = str(keyword), str(value)
        limit = _LIMITS.get(name)
        if limit is not None and len(encoded(text)) > limit:
            self.refuse(value, f"{name} may have at most {limit} bytes")
        if name in {"AllowedAuthMethods", "RequiredAuthMethods"}:
            self._authentication(name, value)
        elif name == "AccessControlPolicy":
            if text != "PERMIT":
                self.refuse(value, f"{text!r} is no access control policy; the only one is PERMIT")
        elif name == "EventLogFile" or text:
            attribute = OPTIONS[name].attribute
            if attribute is not None:
                self.values[attribute] = text
            if name in _SET_LINES:
                self.notice(_SET_LINES[name] % text, Category.PRINT)
        else:
            self.warn(value, f"{name}: an empty value is ignored")

    def _authentication(self, name: str, value: Token) -> None:
        if not self.authentication_stated:
            self.allowed = tuple(method for method in self.allowed if method != "NULL")
        self.authentication_stated = True
        for method in str(value).split(" "):
            if not method:
                continue
            if method == "PWORD":
                self.warn(value, f"{name}: PWORD counts only in a daemon that is given passwords")
            if method not in KNOWN_AUTH_METHODS:
                self.warn(value, f"{name}: unknown method {method!r} is ignored")
            elif name == "AllowedAuthMethods":
                self.allowed += (method,) if method not in self.allowed else ()
            else:
                self.required += (method,) if method not in self.required else ()

    def _number_option(self, tree: Tree[Token]) -> None:
        keyword, _, value = _tokens(tree)
        name, number = str(keyword), int(value)
        self.places[name] = value
        lowest = _LOWEST.get(name, 1)
        if number < lowest:
            self.refuse(value, f"{name} must be at least {lowest}")
        if name in _WINDOWS and number > MAX_WINDOW:
            self.refuse(value, f"{name} must be at most {MAX_WINDOW}")
        if name in TIMEOUT_OPTIONS:
            self.timeouts[TIMEOUT_OPTIONS[name]] = number / 1000
            return
        attribute = OPTIONS[name].attribute
        if attribute is not None:
            self.values[attribute] = number
        if name == "MaxSessionMessages" and number == 0:
            self.warn(value, "MaxSessionMessages = 0 cuts every client off at its first message")

    def _bool_option(self, tree: Tree[Token]) -> None:
        keyword, _, value = _tokens(tree)
        name, state = str(keyword), str(value).lower() in {"true", "yes"}
        self.places[name] = value
        attribute = OPTIONS[name].attribute
        if attribute is not None:
            self.values[attribute] = state
        if name == "DangerousMonitor":
            line = (
                "ENABLING Dangerous Monitor Commands! Make sure Spread network is secured"
                if state
                else "disabling Dangerous Monitor Commands!"
            )
            self.notice(line, Category.PRINT)

    def _reuse_option(self, tree: Tree[Token]) -> None:
        reuse = PortReuse[str(tree.children[-1]).upper()]
        self.values["socket_port_reuse"] = reuse
        self.notice(_REUSE_LINES[reuse], Category.PRINT)

    def _link_option(self, tree: Tree[Token]) -> None:
        keyword, _, value = _tokens(tree)
        self.warn(keyword, "LinkProtocol has no effect")
        if value == "TcpHop":
            self.notice("Conf_set_link_protocol: Illegal protocol type 3", Category.PRINT)

    def _routes(self, tree: Tree[Token]) -> None:
        keyword, _, *rows, _ = _tokens(tree)
        self.warn(keyword, "RouteMatrix has no effect")
        for row in rows:
            # Upstream splits at single blanks: a second one in a row, or one at the
            # end, makes an item of its own.
            costs = str(row).split(" ")
            if len(costs) < len(self.segments):
                self.refuse(
                    row,
                    f"{len(costs)} route costs for {len(self.segments)} segments: "
                    "a row needs one for each segment before it",
                )
            if len(costs) > MAX_SEGMENTS:
                self.refuse(row, f"more than {MAX_SEGMENTS} route costs in a row")
            self.route_rows += 1
            if self.route_rows > MAX_SEGMENTS:
                self.refuse(row, f"more than {MAX_SEGMENTS} rows of route costs")
            high = [cost for cost in costs if _leading_number(cost) > MAX_COST]
            if high:
                self.warn(row, f"route cost {high[0].strip()} counts as {MAX_COST}")
        self.notice(
            f"Successfully configured Routing Matrix for {len(self.segments)} Segments "
            f"with {self.route_rows} rows in the routing matrix"
        )

    # -- segments and daemons -----------------------------------------------------------

    def _address(self, token: Token) -> tuple[str, int]:
        """Address without leading zeros, and port as written, reduced to 16 bits."""
        quad, _, port = str(token).partition(":")
        octets = [int(octet) for octet in quad.split(".")]
        if max(octets) > 255:
            self.refuse(token, f"{quad} is no IPv4 address: {max(octets)} is above 255")
        number = int(port) if port else 0
        if number > 65535:
            self.warn(token, f"port {number} is above 65535 and counts as {number % 65536}")
        return ".".join(map(str, octets)), number % 65536

    def _segment(self, tree: Tree[Token]) -> None:
        keyword, where, *_ = _tokens(tree)
        if len(self.segments) >= MAX_SEGMENTS:
            self.refuse(keyword, f"more than {MAX_SEGMENTS} segments")
        address, port = self._address(where)
        port = port or DEFAULT_SPREAD_PORT
        index = len(self.segments)
        daemons: list[Daemon] = []
        for entry in _trees(tree):
            daemon = self._daemon(entry, index, len(daemons), port)
            self.names[daemon.name] = daemon
            daemons.append(daemon)
        if not daemons:
            self.refuse(
                where,
                f"segment {address} has no daemons: name at least one, or take the segment out",
            )
        if port == 65535:
            self.warn(where, "port 65535 leaves no port for the token, which is sent to port + 1")
        self.segments.append(Segment(index, address, port, tuple(daemons)))
        self.segment_places.append(where)
        self.notice(
            f"Successfully configured Segment {index} [{address}:{port}] with {len(daemons)} procs:"
        )
        for daemon in daemons:
            padding = " " * (MAX_PROC_NAME - len(daemon.name_bytes))
            self.notice(f"\t{padding}{daemon.name}: {daemon.address}")
        self.notice_string(
            "config_parse.y:convert_segment_to_string:The segment string",
            segment_text(self.segments[index:]),
        )

    def _daemon(self, tree: Tree[Token], segment: int, index: int, port: int) -> Daemon:
        token, *addresses = _tokens(tree)
        name = str(token)
        if len(encoded(name)) >= MAX_PROC_NAME:
            self.refuse(
                token,
                f"the daemon name {name!r} has {len(encoded(name))} bytes; "
                f"{MAX_PROC_NAME - 1} are allowed",
            )
        if name in self.names:
            self.refuse(
                token,
                f"the daemon name {name!r} is taken by the daemon at {self.names[name].address}",
            )
        if len(self.names) >= MAX_PROCS_RING:
            self.refuse(token, f"more than {MAX_PROCS_RING} daemons")
        if addresses:
            address, written_port = self._address(addresses[0])
        else:
            address, written_port = self._look_up(token), 0
        stanzas = _trees(tree)
        if stanzas:
            interfaces = self._interfaces(token, stanzas[0])
        else:
            interfaces = (Interface(address, written_port, _ALL_TYPES | InterfaceType.ANY),)
        self.daemon_places[name] = token
        return Daemon(name, address, address_id(address), port, interfaces, segment, index)

    def _look_up(self, token: Token) -> str:
        name = str(token)
        if not name or "\0" in name:
            found = None
        else:
            found = self.resolver(name) if self.resolver is not None else None
        if found is None:
            self.refuse(
                token,
                f"no such host {name!r}: the daemon has no address in the file "
                "and its name has no IPv4 address",
            )
        self.warn(
            token,
            f"daemon {name!r} has no address in the file: every machine of the ring "
            f"must look its name up as {found}, or the hashes differ",
        )
        return found

    def _interfaces(self, name: Token, stanza: Tree[Token]) -> tuple[Interface, ...]:
        interfaces: list[Interface] = []
        for entry in _trees(stanza):
            *letters, where = _tokens(entry)
            if len(interfaces) >= MAX_INTERFACES:
                self.refuse(where, f"more than {MAX_INTERFACES} interfaces of one daemon")
            types = InterfaceType(0)
            for letter in letters:
                types |= _TYPES[str(letter)]
            address, port = self._address(where)
            interfaces.append(Interface(address, port, types or _ALL_TYPES))
        if not interfaces:
            self.refuse(
                name,
                f"the braces behind daemon {str(name)!r} hold no interface: "
                "name at least one, or take the braces out",
            )
        return tuple(interfaces)


def _leading_number(text: str) -> int:
    """The number before the first character that is no digit; 0 if there is none."""
    digits = 0
    while digits < len(text) and text[digits].isdigit():
        digits += 1
    return min(int(text[:digits] or "0"), 10**9) if digits < 100 else 10**9
