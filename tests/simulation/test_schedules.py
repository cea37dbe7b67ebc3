"""Random schedules keep every property of extended virtual synchrony.

A few hundred seeds of the many that ``python -m txspread.testing.simulate`` can play.
A seed that fails is reported with the command that plays it again with log lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from txspread.testing.plan import Plan, configuration_for, plan_for
from txspread.testing.simulate import Verdict, main, play_all, replay_command

SEEDS = 200
CHUNK = 10


def complaint(verdicts: Sequence[Verdict], daemons: int | None = None) -> str:
    """What to print about the broken ones; empty if there is none."""
    return "\n".join(
        f"seed {verdict.seed}: {'; '.join(verdict.breaches)}\n"
        f"    replay: {replay_command(verdict.seed, daemons)}"
        for verdict in verdicts
        if verdict.breaches
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_schedules_break_no_property(first: int) -> None:
    verdicts = list(play_all(range(first, first + CHUNK)))
    assert complaint(verdicts) == ""
    # A cluster in which nothing happens keeps every property as well.
    assert sum(verdict.memberships for verdict in verdicts) > 5 * CHUNK
    assert sum(verdict.deliveries for verdict in verdicts) > 20 * CHUNK


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2])
def test_schedules_of_twenty_daemons_break_no_property(seed: int) -> None:
    verdicts = list(play_all([seed], daemons=20))
    assert complaint(verdicts, 20) == ""
    assert verdicts[0].memberships >= 20


def test_a_seed_plays_the_same_schedule_again() -> None:
    assert list(play_all([7, 8])) == list(play_all([7, 8]))


def test_seeds_draw_all_shapes() -> None:
    plans = [plan_for(seed) for seed in range(300)]
    assert {plan.daemons for plan in plans} == set(range(3, 9))
    assert {plan.accelerated for plan in plans} == {False, True}
    assert {plan.low_timeouts for plan in plans} == {False, True}
    assert any(plan.segments == 1 for plan in plans)
    assert any(1 < plan.segments < plan.daemons for plan in plans)
    assert any(plan.segments == plan.daemons for plan in plans)


def test_a_plan_becomes_a_configuration() -> None:
    configuration = configuration_for(Plan(daemons=5, segments=2, accelerated=True, queue=20))
    assert [len(segment.daemons) for segment in configuration.segments] == [3, 2]
    assert configuration.accelerated_ring is True
    assert configuration.max_session_messages == 20
    assert configuration.timeouts.token == 0.5


def test_a_broken_seed_is_printed_with_its_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(job: tuple[int, int | None, bool]) -> Verdict:
        return Verdict(job[0], ("safe: something is wrong",) if job[0] == 4 else (), 1, 2, 3)

    monkeypatch.setattr("txspread.testing.simulate._job", broken)
    assert main(["--seeds", "3..5", "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "safe: something is wrong" in printed
    assert "python -m txspread.testing.simulate --seeds 4 -v" in printed
    assert "3 schedules, 1 broken" in printed
    assert main(["--seeds", "5", "--jobs", "1"]) == 0
