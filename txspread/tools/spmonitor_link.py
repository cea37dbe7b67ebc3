"""A monitor's end of the conversation with daemons: who it is, asking, listening.

A monitor speaks in the name of a configured daemon of its own machine: daemons send
their answers to that daemon's address, at the UDP port the monitor names.  Only STATUS
is answered.

Source: ``docs/protocol/monitoring-and-tools.md`` section 1.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from typing import Final

from txspread.config import Configuration, ConfigurationError, find_me, load
from txspread.config.model import Daemon, address_id
from txspread.daemon.addresses import local_addresses, resolve
from txspread.engine.alarms import Category
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.monitor import (
    LEAVE_WINDOW,
    TERMINATE,
    FlowControl,
    Status,
    decode_status_reply,
    encode_flow_control,
    encode_partition,
    encode_reload,
    encode_status_request,
)

SEARCHED: Final = ("spread.conf", "/usr/local/etc/spread.conf", "/etc/spread.conf")
"""Where a configuration is looked for unless one is named."""
MONITOR_NAME: Final = "Monitor"
"""A name that needs no entry in the file: the address is this machine's."""
_MAX_REPLY: Final = 2048


class BindError(Exception):
    """The port on which answers are to arrive cannot be had."""


def load_configuration(name: str) -> tuple[Configuration, list[str]]:
    """Read a file; also the lines that a monitor prints of it, in upstream's words.

    Raises :class:`ConfigurationError`.
    """
    configuration = load(name, resolve)
    lines = [
        notice.text
        for notice in configuration.notices
        if notice.category & Category.PRINT and "Dangerous Monitor" not in notice.text
    ]
    return configuration, lines


def identity(configuration: Configuration, name: str | None) -> ProcId:
    """In whose name to speak.

    Raises :class:`ConfigurationError` if the file has nobody for that.
    """
    host = socket.gethostname()
    if name == MONITOR_NAME and MONITOR_NAME not in configuration.by_name:
        address = resolve(host)
        if address is None:
            raise ConfigurationError(f"this machine's name {host!r} has no address")
        return address_id(address)
    addresses = () if name is not None else local_addresses()
    return find_me(configuration, name, host, addresses).id


class MonitorLink:
    """Sends requests to daemons and takes their answers.

    Args:
        configuration: names the daemons.
        me: in whose name to speak.
        port: UDP port for answers; 0 lets the system choose one.

    Raises:
        BindError: the port is in use.

    """

    def __init__(self, configuration: Configuration, me: ProcId, port: int = 0) -> None:
        self.configuration = configuration
        self.me = me
        self._sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._receiving.bind(("", port))
        except OSError as error:
            self.close()
            raise BindError(
                f"DL_init_channel: bind error ({error.errno}): {error.strerror} for port {port}, "
                f"with sockaddr (0.0.0.0: {port}) probably already running"
            ) from None
        self._receiving.setblocking(False)
        self.port = int(self._receiving.getsockname()[1])

    def fileno(self) -> int:
        """Descriptor that becomes readable when an answer is there."""
        return self._receiving.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._sending.close()
        self._receiving.close()

    def _send(self, datagram: bytes, daemons: Iterable[Daemon], copies: int = 1) -> None:
        for daemon in daemons:
            for _ in range(copies):
                try:
                    self._sending.sendto(datagram, (daemon.address, daemon.port))
                except OSError:
                    pass  # an unreachable daemon is silent, as one that does not run

    def ask_status(self, daemons: Iterable[Daemon]) -> None:
        """Ask each of these for its status."""
        self._send(encode_status_request(self.me, self.port), daemons)

    def send_partition(self, components: Sequence[int], daemons: Iterable[Daemon]) -> None:
        """Tell these a component number for each configured daemon, twice."""
        self._send(encode_partition(components, self.me, self.port), daemons, 2)

    def send_flow_control(self, windows: FlowControl, daemons: Iterable[Daemon]) -> None:
        """Tell these their windows, twice."""
        self._send(encode_flow_control(windows, self.me, self.port), daemons, 2)

    def send_reload(self, daemons: Iterable[Daemon]) -> None:
        """Have these read their configuration again."""
        self._send(encode_reload(self.me, self.port), daemons)

    def terminate(self, chosen: Sequence[Daemon], components: Sequence[int]) -> None:
        """End the chosen daemons; the others' component numbers stay as given."""
        ends = {daemon.id for daemon in chosen}
        values = [
            TERMINATE if daemon.id in ends else component
            for daemon, component in zip(self.configuration.daemons, components, strict=True)
        ]
        self.send_partition(values, chosen)

    def receive(self) -> Status | None:
        """An answer that has arrived; None if there is none, or no good one."""
        try:
            data = self._receiving.recv(_MAX_REPLY)
        except OSError:
            return None
        try:
            return decode_status_reply(data)[1]
        except ProtocolError:
            return None

    def collect(self, daemons: Sequence[Daemon], seconds: float) -> dict[ProcId, Status]:
        """Ask these and wait for their answers; who stays silent is missing in the result.

        The question is repeated halfway, in case a datagram was lost.
        """
        wanted = {daemon.id for daemon in daemons}
        found: dict[ProcId, Status] = {}
        start = time.monotonic()
        self.ask_status(daemons)
        repeated = False
        self._receiving.setblocking(True)
        try:
            while wanted - found.keys():
                now = time.monotonic() - start
                if now >= seconds:
                    break
                if now >= seconds / 2 and not repeated:
                    repeated = True
                    self.ask_status([one for one in daemons if one.id not in found])
                self._receiving.settimeout(seconds - now if repeated else seconds / 2 - now)
                status = self.receive()
                if status is not None and status.my_id in wanted:
                    found[status.my_id] = status
        finally:
            self._receiving.setblocking(False)
        return found


def unchanged_windows(configuration: Configuration) -> FlowControl:
    """Windows that change nothing."""
    nothing = (LEAVE_WINDOW,) * len(configuration.daemons)
    return FlowControl(LEAVE_WINDOW, nothing, nothing)
