"""What a configuration means, in words: the report of ``txspread --check``.

Source: ``docs/configuration.md`` section 9.
"""

from __future__ import annotations

from txspread.config.hashing import Dialect, configuration_hash
from txspread.config.model import Configuration, Daemon, Interface, InterfaceType, Segment
from txspread.config.options import TIMEOUT_OPTIONS
from txspread.config.timeouts import detection

_SERVED = (
    (InterfaceType.DAEMON, "daemons"),
    (InterfaceType.CLIENT, "clients"),
    (InterfaceType.MONITOR, "monitors"),
)


def check_report(configuration: Configuration, me: Daemon | None) -> str:
    """Describe a configuration for a person, several lines, no line end at the end.

    Segments and ids, the hash in decimal and hexadecimal (also the one after a
    reload where it differs), timers, windows, expected detection times, and every
    warning.  ``me`` is the entry that this machine would run as; None leaves those
    lines out, for a file that is checked on another machine.
    """
    lines = [f"Configuration: {configuration.file_name or 'given as text'}"]
    lines += _hash_lines(configuration)
    lines += _segment_lines(configuration, me)
    if me is not None:
        lines += _own_lines(configuration, me)
    lines += _ring_lines(configuration)
    lines += _timeout_lines(configuration)
    lines += _service_lines(configuration)
    if configuration.warnings:
        lines.append(f"Warnings: {len(configuration.warnings)}")
        lines += [f"  {warning}" for warning in configuration.warnings]
    else:
        lines.append("Warnings: none")
    return "\n".join(lines)


def _number(value: int) -> str:
    return f"{value} (0x{value:08x})"


def _hash_lines(configuration: Configuration) -> list[str]:
    lines = [f"Hash: {_number(configuration.hash)}; must be the same at every daemon"]
    if configuration.accelerated_ring is None and not configuration.wide_area:
        later = configuration_hash(configuration.segments, accelerated=True)
        lines.append(f"  after a reload: {_number(later)}, because AcceleratedRing is not stated")
    others: tuple[Dialect, ...] = ("4.3", "5.0")
    accelerated = bool(configuration.accelerated_ring)
    shown = ", ".join(
        f"Spread {dialect}: "
        f"{_number(configuration_hash(configuration.segments, accelerated, dialect))}"
        for dialect in others
    )
    lines.append(f"  of the same segments by other versions, which are other rings: {shown}")
    return lines


def _segment_kind(segment: Segment) -> str:
    if len(segment.daemons) == 1:
        return "one daemon, nothing is broadcast"
    first = int(segment.address.split(".")[0])
    return "IP multicast" if 224 <= first <= 239 else "broadcast"


def _serves(interface: Interface) -> str:
    served = ", ".join(word for bit, word in _SERVED if interface.types & bit)
    where = "any address" if interface.types & InterfaceType.ANY else interface.address
    return f"{where}: {served}"


def _segment_lines(configuration: Configuration, me: Daemon | None) -> list[str]:
    area = "WAN" if configuration.wide_area else "LAN"
    lines = [
        f"Segments: {len(configuration.segments)}; daemons: {len(configuration.daemons)}; {area}"
    ]
    for segment in configuration.segments:
        lines.append(
            f"  Segment {segment.index}: {segment.address}:{segment.port} "
            f"({_segment_kind(segment)})"
        )
        for daemon in segment.daemons:
            mark = "  <- this daemon" if daemon is me or daemon == me else ""
            lines.append(
                f"    {daemon.name:<19} {daemon.address:<15} id {_number(daemon.id)}{mark}"
            )
            if not daemon.interfaces[0].types & InterfaceType.ANY:
                lines += [f"      {_serves(interface)}" for interface in daemon.interfaces]
    return lines


def _own_lines(configuration: Configuration, me: Daemon) -> list[str]:
    data = ", ".join(
        "any address" if interface.types & InterfaceType.ANY else interface.address
        for interface in me.interfaces
        if interface.types & (InterfaceType.DAEMON | InterfaceType.ANY)
    )
    clients = ", ".join(
        "any address" if interface.types & InterfaceType.ANY else interface.address
        for interface in me.interfaces
        if interface.types & (InterfaceType.CLIENT | InterfaceType.ANY)
    )
    position = configuration.position[me.id] + 1
    return [
        f"This daemon: {me.name}, {me.address}, id {_number(me.id)}, "
        f"number {position} of {len(configuration.daemons)} in ring order",
        f"  daemons: UDP ports {me.port} (data) and {(me.port + 1) % 65536} (token) "
        f"on {data or 'no address'}",
        f"  clients: TCP port {me.port} on {clients or 'no address'}; Unix socket {me.port} "
        "in the socket directory (/tmp by default)",
    ]


def _ring_lines(configuration: Configuration) -> list[str]:
    ring = "accelerated" if configuration.accelerated_ring else "regular"
    if configuration.accelerated_ring is None and not configuration.wide_area:
        ring += ", accelerated after a reload (AcceleratedRing is not stated)"
    return [
        f"Ring protocol: {ring}",
        f"Windows: Window {configuration.window}, PersonalWindow "
        f"{configuration.personal_window}, AcceleratedWindow {configuration.accelerated_window}",
    ]


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms"


def _timeout_lines(configuration: Configuration) -> list[str]:
    source = "stated in the file"
    if not configuration.timeouts_configured:
        source = "defaults for a WAN" if configuration.wide_area else "defaults for a LAN"
    values = ", ".join(
        f"{option.removesuffix('Timeout')} {round(getattr(configuration.timeouts, name) * 1000)}"
        for option, name in TIMEOUT_OPTIONS.items()
    )
    expected = detection(configuration.timeouts)
    return [
        f"Timeouts in milliseconds ({source}): {values}",
        "Expected times, to the membership message at the clients:",
        f"  a daemon starts or joins: {_milliseconds(expected.start)}",
        f"  a daemon dies: {_milliseconds(expected.crash_idle)} (idle ring) to "
        f"{_milliseconds(expected.crash_busy)} (busy ring)",
        f"  a network parted heals, nobody sending: at most {_milliseconds(expected.heal)}",
    ]


def _service_lines(configuration: Configuration) -> list[str]:
    allowed = " ".join(configuration.allowed_auth_methods) or "none"
    required = " ".join(configuration.required_auth_methods) or "none"
    lines = [
        f"Clients: authentication allowed {allowed}, required {required}; cut off at "
        f"{configuration.max_session_messages} queued messages",
        "Monitor: "
        + (
            "may partition and stop daemons" if configuration.dangerous_monitor else "may look only"
        ),
    ]
    log = configuration.event_log_file or "standard output"
    lines.append(f"Log: {log}")
    return lines
