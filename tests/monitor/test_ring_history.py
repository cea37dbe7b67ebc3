"""One line for each membership, and a warning before the token is lost."""

from __future__ import annotations

import re

from monitor_bench import Lines, SimulatedRing

from txspread.config import parse
from txspread.engine.node import Channel
from txspread.engine.ring_history import MAX_CHANGES, RingHistory
from txspread.wire.identifiers import MembershipId

THREE = "AcceleratedRing = false\n" + "".join(
    f"Spread_Segment 10.0.{n}.255:4803 {{\n {name} 10.0.{n}.1\n}}\n" for n, name in enumerate("abc")
)
A, B, C = (0x0A000001 + (n << 8) for n in range(3))
LINE = re.compile(
    r"Membership changed: (.*); lost (.*), gained (.*); (\d) of 3 daemons, leader (.); "
    r"took (\d+\.\d{3}) s( and \d+ attempts)?"
)


def last_line(ring, name):
    found = LINE.fullmatch(ring.logs[name].starting("Membership changed: ")[-1])
    assert found is not None
    return found.groups()


def started():
    ring = SimulatedRing(THREE)
    ring.run(5.0)
    return ring


def test_a_start_gains_everybody():
    ring = started()
    cause, lost, gained, count, leader, took, attempts = last_line(ring, "b")
    assert (cause, lost, gained, count, leader) == ("start", "nobody", "a, b, c", "3", "a")
    assert 1.5 < float(took) < 2.5
    assert attempts is None


def test_a_crash_is_a_lost_token_and_a_lost_member():
    ring = started()
    ring.network.daemons["b"].crash()
    ring.run(6.0)
    for name in "ac":
        cause, lost, gained, count, leader, _, _ = last_line(ring, name)
        assert cause in ("the token was lost", "others look for daemons (a)") or "lost" in cause
        assert (lost, gained, count, leader) == ("b", "nobody", "2", "a")
    assert last_line(ring, "a")[0] == "the token was lost"


def test_a_daemon_that_comes_back_is_gained_by_a_search():
    ring = started()
    ring.network.daemons["c"].crash()
    ring.run(6.0)
    ring.network.start(["c"])
    ring.run(6.0)
    cause, lost, gained, count, _, _, _ = last_line(ring, "a")
    assert (lost, gained, count) == ("nobody", "c", "3")
    assert "c" in cause
    assert last_line(ring, "b")[0] == "others form a ring"


def test_a_search_that_nobody_answers_makes_no_line():
    ring = SimulatedRing(THREE)
    ring.network.daemons["c"].crash()
    ring.run(10.0)
    before = len(ring.logs["a"].starting("Membership changed: "))
    ring.run(100.0)  # three searches of the leader
    assert len(ring.logs["a"].starting("Membership changed: ")) == before
    assert not ring.node("a").history.changing


def test_a_late_token_is_announced_when_three_quarters_of_its_time_are_over():
    ring = started()
    assert ring.logs["b"].starting("Token late") == []
    ring.run(60.0)
    assert all(ring.logs[name].starting("Token late") == [] for name in "abc")
    ring.network.daemons["c"].pause()
    run_until_late(ring, "b")
    (line,) = ring.logs["b"].starting("Token late")
    assert re.search(r"nothing from the ring for 0\.9[0-9]+ s, it is given up in 0\.3", line)
    assert line.endswith("the token is expected from a, a leads")
    run_until_late(ring, "a")
    (mine,) = ring.logs["a"].starting("Token late")
    assert mine.endswith("the token is expected from c, this daemon leads")
    assert ring.node("a").ring.late_tokens == 1
    ring.run(1.0)
    assert ring.node("a").membership_state.value != 1
    assert len(ring.logs["a"].starting("Token late")) == 1


def test_no_warning_comes_because_an_idle_ring_is_slow():
    names = ["Token", "Hurry", "Alive", "Join", "Rep", "Seg", "Gather", "Form", "Lookup"]
    values = (1250, 1000, 250, 250, 625, 500, 1250, 1250, 30000)
    options = "".join(f"{n}Timeout = {v}\n" for n, v in zip(names, values, strict=True))
    ring = SimulatedRing(options + THREE)
    ring.run(60.0)
    assert ring.rings() == {("a", "b", "c")}
    assert all(ring.logs[name].starting("Token late") == [] for name in "abc")
    ring.network.daemons["c"].pause()
    run_until_late(ring, "a")


def run_until_late(ring, name, times=1):
    """Let time pass until a daemon has given so many warnings."""
    log = ring.logs[name]
    assert ring.network.clock.run_while(lambda: len(log.starting("Token late")) < times, 2.0)


def test_a_token_that_comes_in_time_after_all_is_watched_on():
    ring = started()
    for times in (1, 2):
        ring.network.daemons["c"].pause()
        run_until_late(ring, "a", times)
        ring.network.daemons["c"].resume()
        ring.run(3.0)
    assert ring.rings() == {("a", "b", "c")}
    assert ring.node("a").history.changes[-1].cause == "start"
    assert len(ring.logs["a"].starting("Token late")) == 2


def test_the_history_is_bounded_and_knows_removed_daemons():
    lines = Lines()
    history = RingHistory(parse(THREE), lines, 0.0)
    for number in range(MAX_CHANGES + 20):
        history.begin("test", float(number), token_lost=True, searching=False)
        members = (A, B, C) if number % 2 else (A,)
        history.installed(members, MembershipId(A, number), number + 0.5, 1000 + number)
    assert len(history.changes) == MAX_CHANGES
    assert history.changes[-1].time == 1000 + MAX_CHANGES + 19
    history.reconfigure(parse(THREE.split("Spread_Segment 10.0.1")[0]))
    history.installed((A,), MembershipId(A, 9999), 500.0, 5000)
    assert history.changes[-1].lost == ("b", "c")


def test_the_first_cause_counts_and_attempts_are_counted():
    lines = Lines()
    history = RingHistory(parse(THREE), lines, 0.0)
    history.installed((A, B, C), MembershipId(A, 1), 1.0, 1)
    history.begin("a search", 10.0, token_lost=False, searching=True)
    history.begin("a loss", 11.0, token_lost=True, searching=False)
    history.begin("another loss", 13.0, token_lost=True, searching=False)
    history.installed((A, B), MembershipId(A, 2), 14.5, 2)
    assert lines.lines[-1] == (
        "Membership changed: a loss; lost c, gained nobody; 2 of 3 daemons, leader a; "
        "took 3.500 s and 2 attempts"
    )


def test_a_ring_given_up_for_an_internal_error_says_so():
    ring = started()
    node = ring.node("a")
    node._reform("test of it")
    ring.network.daemons["a"].arrive(b"", Channel.DATA)
    ring.run(5.0)
    assert node.history.changes[-1].cause == "test of it"
