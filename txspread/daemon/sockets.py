"""Which sockets a daemon opens, with which options, and opening them.

The plan is data, made from the configuration alone, so that ``--check`` and the
tests can look at it; opening follows the plan.

Source: ``docs/protocol/daemon-datagrams.md`` sections 1.1 and 1.2,
``docs/configuration.md`` section 7, ``docs/protocol/client-session.md``
section 1.2.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import Final

from attrs import frozen

from txspread.config.model import Configuration, Daemon, InterfaceType, PortReuse
from txspread.engine.node_interfaces import Channel

ANY_ADDRESS: Final = "0.0.0.0"
TCP_BACKLOG: Final = 511
"""More than upstream's 25: nobody waits for an accept here, and a burst is not refused."""
DATAGRAM_BUFFER: Final = 4 * 1024 * 1024
"""SO_RCVBUF and SO_SNDBUF asked for on datagram sockets, bytes."""
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33


class SocketError(Exception):
    """A socket that the daemon needs cannot be had: in use, or not this machine's address."""


@frozen
class DatagramBinding:
    """One receiving UDP socket."""

    channel: Channel
    address: str
    port: int
    multicast_group: str | None = None
    """Group to join; None: SO_BROADCAST is set instead."""
    multicast_interface: str = ANY_ADDRESS


@frozen
class StreamBinding:
    """One TCP listener."""

    address: str
    port: int
    reuse_address: bool


def _is_multicast(address: str) -> bool:
    return 224 <= int(address.split(".", 1)[0]) <= 239


def datagram_plan(configuration: Configuration, me: Daemon) -> list[DatagramBinding]:
    """The receiving UDP sockets of a daemon, in the order they are opened."""
    segment = configuration.segments[me.segment]
    port, token_port = segment.port, (segment.port + 1) & 0xFFFF
    broadcasts = len(segment.daemons) > 1
    group = segment.address if broadcasts and _is_multicast(segment.address) else None
    plan: list[DatagramBinding] = []
    segment_bound = not broadcasts
    for interface in me.interfaces:
        if interface.types & InterfaceType.ANY:
            plan.append(DatagramBinding(Channel.DATA, ANY_ADDRESS, port, group))
            plan.append(DatagramBinding(Channel.TOKEN, ANY_ADDRESS, token_port))
        elif interface.types & InterfaceType.DAEMON:
            if not segment_bound:
                segment_bound = True
                plan.append(DatagramBinding(Channel.DATA, segment.address, port, group))
            address = interface.address
            joins_on = ANY_ADDRESS if group is None else address
            plan.append(DatagramBinding(Channel.DATA, address, port, group, joins_on))
            plan.append(DatagramBinding(Channel.TOKEN, address, token_port))
    return plan


def stream_plan(configuration: Configuration, me: Daemon) -> list[StreamBinding]:
    """The TCP listeners of a daemon."""
    port = configuration.segments[me.segment].port
    reuse = configuration.socket_port_reuse
    plan: list[StreamBinding] = []
    for interface in me.interfaces:
        if interface.types & InterfaceType.ANY:
            plan.append(StreamBinding(ANY_ADDRESS, port, reuse is PortReuse.ON))
        elif interface.types & InterfaceType.CLIENT:
            plan.append(StreamBinding(interface.address, port, reuse is not PortReuse.OFF))
    return plan


def token_addresses(configuration: Configuration) -> list[tuple[str, int]]:
    """Where tokens may be sent: every daemon's address and token port."""
    return [
        (daemon.address, (configuration.segments[daemon.segment].port + 1) & 0xFFFF)
        for daemon in configuration.daemons
    ]


def open_datagram_socket(binding: DatagramBinding) -> socket.socket:
    """Open and bind one receiving socket.

    Raises:
        SocketError: with upstream's wording.

    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        opened.setblocking(False)
        try:
            opened.bind((binding.address, binding.port))
        except OSError as error:
            raise SocketError(
                f"DL_init_channel: bind error ({error.errno}): {error.strerror} for port "
                f"{binding.port}, with sockaddr ({binding.address}: {binding.port}) "
                "probably already running"
            ) from error
        if binding.multicast_group is None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        else:
            request = struct.pack(
                "4s4s",
                socket.inet_aton(binding.multicast_group),
                socket.inet_aton(binding.multicast_interface),
            )
            try:
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            except OSError as error:
                raise SocketError(
                    f"DL_init_channel: problem (errno {error.errno}:{error.strerror}) in "
                    f"setsockopt to multicast address {binding.multicast_group}"
                ) from error
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, b"\0")
    except BaseException:
        opened.close()
        raise
    return opened


def open_sending_socket() -> socket.socket:
    """Open the one socket through which all datagrams leave, unbound."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    return opened


def enlarge_buffer(opened: socket.socket, *, receive: bool, size: int = DATAGRAM_BUFFER) -> int:
    """Ask for a kernel buffer of ``size`` bytes; returns the size that is in force.

    A privileged process may exceed the system's limit.  The kernel counts its own
    overhead into double the size it reports; half of that is returned.
    """
    option, force = (
        (socket.SO_RCVBUF, _SO_RCVBUFFORCE) if receive else (socket.SO_SNDBUF, _SO_SNDBUFFORCE)
    )
    try:
        opened.setsockopt(socket.SOL_SOCKET, option, size)
    except OSError:
        pass  # some systems refuse instead of giving less: what counts is read back
    if opened.getsockopt(socket.SOL_SOCKET, option) // 2 < size:
        try:
            opened.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:
            pass  # not privileged, or not Linux
    return opened.getsockopt(socket.SOL_SOCKET, option) // 2


def open_stream_listener(binding: StreamBinding) -> socket.socket:
    """Open one TCP listener.

    Raises:
        SocketError: with upstream's wording, and the system's reason.

    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if binding.reuse_address else 0)
        opened.bind((binding.address, binding.port))
        opened.listen(TCP_BACKLOG)
    except OSError as error:
        opened.close()
        raise SocketError(
            f"Sess_init: INET unable to bind to port {binding.port}, already running "
            f"({binding.address}: {error.strerror})"
        ) from error
    return opened


class UnixListener:
    """The Unix-domain listener and the file that names it.

    A file left behind by a daemon that is gone is replaced; one that somebody
    still listens on is not, and neither is anything that is not a socket.

    Raises:
        SocketError: it cannot be had.

    """

    def __init__(self, directory: str, port: int) -> None:
        self.path = os.path.join(directory, str(port))
        self._name = str(port)
        self._remove_stale()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.setblocking(False)
            self.socket.bind(self.path)
            os.chmod(self.path, 0o666)
            self.socket.listen(TCP_BACKLOG)
            self._identity = self._identify()
            # Kept open: the file can be removed from inside a changed root.
            self._directory = os.open(
                directory, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
            )
        except OSError as error:
            self.socket.close()
            raise SocketError(
                f"Sess_init: UNIX unable to bind to name {self.path}, already running "
                f"({error.strerror})"
            ) from error

    def _identify(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_dev, status.st_ino

    def _remove_stale(self) -> None:
        try:
            mode = os.lstat(self.path).st_mode
        except OSError:
            return  # no such file: nothing to remove; anything worse shows at bind
        refusal = f"Sess_init: UNIX unable to bind to name {self.path}, "
        if not stat.S_ISSOCK(mode):
            raise SocketError(refusal + "which is not a socket; remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                pass
            except OSError as error:
                if error.errno == errno.EAGAIN:  # its backlog is full, so it lives
                    raise SocketError(refusal + "already running") from None
            else:
                raise SocketError(refusal + "already running")
        try:
            os.unlink(self.path)
        except OSError as error:
            raise SocketError(refusal + f"stale and not removable ({error.strerror})") from error

    def give_to(self, user: int, group: int) -> None:
        """Hand the file to the user the daemon becomes, who must remove it later."""
        os.chown(self._name, user, group, dir_fd=self._directory, follow_symlinks=False)

    def close(self) -> None:
        """Stop listening and remove the file, unless it is another daemon's by now."""
        if self._directory < 0:
            return
        try:
            status = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self._name, dir_fd=self._directory)
        except OSError:
            pass  # gone already, or not ours to remove any more
        os.close(self._directory)
        self._directory = -1
        self.socket.close()
