"""The token machine: numbering and reliability, one visit of the token at a time.

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
  twice a second, a HURRY packet (somebody has a message) at once.  A message of the
  leader's own goes out with the token that it keeps: nobody has seen that token, so
  to the others the visit has only lasted longer, and the message is spared a whole
  rotation.
* While this daemon is the only one that speaks, the token may linger for its next
  message (:mod:`~txspread.engine.ring.lingering`), by the same argument.
* Order of work for one token: answer requests, number and send new packets, ask
  for what is missing, send the token, send the rest of the new packets
  (accelerated ring).  Delivery comes after all that, and not from here.

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

Whatever is dropped is counted under its cause and has no other effect, no timer
included.

Source: ``docs/protocol/ring-ordering.md`` sections 6, 7 and 14,
``docs/protocol/daemon-datagrams.md`` sections 7.3, 13 and 14.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.ring.counters import RingCounters, rarely
from txspread.engine.ring.flow import MAX_SEQ_GAP, FlowControl
from txspread.engine.ring.identity import Identity
from txspread.engine.ring.lingering import Keeper, Lingering
from txspread.engine.ring.packet_store import MAX_PACKETS, PacketStore
from txspread.engine.ring.packing import DownQueues
from txspread.engine.ring.recovery import Recovery
from txspread.engine.ring.retransmission import Retransmission
from txspread.engine.ring.sending import Sending
from txspread.engine.ring_interfaces import (
    MembershipState,
    Network,
    RingMembership,
    RingView,
    Timer,
    Timers,
)
from txspread.wire.constants import PacketType
from txspread.wire.datagram import ARQ, ARQ_SHIFT, RETRANS, RETRANS_SHIFT
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.token import RetransmissionRequest, Token

MAX_WRAP_SEQUENCE_VALUE: Final = 1 << 30
"""A token with a larger number is dropped, so that the ring starts counting anew."""

_EVS: Final = MembershipState.EVS
_OP: Final = MembershipState.OP
_GATHER: Final = MembershipState.GATHER
_SAFE: Final = int(PacketType.SAFE)


class TokenMachine:
    """Everything that a daemon does between taking the token and passing it on."""

    def __init__(
        self,
        identity: Identity,
        flow: FlowControl,
        store: PacketStore,
        queues: DownQueues,
        recovery: Recovery,
        network: Network,
        timers: Timers,
        membership: RingMembership,
        counters: RingCounters,
        alarms: AlarmSink,
    ) -> None:
        self._identity = identity
        self._flow = flow
        self._store = store
        self._queues = queues
        self._recovery = recovery
        self._network = network
        self._timers = timers
        self._membership = membership
        self._counters = counters
        self._alarms = alarms
        self._retransmission = Retransmission(identity, store, network, counters, alarms)
        self._sending = Sending(identity, store, network)
        self.lingering = Lingering(timers)
        self.keeper = Keeper()

        self._last: Token | None = None
        """The token sent or held last in this membership; sent again without requests."""
        self._last_arq = 0
        self._last_retrans = 0
        self._last_seq = 0
        self._last_aru = 0
        self._held = False
        """The last token was kept, and nobody else has seen it."""
        self.just_installed = False
        """The next token is the first of an installed ring."""
        self.quiet = 0
        """Consecutive visits that ended with everything stable (Token_counter)."""
        self.token_rounds = 0
        """Regular tokens handled in this membership, held ones included; starts at
        1 at the member that made the first one."""
        self.received_token_rounds = 0
        """Regular tokens accepted in this membership."""
        self.predecessor: ProcId = identity.me
        """Who sends the token here."""
        self.prefer_tokens = False
        """Accelerated ring: the predecessor has sent the token already, so the
        token socket should be read before the data socket."""
        self.timers_fresh_until = 0.0
        """Until then arriving packets need not restart the loss and hurry timers."""
        self.evs_visit = False
        """Whether the last accepted token was handled in recovery."""
        self.first_new = 1
        """Number of the first packet made in the last visit."""
        self.num_sent = 0
        """How many were made."""

    def forget(self) -> None:
        """The ring is gone: there is no last token."""
        self._last = None
        self._held = False
        self.lingering.forget()
        self.keeper.forget()
        self._last_arq = self._last_retrans = self._last_seq = self._last_aru = 0
        self.just_installed = False
        self.prefer_tokens = False

    def start(self, last_member: bool) -> None:
        """FORM2 has named a new ring; its last member makes the first token."""
        self.forget()
        self._retransmission.forget()
        self.received_token_rounds = 0
        self.token_rounds = 1 if last_member else 0
        self.timers_fresh_until = 0.0

    def installed(self) -> None:
        """The new ring is installed: its numbers start at 0."""
        self.just_installed = True
        self.quiet = 0

    # -- taking a token -------------------------------------------------------

    def token(self, data: bytes, now: float) -> bool:
        """Take one datagram from the token channel.

        Args:
            data: the complete datagram.
            now: seconds on the engine's clock.

        Returns:
            Whether it was accepted and handled, so that deliveries may be due.

        """
        counters = self._counters
        try:
            token = Token.decode(data)
        except ProtocolError as error:
            counters.malformed_tokens += 1
            rarely(self._alarms, counters.malformed_tokens, "Prot_handle_token: %s", error)
            return False
        if token.conf_hash != self._identity.conf_hash:
            counters.foreign_hash_tokens += 1
            return False
        membership = self._membership
        if not membership.token_alive:
            counters.dead_tokens += 1
            return False
        view = membership.active
        if (
            token.memb_id != view.id
            or token.transmiter_id != view.predecessor
            or len(view.members) == 1
        ):
            counters.foreign_tokens += 1
            return False
        evs = membership.state is _EVS
        if token.seq > MAX_WRAP_SEQUENCE_VALUE and not evs:
            counters.rollover_tokens += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.WARNING,
                "Prot_handle_token: seq (%d) rollover; swallowing token to trigger membership",
                token.seq,
            )
            return False
        arq = (token.type & ARQ) >> ARQ_SHIFT
        retrans = (token.type & RETRANS) >> RETRANS_SHIFT
        leader = view.leader == self._identity.me
        if leader:
            if arq != self._last_arq:
                counters.stale_tokens += 1
                return False
        elif arq == self._last_arq:
            if retrans > self._last_retrans:
                self._last_retrans = retrans
                counters.tokens_repeated += 1
                self._send_again()
            else:
                counters.stale_tokens += 1
            return False
        elif arq != (self._last_arq + 1) & 15:
            counters.stale_tokens += 1
            return False
        if not self._possible(token, evs):
            counters.impossible_tokens += 1
            rarely(
                self._alarms,
                counters.impossible_tokens,
                "Prot_handle_token: impossible token: seq %d, aru %d (by %d); Aru %d, discarded %d",
                token.seq,
                token.aru,
                token.aru_last_id,
                self._store.aru,
                self._store.last_discarded,
            )
            return False
        return self._visit(token, view, evs, leader, arq, retrans, now)

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
            or token.aru_last_id == self._identity.me
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
    ) -> bool:
        counters = self._counters
        store = self._store
        me = self._identity.me
        counters.tokens_accepted += 1
        if retrans and not leader:
            counters.token_hurry += 1
        if self.just_installed:
            self.just_installed = False
            self._last_aru = 0
        incoming_seq = token.seq
        if not evs and incoming_seq > store.highest_seq:
            store.highest_seq = incoming_seq
        self.received_token_rounds += 1
        self.prefer_tokens = False
        self.predecessor = view.predecessor

        retransmission = self._retransmission
        kept: list[RetransmissionRequest] = []
        num_retrans = 0
        asked = bool(token.requests)
        if asked:
            kept = retransmission.answer(token.requests)
            num_retrans = retransmission.answered

        after_token: list[bytes] = []
        self.evs_visit = evs
        self.first_new = store.highest_seq + 1
        self.num_sent = 0
        lingering = self.lingering
        lingering.visit(now, incoming_seq != self._last_seq, asked or token.aru < self._last_seq)
        self.keeper.visited()
        quota = self._flow.quota(token.flow_control)
        queue = self._queues.current
        if queue and not evs:
            self.num_sent = self._send_new(
                quota,
                self.token_rounds,
                None if len(queue) == 1 and lingering.likely() else after_token,
                now,
            )
        token.flow_control = self._flow.contribute(token.flow_control, self.num_sent, num_retrans)

        if store.my_aru < store.highest_seq:
            store.extend()
            bound = self._last_seq if self._flow.accelerated and not evs else store.highest_seq
            if store.my_aru < bound:
                if not asked:
                    kept = retransmission.answer(())
                retransmission.ask(kept, bound)
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
        self._held = leader and self.idle()
        if self._held:
            counters.tokens_held += 1
        elif (
            lingering.willing(now)
            and not after_token
            and not asked
            and not kept
            and retrans <= 1
            and token.aru_last_id == me
            and my_aru == store.highest_seq
            and not queue
            and quota > self.num_sent
            and self._membership.state is _OP
        ):
            counters.tokens_lingered += 1
            lingering.begin(
                now, quota, self.num_sent, len(view.members) - 1, self._identity.hurry_timeout
            )
        else:
            datagram = token.encode()
            self._network.send_token(datagram)
            if retrans > 1:
                self._network.send_token(datagram)
                self._network.send_token(datagram)

        self.token_rounds += 1
        if now >= self.timers_fresh_until:
            self.restart_timers(leader, now)
        for packet in after_token:
            self._network.send_to_all(packet)

        aru = token.aru if token.aru < self._last_aru else self._last_aru
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
            return False
        store.aru = aru
        self.quiet = self.quiet + 1 if store.highest_seq == aru else 0
        self._last = token
        self._last_arq = arq
        self._last_retrans = retrans
        self._last_seq = token.seq
        self._last_aru = token.aru
        return True

    def _send_new(
        self, allowed: int, token_round: int, after_token: list[bytes] | None, now: float
    ) -> int:
        """Number and send new packets; those that follow the token go to ``after_token``.

        Args:
            allowed: most that flow control allows.
            token_round: rounds handled before the one of this token.
            after_token: collects what is to be sent once the token has left; None:
                everything is sent before it.
            now: seconds on the engine's clock.

        Returns:
            How many were numbered.

        """
        store = self._store
        flow = self._flow
        if store.highest_seq > store.aru + MAX_SEQ_GAP:
            return 0
        allowed = min(allowed, store.last_discarded + MAX_PACKETS - store.highest_seq)
        if allowed <= 0:
            return 0
        made = self._queues.make_packets(allowed)
        num_sent = len(made)
        before = num_sent
        if flow.accelerated and after_token is not None:
            before = max(0, num_sent - max(0, flow.accelerated_window))
        self._sending.send(
            made, before, token_round, after_token if after_token is not None else []
        )
        self._counters.packet_sent += num_sent
        if num_sent:
            safe = False
            for packet_type, _body in made:
                if packet_type == _SAFE:
                    safe = True
            self.lingering.spoke(now, safe)
        return num_sent

    # -- hold, hurry, timers --------------------------------------------------

    def restart_timers(self, leader: bool, now: float) -> None:
        """A token or a packet of the ring came: the token is not lost.

        They come often, so they restart the timers only every fiftieth part of
        the shorter timeout, which they may therefore cut short by that much.
        """
        identity = self._identity
        if leader:
            self._timers.start(Timer.HURRY, identity.hurry_timeout)
        self._timers.start(Timer.LOSS, identity.token_timeout)
        self.timers_fresh_until = now + min(identity.token_timeout, identity.hurry_timeout) / 50

    def runs(self) -> bool:
        """Tell whether the installed ring is at work."""
        state = self._membership.state
        return state is _OP or (state is _GATHER and self._membership.token_alive)

    def idle(self) -> bool:
        """Tell whether nothing is under way, so that the leader may keep the token."""
        return (
            self.quiet > 1
            and self._last_retrans <= 1
            and self._store.aru == self._store.highest_seq
            and self.runs()
        )

    def hurry(self, proc_id: ProcId, ring: MembershipId | None = None) -> bool:
        """A member (or this daemon) has a message while the ring is idle, or waits for the token.

        Args:
            proc_id: who.
            ring: which ring it names; only who calls for a token that lingers names one.

        Returns:
            Whether new packets of this daemon's own went out with the token, so that
            deliveries may be due.

        """
        view = self._membership.active
        if ring == view.id and proc_id in view.members:
            self.lingering.called_by(proc_id)
        if self.lingering.active:
            if proc_id in view.members:
                self._pass_on()
            return False
        if view.leader == self._identity.me and proc_id in view.members and self.idle():
            self.quiet = 0
            return self._release()
        return False

    def hurry_timer(self) -> None:
        """The leader has not seen the token for too long, or keeps it on an idle ring."""
        membership = self._membership
        view = membership.active
        if membership.token_alive and view.leader == self._identity.me and len(view.members) > 1:
            self._release()

    def linger_timer(self) -> None:
        """The token may have waited long enough."""
        if self.lingering.active and not self.lingering.still(self._timers.now):
            self._pass_on()

    def go_on(self) -> bool:
        """Send what has been submitted while the token lingers; whether anything was sent."""
        token = self._last
        if token is None or not self.runs():
            return False
        lingering = self.lingering
        now = self._timers.now
        if lingering.renews(len(self._queues.current), now):
            flow = self._flow
            token.flow_control = flow.contribute(token.flow_control, 0, 0)
        sent = self._visit_longer(token, lingering.allowance, None, now)
        lingering.made(sent)
        if self._queues.current or not lingering.goes_on(now):
            self._pass_on()
        return sent > 0

    def _pass_on(self) -> None:
        """Send the token that has lingered, for the first time."""
        self.lingering.end()
        if self._last is not None and self._membership.token_alive:
            self._network.send_token(self._last.encode())

    def _release(self) -> bool:
        """Let the token go; tells whether new packets went with it."""
        self._counters.token_hurry += 1
        self._last_retrans = (self._last_retrans + 1) & 15
        self._timers.start(Timer.HURRY, self._identity.hurry_timeout)
        token = self._last
        after_token: list[bytes] = []
        sent = 0
        if self._held and self._queues.current and token is not None:
            sent = self._visit_longer(
                token, self._flow.quota(token.flow_control), after_token, self._timers.now
            )
        self._send_again()
        for packet in after_token:
            self._network.send_to_all(packet)
        return sent > 0

    def _visit_longer(
        self, token: Token, allowed: int, after_token: list[bytes] | None, now: float
    ) -> int:
        """Go on with the visit of a token that was kept, when nobody lacked anything."""
        store = self._store
        flow = self._flow
        sent = self._send_new(allowed, self.token_rounds - 1, after_token, now)
        if sent:
            self.quiet = 0  # the others count, too: they send a HURRY only after two quiet visits
            store.extend()
            self.first_new = store.highest_seq - sent + 1
            self.num_sent = sent
            token.flow_control = flow.contribute(
                token.flow_control, flow.last_num_sent + sent, flow.last_num_retrans
            )
            token.aru = self._last_aru = store.my_aru
            token.aru_last_id = self._identity.me
            token.seq = self._last_seq = store.highest_seq
        return sent

    def _send_again(self) -> None:
        """Send the last token again, without its requests."""
        token = self._last
        if token is None:
            return
        self._held = False
        self.lingering.end()
        token.type = self._last_arq << ARQ_SHIFT | self._last_retrans << RETRANS_SHIFT
        token.requests = ()
        datagram = token.encode()
        copies = 3 if self._last_retrans > 1 else 1
        if self._membership.wide_area and self._membership.last_of_my_segment:
            copies += 1
        for _copy in range(copies):
            self._network.send_token(datagram)
