"""What arrives from the ring: which data packets are held, and how.

Rules:

* A data packet of the installed ring is held, once; of another ring, it is news
  for the membership machine.  Held packets also put off the loss of the token.
* While a FORM token is under way (state FORM) packets of the old ring count as
  not received, and in EVS those above the agreed highest number: this daemon
  has said what it holds.

Anything that does not fit is counted under its cause and dropped before it has
any effect; see :class:`~txspread.engine.ring.counters.RingCounters`.

Source: ``docs/protocol/ring-ordering.md`` sections 5 and 14;
``docs/protocol/daemon-datagrams.md`` sections 5.3 and 14.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from txspread.engine.alarms import AlarmSink
from txspread.engine.ring.counters import RingCounters, rarely
from txspread.engine.ring.flow import FlowControl
from txspread.engine.ring.identity import Identity
from txspread.engine.ring.packet_store import MAX_PACKETS, UNCUT, PacketStore
from txspread.engine.ring.packing import MIN_MESSAGE_SIZE, Fragments
from txspread.engine.ring.token_visit import TokenMachine
from txspread.engine.ring_interfaces import MembershipState, RingMembership
from txspread.wire.constants import ENDIAN_MARKER, MAX_FRAGMENTS, PacketType
from txspread.wire.datagram import REGULAR
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import (
    HEADER_LE,
    HEADER_REST_LE,
    MAX_PACKET_SIZE,
    PACKET_HEADER_SIZE,
    RUN_SIZE,
    PacketHeader,
    encode_packet,
    read_fragments,
    read_packed,
)

_EVS: Final = MembershipState.EVS
_FORM: Final = MembershipState.FORM
_RELIABLE: Final = int(PacketType.RELIABLE)
_unpack_header: Final = HEADER_LE.unpack_from
_unpack_rest: Final = HEADER_REST_LE.unpack_from


class Reception:
    """Takes data packets into the store."""

    def __init__(
        self,
        identity: Identity,
        flow: FlowControl,
        store: PacketStore,
        machine: TokenMachine,
        membership: RingMembership,
        counters: RingCounters,
        alarms: AlarmSink,
    ) -> None:
        self._identity = identity
        self._flow = flow
        self._store = store
        self._machine = machine
        self._membership = membership
        self._counters = counters
        self._alarms = alarms

    def packet(self, data: bytes, header: PacketHeader, now: float, alone: bool) -> int:
        """Take one data packet that has passed the network's own checks.

        Args:
            data: the complete datagram.
            header: its decoded header, of a type with a bit of 0x1f.
            now: seconds on the engine's clock.
            alone: the installed ring is this daemon alone.

        Returns:
            Its number if it continues what is held without a gap, minus its number if
            it does not, 0 if it was not taken.

        """
        identity = self._identity
        membership = self._membership
        counters = self._counters
        machine = self._machine
        if header.memb_id != identity.installed_id:
            counters.foreign_packets += 1
            membership.foreign(data, header.proc_id)
            return 0
        if now >= machine.timers_fresh_until and membership.token_alive and not alone:
            machine.restart_timers(membership.active.leader == identity.me, now)
        store = self._store
        packets = store.packets
        number = header.seq
        if number <= store.last_discarded or number in packets:
            counters.duplicate_packets += 1
            return 0
        if number > store.last_discarded + MAX_PACKETS:
            counters.far_packets += 1
            return 0
        state = membership.state
        if state is _FORM or (state is _EVS and number > store.highest_seq):
            counters.late_packets += 1
            return 0
        proc_id = header.proc_id
        if proc_id not in identity.members:
            counters.stranger_packets += 1
            return 0
        packet_type = header.type & REGULAR
        try:
            fragments = _checked_fragments(data, header)
            if header.byteorder != "<":
                # Held in our byte order: 4.4.0 cannot read packed fragments of the other.
                data = encode_packet(
                    packet_type,
                    identity.me,
                    proc_id,
                    header.memb_id,
                    number,
                    header.token_round,
                    identity.conf_hash,
                    fragments,
                )
        except ProtocolError as error:
            counters.malformed_packets += 1
            rarely(
                self._alarms,
                counters.malformed_packets,
                "Prot_handle_bcast: packet %d: %s",
                number,
                error,
            )
            return 0
        packets[number] = (data, packet_type, proc_id, fragments)
        counters.packet_recv += 1
        if (
            header.token_round > machine.received_token_rounds
            and header.transmiter_id == machine.predecessor
            and self._flow.accelerated
        ):
            machine.prefer_tokens = True
        if number > store.highest_seq:  # noqa: PLR1730 - max() costs a call for each packet
            store.highest_seq = number
        if number == store.my_aru + 1:
            if number + 1 in packets:
                store.extend()
            else:
                store.my_aru = number
            return number
        return -number

    def packets(
        self,
        batch: Sequence[bytes],
        start: int,
        now: float,
        heard: Container[ProcId],
        refused: int,
        early: bool,
    ) -> int:
        """Take datagrams in which everything is as usual, up to the first other one.

        Usual is a little-endian packet of the working ring, whole, new, not beyond
        what can be held, and such that nothing has to be delivered at once: what one
        after the other would say that each may pass.  None of them has any effect but to be
        held.  The others go through the network's checks and :meth:`packet`,
        which count what is wrong with them.

        Args:
            batch: datagrams as received.
            start: index of the first one to take.
            now: seconds on the engine's clock.
            heard: transmitters that the network listens to.
            refused: type bits of datagrams that the network treats in its own way.
            early: RELIABLE messages are delivered before those that are missing.

        Returns:
            The index of the first datagram that was not taken.

        """
        identity = self._identity
        membership = self._membership
        machine = self._machine
        store = self._store
        packets = store.packets
        members = identity.members
        memb_proc, memb_time = identity.installed_id
        conf_hash = identity.conf_hash
        first = store.last_discarded
        last = first + MAX_PACKETS
        mask = refused | ENDIAN_MARKER
        position = start
        packet_type = transmiter_id = proc_id = 0
        run = b""
        for data in batch[start:] if start else batch:
            size = len(data)
            if not PACKET_HEADER_SIZE <= size <= MAX_PACKET_SIZE:
                break
            if data[:RUN_SIZE] == run:
                (number, token_round, packet_hash, data_len, _, index, length) = _unpack_rest(
                    data, RUN_SIZE
                )
            else:
                (
                    kind,
                    transmiter_id,
                    proc_id,
                    packet_proc,
                    packet_time,
                    number,
                    token_round,
                    packet_hash,
                    data_len,
                    _,
                    index,
                    length,
                ) = _unpack_header(data)
                packet_type = kind & REGULAR
                if (
                    kind & mask != ENDIAN_MARKER
                    or not packet_type
                    or packet_proc != memb_proc
                    or packet_time != memb_time
                    or transmiter_id not in heard
                    or proc_id not in members
                ):
                    break
                run = data[:RUN_SIZE]
            if (
                packet_hash != conf_hash
                or data_len != size - PACKET_HEADER_SIZE
                or number in packets
                or not first < number <= last
            ):
                break
            next_one = number == store.my_aru + 1
            if early and packet_type == _RELIABLE and not next_one:
                break
            if length == data_len:
                if not -MAX_FRAGMENTS <= index <= MAX_FRAGMENTS or (
                    length < MIN_MESSAGE_SIZE if index == -1 else not index
                ):
                    break
                fragments = UNCUT if index == -1 else [(index, data[PACKET_HEADER_SIZE:])]
            else:
                try:
                    fragments = read_packed(data, index, length)
                except ProtocolError:
                    break
            packets[number] = (data, packet_type, proc_id, fragments)
            if (
                token_round > machine.received_token_rounds
                and transmiter_id == machine.predecessor
                and self._flow.accelerated
            ):
                machine.prefer_tokens = True
            if number > store.highest_seq:  # noqa: PLR1730 - max() costs a call for each packet
                store.highest_seq = number
            if next_one:
                store.my_aru = number
            position += 1
        if position > start:
            self._counters.packet_recv += position - start
            store.extend()
            if now >= machine.timers_fresh_until and membership.token_alive:
                machine.restart_timers(membership.active.leader == identity.me, now)
        return position


def _checked_fragments(data: bytes, header: PacketHeader) -> Fragments:
    """Read the fragments; raises :class:`ProtocolError` for what must not be held."""
    if len(data) > MAX_PACKET_SIZE:
        raise ProtocolError("larger than a packet can be")
    fragments = read_fragments(data, header)
    index, fragment = fragments[0]
    if index == 0 or (index == -1 and len(fragment) < MIN_MESSAGE_SIZE):
        raise ProtocolError("first fragment is no part of a message")
    if len(fragments) > 1:
        for _index, whole in fragments[1:]:
            if len(whole) < MIN_MESSAGE_SIZE:
                raise ProtocolError("packed message shorter than its header")
    return fragments
