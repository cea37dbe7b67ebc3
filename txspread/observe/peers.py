"""What the other daemons of the ring say of themselves.

While somebody looks at the status page this daemon asks its peers for their status
once a second, as a monitor does, so that the page shows the rates of each daemon, be
it of this or of upstream's make.  Answers are taken from configured daemons only; no
more than two are kept of each.

Source of the datagrams: ``docs/protocol/monitoring-and-tools.md`` section 1.
"""

from __future__ import annotations

import time
from typing import Final, cast

from attrs import define, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort, IReactorTime, IReactorUDP
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall

from txspread.engine.node import Node
from txspread.engine.ring_interfaces import MembershipState
from txspread.observe.snapshot import Json, shown
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.monitor import Status, decode_status_reply, encode_status_request

WATCHED_SECONDS: Final = 15.0
"""How long peers are asked after somebody has looked."""
SILENT_SECONDS: Final = 3.5
"""After that time without an answer a daemon counts as silent."""
_ASK_SECONDS: Final = 1.0
_STATES: Final = {state.value: state.name for state in MembershipState}
_RATES: Final = (
    ("sent", "packet_sent"),
    ("received", "packet_recv"),
    ("delivered", "message_delivered"),
    ("retransmitted", "retrans"),
)


@frozen
class Answer:
    """One status and when it came, on the monotonic clock."""

    time: float
    status: Status


@define
class Peer:
    """The last two answers of a daemon."""

    before: Answer | None = None
    last: Answer | None = None

    def take(self, answer: Answer) -> None:
        """Keep a new answer; of a second one within half a period the older is dropped."""
        if self.last is None or answer.time - self.last.time > _ASK_SECONDS / 2:
            self.before = self.last
        self.last = answer

    def describe(self, now: float) -> Json:
        """For the page; None if the daemon is silent."""
        if self.last is None or now - self.last.time > SILENT_SECONDS:
            return None
        status = self.last.status
        rates: dict[str, Json] = {}
        if self.before is not None:
            seconds = max(self.last.time - self.before.time, 1e-3)
            for name, field in _RATES:
                # The counters of a report are 32 bits wide and wrap.
                grown = (getattr(status, field) - getattr(self.before.status, field)) & 0xFFFFFFFF
                rates[name] = round(grown / seconds, 1) if grown < 1 << 31 else 0.0
        return {
            "state": _STATES.get(status.state, str(status.state)),
            "uptime": status.sec,
            "members": status.num_procs,
            "leader_id": status.leader_id & 0xFFFFFFFF,
            "membership_changes": status.membership_changes & 0xFFFF,
            "aru": status.aru,
            "highest_seq": status.highest_seq,
            "sessions": status.num_sessions,
            "groups": status.num_groups,
            "retransmitted": status.retrans & 0xFFFFFFFF,
            "version": f"{status.major_version}.{status.minor_version}.{status.patch_version}",
            "rates": rates,
        }


class Peers(DatagramProtocol):
    """Asks for and keeps the status of all daemons, this one included."""

    def __init__(self, reactor: object) -> None:
        self._reactor = reactor
        self._node: Node | None = None
        self._peers: dict[ProcId, Peer] = {}
        self._port: IListeningPort | None = None
        self._asking = LoopingCall(self._ask)
        self._asking.clock = cast(IReactorTime, reactor)
        self._watched = 0.0

    def watch(self, node: Node) -> None:
        """Somebody looks: ask on for a while."""
        self._node = node
        self._watched = time.monotonic() + WATCHED_SECONDS
        if self._port is None and len(node.configuration.daemons) > 1:
            try:
                reactor = cast(IReactorUDP, self._reactor)
                self._port = reactor.listenUDP(0, self, node.me.address, 8192)
            except OSError:
                return  # the page shows what this daemon knows by itself
        if not self._asking.running:
            self._asking.start(_ASK_SECONDS)

    def stop(self) -> None:
        """Ask no more."""
        if self._asking.running:
            self._asking.stop()
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()

    def describe(self) -> dict[str, Json]:
        """What each configured daemon has said last, by name; None for silent ones."""
        node = self._node
        if node is None:
            return {}
        now = time.monotonic()
        silent = Peer()
        return {
            shown(daemon.name): self._peers.get(daemon.id, silent).describe(now)
            for daemon in node.configuration.daemons
        }

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Take an answer; anything else is dropped."""
        node = self._node
        if node is None:
            return
        try:
            header, status = decode_status_reply(datagram)
        except ProtocolError:
            return
        if header.proc_id in node.configuration.position and header.proc_id != node.me.id:
            self._take(header.proc_id, status)

    def _take(self, proc_id: ProcId, status: Status) -> None:
        self._peers.setdefault(proc_id, Peer()).take(Answer(time.monotonic(), status))

    def _ask(self) -> None:
        node = self._node
        now = time.monotonic()
        if node is None or now > self._watched:
            self.stop()
            return
        self._take(node.me.id, node.status(now))
        port, transport = self._port, self.transport
        if port is None or transport is None:
            return
        configured = node.configuration.position
        for proc_id in [one for one in self._peers if one not in configured]:
            del self._peers[proc_id]
        request = encode_status_request(node.me.id, cast(IPv4Address, port.getHost()).port)
        for daemon in node.configuration.daemons:
            if daemon.id != node.me.id:
                try:
                    transport.write(request, (daemon.address, daemon.port))
                except OSError:
                    continue  # it counts as silent
