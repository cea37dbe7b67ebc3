"""The groups layer: which process groups exist, who is in them, who hears what.

One :class:`Groups` per daemon.  The ring layer calls it strictly in delivery
order (:class:`~txspread.engine.interfaces.OrderedDelivery`); what it does with
each event in each state is the table in :mod:`txspread.engine.groups.machine`.
Routing of regular messages, the hot path, is in
:mod:`txspread.engine.groups.routing`.

Source: ``docs/protocol/groups.md`` sections 3 to 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.groups import notifications
from txspread.engine.groups.exchange import (
    MAX_RECORD_MEMBERS,
    Arrival,
    Exchange,
    state_messages,
)
from txspread.engine.groups.machine import (
    TRANSITIONS,
    Action,
    Event,
    GroupsState,
    RingOutOfOrder,
)
from txspread.engine.groups.names import daemon_name, daemon_order, split_private_group
from txspread.engine.groups.routing import Router
from txspread.engine.groups.state import DaemonMembers, Group, GroupTable
from txspread.engine.interfaces import (
    DeliveryThreshold,
    DownQueue,
    LocalSessions,
    Ordering,
)
from txspread.wire.constants import (
    ENDIAN_MARKER,
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MAX_GROUP_MEMBERS,
    MESSAGE_HEADER_SIZE,
    SELF_DISCARD,
    PacketType,
    ServiceType,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId, format_address
from txspread.wire.message import (
    HEADER_LE,
    MessageHeader,
    encode_message,
    field_name,
    normalize,
)

_REJECT_MESS: Final = int(ServiceType.REJECT_MESS)
_NOT_DATA: Final = JOIN_MESS | LEAVE_MESS | KILL_MESS | GROUPS_MESS | _REJECT_MESS
_BROKEN_CONNECTION: Final = KILL_MESS | int(ServiceType.SAFE_MESS)
_FIRST_GROUP_END: Final = MESSAGE_HEADER_SIZE + 32
_unpack_header: Final = HEADER_LE.unpack_from


class Groups:
    """The process groups of the ring, as this daemon knows them."""

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        ordering: Ordering,
        sessions: LocalSessions,
        alarms: AlarmSink,
        reform: Callable[[str], None] | None = None,
    ) -> None:
        """Start operational, alone and without groups.

        Args:
            me: this daemon.
            configuration: names and order of the daemons.
            ordering: where KILL and GROUPS messages are submitted.
            sessions: the clients of this daemon.
            alarms: where log lines go.
            reform: called with a reason when a peer's message has made it
                impossible to stay in step without a new daemon membership.  It is
                called from inside a delivery and must not deliver anything itself.

        """
        self._me = me.id
        self._my_name = daemon_name(me)
        self._configuration = configuration
        self._ids = {daemon_name(daemon): daemon.id for daemon in configuration.daemons}
        self._position = configuration.position
        self._ordering = ordering
        self._sessions = sessions
        self._alarms = alarms
        self._reform = reform
        self._state = GroupsState.GOP
        self._table = GroupTable()
        self._router = Router(self._table, sessions, self._my_name)
        self._by_field = self._table.by_field
        self._write = sessions.write
        self._synced_set: list[ProcId] = [me.id]
        self._trans_members: tuple[ProcId, ...] = (me.id,)
        self._trans_id = MembershipId(me.id, -1)
        self._reg_members: tuple[ProcId, ...] = (me.id,)
        self._reg_id = MembershipId(me.id, -1)
        self._exchange: Exchange | None = None
        self._pending_joins: dict[bytes, int] = {}
        self._lost_kills: dict[bytes, None] = {}
        self._gathering = False
        self.messages_delivered = 0
        """Regular messages delivered, with receivers here or not."""
        self.dropped: dict[str, int] = {}
        """Messages from peers that were dropped, by cause."""

    @property
    def state(self) -> GroupsState:
        """Present state; its value is the status report's ``gstate``."""
        return self._state

    @property
    def count(self) -> int:
        """Groups known, which are all groups of the ring."""
        return len(self._table)

    @property
    def synced_set(self) -> tuple[ProcId, ...]:
        """Daemons known to hold the same replica, in configuration order."""
        return tuple(self._synced_set)

    def members(self, group: bytes) -> list[bytes]:
        """Members of a group as clients see them listed; empty if there is none."""
        found = self._table.groups.get(group)
        if found is None:
            return []
        return [name for record in found.ordered for name in record.names]

    def group_names(self) -> list[bytes]:
        """All groups of the ring, ascending."""
        return [group.name for group in self._table.in_order()]

    # -- joins of own clients ------------------------------------------------------

    def admit_join(self, group: bytes) -> bool:
        """Tell whether a client's JOIN may be submitted, and count it if so.

        A group of more than 2228 members takes down upstream's daemons at the next
        network change, so the client gets a reject message instead.  JOINs that
        are still on their way count; each admitted one must be submitted.
        """
        pending = self._pending_joins.get(group, 0)
        found = self._table.groups.get(group)
        if (0 if found is None else found.count) + pending >= MAX_GROUP_MEMBERS:
            return False
        self._pending_joins[group] = pending + 1
        return True

    def _join_arrived(self, group: bytes) -> None:
        pending = self._pending_joins.get(group, 0)
        if pending > 1:
            self._pending_joins[group] = pending - 1
        elif pending:
            del self._pending_joins[group]

    # -- messages --------------------------------------------------------------------

    def on_message(self, message: bytes) -> None:
        """Deliver one message of the ring.  Never raises, whatever the bytes."""
        if len(message) < MESSAGE_HEADER_SIZE:
            self._drop("short message", "message of %d bytes", len(message))
            return
        kind, sender, num_groups, _, data_len = _unpack_header(message)
        if (
            kind & ENDIAN_MARKER != ENDIAN_MARKER
            or kind & _NOT_DATA
            or self._gathering
            or data_len < 0
        ):
            self._on_other(message)
            return
        if num_groups == 1:
            if len(message) != _FIRST_GROUP_END + data_len:
                self._on_wrong_length(message)
                return
            group = self._by_field.get(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
            if group is not None:
                targets = group.fan_out
            else:
                targets = self._router.one(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
        else:
            end = MESSAGE_HEADER_SIZE + 32 * num_groups
            if not 0 <= num_groups <= 100 or len(message) != end + data_len:
                self._on_wrong_length(message)
                return
            targets = self._router.many(message[MESSAGE_HEADER_SIZE:end])
        self.messages_delivered += 1
        write = self._write
        if kind & SELF_DISCARD:
            own = self._sessions.find(field_name(sender))
            for session in targets:
                if session is not own:
                    write(session, message)
        else:
            for session in targets:
                write(session, message)

    def _on_wrong_length(self, message: bytes) -> None:
        self._drop(
            "wrong length",
            "message of %d bytes from %r contradicts its header",
            len(message),
            field_name(message[4:36]),
        )

    def _on_other(self, message: bytes) -> None:
        """Everything but a little-endian regular message in GOP or GTRANS."""
        try:
            header = MessageHeader.decode(message)
            kind = header.type
            if kind & _REJECT_MESS:
                self._drop("reject", "reject message from %r in the ring", header.sender)
            elif kind & JOIN_MESS:
                self._on_join(header.sender, message)
            elif kind & LEAVE_MESS:
                self._on_leave(header.sender, message)
            elif kind & KILL_MESS:
                self._on_kill(header.sender)
            elif kind & GROUPS_MESS:
                self._on_groups(message)
            elif header.data_len < 0:
                self._on_wrong_length(message)
            elif TRANSITIONS[self._state, Event.DATA].action is Action.ROUTE:
                self.on_message(normalize(message))
            else:
                self._route_private(normalize(message), header)
        except ProtocolError as error:
            self._drop("malformed", "malformed message: %s", error)

    def _route_private(self, message: bytes, header: MessageHeader) -> None:
        """A regular message during an exchange: nobody may have sent it to a group."""
        end = MESSAGE_HEADER_SIZE + 32 * header.num_groups
        if not 0 <= header.num_groups <= 100 or len(message) != end + header.data_len:
            self._on_wrong_length(message)
            return
        fields = message[MESSAGE_HEADER_SIZE:end]
        if self._router.names_group(fields):
            self._drop(
                "message during exchange",
                "message from %r to a group during the state exchange",
                header.sender,
                priority=Priority.CRITICAL,
            )
            return
        self.messages_delivered += 1
        own = self._sessions.find(header.sender) if header.type & SELF_DISCARD else None
        for session in self._router.many(fields):
            if session is not own:
                self._write(session, message)

    # -- JOIN, LEAVE, KILL ---------------------------------------------------------

    def _on_join(self, who: bytes, message: bytes) -> None:
        if len(message) < _FIRST_GROUP_END:
            self._drop("no group", "JOIN of %r without a group name", who)
            return
        name = field_name(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
        daemon = self._daemon_of(who, "join")
        if daemon == self._me:
            self._join_arrived(name)
        if daemon is None:
            return
        self._info("G_handle_join: %s joins group %s", who, name)
        if TRANSITIONS[self._state, Event.JOIN].action is not Action.JOIN:
            self._refuse("JOIN", who)
            return
        group = self._table.groups.get(name)
        record = None if group is None else group.daemons.get(daemon)
        if record is not None and record.has(who):
            self._info("G_handle_join: %s is already in group %s", who, name)
            return
        if record is not None and len(record.names) >= MAX_RECORD_MEMBERS:
            self._drop("full group", "JOIN of %r: %d members there", who, len(record.names))
            return
        operational = self._state is GroupsState.GOP
        if group is None:
            identifier = self._reg_id if operational else self._trans_id
            group = self._table.create(name, identifier, 0)
        if record is None:
            established = operational or daemon in self._trans_members
            record = DaemonMembers(
                daemon,
                daemon_order(self._position, daemon),
                group.membership_id if established else None,
            )
            group.add_record(record)
        self._table.add_member(group, record, who)
        group.next_index()
        if daemon == self._me:
            session = self._sessions.find(who)
            if session is not None:
                self._table.add_local(group, session)
            else:
                # Nobody here sent this JOIN; the replicas agree on the member, so
                # take it out again the way every session ends.
                self._submit_kill(who)
        if record.membership_id is None:
            group.changed = True
        if not group.local:
            return
        if group.changed:
            self._tell_network(group, who)
            self._tell(group, notifications.transition(group))
        else:
            self._tell_one(group, notifications.JOINED, who)

    def _on_leave(self, who: bytes, message: bytes) -> None:
        if len(message) < _FIRST_GROUP_END:
            self._drop("no group", "LEAVE of %r without a group name", who)
            return
        name = field_name(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
        daemon = self._daemon_of(who, "leave")
        if daemon is None:
            return
        self._info("G_handle_leave: %s leaves group %s", who, name)
        if TRANSITIONS[self._state, Event.LEAVE].action is not Action.LEAVE:
            self._refuse("LEAVE", who)
            return
        group = self._table.groups.get(name)
        if group is None:
            self._info("G_handle_leave: group %s does not exist", name)
            return
        record = group.daemons.get(daemon)
        if record is None:
            self._info("G_handle_leave: daemon of %s doesn't exist in group %s", who, name)
            return
        if not record.has(who):
            self._info("G_handle_leave: member %s does not exist in group %s", who, name)
            return
        leaver = group.local.get(who) if daemon == self._me else None
        if leaver is not None and leaver.wants_membership:
            self._write(leaver, notifications.self_leave(name))
        self._remove_member(group, daemon, who, notifications.LEFT)

    def _on_kill(self, who: bytes) -> None:
        daemon = self._daemon_of(who, "kill")
        if daemon is None:
            return
        self._info("G_handle_kill: %s is killed", who)
        if TRANSITIONS[self._state, Event.KILL].action is not Action.KILL:
            if daemon == self._me and self._sessions.find(who) is not None:
                self._lost_kills[who] = None
            self._refuse("KILL", who)
            return
        for group in self._table.groups_of(who):
            record = group.daemons.get(daemon)
            if record is not None and record.has(who):
                self._remove_member(group, daemon, who, notifications.DISCONNECTED)
        if daemon == self._me:
            self._sessions.killed(who)

    def _remove_member(self, group: Group, daemon: ProcId, who: bytes, cause: int) -> None:
        """Take a member out and tell the others."""
        self._table.remove_member(group, daemon, who)
        if not group.count:
            return
        group.next_index()
        if not group.local:
            return
        if group.changed:
            self._tell_network(group)
            self._tell(group, notifications.transition(group))
        else:
            self._tell_one(group, cause, who)

    def _daemon_of(self, who: bytes, request: str) -> ProcId | None:
        """The daemon in a private group name; None when there is no such daemon."""
        parts = split_private_group(who)
        if parts is None:
            self._drop("illegal name", "G_handle_%s: illegal private_group %r", request, who)
            return None
        daemon = self._ids.get(parts[1])
        if daemon is None:
            self._drop(
                "unknown daemon",
                "G_handle_%s: illegal proc_name %s in private_group %s",
                request,
                _text(parts[1]),
                _text(who),
            )
        return daemon

    def _submit_kill(self, who: bytes) -> None:
        self._ordering.submit(encode_message(_BROKEN_CONNECTION, who, ()), PacketType.SAFE)

    # -- memberships -----------------------------------------------------------------

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Hear who of the old ring comes along.

        Raises:
            RingOutOfOrder: a transitional signal cannot come now.

        """
        step = TRANSITIONS[self._state, Event.TRANSITIONAL]
        self._info("G_handle_trans_memb:  with %s id", membership_id)
        self._info("G_handle_trans_memb in %s", self._state.name)
        if step.action is Action.BROKEN:
            raise RingOutOfOrder(f"transitional membership in {self._state.name}")
        self._trans_members = tuple(members)
        self._trans_id = membership_id
        if step.action is Action.MARK_LOST:
            self._mark_lost()
        else:
            self._note_lost()
        self._enter(step.next_state)

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Hear that a new ring is installed.

        Raises:
            RingOutOfOrder: a regular membership cannot come now.

        """
        smaller = len(members) == len(self._trans_members)
        event = Event.REGULAR_SMALLER if smaller else Event.REGULAR_LARGER
        step = TRANSITIONS[self._state, event]
        self._info("G_handle_reg_memb:  with %s id", membership_id)
        self._info("G_handle_reg_memb in %s", self._state.name)
        if step.action is Action.BROKEN:
            raise RingOutOfOrder(f"regular membership in {self._state.name}")
        self._reg_members = tuple(members)
        self._reg_id = membership_id
        if step.action is Action.DROP_LOST:
            self._drop_lost()
            self._enter(step.next_state)
            self._ordering.set_threshold(DeliveryThreshold.NONE)
            return
        if step.action is Action.BEGIN_EXCHANGE:
            self._remove_partitioned()
            self._sessions.block()
            self._ordering.switch_queue(DownQueue.GROUPS)
            self._ordering.set_threshold(DeliveryThreshold.AGREED)
        else:
            self._take_over_exchange()
        self._exchange = Exchange(
            membership_id, self._reg_members, self._synced_set, self._configuration
        )
        self._send_state()
        self._enter(step.next_state)

    def _enter(self, state: GroupsState) -> None:
        self._state = state
        self._gathering = state in (GroupsState.GGATHER, GroupsState.GGT)

    def _mark_lost(self) -> None:
        """Transitional membership in GOP (section 3.3)."""
        members = frozenset(self._trans_members)
        for group in self._table.in_order():
            if members.issuperset(group.daemons):
                continue
            if group.local:
                self._tell(group, notifications.transition(group))
            group.renew(self._trans_id)
            group.changed = True
            for record in group.ordered:
                record.membership_id = self._trans_id if record.proc_id in members else None
        self._restrict_synced_set()
        self._say_synced_set("G_handle_trans_memb")

    def _note_lost(self) -> None:
        """Transitional membership in GGATHER (section 3.4)."""
        members = frozenset(self._trans_members)
        for group in self._table.groups.values():
            if not members.issuperset(group.daemons):
                group.changed = True

    def _drop_lost(self) -> None:
        """Regular membership in GTRANS that only takes away (section 3.5)."""
        for group in self._table.in_order():
            if not group.changed:
                self._info("G_handle_reg_memb: no state transfer needed for group %s.", group.name)
            elif self._remove_partitioned_of(group):
                group.renew(self._reg_id)
                group.changed = False
                for record in group.ordered:
                    record.membership_id = self._reg_id
                if group.local:
                    self._tell_network(group)

    def _remove_partitioned(self) -> None:
        for group in self._table.in_order():
            if group.changed:
                self._remove_partitioned_of(group)

    def _remove_partitioned_of(self, group: Group) -> bool:
        """Remove a group's partitioned daemons; False if nothing is left of it."""
        for record in list(group.ordered):
            if record.membership_id is None:
                self._table.remove_record(group, record.proc_id)
        if group.daemons:
            return True
        self._table.remove(group)
        return False

    def _take_over_exchange(self) -> None:
        """Regular membership in GGT (section 3.6)."""
        exchange = self._exchange
        if exchange is not None and exchange.own_complete:
            self._extend_synced_set(exchange.merge(self._table))
        members = frozenset(self._trans_members)
        for group in self._table.in_order():
            lost = [proc_id for proc_id in group.daemons if proc_id not in members]
            for proc_id in lost:
                self._table.remove_record(group, proc_id)
            if lost:
                if group.daemons:
                    group.changed = True
                else:
                    self._table.remove(group)
        self._restrict_synced_set()
        self._say_synced_set("G_handle_reg_memb")

    def _restrict_synced_set(self) -> None:
        members = self._trans_members
        self._synced_set = [proc_id for proc_id in self._synced_set if proc_id in members]

    def _extend_synced_set(self, daemons: Sequence[ProcId]) -> None:
        self._synced_set = sorted({*self._synced_set, *daemons}, key=self._order)

    def _order(self, proc_id: ProcId) -> int:
        return daemon_order(self._position, proc_id)

    def _send_state(self) -> None:
        """Send the synced set's state if this daemon speaks for it."""
        if self._synced_set[0] != self._me:
            return
        messages = state_messages(self._table, self._my_name, self._reg_id, self._synced_set)
        for message, packet_type in messages:
            self._ordering.submit(message, packet_type)
        self._info(
            "G_handle_reg_memb: %d GROUPS messages sent in %s", len(messages), self._state.name
        )

    # -- the state exchange ------------------------------------------------------------

    def _on_groups(self, message: bytes) -> None:
        exchange = self._exchange
        step = TRANSITIONS[self._state, Event.GROUPS]
        if step.action is not Action.GATHER or exchange is None:
            self._drop(
                "GROUPS out of turn",
                "G_handle_groups in %s",
                self._state.name,
                priority=Priority.CRITICAL,
            )
            return
        try:
            arrival = exchange.take(message)
        except ProtocolError as error:
            self._drop(
                "bad GROUPS",
                "GROUPS message refused: %s",
                error,
                priority=Priority.CRITICAL,
            )
            self._ask_to_reform(f"a GROUPS message was refused: {error}")
            return
        name = field_name(message[4:32])
        if arrival is Arrival.STALE:
            self._info(
                "G_handle_groups: GROUPS message received from bad memb id, daemon %s.", name
            )
        elif arrival is Arrival.UNKNOWN:
            self._drop("unknown daemon", "GROUPS message of unknown daemon %r", name)
        else:
            self._info(
                "G_handle_groups: GROUPS message received from %s - msgs %d, daemons %d",
                name,
                exchange.messages,
                exchange.daemons,
            )
            if arrival is Arrival.COMPLETE:
                self._complete_exchange(exchange)

    def _complete_exchange(self, exchange: Exchange) -> None:
        """Every representative has told everything (section 3.10)."""
        step = TRANSITIONS[self._state, Event.GROUPS_COMPLETE]
        self._info(
            "G_handle_groups: Last GROUPS message received - msgs %d, daemons %d",
            exchange.messages,
            exchange.daemons,
        )
        self._ordering.switch_queue(DownQueue.NORMAL)
        self._sessions.unblock()
        self._info("G_compute_and_notify:")
        self._extend_synced_set(exchange.merge(self._table))
        for group in self._table.in_order():
            if not group.changed:
                continue
            group.renew(self._reg_id)
            group.changed = False
            if group.local:
                self._tell_network(group)
            for record in group.ordered:
                record.membership_id = self._reg_id
        self._exchange = None
        self._enter(GroupsState.GOP)
        self._print_groups()
        self._ordering.set_threshold(DeliveryThreshold.NONE)
        lost_kills, self._lost_kills = self._lost_kills, {}
        for who in lost_kills:
            self._submit_kill(who)
        if step.action is Action.MERGE_THEN_MARK_LOST:
            self._mark_lost()
            self._enter(step.next_state)

    # -- telling clients -------------------------------------------------------------

    def _tell(self, group: Group, frame: bytes) -> None:
        """Write a membership frame to the local members that asked for such."""
        write = self._write
        for session in group.fan_out:
            if session.wants_membership:
                write(session, frame)

    def _tell_one(self, group: Group, cause: int, who: bytes) -> None:
        if self._heard(group):
            self._tell(group, notifications.caused_by_one(cause, group, who))

    def _tell_network(self, group: Group, joiner: bytes | None = None) -> None:
        if not self._heard(group):
            return
        frame, own_frame = notifications.caused_by_network(group, self._me, joiner)
        write = self._write
        for session in group.fan_out:
            if session.wants_membership:
                write(session, own_frame if session.private_group == joiner else frame)

    def _heard(self, group: Group) -> bool:
        return any(session.wants_membership for session in group.fan_out)

    # -- configuration and log ---------------------------------------------------------

    def reload(self, configuration: Configuration) -> None:
        """Take over another configuration (section 3.11); a membership change follows."""
        self._configuration = configuration
        self._ids = {daemon_name(daemon): daemon.id for daemon in configuration.daemons}
        self._position = configuration.position
        self._table.reorder(self._position)
        if self._exchange is not None:
            self._exchange.reload(configuration)

    def _refuse(self, request: str, who: bytes) -> None:
        self._drop(
            f"{request} during exchange",
            f"{request} of %r during the state exchange",
            who,
            priority=Priority.CRITICAL,
        )
        self._ask_to_reform(f"a {request} came during the state exchange")

    def _ask_to_reform(self, reason: str) -> None:
        if self._reform is not None:
            self._reform(reason)

    def _drop(
        self, cause: str, text: str, *args: object, priority: Priority = Priority.ERROR
    ) -> None:
        """Count a dropped message; log the first of a cause, then ever more rarely."""
        count = self.dropped.get(cause, 0) + 1
        self.dropped[cause] = count
        if count & (count - 1) == 0:
            self._alarms.alarm(Category.GROUPS, priority, text + " (%d so far)", *args, count)

    def _info(self, text: str, *args: object) -> None:
        if self._alarms.wants(Category.GROUPS, Priority.INFO):
            self._alarms.alarm(Category.GROUPS, Priority.INFO, text, *map(_shown, args))

    def _say_synced_set(self, where: str) -> None:
        if self._alarms.wants(Category.GROUPS, Priority.INFO):
            lines = [f"{where}: Synced Set (with {len(self._synced_set)} members):"]
            lines.extend(f"\t{format_address(proc_id)}" for proc_id in self._synced_set)
            self._alarms.alarm(Category.GROUPS, Priority.INFO, "%s", "\n".join(lines))

    def _print_groups(self) -> None:
        """List all groups after an exchange, as upstream does."""
        if not self._alarms.wants(Category.GROUPS, Priority.PRINT):
            return
        groups = self._table.in_order()
        lines = ["++++++++++++++++++++++", f"Num of groups: {len(groups)}"]
        for number, group in enumerate(groups, 1):
            lines.append(f"[{number}] group {_text(group.name)} with {group.count} members:")
            for record in group.ordered:
                lines.extend(
                    f"\t[{place}] {_text(name)}" for place, name in enumerate(record.names, 1)
                )
        lines.append("----------------------")
        self._alarms.alarm(Category.GROUPS, Priority.PRINT, "%s", "\n".join(lines))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _shown(value: object) -> object:
    if isinstance(value, MembershipId):
        return f"({format_address(value.proc_id)}, {value.time})"
    return _text(value) if isinstance(value, bytes) else value
