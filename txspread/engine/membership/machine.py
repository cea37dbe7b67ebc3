"""The object that walks the membership tables.

It is told of packets, tokens and timers, and answers with datagrams (through
:class:`MembershipNetwork`), timer commands (:class:`~txspread.engine.ring_interfaces.Timers`)
and calls of the ordering layer (:class:`~txspread.engine.ring_interfaces.RingOrdering`).
What happens in which state is in :mod:`~txspread.engine.membership.tables`; here are
the conditions and the actions.

Nothing that a peer sends ends the daemon: what upstream aborts on, reads beyond its
buffer for or never checks is dropped and counted by cause (:attr:`Membership.drops`).

Source: ``docs/protocol/membership.md``; upstream ``membership.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from attrs import define, evolve

from txspread.config.model import Configuration, Daemon, Timeouts
from txspread.engine.alarms import AlarmSink, Category, Priority, SilentAlarms
from txspread.engine.membership import formation, lines
from txspread.engine.membership.gathering import Gathering
from txspread.engine.membership.identifiers import IdClock
from txspread.engine.membership.roster import Roster, ring_of
from txspread.engine.membership.tables import (
    EVENT_OF_TIMER,
    TABLE,
    Action,
    Condition,
    DropCause,
    Event,
)
from txspread.engine.ring_interfaces import (
    MembershipState,
    Network,
    OldRingResult,
    RingOrdering,
    RingView,
    Timer,
    Timers,
)
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.datagram import ROUTED
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId, format_address
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
    decode_refer,
    encode_alive,
    encode_refer,
)
from txspread.wire.packet import MAX_PACKET_SIZE, PacketHeader, restamp
from txspread.wire.token import NOBODY, Token

FIRST_TOKEN_ARU: Final = 2147483647
"""``aru`` of the first regular token of a ring: nobody has lowered it yet."""

_POTENTIAL: Final = RepresentativeType.POTENTIAL
_SEG_REP: Final = RepresentativeType.SEG_REP
_RING_REP: Final = RepresentativeType.RING_REP


class MembershipNetwork(Network, Protocol):
    """What membership asks of the network: sending, and being alone for a reload."""

    def isolate(self) -> None:
        """Hear nobody but this daemon itself until :meth:`rejoin`."""

    def rejoin(self) -> None:
        """Hear everybody again; ends an emulated partition as well."""

    @property
    def isolated(self) -> bool:
        """Whether :meth:`isolate` is in force."""


@define
class Given:
    """What came with an event; which fields are set depends on the event."""

    sender: ProcId = 0
    """Canonical id of the daemon that a packet speaks for."""
    join: Join | None = None
    referred: Representative | None = None
    datagram: bytes = b""
    form1: Form1 | None = None
    form2: Form2 | None = None


class Membership:
    """The daemon membership machine; implements :class:`RingMembership`.

    :attr:`ring` must be set before :meth:`start`.
    """

    ring: RingOrdering

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        network: MembershipNetwork,
        timers: Timers,
        wall_time: Callable[[], int],
        alarms: AlarmSink | None = None,
        last_time_used: int = -1,
    ) -> None:
        """Make a machine that has not been started.

        Args:
            me: this daemon.
            configuration: in force; its timeouts, and the LAN or WAN guess, are
                taken from it.
            network: sends.
            timers: on the engine's clock.
            wall_time: seconds since the epoch, for ids.
            alarms: gets log lines.
            last_time_used: largest time part of an id that an earlier process of
                this daemon has used, if the shell kept it.

        """
        self._me = me
        self._configuration = configuration
        self._network = network
        self._timers = timers
        self._alarms: AlarmSink = alarms or SilentAlarms()
        self._roster = Roster(configuration)
        self._timeouts: Timeouts = configuration.timeouts
        self._clock = IdClock(wall_time, last_time_used)
        self._gathering = Gathering(me, self._roster)

        self.state = MembershipState.OP
        self.token_alive = False
        self.wide_area = configuration.wide_area
        """The LAN or WAN guess; made once."""
        self.installed: RingView = ring_of(me.id, MembershipId(me.id, -1), (me.id,))
        """The ring installed last.  Its id names the ring this daemon comes from, until
        the next one is installed; it survives a token loss."""
        self.active: RingView = self.installed
        """The ring being installed, in EVS; else the installed one."""
        self.last_of_my_segment = True
        self.drops: dict[DropCause, int] = dict.fromkeys(DropCause, 0)
        """What came to nothing, by cause, since the start."""
        self.membership_changes = 0
        """Rings installed since the start."""
        self.token_losses = 0
        """Tokens lost since the start, the one that starts the daemon included."""

        self._members: tuple[ProcId, ...] = (me.id,)
        # Reduced to this daemon by a token loss, unlike `installed`.
        self._future: RingView | None = None
        self._attempt = MembershipId(0, 0)
        self._last_form1 = b""
        self._seg_rep: ProcId | None = None
        self._foreign_found = False
        self._trans_time = 0
        self._when_in_op: Callable[[], None] | None = None

        self._conditions: dict[Condition, Callable[[Given], bool]] = {
            Condition.ALWAYS: self._always,
            Condition.SENDER_IS_MEMBER: self._sender_is_member,
            Condition.SENDER_IS_MEMBER_OF_SEGMENTS: self._sender_is_member_of_segments,
            Condition.SENDER_IS_FUTURE_MEMBER: self._sender_is_future_member,
            Condition.I_LEAD: self._i_lead,
            Condition.SENDER_IS_MINE_TO_ANSWER: self._sender_is_mine_to_answer,
            Condition.SENDER_REPRESENTS_MY_SEGMENT: self._sender_represents_my_segment,
            Condition.I_AM_REPRESENTED: self._i_am_represented,
            Condition.FIRST_FOREIGN_IN_MY_SEGMENT: self._first_foreign_in_my_segment,
            Condition.MY_TURN_AS_MEMBER: self._my_turn_as_member,
            Condition.MY_TURN_AS_REP: self._my_turn_as_rep,
            Condition.TOKEN_IS_LOST: self._token_is_lost,
            Condition.TOKEN_IS_ALIVE: self._token_is_alive,
            Condition.SMALLEST_OF_SEGMENT: self._smallest_of_segment,
            Condition.NOBODY_ANSWERED: self._nobody_answered,
            Condition.SMALLEST_REP: self._smallest_rep,
        }
        self._actions: dict[Action, Callable[[Given], None]] = {
            Action.LOSE_TOKEN: self._lose_token,
            Action.INSERT_SENDER: self._insert_sender,
            Action.PREPARE_ANSWER: self._prepare_answer,
            Action.ENTER_GATHER: self._enter_gather,
            Action.ENTER_REPRESENTED: self._enter_represented,
            Action.ENTER_SEG: self._enter_seg,
            Action.REFER_TO_LEADER: self._refer_to_leader,
            Action.REFER_TO_REP: self._refer_to_rep,
            Action.FOLLOW_SENDER: self._follow_sender,
            Action.FORGET_REP: self._forget_rep,
            Action.SEND_ALIVE: self._send_alive,
            Action.RESTART_ALIVE: self._restart_alive,
            Action.RESTART_REP: self._restart_rep,
            Action.SEND_JOINS: self._send_joins,
            Action.COUNT_REPS: self._count_reps,
            Action.NOTE_REFERRED: self._note_referred,
            Action.LOOK_FOR_MISSING: self._look_for_missing,
            Action.FORWARD_FOREIGN: self._forward_foreign,
            Action.RETURN_TO_OP: self._return_to_op,
            Action.GATHER_AGAIN: self._gather_again,
            Action.CREATE_FORM1: self._create_form1,
            Action.FILL_FORM1: self._fill_form1,
            Action.READ_FORM2: self._read_form2,
            Action.DROP_FORM1: self._drop_form1,
            Action.SWALLOW: self._swallow,
        }

    # Inputs.

    def start(self, now: float) -> None:
        """Begin as a daemon that has just lost the token of a ring of one."""
        self._happen(Event.LOSS, Given())

    def alive(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take an ALIVE; its body has no meaning for the receiver."""
        sender = self._sender_of(header)
        if sender is not None:
            self._log(Priority.WARNING, "Memb_handle_message: handling alive message")
            self._happen(Event.ALIVE, Given(sender=sender))

    def join(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take a JOIN."""
        sender = self._sender_of(header)
        if sender is None:
            return
        try:
            join = Join.decode(data, header)
        except ProtocolError:
            self._drop(DropCause.MALFORMED)
            return
        if not join.reps:
            self._drop(DropCause.MALFORMED)
            return
        if not self._roster.all_known(rep.proc_id for rep in join.reps):
            self._drop(DropCause.UNKNOWN_DAEMON)
            return
        first = join.reps[0]
        if first.proc_id != sender:
            self._drop(DropCause.FOREIGN_REPRESENTATIVE)
            return
        if first.type is _POTENTIAL:
            self._drop(DropCause.REP_TYPE)
            return
        self._log(
            Priority.WARNING,
            "Memb_handle_message: handling join message from %s, State is %d",
            format_address(sender),
            self.state.value,
        )
        self._happen(Event.JOIN, Given(sender=sender, join=join))

    def refer(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take a REFER."""
        sender = self._sender_of(header)
        if sender is None:
            return
        try:
            referred = decode_refer(header)
        except ProtocolError:
            self._drop(DropCause.REP_TYPE)
            return
        daemon = self._roster.find(referred.proc_id)
        if daemon is None:
            self._drop(DropCause.UNKNOWN_REFERRED)
            self._alarms.alarm(
                Category.MEMBERSHIP,
                Priority.WARNING,
                "Memb_handle_refer: unknown proc_id %d",
                referred.proc_id,
            )
            return
        self._log(
            Priority.WARNING,
            "Memb_handle_message: handling refer message from %s, State is %d",
            format_address(sender),
            self.state.value,
        )
        self._happen(
            Event.REFER,
            Given(
                sender=sender,
                referred=Representative(daemon.id, referred.type, daemon.segment),
            ),
        )

    def form1(self, data: bytes, now: float) -> None:
        """Take a FORM1 that the network let pass."""
        if data == self._last_form1:
            # The second copy of each, or one that the network kept for a while.
            self._drop(DropCause.REPEATED_FORM1)
            return
        try:
            form1 = Form1.decode(data)
        except ProtocolError:
            self._drop(DropCause.MALFORMED)
            return
        if not self._all_configured(form1.members, form1.pending, form1.rings) or (
            not self._roster.all_known(rep.proc_id for rep in form1.reps)
        ):
            self._drop(DropCause.UNKNOWN_DAEMON)
            return
        self._log(Priority.WARNING, "Memb_handle_token: handling form1 token")
        self._happen(Event.FORM1, Given(form1=form1, datagram=data))

    def form2(self, data: bytes, now: float) -> None:
        """Take a FORM2 that the network let pass."""
        try:
            form2 = Form2.decode(data)
        except ProtocolError:
            self._drop(DropCause.MALFORMED)
            return
        self._log(Priority.WARNING, "Memb_handle_token: handling form2 token")
        self._happen(Event.FORM2, Given(form2=form2))

    def timer(self, timer: Timer, now: float) -> None:
        """One of this machine's timers has expired."""
        if timer is Timer.RELOAD:
            self._run_what_waits()
            return
        event = EVENT_OF_TIMER.get(timer)
        if event is not None:
            self._happen(event, Given())

    # What the ordering layer calls.

    def foreign(self, datagram: bytes, proc_id: ProcId) -> None:
        """Hear a data packet of another ring (or of the previous one)."""
        daemon = self._roster.find(proc_id)
        if daemon is None:
            self._drop(DropCause.UNKNOWN_SENDER)
            self._log(Priority.WARNING, "Memb_handle_foreign: unknown proc_id %d", proc_id)
            return
        self._happen(Event.FOREIGN, Given(sender=daemon.id, datagram=datagram))

    def token_loss(self) -> None:
        """Lose the token."""
        self._happen(Event.LOSS, Given())

    def transitional_id(self, transitional_members: Sequence[ProcId]) -> MembershipId:
        """Id of my transitional membership: (first of them, its time on FORM2)."""
        first = self._roster.in_order(transitional_members)[0]
        return MembershipId(first, self._trans_time)

    def install_future(self) -> RingView:
        """Make the ring of FORM2 the installed one; state becomes OP."""
        if self._future is None:
            raise RuntimeError("no ring is being installed")
        ring = self._future
        self._future = None
        self._members = ring.members
        self.installed = ring
        self._make_active(ring)
        self._foreign_found = False
        self.membership_changes += 1
        if ring.leader == self._me.id:
            self._timers.start(Timer.LOOKUP, self._timeouts.lookup)
        self._enter_op()
        alarms = self._alarms
        if alarms.wants(Category.PRINT, Priority.WARNING):
            alarms.alarm(Category.PRINT, Priority.WARNING, "%s", lines.membership_line(ring.id))
            alarms.alarm(
                Category.PRINT,
                Priority.WARNING,
                "%s",
                lines.membership_block(self._me.name, self._configuration, ring.members),
            )
        if self._network.isolated:
            # Alone with the new configuration: hear the others and look for them.
            self._network.rejoin()
            self._timers.start(Timer.LOOKUP, 0.0)
        return ring

    # Reload.

    def when_in_op(self, action: Callable[[], None]) -> None:
        """Run an action now if the state is OP, else as soon as it is again.

        Several requests collapse into one.  The action may call :meth:`reconfigure`.
        """
        if self.state is MembershipState.OP:
            action()
        else:
            self._when_in_op = action

    def reconfigure(self, me: Daemon, configuration: Configuration, isolate: bool) -> None:
        """Go on with another configuration: lose the token and form a ring anew.

        In state OP only.  The network has been reconfigured already.  The timeouts in
        force change with this; the LAN or WAN guess is not made again.

        Args:
            me: this daemon in the new configuration.
            configuration: the new one.
            isolate: form a ring of one first, because the identity of another
                daemon has changed.

        """
        self._me = me
        self._configuration = configuration
        self._roster = Roster(configuration)
        self._gathering.reconfigure(me, self._roster)
        self._timeouts = configuration.timeouts
        self._members = self._roster.in_order(self._members)
        if isolate:
            self._network.isolate()
        self._happen(Event.LOSS, Given())

    # What others report.

    @property
    def members(self) -> tuple[ProcId, ...]:
        """Members of my ring, in configuration order; me alone once the token is lost."""
        return self._members

    @property
    def segments(self) -> int:
        """Segments that have members of the ring installed last."""
        return len({self._roster.segment_of(member) for member in self.installed.members})

    @property
    def last_time_used(self) -> int:
        """Largest time part that this daemon has put into an id; -1 before the first."""
        return self._clock.last_used

    # The walk.

    def _happen(self, event: Event, given: Given) -> None:
        rows = TABLE[self.state].get(event)
        if rows is None:
            self._drop(DropCause.UNEXPECTED_TIMER)
            return
        for row in rows:
            if self._conditions[row.condition](given):
                for action in row.actions:
                    self._actions[action](given)
                return

    def _drop(self, cause: DropCause) -> None:
        self.drops[cause] += 1

    def _log(self, priority: Priority, text: str, *args: object) -> None:
        self._alarms.alarm(Category.MEMBERSHIP, priority, text, *args)

    def _sender_of(self, header: PacketHeader) -> ProcId | None:
        daemon = self._roster.find(header.proc_id)
        if daemon is None:
            self._drop(DropCause.UNKNOWN_SENDER)
            return None
        if daemon.id == self._me.id:
            self._drop(DropCause.FROM_MYSELF)
            return None
        return daemon.id

    def _all_configured(
        self,
        members: Sequence[ProcId],
        pending: Sequence[ProcId],
        rings: Iterable[RingBlock],
    ) -> bool:
        known = self._roster.all_known
        return known(members) and known(pending) and all(known(entry.commit) for entry in rings)

    # Conditions.

    def _always(self, given: Given) -> bool:
        return True

    def _sender_is_member(self, given: Given) -> bool:
        return given.sender in self._members

    def _sender_is_member_of_segments(self, given: Given) -> bool:
        return len(self._roster.segments) > 1 and given.sender in self._members

    def _sender_is_future_member(self, given: Given) -> bool:
        return self._future is not None and given.sender in self._future.members

    def _i_lead(self, given: Given) -> bool:
        return self._members[0] == self._me.id

    def _first_of_my_segment(self) -> bool:
        return self._roster.first_in_segment(self._me.segment, self._members) == self._me.id

    def _sender_is_mine_to_answer(self, given: Given) -> bool:
        return (
            self._roster.segment_of(given.sender) != self._me.segment or self._first_of_my_segment()
        )

    def _sender_represents_my_segment(self, given: Given) -> bool:
        return (
            given.join is not None
            and given.join.reps[0].type is _SEG_REP
            and self._roster.segment_of(given.sender) == self._me.segment
        )

    def _i_am_represented(self, given: Given) -> bool:
        return self._seg_rep is not None

    def _first_foreign_in_my_segment(self, given: Given) -> bool:
        return not self._foreign_found and self._first_of_my_segment()

    def _my_turn_as_member(self, given: Given) -> bool:
        form1 = given.form1
        return form1 is not None and form1.pending[:1] == (self._me.id,)

    def _my_turn_as_rep(self, given: Given) -> bool:
        form1 = given.form1
        if form1 is None or form1.pending or form1.rep_index >= len(form1.reps):
            return False
        rep = form1.reps[form1.rep_index]
        return rep.proc_id == self._me.id and rep.type is self._my_type()

    def _token_is_lost(self, given: Given) -> bool:
        return not self.token_alive

    def _token_is_alive(self, given: Given) -> bool:
        return self.token_alive

    def _smallest_of_segment(self, given: Given) -> bool:
        return self._gathering.smallest_heard() == self._me.id

    def _nobody_answered(self, given: Given) -> bool:
        return self.token_alive and len(self._gathering.reps) == 1

    def _smallest_rep(self, given: Given) -> bool:
        return self._gathering.smallest_rep().proc_id == self._me.id

    def _my_type(self) -> RepresentativeType:
        return _RING_REP if self.token_alive else _SEG_REP

    # Actions: between the states.

    def _lose_token(self, given: Given) -> None:
        was = self.state
        gathering = self._gathering
        if was is MembershipState.GATHER:
            gathering.ask_others_heard()
        elif was is not MembershipState.FORM:
            gathering.ask_nobody()
        if was is not MembershipState.FORM:
            gathering.ask_every_other_segment(
                self._members if self._future is None else self._future.members
            )
        self.token_losses += 1
        self.token_alive = False
        self.ring.on_token_loss()
        for timer in _STOPPED_BY_LOSS:
            self._timers.stop(timer)
        self._members = (self._me.id,)
        self._future = None
        self._make_active(self.installed)
        self._log(
            Priority.WARNING,
            "Memb_token_loss: ############### I lost my token, state was %d\n",
            was.value,
        )
        self._enter_seg(given)

    def _enter_seg(self, given: Given) -> None:
        self.state = MembershipState.SEG
        self._gathering.hear_only_myself()
        self._timers.start(Timer.ALIVE, 0.0)
        self._timers.start(Timer.SEG, self._timeouts.seg)

    def _enter_represented(self, given: Given) -> None:
        self.state = MembershipState.REPRESENTED
        self._timers.stop(Timer.ALIVE)
        self._timers.stop(Timer.SEG)
        self._timers.start(Timer.REP, self._timeouts.rep)

    def _enter_gather(self, given: Given) -> None:
        self.state = MembershipState.GATHER
        self._gathering.start(self._my_type())
        self._timers.stop(Timer.ALIVE)
        self._timers.stop(Timer.LOOKUP)
        self._timers.start(Timer.JOIN, 0.0)
        self._timers.start(Timer.GATHER, self._timeouts.gather)

    def _gather_again(self, given: Given) -> None:
        self._log(Priority.WARNING, "Form_or_fail: failed to gather")
        self._gathering.hear_only_myself()
        self._gathering.ask_others_heard()
        self._enter_gather(given)

    def _return_to_op(self, given: Given) -> None:
        if len(self._gathering.reps) > 1:
            self._log(Priority.WARNING, "Form_or_fail:failed, return to OP")
        self._timers.stop(Timer.JOIN)
        self._timers.start(Timer.LOOKUP, self._timeouts.lookup)
        self._enter_op()

    def _enter_op(self) -> None:
        self.state = MembershipState.OP
        if self._when_in_op is not None:
            self._timers.start(Timer.RELOAD, 0.0)

    def _run_what_waits(self) -> None:
        action = self._when_in_op
        if action is not None and self.state is MembershipState.OP:
            self._when_in_op = None
            action()

    def _make_active(self, ring: RingView) -> None:
        self.active = ring
        self.last_of_my_segment = (
            self._roster.last_in_segment(self._me.segment, ring.members) == self._me.id
        )

    # Actions: packets.

    def _insert_sender(self, given: Given) -> None:
        if not self._gathering.hear(given.sender):
            self._drop(DropCause.LIST_FULL)

    def _follow_sender(self, given: Given) -> None:
        if self.state is MembershipState.REPRESENTED and self._seg_rep != given.sender:
            self._log(
                Priority.WARNING,
                "Memb_handle_join: representative shifts: old %d, new %d",
                -1 if self._seg_rep is None else self._seg_rep,
                given.sender,
            )
        self._seg_rep = given.sender

    def _forget_rep(self, given: Given) -> None:
        self._seg_rep = None

    def _prepare_answer(self, given: Given) -> None:
        if given.join is not None:
            self._gathering.ask_only(given.join.reps[0])
        self._gathering.hear_nobody()

    def _count_reps(self, given: Given) -> None:
        if given.join is None:
            return
        if not self._gathering.count(given.join.reps[0], given.join.reps):
            self._drop(DropCause.LIST_FULL)
        if self._gathering.smallest_rep().proc_id == given.sender:
            # The smallest one is still gathering: wait for its FORM1.
            self._timers.start(Timer.GATHER, self._timeouts.gather)

    def _note_referred(self, given: Given) -> None:
        if given.referred is not None and not self._gathering.note(given.referred):
            self._drop(DropCause.LIST_FULL)

    def _refer_to_leader(self, given: Given) -> None:
        self._refer(given.sender, self._members[0], _RING_REP)

    def _refer_to_rep(self, given: Given) -> None:
        if self._seg_rep is not None:
            self._refer(given.sender, self._seg_rep, _SEG_REP)

    def _refer(self, to: ProcId, who: ProcId, kind: RepresentativeType) -> None:
        rep = Representative(who, kind, self._roster.segment_of(who))
        self._network.send_to_daemon(to, encode_refer(self._me.id, self._configuration.hash, rep))

    def _send_alive(self, given: Given) -> None:
        self._log(Priority.WARNING, "Scast_alive: State is %d", self.state.value)
        self._network.send_to_segment(
            self._me.segment,
            encode_alive(self._me.id, self._configuration.hash, self._gathering.heard),
        )

    def _restart_alive(self, given: Given) -> None:
        self._timers.start(Timer.ALIVE, self._timeouts.alive)

    def _restart_rep(self, given: Given) -> None:
        self._timers.start(Timer.REP, self._timeouts.rep)

    def _join_packet(self) -> bytes:
        gathering = self._gathering
        return Join(
            members=tuple(gathering.heard),
            reps=tuple(gathering.reps),
            rep_index=gathering.rep_index,
        ).encode(self._me.id, self._configuration.hash)

    def _send_joins(self, given: Given) -> None:
        self._log(Priority.WARNING, "Send_join: State is %d", self.state.value)
        packet = self._join_packet()
        if not self.token_alive:
            self._network.send_to_segment(self._me.segment, packet)
        for rep in self._gathering.ask:
            if rep.proc_id != self._me.id:
                self._network.send_to_daemon(rep.proc_id, packet)
        self._timers.start(Timer.JOIN, self._timeouts.join)

    def _look_for_missing(self, given: Given) -> None:
        gathering = self._gathering
        gathering.ask_nobody()
        gathering.start(_RING_REP)
        gathering.hear_nobody()
        packet = self._join_packet()
        if len(self._roster.segments) == 1:
            # Whether anybody is missing is not asked: all would hear it.
            self._network.send_to_segment(self._me.segment, packet)
            self._enter_gather(given)
            return
        present = frozenset(self.installed.members)
        missing = [d.id for d in self._roster.daemons if d.id not in present]
        for daemon in missing:
            self._network.send_to_daemon(daemon, packet)
        if missing:
            self._enter_gather(given)

    def _forward_foreign(self, given: Given) -> None:
        self._foreign_found = True
        try:
            packet = restamp(given.datagram, 0, ROUTED, self._me.id, self._configuration.hash)
        except ProtocolError:
            self._drop(DropCause.MALFORMED)
            return
        for _ in range(2):
            self._network.send_to_daemon(self._members[0], packet)

    # Actions: form tokens.

    def _drop_form1(self, given: Given) -> None:
        self._drop(DropCause.NOT_MY_TURN)

    def _swallow(self, given: Given) -> None:
        self._drop(DropCause.SWALLOWED)

    def _my_ring(self) -> formation.MyRing:
        commit, _ = self.ring.commit_list()
        known = self._roster.position
        return formation.MyRing(
            me=self._me.id,
            id=self.installed.id,
            state=self.ring.describe(),
            commit=tuple(member for member in commit if member in known),
        )

    def _create_form1(self, given: Given) -> None:
        gathering = self._gathering
        me = self._me.id
        self._attempt = MembershipId(me, self._clock.next())
        ring = self._my_ring()
        brought = self._members if self.token_alive else gathering.heard
        reps = gathering.visiting_order()
        members = formation.cleaned(brought, me, {rep.proc_id for rep in reps})
        gathering.rep_index = 1
        gathering.ask_segments_of(reps)
        form1 = formation.create_form1(ring, self._attempt, self._configuration.hash, members, reps)
        self._log(
            Priority.INFO,
            "Create_form1: putting Aru = %d and Highest_Seq = %d on rg_info form1 token",
            ring.state.aru,
            ring.state.highest_seq,
        )
        self._pass_on(form1)

    def _fill_form1(self, given: Given) -> None:
        form1 = given.form1
        if form1 is None:
            return
        me = self._me.id
        ring = self._my_ring()
        if me in form1.members:
            self._drop(DropCause.DUPLICATE_MEMBER)
            return
        if formation.is_transitional(form1.rings, ring):
            self._drop(DropCause.ALREADY_TRANSITIONAL)
            return
        array = formation.MembersArray(form1.members, form1.pending, form1.unused_members)
        rep_index = form1.rep_index
        if self.state is MembershipState.GATHER:
            elsewhere = {*form1.members, *(rep.proc_id for rep in form1.reps)}
            elsewhere.update(rep.proc_id for rep in self._gathering.reps)
            brought = self._members if self.token_alive else self._gathering.heard
            if not array.append(formation.cleaned(brought, me, elsewhere)):
                self._drop(DropCause.TOO_MANY_MEMBERS)
                return
            rep_index += 1
        else:
            array.visit_next()
        rings = formation.with_my_ring(form1.rings, ring)
        if rings is None:
            self._drop(DropCause.RING_LIMIT)
            self._log(
                Priority.WARNING,
                "Fill_form1: ring_info entry for %s will not fit in FORM token. "
                "Removing self from current membership attempt and m_info list",
                self._me.address,
            )
            array.leave(me)
            rings = form1.rings
        self._attempt = form1.attempt
        self._last_form1 = given.datagram
        self._gathering.ask_segments_of(form1.reps)
        self._pass_on(
            formation.filled(form1, array, rep_index, rings, ring, self._configuration.hash)
        )

    def _pass_on(self, form1: Form1) -> None:
        """Send FORM1 to its next stop, or FORM2 to the first member; enter FORM.

        A FORM2 for this daemon itself is read at once: upstream sends it to its own
        token port, where nobody else can see it.
        """
        to = formation.next_stop(form1)
        if to is not None:
            self._send_form(form1, to)
            self._enter_form()
            return
        form2 = formation.to_form2(form1, self._roster)
        first = form2.pending[0] if form2.pending else None
        if first is not None and first != self._me.id:
            self._send_form(form2, first)
        self._enter_form()
        if first == self._me.id:
            self._happen(Event.FORM2, Given(form2=form2))

    def _send_form(self, form: Form1 | Form2, to: ProcId | None) -> None:
        """Send a form token twice, to a named daemon or to the successor."""
        try:
            token = form.encode()
        except ProtocolError:
            # More than a token can carry; upstream ends here.  Unsent, the attempt
            # fails by its timer.
            self._drop(DropCause.TOKEN_TOO_LARGE)
            return
        size = len(token)
        if size > MAX_PACKET_SIZE:
            self._alarms.alarm(
                Category.PRINT,
                Priority.WARNING,
                "Net_send_token: WARNING!!! Token is longer (%d bytes) than a single MTU "
                "(%d bytes)! It will be fragmented by IP.",
                size,
                MAX_PACKET_SIZE,
            )
        self._send_twice(token, to)

    def _send_twice(self, token: bytes, to: ProcId | None) -> None:
        for _ in range(2):
            if to is None:
                self._network.send_token(token)
            else:
                self._network.send_token_to(to, token)

    def _enter_form(self) -> None:
        for timer in _STOPPED_BY_FORM:
            self._timers.stop(timer)
        self.token_alive = False
        self.state = MembershipState.FORM
        self.ring.on_form1()
        self._timers.start(Timer.LOSS, self._timeouts.form)

    def _read_form2(self, given: Given) -> None:
        form2 = given.form2
        if form2 is None:
            return
        entry = self._acceptable_entry(form2)
        if entry is None:
            return
        me = self._me.id
        members = (*form2.members, *form2.pending)
        ring_id = form2.future_memb_id
        if form2.members:
            trans_time = entry.trans_time or self._clock.next()
        else:
            for old in form2.rings:
                if old.memb_id.proc_id == me:
                    self._clock.seen(old.memb_id.time)
            first_time = self._clock.next()
            ring_id = MembershipId(me, self._clock.after())
            trans_time = entry.trans_time or first_time
        form2 = evolve(
            form2,
            transmiter_id=me,
            proc_id=me,
            conf_hash=self._configuration.hash,
            members=(*form2.members, me),
            pending=form2.pending[1:],
            future_memb_id=ring_id,
            rings=formation.with_trans_time(form2.rings, entry.memb_id, trans_time),
        )
        self._trans_time = trans_time
        future = ring_of(me, ring_id, self._roster.in_order(members))
        self._future = future
        self._network.route_by(future.members)
        last_member = not form2.pending
        self.ring.on_form2(
            form2.seq,
            OldRingResult(
                aru=entry.aru,
                highest_seq=entry.highest_seq,
                holes=tuple(entry.holes),
                commit=tuple(entry.commit),
                num_trans=entry.num_trans,
            ),
            last_member,
        )
        if not last_member:
            self._send_form(form2, None)
        elif len(members) > 1:
            # A ring of one needs no token: its ordering layer goes on by itself.
            self._send_twice(self._first_token(ring_id), None)
        self.token_alive = True
        self.state = MembershipState.EVS
        self._make_active(future)
        self._timers.start(Timer.LOSS, self._timeouts.token)

    def _acceptable_entry(self, form2: Form2) -> RingBlock | None:
        """My ring's entry on a FORM2 that I take; None after dropping the token."""
        if form2.attempt != self._attempt:
            self._drop(DropCause.OTHER_ATTEMPT)
            self._log(
                Priority.WARNING,
                "Read_form2: WARNING!!! Wrong memb_id on token (0x%x, %d) "
                "should be (0x%x, %d) -- dropping!",
                *form2.attempt,
                *self._attempt,
            )
            return None
        members = (*form2.members, *form2.pending)
        if form2.pending[:1] != (self._me.id,) or len(members) > MAX_PROCS_RING:
            self._drop(DropCause.FORM2_NOT_FOR_ME)
            return None
        if len(set(members)) != len(members):
            self._drop(DropCause.DUPLICATE_MEMBER)
            return None
        if not self._all_configured(members, (), form2.rings):
            self._drop(DropCause.UNKNOWN_DAEMON)
            return None
        entry = formation.entry_of(form2.rings, self.installed.id)
        if entry is None or self._me.id not in entry.commit[: entry.num_trans]:
            self._drop(DropCause.OLD_RING_MISSING)
            self._log(Priority.WARNING, "Read_form2: WARNING!!! My ring ID not on token!")
            return None
        return entry

    def _first_token(self, ring_id: MembershipId) -> bytes:
        """The first regular token of a ring, made by its last member."""
        return Token(
            type=0,
            transmiter_id=self._me.id,
            proc_id=self._me.id,
            memb_id=ring_id,
            seq=0,
            aru=FIRST_TOKEN_ARU,
            aru_last_id=NOBODY,
            flow_control=0,
            conf_hash=self._configuration.hash,
            requests=(),
        ).encode()


_STOPPED_BY_LOSS: Final = (Timer.LOSS, Timer.JOIN, Timer.GATHER, Timer.HURRY, Timer.LOOKUP)
_STOPPED_BY_FORM: Final = (Timer.JOIN, Timer.GATHER, Timer.REP, Timer.HURRY)
