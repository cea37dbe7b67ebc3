"""One membership machine on its own, put into any state, with everything it does noted."""

from __future__ import annotations

from collections.abc import Sequence

from txspread.config.model import Configuration, Daemon
from txspread.engine.membership import Membership
from txspread.engine.membership.roster import ring_of
from txspread.engine.node_interfaces import OneByOne
from txspread.engine.ring_interfaces import MembershipState, OldRingResult, OldRingState, Timer
from txspread.engine.routing import Routing
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.membership import Representative, RepresentativeType


class NotedTimers:
    """Timers that never fire by themselves."""

    def __init__(self) -> None:
        self.set: dict[Timer, float] = {}
        self.now = 0.0

    def start(self, timer: Timer, delay: float) -> None:
        self.set[timer] = delay

    def stop(self, timer: Timer) -> None:
        self.set.pop(timer, None)

    def running(self, timer: Timer) -> bool:
        return timer in self.set


class NotedRing:
    """An ordering layer that notes what it is told and describes what it is given."""

    def __init__(self) -> None:
        self.state = OldRingState(0, 0, (), frozenset())
        self.commit: tuple[ProcId, ...] = ()
        self.calls: list[str] = []
        self.results: list[tuple[int, OldRingResult, bool]] = []

    def on_token_loss(self) -> None:
        self.calls.append("token_loss")

    def describe(self) -> OldRingState:
        return self.state

    def commit_list(self) -> tuple[tuple[ProcId, ...], int]:
        return self.commit, 1

    def on_form1(self) -> None:
        self.calls.append("form1")

    def on_form2(self, last_seq: int, entry: OldRingResult, last_member: bool) -> None:
        self.calls.append("form2")
        self.results.append((last_seq, entry, last_member))


class Bench(OneByOne):
    """A machine with a network, timers and a ring layer that only take notes."""

    def __init__(self, configuration: Configuration, me: Daemon) -> None:
        self.configuration = configuration
        self.me = me
        self.wall = 1_700_000_000
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.timers = NotedTimers()
        self.ring = NotedRing()
        self.ring.commit = (me.id,)
        self.routing = Routing(me, configuration, self)
        self.membership = Membership(me, configuration, self.routing, self.timers, self.wall_time)
        self.membership.connect(self.ring)

    # The host.

    def wall_time(self) -> int:
        return self.wall

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((data, address))

    def pause_accepting(self) -> None:
        raise AssertionError("membership never stops clients")

    def resume_accepting(self) -> None:
        raise AssertionError("membership never stops clients")

    def leave(self, reason: str) -> None:
        raise AssertionError(reason)

    def take_sent(self) -> list[tuple[bytes, tuple[str, int]]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent

    # Getting into a state.

    def put(
        self,
        state: MembershipState,
        members: Sequence[ProcId] = (),
        ring_id: MembershipId | None = None,
        token_alive: bool | None = None,
    ) -> None:
        """Put the machine into a state, in a ring (by default one of its own)."""
        standing = self.membership
        in_order = standing.roster.in_order(members) or (self.me.id,)
        view = ring_of(self.me.id, ring_id or MembershipId(in_order[0], 1_600_000_000), in_order)
        standing.installed = view
        standing.make_active(view)
        standing.state = state
        if token_alive is None:
            token_alive = state in (MembershipState.OP, MembershipState.EVS)
        standing.token_alive = token_alive
        standing.members = in_order if token_alive else (self.me.id,)
        standing.future = view if state is MembershipState.EVS else None
        kind = RepresentativeType.RING_REP if token_alive else RepresentativeType.SEG_REP
        standing.gathering.start(kind)
        standing.gathering.hear_only_myself()
        standing.gathering.ask_nobody()
        self.routing.route_by(in_order)
        self.timers.set.clear()
        self.sent.clear()
        self.ring.calls.clear()

    def count(self, *reps: Representative) -> None:
        """Have JOINs of these representatives taken in."""
        for rep in reps:
            self.membership.gathering.count(rep, (rep,))
