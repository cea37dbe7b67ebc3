"""Actions about ALIVE, JOIN and REFER packets and packets of other rings.

Source: ``docs/protocol/membership.md`` sections 3, 5.3 and 5.4.
"""

from __future__ import annotations

from txspread.engine.alarms import Priority
from txspread.engine.membership.standing import Given, Standing
from txspread.engine.membership.tables import DropCause
from txspread.engine.membership.transitions import enter_gather
from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.wire.datagram import ROUTED
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import ProcId
from txspread.wire.membership import (
    Join,
    Representative,
    RepresentativeType,
    encode_alive,
    encode_refer,
)
from txspread.wire.packet import restamp


def insert_sender(standing: Standing, given: Given) -> None:
    """Count the sender as alive in my segment."""
    if not standing.gathering.hear(given.sender):
        standing.drop(DropCause.LIST_FULL)


def follow_sender(standing: Standing, given: Given) -> None:
    """Take the sender for my representative."""
    if standing.state is MembershipState.REPRESENTED and standing.seg_rep != given.sender:
        standing.log(
            Priority.WARNING,
            "Memb_handle_join: representative shifts: old %d, new %d",
            -1 if standing.seg_rep is None else standing.seg_rep,
            given.sender,
        )
    standing.seg_rep = given.sender


def forget_rep(standing: Standing, given: Given) -> None:
    """Have no representative until one shows itself."""
    standing.seg_rep = None


def prepare_answer(standing: Standing, given: Given) -> None:
    """Remember whom to answer; a leader speaks for its ring, so no members."""
    if given.join is not None:
        standing.gathering.ask_only(given.join.reps[0])
    standing.gathering.hear_nobody()


def count_reps(standing: Standing, given: Given) -> None:
    """Take in the representatives of a JOIN."""
    if given.join is None:
        return
    if not standing.gathering.count(given.join.reps[0], given.join.reps):
        standing.drop(DropCause.LIST_FULL)
    if standing.gathering.smallest_rep().proc_id == given.sender:
        # The smallest one is still gathering: wait for its FORM1.
        standing.timers.start(Timer.GATHER, standing.timeouts.gather)


def note_referred(standing: Standing, given: Given) -> None:
    """Remember the daemon that a REFER names."""
    if given.referred is None or standing.avoids(given.referred.proc_id):
        return
    if not standing.gathering.note(given.referred):
        standing.drop(DropCause.LIST_FULL)


def refer_to_leader(standing: Standing, given: Given) -> None:
    """Send the sender to my ring's leader."""
    _refer(standing, given.sender, standing.members[0], RepresentativeType.RING_REP)


def refer_to_rep(standing: Standing, given: Given) -> None:
    """Send the sender to my representative."""
    if standing.seg_rep is not None:
        _refer(standing, given.sender, standing.seg_rep, RepresentativeType.SEG_REP)


def _refer(standing: Standing, to: ProcId, who: ProcId, kind: RepresentativeType) -> None:
    rep = Representative(who, kind, standing.roster.segment_of(who))
    standing.network.send_to_daemon(
        to, encode_refer(standing.me.id, standing.configuration.hash, rep)
    )


def send_alive(standing: Standing, given: Given) -> None:
    """Tell my segment that I am alive, and whom I heard."""
    standing.log(Priority.WARNING, "Scast_alive: State is %d", standing.state.value)
    standing.network.send_to_segment(
        standing.me.segment,
        encode_alive(standing.me.id, standing.configuration.hash, standing.gathering.heard),
    )


def restart_alive(standing: Standing, given: Given) -> None:
    """Be heard again after a while."""
    standing.timers.start(Timer.ALIVE, standing.timeouts.alive)


def restart_rep(standing: Standing, given: Given) -> None:
    """Go on waiting for the representative."""
    standing.timers.start(Timer.REP, standing.timeouts.rep)


def _join_packet(standing: Standing) -> bytes:
    gathering = standing.gathering
    return Join(
        members=tuple(gathering.heard),
        reps=tuple(gathering.reps),
        rep_index=gathering.rep_index,
    ).encode(standing.me.id, standing.configuration.hash)


def send_joins(standing: Standing, given: Given) -> None:
    """Tell my segment (without a token) and those to be asked that I gather."""
    standing.log(Priority.WARNING, "Send_join: State is %d", standing.state.value)
    packet = _join_packet(standing)
    if not standing.token_alive:
        standing.network.send_to_segment(standing.me.segment, packet)
    for rep in standing.gathering.ask:
        if rep.proc_id != standing.me.id:
            standing.network.send_to_daemon(rep.proc_id, packet)
    standing.timers.start(Timer.JOIN, standing.timeouts.join)


def look_for_missing(standing: Standing, given: Given) -> None:
    """Ask the configured daemons that are not in my ring; gather if there are any."""
    gathering = standing.gathering
    gathering.ask_nobody()
    gathering.start(RepresentativeType.RING_REP)
    gathering.hear_nobody()
    packet = _join_packet(standing)
    if len(standing.roster.segments) == 1:
        # Whether anybody is missing is not asked: all would hear it.
        standing.network.send_to_segment(standing.me.segment, packet)
        enter_gather(standing, given)
        return
    present = frozenset(standing.installed.members)
    missing = [
        d.id for d in standing.roster.daemons if d.id not in present and not standing.avoids(d.id)
    ]
    for daemon in missing:
        standing.network.send_to_daemon(daemon, packet)
    if missing:
        enter_gather(standing, given)


def forward_foreign(standing: Standing, given: Given) -> None:
    """Show the leader a data packet of another ring."""
    standing.foreign_found = True
    try:
        packet = restamp(given.datagram, 0, ROUTED, standing.me.id, standing.configuration.hash)
    except ProtocolError:
        standing.drop(DropCause.MALFORMED)
        return
    for _ in range(2):
        standing.network.send_to_daemon(standing.members[0], packet)
