"""A monitor's PARTITION commands: cut the network in parts, or end this daemon.

A command carries a component number for each configured daemon.  It is obeyed
only with ``DangerousMonitor``, only from what marks itself as a monitor and names a
configured daemon.  The number -1 for this daemon ends it.  Every obeyed command, the
one that cancels (all numbers 0) too, starts a timer of 60 seconds after which the
partition is forgotten; a monitor repeats itself every 25 seconds.

The rings that result find each other again only by their leaders' probes
(``docs/protocol/membership.md`` section 9.2), as after a real partition.

Source: ``docs/protocol/daemon-datagrams.md`` sections 10.3 and 12; upstream
``network.c``, Net_recv.
"""

from __future__ import annotations

from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.membership.roster import Roster
from txspread.engine.node_interfaces import Host
from txspread.engine.ring_interfaces import Timer, Timers
from txspread.engine.routing import Routing
from txspread.wire.datagram import MONITOR_MAGIC
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import format_address
from txspread.wire.monitor import decode_partition
from txspread.wire.packet import PACKET_HEADER_SIZE, PacketHeader

PARTITION_TIMEOUT: Final = 60.0
"""Seconds after the last command until the partition is forgotten."""
TERMINATE: Final = -1
"""Component number that ends the daemon."""


class PartitionCommands:
    """Carries out what PARTITION datagrams say."""

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        routing: Routing,
        timers: Timers,
        host: Host,
        alarms: AlarmSink,
    ) -> None:
        self._routing = routing
        self._timers = timers
        self._host = host
        self._alarms = alarms
        self.ignored = 0
        """Commands that were not a monitor's, or too short."""
        self.denied = 0
        """Commands refused because the configuration forbids them."""
        self.reconfigure(me, configuration)

    def reconfigure(self, me: Daemon, configuration: Configuration) -> None:
        """Go on with another configuration."""
        self._dangerous = configuration.dangerous_monitor
        self._roster = Roster(configuration)
        self._place = configuration.daemons.index(me)

    def command(self, header: PacketHeader, data: bytes) -> None:
        """Take a PARTITION datagram that :meth:`Routing.receive_packet` handed out."""
        if header.memb_id.proc_id != MONITOR_MAGIC or self._roster.find(header.proc_id) is None:
            self.ignored += 1
            return
        if not self._dangerous:
            self.denied += 1
            if not self.denied & (self.denied - 1):
                # The 1st, 2nd, 4th, 8th ... line: anybody can send these.
                self._alarms.alarm(
                    Category.PRINT,
                    Priority.WARNING,
                    "Net_recv: Request to set partition or kill daemons from (%s) denied. "
                    "Monitor in safe mode",
                    format_address(header.proc_id),
                )
            return
        try:
            components = decode_partition(
                data[PACKET_HEADER_SIZE:], len(self._roster.daemons), header.byteorder
            )
        except ProtocolError:
            self.ignored += 1
            return
        mine = components[self._place]
        if mine == TERMINATE:
            self._host.leave("Net_recv: Instructed to exit by monitor")
            return
        self._routing.set_components(components)
        self._timers.start(Timer.PARTITION, PARTITION_TIMEOUT)
        self._alarms.alarm(
            Category.PRINT, Priority.WARNING, "Net_recv: Got monitor message, component %d", mine
        )
