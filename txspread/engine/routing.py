"""Which datagram goes where, and which received one is taken.

Sending.  A daemon routes by the *routing membership*: itself alone at start, then
the ring of each FORM2 it takes over (already while that ring is being installed);
a token loss does not touch it.  *first(s)* is the first member of segment s in
configuration order.  The ways to send:

=============  =====================================================================
everybody      each other segment with members, in configuration order: ROUTED, to
               first(s); then, without ROUTED, the own segment's address
segment        the own one: its address; another: ROUTED, to first(s), if it has members
daemon         its id as address, never ROUTED
token          the next member in configuration order, the first after the last
=============  =====================================================================

Packets go to the port P of the receiver's segment, tokens to P + 1.  The own
segment has an address to send to only if the file listed two or more daemons in
it when the process started; nothing changes that later, as the sockets are not
opened again either.

Receiving.  A packet passes, in this order: at least 40 bytes; the configuration
hash (or, on a monitor's packet, 1100); the emulated partition of its transmitter,
who must be configured (not asked of a monitor's packet); not my own transmission;
exactly 40 + data_len bytes.  A ROUTED one is then sent on into the own segment,
whatever it is, and taken as if it had not been ROUTED.  A token passes: at least
40 bytes, the hash, the partition; a lone daemon's token is its own.

The destinations, and the transmitters that are heard, are worked out when the ring,
the configuration or the partition changes, so that a datagram of a working ring
costs a look-up or two.

Source: ``docs/protocol/daemon-datagrams.md`` sections 4, 5.2, 7.3, 11 and 12;
upstream ``network.c``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority, SilentAlarms
from txspread.engine.membership.roster import Roster
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.routing_components import Components
from txspread.engine.routing_strangers import ForeignHashes
from txspread.wire.byteorder import byte_order_of
from txspread.wire.datagram import CONTROL, MONITOR_HASH, MONITOR_MAGIC, PARTITION, ROUTED
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId, format_address
from txspread.wire.packet import PACKET_HEADER_SIZE, PacketHeader, restamp
from txspread.wire.token import TOKEN_HEADER_SIZE

Address: TypeAlias = tuple[str, int]
"""Dotted quad and UDP port."""

_SPECIAL: Final = CONTROL | ROUTED
"""Type bits that take a packet off the short path."""
_NOT_ROUTED: Final = ~ROUTED
_SET_ROUTED: Final = bytes(byte | ROUTED for byte in range(256))
"""What becomes of the first byte of a little-endian packet."""


class ReceptionDrop(enum.Enum):
    """Why a datagram was not taken, in the order of the checks."""

    TOO_SHORT = "shorter than its header"
    HALF_MARKER = "only one of the two byte-order bits"
    FOREIGN_HASH = "another configuration hash"
    MONITOR_HASH = "the monitor's hash on something no monitor sends"
    UNKNOWN_TRANSMITTER = "transmitter not configured"
    OTHER_COMPONENT = "transmitter in another emulated component"
    OWN_TRANSMISSION = "sent by this daemon"
    WRONG_LENGTH = "not as long as its header says"


class Routing:
    """The network below the ring, without sockets: a :class:`Network`."""

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        host: Host,
        alarms: AlarmSink | None = None,
        on_foreign_hash: Callable[[ProcId, int, int], None] | None = None,
    ) -> None:
        """Route by a ring of one.

        Args:
            me: this daemon.
            configuration: in force.
            host: sends the datagrams.
            alarms: gets log lines.
            on_foreign_hash: called once for each peer and configuration hash that is
                not the own one, with (proc id, its hash, own hash).

        """
        self._me = me
        self._my_id = me.id
        self._host = host
        self._send = host.send_datagram
        self._send_train = host.send_train
        self._alarms: AlarmSink = alarms or SilentAlarms()
        self._foreign = ForeignHashes(self._alarms, on_foreign_hash)
        self._roster = Roster(configuration)
        self._configuration = configuration
        self._hash = configuration.hash
        self._hash_little = configuration.hash.to_bytes(4, "little")
        self._components = Components(self._roster, me)
        own = configuration.segments[me.segment]
        self._has_broadcast = len(own.daemons) > 1
        self._own_address: Address | None = (own.address, own.port) if self._has_broadcast else None
        self.drops: dict[ReceptionDrop, int] = dict.fromkeys(ReceptionDrop, 0)
        """Datagrams not taken, by cause, since the start."""
        self.rebroadcast = 0
        """ROUTED packets sent on into the own segment since the start."""
        self.unsendable = 0
        """Datagrams to a daemon that is not configured, not sent."""
        self._members: tuple[ProcId, ...] = (me.id,)
        self._packet_address: dict[ProcId, Address] = {}
        self._token_address: dict[ProcId, Address] = {}
        self._routed: tuple[Address, ...] = ()
        self._first: dict[int, Address] = {}
        self._successor: Address = (me.address, me.port + 1)
        self._heard: frozenset[ProcId] = frozenset()
        self._heard_tokens: frozenset[bytes] = frozenset()
        self._work_out_addresses()
        self._work_out_routes()
        self._work_out_heard()

    # What changes rarely.

    @property
    def has_broadcast(self) -> bool:
        """Whether the own segment is sent to at all."""
        return self._has_broadcast

    @property
    def heard(self) -> frozenset[ProcId]:
        """Transmitters whose packets are taken; not this daemon itself."""
        return self._heard

    @property
    def members(self) -> tuple[ProcId, ...]:
        """The routing membership, in configuration order."""
        return self._members

    @property
    def components(self) -> tuple[int, ...]:
        """Emulated component of each configured daemon, in configuration order."""
        return self._components.values

    def route_by(self, members: Sequence[ProcId]) -> None:
        """Switch routes and successor to the ring of an accepted FORM2."""
        self._members = self._roster.in_order(members)
        self._work_out_routes()

    def reconfigure(self, me: Daemon, configuration: Configuration) -> None:
        """Go on with another configuration.

        Hash, addresses and components change at once.  Whether the own segment has
        a broadcast, and its address, stay as they were at the start.
        """
        self._me = me
        self._my_id = me.id
        self._configuration = configuration
        self._roster = Roster(configuration)
        self._hash = configuration.hash
        self._hash_little = configuration.hash.to_bytes(4, "little")
        self._foreign.forget()
        self._components.reconfigure(self._roster, me)
        self._members = self._roster.in_order(self._members)
        self._work_out_addresses()
        self._work_out_routes()
        self._work_out_heard()

    def set_components(self, values: Sequence[int]) -> bool:
        """Emulate a partition: one component number for each configured daemon.

        Further values are ignored; too few are refused, and so is any change while
        the daemon is isolated by a reload.  Returns whether the values are in force.
        """
        changed = self._components.set(values)
        self._work_out_heard()
        return changed

    def clear_components(self) -> None:
        """End the emulated partition, unless a reload holds it."""
        self._components.clear()
        self._work_out_heard()

    def isolate(self) -> None:
        """Hear nobody but myself until :meth:`rejoin`; a monitor cannot change that."""
        self._components.isolate()
        self._work_out_heard()

    def rejoin(self) -> None:
        """End the isolation and any emulated partition."""
        self._components.rejoin()
        self._work_out_heard()

    @property
    def isolated(self) -> bool:
        """Whether a reload has this daemon on its own."""
        return self._components.isolated

    def _work_out_addresses(self) -> None:
        packets: dict[ProcId, Address] = {}
        tokens: dict[ProcId, Address] = {}
        for proc_id, daemon in self._roster.known.items():
            packets[proc_id] = (daemon.address, daemon.port)
            tokens[proc_id] = (daemon.address, daemon.port + 1)
        for daemon in self._roster.daemons:
            packets.setdefault(daemon.id, (daemon.address, daemon.port))
            tokens.setdefault(daemon.id, (daemon.address, daemon.port + 1))
        self._packet_address = packets
        self._token_address = tokens

    def _work_out_routes(self) -> None:
        first: dict[int, Address] = {}
        for proc_id in self._members:
            segment = self._roster.segment_of(proc_id)
            if segment != self._me.segment and segment not in first:
                first[segment] = self._packet_address[proc_id]
        self._first = first
        self._routed = tuple(first[segment] for segment in sorted(first))
        members = self._members
        if self._my_id in members:
            successor = members[(members.index(self._my_id) + 1) % len(members)]
            self._successor = self._token_address[successor]
        else:
            self._successor = self._token_address[self._my_id]

    def _work_out_heard(self) -> None:
        mine = self._components.of(self._me)
        heard = [
            proc_id
            for proc_id, daemon in self._roster.known.items()
            if self._components.of(daemon) == mine
        ]
        self._heard_tokens = frozenset(proc_id.to_bytes(4, "little") for proc_id in heard)
        self._heard = frozenset(proc_id for proc_id in heard if proc_id != self._my_id)

    # Sending.

    def send_to_all(self, packet: bytes) -> None:
        """To every other segment's first member (ROUTED), then to the own segment."""
        send = self._send
        if self._routed:
            routed = with_routed(packet)
            for address in self._routed:
                send(routed, address)
        if self._own_address is not None:
            # The bit is in the first or in the fourth byte, by byte order; the other
            # one of the two never has it.
            if (packet[0] | packet[3]) & ROUTED:
                packet = without_routed(packet)
            send(packet, self._own_address)

    def send_train_to_all(self, train: bytearray, size: int) -> None:
        """Little-endian packets of ``size`` bytes each, ROUTED clear, as :meth:`send_to_all`.

        ``train`` is given away.
        """
        send = self._send_train
        own_address = self._own_address
        if self._routed:
            routed = train if own_address is None else bytearray(train)
            routed[::size] = routed[::size].translate(_SET_ROUTED)
            for address in self._routed:
                send(routed, size, address)
        if own_address is not None:
            send(train, size, own_address)

    def send_to_segment(self, segment: int, packet: bytes) -> None:
        """To one segment by its index; nothing leaves if nobody would hear it."""
        if segment == self._me.segment:
            if self._own_address is not None:
                self._send(without_routed(packet), self._own_address)
            return
        address = self._first.get(segment)
        if address is not None:
            self._send(with_routed(packet), address)

    def send_to_daemon(self, daemon: ProcId, packet: bytes) -> None:
        """To one daemon's data port; an unconfigured one gets nothing."""
        address = self._packet_address.get(daemon)
        if address is None:
            self._cannot_send("Net_ucast", daemon)
        else:
            self._send(without_routed(packet), address)

    def send_token(self, token: bytes) -> None:
        """To the successor's token port."""
        self._send(token, self._successor)

    def send_token_to(self, daemon: ProcId, token: bytes) -> None:
        """To a named daemon's token port; an unconfigured one gets nothing."""
        address = self._token_address.get(daemon)
        if address is None:
            self._cannot_send("Net_ucast_token", daemon)
        else:
            self._send(token, address)

    def _cannot_send(self, function: str, daemon: ProcId) -> None:
        self.unsendable += 1
        self._alarms.alarm(
            Category.NETWORK, Priority.WARNING, "%s: non existing proc_id %d", function, daemon
        )

    # Receiving.

    def receive(self, data: bytes, channel: Channel) -> PacketHeader | None:
        """Examine a received datagram; its header if it is to be handled, else None.

        Of a token's header only the fields that it shares with a packet's have a
        meaning (type, transmiter_id, proc_id, memb_id, seq): the first 24 bytes.
        """
        if channel is Channel.TOKEN:
            return None if self.receive_token(data) is None else PacketHeader.decode(data)
        return self.receive_packet(data)

    def receive_packet(self, data: bytes) -> PacketHeader | None:
        """Examine a datagram of the data port; its header if it is to be handled.

        ROUTED is cleared in the header (not in ``data``), and the packet has been sent
        on into the own segment if it was set.  A monitor's packet comes back with
        its type's control bit.  A PARTITION one comes back before its component,
        transmitter and length have been looked at.
        """
        try:
            header = PacketHeader.decode(data)
        except ProtocolError:
            self._undecodable(data, PACKET_HEADER_SIZE)
            return None
        if (
            header.conf_hash == self._hash
            and header.transmiter_id in self._heard
            and len(data) == PACKET_HEADER_SIZE + header.data_len
            and not header.type & _SPECIAL
        ):
            return header
        return self._examine(data, header)

    def receive_token(self, data: bytes) -> int | None:
        """Examine a datagram of the token port; its type word if it is to be handled."""
        if (
            data[36:40] == self._hash_little
            and data[4:8] in self._heard_tokens
            and data[0] & data[3] & 0x80
        ):
            return int.from_bytes(data[:4], "little")
        return self._examine_token(data)

    def _undecodable(self, data: bytes, size: int) -> None:
        if len(data) >= size:
            self.drops[ReceptionDrop.HALF_MARKER] += 1
        elif data:
            self.drops[ReceptionDrop.TOO_SHORT] += 1
            self._alarms.alarm(
                Category.NETWORK,
                Priority.WARNING,
                "Net_recv: ignoring packet of size %d, smaller than packet header size %d",
                len(data),
                size,
            )

    def _drop(self, cause: ReceptionDrop) -> None:
        self.drops[cause] += 1

    def _examine(self, data: bytes, header: PacketHeader) -> PacketHeader | None:
        """The checks one by one."""
        control = header.type & CONTROL
        if header.conf_hash != self._hash:
            if header.conf_hash != MONITOR_HASH:
                self._drop(ReceptionDrop.FOREIGN_HASH)
                self._foreign.heard(header.proc_id, header.conf_hash, self._hash)
                return None
            if not control:
                self._drop(ReceptionDrop.MONITOR_HASH)
                return None
        if control & PARTITION:
            return header
        if not (control and header.memb_id.proc_id == MONITOR_MAGIC) and not self._in_component(
            header.transmiter_id
        ):
            return None
        if header.transmiter_id == self._my_id:
            self._drop(ReceptionDrop.OWN_TRANSMISSION)
            return None
        if len(data) != PACKET_HEADER_SIZE + header.data_len:
            self._drop(ReceptionDrop.WRONG_LENGTH)
            self._alarms.alarm(
                Category.NETWORK,
                Priority.WARNING,
                "Net_recv: Received invalid packet - received bytes (%d) != expected length (%d)",
                len(data),
                PACKET_HEADER_SIZE + header.data_len,
            )
            return None
        if header.type & ROUTED:
            header.type &= _NOT_ROUTED
            if self._own_address is not None:
                self.rebroadcast += 1
                self._send(
                    restamp(data, 0, ROUTED, self._my_id, header.conf_hash), self._own_address
                )
        return header

    def _in_component(self, transmiter_id: ProcId) -> bool:
        if transmiter_id in self._heard or transmiter_id == self._my_id:
            return True
        if transmiter_id in self._roster.known:
            self._drop(ReceptionDrop.OTHER_COMPONENT)
            return False
        count = self.drops[ReceptionDrop.UNKNOWN_TRANSMITTER] + 1
        self.drops[ReceptionDrop.UNKNOWN_TRANSMITTER] = count
        if not count & (count - 1):
            # The 1st, 2nd, 4th, 8th ... line: anybody can send these.
            self._alarms.alarm(
                Category.PRINT,
                Priority.WARNING,
                "In_my_component: unknown proc %s",
                format_address(transmiter_id),
            )
        return False

    def _examine_token(self, data: bytes) -> int | None:
        if len(data) < TOKEN_HEADER_SIZE:
            self._undecodable(data, TOKEN_HEADER_SIZE)
            return None
        try:
            order = byte_order_of(data)
        except ProtocolError:
            self._undecodable(data, TOKEN_HEADER_SIZE)
            return None
        if order == "<":
            conf_hash = int.from_bytes(data[36:40], "little")
            transmiter_id = int.from_bytes(data[4:8], "little")
            kind = int.from_bytes(data[:4], "little")
        else:
            conf_hash = int.from_bytes(data[36:40], "big")
            transmiter_id = int.from_bytes(data[4:8], "big")
            kind = int.from_bytes(data[:4], "big")
        if conf_hash != self._hash:
            self._drop(ReceptionDrop.FOREIGN_HASH)
            self._foreign.heard(transmiter_id, conf_hash, self._hash)
            return None
        return kind if self._in_component(transmiter_id) else None


def with_routed(packet: bytes) -> bytes:
    """The same datagram with ROUTED set, in the byte order it is in."""
    if packet[0] & 0x80:
        return bytes((packet[0] | ROUTED,)) + packet[1:]
    return packet[:3] + bytes((packet[3] | ROUTED,)) + packet[4:]


def without_routed(packet: bytes) -> bytes:
    """The same datagram with ROUTED clear, in the byte order it is in."""
    if not (packet[0] | packet[3]) & ROUTED:
        return packet
    if packet[0] & 0x80:
        return bytes((packet[0] & _NOT_ROUTED,)) + packet[1:]
    return packet[:3] + bytes((packet[3] & _NOT_ROUTED,)) + packet[4:]
