"""Spread names: how a program says which daemon it wants.

============================  ==============================================
``""`` or ``None``            the Unix socket ``/tmp/4803``
``PORT``                      the Unix socket ``/tmp/PORT`` on this machine
``PORT@HOST``                 TCP
``tcp:HOST:PORT``             TCP, written as a Twisted endpoint
``tcp:host=HOST:port=PORT``   the same with names
``unix:PATH``                 a Unix socket anywhere
``KIND:...``                  any other Twisted client endpoint (Twisted API only)
============================  ==============================================

The first three are upstream's (``docs/protocol/client-session.md`` section 1.1).  As
there, white space around the port and after the host is tolerated and text of
71 characters or more is refused; unlike there, the port must be in 1..65535
instead of being reduced modulo 65536.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from attrs import frozen

from txspread.client.errors import IllegalSpread
from txspread.wire.constants import DEFAULT_SPREAD_PORT, SpreadCode

UNIX_DIRECTORY: Final = "/tmp"
MAX_SPREAD_NAME: Final = 70

_UPSTREAM_FORM: Final = re.compile(r"\s*\+?(\d+)\s*(?:@(\S*)(?:\s.*)?)?\Z", re.DOTALL)
_ENDPOINT_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*:")


@frozen
class TcpAddress:
    """A daemon reached over TCP."""

    host: str
    port: int


@frozen
class UnixAddress:
    """A daemon on this machine, reached through a Unix socket."""

    path: str


@frozen
class EndpointAddress:
    """A Twisted client endpoint of a kind that only Twisted can connect."""

    description: str


SpreadAddress: TypeAlias = TcpAddress | UnixAddress | EndpointAddress


def parse_spread_name(name: str | None, unix_directory: str = UNIX_DIRECTORY) -> SpreadAddress:
    """Turn a Spread name into an address.

    :raises IllegalSpread: with the reason, for text that is none of the forms.
    """
    if not name:
        return UnixAddress(f"{unix_directory}/{DEFAULT_SPREAD_PORT}")
    if _ENDPOINT_KIND.match(name):
        return _parse_endpoint(name)
    if len(name) > MAX_SPREAD_NAME:
        raise _illegal(name[:20] + "...", f"longer than {MAX_SPREAD_NAME} characters")
    match = _UPSTREAM_FORM.match(name)
    if match is None:
        raise _illegal(name, "expected PORT, PORT@HOST, tcp:HOST:PORT or unix:PATH")
    port = _port(name, match[1])
    host: str | None = match[2]
    if host is None:
        return UnixAddress(f"{unix_directory}/{port}")
    if not host or "@" in host:
        raise _illegal(name, "no usable host after '@'")
    return TcpAddress(host, port)


def _parse_endpoint(name: str) -> SpreadAddress:
    """Read the endpoint forms, split by Twisted's rules (a colon in a part is escaped)."""
    kind, *parts = (
        part.replace("\\:", ":").replace("\\\\", "\\") for part in re.split(r"(?<!\\):", name)
    )
    positional = [part for part in parts if not re.match(r"[A-Za-z]+=", part)]
    named = dict(part.split("=", 1) for part in parts if re.match(r"[A-Za-z]+=", part))
    if kind == "tcp" and set(named) <= {"host", "port"} and len(positional) + len(named) == 2:
        host = named.get("host") or (positional.pop(0) if positional else "")
        port = named.get("port") or (positional.pop(0) if positional else "")
        if not host or positional:
            raise _illegal(name, "expected tcp:HOST:PORT")
        return TcpAddress(host.strip("[]"), _port(name, port))
    if kind == "unix" and set(named) <= {"path"} and len(positional) + len(named) == 1:
        path = named.get("path") or (positional[0] if positional else "")
        if not path:
            raise _illegal(name, "expected unix:PATH")
        return UnixAddress(path)
    if kind == "tcp" and not named:
        raise _illegal(name, "expected tcp:HOST:PORT")
    return EndpointAddress(name)


def _port(name: str, text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:
        raise _illegal(name, f"{text!r} is no port from 1 to 65535")
    return port


def _illegal(name: str, reason: str) -> IllegalSpread:
    return IllegalSpread(SpreadCode.ILLEGAL_SPREAD, f"{name!r}: {reason}")
