"""Log lines: what is shown, how it looks, where it goes."""

from __future__ import annotations

import re
import time

import pytest

from txspread.config import parse
from txspread.daemon.event_log import BURST, BURST_SECONDS, EventLog, TimeStamp
from txspread.engine.alarms import Category, Priority


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def lines():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(lines, clock):
    return EventLog(lines.append, wall_time=lambda: 86400.25, monotonic=clock)


def configured(log, text):
    log.configure(parse(text + "\nSpread_Segment 127.0.0.255 { a 127.0.0.1 }\n"))
    return log


def test_by_default_print_exit_and_configuration_lines_are_shown(log, lines):
    log.alarm(Category.PRINT, Priority.INFO, "print %d", 1)
    log.alarm(Category.EXIT, Priority.WARNING, "exit")
    log.alarm(Category.CONFIGURATION, Priority.INFO, "configuration")
    log.alarm(Category.SESSION, Priority.WARNING, "session")
    log.alarm(Category.CONFIGURATION, Priority.DEBUG, "too low")
    assert lines == ["print 1\n", "exit\n", "configuration\n"]


def test_flags_replace_the_mask(log, lines):
    configured(log, "DebugFlags = { ALL !SESSION }")
    log.alarm(Category.SESSION, Priority.WARNING, "session")
    log.alarm(Category.GROUPS, Priority.WARNING, "groups")
    assert lines == ["groups\n"]


def test_the_priority_holds_back_what_is_below(log, lines):
    configured(log, "EventPriority = ERROR")
    log.alarm(Category.PRINT, Priority.WARNING, "warning")
    log.alarm(Category.PRINT, Priority.ERROR, "error")
    log.alarm(Category.PRINT, Priority.PRINT, "print passes every priority")
    assert lines == ["error\n", "print passes every priority\n"]


def test_fatal_lines_are_always_shown(log, lines):
    configured(log, "DebugFlags = { NONE }")
    log.alarm(Category.PRINT, Priority.PRINT, "print")
    log.alarm(Category.NETWORK, Priority.FATAL, "fatal")
    assert lines == ["fatal\n"]


def test_a_line_not_wanted_is_not_formatted(log):
    class Explosive:
        def __str__(self):
            raise AssertionError("formatted")

    log.alarm(Category.GROUPS, Priority.INFO, "%s", Explosive())
    assert not log.wants(Category.GROUPS, Priority.INFO)


def test_a_percent_sign_without_arguments_stays(log, lines):
    log.alarm(Category.PRINT, Priority.INFO, "100% sure")
    assert lines == ["100% sure\n"]


class TestTimeStamps:
    def test_there_are_none_by_default(self, log, lines):
        log.alarm(Category.PRINT, Priority.INFO, "x")
        assert lines == ["x\n"]

    def test_the_default_format(self, log, lines):
        configured(log, "EventTimeStamp")
        log.alarm(Category.PRINT, Priority.INFO, "x")
        expected = time.strftime("%m/%d/%y %H:%M:%S", time.localtime(86400))
        assert lines == [f"{expected} x\n"]

    def test_a_format_of_ones_own(self, log, lines):
        configured(log, 'EventTimeStamp = "[%Y]"')
        log.alarm(Category.PRINT, Priority.INFO, "x")
        assert lines == [time.strftime("[%Y] x\n", time.localtime(86400))]

    def test_microseconds_follow_the_seconds(self, log, lines):
        configured(log, 'EventTimeStamp = "%H:%M:%S"\nEventPreciseTimeStamp')
        log.alarm(Category.PRINT, Priority.INFO, "x")
        assert re.fullmatch(r"\d\d:\d\d:00\.250000 x\n", lines[0])

    def test_microseconds_get_seconds_to_follow(self, log, lines):
        configured(log, 'EventTimeStamp = "%H:%M"\nEventPreciseTimeStamp')
        log.alarm(Category.PRINT, Priority.INFO, "x")
        assert re.fullmatch(r"\d\d:\d\d 86400\.250000 x\n", lines[0])

    def test_a_block_of_lines_gets_one(self, log, lines):
        configured(log, 'EventTimeStamp = "T"')
        log.alarm(Category.PRINT, Priority.INFO, "one\ntwo")
        assert lines == ["T one\ntwo\n"]

    def test_the_text_follows_the_clock(self):
        stamp = TimeStamp("%S")
        assert [stamp.text(0.9), stamp.text(1.0), stamp.text(61.5)] == ["00", "01", "01"]


class TestRepeats:
    def test_a_flood_of_one_line_is_held_down_and_counted(self, log, lines, clock):
        for number in range(BURST + 500):
            log.alarm(Category.PRINT, Priority.WARNING, "bad packet from %d", number)
        assert len(lines) == BURST
        clock.now += BURST_SECONDS + 1
        log.alarm(Category.PRINT, Priority.WARNING, "bad packet from %d", 7)
        assert lines[BURST:] == [
            "(500 more lines like this held back: bad packet from %d)\n",
            "bad packet from 7\n",
        ]

    def test_other_lines_are_not_affected(self, log, lines):
        for _ in range(BURST + 10):
            log.alarm(Category.PRINT, Priority.WARNING, "flood")
        log.alarm(Category.PRINT, Priority.WARNING, "drop")
        assert lines[-1] == "drop\n"

    def test_what_is_asked_for_in_detail_is_shown_in_full(self, log, lines):
        for _ in range(BURST * 3):
            log.alarm(Category.PRINT, Priority.INFO, "detail")
        assert len(lines) == BURST * 3

    def test_any_number_of_texts_is_counted_in_bounded_space(self, log, lines):
        for number in range(5000):
            log.alarm(Category.PRINT, Priority.WARNING, f"text {number}")
        assert len(lines) == 5000
        assert len(log._repeats) <= 256


class TestFile:
    def test_lines_are_appended(self, log, lines, tmp_path):
        path = tmp_path / "spread.log"
        path.write_text("old\n")
        configured(log, f'EventLogFile = "{path}"')
        log.alarm(Category.PRINT, Priority.INFO, "new")
        assert path.read_text() == "old\nnew\n"
        assert lines == []

    def test_the_host_name_is_filled_in(self, log, tmp_path, monkeypatch):
        monkeypatch.setattr("socket.gethostname", lambda: "red")
        configured(log, f'EventLogFile = "{tmp_path}/%h-%H-%x.log"')
        log.alarm(Category.PRINT, Priority.INFO, "x")
        assert (tmp_path / "red-red-%x.log").read_text() == "x\n"

    def test_one_that_cannot_be_opened_loses_nothing(self, log, lines, tmp_path):
        configured(log, f'EventLogFile = "{tmp_path}/no/such/dir"')
        log.alarm(Category.PRINT, Priority.INFO, "x")
        assert "cannot open log file" in lines[0]
        assert lines[1] == "x\n"

    def test_after_a_rotation_it_is_opened_again(self, log, tmp_path):
        path = tmp_path / "spread.log"
        configured(log, f'EventLogFile = "{path}"')
        log.alarm(Category.PRINT, Priority.INFO, "before")
        path.rename(tmp_path / "old.log")
        log.alarm(Category.PRINT, Priority.INFO, "between")
        log.reopen()
        log.alarm(Category.PRINT, Priority.INFO, "after")
        assert (tmp_path / "old.log").read_text() == "before\nbetween\n"
        assert path.read_text() == "after\n"

    def test_bytes_of_a_name_that_is_no_text_do_not_stop_it(self, log, tmp_path):
        path = tmp_path / "spread.log"
        configured(log, f'EventLogFile = "{path}"')
        log.alarm(
            Category.PRINT, Priority.INFO, "name %s", b"\xff".decode("utf8", "surrogateescape")
        )
        assert path.read_text() == "name \\udcff\n"


def test_an_output_that_fails_does_not_end_the_daemon():
    def full(text):
        raise OSError(28, "No space left on device")

    log = EventLog(full)
    log.alarm(Category.PRINT, Priority.FATAL, "x")
    assert log.wants(Category.PRINT, Priority.FATAL)
