"""The membership tables as such: complete, sound, and the ones that are documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from membership_events import BLOCKING_EVENTS, bench
from membership_table_text import tables_text

from txspread.engine.membership.conditions import CONDITIONS
from txspread.engine.membership.machine import ACTIONS
from txspread.engine.membership.tables import EVENT_OF_TIMER, TABLE, Action, Condition, DropCause
from txspread.engine.ring_interfaces import MembershipState, Timer

# The tables themselves.


def test_every_state_has_rows_for_every_packet_and_token():
    for state, events in TABLE.items():
        assert set(BLOCKING_EVENTS) <= set(events), state


def test_the_last_row_of_each_event_always_applies():
    for events in TABLE.values():
        for rows in events.values():
            assert rows[-1].condition is Condition.ALWAYS


def test_every_condition_and_action_is_implemented_and_used():
    rows = [row for events in TABLE.values() for rows in events.values() for row in rows]
    assert {row.condition for row in rows} == set(CONDITIONS) == set(Condition)
    assert {action for row in rows for action in row.actions} == set(ACTIONS) == set(Action)


@pytest.mark.parametrize("state", MembershipState)
@pytest.mark.parametrize(
    "timer", [Timer.ALIVE, Timer.SEG, Timer.REP, Timer.JOIN, Timer.GATHER, Timer.LOOKUP, Timer.LOSS]
)
def test_a_timer_that_a_state_does_not_use_is_counted_and_ignored(state, timer):
    made = bench(state)
    made.membership.timer(timer, 0.0)
    if made.membership.drops[DropCause.UNEXPECTED_TIMER]:
        assert made.membership.state is state
        assert not made.timers.set
        assert not made.sent
    else:
        (event,) = [e for t, e in EVENT_OF_TIMER.items() if t is timer]
        assert event in TABLE[state]


# The documentation.


def test_the_documented_tables_are_the_tables():
    document = Path(__file__).parents[2] / "docs" / "protocol" / "membership.md"
    assert tables_text() in document.read_text()
