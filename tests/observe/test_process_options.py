"""Scheduling, memory locking and garbage collection by the command line."""

from __future__ import annotations

import argparse
import gc
import os

import pytest

from txspread.daemon import process_options
from txspread.daemon.command import make_parser


class Lines:
    def __init__(self):
        self.lines = []

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append(text % args)


def options(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(words)


def test_nothing_is_asked_for_unless_stated(monkeypatch):
    def unexpected(*args):
        raise AssertionError(args)

    for name in ("sched_setscheduler", "setpriority"):
        monkeypatch.setattr(os, name, unexpected)
    alarms = Lines()
    process_options.apply_before_start(options(), alarms)
    assert alarms.lines == []


@pytest.mark.parametrize(("words", "priority"), [(["--realtime"], 10), (["--realtime", "40"], 40)])
def test_real_time_scheduling_is_asked_for(monkeypatch, words, priority):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *args: asked.append(args))
    alarms = Lines()
    process_options.apply_before_start(options(*words), alarms)
    ((process, policy, parameters),) = asked
    assert process == 0
    assert policy & os.SCHED_FIFO
    assert parameters.sched_priority == priority
    assert alarms.lines == []


@pytest.mark.parametrize("text", ["0", "100", "-1", "x", "1.5", ""])
def test_other_priorities_are_wrong_usage(text, capsys):
    with pytest.raises(SystemExit):
        options(f"--realtime={text}")
    assert "is not a priority from 1 to 99" in capsys.readouterr().err


def test_what_the_system_refuses_is_told_and_left_out(monkeypatch):
    def refuse(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", refuse)
    alarms = Lines()
    process_options.apply_before_start(options("--realtime", "--nice", "-5"), alarms)
    assert alarms.lines == [
        "--nice -5: not in force: Operation not permitted",
        "--realtime 10: not in force: Operation not permitted",
    ]


def test_niceness_is_set(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "setpriority", lambda *args: asked.append(args))
    process_options.apply_before_start(options("--nice", "7"), Lines())
    assert asked == [(os.PRIO_PROCESS, 0, 7)]


@pytest.mark.parametrize("refused", [False, True])
def test_memory_is_locked_or_the_refusal_told(monkeypatch, refused):
    asked = []

    class Library:
        def mlockall(self, flags):
            asked.append(flags)
            return -1 if refused else 0

    monkeypatch.setattr(process_options.ctypes, "CDLL", lambda *args, **kwargs: Library())
    monkeypatch.setattr(process_options.ctypes, "get_errno", lambda: 12)
    monkeypatch.setattr(process_options.resource, "setrlimit", lambda *args: None)
    alarms = Lines()
    process_options.apply_before_start(options("--lock-memory"), alarms)
    assert asked == [3]
    assert alarms.lines == (
        ["--lock-memory: not in force: Cannot allocate memory"] if refused else []
    )


@pytest.fixture
def collector():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
def test_ways_of_garbage_collection():
    before = gc.get_threshold()
    process_options.apply_started(options("--gc", "python"))
    assert (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()) == (before, True, 0)
    process_options.apply_started(options())
    assert gc.get_threshold()[0] >= 10_000
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    process_options.apply_started(options("--gc", "off"))
    assert not gc.isenabled()
