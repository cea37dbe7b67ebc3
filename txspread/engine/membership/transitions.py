"""Actions that change the state, apart from those of the FORM tokens.

Source: ``docs/protocol/membership.md`` section 5.3.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.alarms import Priority
from txspread.engine.membership.standing import Given, Standing
from txspread.engine.ring_interfaces import MembershipState, Timer

_STOPPED_BY_LOSS: Final = (Timer.LOSS, Timer.JOIN, Timer.GATHER, Timer.HURRY, Timer.LOOKUP)


def lose_token(standing: Standing, given: Given) -> None:
    """Lose the token: back off, work out whom to ask, enter SEG."""
    was = standing.state
    gathering = standing.gathering
    if was is MembershipState.GATHER:
        gathering.ask_others_heard()
    elif was is not MembershipState.FORM:
        gathering.ask_nobody()
    if was is not MembershipState.FORM:
        gathering.ask_every_other_segment(
            standing.members if standing.future is None else standing.future.members
        )
    standing.token_losses += 1
    standing.token_alive = False
    standing.ring.on_token_loss()
    for timer in _STOPPED_BY_LOSS:
        standing.timers.stop(timer)
    standing.members = (standing.me.id,)
    standing.future = None
    standing.make_active(standing.installed)
    standing.log(
        Priority.WARNING,
        "Memb_token_loss: ############### I lost my token, state was %d\n",
        was.value,
    )
    enter_seg(standing, given)


def enter_seg(standing: Standing, given: Given) -> None:
    """Enter SEG: be heard, hear who is alive in my segment."""
    standing.state = MembershipState.SEG
    standing.gathering.hear_only_myself()
    standing.timers.start(Timer.ALIVE, 0.0)
    standing.timers.start(Timer.SEG, standing.timeouts.seg)


def enter_represented(standing: Standing, given: Given) -> None:
    """Enter REPRESENTED: wait for the representative."""
    standing.state = MembershipState.REPRESENTED
    standing.timers.stop(Timer.ALIVE)
    standing.timers.stop(Timer.SEG)
    standing.timers.start(Timer.REP, standing.timeouts.rep)


def enter_gather(standing: Standing, given: Given) -> None:
    """Enter GATHER with the lists as they have been prepared."""
    standing.state = MembershipState.GATHER
    standing.gathering.start(standing.my_type())
    standing.timers.stop(Timer.ALIVE)
    standing.timers.stop(Timer.LOOKUP)
    standing.timers.start(Timer.JOIN, 0.0)
    standing.timers.start(Timer.GATHER, standing.timeouts.gather)


def gather_again(standing: Standing, given: Given) -> None:
    """Gather once more: a smaller representative was heard, and no FORM1 came."""
    standing.log(Priority.WARNING, "Form_or_fail: failed to gather")
    standing.gathering.hear_only_myself()
    standing.gathering.ask_others_heard()
    enter_gather(standing, given)


def return_to_op(standing: Standing, given: Given) -> None:
    """Stop gathering: nobody answered, or somebody smaller has the lead."""
    if len(standing.gathering.reps) > 1:
        standing.log(Priority.WARNING, "Form_or_fail:failed, return to OP")
    standing.timers.stop(Timer.JOIN)
    standing.timers.start(Timer.LOOKUP, standing.timeouts.lookup)
    standing.enter_op()
