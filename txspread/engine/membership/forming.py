"""Actions about the FORM tokens.

What the tokens carry and how a visit changes them is in
:mod:`~txspread.engine.membership.formation`; here a machine uses that.

Source: ``docs/protocol/membership.md`` section 6.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve

from txspread.engine.alarms import Category, Priority
from txspread.engine.membership import formation
from txspread.engine.membership.roster import ring_of
from txspread.engine.membership.standing import Given, Standing
from txspread.engine.membership.tables import DropCause
from txspread.engine.ring_interfaces import MembershipState, OldRingResult, Timer
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId, format_address
from txspread.wire.membership import Form1, Form2, RingBlock
from txspread.wire.packet import MAX_PACKET_SIZE
from txspread.wire.token import NOBODY, Token

FIRST_TOKEN_ARU: Final = 2147483647
"""``aru`` of the first regular token of a ring: nobody has lowered it yet."""

_STOPPED_BY_FORM: Final = (Timer.JOIN, Timer.GATHER, Timer.REP, Timer.HURRY)


def drop_form1(standing: Standing, given: Given) -> None:
    """Count a FORM1 that is not for me, or not for my state."""
    standing.drop(DropCause.NOT_MY_TURN)


def swallow(standing: Standing, given: Given) -> None:
    """Count a FORM token that this state does not take."""
    standing.drop(DropCause.SWALLOWED)


def _my_ring(standing: Standing) -> formation.MyRing:
    commit, _ = standing.ring.commit_list()
    known = standing.roster.position
    return formation.MyRing(
        me=standing.me.id,
        id=standing.installed.id,
        state=standing.ring.describe(),
        commit=tuple(member for member in commit if member in known),
    )


def _learn_times(standing: Standing, rings: tuple[RingBlock, ...]) -> None:
    """Step over the ids that this daemon gave to rings which others come from."""
    for entry in rings:
        if entry.memb_id.proc_id == standing.me.id:
            standing.clock.seen(entry.memb_id.time)


def create_form1(standing: Standing, given: Given) -> None:
    """Begin an attempt: describe my ring, send FORM1 to the first stop."""
    gathering = standing.gathering
    me = standing.me.id
    standing.attempt = MembershipId(me, standing.clock.next())
    ring = _my_ring(standing)
    brought = standing.members if standing.token_alive else gathering.heard
    reps = gathering.visiting_order()
    members = formation.cleaned(brought, me, {rep.proc_id for rep in reps})
    left_out = standing.avoidance.begin((*members[1:], *(rep.proc_id for rep in reps[1:])))
    if left_out:
        standing.log(
            Priority.WARNING,
            "Create_form1: %d attempts have failed; leaving %s out",
            standing.avoidance.attempts - 1,
            ", ".join(format_address(daemon) for daemon in sorted(left_out)),
        )
        members = tuple(member for member in members if member not in left_out)
        reps = [rep for rep in reps if rep.proc_id not in left_out]
    gathering.rep_index = 1
    gathering.ask_segments_of(reps)
    form1 = formation.create_form1(
        ring, standing.attempt, standing.configuration.hash, members, reps
    )
    standing.log(
        Priority.INFO,
        "Create_form1: putting Aru = %d and Highest_Seq = %d on rg_info form1 token",
        ring.state.aru,
        ring.state.highest_seq,
    )
    _pass_on(standing, form1)


def fill_form1(standing: Standing, given: Given) -> None:
    """Add myself and my ring to a FORM1 that is my turn, send it on."""
    form1 = given.form1
    if form1 is None:
        return
    me = standing.me.id
    _learn_times(standing, form1.rings)
    ring = _my_ring(standing)
    if me in form1.members:
        standing.drop(DropCause.DUPLICATE_MEMBER)
        return
    if formation.is_transitional(form1.rings, ring):
        standing.drop(DropCause.ALREADY_TRANSITIONAL)
        return
    array = formation.MembersArray(form1.members, form1.pending, form1.unused_members)
    rep_index = form1.rep_index
    if standing.state is MembershipState.GATHER:
        elsewhere = {*form1.members, *(rep.proc_id for rep in form1.reps)}
        elsewhere.update(rep.proc_id for rep in standing.gathering.reps)
        brought = standing.members if standing.token_alive else standing.gathering.heard
        if not array.append(formation.cleaned(brought, me, elsewhere)):
            standing.drop(DropCause.TOO_MANY_MEMBERS)
            return
        rep_index += 1
    else:
        array.visit_next()
    rings = formation.with_my_ring(form1.rings, ring)
    if rings is None:
        standing.drop(DropCause.RING_LIMIT)
        standing.log(
            Priority.WARNING,
            "Fill_form1: ring_info entry for %s will not fit in FORM token. "
            "Removing self from current membership attempt and m_info list",
            standing.me.address,
        )
        array.leave(me)
        rings = form1.rings
    standing.attempt = form1.attempt
    standing.last_form1 = given.datagram
    standing.gathering.ask_segments_of(form1.reps)
    _pass_on(
        standing,
        formation.filled(form1, array, rep_index, rings, ring, standing.configuration.hash),
    )


def _pass_on(standing: Standing, form1: Form1) -> None:
    """Send FORM1 to its next stop, or FORM2 to the first member; enter FORM.

    A FORM2 for this daemon itself is read at once: upstream sends it to its own
    token port, where nobody else can see it.
    """
    to = formation.next_stop(form1)
    if to is not None:
        _send_form(standing, form1, to)
        _enter_form(standing)
        return
    form2 = formation.to_form2(form1, standing.roster)
    first = form2.pending[0] if form2.pending else None
    if first is not None and first != standing.me.id:
        _send_form(standing, form2, first)
    _enter_form(standing)
    if first == standing.me.id:
        read_form2(standing, Given(form2=form2))


def _send_form(standing: Standing, form: Form1 | Form2, to: ProcId | None) -> None:
    """Send a form token twice, to a named daemon or to the successor."""
    try:
        token = form.encode()
    except ProtocolError:
        # More than a token can carry; upstream ends here.  Unsent, the attempt
        # fails by its timer.
        standing.drop(DropCause.TOKEN_TOO_LARGE)
        return
    size = len(token)
    if size > MAX_PACKET_SIZE:
        standing.alarms.alarm(
            Category.PRINT,
            Priority.WARNING,
            "Net_send_token: WARNING!!! Token is longer (%d bytes) than a single MTU "
            "(%d bytes)! It will be fragmented by IP.",
            size,
            MAX_PACKET_SIZE,
        )
    _send_twice(standing, token, to)


def _send_twice(standing: Standing, token: bytes, to: ProcId | None) -> None:
    for _ in range(2):
        if to is None:
            standing.network.send_token(token)
        else:
            standing.network.send_token_to(to, token)


def _enter_form(standing: Standing) -> None:
    for timer in _STOPPED_BY_FORM:
        standing.timers.stop(timer)
    standing.token_alive = False
    standing.state = MembershipState.FORM
    standing.ring.on_form1()
    standing.timers.start(Timer.LOSS, standing.timeouts.form)


def read_form2(standing: Standing, given: Given) -> None:
    """Take over the result of an attempt, send it on: recovery begins."""
    form2 = given.form2
    if form2 is None:
        return
    entry = _acceptable_entry(standing, form2)
    if entry is None:
        return
    me = standing.me.id
    _learn_times(standing, form2.rings)
    members = (*form2.members, *form2.pending)
    ring_id = form2.future_memb_id
    if form2.members:
        trans_time = entry.trans_time or standing.clock.next()
    else:
        first_time = standing.clock.next()
        ring_id = MembershipId(me, standing.clock.after())
        trans_time = entry.trans_time or first_time
    form2 = evolve(
        form2,
        transmiter_id=me,
        proc_id=me,
        conf_hash=standing.configuration.hash,
        members=(*form2.members, me),
        pending=form2.pending[1:],
        future_memb_id=ring_id,
        rings=formation.with_trans_time(form2.rings, entry.memb_id, trans_time),
    )
    standing.trans_time = trans_time
    future = ring_of(me, ring_id, standing.roster.in_order(members))
    standing.future = future
    standing.network.route_by(future.members)
    last_member = not form2.pending
    standing.ring.on_form2(
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
        _send_form(standing, form2, None)
    elif len(members) > 1:
        # A ring of one needs no token: its ordering layer goes on by itstanding.
        _send_twice(standing, _first_token(standing, ring_id), None)
    standing.token_alive = True
    standing.state = MembershipState.EVS
    standing.make_active(future)
    standing.timers.start(Timer.LOSS, standing.timeouts.token)


def _acceptable_entry(standing: Standing, form2: Form2) -> RingBlock | None:
    """My ring's entry on a FORM2 that I take; None after dropping the token."""
    if form2.attempt != standing.attempt:
        standing.drop(DropCause.OTHER_ATTEMPT)
        standing.log(
            Priority.WARNING,
            "Read_form2: WARNING!!! Wrong memb_id on token (0x%x, %d) "
            "should be (0x%x, %d) -- dropping!",
            *form2.attempt,
            *standing.attempt,
        )
        return None
    members = (*form2.members, *form2.pending)
    if form2.pending[:1] != (standing.me.id,) or len(members) > MAX_PROCS_RING:
        standing.drop(DropCause.FORM2_NOT_FOR_ME)
        return None
    if len(set(members)) != len(members):
        standing.drop(DropCause.DUPLICATE_MEMBER)
        return None
    if not standing.all_configured(members, form2.rings):
        standing.drop(DropCause.UNKNOWN_DAEMON)
        return None
    entry = formation.entry_of(form2.rings, standing.installed.id)
    if entry is None or standing.me.id not in entry.commit[: entry.num_trans]:
        standing.drop(DropCause.OLD_RING_MISSING)
        standing.log(Priority.WARNING, "Read_form2: WARNING!!! My ring ID not on token!")
        return None
    return entry


def _first_token(standing: Standing, ring_id: MembershipId) -> bytes:
    """The first regular token of a ring, made by its last member."""
    return Token(
        type=0,
        transmiter_id=standing.me.id,
        proc_id=standing.me.id,
        memb_id=ring_id,
        seq=0,
        aru=FIRST_TOKEN_ARU,
        aru_last_id=NOBODY,
        flow_control=0,
        conf_hash=standing.configuration.hash,
        requests=(),
    ).encode()
