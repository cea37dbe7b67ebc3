"""Reading a spread.conf: text in, checked immutable model out.

Source: ``docs/configuration.md``; upstream ``configuration.c``,
Conf_load_conf_file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

import attrs

from txspread.config.building import Builder, Resolver, encoded
from txspread.config.errors import ConfigurationError
from txspread.config.hashing import (
    MAX_SEGMENT_TEXT,
    MONITOR_HASH,
    VERSION_TEXT,
    configuration_hash,
    hash_string,
    segment_text,
)
from txspread.config.model import Configuration, Daemon, InterfaceType, Notice, Timeouts
from txspread.config.options import TIMEOUT_OPTIONS
from txspread.config.syntax import read_syntax
from txspread.config.timeouts import default_timeouts, is_wide_area, timeout_warnings
from txspread.engine.alarms import Category, Priority

MAX_FILE_SIZE: Final = 4 * 1024 * 1024
"""Bytes; a file that is longer is refused before it is read."""
EMBEDDED_NAME: Final = "the embedded default configuration"


def _place(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _decode(text: str | bytes, file_name: str | None) -> str:
    """Text whose characters all stand for bytes of a file."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "surrogateescape")
    try:
        encoded(text)
    except UnicodeEncodeError as error:
        line, column = _place(text, error.start)
        raise ConfigurationError(
            "a character that no file can hold", file_name, line, column
        ) from None
    return text


def _timeouts(builder: Builder, wide_area: bool, previous: Configuration | None) -> Timeouts:
    stated = builder.timeouts
    missing = [name for name, attribute in TIMEOUT_OPTIONS.items() if attribute not in stated]
    if stated and missing:
        first = next(name for name in TIMEOUT_OPTIONS if name in builder.places)
        builder.refuse(
            builder.places[first],
            "only some of the membership timeouts are stated: state all nine or none; "
            "missing: " + ", ".join(missing),
        )
    if previous is not None:
        # Timers are taken at process start only.
        if stated and Timeouts(**stated) != previous.timeouts:
            builder.warn(None, "the timeouts have changed; they take effect at the next start")
        return previous.timeouts
    return Timeouts(**stated) if stated else default_timeouts(wide_area)


def _check_loopback(builder: Builder) -> None:
    local = [segment.address.startswith("127.") for segment in builder.segments]
    if any(local) and not all(local):
        place = builder.segment_places[local.index(True)]
        builder.refuse(
            place,
            f"segment {place} is on this machine only and cannot be used together with "
            "segments of a network: take one of the two kinds out",
        )


def _check_windows(builder: Builder, values: Mapping[str, int], accelerated: bool) -> None:
    window = values["window"]
    personal = values["personal_window"]
    after = values["accelerated_window"]
    if personal > window:
        place = builder.places.get("PersonalWindow") or builder.places.get("Window")
        builder.refuse(place, f"PersonalWindow ({personal}) is larger than Window ({window})")
    if accelerated and after > personal:
        place = builder.places.get("AcceleratedWindow") or builder.places.get("PersonalWindow")
        builder.refuse(
            place, f"AcceleratedWindow ({after}) is larger than PersonalWindow ({personal})"
        )


def _check_length(builder: Builder) -> None:
    length = len(segment_text(builder.segments))
    if length > MAX_SEGMENT_TEXT:
        builder.refuse(
            None,
            f"the segments come to {length} bytes of the text that is hashed; "
            f"daemons of Spread 4 hold {MAX_SEGMENT_TEXT}: use shorter names or fewer interfaces",
        )


def _warn_of_daemon(builder: Builder, daemon: Daemon, seen: dict[str, str]) -> None:
    place = builder.daemon_places[daemon.name]
    addresses = [interface.address for interface in daemon.interfaces]
    types = InterfaceType(0)
    for interface in daemon.interfaces:
        types |= interface.types
    if daemon.address not in addresses:
        builder.warn(
            place,
            f"daemon {daemon.name!r} cannot run: its address {daemon.address} "
            "is not among its interfaces",
        )
    if not types & InterfaceType.DAEMON:
        builder.warn(place, f"daemon {daemon.name!r} has no D interface: it hears no other daemon")
    if not types & InterfaceType.CLIENT:
        builder.warn(
            place,
            f"daemon {daemon.name!r} has no C interface: clients reach it by Unix socket only",
        )
    for address in dict.fromkeys([daemon.address, *addresses]):
        other = seen.setdefault(address, daemon.name)
        if other != daemon.name:
            builder.warn(
                place,
                f"daemons {other!r} and {daemon.name!r} share the address {address}: "
                f"packets from it count as {other!r}",
            )
    if not daemon.name:
        builder.warn(place, "a daemon has an empty name")
    if not daemon.name.isascii():
        builder.warn(
            place,
            f"daemon name {daemon.name!r} is not ASCII: upstream daemons on other "
            "processor kinds may compute another hash",
        )


def _warn(builder: Builder, configuration: Configuration) -> None:
    seen: dict[str, str] = {}
    for daemon in configuration.daemons:
        _warn_of_daemon(builder, daemon, seen)
    for segment, place in zip(configuration.segments, builder.segment_places, strict=True):
        if len(segment.daemons) > 1 and any(
            interface.address == segment.address
            for daemon in segment.daemons
            for interface in daemon.interfaces
        ):
            builder.warn(
                place,
                f"segment address {segment.address} is the address of one daemon: "
                "the others would not hear what is sent to it",
            )
    if configuration.hash == MONITOR_HASH:
        builder.warn(
            None, f"the hash is {MONITOR_HASH}, which marks packets of monitors: rename a daemon"
        )
    if configuration.accelerated_ring is None and not configuration.wide_area:
        builder.warn(
            None,
            "AcceleratedRing is not stated: a reload, even of the same file, switches to the "
            "accelerated ring and another hash, and daemons started later cannot join; state "
            "AcceleratedRing = true or AcceleratedRing = false",
        )
        if configuration.accelerated_window > configuration.personal_window:
            builder.warn(
                None,
                f"a reload will be refused: AcceleratedWindow "
                f"({configuration.accelerated_window}) is larger than PersonalWindow "
                f"({configuration.personal_window}), which counts once AcceleratedRing is true",
            )
    if not configuration.allowed_auth_methods:
        builder.warn(None, "no authentication method is allowed: no client can connect")
    for method in configuration.required_auth_methods:
        if method not in configuration.allowed_auth_methods:
            builder.warn(
                None,
                f"authentication method {method} is required but not among the allowed ones",
            )
    if configuration.timeouts_configured:
        for warning in timeout_warnings(configuration.timeouts):
            builder.warn(None, warning)


def parse(
    text: str | bytes,
    file_name: str | None = None,
    resolver: Resolver | None = None,
    previous: Configuration | None = None,
) -> Configuration:
    """Read the text of a spread.conf.

    ``file_name`` is for messages.  ``resolver`` looks up daemons that stand in the
    file without an address (a function from a name to a dotted quad or None);
    without it such a file is refused.  ``previous`` makes it a reload: options not
    in the text keep their values, authentication methods add up, the timers and
    the LAN/WAN guess stay, and an unstated ``AcceleratedRing`` gets its value.
    :func:`txspread.config.reload` compares the two as well.

    A file without segments is good as far as this function goes; no daemon can be
    found in it.

    Raises :class:`ConfigurationError` and nothing else, whatever the text.
    """
    source = _decode(text, file_name)
    builder = Builder.on_top_of(previous, file_name, resolver)
    builder.run(read_syntax(source, file_name))
    _check_loopback(builder)
    _check_length(builder)
    segments = tuple(builder.segments)
    wide_area = is_wide_area(segments) if previous is None else previous.wide_area
    if previous is not None:
        accelerated = builder.values.get("accelerated_ring", previous.accelerated_ring)
        # Since its start upstream has set an unstated value by LAN or WAN without
        # using it; a reload is where it comes into force.
        builder.values["accelerated_ring"] = (
            accelerated if accelerated is not None else not wide_area
        )
    defaults = previous if previous is not None else Configuration((), 0, False, _NO_TIMEOUTS)
    windows = {
        name: builder.values.get(name, getattr(defaults, name))
        for name in ("window", "personal_window", "accelerated_window")
    }
    in_force = bool(builder.values.get("accelerated_ring"))
    _check_windows(builder, windows, in_force)
    number = configuration_hash(segments, in_force)
    builder.notice_string("The version string", VERSION_TEXT)
    builder.notice_string("Full hash string", hash_string(segments, in_force))
    builder.notice(f"Hash value for this configuration is: {number}", priority=Priority.INFO)
    configuration = attrs.evolve(
        defaults,
        segments=segments,
        hash=number,
        wide_area=wide_area,
        timeouts=_timeouts(builder, wide_area, previous),
        timeouts_configured=(
            bool(builder.timeouts) if previous is None else previous.timeouts_configured
        ),
        event_time_stamp=builder.time_stamp,
        event_precise_time_stamp=builder.microseconds,
        event_priority=builder.event_priority,
        debug_flags=builder.debug_flags,
        allowed_auth_methods=builder.allowed,
        required_auth_methods=builder.required,
        debug_initial_sequence=builder.initial_sequence,
        file_name=file_name,
        authentication_stated=builder.authentication_stated,
        time_stamp_state=(builder.custom_format, builder.precise),
        **builder.values,
    )
    _warn(builder, configuration)
    return attrs.evolve(
        configuration, warnings=tuple(builder.warnings), notices=tuple(builder.notices)
    )


_NO_TIMEOUTS: Final = default_timeouts(wide_area=False)


def load(
    path: str | os.PathLike[str] | None = None,
    resolver: Resolver | None = None,
    previous: Configuration | None = None,
) -> Configuration:
    """Read the spread.conf at ``path``; None: the embedded default configuration.

    The named file is the only one that is tried: unlike upstream, a name with a
    typing error does not silently lead to another file.

    Raises :class:`ConfigurationError`, also when the file cannot be read.
    """
    if path is None:
        data = resources.files("txspread.config").joinpath("default.conf").read_bytes()
        return parse(data, EMBEDDED_NAME, resolver, previous)
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"cannot be read: {reason}", name) from None
    if len(data) > MAX_FILE_SIZE:
        raise ConfigurationError(f"is longer than {MAX_FILE_SIZE} bytes", name)
    configuration = parse(data, name, resolver, previous)
    first = Notice(
        int(Category.PRINT), int(Priority.WARNING), f"Conf_load_conf_file: using file: {name}"
    )
    return attrs.evolve(configuration, notices=(first, *configuration.notices))


def log_file_name(pattern: str, host_name: str) -> str:
    """The file that ``EventLogFile`` means: ``%h`` and ``%H`` become the host name.

    Other percent signs stay as they are.
    """
    result = []
    position = 0
    while position < len(pattern):
        if pattern[position] == "%" and pattern[position + 1 : position + 2] in {"h", "H"}:
            result.append(host_name)
            position += 2
        else:
            result.append(pattern[position])
            position += 1
    return "".join(result)
