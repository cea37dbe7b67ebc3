"""Finding the daemon of the configuration that this process is to be.

Source: ``docs/configuration.md`` section 4; upstream
``configuration.c``, Conf_load_conf_file.
"""

from __future__ import annotations

from collections.abc import Iterable

from txspread.config.errors import ConfigurationError
from txspread.config.model import Configuration, Daemon
from txspread.wire.constants import MAX_PROC_NAME


def find_me(
    configuration: Configuration,
    name: str | None,
    host_name: str,
    addresses: Iterable[str],
) -> Daemon:
    """Find the entry that the local daemon is to run as.

    With a ``name`` it is the entry of exactly that name; whether its address
    belongs to this machine is not checked.  Otherwise the local ``addresses``
    (dotted quads) are tried in order, and the first that is an interface address
    of some daemon decides, first daemon in the file first.  The caller passes
    them in upstream's order: what the host lookup of ``host_name`` gives, then
    those of the network interfaces as the kernel lists them.  ``host_name`` itself
    serves messages only.

    Raises :class:`ConfigurationError` if there is no entry, or if the entry cannot
    run because its own address is not among its interfaces.
    """
    if name is not None:
        return _check(configuration, _by_name(configuration, name))
    tried = []
    for address in addresses:
        if address == "0.0.0.0":
            continue
        tried.append(address)
        for daemon in configuration.daemons:
            if any(interface.address == address for interface in daemon.interfaces):
                return _check(configuration, daemon)
    raise ConfigurationError(
        f"none of the addresses of this machine ({host_name}: {', '.join(tried) or 'none'}) "
        "is in the configuration; state the daemon with -n NAME",
        configuration.file_name,
    )


def _by_name(configuration: Configuration, name: str) -> Daemon:
    length = len(name.encode("utf-8", "surrogateescape"))
    if length >= MAX_PROC_NAME:
        raise ConfigurationError(
            f"the daemon name {name!r} has {length} bytes; {MAX_PROC_NAME - 1} are allowed",
            configuration.file_name,
        )
    daemon = configuration.by_name.get(name)
    if daemon is None:
        names = ", ".join(repr(daemon.name) for daemon in configuration.daemons[:20])
        more = len(configuration.daemons) - 20
        raise ConfigurationError(
            f"daemon {name!r} is not in the configuration; it has "
            + (names or "no daemons")
            + (f" and {more} more" if more > 0 else ""),
            configuration.file_name,
        )
    return daemon


def _check(configuration: Configuration, daemon: Daemon) -> Daemon:
    if all(interface.address != daemon.address for interface in daemon.interfaces):
        raise ConfigurationError(
            f"daemon {daemon.name!r} cannot run: its address {daemon.address} "
            "is not among its interfaces",
            configuration.file_name,
        )
    return daemon
