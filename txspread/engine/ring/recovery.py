"""Extended virtual synchrony: closing an old ring and opening a new one.

Rules:

* FORM1 collects what each daemon has of its old ring; FORM2 tells every daemon
  the same result: the safe line, the highest number, the *holes* (numbers none
  of them has) and the commit list.
* On FORM2 everything up to the agreed safe line is handed up in the old
  regular membership.  Late packets (agreed holes, or above the agreed highest
  number) are treated as never received.
* In EVS the daemons of an old ring give each other what they lack.  A daemon
  that has everything sets ``my_aru`` to the recovery number ``last_seq``, which is
  the same for all old rings, and remembers the commit list as its Commit_set.
* When the safe line reaches ``last_seq`` all have, and each installs:

  1. in the old regular membership: everything before the first hole and before
     the first SAFE packet;
  2. the transitional membership;
  3. in it: everything up to the first hole, and after it only packets whose
     originator is in the commit list (another's might depend on what is lost);
  4. open messages are dropped, the first message of the down queue starts over;
  5. the future ring becomes the installed one;
  6. the regular membership; then all numbers start again at 0.

* If the token is lost before that, agreed holes become missing numbers again,
  and the Commit_set is kept: some of those daemons may have installed.

(state, event) -> (action, next) as this layer sees it:

=====================  ==================  =====================================
state                  event               action
=====================  ==================  =====================================
any                    token loss          block delivery; in EVS back off
OP, SEG, GATHER, ...   FORM1 handled       block delivery, number nothing
FORM                   FORM2 accepted      take over the result; membership: EVS
EVS, gaps              packet, token       ask, answer, wait
EVS, no gap            token               commit: my_aru = last_seq
EVS, safe = last_seq   token               install; membership: OP
EVS                    over 500 rounds     token loss
=====================  ==================  =====================================

Source: ``docs/protocol/ring-ordering.md`` section 11,
``docs/protocol/membership.md`` sections 6.4 and 7.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.ring.assembly import Assembly
from txspread.engine.ring.counters import RingCounters
from txspread.engine.ring.delivery import Delivery
from txspread.engine.ring.identity import Identity
from txspread.engine.ring.packet_store import (
    MAX_PACKETS,
    PacketStore,
    originator_of,
    type_of,
)
from txspread.engine.ring.packing import DownQueues
from txspread.engine.ring_interfaces import OldRingResult, OldRingState, RingMembership, RingView
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import ProcId

MAX_EVS_ROUNDS: Final = 500
"""Tokens handled in one recovery before it is given up."""

_SAFE: Final = int(PacketType.SAFE)


class Recovery:
    """What this daemon knows of the end of its ring."""

    def __init__(
        self,
        identity: Identity,
        store: PacketStore,
        queues: DownQueues,
        delivery: Delivery,
        assembly: Assembly,
        membership: RingMembership,
        counters: RingCounters,
        alarms: AlarmSink,
    ) -> None:
        self._identity = identity
        self._store = store
        self._queues = queues
        self._delivery = delivery
        self._assembly = assembly
        self._membership = membership
        self._counters = counters
        self._alarms = alarms
        self.last_seq = 0
        """Recovery number of the FORM2 token; valid in EVS."""
        self.commit_set: tuple[ProcId, ...] = (identity.me,)
        self.num_trans = 1
        """How many of :attr:`commit_set`, from its start, are transitional members."""
        self._future_commit_set: tuple[ProcId, ...] = (identity.me,)
        self._future_num_trans = 1

    def describe(self) -> OldRingState:
        """Say what is here of the installed ring, for a FORM1 entry."""
        store = self._store
        missing: list[int] = []
        held: list[int] = []
        for number in range(store.my_aru + 1, store.highest_seq + 1):
            (held if store.holds(number) else missing).append(number)
        return OldRingState(
            aru=store.aru,
            highest_seq=store.highest_seq,
            missing=tuple(missing),
            held=frozenset(held),
        )

    def start(self, last_seq: int, entry: OldRingResult) -> None:
        """Take over what FORM2 says of the old ring, and hand up to its safe line.

        The membership state is still FORM.
        """
        store = self._store
        self.last_seq = last_seq
        aru = entry.aru
        highest = entry.highest_seq
        if aru < store.last_discarded or not aru <= highest <= aru + MAX_PACKETS:
            self._counters.invariant_breaches += 1
            self._alarms.alarm(
                Category.PROTOCOL,
                Priority.ERROR,
                "Read_form2: aru %d and highest_seq %d cannot be this ring's (discarded %d)",
                aru,
                highest,
                store.last_discarded,
            )
            aru = max(aru, store.last_discarded)
            highest = max(aru, min(highest, aru + MAX_PACKETS))
        store.forget_above(highest)
        store.highest_seq = highest
        store.aru = aru
        self._delivery.discard()
        store.mark_holes(entry.holes)
        store.recompute_my_aru()
        self._future_commit_set = entry.commit
        self._future_num_trans = entry.num_trans
        store.aru = 0

    def commit_if_complete(self) -> None:
        """In EVS: jump to ``last_seq`` once everything of the old ring is here."""
        store = self._store
        if store.my_aru == store.highest_seq:
            store.my_aru = self.last_seq
            self.commit_set = self._future_commit_set
            self.num_trans = self._future_num_trans

    def back_off(self) -> None:
        """Leave EVS without having installed."""
        store = self._store
        store.drop_holes()
        store.aru = store.last_discarded
        store.recompute_my_aru()

    def install(self) -> RingView:
        """Close the old ring and open the future one.

        Returns:
            The ring that is installed now.

        """
        store = self._store
        deliver = self._assembly.deliver
        highest = store.highest_seq
        number = store.last_discarded + 1
        while number <= highest:
            head, body = store.get(number)
            if not head or type_of(head) & _SAFE:
                break
            if not store.is_delivered(number):
                store.early.add(number)
                deliver(head, body)
            number += 1

        order = self._identity.position
        transitional = tuple(
            sorted(
                self.commit_set[: self.num_trans],
                key=lambda proc_id: order.get(proc_id, len(order)),
            )
        )
        upper = self._assembly.upper
        upper.on_transitional(transitional, self._membership.transitional_id(transitional))

        commit = frozenset(self.commit_set)
        hole = False
        while number <= highest:
            head, body = store.get(number)
            if not head:
                hole = True
            elif not store.is_delivered(number) and (not hole or originator_of(head) in commit):
                store.early.add(number)
                deliver(head, body)
            number += 1

        self._assembly.clear()
        self._queues.restart_first()
        view = self._membership.install_future()
        self.commit_set = (self._identity.me,)
        self.num_trans = 1
        self._counters.installed += 1
        upper.on_regular(view.members, view.id)
        store.reset()
        return view
