"""The conditions of the membership tables, each one question about a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txspread.engine.membership.standing import Given, Standing
from txspread.engine.membership.tables import Condition
from txspread.wire.membership import RepresentativeType


def _always(standing: Standing, given: Given) -> bool:
    return True


def _sender_is_member(standing: Standing, given: Given) -> bool:
    return given.sender in standing.members


def _sender_is_member_of_segments(standing: Standing, given: Given) -> bool:
    return len(standing.roster.segments) > 1 and given.sender in standing.members


def _sender_is_future_member(standing: Standing, given: Given) -> bool:
    return standing.future is not None and given.sender in standing.future.members


def _i_lead(standing: Standing, given: Given) -> bool:
    return standing.members[0] == standing.me.id


def _sender_is_mine_to_answer(standing: Standing, given: Given) -> bool:
    return (
        standing.roster.segment_of(given.sender) != standing.me.segment
        or standing.first_of_my_segment()
    )


def _sender_represents_my_segment(standing: Standing, given: Given) -> bool:
    return (
        given.join is not None
        and given.join.reps[0].type is RepresentativeType.SEG_REP
        and standing.roster.segment_of(given.sender) == standing.me.segment
    )


def _i_am_represented(standing: Standing, given: Given) -> bool:
    return standing.seg_rep is not None


def _first_foreign_in_my_segment(standing: Standing, given: Given) -> bool:
    return not standing.foreign_found and standing.first_of_my_segment()


def _my_turn_as_member(standing: Standing, given: Given) -> bool:
    return given.form1 is not None and given.form1.pending[:1] == (standing.me.id,)


def _my_turn_as_rep(standing: Standing, given: Given) -> bool:
    form1 = given.form1
    if form1 is None or form1.pending or form1.rep_index >= len(form1.reps):
        return False
    rep = form1.reps[form1.rep_index]
    return rep.proc_id == standing.me.id and rep.type is standing.my_type()


def _token_is_lost(standing: Standing, given: Given) -> bool:
    return not standing.token_alive


def _token_is_alive(standing: Standing, given: Given) -> bool:
    return standing.token_alive


def _smallest_of_segment(standing: Standing, given: Given) -> bool:
    return standing.gathering.smallest_heard() == standing.me.id


def _nobody_answered(standing: Standing, given: Given) -> bool:
    return standing.token_alive and len(standing.gathering.reps) == 1


def _smallest_rep(standing: Standing, given: Given) -> bool:
    return standing.gathering.smallest_rep().proc_id == standing.me.id


CONDITIONS: Final[dict[Condition, Callable[[Standing, Given], bool]]] = {
    Condition.ALWAYS: _always,
    Condition.SENDER_IS_MEMBER: _sender_is_member,
    Condition.SENDER_IS_MEMBER_OF_SEGMENTS: _sender_is_member_of_segments,
    Condition.SENDER_IS_FUTURE_MEMBER: _sender_is_future_member,
    Condition.I_LEAD: _i_lead,
    Condition.SENDER_IS_MINE_TO_ANSWER: _sender_is_mine_to_answer,
    Condition.SENDER_REPRESENTS_MY_SEGMENT: _sender_represents_my_segment,
    Condition.I_AM_REPRESENTED: _i_am_represented,
    Condition.FIRST_FOREIGN_IN_MY_SEGMENT: _first_foreign_in_my_segment,
    Condition.MY_TURN_AS_MEMBER: _my_turn_as_member,
    Condition.MY_TURN_AS_REP: _my_turn_as_rep,
    Condition.TOKEN_IS_LOST: _token_is_lost,
    Condition.TOKEN_IS_ALIVE: _token_is_alive,
    Condition.SMALLEST_OF_SEGMENT: _smallest_of_segment,
    Condition.NOBODY_ANSWERED: _nobody_answered,
    Condition.SMALLEST_REP: _smallest_rep,
}
"""Every condition with its test."""
