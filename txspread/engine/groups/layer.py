"""The groups layer: which process groups exist, who is in them, who hears what.

One :class:`Groups` per daemon.  The ring layer calls it strictly in delivery
order (:class:`~txspread.engine.interfaces.OrderedDelivery`); what it does with
each event in each state is the table in :mod:`txspread.engine.groups.machine`.
Messages are handled here, memberships and the exchange of state in
:mod:`txspread.engine.groups.memberships`; routing of regular messages, the hot path,
is in :mod:`txspread.engine.groups.routing`.

Source: ``docs/protocol/groups.md`` sections 3 to 10.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Priority
from txspread.engine.groups import notifications
from txspread.engine.groups.exchange import MAX_RECORD_MEMBERS
from txspread.engine.groups.log import GroupsLog
from txspread.engine.groups.machine import TRANSITIONS, Action, Event, GroupsState
from txspread.engine.groups.memberships import Memberships
from txspread.engine.groups.names import daemon_order, split_private_group
from txspread.engine.groups.routing import ROUTING_HEADER, Router
from txspread.engine.groups.state import DaemonMembers, Group, GroupTable
from txspread.engine.groups.telling import Teller
from txspread.engine.interfaces import LocalSession, LocalSessions, Ordering
from txspread.wire.constants import (
    ENDIAN_MARKER,
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MAX_GROUP_MEMBERS,
    MAX_GROUP_NAME,
    MAX_GROUPS_PER_MESSAGE,
    MESSAGE_HEADER_SIZE,
    SELF_DISCARD,
    ServiceType,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.message import MessageHeader, field_name, normalize

_REJECT_MESS: Final = int(ServiceType.REJECT_MESS)
_NOT_DATA: Final = JOIN_MESS | LEAVE_MESS | KILL_MESS | GROUPS_MESS | _REJECT_MESS
_BROKEN_CONNECTION: Final = KILL_MESS | int(ServiceType.SAFE_MESS)
_KINDS: Final = ENDIAN_MARKER | _NOT_DATA
_NEVER: Final = -1


def _states(event: Event, action: Action) -> tuple[GroupsState, ...]:
    """The states in which an event has that action; quicker to look at than the table."""
    return tuple(state for state in GroupsState if TRANSITIONS[state, event].action is action)


_JOINS_IN: Final = _states(Event.JOIN, Action.JOIN)
_LEAVES_IN: Final = _states(Event.LEAVE, Action.LEAVE)
_KILLS_IN: Final = _states(Event.KILL, Action.KILL)
_MAX_ROUTES: Final = 1024
"""Beginnings of messages whose receivers are kept, 80 bytes each."""
_FIRST_GROUP_END: Final = MESSAGE_HEADER_SIZE + MAX_GROUP_NAME
_read_header: Final = ROUTING_HEADER.unpack_from


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
        self._ids = {daemon.name_bytes: daemon.id for daemon in configuration.daemons}
        self._position = configuration.position
        self._sessions = sessions
        self._log = GroupsLog(alarms)
        self._tell = Teller(me.id, sessions)
        self._table = GroupTable(me.id)
        self._memberships = Memberships(
            me,
            configuration,
            ordering,
            sessions,
            self._table,
            self._tell,
            self._log,
            self._entered,
            reform,
        )
        self._router = Router(self._table, sessions)
        self._fan_out = self._table.fan_out
        self._routes = self._table.routes
        self._write = sessions.write
        self._pending_joins: dict[bytes, int] = {}
        self._regular = ENDIAN_MARKER
        """What the kind bits of a message are that may be routed at once; none in
        an exchange."""
        self.messages_delivered = 0
        """Regular messages delivered, with receivers here or not."""

    @property
    def state(self) -> GroupsState:
        """Present state; its value is the status report's ``gstate``."""
        return self._memberships.state

    @property
    def count(self) -> int:
        """Groups known, which are all groups of the ring."""
        return len(self._table)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Messages from peers that were dropped, by cause."""
        return self._log.dropped

    @property
    def synced_set(self) -> tuple[ProcId, ...]:
        """Daemons known to hold the same replica, in configuration order."""
        return tuple(self._memberships.synced_set)

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
        try:
            kind, num_groups, data_len = _read_header(message)
        except struct.error:
            self._log.drop("short message", "message of %d bytes", len(message))
            return
        if kind & _KINDS != self._regular:
            self._on_other(message, kind, num_groups, data_len)
            return
        if num_groups == 1:
            targets = self._fan_out.get(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
            if targets is not None and len(message) == _FIRST_GROUP_END + data_len:
                self.messages_delivered += 1
                if kind & SELF_DISCARD:
                    targets = self._without_sender(targets, message)
                write = self._write
                for session in targets:
                    write(session, message)
                return
        self._on_regular(message, kind, num_groups, data_len)

    def on_messages(self, messages: list[bytes]) -> None:
        """Deliver several messages in their order.  Never raises, whatever the bytes.

        A sender's messages to one group mostly begin with the same 80 bytes, and what
        routing says of these holds until the groups change: it is looked up.  Those
        that follow each other to the same receivers are queued together.
        """
        routes = self._routes
        run: list[bytes] = []
        run_targets: tuple[LocalSession, ...] = ()
        beginning = b""
        size = -1
        for message in messages:
            if len(message) == size and message.startswith(beginning):
                run.append(message)
                continue
            start = message[:_FIRST_GROUP_END]
            route = routes.get(start)
            if route is not None and route[0] == len(message):
                targets = route[1]
                beginning = start
                size = len(message)
            else:
                size = -1
                found = self._route(message)
                if found is None:
                    self._write_run(run_targets, run)
                    run = []
                    self.on_message(message)
                    continue
                targets = found
            if targets is run_targets:
                run.append(message)
            else:
                self._write_run(run_targets, run)
                run = [message]
                run_targets = targets
        self._write_run(run_targets, run)

    def _write_run(self, targets: tuple[LocalSession, ...], run: list[bytes]) -> None:
        if not run:
            return
        self.messages_delivered += len(run)
        if len(run) == 1:
            for session in targets:
                self._write(session, run[0])
        else:
            write_many = self._sessions.write_many
            for session in targets:
                write_many(session, run)

    def _route(self, message: bytes) -> tuple[LocalSession, ...] | None:
        """Receivers of a regular message to one known group, None for any other message."""
        if len(message) < _FIRST_GROUP_END:
            return None
        kind, num_groups, data_len = _read_header(message)
        if (
            kind & _KINDS != self._regular
            or num_groups != 1
            or len(message) != _FIRST_GROUP_END + data_len
        ):
            return None
        targets = self._fan_out.get(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
        if targets is None or kind & SELF_DISCARD:
            return None
        routes = self._routes
        if len(routes) >= _MAX_ROUTES:
            routes.clear()
        routes[message[:_FIRST_GROUP_END]] = (len(message), targets)
        return targets

    def _on_regular(self, message: bytes, kind: int, num_groups: int, data_len: int) -> None:
        """Deliver a little-endian regular message."""
        end = MESSAGE_HEADER_SIZE + MAX_GROUP_NAME * num_groups
        if (
            not 0 <= num_groups <= MAX_GROUPS_PER_MESSAGE
            or data_len < 0
            or len(message) != end + data_len
        ):
            self._log.drop(
                "wrong length",
                "message of %d bytes from %s contradicts its header",
                len(message),
                field_name(message[4:36]),
            )
            return
        fields = message[MESSAGE_HEADER_SIZE:end]
        if self._regular == _NEVER and self._router.names_group(fields):
            # Whoever sent it was not in this membership's exchange.
            self._log.drop(
                "message during exchange",
                "message from %s to a group during the state exchange",
                field_name(message[4:36]),
                priority=Priority.CRITICAL,
            )
            return
        self.messages_delivered += 1
        targets = self._router.one(fields) if num_groups == 1 else self._router.many(fields)
        if kind & SELF_DISCARD:
            targets = self._without_sender(targets, message)
        for session in targets:
            self._write(session, message)

    def _without_sender(
        self, targets: tuple[LocalSession, ...], message: bytes
    ) -> tuple[LocalSession, ...]:
        own = self._sessions.find(field_name(message[4:36]))
        if own is None:
            return targets
        return tuple([session for session in targets if session is not own])

    def _on_other(self, message: bytes, kind: int, num_groups: int, data_len: int) -> None:
        """Deliver what is not a regular message, or big-endian, or comes in an exchange.

        The numbers are the header's, read as little-endian.
        """
        try:
            if kind & ENDIAN_MARKER == ENDIAN_MARKER:
                sender = field_name(message[4:36])
            else:
                header = MessageHeader.decode(message)
                kind, num_groups, data_len = header.type, header.num_groups, header.data_len
                sender = header.sender
            if kind & _REJECT_MESS:
                self._log.drop("reject", "reject message from %s in the ring", sender)
            elif kind & JOIN_MESS:
                self._on_join(sender, message)
            elif kind & LEAVE_MESS:
                self._on_leave(sender, message)
            elif kind & KILL_MESS:
                self._on_kill(sender)
            elif kind & GROUPS_MESS:
                self._memberships.on_groups(message)
            else:
                self._on_regular(normalize(message), kind, num_groups, data_len)
        except ProtocolError as error:
            self._log.drop("malformed", "malformed message: %s", error)

    # -- JOIN, LEAVE, KILL ---------------------------------------------------------

    def _on_join(self, who: bytes, message: bytes) -> None:
        if len(message) < _FIRST_GROUP_END:
            self._log.drop("no group", "JOIN of %s without a group name", who)
            return
        name = field_name(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
        daemon = self._daemon_of(who, "join")
        if daemon == self._me:
            self._join_arrived(name)
        if daemon is None:
            return
        self._log.info("G_handle_join: %s joins group %s", who, name)
        memberships = self._memberships
        if memberships.state not in _JOINS_IN:
            memberships.refuse("JOIN", who)
            return
        group = self._table.groups.get(name)
        record = None if group is None else group.daemons.get(daemon)
        if record is not None and record.has(who):
            self._log.info("G_handle_join: %s is already in group %s", who, name)
            return
        if record is not None and len(record.names) >= MAX_RECORD_MEMBERS:
            self._log.drop("full group", "JOIN of %s: %d members there", who, len(record.names))
            return
        operational = memberships.state is GroupsState.GOP
        if group is None:
            identifier = memberships.reg_id if operational else memberships.trans_id
            group = self._table.create(name, identifier, 0)
        if record is None:
            established = operational or daemon in memberships.trans_members
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
                memberships.submit_kill(who)
        if record.membership_id is None:
            group.changed = True
        self._tell.joined(group, who)

    def _on_leave(self, who: bytes, message: bytes) -> None:
        if len(message) < _FIRST_GROUP_END:
            self._log.drop("no group", "LEAVE of %s without a group name", who)
            return
        name = field_name(message[MESSAGE_HEADER_SIZE:_FIRST_GROUP_END])
        daemon = self._daemon_of(who, "leave")
        if daemon is None:
            return
        self._log.info("G_handle_leave: %s leaves group %s", who, name)
        if self._memberships.state not in _LEAVES_IN:
            self._memberships.refuse("LEAVE", who)
            return
        group = self._table.groups.get(name)
        if group is None:
            self._log.info("G_handle_leave: group %s does not exist", name)
            return
        record = group.daemons.get(daemon)
        if record is None:
            self._log.info("G_handle_leave: daemon of %s doesn't exist in group %s", who, name)
            return
        if not record.has(who):
            self._log.info("G_handle_leave: member %s does not exist in group %s", who, name)
            return
        self._tell.self_leave(group, who)
        self._remove_member(group, daemon, who, notifications.LEFT)

    def _on_kill(self, who: bytes) -> None:
        daemon = self._daemon_of(who, "kill")
        if daemon is None:
            return
        self._log.info("G_handle_kill: %s is killed", who)
        if self._memberships.state not in _KILLS_IN:
            if daemon == self._me and self._sessions.find(who) is not None:
                self._memberships.kill_after_exchange(who)
            self._memberships.refuse("KILL", who)
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
        self._tell.departed(group, who, cause)

    def _daemon_of(self, who: bytes, request: str) -> ProcId | None:
        """The daemon in a private group name; None when there is no such daemon."""
        parts = split_private_group(who)
        if parts is None:
            self._log.drop("illegal name", "G_handle_%s: illegal private_group %s", request, who)
            return None
        daemon = self._ids.get(parts[1])
        if daemon is None:
            self._log.drop(
                "unknown daemon",
                "G_handle_%s: illegal proc_name %s in private_group %s",
                request,
                parts[1],
                who,
            )
        return daemon

    # -- memberships -----------------------------------------------------------------

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Hear who of the old ring comes along.

        Raises:
            RingOutOfOrder: a transitional signal cannot come now.

        """
        self._memberships.on_transitional(members, membership_id)

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Hear that a new ring is installed.

        Raises:
            RingOutOfOrder: a regular membership cannot come now.

        """
        self._memberships.on_regular(members, membership_id)

    def _entered(self) -> None:
        """The state has changed, and with it what may be routed at once."""
        free = TRANSITIONS[self._memberships.state, Event.DATA].action is Action.ROUTE
        self._regular = ENDIAN_MARKER if free else _NEVER
        self._routes.clear()

    # -- the rest ----------------------------------------------------------------------

    def reload(self, configuration: Configuration) -> None:
        """Take over another configuration (section 3.11); a membership change follows."""
        self._ids = {daemon.name_bytes: daemon.id for daemon in configuration.daemons}
        self._position = configuration.position
        self._memberships.reload(configuration)

    def order_by(self, ordering: Ordering) -> None:
        """Submit to another ordering layer from now on, which installs a ring of its own."""
        self._memberships.ordering = ordering
