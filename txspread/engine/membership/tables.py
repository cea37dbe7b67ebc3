"""The membership state machine as data.

The six states:

====================  ===========  ========================================================
state                 token        what the daemon does
====================  ===========  ========================================================
OP                    alive        the ring works; its leader probes now and then
SEG                   lost         collects who is alive in its own segment
REPRESENTED           lost         waits for the representative of its segment
GATHER                lost         is a SEG_REP: collects other representatives
GATHER                alive        is a RING_REP (a leader): the same, while its ring works on
FORM                  lost         FORM1 has gone on from here; waits for FORM2
EVS                   alive        FORM2 has gone on from here; the old ring is recovered
====================  ===========  ========================================================

A daemon starts in OP as if it had a ring of one, and loses that token at once.
Losing the token always leads to SEG.  From SEG the first daemon of those heard
becomes the representative (GATHER), the others REPRESENTED.  When the gathering
time is over the smallest representative sends FORM1 round; who has passed it on
is in FORM, who has passed FORM2 on is in EVS, and the ordering layer ends EVS by
installing the new ring: OP.

:data:`TABLE` holds, for each state and event, rows of (condition, actions, next
states).  The first row whose condition holds is taken; its actions run in order;
the state is then one of the row's next states.  An empty row of actions is an
event that is ignored or a token that is swallowed.  Regular tokens and data of
the own ring belong to the ordering layer (``docs/protocol/ring-ordering.md``);
the only part of membership in them is ``token_alive``, which is false in SEG,
REPRESENTED, FORM and in the GATHER of a SEG_REP.

Source: ``docs/protocol/membership.md`` section 5; upstream ``membership.c``.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen

from txspread.engine.ring_interfaces import MembershipState, Timer

OP: Final = MembershipState.OP
SEG: Final = MembershipState.SEG
REPRESENTED: Final = MembershipState.REPRESENTED
GATHER: Final = MembershipState.GATHER
FORM: Final = MembershipState.FORM
EVS: Final = MembershipState.EVS


class Event(enum.Enum):
    """What can happen to the machine."""

    ALIVE = "ALIVE received"
    JOIN = "JOIN received"
    REFER = "REFER received"
    FOREIGN = "data of another ring received"
    FORM1 = "FORM1 received"
    FORM2 = "FORM2 received"
    LOSS = "loss timer"
    ALIVE_TIMER = "alive timer"
    SEG_TIMER = "segment timer"
    REP_TIMER = "representative timer"
    JOIN_TIMER = "join timer"
    GATHER_TIMER = "gather timer"
    LOOKUP_TIMER = "lookup timer"


EVENT_OF_TIMER: Final[dict[Timer, Event]] = {
    Timer.LOSS: Event.LOSS,
    Timer.ALIVE: Event.ALIVE_TIMER,
    Timer.SEG: Event.SEG_TIMER,
    Timer.REP: Event.REP_TIMER,
    Timer.JOIN: Event.JOIN_TIMER,
    Timer.GATHER: Event.GATHER_TIMER,
    Timer.LOOKUP: Event.LOOKUP_TIMER,
}


class Condition(enum.Enum):
    """What a row asks before it is taken."""

    ALWAYS = "otherwise"
    SENDER_IS_MEMBER = "the sender is a member of my ring"
    SENDER_IS_MEMBER_OF_SEGMENTS = "the sender is a member and the file has several segments"
    SENDER_IS_FUTURE_MEMBER = "the sender is a member of the ring being installed"
    I_LEAD = "I am the leader of my ring"
    SENDER_IS_MINE_TO_ANSWER = (
        "the sender is of another segment, or I am the first member of my segment"
    )
    SENDER_REPRESENTS_MY_SEGMENT = "the sender is of my segment and calls itself SEG_REP"
    I_AM_REPRESENTED = "my representative has shown itself"
    FIRST_FOREIGN_IN_MY_SEGMENT = (
        "I am the first member of my segment and have not reported one since the installation"
    )
    MY_TURN_AS_MEMBER = "I am the first pending member on the token"
    MY_TURN_AS_REP = "nobody is pending and I, with my present type, am the next representative"
    TOKEN_IS_LOST = "my token is lost"
    TOKEN_IS_ALIVE = "my token is alive"
    SMALLEST_OF_SEGMENT = "I am the smallest of those heard"
    NOBODY_ANSWERED = "my token is alive and no other representative was heard"
    SMALLEST_REP = "I am the smallest of the representatives heard"


class Action(enum.Enum):
    """What a row does."""

    LOSE_TOKEN = "lose the token: enter SEG"
    INSERT_SENDER = "count the sender as alive in my segment"
    PREPARE_ANSWER = "remember the sender's representative, forget those heard"
    ENTER_GATHER = "enter GATHER"
    ENTER_REPRESENTED = "enter REPRESENTED"
    ENTER_SEG = "enter SEG"
    REFER_TO_LEADER = "refer the sender to my ring's leader"
    REFER_TO_REP = "refer the sender to my representative"
    FOLLOW_SENDER = "take the sender for my representative"
    FORGET_REP = "have no representative"
    SEND_ALIVE = "send ALIVE"
    RESTART_ALIVE = "restart the alive timer"
    RESTART_REP = "restart the representative timer"
    SEND_JOINS = "send JOINs, restart the join timer"
    COUNT_REPS = "count the sender as representative, remember all that it names"
    NOTE_REFERRED = "remember the daemon referred to"
    LOOK_FOR_MISSING = "look for missing daemons"
    FORWARD_FOREIGN = "forward the packet to the leader, twice"
    RETURN_TO_OP = "stop gathering: OP"
    GATHER_AGAIN = "forget those heard, keep where to ask: GATHER"
    CREATE_FORM1 = "create FORM1: enter FORM"
    FILL_FORM1 = "add myself to FORM1 and send it on: enter FORM"
    READ_FORM2 = "take over FORM2 and send it on: enter EVS"
    DROP_FORM1 = "count a FORM1 that is not my turn"
    SWALLOW = "count a FORM token that this state does not take"


class DropCause(enum.Enum):
    """Why something that was received, or should have been sent, came to nothing."""

    MALFORMED = "bytes that do not decode"
    UNKNOWN_SENDER = "the daemon it speaks for is not configured"
    FROM_MYSELF = "it speaks for this daemon, which never hears itself"
    UNKNOWN_DAEMON = "it names a daemon that is not configured"
    FOREIGN_REPRESENTATIVE = "a JOIN that does not name its sender first"
    UNKNOWN_REFERRED = "a REFER to a daemon that is not configured"
    REP_TYPE = "a representative of no known type, or one that only guesses, of itself"
    WRONG_SEGMENT = "a JOIN that puts a daemon into another segment than the configuration"
    NOT_MY_TURN = "a FORM1 for somebody else, or for a state I am not in"
    SWALLOWED = "a FORM token in a state that takes none, second copies included"
    REPEATED_FORM1 = "a FORM1 that was handled before, byte for byte"
    ALREADY_TRANSITIONAL = "a FORM1 that has me as a transitional member already"
    TOO_MANY_MEMBERS = "a FORM1 that would name more than 128 daemons"
    DUPLICATE_MEMBER = "a FORM2 that names a daemon twice"
    TOKEN_TOO_LARGE = "a FORM token whose body would pass 32767 bytes"
    OTHER_ATTEMPT = "a FORM2 of another attempt"
    FORM2_NOT_FOR_ME = "a FORM2 whose next member is not me"
    OLD_RING_MISSING = "a FORM2 without an entry for my ring"
    RING_LIMIT = "a FORM1 with 20 rings already: I left myself out"
    LIST_FULL = "a member or a representative beyond the size of its list"
    AVOIDED = "a daemon that no ring could be formed with, not heard for a while"
    UNEXPECTED_TIMER = "a timer that this state does not use"


@frozen
class Row:
    """One line of the table."""

    condition: Condition
    actions: tuple[Action, ...]
    next_states: tuple[MembershipState, ...]


def _row(condition: Condition, actions: tuple[Action, ...], *next_states: MembershipState) -> Row:
    return Row(condition, actions, next_states)


def _ignored(state: MembershipState) -> tuple[Row, ...]:
    return (Row(Condition.ALWAYS, (), (state,)),)


def _swallowed(state: MembershipState) -> tuple[Row, ...]:
    return (Row(Condition.ALWAYS, (Action.SWALLOW,), (state,)),)


def _otherwise(state: MembershipState, *actions: Action) -> Row:
    return Row(Condition.ALWAYS, actions, (state,))


TABLE: Final[dict[MembershipState, dict[Event, tuple[Row, ...]]]] = {
    OP: {
        Event.ALIVE: (
            _row(Condition.SENDER_IS_MEMBER, (Action.LOSE_TOKEN, Action.INSERT_SENDER), SEG),
            _otherwise(OP),
        ),
        Event.JOIN: (
            _row(Condition.SENDER_IS_MEMBER_OF_SEGMENTS, (Action.LOSE_TOKEN,), SEG),
            # In a single segment ALIVE does this work; a JOIN there is a probe.
            _row(Condition.SENDER_IS_MEMBER, (), OP),
            _row(Condition.I_LEAD, (Action.PREPARE_ANSWER, Action.ENTER_GATHER), GATHER),
            _row(Condition.SENDER_IS_MINE_TO_ANSWER, (Action.REFER_TO_LEADER,), OP),
            _otherwise(OP),
        ),
        Event.REFER: _ignored(OP),
        Event.FOREIGN: (
            _row(Condition.I_LEAD, (Action.LOOK_FOR_MISSING,), GATHER, OP),
            _row(Condition.FIRST_FOREIGN_IN_MY_SEGMENT, (Action.FORWARD_FOREIGN,), OP),
            _otherwise(OP),
        ),
        Event.FORM1: (
            _row(Condition.I_LEAD, (Action.SWALLOW,), OP),
            _row(Condition.MY_TURN_AS_MEMBER, (Action.FILL_FORM1,), FORM, OP),
            _otherwise(OP, Action.DROP_FORM1),
        ),
        Event.FORM2: _swallowed(OP),
        Event.LOSS: (_row(Condition.ALWAYS, (Action.LOSE_TOKEN,), SEG),),
        Event.LOOKUP_TIMER: (_row(Condition.ALWAYS, (Action.LOOK_FOR_MISSING,), GATHER, OP),),
    },
    SEG: {
        Event.ALIVE: (_otherwise(SEG, Action.INSERT_SENDER),),
        Event.JOIN: (
            _row(
                Condition.SENDER_REPRESENTS_MY_SEGMENT,
                (Action.FOLLOW_SENDER, Action.ENTER_REPRESENTED, Action.SEND_ALIVE),
                REPRESENTED,
            ),
            _otherwise(SEG),
        ),
        Event.REFER: _ignored(SEG),
        Event.FOREIGN: _ignored(SEG),
        Event.FORM1: _swallowed(SEG),
        Event.FORM2: _swallowed(SEG),
        Event.ALIVE_TIMER: (_otherwise(SEG, Action.SEND_ALIVE, Action.RESTART_ALIVE),),
        Event.SEG_TIMER: (
            _row(Condition.SMALLEST_OF_SEGMENT, (Action.FORGET_REP, Action.ENTER_GATHER), GATHER),
            _row(Condition.ALWAYS, (Action.FORGET_REP, Action.ENTER_REPRESENTED), REPRESENTED),
        ),
    },
    REPRESENTED: {
        Event.ALIVE: (_otherwise(REPRESENTED, Action.RESTART_REP),),
        Event.JOIN: (
            _row(
                Condition.SENDER_REPRESENTS_MY_SEGMENT,
                (Action.FOLLOW_SENDER, Action.RESTART_REP, Action.SEND_ALIVE),
                REPRESENTED,
            ),
            _row(Condition.I_AM_REPRESENTED, (Action.REFER_TO_REP,), REPRESENTED),
            _otherwise(REPRESENTED),
        ),
        Event.REFER: _ignored(REPRESENTED),
        Event.FOREIGN: _ignored(REPRESENTED),
        Event.FORM1: (
            _row(Condition.MY_TURN_AS_MEMBER, (Action.FILL_FORM1,), FORM, REPRESENTED),
            _otherwise(REPRESENTED, Action.DROP_FORM1),
        ),
        Event.FORM2: _swallowed(REPRESENTED),
        Event.REP_TIMER: (_row(Condition.ALWAYS, (Action.ENTER_SEG,), SEG),),
    },
    GATHER: {
        Event.ALIVE: (
            _row(Condition.TOKEN_IS_LOST, (Action.INSERT_SENDER,), GATHER),
            _row(Condition.SENDER_IS_MEMBER, (Action.LOSE_TOKEN, Action.INSERT_SENDER), SEG),
            _otherwise(GATHER),
        ),
        Event.JOIN: (_otherwise(GATHER, Action.COUNT_REPS),),
        Event.REFER: (_otherwise(GATHER, Action.NOTE_REFERRED),),
        Event.FOREIGN: _ignored(GATHER),
        Event.FORM1: (
            _row(Condition.MY_TURN_AS_REP, (Action.FILL_FORM1,), FORM, GATHER),
            _otherwise(GATHER, Action.DROP_FORM1),
        ),
        Event.FORM2: _swallowed(GATHER),
        Event.LOSS: (_row(Condition.TOKEN_IS_ALIVE, (Action.LOSE_TOKEN,), SEG), _otherwise(GATHER)),
        Event.JOIN_TIMER: (_otherwise(GATHER, Action.SEND_JOINS),),
        Event.GATHER_TIMER: (
            _row(Condition.NOBODY_ANSWERED, (Action.RETURN_TO_OP,), OP),
            _row(Condition.SMALLEST_REP, (Action.CREATE_FORM1,), FORM),
            _row(Condition.TOKEN_IS_ALIVE, (Action.RETURN_TO_OP,), OP),
            _row(Condition.ALWAYS, (Action.GATHER_AGAIN,), GATHER),
        ),
    },
    FORM: {
        Event.ALIVE: _ignored(FORM),
        Event.JOIN: _ignored(FORM),
        Event.REFER: _ignored(FORM),
        Event.FOREIGN: _ignored(FORM),
        Event.FORM1: _swallowed(FORM),
        Event.FORM2: (_row(Condition.ALWAYS, (Action.READ_FORM2,), EVS, FORM),),
        Event.LOSS: (_row(Condition.ALWAYS, (Action.LOSE_TOKEN,), SEG),),
    },
    EVS: {
        Event.ALIVE: (
            _row(Condition.SENDER_IS_FUTURE_MEMBER, (Action.LOSE_TOKEN, Action.INSERT_SENDER), SEG),
            _otherwise(EVS),
        ),
        Event.JOIN: (
            _row(Condition.SENDER_IS_FUTURE_MEMBER, (Action.LOSE_TOKEN, Action.INSERT_SENDER), SEG),
            _otherwise(EVS),
        ),
        Event.REFER: _ignored(EVS),
        Event.FOREIGN: _ignored(EVS),
        Event.FORM1: _swallowed(EVS),
        Event.FORM2: _swallowed(EVS),
        Event.LOSS: (_row(Condition.ALWAYS, (Action.LOSE_TOKEN,), SEG),),
    },
}
"""Every transition.  A timer that a state has no entry for does not run there; if one
fires all the same (upstream aborts then) it is counted as
:attr:`DropCause.UNEXPECTED_TIMER` and ignored."""
