"""The object that walks the membership tables.

It is told of packets, tokens and timers, and answers with datagrams (through
:class:`MembershipNetwork`), timer commands (:class:`~txspread.engine.ring_interfaces.Timers`)
and calls of the ordering layer (:class:`~txspread.engine.ring_interfaces.RingOrdering`).
What happens in which state is in :mod:`~txspread.engine.membership.tables`; what the
tables name is in :mod:`~txspread.engine.membership.conditions` and the modules of the
actions.

Nothing that a peer sends ends the daemon: what upstream aborts on, reads beyond its
buffer for or never checks is dropped and counted by cause (:attr:`Membership.drops`).

Source: ``docs/protocol/membership.md``; upstream ``membership.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from txspread.config.model import Configuration, Daemon
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.membership import forming, lines, packets, transitions
from txspread.engine.membership.avoidance import PERIOD
from txspread.engine.membership.conditions import CONDITIONS
from txspread.engine.membership.roster import Roster
from txspread.engine.membership.standing import Given, MembershipNetwork, Standing
from txspread.engine.membership.tables import EVENT_OF_TIMER, TABLE, Action, DropCause, Event
from txspread.engine.ring_interfaces import (
    MembershipState,
    RingOrdering,
    RingView,
    Timer,
    Timers,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId, format_address
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    decode_refer,
)
from txspread.wire.packet import PacketHeader

ACTIONS: Final[dict[Action, Callable[[Standing, Given], None]]] = {
    Action.LOSE_TOKEN: transitions.lose_token,
    Action.INSERT_SENDER: packets.insert_sender,
    Action.PREPARE_ANSWER: packets.prepare_answer,
    Action.ENTER_GATHER: transitions.enter_gather,
    Action.ENTER_REPRESENTED: transitions.enter_represented,
    Action.ENTER_SEG: transitions.enter_seg,
    Action.REFER_TO_LEADER: packets.refer_to_leader,
    Action.REFER_TO_REP: packets.refer_to_rep,
    Action.FOLLOW_SENDER: packets.follow_sender,
    Action.FORGET_REP: packets.forget_rep,
    Action.SEND_ALIVE: packets.send_alive,
    Action.RESTART_ALIVE: packets.restart_alive,
    Action.RESTART_REP: packets.restart_rep,
    Action.SEND_JOINS: packets.send_joins,
    Action.COUNT_REPS: packets.count_reps,
    Action.NOTE_REFERRED: packets.note_referred,
    Action.LOOK_FOR_MISSING: packets.look_for_missing,
    Action.FORWARD_FOREIGN: packets.forward_foreign,
    Action.RETURN_TO_OP: transitions.return_to_op,
    Action.GATHER_AGAIN: transitions.gather_again,
    Action.CREATE_FORM1: forming.create_form1,
    Action.FILL_FORM1: forming.fill_form1,
    Action.READ_FORM2: forming.read_form2,
    Action.DROP_FORM1: forming.drop_form1,
    Action.SWALLOW: forming.swallow,
}
"""Every action of the tables with what it does."""


class Membership(Standing):
    """The daemon membership machine; implements :class:`RingMembership`.

    :meth:`connect` comes before :meth:`start`.
    """

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        network: MembershipNetwork,
        timers: Timers,
        wall_time: Callable[[], int],
        alarms: AlarmSink | None = None,
        last_time_used: int = -1,
        time_used: Callable[[int], None] | None = None,
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
            time_used: told of each larger one, before anybody else sees it.

        """
        super().__init__(
            me, configuration, network, timers, wall_time, alarms, last_time_used, time_used
        )

    def connect(self, ring: RingOrdering) -> None:
        """Name the ordering layer, which cannot be made before this one."""
        self.ring = ring

    # Inputs.

    def start(self, now: float) -> None:
        """Begin as a daemon that has just lost the token of a ring of one."""
        self.now = now
        self._happen(Event.LOSS, Given())

    def alive(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take an ALIVE; its body has no meaning for the receiver."""
        self.now = now
        sender = self._sender_of(header)
        if sender is not None and not self._avoided(sender):
            self.log(Priority.WARNING, "Memb_handle_message: handling alive message")
            self._happen(Event.ALIVE, Given(sender=sender))

    def join(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take a JOIN."""
        self.now = now
        sender = self._sender_of(header)
        if sender is None or self._avoided(sender):
            return
        try:
            join = Join.decode(data, header)
        except ProtocolError:
            self.drop(DropCause.MALFORMED)
            return
        if not join.reps:
            self.drop(DropCause.MALFORMED)
            return
        if not self.roster.all_known(rep.proc_id for rep in join.reps):
            self.drop(DropCause.UNKNOWN_DAEMON)
            return
        first = join.reps[0]
        if first.proc_id != sender:
            self.drop(DropCause.FOREIGN_REPRESENTATIVE)
            return
        if first.type is RepresentativeType.POTENTIAL:
            self.drop(DropCause.REP_TYPE)
            return
        if any(rep.seg_index != self.roster.segment_of(rep.proc_id) for rep in join.reps):
            # Wrong by mistake or on purpose; it would spoil the order of representatives.
            self.drop(DropCause.WRONG_SEGMENT)
            return
        self.log(
            Priority.WARNING,
            "Memb_handle_message: handling join message from %s, State is %d",
            format_address(sender),
            self.state.value,
        )
        self._happen(Event.JOIN, Given(sender=sender, join=join))

    def refer(self, data: bytes, header: PacketHeader, now: float) -> None:
        """Take a REFER."""
        self.now = now
        sender = self._sender_of(header)
        if sender is None:
            return
        try:
            referred = decode_refer(header)
        except ProtocolError:
            self.drop(DropCause.REP_TYPE)
            return
        daemon = self.roster.find(referred.proc_id)
        if daemon is None:
            self.drop_and_tell(
                DropCause.UNKNOWN_REFERRED,
                "Memb_handle_refer: unknown proc_id %d",
                referred.proc_id,
            )
            return
        self.log(
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
        self.now = now
        if data == self.last_form1:
            # The second copy of each, or one that the network kept for a while.
            self.drop(DropCause.REPEATED_FORM1)
            return
        try:
            form1 = Form1.decode(data)
        except ProtocolError:
            self.drop(DropCause.MALFORMED)
            return
        if not self.all_configured((*form1.members, *form1.pending), form1.rings) or (
            not self.roster.all_known(rep.proc_id for rep in form1.reps)
        ):
            self.drop(DropCause.UNKNOWN_DAEMON)
            return
        self.log(Priority.WARNING, "Memb_handle_token: handling form1 token")
        self._happen(Event.FORM1, Given(form1=form1, datagram=data))

    def form2(self, data: bytes, now: float) -> None:
        """Take a FORM2 that the network let pass."""
        self.now = now
        try:
            form2 = Form2.decode(data)
        except ProtocolError:
            self.drop(DropCause.MALFORMED)
            return
        self.log(Priority.WARNING, "Memb_handle_token: handling form2 token")
        self._happen(Event.FORM2, Given(form2=form2))

    def timer(self, timer: Timer, now: float) -> None:
        """One of this machine's timers has expired."""
        self.now = now
        if timer is Timer.RELOAD:
            self._run_what_waits()
            return
        if timer is Timer.PARTITION:
            self.network.clear_components()
            return
        event = EVENT_OF_TIMER.get(timer)
        if event is not None:
            self._happen(event, Given())

    # What the ordering layer calls.

    def foreign(self, datagram: bytes, proc_id: ProcId) -> None:
        """Hear a data packet of another ring (or of the previous one)."""
        daemon = self.roster.find(proc_id)
        if daemon is None:
            self.drop_and_tell(
                DropCause.UNKNOWN_SENDER, "Memb_handle_foreign: unknown proc_id %d", proc_id
            )
            return
        if self._avoided(daemon.id):
            return
        self._happen(Event.FOREIGN, Given(sender=daemon.id, datagram=datagram))

    def token_loss(self) -> None:
        """Lose the token."""
        self._happen(Event.LOSS, Given())

    def transitional_id(self, transitional_members: Sequence[ProcId]) -> MembershipId:
        """Id of my transitional membership: (first of them, its time on FORM2)."""
        first = self.roster.in_order(transitional_members)[0]
        return MembershipId(first, self.trans_time)

    def install_future(self) -> RingView:
        """Make the ring of FORM2 the installed one; state becomes OP."""
        if self.future is None:
            raise RuntimeError("no ring is being installed")
        ring = self.future
        self.future = None
        self.members = ring.members
        self.installed = ring
        self.make_active(ring)
        self.foreign_found = False
        self.membership_changes += 1
        self.avoidance.installed(ring.members, self.now + PERIOD * self.timeouts.lookup)
        if ring.leader == self.me.id:
            self.timers.start(Timer.LOOKUP, self.timeouts.lookup)
        self.enter_op()
        alarms = self.alarms
        if alarms.wants(Category.PRINT, Priority.WARNING):
            alarms.alarm(Category.PRINT, Priority.WARNING, "%s", lines.membership_line(ring.id))
            alarms.alarm(
                Category.PRINT,
                Priority.WARNING,
                "%s",
                lines.membership_block(self.me.name, self.configuration, ring.members),
            )
        if self.network.isolated:
            # Alone with the new configuration: hear the others and look for them.
            self.network.rejoin()
            self.timers.start(Timer.LOOKUP, 0.0)
        return ring

    # Reload.

    def when_in_op(self, action: Callable[[], None]) -> None:
        """Run an action now if the state is OP, else as soon as it is again.

        Several requests collapse into one.  The action may call :meth:`reconfigure`.
        """
        if self.state is MembershipState.OP:
            action()
        else:
            self.when_op = action

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
        self.me = me
        self.configuration = configuration
        self.roster = Roster(configuration)
        self.gathering.reconfigure(me, self.roster)
        self.avoidance.forget()
        self.timeouts = configuration.timeouts
        self.members = self.roster.in_order(self.members)
        if isolate:
            self.network.isolate()
        self._happen(Event.LOSS, Given())

    # What others report.

    @property
    def segments(self) -> int:
        """Segments that have members of the ring installed last."""
        return len({self.roster.segment_of(member) for member in self.installed.members})

    @property
    def last_time_used(self) -> int:
        """Largest time part that this daemon has put into an id; -1 before the first."""
        return self.clock.last_used

    # The walk.

    def _happen(self, event: Event, given: Given) -> None:
        rows = TABLE[self.state].get(event)
        if rows is None:
            self.drop(DropCause.UNEXPECTED_TIMER)
            return
        for row in rows:
            if CONDITIONS[row.condition](self, given):
                for action in row.actions:
                    ACTIONS[action](self, given)
                return

    def _sender_of(self, header: PacketHeader) -> ProcId | None:
        daemon = self.roster.find(header.proc_id)
        if daemon is None:
            self.drop(DropCause.UNKNOWN_SENDER)
            return None
        if daemon.id == self.me.id:
            self.drop(DropCause.FROM_MYSELF)
            return None
        return daemon.id

    def _avoided(self, sender: ProcId) -> bool:
        if not self.avoids(sender):
            return False
        self.drop(DropCause.AVOIDED)
        return True

    def _run_what_waits(self) -> None:
        action = self.when_op
        if action is not None and self.state is MembershipState.OP:
            self.when_op = None
            action()
