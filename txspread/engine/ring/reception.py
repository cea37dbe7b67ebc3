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
from txspread.engine.ring.packet_store import MAX_PACKETS, NOT_PLAIN, Body, PacketStore
from txspread.engine.ring.packing import MIN_MESSAGE_SIZE
from txspread.engine.ring.token_visit import TokenMachine
from txspread.engine.ring_interfaces import MembershipState, RingMembership
from txspread.wire.constants import ENDIAN_MARKER, MAX_FRAGMENTS, PacketType
from txspread.wire.datagram import REGULAR
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import (
    MAX_PACKET_SIZE,
    PACKET_HEADER_SIZE,
    Fragments,
    PacketHeader,
    cut_header,
    encode_packet,
    read_fragments,
    read_packed,
    read_rest,
    read_run,
    train_layout,
)

_EVS: Final = MembershipState.EVS
_FORM: Final = MembershipState.FORM
_RELIABLE: Final = int(PacketType.RELIABLE)


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
        number = header.seq
        if number <= store.last_discarded or store.holds(number):
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
        run, _, rest = cut_header(data)
        body: Body = fragments
        if fragments[0][0] == -1 and len(fragments) == 1 and not packet_type & NOT_PLAIN:
            body = fragments[0][1]
        store.put(number, run + rest, body)
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
            store.extend()
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
        store = self._store
        first = store.last_discarded
        last = first + MAX_PACKETS
        highest = store.highest_seq
        next_number = first + len(store.bodies) + 1
        position = start
        known_size = packet_type = index = length = 0
        known_run = known_rest = head = b""
        hasten = False
        for data in batch[start:] if start else batch:
            size = len(data)
            if not PACKET_HEADER_SIZE <= size <= MAX_PACKET_SIZE:
                break
            run, number, rest = cut_header(data)
            if rest != known_rest or run != known_run or size != known_size:
                if run != known_run:
                    packet_type = self._usual_run(run, heard, refused)
                    if not packet_type:
                        break
                    known_run = run
                index, length, early_token = self._usual_rest(run, rest, size)
                if not index:
                    break
                known_rest = rest
                known_size = size
                head = run + rest
            if not first < number <= last or store.holds(number):
                break
            if early and packet_type == _RELIABLE and number != next_number:
                break
            body = _body(data[PACKET_HEADER_SIZE:], packet_type, index, length)
            if body is None:
                break
            store.put(number, head, body)
            hasten = hasten or early_token
            highest = max(highest, number)
            if number == next_number:
                next_number += 1
            position += 1
        self._taken(position - start, highest, hasten, now)
        return position

    def train(
        self,
        train: bytes | memoryview,
        size: int,
        now: float,
        heard: Container[ProcId],
        refused: int,
    ) -> int:
        """Take the packets of a train if they are as usual, alike, and continue what is held.

        See :meth:`packets`; here all are looked at as one.  Their numbers follow each
        other from the first that is not held, and one daemon has sent them in a row.

        Args:
            train: datagrams as received, one behind the other; not kept.
            size: of each but perhaps the last, bytes.
            now: as above, like the others.
            heard: likewise.
            refused: likewise.

        Returns:
            How many packets were taken from its start: none, all that have ``size``
            bytes, or all.

        """
        store = self._store
        count = len(train) // size
        if not PACKET_HEADER_SIZE <= size <= MAX_PACKET_SIZE or store.ahead or not count:
            return 0
        run, number, rest = cut_header(train)
        first = store.last_discarded
        last = number + count - 1
        if number != first + len(store.bodies) + 1 or last > first + MAX_PACKETS:
            return 0
        packet_type = self._usual_run(run, heard, refused)
        index, length, hasten = self._usual_rest(run, rest, size)
        if not packet_type or not index:
            return 0
        parts = train_layout(size, count).unpack_from(train)
        if parts[::4] != (run,) * count or parts[1::4] != tuple(range(number, last + 1)):
            return 0
        head = run + rest
        if parts[2::4] == (rest,) * count:
            heads = [head] * count
            bodies: list[Body] = list(parts[3::4])
            if index != -1 or length != size - PACKET_HEADER_SIZE or packet_type & NOT_PLAIN:
                for place in range(count):
                    body = _body(parts[4 * place + 3], packet_type, index, length)
                    if body is None:
                        return 0
                    bodies[place] = body
            elif length < MIN_MESSAGE_SIZE:
                return 0
        else:
            heads = []
            bodies = []
            for place in range(count):
                next_rest = parts[4 * place + 2]
                if next_rest != rest:
                    rest = next_rest
                    index, length, early_token = self._usual_rest(run, rest, size)
                    hasten = hasten or early_token
                    head = run + rest
                body = _body(parts[4 * place + 3], packet_type, index, length)
                if body is None:
                    return 0
                heads.append(head)
                bodies.append(body)
        at = count * size
        left = len(train) - at
        if left >= PACKET_HEADER_SIZE and last < first + MAX_PACKETS:
            next_run, number, rest = cut_header(train, at)
            if next_run == run and number == last + 1:
                index, length, early_token = self._usual_rest(run, rest, left)
                body = _body(bytes(train[at + PACKET_HEADER_SIZE :]), packet_type, index, length)
                if body is not None:
                    hasten = hasten or early_token
                    heads.append(run + rest)
                    bodies.append(body)
                    count += 1
                    last = number
        store.put_train(heads, bodies)
        self._taken(count, max(last, store.highest_seq), hasten, now)
        return count

    def _usual_run(self, run: bytes, heard: Container[ProcId], refused: int) -> int:
        """Examine the first part of a header; its packet type, 0 if it is not as usual."""
        kind, transmiter_id, proc_id, memb_proc, memb_time = read_run(run)
        identity = self._identity
        ring = identity.installed_id
        if (
            kind & (refused | ENDIAN_MARKER) != ENDIAN_MARKER
            or memb_proc != ring[0]
            or memb_time != ring[1]
            or transmiter_id not in heard
            or proc_id not in identity.members
        ):
            return 0
        return kind & REGULAR

    def _usual_rest(self, run: bytes, rest: bytes, size: int) -> tuple[int, int, bool]:
        """Examine what follows seq in the header of a datagram of ``size`` bytes.

        Returns:
            Index (0 if something is not as usual) and length of the first fragment, and
            whether the token may be here already.

        """
        token_round, conf_hash, data_len, index, length = read_rest(rest)
        if conf_hash != self._identity.conf_hash or data_len != size - PACKET_HEADER_SIZE:
            return 0, 0, False
        machine = self._machine
        hasten = (
            token_round > machine.received_token_rounds
            and self._flow.accelerated
            and read_run(run)[1] == machine.predecessor
        )
        return index, length, hasten

    def _taken(self, count: int, highest: int, hasten: bool, now: float) -> None:
        """What follows from having taken ``count`` usual packets."""
        if not count:
            return
        machine = self._machine
        store = self._store
        self._counters.packet_recv += count
        if hasten:
            machine.prefer_tokens = True
        store.highest_seq = highest
        store.extend()
        if now >= machine.timers_fresh_until:
            membership = self._membership
            if membership.token_alive:
                leader = membership.active.leader
                machine.restart_timers(leader == self._identity.me, now)


def _body(body: bytes, packet_type: int, index: int, length: int) -> Body | None:
    """What is held of a usual packet's body; None if it must not be held."""
    if not index:
        return None
    if length == len(body):
        if not -MAX_FRAGMENTS <= index <= MAX_FRAGMENTS or (
            index == -1 and length < MIN_MESSAGE_SIZE
        ):
            return None
        if index == -1 and not packet_type & NOT_PLAIN:
            return body
        return [(index, body)]
    try:
        return read_packed(body, index, length)
    except ProtocolError:
        return None


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
