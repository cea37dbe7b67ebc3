"""Reading the file again while the daemon runs: what changed, and what may not.

A daemon can follow changes of the other daemons and of most options.  It cannot
follow a change of what it itself is, because its sockets are open and its clients
know it by name: such a file is refused, and the configuration in force stays.
Upstream ends the process there.

Source: ``docs/configuration.md`` section 8.7; upstream ``configuration.c``,
Conf_reload_initiate.
"""

from __future__ import annotations

import os
from typing import Final

from attrs import frozen

from txspread.config.building import Resolver
from txspread.config.errors import ConfigurationError
from txspread.config.model import Configuration, Daemon
from txspread.config.parsing import load

_AT_ONCE: Final = (
    ("Window", "window"),
    ("PersonalWindow", "personal_window"),
    ("AcceleratedRing", "accelerated_ring"),
    ("AcceleratedWindow", "accelerated_window"),
    ("MaxSessionMessages", "max_session_messages"),
    ("DangerousMonitor", "dangerous_monitor"),
    ("AllowedAuthMethods", "allowed_auth_methods"),
    ("RequiredAuthMethods", "required_auth_methods"),
    ("DebugFlags", "debug_flags"),
    ("EventPriority", "event_priority"),
    ("EventLogFile", "event_log_file"),
    ("EventTimeStamp", "event_time_stamp"),
    ("EventPreciseTimeStamp", "event_precise_time_stamp"),
)
_AT_START: Final = (
    ("SocketPortReuse", "socket_port_reuse"),
    ("RuntimeDir", "runtime_dir"),
    ("DaemonUser", "daemon_user"),
    ("DaemonGroup", "daemon_group"),
)


@frozen
class Reload:
    """A new configuration that may take the place of the one in force."""

    configuration: Configuration
    me: Daemon
    """The own entry in the new configuration."""
    added: tuple[Daemon, ...]
    """Daemons of the new file that the old one did not have."""
    removed: tuple[Daemon, ...]
    """Daemons of the old file that the new one does not have."""
    changed: tuple[Daemon, ...]
    """Daemons, as in the new file, whose name, interfaces or segment address changed."""
    reordered: bool
    """The daemons that stay have another order."""
    hash_changed: bool
    """Daemons that have not reloaded yet no longer hear this one."""
    gained_neighbour: bool
    """This daemon was alone in its segment and no longer is."""
    notes: tuple[str, ...]
    """What changed, in words, one line each; empty if nothing did."""

    @property
    def singleton_partition(self) -> bool:
        """The daemon must leave the ring and come back.

        So that nobody takes a changed daemon for the old one, every daemon first
        forms a membership of its own and then looks for the others.
        """
        return bool(self.changed)


def _identity(configuration: Configuration, daemon: Daemon) -> tuple[object, ...]:
    segment = configuration.segments[daemon.segment]
    return (daemon.name, segment.address, daemon.interfaces)


def _refuse(configuration: Configuration, message: str) -> ConfigurationError:
    return ConfigurationError(
        f"reload refused, the old configuration stays: {message}", configuration.file_name
    )


def _own_entry(previous: Configuration, new: Configuration, me: Daemon) -> Daemon:
    found = new.by_id.get(me.id)
    if found is None:
        raise _refuse(new, f"this daemon, {me.name!r} at {me.address}, is no longer in the file")
    changes = []
    if found.name != me.name:
        changes.append(f"name {me.name!r} to {found.name!r}")
    if found.interfaces != me.interfaces:
        changes.append("interfaces")
    old_segment, new_segment = previous.segments[me.segment], new.segments[found.segment]
    if new_segment.address != old_segment.address:
        changes.append(f"segment address {old_segment.address} to {new_segment.address}")
    if new_segment.port != old_segment.port:
        changes.append(f"segment port {old_segment.port} to {new_segment.port}")
    if changes:
        raise _refuse(
            new,
            f"this daemon, {me.name!r} at {me.address}, itself changed "
            f"({'; '.join(changes)}); restart it instead",
        )
    return found


def _port_notes(previous: Configuration, new: Configuration) -> list[str]:
    notes = []
    for daemon in new.daemons:
        old = previous.by_id.get(daemon.id)
        if old is not None and old.port != daemon.port:
            notes.append(
                f"port of {daemon.name!r} changed from {old.port} to {daemon.port}: "
                "that daemon must be restarted"
            )
    return notes


def _shown(value: object) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return str(getattr(value, "value", value))


def _option_notes(previous: Configuration, new: Configuration) -> list[str]:
    notes = []
    for names, when in ((_AT_ONCE, ""), (_AT_START, ", from the next start on")):
        for name, attribute in names:
            old_value, new_value = getattr(previous, attribute), getattr(new, attribute)
            if old_value != new_value:
                notes.append(f"{name}: {_shown(old_value)} to {_shown(new_value)}{when}")
    return notes


def compare(previous: Configuration, new: Configuration, me: Daemon) -> Reload:
    """Compare the configuration in force with one read over it.

    ``new`` comes from :func:`txspread.config.parse` or ``load`` with ``previous``
    given; ``me`` is the own entry in ``previous``.

    Raises :class:`ConfigurationError` if the new file no longer has this daemon, or
    has it with another name, other interfaces, or another segment address or port.
    """
    own = _own_entry(previous, new, me)
    added = tuple(daemon for daemon in new.daemons if daemon.id not in previous.by_id)
    removed = tuple(daemon for daemon in previous.daemons if daemon.id not in new.by_id)
    changed = tuple(
        daemon
        for daemon in new.daemons
        if daemon.id in previous.by_id
        and _identity(new, daemon) != _identity(previous, previous.by_id[daemon.id])
    )
    stay = [daemon.id for daemon in new.daemons if daemon.id in previous.by_id]
    reordered = stay != [daemon.id for daemon in previous.daemons if daemon.id in new.by_id]
    alone = len(previous.segments[me.segment].daemons) == 1
    gained = alone and len(new.segments[own.segment].daemons) > 1
    notes = [f"daemon {daemon.name!r} at {daemon.address} added" for daemon in added]
    notes += [f"daemon {daemon.name!r} at {daemon.address} removed" for daemon in removed]
    notes += [f"daemon {daemon.name!r} at {daemon.address} changed" for daemon in changed]
    if reordered:
        notes.append("order of the daemons changed")
    if gained:
        notes.append("this daemon is no longer alone in its segment")
    notes += _port_notes(previous, new)
    notes += _option_notes(previous, new)
    if new.hash != previous.hash:
        notes.append(
            f"hash changed from {previous.hash} to {new.hash}: daemons that have not reloaded "
            "no longer hear this one"
        )
    return Reload(
        configuration=new,
        me=own,
        added=added,
        removed=removed,
        changed=changed,
        reordered=reordered,
        hash_changed=new.hash != previous.hash,
        gained_neighbour=gained,
        notes=tuple(notes),
    )


def reload(
    previous: Configuration,
    me: Daemon,
    path: str | os.PathLike[str] | None,
    resolver: Resolver | None = None,
) -> Reload:
    """Read the file at ``path`` again and compare it with the configuration in force.

    Options that the file leaves out keep their values; the timers, the LAN/WAN
    guess and what belongs to the start of a process stay as they are.  An
    ``AcceleratedRing`` that was never stated becomes true on a LAN and false on a
    WAN, and with it the protocol and the hash: upstream's daemons do the same.

    Raises :class:`ConfigurationError` for a file that is wrong in itself or that
    changes what this daemon is; ``previous`` is then still good.
    """
    return compare(previous, load(path, resolver, previous), me)
