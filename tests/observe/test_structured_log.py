"""Log lines as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from txspread.daemon.event_log import EventLog
from txspread.daemon.structured_log import StructuredLines
from txspread.engine.alarms import Category, Priority
from txspread.engine.ring_history import MembershipChange
from txspread.wire.identifiers import MembershipId


def log_of(lines: list[str], moment: float = 1_700_000_000.25) -> EventLog:
    log = EventLog(lines.append, lambda: moment)
    log.structured = StructuredLines()
    return log


def test_a_line_says_when_what_and_of_which_kind():
    lines = []
    log = log_of(lines)
    log.structured.daemon = "red"
    kind = Category.PRINT | Category.SESSION
    log.alarm(kind, Priority.WARNING, "Sess_write: %s is %d behind", "#a#red", 7)
    assert lines[0].endswith("}\n")
    assert json.loads(lines[0]) == {
        "time": "2023-11-14T22:13:20.250000+00:00",
        "daemon": "red",
        "priority": "WARNING",
        "category": ["PRINT", "SESSION"],
        "message": "Sess_write: #a#red is 7 behind",
        "template": "Sess_write: %s is %d behind",
    }


def test_a_block_of_lines_is_one_object_and_any_character_is_escaped():
    lines = []
    log = log_of(lines)
    log.show("first\nsecond \udcff \x1b[31m é")
    assert lines[0].count("\n") == 1
    assert lines[0].isascii()
    assert json.loads(lines[0])["message"] == "first\nsecond \udcff \x1b[31m é"


def test_a_membership_change_comes_with_its_fields():
    lines = []
    change = MembershipChange(
        time=5, membership_id=MembershipId(1, 2), members=("a",), lost=("b",), gained=(),
        cause="the token was lost", seconds=0.5, attempts=1, configured=2,
    )  # fmt: skip
    log_of(lines).alarm(Category.PRINT, Priority.INFO, "%s", change)
    record = json.loads(lines[0])
    assert record["message"].startswith("Membership changed: the token was lost; lost b, gained")
    assert record["fields"]["lost"] == ["b"]
    assert record["fields"]["seconds"] == 0.5


def test_masks_and_the_limit_of_repeats_hold():
    lines = []
    log = log_of(lines)
    log.alarm(Category.MEMBERSHIP, Priority.WARNING, "not asked for")
    assert lines == []
    for number in range(100):
        log.alarm(Category.PRINT, Priority.WARNING, "again %d", number)
    assert len(lines) == 50


def test_a_daemon_writes_nothing_but_objects(tmp_path):
    (tmp_path / "spread.conf").write_text(
        "AcceleratedRing = false\nSpread_Segment 127.0.0.255:1 { one 192.0.2.7 { 192.0.2.7 } }\n"
    )
    command = "-m txspread --log-format json -c spread.conf -n one --no-unix-socket"
    done = subprocess.run(
        [sys.executable, *command.split(), "--state-directory", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert any("Version 4.04.00" in record["message"] for record in records)
    assert records[-1]["daemon"] == "one"
    assert records[-1]["priority"] == "FATAL"
    assert "EXIT" in records[-1]["category"]
