"""The token machine: numbering, reliability and order on a ring of daemons.

Rules:

* A daemon numbers packets only while it handles the token, counting on from the
  highest number known, and sends every packet that it numbered.
* The token carries the highest number (``seq``), the lowest contiguity point of
  the last rotation (``aru``), requests for missing packets, and a sum for flow
  control.  What two consecutive tokens say everybody has, everybody has.
* The leader stamps each rotation with ``arq``; a token that does not continue
  the count is stale.  A token that is lost is sent again by the leader after the
  hurry timeout, with ``retrans`` one higher, and passed on by those that had
  handled it already.
* On an idle ring the leader keeps the token.  The hurry timer lets it go round
  twice a second, a HURRY packet (somebody has a message) at once.
* Order of work for one token: answer requests, number and send new packets, ask
  for what is missing, send the token, send the rest of the new packets
  (accelerated ring), and only then deliver.  Packets that arrive are delivered
  when the batch that brought them is through, so that a token in the same
  batch does not wait for the fan-out.
* A ring of one sends nothing: what is submitted is delivered.

Anything that does not fit is counted under its cause and dropped before it has
any effect; see :class:`~txspread.engine.ring.counters.RingCounters`.

==============================  ===================================================
token, in this order            action
==============================  ===================================================
malformed, other hash           drop
no token expected               drop
other ring, other sender        drop
seq beyond the wrap limit       drop; the ring re-forms and counts from 1 again
leader: arq not mine            drop
other: arq mine, retrans more   send my last token again, without its requests
other: arq not the next         drop
aru below the safe line, seq    drop; the token loss that follows re-forms the ring
beyond what can be held
else                            accept
==============================  ===================================================

Source: ``docs/protocol/ring-ordering.md`` sections 5 to 8 and 14,
``docs/protocol/daemon-datagrams.md`` sections 7.3, 13 and 14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.interfaces import (
    ClientGate,
    DeliveryThreshold,
    DownQueue,
    OrderedDelivery,
)
from txspread.engine.ring.assembly import Assembly, Nobody
from txspread.engine.ring.counters import RingCounters
from txspread.engine.ring.delivery import Delivery
from txspread.engine.ring.flow import MAX_SEQ_GAP, FlowControl
from txspread.engine.ring.packet_store import HOLE, MAX_PACKETS, PacketStore
from txspread.engine.ring.packing import (
    MAX_MESSAGE_SIZE,
    MIN_MESSAGE_SIZE,
    DownQueues,
    Fragments,
)
from txspread.engine.ring.recovery import MAX_EVS_ROUNDS, Recovery
from txspread.engine.ring_interfaces import (
    MembershipState,
    Network,
    OldRingResult,
    OldRingState,
    RingMembership,
    RingView,
    Timer,
    Timers,
)
from txspread.wire.constants import WATER_MARK, PacketType
from txspread.wire.datagram import (
    ARQ,
    ARQ_SHIFT,
    HURRY,
    REGULAR,
    RETRANS,
    RETRANS_SHIFT,
    ROUTED,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import (
    MAX_PACKET_SIZE,
    NO_MEMBERSHIP,
    PACKET_BODY_SIZE,
    PacketHeader,
    encode_bare,
    encode_packet,
    read_fragments,
    restamp,
)
from txspread.wire.token import MAX_TOKEN_BODY, NOBODY, RetransmissionRequest, Token, request_size

MAX_WRAP_SEQUENCE_VALUE: Final = 1 << 30
"""A token with a larger number is dropped, so that the ring starts counting anew."""

_EVS: Final = MembershipState.EVS
_FORM: Final = MembershipState.FORM
_OP: Final = MembershipState.OP
_GATHER: Final = MembershipState.GATHER
_TYPE_MASK: Final = ARQ | RETRANS


class TokenRing:
    """Ordering of one daemon: implements ``Ordering`` and ``RingOrdering``.

    Args:
        me: this daemon.
        configuration: windows, hash, timeouts, configuration order.
        network: sends datagrams by the ring that routes now.
        timers: named timers; :data:`Timer.HURRY` and :data:`Timer.DELIVERY` are
            started here and come back through :meth:`timer`, :data:`Timer.LOSS` is
            started here and belongs to the membership machine.
        membership: the membership machine.
        delivery: the groups layer; may be set later with :meth:`connect`.
        gate: the sessions layer; may be set later with :meth:`connect`.
        alarms: where log lines go.

    """

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        network: Network,
        timers: Timers,
        membership: RingMembership,
        delivery: OrderedDelivery | None,
        gate: ClientGate | None,
        alarms: AlarmSink,
    ) -> None:
        nobody = Nobody()
        self._me = me.id
        self._segment = me.segment
        self._network = network
        self._timers = timers
        self._membership = membership
        self._gate: ClientGate = gate if gate is not None else nobody
        self._alarms = alarms
        self.counters = RingCounters()
        self.flow = FlowControl.of(configuration)
        self._store = PacketStore()
        self._queues = DownQueues()
        self._assembly = Assembly(
            delivery if delivery is not None else nobody, self.counters, alarms
        )
        self._delivery = Delivery(self._store, self._assembly, membership, self.counters, alarms)
        self._recovery = Recovery(
            me.id,
            configuration.position,
            self._store,
            self._queues,
            self._delivery,
            self._assembly,
            membership,
            self.counters,
            alarms,
        )
        self._take(configuration)
        self._see(membership.installed)
        self._predecessor = self._me

        self._last: Token | None = None
        """The token sent or held last in this membership; sent again without requests."""
        self._last_arq = 0
        self._last_retrans = 0
        self._last_seq = 0
        self._last_aru = 0
        self._just_installed = False
        self._quiet = 0
        """Consecutive visits that ended with everything stable (Token_counter)."""
        self.token_rounds = 0
        """Regular tokens handled in this membership, held ones included."""
        self.received_token_rounds = 0
        """Regular tokens accepted in this membership."""
        self.prefer_tokens = False
        """Accelerated ring: the predecessor has sent the token already, so the
        token socket should be read before the data socket."""
        self._restart_after = 0.0
        self._due = False
        self._early_due = False
        self._delivering = False
        self._clients_stopped = False

    def connect(self, delivery: OrderedDelivery, gate: ClientGate) -> None:
        """Name the layers above, where they could not be made before this one."""
        self._assembly.upper = delivery
        self._gate = gate

    def reload(self, configuration: Configuration) -> None:
        """Take a configuration that was read again.

        The membership machine then declares the token lost.
        """
        self.flow.reload(configuration)
        self._take(configuration)

    def _take(self, configuration: Configuration) -> None:
        self._conf_hash = configuration.hash
        self._segments = len(configuration.segments)
        self._position = configuration.position
        self._recovery.position = configuration.position
        self._token_timeout = configuration.timeouts.token
        self._hurry_timeout = configuration.timeouts.hurry
        self._restart_slack = min(self._token_timeout, self._hurry_timeout) / 50
        self._hurry = encode_bare(HURRY, self._me, self._me, NO_MEMBERSHIP, configuration.hash)

    def _see(self, view: RingView) -> None:
        self._installed_id = view.id
        self._members = frozenset(view.members)
        self._alone = len(view.members) == 1

    # -- what others may know -------------------------------------------------

    @property
    def aru(self) -> int:
        """All numbers up to this are held by every member, as far as known here."""
        return self._store.aru

    @property
    def my_aru(self) -> int:
        """All numbers up to this are held here."""
        return self._store.my_aru

    @property
    def highest_seq(self) -> int:
        """Largest number known in the ring."""
        return self._store.highest_seq

    @property
    def threshold(self) -> DeliveryThreshold:
        """What may be delivered early now."""
        return self._delivery.threshold

    # -- data channel ---------------------------------------------------------

    def data_packet(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take one data packet that has passed the network's own checks.

        Args:
            data: the complete datagram.
            header: its decoded header, of a type with a bit of 0x1f.
            now: seconds on the engine's clock.

        """
        if header.memb_id != self._installed_id:
            self._see(self._membership.installed)
            if header.memb_id != self._installed_id:
                self.counters.foreign_packets += 1
                self._membership.foreign(data, header.proc_id)
                return
        membership = self._membership
        if now >= self._restart_after and membership.token_alive and not self._alone:
            self._restart_after = now + self._restart_slack
            self._timers.start(Timer.LOSS, self._token_timeout)
            if membership.active.leader == self._me:
                self._timers.start(Timer.HURRY, self._hurry_timeout)
        store = self._store
        packets = store.packets
        number = header.seq
        if number <= store.last_discarded or number in packets:
            self.counters.duplicate_packets += 1
            return
        if number > store.last_discarded + MAX_PACKETS:
            self.counters.far_packets += 1
            return
        state = membership.state
        if state is _FORM or (state is _EVS and number > store.highest_seq):
            self.counters.late_packets += 1
            return
        proc_id = header.proc_id
        if proc_id not in self._members:
            self.counters.stranger_packets += 1
            return
        packet_type = header.type & REGULAR
        try:
            fragments = self._fragments(data, header)
            if header.byteorder != "<":
                # Held in our byte order: 4.4.0 cannot read packed fragments of the other.
                data = encode_packet(
                    packet_type,
                    self._me,
                    proc_id,
                    header.memb_id,
                    number,
                    header.token_round,
                    self._conf_hash,
                    fragments,
                )
        except ProtocolError as error:
            self.counters.malformed_packets += 1
            self._rarely(
                self.counters.malformed_packets, "Prot_handle_bcast: packet %d: %s", number, error
            )
            return
        packets[number] = (data, packet_type, proc_id, fragments)
        self.counters.packet_recv += 1
        if (
            header.token_round > self.received_token_rounds
            and header.transmiter_id == self._predecessor
            and self.flow.accelerated
        ):
            self.prefer_tokens = True
        if number > store.highest_seq:  # noqa: PLR1730 - max() costs a call per packet
            store.highest_seq = number
        if number == store.my_aru + 1:
            store.extend()
            if not self._due:
                self._due = True
                self._timers.start(Timer.DELIVERY, 0.0)
        else:
            self._deliver_due()
            self._delivering = True
            self._delivery.early(number, number)
            self._delivering = False

    @staticmethod
    def _fragments(data: bytes, header: PacketHeader) -> Fragments:
        """Read the fragments; raises :class:`ProtocolError` for what must not be stored."""
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

    # -- token channel --------------------------------------------------------

    def token(self, data: bytes, now: float) -> None:
        """Take one regular token.

        Args:
            data: the complete datagram.
            now: seconds on the engine's clock.

        """
        counters = self.counters
        try:
            token = Token.decode(data)
        except ProtocolError as error:
            counters.malformed_tokens += 1
            self._rarely(counters.malformed_tokens, "Prot_handle_token: %s", error)
            return
        if token.conf_hash != self._conf_hash:
            counters.foreign_hash_tokens += 1
            return
        membership = self._membership
        if not membership.token_alive:
            counters.dead_tokens += 1
            return
        view = membership.active
        if (
            token.memb_id != view.id
            or token.transmiter_id != view.predecessor
            or len(view.members) == 1
        ):
            counters.foreign_tokens += 1
            return
        evs = membership.state is _EVS
        if token.seq > MAX_WRAP_SEQUENCE_VALUE and not evs:
            counters.rollover_tokens += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.WARNING,
                "Prot_handle_token: seq (%d) rollover; swallowing token to trigger membership",
                token.seq,
            )
            return
        arq = (token.type & ARQ) >> ARQ_SHIFT
        retrans = (token.type & RETRANS) >> RETRANS_SHIFT
        leader = view.leader == self._me
        if leader:
            if arq != self._last_arq:
                counters.stale_tokens += 1
                return
        elif arq == self._last_arq:
            if retrans > self._last_retrans:
                self._last_retrans = retrans
                counters.tokens_repeated += 1
                self._send_again(view, False)
            else:
                counters.stale_tokens += 1
            return
        elif arq != (self._last_arq + 1) & 15:
            counters.stale_tokens += 1
            return
        if not self._possible(token, evs):
            counters.impossible_tokens += 1
            self._rarely(
                counters.impossible_tokens,
                "Prot_handle_token: impossible token: seq %d, aru %d (by %d); Aru %d, discarded %d",
                token.seq,
                token.aru,
                token.aru_last_id,
                self._store.aru,
                self._store.last_discarded,
            )
            return
        self._visit(token, view, evs, leader, arq, retrans, now)

    def _possible(self, token: Token, evs: bool) -> bool:
        """Tell whether correct peers can have sent this token.

        Upstream finds out when it is too late and exits; a token that is dropped
        here leads to a token loss and a new ring.
        """
        store = self._store
        if not evs and token.seq > store.last_discarded + MAX_PACKETS:
            return False
        return (
            token.aru >= store.aru
            or token.aru_last_id == self._me
            or (not evs and token.aru == token.seq)
        )

    def _visit(
        self,
        token: Token,
        view: RingView,
        evs: bool,
        leader: bool,
        arq: int,
        retrans: int,
        now: float,
    ) -> None:
        counters = self.counters
        store = self._store
        flow = self.flow
        counters.tokens_accepted += 1
        if retrans and not leader:
            counters.token_hurry += 1
        if self._just_installed:
            self._just_installed = False
            self._last_aru = 0
        incoming_seq = token.seq
        if not evs and incoming_seq > store.highest_seq:
            store.highest_seq = incoming_seq
        self.received_token_rounds += 1
        self.prefer_tokens = False
        self._predecessor = view.predecessor

        me = self._me
        destination = me
        segment = self._segment
        num_retrans = 0
        kept: list[RetransmissionRequest] = []
        for request in token.requests:
            if request.memb_id != self._installed_id:
                kept.append(request)
                continue
            answered, several = self._answer(request)
            num_retrans += answered
            if several:
                destination = NOBODY
                if request.seg_index != self._segment:
                    segment = -1

        after_token: list[bytes] = []
        first_new = store.highest_seq + 1
        num_sent = 0
        if not evs and self._queues.current:
            num_sent = self._send_new(token.flow_control, after_token)
        token.flow_control = flow.contribute(token.flow_control, num_sent, num_retrans)

        my_aru = store.my_aru
        if my_aru < store.highest_seq:
            store.extend()
            my_aru = store.my_aru
            bound = self._last_seq if flow.accelerated and not evs else store.highest_seq
            if my_aru < bound:
                self._ask(kept, destination, segment, bound)
        if evs:
            self._recovery.commit_if_complete()
            my_aru = store.my_aru

        if token.aru > my_aru or token.aru_last_id == me or (not evs and token.aru == incoming_seq):
            token.aru = my_aru
            token.aru_last_id = me
        token.requests = tuple(kept) if kept else ()
        token.proc_id = me
        token.transmiter_id = me
        if not evs:
            token.seq = store.highest_seq
        if leader:
            arq = (arq + 1) & 15
            retrans = 0
        token.type = arq << ARQ_SHIFT | retrans << RETRANS_SHIFT
        if leader and self._idle():
            counters.tokens_held += 1
        else:
            datagram = token.encode()
            self._network.send_token(datagram)
            if retrans > 1:
                self._network.send_token(datagram)
                self._network.send_token(datagram)

        self.token_rounds += 1
        if leader:
            self._timers.start(Timer.HURRY, self._hurry_timeout)
        self._timers.start(Timer.LOSS, self._token_timeout)
        self._restart_after = now + self._restart_slack
        for packet in after_token:
            self._network.send_to_all(packet)

        aru = min(token.aru, self._last_aru)
        if aru < store.aru:
            counters.invariant_breaches += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.CRITICAL,
                "Prot_handle_token: Aru %d would fall to %d",
                store.aru,
                aru,
            )
            self._membership.token_loss()
            return
        store.aru = aru
        self._quiet = self._quiet + 1 if store.highest_seq == aru else 0
        self._last = token
        self._last_arq = arq
        self._last_retrans = retrans
        self._last_seq = token.seq
        self._last_aru = token.aru
        self._after_visit(evs, first_new, num_sent)

    def _after_visit(self, evs: bool, first_new: int, num_sent: int) -> None:
        """What need not hold the token up: delivery, installation, the clients."""
        store = self._store
        self._due = False
        self._delivering = True
        try:
            if evs:
                if store.aru == self._recovery.last_seq and store.aru > store.last_discarded:
                    self._install()
                    return
            else:
                if store.aru > store.last_discarded and not self._delivery.discard():
                    self._membership.token_loss()
                    return
                self._delivery.agreed()
                if num_sent:
                    self._delivery.early(first_new, first_new + num_sent - 1)
        finally:
            self._delivering = False
        if evs and self.token_rounds > MAX_EVS_ROUNDS:
            self.counters.recoveries_abandoned += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.ERROR,
                "Prot_handle_token: too many rounds in EVS state; giving this recovery up",
            )
            self._membership.token_loss()
            return
        if self._clients_stopped:
            self._serve_clients()

    def _answer(self, request: RetransmissionRequest) -> tuple[int, bool]:
        """Send again what is held of a request of my ring.

        Returns:
            How many packets were sent again, and whether some are not here.

        """
        store = self._store
        packets = store.packets
        counters = self.counters
        aru = store.aru
        answered = 0
        several = False
        proc_id = request.proc_id
        seg_index = request.seg_index
        if (proc_id != NOBODY and proc_id not in self._position) or not (
            -1 <= seg_index < self._segments
        ):
            counters.illegal_requests += 1
            if seg_index >= self._segments or seg_index < -1:
                seg_index = -1
        for number in request.seqs:
            if number < aru:
                counters.illegal_requests += 1
                self._rarely(
                    counters.illegal_requests,
                    "Answer_retrans: retrans of %d requested while Aru is %d",
                    number,
                    aru,
                )
                continue
            packet = packets.get(number, HOLE)
            if packet is HOLE:
                several = True
                continue
            answered += 1
            datagram = restamp(packet[0], 0, ROUTED, self._me, self._conf_hash)
            if proc_id != NOBODY:
                counters.u_retrans += 1
                if proc_id in self._position:
                    self._network.send_to_daemon(proc_id, datagram)
            elif seg_index != -1:
                counters.s_retrans += 1
                self._network.send_to_segment(seg_index, datagram)
            else:
                counters.b_retrans += 1
                self._network.send_to_all(datagram)
        counters.retrans += answered
        return answered, several

    def _send_new(self, flow_control: int, after_token: list[bytes]) -> int:
        """Number and send new packets; those that follow the token go to ``after_token``.

        Returns:
            How many were numbered.

        """
        store = self._store
        flow = self.flow
        if store.highest_seq > store.aru + MAX_SEQ_GAP:
            return 0
        allowed = min(
            flow.quota(flow_control), store.last_discarded + MAX_PACKETS - store.highest_seq
        )
        if allowed <= 0:
            return 0
        made = self._queues.make_packets(allowed)
        num_sent = len(made)
        before = num_sent
        if flow.accelerated:
            before = max(0, num_sent - max(0, flow.accelerated_window))
        me = self._me
        memb_id = self._installed_id
        conf_hash = self._conf_hash
        token_round = self.token_rounds
        packets = store.packets
        send: Callable[[bytes], None] = self._network.send_to_all
        number = store.highest_seq
        for position, (packet_type, fragments) in enumerate(made):
            number += 1
            if position == before:
                token_round += 1
                send = after_token.append
            datagram = encode_packet(
                packet_type, me, me, memb_id, number, token_round, conf_hash, fragments
            )
            packets[number] = (datagram, packet_type, me, fragments)
            send(datagram)
        store.highest_seq = number
        self.counters.packet_sent += num_sent
        return num_sent

    def _ask(
        self,
        kept: list[RetransmissionRequest],
        destination: ProcId,
        segment: int,
        bound: int,
    ) -> None:
        """Put a request for everything missing up to ``bound`` behind the others.

        As many numbers as one datagram holds without IP fragments, where the
        others leave room; the rest is asked for in the next rotations.
        """
        used = sum(request_size(len(request.seqs)) for request in kept)
        limit = (PACKET_BODY_SIZE - used - request_size(0)) // 4
        if limit <= 1:
            limit = (MAX_TOKEN_BODY - used - request_size(0)) // 4
            if limit <= 1:
                return
        missing = self._store.missing(bound, limit)
        if missing:
            self.counters.requests_sent += len(missing)
            kept.append(
                RetransmissionRequest(self._installed_id, destination, segment, tuple(missing))
            )

    def _install(self) -> None:
        self._see(self._recovery.install())
        self._just_installed = True
        self._quiet = 0
        self._alarms.alarm(
            Category.PROTOCOL,
            Priority.INFO,
            "installed a membership of %d; %d messages wait",
            len(self._members),
            len(self._queues.current),
        )

    # -- hold and hurry -------------------------------------------------------

    def _idle(self) -> bool:
        """Tell whether nothing is under way: the leader may keep the token."""
        if self._quiet <= 1 or self._last_retrans > 1:
            return False
        if self._store.aru != self._store.highest_seq:
            return False
        return self._runs()

    def _runs(self) -> bool:
        """Tell whether the installed ring is at work."""
        state = self._membership.state
        return state is _OP or (state is _GATHER and self._membership.token_alive)

    def _send_again(self, view: RingView, leader: bool) -> None:
        """Send the last token again, without its requests."""
        token = self._last
        if leader:
            self._last_retrans = (self._last_retrans + 1) & 15
            self._timers.start(Timer.HURRY, self._hurry_timeout)
        if token is None:
            return
        token.type = self._last_arq << ARQ_SHIFT | self._last_retrans << RETRANS_SHIFT
        token.requests = ()
        datagram = token.encode()
        self._network.send_token(datagram)
        membership = self._membership
        if membership.wide_area and membership.last_of_my_segment:
            self._network.send_token(datagram)
        if self._last_retrans > 1:
            self._network.send_token(datagram)
            self._network.send_token(datagram)

    def _hurry_from(self, proc_id: ProcId) -> None:
        view = self._membership.active
        if view.leader == self._me and self._idle() and proc_id in view.members:
            self._quiet = 0
            self.counters.token_hurry += 1
            self._send_again(view, True)

    def hurry(self, header: PacketHeader, now: float) -> None:
        """Take a HURRY packet: the leader lets a held token go."""
        self._hurry_from(header.proc_id)

    # -- timers ---------------------------------------------------------------

    def timer(self, timer: Timer, now: float) -> None:
        """Take a timer of this layer that has run out; others have no effect here."""
        if timer is Timer.DELIVERY:
            self._delivery_timer()
        elif timer is Timer.HURRY:
            membership = self._membership
            view = membership.active
            if membership.token_alive and view.leader == self._me and len(view.members) > 1:
                self.counters.token_hurry += 1
                self._send_again(view, True)
        elif timer is Timer.LOSS:
            self._membership.token_loss()

    def _delivery_timer(self) -> None:
        membership = self._membership
        if len(membership.active.members) == 1 and membership.token_alive:
            self._run_alone()
            return
        self._deliver_due()

    def _deliver_due(self) -> None:
        """Deliver what packets or a lowered threshold have set free."""
        if not (self._due or self._early_due):
            return
        self._due = False
        self._delivering = True
        try:
            if self._early_due:
                self._early_due = False
                self._delivery.early(1, self._store.highest_seq)
            self._delivery.agreed()
        finally:
            self._delivering = False

    # -- a ring of one --------------------------------------------------------

    def _run_alone(self) -> None:
        """Recover, install and order without a token: there is nobody to ask or to tell."""
        membership = self._membership
        store = self._store
        self._delivering = True
        try:
            if membership.state is _EVS:
                store.extend()
                self._recovery.commit_if_complete()
                if store.my_aru != self._recovery.last_seq:
                    self.counters.invariant_breaches += 1
                    membership.token_loss()
                    return
                store.aru = self._recovery.last_seq
                self._install()
                self._timers.stop(Timer.LOSS)
                self._timers.stop(Timer.HURRY)
            elif not self._runs():
                return
            queues = self._queues
            counters = self.counters
            on_message = self._assembly.upper.on_message
            left = len(queues.current)
            while left and queues.current:
                left -= 1
                message = queues.current.popleft()[1]
                number = store.highest_seq + 1
                if number > MAX_WRAP_SEQUENCE_VALUE:
                    number = 1
                store.highest_seq = store.my_aru = store.aru = number
                store.last_delivered = store.last_discarded = number
                counters.packet_sent += 1
                counters.packet_delivered += 1
                on_message(message)
        finally:
            self._delivering = False
        if self._queues.current:
            self._timers.start(Timer.DELIVERY, 0.0)
        if self._clients_stopped:
            self._serve_clients()

    # -- Ordering -------------------------------------------------------------

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        """Append a message to the active down queue; see ``Ordering.submit``.

        A message that does not fit 100 fragments, or lacks a header, is refused
        and counted: no peer could take it.
        """
        if not MIN_MESSAGE_SIZE <= len(message) <= MAX_MESSAGE_SIZE:
            self.counters.refused_messages += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.ERROR,
                "Prot_new_message: a message of %d bytes cannot be sent",
                len(message),
            )
            return
        queue = self._queues.current
        queue.append((int(packet_type), message))
        waiting = len(queue)
        if self._alone:
            if not self._delivering and self._runs():
                self._run_alone()
            elif waiting == 1:
                self._timers.start(Timer.DELIVERY, 0.0)
        elif waiting == 1 and self._idle():
            leader = self._membership.active.leader
            if leader == self._me:
                self._hurry_from(self._me)
            else:
                self.counters.hurries_sent += 1
                self._network.send_to_daemon(leader, self._hurry)
        if waiting >= WATER_MARK and not self._clients_stopped and len(queue) >= WATER_MARK:
            self._clients_stopped = True
            self._gate.stop_clients()

    def switch_queue(self, queue: DownQueue) -> None:
        """Make the other down queue the active one."""
        self._queues.switch(queue)
        if self._alone and self._queues.current:
            self._timers.start(Timer.DELIVERY, 0.0)

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        """Set what may be delivered early; what that sets free follows, not from here."""
        lowered = _RANK[threshold] < _RANK[self._delivery.threshold]
        self._delivery.threshold = threshold
        if lowered:
            self._due = True
            self._early_due = threshold is DeliveryThreshold.NONE
            self._timers.start(Timer.DELIVERY, 0.0)

    def queued(self) -> int:
        """Messages that wait in the active down queue."""
        return len(self._queues.current)

    def _serve_clients(self) -> None:
        if len(self._queues.current) < WATER_MARK:
            self._clients_stopped = False
            self._gate.serve_clients()

    # -- RingOrdering ---------------------------------------------------------

    def on_token_loss(self) -> None:
        """Back off from EVS if there, block early delivery, forget the last token."""
        if self._membership.state is _EVS:
            self._recovery.back_off()
        self._just_installed = False
        self._forget_last()
        self._block()

    def describe(self) -> OldRingState:
        """What a FORM1 entry says of the installed ring."""
        return self._recovery.describe()

    def commit_list(self) -> tuple[tuple[ProcId, ...], int]:
        """Commit_set in order, and how many of it are transitional."""
        return self._recovery.commit_set, self._recovery.num_trans

    def on_form1(self) -> None:
        """A FORM1 has been sent on: no new packet of this ring may leave."""
        self._block()

    def on_form2(self, last_seq: int, entry: OldRingResult, last_member: bool) -> None:
        """Take over the agreed result; deliver in the old membership up to its aru."""
        self._due = False
        self._delivering = True
        try:
            self._recovery.start(last_seq, entry)
        finally:
            self._delivering = False
        self.flow.reset()
        self._forget_last()
        self.received_token_rounds = 0
        self.token_rounds = 1 if last_member else 0
        self.prefer_tokens = False
        self._restart_after = 0.0
        if last_member:
            # A ring of one goes on by itself once the membership state is EVS.
            self._timers.start(Timer.DELIVERY, 0.0)

    def _forget_last(self) -> None:
        self._last = None
        self._last_arq = self._last_retrans = self._last_seq = self._last_aru = 0

    def _block(self) -> None:
        self._delivery.threshold = DeliveryThreshold.BLOCK
        self._timers.stop(Timer.HURRY)

    # -- log ------------------------------------------------------------------

    def _rarely(self, count: int, text: str, *args: object) -> None:
        """Log the 1st, 2nd, 4th, 8th ... occurrence: a flood costs few lines."""
        if count & (count - 1) == 0:
            self._alarms.alarm(Category.PROTOCOL, Priority.WARNING, text, *args)


_RANK: Final = {
    DeliveryThreshold.NONE: 0,
    DeliveryThreshold.AGREED: 1,
    DeliveryThreshold.BLOCK: 2,
}
