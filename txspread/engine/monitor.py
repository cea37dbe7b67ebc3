"""What a daemon does for monitors: status reports and remote commands.

A monitor is a program beside the ring (``spmonitor``, ``txspmonitor``) that sends
datagrams to the data port.  What routing hands out as a control packet comes here;
the first bit that is set decides (PARTITION, STATUS, FC, RELOAD):

==============  ======================================  ================================
datagram        obeyed if                               effect
==============  ======================================  ================================
PARTITION       monitor, DangerousMonitor, whole body   see :mod:`.routing_partition`
STATUS          monitor                                 one answer, to the address the
                                                        request names
FLOW CONTROL    monitor, DangerousMonitor, whole body   windows of this daemon change
RELOAD          always; with the guard only monitor     the configuration file is read
                and DangerousMonitor                    again
==============  ======================================  ================================

*Monitor* means that the packet has the magic number and speaks for a configured
daemon.  Nothing of this is authenticated, so everything is bounded: answers go to
configured addresses only and at most :data:`ANSWERS` in a second; bodies that are
too short, which upstream fills up with what an earlier packet left in its buffer,
are ignored; requests to read the file that come while one is being carried out count
as one.

Source: ``docs/protocol/monitoring-and-tools.md`` sections 1 and 2; upstream
``status.c``, ``flow_control.c``, ``protocol.c``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.membership.roster import Roster
from txspread.engine.node_interfaces import Host
from txspread.engine.ring.flow import FlowControl
from txspread.engine.routing_partition import PartitionCommands
from txspread.wire import datagram
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import format_address
from txspread.wire.monitor import FlowControl as Windows
from txspread.wire.monitor import Status, encode_status_reply
from txspread.wire.packet import PACKET_HEADER_SIZE, PacketHeader

ANSWERS: Final = 1000
"""Status reports in one second; further requests of that second get none."""


class Request(enum.Enum):
    """What a monitor can ask for, and what becomes of it."""

    ANSWERED = "status requests answered"
    TOO_MANY = "status requests beyond the limit of a second"
    PARTITION = "partition commands received"
    WINDOWS = "flow-control commands obeyed"
    RELOAD = "reload commands obeyed"
    DENIED = "commands refused because DangerousMonitor is off"
    ILLEGAL = "packets that are no monitor's, or too short"


class Monitor:
    """Answers and obeys monitors.

    Args:
        me: this daemon.
        configuration: in force.
        partition: carries PARTITION commands out.
        host: sends answers, is asked to read the file again.
        alarms: where log lines go.
        status: makes a report; gets the time in seconds.
        guard_reload: obey RELOAD only where PARTITION would be obeyed.  Upstream
            lets anyone reload.

    """

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        partition: PartitionCommands,
        host: Host,
        alarms: AlarmSink,
        status: Callable[[float], Status],
        guard_reload: bool = False,
    ) -> None:
        self._partition = partition
        self._host = host
        self._alarms = alarms
        self._status = status
        self._guard_reload = guard_reload
        self.flow = FlowControl.of(configuration)
        """Windows that commands change; the ring's own, where there is one."""
        self.requests: dict[Request, int] = dict.fromkeys(Request, 0)
        """What monitors asked since the start, by what became of it."""
        self._second = 0.0
        self._answers = 0
        self.reconfigure(me, configuration)

    def reconfigure(self, me: Daemon, configuration: Configuration) -> None:
        """Go on with another configuration."""
        self._me = me
        self._configuration = configuration
        self._roster = Roster(configuration)
        self._place = configuration.daemons.index(me)
        self._partition.reconfigure(me, configuration)

    def handle(self, header: PacketHeader, data: bytes, now: float) -> None:
        """Take a control packet that :meth:`Routing.receive_packet` has handed out."""
        kind = header.type
        if kind & datagram.PARTITION:
            self.requests[Request.PARTITION] += 1
            self._partition.command(header, data)
        elif kind & datagram.STATUS:
            self._answer(header, now)
        elif kind & datagram.FC:
            self._set_windows(header, data)
        else:
            self._reload(header)

    def _is_monitor(self, header: PacketHeader) -> bool:
        return (
            header.memb_id.proc_id == datagram.MONITOR_MAGIC
            and self._roster.find(header.proc_id) is not None
        )

    def _answer(self, header: PacketHeader, now: float) -> None:
        asker = self._roster.find(header.proc_id)
        if header.memb_id.proc_id != datagram.MONITOR_MAGIC or asker is None:
            self.requests[Request.ILLEGAL] += 1
            self._alarms.alarm(
                Category.STATUS, Priority.WARNING, "Stat_handle_message: Illegal monitor request"
            )
            return
        if now - self._second >= 1.0:
            self._second = now
            self._answers = 0
        self._answers += 1
        port = header.seq & 0xFFFF
        if self._answers > ANSWERS or not port:
            self.requests[Request.TOO_MANY] += 1
            return
        self.requests[Request.ANSWERED] += 1
        # To the address that was named, which may be any of the daemon's interfaces.
        self._host.send_datagram(
            encode_status_reply(self._status(now), self._me.id),
            (format_address(header.proc_id), port),
        )
        self._alarms.alarm(
            Category.STATUS,
            Priority.INFO,
            "Stat_handle_message: sent status to Monitor at %s",
            asker.name,
        )

    def _set_windows(self, header: PacketHeader, data: bytes) -> None:
        if not self._configuration.dangerous_monitor:
            self.requests[Request.DENIED] += 1
            self._alarms.alarm(
                Category.FLOW_CONTROL,
                Priority.WARNING,
                "FC_handle_message: Request to change flow control from (%s) denied. "
                "Monitor in safe mode",
                format_address(header.proc_id),
            )
            return
        windows = None
        if self._is_monitor(header):
            try:
                windows = Windows.decode_body(
                    data[PACKET_HEADER_SIZE:], len(self._roster.daemons), header.byteorder
                )
            except ProtocolError:
                pass  # too short: counted below
        if windows is None:
            self.requests[Request.ILLEGAL] += 1
            self._alarms.alarm(
                Category.FLOW_CONTROL,
                Priority.WARNING,
                "FC_handle_message: Illegal monitor request",
            )
            return
        self.requests[Request.WINDOWS] += 1
        flow = self.flow
        flow.set_windows(
            windows.window,
            windows.personal_windows[self._place],
            windows.accelerated_windows[self._place],
        )
        self._alarms.alarm(
            Category.FLOW_CONTROL,
            Priority.WARNING,
            "FC_handle_message: Got monitor mess, Window %d Personal %d Accelerated %d",
            flow.window,
            flow.personal_window,
            flow.accelerated_window,
        )

    def _reload(self, header: PacketHeader) -> None:
        if self._guard_reload and not (
            self._configuration.dangerous_monitor and self._is_monitor(header)
        ):
            denied = self.requests[Request.DENIED] + 1
            self.requests[Request.DENIED] = denied
            if not denied & (denied - 1):
                # The 1st, 2nd, 4th, 8th ... line: anybody can send these.
                self._alarms.alarm(
                    Category.PRINT,
                    Priority.WARNING,
                    "Request to reload the configuration from (%s) denied. Monitor in safe mode",
                    format_address(header.proc_id),
                )
            return
        self.requests[Request.RELOAD] += 1
        self._host.reload()
