"""What a membership machine has and knows: the subject of conditions and actions.

The variables are those of ``docs/protocol/membership.md`` section 2.  What the
ordering layer reads for every packet and token (state, token_alive, installed,
active ...) are plain attributes, set where they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import define

from txspread.config.model import Configuration, Daemon, Timeouts
from txspread.engine.alarms import AlarmSink, Category, Priority, SilentAlarms
from txspread.engine.membership.avoidance import Avoidance
from txspread.engine.membership.gathering import Gathering
from txspread.engine.membership.identifiers import IdClock
from txspread.engine.membership.roster import Roster, ring_of
from txspread.engine.membership.tables import DropCause
from txspread.engine.ring_interfaces import (
    MembershipState,
    Network,
    RingOrdering,
    RingView,
    Timer,
    Timers,
)
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
)


class MembershipNetwork(Network, Protocol):
    """What membership asks of the network: sending, and whom to hear."""

    def clear_components(self) -> None:
        """End an emulated partition, unless isolated."""

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
    """A foreign packet, or the bytes of a FORM1."""
    form1: Form1 | None = None
    form2: Form2 | None = None


class Standing:
    """The state of one membership machine, and what it works with."""

    ring: RingOrdering
    """The ordering layer; set before the start."""

    def __init__(
        self,
        me: Daemon,
        configuration: Configuration,
        network: MembershipNetwork,
        timers: Timers,
        wall_time: Callable[[], int],
        alarms: AlarmSink | None,
        last_time_used: int,
        time_used: Callable[[int], None] | None,
    ) -> None:
        self.me = me
        self.configuration = configuration
        self.network = network
        self.timers = timers
        self.alarms: AlarmSink = alarms or SilentAlarms()
        self.roster = Roster(configuration)
        self.timeouts: Timeouts = configuration.timeouts
        """In force; a reload changes them."""
        self.clock = IdClock(wall_time, last_time_used, time_used)
        self.gathering = Gathering(me, self.roster)
        self.avoidance = Avoidance()
        self.now = 0.0
        """Time of the last packet, token or timer that was handled, seconds."""

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
        self.members: tuple[ProcId, ...] = (me.id,)
        """Members of my ring, in configuration order; me alone once the token is lost."""
        self.future: RingView | None = None
        """The ring of the FORM2 that was taken over; None outside EVS."""
        self.attempt = MembershipId(0, 0)
        """Attempt id of the FORM1 created or filled last; FORM2 must carry it."""
        self.last_form1 = b""
        """The FORM1 filled last, as it came."""
        self.seg_rep: ProcId | None = None
        """In REPRESENTED: who represents me, once it has sent a JOIN."""
        self.foreign_found = False
        """Whether a foreign packet was reported to the leader since the installation."""
        self.trans_time = 0
        """Time part of the transitional membership's id, from FORM2."""
        self.when_op: Callable[[], None] | None = None
        """What waits for state OP."""

        self.drops: dict[DropCause, int] = dict.fromkeys(DropCause, 0)
        """What came to nothing, by cause, since the start."""
        self.membership_changes = 0
        """Rings installed since the start."""
        self.token_losses = 0
        """Tokens lost since the start, the one that starts the daemon included."""

    def drop(self, cause: DropCause) -> None:
        """Count something that came to nothing."""
        self.drops[cause] += 1

    def log(self, priority: Priority, text: str, *args: object) -> None:
        """Give a line of category MEMBERSHIP to the sink."""
        self.alarms.alarm(Category.MEMBERSHIP, priority, text, *args)

    def drop_and_tell(self, cause: DropCause, text: str, *args: object) -> None:
        """Count it, and show a line by default for the 1st, 2nd, 4th, 8th ... of its kind.

        Upstream shows a line for each, so that anybody can fill its log.
        """
        count = self.drops[cause] + 1
        self.drops[cause] = count
        if not count & (count - 1):
            self.alarms.alarm(Category.PRINT, Priority.WARNING, text, *args)

    def make_active(self, ring: RingView) -> None:
        """Name the ring whose tokens count."""
        self.active = ring
        self.last_of_my_segment = (
            self.roster.last_in_segment(self.me.segment, ring.members) == self.me.id
        )

    def my_type(self) -> RepresentativeType:
        """As which kind of representative this daemon gathers."""
        return RepresentativeType.RING_REP if self.token_alive else RepresentativeType.SEG_REP

    def first_of_my_segment(self) -> bool:
        """Whether this daemon is the first member of its segment in its ring."""
        return self.roster.first_in_segment(self.me.segment, self.members) == self.me.id

    def avoids(self, daemon: ProcId) -> bool:
        """Whether a daemon outside my ring is not to be heard for now."""
        return (
            self.avoidance.avoids(daemon, self.now)
            and daemon not in self.members
            and (self.future is None or daemon not in self.future.members)
        )

    def all_configured(self, members: Sequence[ProcId], rings: Iterable[RingBlock]) -> bool:
        """Tell whether a FORM token names only configured daemons."""
        known = self.roster.all_known
        return known(members) and all(known(entry.commit) for entry in rings)

    def enter_op(self) -> None:
        """Enter OP; what waited for it runs when the present input is done."""
        self.state = MembershipState.OP
        if self.when_op is not None:
            self.timers.start(Timer.RELOAD, 0.0)
