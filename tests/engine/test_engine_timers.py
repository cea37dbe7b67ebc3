"""The ring's named timers against a plain search."""

from __future__ import annotations

import random

import pytest

from txspread.engine.ring_interfaces import Timer
from txspread.engine.timers import RingTimers


@pytest.mark.parametrize("seed", range(20))
def test_the_next_timer_is_the_least_deadline_whatever_was_done(seed):
    dice = random.Random(seed)
    timers = RingTimers(0.0)
    expected: dict[Timer, float] = {}
    for _ in range(500):
        timers.now += dice.choice((0.0, 0.0, 0.25, 1.0))
        timer = dice.choice(list(Timer))
        action = dice.choice(("start", "start", "stop", "take", "due", "next"))
        if action == "start":
            delay = dice.choice((0.0, 0.0, 0.5, 1.0, 2.0))
            timers.start(timer, delay)
            expected[timer] = timers.now + delay
        elif action == "stop":
            timers.stop(timer)
            expected.pop(timer, None)
        elif action == "take":
            assert timers.take(timer) is (expected.pop(timer, None) is not None)
        elif action == "due":
            due = timers.take_due(timers.now)
            least = min(expected.values(), default=None)
            if due is None:
                assert least is None or least > timers.now
            else:
                assert expected.pop(due) == least
                assert least <= timers.now
        if dice.random() < 0.7:
            assert timers.next() == min(expected.values(), default=None)
        assert [timers.deadline(one) for one in Timer] == [expected.get(one) for one in Timer]
        assert [timers.running(one) for one in Timer] == [one in expected for one in Timer]
