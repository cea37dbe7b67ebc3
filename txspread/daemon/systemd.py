"""What systemd and a daemon tell each other: readiness, and sockets handed down.

Both are the documented protocols of ``sd_notify(3)`` and ``sd_listen_fds(3)``, done
with a datagram and three environment variables.  Without systemd nothing happens.

Sockets that are handed down stand in for those the daemon would open for clients at
the same address: a TCP listener for a client address of the configuration, a Unix
stream listener for the one in the socket directory.  Clients can then connect, and
wait, while the daemon restarts.  Sockets for daemons cannot be handed down: what waits
in them is of an earlier ring.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST: Final = 3
_MOST: Final = 64


class ServiceManager:
    """The service manager, told of readiness; nobody where there is none.

    The socket stays open: it may be out of reach once privileges are given up.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._socket: socket.socket | None = None
        self.watchdog_seconds: float | None = None
        """How often to send ``WATCHDOG=1`` at most; None if it is not wanted."""
        address = variables.pop("NOTIFY_SOCKET", "")
        microseconds = variables.pop("WATCHDOG_USEC", "")
        process = variables.pop("WATCHDOG_PID", str(os.getpid()))
        if address[:1] not in {"/", "@"}:
            return
        if address[0] == "@":
            address = "\0" + address[1:]
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        opened.setblocking(False)
        try:
            opened.connect(address)
        except OSError:
            opened.close()
            return
        self._socket = opened
        if microseconds.isdigit() and int(microseconds) and process == str(os.getpid()):
            self.watchdog_seconds = int(microseconds) / 1e6

    @property
    def present(self) -> bool:
        """Whether there is somebody to tell."""
        return self._socket is not None

    def tell(self, *lines: str) -> None:
        """Send assignments, for instance ``READY=1``; a manager that is gone hears nothing."""
        if self._socket is not None:
            try:
                self._socket.send("\n".join(lines).encode())
            except OSError:
                pass  # gone, or its buffer is full: the next one says the same

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def inherited_sockets(
    environment: MutableMapping[str, str] | None = None, first: int = _FIRST
) -> list[socket.socket]:
    """Take over the listening stream sockets handed down; the variables are removed.

    Descriptors that are no listening stream sockets are closed.
    """
    variables = os.environ if environment is None else environment
    process, count = variables.pop("LISTEN_PID", ""), variables.pop("LISTEN_FDS", "")
    variables.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for descriptor in range(first, first + min(int(count), _MOST)):
        try:
            os.set_inheritable(descriptor, False)
            inherited = socket.socket(fileno=descriptor)
        except OSError:
            continue  # not open, or no socket
        if _listens(inherited):
            inherited.setblocking(False)
            found.append(inherited)
        else:
            inherited.close()
    return found


def _listens(inherited: socket.socket) -> bool:
    try:
        return (
            inherited.type == socket.SOCK_STREAM
            and inherited.family in {socket.AF_INET, socket.AF_UNIX}
            and bool(inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        )
    except OSError:
        return False


class Inherited:
    """Sockets that wait for their use; those that nobody takes are closed."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = list(sockets)

    def take_tcp(self, address: str, port: int) -> socket.socket | None:
        """The listener bound to exactly this address and port, if there is one."""
        return self._take(socket.AF_INET, (address, port))

    def take_unix(self, path: str) -> socket.socket | None:
        """The listener bound to this path, if there is one."""
        return self._take(socket.AF_UNIX, path)

    def _take(self, family: socket.AddressFamily, name: object) -> socket.socket | None:
        for inherited in self._sockets:
            if inherited.family == family and inherited.getsockname() == name:
                self._sockets.remove(inherited)
                return inherited
        return None

    def close(self) -> list[str]:
        """Close what nobody has taken; their names, for a warning."""
        left = [str(inherited.getsockname()) for inherited in self._sockets]
        for inherited in self._sockets:
            inherited.close()
        self._sockets.clear()
        return left


class InheritedUnixListener:
    """A Unix listener whose file belongs to the service manager."""

    def __init__(self, inherited: socket.socket, path: str) -> None:
        self.socket = inherited
        self.path = path

    def give_to(self, user: int, group: int) -> None:
        """Leave the file's owner to the service manager."""

    def close(self) -> None:
        """Stop listening here; the file stays, others may wait in the socket."""
        self.socket.close()
