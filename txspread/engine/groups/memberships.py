"""The ring's memberships, as the groups layer follows them, and the exchange of state.

A transitional signal marks who is lost, a regular one with newcomers begins an exchange
in which the daemons that know the same (the synced set) tell it to the others.  What
happens in which state is the table in :mod:`txspread.engine.groups.machine`.

Source: ``docs/protocol/groups.md`` section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import Priority
from txspread.engine.groups import changes
from txspread.engine.groups.exchange import Arrival, Exchange, state_messages
from txspread.engine.groups.log import GroupsLog
from txspread.engine.groups.machine import TRANSITIONS, Action, Event, GroupsState, RingOutOfOrder
from txspread.engine.groups.names import daemon_order
from txspread.engine.groups.state import GroupTable
from txspread.engine.groups.telling import Teller
from txspread.engine.interfaces import DeliveryThreshold, DownQueue, LocalSessions, Ordering
from txspread.wire.constants import KILL_MESS, PacketType, ServiceType
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.message import encode_message, field_name

_BROKEN_CONNECTION: Final = KILL_MESS | int(ServiceType.SAFE_MESS)


class Memberships:
    """Which ring there is, who of it knows the same groups, and what is still exchanged.

    Args:
        me: this daemon.
        configuration: names and order of the daemons.
        ordering: where KILL and GROUPS messages are submitted; :attr:`ordering` may be
            replaced.
        sessions: the clients of this daemon.
        table: the groups.
        tell: tells local members of changes.
        log: where log lines go.
        entered: called after each change of :attr:`state`.
        reform: see :class:`~txspread.engine.groups.layer.Groups`.

    """

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        ordering: Ordering,
        sessions: LocalSessions,
        table: GroupTable,
        tell: Teller,
        log: GroupsLog,
        entered: Callable[[], None],
        reform: Callable[[str], None] | None,
    ) -> None:
        self.ordering = ordering
        self.state = GroupsState.GOP
        self.synced_set: list[ProcId] = [me.id]
        """Daemons known to hold the same replica, in configuration order."""
        self.trans_members: tuple[ProcId, ...] = (me.id,)
        """Of the last transitional membership."""
        self.trans_id = MembershipId(me.id, -1)
        self.reg_id = MembershipId(me.id, -1)
        """Id of the last regular membership."""
        self._me = me.id
        self._my_name = me.name_bytes
        self._configuration = configuration
        self._position = configuration.position
        self._sessions = sessions
        self._table = table
        self._tell = tell
        self._log = log
        self._entered = entered
        self._reform = reform
        self._exchange: Exchange | None = None
        self._lost_kills: dict[bytes, None] = {}

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Hear who of the old ring comes along.

        Raises:
            RingOutOfOrder: a transitional signal cannot come now.

        """
        step = TRANSITIONS[self.state, Event.TRANSITIONAL]
        self._log.info("G_handle_trans_memb:  with %s id", membership_id)
        self._log.info("G_handle_trans_memb in %s", self.state.name)
        if step.action is Action.BROKEN:
            raise RingOutOfOrder(f"transitional membership in {self.state.name}")
        self.trans_members = tuple(members)
        self.trans_id = membership_id
        if step.action is Action.MARK_LOST:
            self._mark_lost()
        else:
            changes.note_lost(self._table, self.trans_members)
        self._enter(step.next_state)

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Hear that a new ring is installed.

        Raises:
            RingOutOfOrder: a regular membership cannot come now.

        """
        smaller = len(members) == len(self.trans_members)
        event = Event.REGULAR_SMALLER if smaller else Event.REGULAR_LARGER
        step = TRANSITIONS[self.state, event]
        self._log.info("G_handle_reg_memb:  with %s id", membership_id)
        self._log.info("G_handle_reg_memb in %s", self.state.name)
        if step.action is Action.BROKEN:
            raise RingOutOfOrder(f"regular membership in {self.state.name}")
        self.reg_id = membership_id
        if step.action is Action.DROP_LOST:
            changes.drop_lost(self._table, self._tell, self._log, membership_id)
            self._enter(step.next_state)
            self.ordering.set_threshold(DeliveryThreshold.NONE)
            return
        if step.action is Action.BEGIN_EXCHANGE:
            changes.remove_partitioned(self._table)
            self._sessions.block()
            self.ordering.switch_queue(DownQueue.GROUPS)
            self.ordering.set_threshold(DeliveryThreshold.AGREED)
        else:
            self._take_over_exchange()
        self._exchange = Exchange(
            membership_id, tuple(members), self.synced_set, self._configuration
        )
        self._send_state()
        self._enter(step.next_state)

    def _enter(self, state: GroupsState) -> None:
        self.state = state
        self._entered()

    def _mark_lost(self) -> None:
        changes.mark_lost(self._table, self._tell, self.trans_members, self.trans_id)
        self._restrict_synced_set()
        self._log.synced_set("G_handle_trans_memb", self.synced_set)

    def _take_over_exchange(self) -> None:
        """Regular membership in GGT (section 3.6)."""
        exchange = self._exchange
        if exchange is not None and exchange.own_complete:
            self._extend_synced_set(exchange.merge(self._table))
        changes.remove_outside(self._table, self.trans_members)
        self._restrict_synced_set()
        self._log.synced_set("G_handle_reg_memb", self.synced_set)

    def _restrict_synced_set(self) -> None:
        members = self.trans_members
        self.synced_set = [proc_id for proc_id in self.synced_set if proc_id in members]

    def _extend_synced_set(self, daemons: Sequence[ProcId]) -> None:
        self.synced_set = sorted({*self.synced_set, *daemons}, key=self._order)

    def _order(self, proc_id: ProcId) -> int:
        return daemon_order(self._position, proc_id)

    def _send_state(self) -> None:
        """Send the synced set's state if this daemon speaks for it."""
        if self.synced_set[0] != self._me:
            return
        messages = state_messages(self._table, self._my_name, self.reg_id, self.synced_set)
        for message, packet_type in messages:
            self.ordering.submit(message, packet_type)
        self._log.info(
            "G_handle_reg_memb: %d GROUPS messages sent in %s", len(messages), self.state.name
        )

    def on_groups(self, message: bytes) -> None:
        """Take a GROUPS message: a part of the exchange.

        Raises:
            ProtocolError: it is no message at all.

        """
        exchange = self._exchange
        step = TRANSITIONS[self.state, Event.GROUPS]
        if step.action is not Action.GATHER or exchange is None:
            self._log.drop(
                "GROUPS out of turn",
                "G_handle_groups in %s",
                self.state.name,
                priority=Priority.CRITICAL,
            )
            return
        try:
            arrival = exchange.take(message)
        except ProtocolError as error:
            self._log.drop(
                "bad GROUPS",
                "GROUPS message refused: %s",
                error,
                priority=Priority.CRITICAL,
            )
            self.ask_to_reform(f"a GROUPS message was refused: {error}")
            return
        name = field_name(message[4:32])
        if arrival is Arrival.STALE:
            self._log.info(
                "G_handle_groups: GROUPS message received from bad memb id, daemon %s.", name
            )
        elif arrival is Arrival.UNKNOWN:
            self._log.drop("unknown daemon", "GROUPS message of unknown daemon %s", name)
        else:
            self._log.info(
                "G_handle_groups: GROUPS message received from %s - msgs %d, daemons %d",
                name,
                exchange.messages,
                exchange.daemons,
            )
            if arrival is Arrival.COMPLETE:
                self._complete_exchange(exchange)

    def _complete_exchange(self, exchange: Exchange) -> None:
        """Every representative has told everything (section 3.10)."""
        step = TRANSITIONS[self.state, Event.GROUPS_COMPLETE]
        self._log.info(
            "G_handle_groups: Last GROUPS message received - msgs %d, daemons %d",
            exchange.messages,
            exchange.daemons,
        )
        self.ordering.switch_queue(DownQueue.NORMAL)
        self._sessions.unblock()
        self._log.info("G_compute_and_notify:")
        self._extend_synced_set(exchange.merge(self._table))
        changes.renew_changed(self._table, self._tell, self.reg_id)
        self._exchange = None
        self._enter(GroupsState.GOP)
        self._log.list_groups(self._table.in_order())
        self.ordering.set_threshold(DeliveryThreshold.NONE)
        lost_kills, self._lost_kills = self._lost_kills, {}
        for who in lost_kills:
            self.submit_kill(who)
        if step.action is Action.MERGE_THEN_MARK_LOST:
            self._mark_lost()
            self._enter(step.next_state)

    # -- KILLs and what cannot be ------------------------------------------------------

    def submit_kill(self, who: bytes) -> None:
        """Order the end of a session."""
        self.ordering.submit(encode_message(_BROKEN_CONNECTION, who, ()), PacketType.SAFE)

    def kill_after_exchange(self, who: bytes) -> None:
        """A KILL of a session of ours came during the exchange: order it again behind that."""
        self._lost_kills[who] = None

    def refuse(self, request: str, who: bytes) -> None:
        """Drop what cannot come in the present state; only a new ring helps."""
        self._log.drop(
            f"{request} during exchange",
            f"{request} of %s during the state exchange",
            who,
            priority=Priority.CRITICAL,
        )
        self.ask_to_reform(f"a {request} came during the state exchange")

    def ask_to_reform(self, reason: str) -> None:
        """Peers are out of step: ask for a new membership."""
        if self._reform is not None:
            self._reform(reason)

    def reload(self, configuration: Configuration) -> None:
        """Take over another configuration (section 3.11); a membership change follows."""
        self._configuration = configuration
        self._position = configuration.position
        self._table.reorder(self._position)
        if self._exchange is not None:
            self._exchange.reload(configuration)
