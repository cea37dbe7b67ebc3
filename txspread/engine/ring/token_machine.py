"""The ordering layer of a daemon: the token machine, what arrives, what is delivered.

Rules:

* Which packets are held is up to :mod:`~txspread.engine.ring.reception`.
* Packets that arrive are delivered when the batch of inputs that brought them is
  through (a timer of no delay), and after a token only when the token has gone
  on, so that the ring never waits for the fan-out to clients.
* A ring of one sends nothing: what is submitted is delivered, in the same order
  of signals as on a larger ring.
* Calls from above (``submit``, ``set_threshold``, ``switch_queue``) never deliver
  while a delivery is going on.

Anything that does not fit is counted under its cause and dropped before it has
any effect; see :class:`~txspread.engine.ring.counters.RingCounters`.

Source: ``docs/protocol/ring-ordering.md`` sections 5, 8, 11.7, 12 and 14;
``docs/protocol/daemon-datagrams.md`` sections 5.3 and 14.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
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
from txspread.engine.ring.flow import FlowControl
from txspread.engine.ring.identity import Identity
from txspread.engine.ring.packet_store import PacketStore, originator_of
from txspread.engine.ring.packing import (
    MAX_MESSAGE_SIZE,
    MIN_MESSAGE_SIZE,
    DownQueues,
)
from txspread.engine.ring.reception import Reception
from txspread.engine.ring.recovery import MAX_EVS_ROUNDS, Recovery
from txspread.engine.ring.token_visit import MAX_WRAP_SEQUENCE_VALUE, TokenMachine
from txspread.engine.ring_interfaces import (
    MembershipState,
    Network,
    OldRingResult,
    OldRingState,
    RingMembership,
    Timer,
    Timers,
)
from txspread.wire.constants import WATER_MARK, PacketType
from txspread.wire.datagram import HURRY
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.packet import NO_MEMBERSHIP, PacketHeader, encode_bare

_OP: Final = MembershipState.OP
_EVS: Final = MembershipState.EVS
_FORM: Final = MembershipState.FORM
_RELIABLE: Final = int(PacketType.RELIABLE)

_RANK: Final = {
    DeliveryThreshold.NONE: 0,
    DeliveryThreshold.AGREED: 1,
    DeliveryThreshold.BLOCK: 2,
}


class TokenRing:
    """Ordering of one daemon: implements ``Ordering`` and ``RingOrdering``.

    Args:
        me: this daemon.
        configuration: windows, hash, timeouts, configuration order.
        network: sends datagrams by the ring that routes now.
        timers: named timers; :data:`Timer.HURRY` and :data:`Timer.DELIVERY` come
            back through :meth:`timer`; :data:`Timer.LOSS` is restarted here, and may
            come back through :meth:`timer` or go to the membership machine.
        membership: the membership machine.
        delivery: the groups layer; may be named later with :meth:`connect`.
        gate: the sessions layer; may be named later with :meth:`connect`.
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
        self._network = network
        self._timers = timers
        self._membership = membership
        self._gate: ClientGate = gate if gate is not None else nobody
        self._alarms = alarms
        self.counters = RingCounters()
        self.flow = FlowControl.of(configuration)
        self._identity = Identity.of(me, configuration, membership.installed)
        self._store = PacketStore()
        self._queues = DownQueues()
        self._assembly = Assembly(
            delivery if delivery is not None else nobody, self.counters, alarms
        )
        self._delivery = Delivery(self._store, self._assembly, membership, self.counters, alarms)
        self._recovery = Recovery(
            self._identity,
            self._store,
            self._queues,
            self._delivery,
            self._assembly,
            membership,
            self.counters,
            alarms,
        )
        self._machine = TokenMachine(
            self._identity,
            self.flow,
            self._store,
            self._queues,
            self._recovery,
            network,
            timers,
            membership,
            self.counters,
            alarms,
        )
        self._reception = Reception(
            self._identity, self.flow, self._store, self._machine, membership, self.counters, alarms
        )
        self._alone = False
        """The installed ring is this daemon alone (not before its first installation)."""
        self._due = False
        """Packets may be deliverable; the delivery timer runs."""
        self._early_due = False
        self._delivering = False
        self._clients_stopped = False
        self.token_follows = False
        """The token may be close behind the packets taken last."""

    def connect(self, delivery: OrderedDelivery, gate: ClientGate) -> None:
        """Name the layers above, where they could not be made before this one."""
        self._assembly.upper = delivery
        self._gate = gate

    def reload(self, configuration: Configuration) -> None:
        """Take a configuration that was read again: windows, hash, timeouts, order.

        The membership machine then declares the token lost.
        """
        self.flow.reload(configuration)
        self._identity.take(configuration)

    # -- what others may know -------------------------------------------------

    @property
    def aru(self) -> int:
        """Every member holds all numbers up to this, as far as known here."""
        return self._store.aru

    @property
    def my_aru(self) -> int:
        """Contiguity point: all numbers up to this are held here."""
        return self._store.my_aru

    @property
    def highest_seq(self) -> int:
        """Largest number known in the ring."""
        return self._store.highest_seq

    @property
    def token_rounds(self) -> int:
        """Regular tokens handled in this membership."""
        return self._machine.token_rounds

    @property
    def prefer_tokens(self) -> bool:
        """Whether the token socket should be read before the data socket now."""
        return self._machine.prefer_tokens

    @property
    def threshold(self) -> DeliveryThreshold:
        """What may be delivered early now."""
        return self._delivery.threshold

    # -- what arrives ---------------------------------------------------------

    def data_packet(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take one data packet that has passed the network's own checks.

        Args:
            data: the complete datagram.
            header: its decoded header, of a type with a bit of 0x1f.
            now: seconds on the engine's clock.

        """
        self.token_follows = header.transmiter_id == self._machine.predecessor
        taken = self._reception.packet(data, header, now, self._alone)
        if taken > 0:
            self._deliver_soon()
        elif taken < 0:
            self._deliver_due()
            self._delivering = True
            try:
                self._delivery.early(-taken, -taken)
            finally:
                self._delivering = False

    def data_packets(
        self, batch: Sequence[bytes], start: int, now: float, heard: Container[ProcId], refused: int
    ) -> int:
        """Take datagrams in which everything is as usual; see :meth:`Reception.packets`."""
        if self._membership.state is not _OP or self._alone:
            return start
        position = self._reception.packets(
            batch, start, now, heard, refused, self._delivery.threshold is DeliveryThreshold.NONE
        )
        if position > start:
            store = self._store
            if store.my_aru > store.last_delivered:
                self._deliver_soon()
            self._heard(now)
        return position

    def data_train(
        self,
        train: bytes | memoryview,
        size: int,
        now: float,
        heard: Container[ProcId],
        refused: int,
    ) -> int:
        """Take a train in which everything is as usual; see :meth:`Reception.train`."""
        if self._membership.state is not _OP or self._alone:
            return 0
        count = self._reception.train(train, size, now, heard, refused)
        if count:
            self._deliver_soon()
            self._heard(now)
        return count

    def _heard(self, now: float) -> None:
        """New packets have come: notice who speaks, and call for the token if it stays there."""
        store = self._store
        head, _body = store.get(store.highest_seq)
        if head:
            machine = self._machine
            keeper = machine.keeper
            originator = originator_of(head)
            keeper.heard(originator, now)
            self.token_follows = originator == machine.predecessor and not keeper.certainly()
            if keeper.keeps():
                needed = bool(self._queues.current) or store.my_aru < store.highest_seq
                self._call(keeper.ask(needed))

    def token(self, data: bytes, now: float) -> None:
        """Take one regular token: pass it on, then deliver what it has set free.

        Args:
            data: the complete datagram.
            now: seconds on the engine's clock.

        """
        if self._machine.token(data, now):
            self._after_visit()

    def hurry(self, header: PacketHeader, now: float) -> None:
        """Take a HURRY packet: the leader lets a held token go."""
        if self._machine.hurry(header.proc_id, header.memb_id):
            self._deliver_soon()

    def timer(self, timer: Timer, now: float) -> None:
        """Take a timer of this layer that has run out; others have no effect here."""
        if timer is Timer.DELIVERY:
            membership = self._membership
            if len(membership.active.members) == 1 and membership.token_alive:
                self._run_alone()
            self._deliver_due()
        elif timer is Timer.LINGER:
            self._machine.linger_timer()
        elif timer is Timer.HURRY:
            self._machine.hurry_timer()
        elif timer is Timer.LOSS:
            self._membership.token_loss()

    # -- deliveries -----------------------------------------------------------

    def _after_visit(self) -> None:
        """What need not hold the token up: delivery, installation, the clients."""
        machine = self._machine
        store = self._store
        delivery = self._delivery
        self._delivering = True
        try:
            if machine.evs_visit:
                if store.aru == self._recovery.last_seq:
                    self._install()
                elif machine.token_rounds > MAX_EVS_ROUNDS:
                    self.counters.recoveries_abandoned += 1
                    self._alarms.alarm(
                        Category.PROTOCOL,
                        Priority.ERROR,
                        "Prot_handle_token: over %d rounds in EVS state; recovery given up",
                        MAX_EVS_ROUNDS,
                    )
                    self._membership.token_loss()
                return
            if store.aru > store.last_discarded and not delivery.discard():
                self._membership.token_loss()
                return
            self._due = self._early_due
            delivery.agreed()
            if machine.num_sent:
                delivery.early(machine.first_new, machine.first_new + machine.num_sent - 1)
        finally:
            self._delivering = False
        if self._clients_stopped:
            self._serve_clients()

    def _deliver_soon(self) -> None:
        """Deliver at the end of the turn."""
        if not self._due:
            self._due = True
            self._timers.start(Timer.DELIVERY, 0.0)

    def _deliver_due(self) -> None:
        """Deliver what packets or a lowered threshold have set free."""
        if not self._due:
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

    def _install(self) -> None:
        view = self._recovery.install()
        self._identity.see(view)
        self._alone = len(view.members) == 1
        self._machine.installed()

    def _run_alone(self) -> None:
        """Recover, install and order without a token: there is nobody to ask or to tell."""
        membership = self._membership
        store = self._store
        self._delivering = True
        try:
            if membership.state is _EVS:
                self._recovery.commit_if_complete()
                if store.my_aru != self._recovery.last_seq:
                    self.counters.invariant_breaches += 1
                    membership.token_loss()
                    return
                store.aru = self._recovery.last_seq
                self._install()
                self._timers.stop(Timer.LOSS)
                self._timers.stop(Timer.HURRY)
            elif not (self._alone and self._machine.runs()):
                return
            queue = self._queues.current
            counters = self.counters
            messages = [message for _type, message in queue]
            queue.clear()
            number = store.highest_seq + len(messages)
            if number > MAX_WRAP_SEQUENCE_VALUE:
                number = len(messages)
            store.highest_seq = store.my_aru = store.aru = number
            store.last_delivered = store.last_discarded = number
            counters.packet_sent += len(messages)
            counters.packet_delivered += len(messages)
            self._assembly.upper.on_messages(messages)
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
        self.submit_many([message], packet_type)

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        """Append several messages; see ``Ordering.submit_many``."""
        queue = self._queues.current
        empty = not queue
        kind = int(packet_type)
        for message in messages:
            if MIN_MESSAGE_SIZE <= len(message) <= MAX_MESSAGE_SIZE:
                queue.append((kind, message))
            else:
                self._refuse(message)
        if not queue:
            return
        if self._alone:
            if self._delivering:
                self._timers.start(Timer.DELIVERY, 0.0)
            elif self._machine.runs():
                self._run_alone()
        elif empty:
            self._speak()
        if len(queue) >= WATER_MARK and not self._clients_stopped:
            self._clients_stopped = True
            self._gate.stop_clients()

    def _speak(self) -> None:
        """The first message waits: the token may be here, or may have to be called."""
        machine = self._machine
        if machine.lingering.active:
            if machine.go_on():
                self._deliver_soon()
        elif machine.idle():
            leader = self._membership.active.leader
            if leader != self._identity.me:
                self._send_hurry(leader, NO_MEMBERSHIP)
            elif machine.hurry(leader):
                self._deliver_soon()
        else:
            self._call(machine.keeper.ask())

    def _call(self, keeper: ProcId) -> None:
        """Send a HURRY to who keeps the token though the ring is not idle; 0: nobody does."""
        if keeper:
            self._send_hurry(keeper, self._membership.active.id)

    def _send_hurry(self, holder: ProcId, ring: MembershipId) -> None:
        self.counters.hurries_sent += 1
        identity = self._identity
        self._network.send_to_daemon(
            holder, encode_bare(HURRY, identity.me, identity.me, ring, identity.conf_hash)
        )

    def _refuse(self, message: bytes) -> None:
        self.counters.refused_messages += 1
        self._alarms.alarm(
            Category.PROTOCOL,
            Priority.ERROR,
            "Prot_new_message: a message of %d bytes cannot be sent",
            len(message),
        )

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
        self._machine.forget()
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
        self._identity.see(self._membership.installed)
        self.flow.reset()
        self._machine.start(last_member)
        self._delivering = True
        try:
            self._recovery.start(last_seq, entry)
        finally:
            self._delivering = False
        if last_member:
            # A ring of one goes on by itself once the membership state is EVS.
            self._timers.start(Timer.DELIVERY, 0.0)

    def _block(self) -> None:
        self._delivery.threshold = DeliveryThreshold.BLOCK
        self._machine.lingering.forget()
        self._timers.stop(Timer.HURRY)
