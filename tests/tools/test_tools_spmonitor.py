"""txspmonitor against the recorded sessions of upstream's spmonitor, and its subcommands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen
from tool_sessions import Tool, recorded_session

from txspread.config import parse
from txspread.testing.processes import DaemonRing, free_port, txspread_command, wait_until
from txspread.tools import spmonitor_commands
from txspread.tools.spmonitor_menu import _number
from txspread.tools.spmonitor_report import Reporter
from txspread.tools.spmonitor_watch import Sample, rates, table
from txspread.wire.monitor import Status

pytestmark = pytest.mark.timeout(240)

ABORTED = 134
BANNER = r"={79}\n\| Version 4\.04\.00 Built [^\n]*\n={79}\n"
FILE = """AcceleratedRing = {accelerated}
DangerousMonitor = true
Spread_Segment 127.0.0.255:{port} {{
 d1 127.0.0.1 {{
  D 127.0.0.1
  C 127.0.0.1
 }}
}}
Spread_Segment 127.0.1.255:{port} {{
 d2 127.0.1.2 {{
  D 127.0.1.2
  C 127.0.1.2
 }}
}}
"""


def pattern(text: str) -> str:
    """What a recorded output looks like with other counters."""
    text = text.replace("Window size:  0", "Window size:  -1")
    text = re.sub(r"(personal|accelerated) window\t0\n", r"\1 window\t-1\n", text)
    text = re.escape(text).replace("\\<banner>\\\n", BANNER).replace("<banner>\\\n", BANNER)
    return re.sub(r"configuration\\ hash\\ is:\\ \d+", r"configuration\\ hash\\ is:\\ \\d+", text)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    text = FILE.format(port=free_port("127.0.0.1"), accelerated="false")
    (tmp_path / "s.conf").write_text(text)
    (tmp_path / "spread.conf").write_text(text)
    return tmp_path


def words(session: dict, directory: Path) -> list[str]:
    """The recorded arguments, with our files and ports of our own."""
    arguments = [str(directory / a) if a.endswith(".conf") else a for a in session["argv"]]
    return [re.sub(r"^155\d\d$", str(free_port("127.0.0.1")), a) for a in arguments]


def replay(name: str, directory: Path, status: int, skip: int = 0) -> None:
    session = recorded_session(name)
    with Tool("spmonitor", words(session, directory)) as tool:
        for event in session["transcript"][skip:]:
            if "in" in event:
                tool.type(event["in"])
            elif "in_eof" in event:
                tool.end_input()
            else:
                out = event["out"].replace("using file: s.conf", f"using file: {directory}/s.conf")
                tool.expect(pattern(out))
        assert tool.finish() == status


@pytest.mark.parametrize(
    "name",
    [
        "spmonitor_usage_help",
        "spmonitor_usage_odd",
        "spmonitor_usage_unknown",
        "spmonitor_bad_port",
        "spmonitor_bad_port2",
        "spmonitor_bad_timeout",
        "spmonitor_name_too_long",
        "spmonitor_prefix",
        "spmonitor_name_not_in_conf",
    ],
)
def test_wrong_arguments_are_refused_in_upstreams_words(name, directory):
    replay(name, directory, ABORTED)


@pytest.mark.parametrize("name", ["spmonitor_quit", "spmonitor_as_Monitor"])
def test_sessions_without_daemons(name, directory):
    replay(name, directory, 0)


def test_lines_that_come_at_once_are_served_at_once(directory):
    """Upstream leaves all but the first in its buffer until more comes."""
    session = recorded_session("spmonitor_piped")
    typed = "".join(event.get("in", "") for event in session["transcript"])
    done = run(directory, "-c", "s.conf", "-p", str(free_port("127.0.0.1")), input=typed)
    recorded = "".join(event.get("out", "") for event in session["transcript"])
    assert done.returncode == 0
    assert re.fullmatch(pattern(recorded), done.stdout), done.stdout


def test_a_busy_port_is_refused(directory):
    import socket

    with socket.socket(type=socket.SOCK_DGRAM) as busy:
        busy.bind(("", 0))
        port = busy.getsockname()[1]
        with Tool(
            "spmonitor", ["-c", str(directory / "s.conf"), "-n", "d1", "-p", str(port)]
        ) as tool:
            assert tool.finish() == ABORTED
            assert tool.printed.endswith(
                f"DL_init_channel: bind error (98): Address already in use for port {port}, with "
                f"sockaddr (0.0.0.0: {port}) probably already running\n"
                "Exit caused by Alarm(EXIT)\n"
            )


def test_a_bad_file_says_what_is_wrong(directory):
    bad = directory / "bad.conf"
    bad.write_text("Window=7\n")
    done = run(directory, "-c", str(bad), "-n", "d1")
    assert done.returncode == 1
    assert done.stdout.endswith(f"Conf_load_conf_file: using file: {bad}\n")
    assert f"{bad}:1:1" in done.stderr


def test_a_missing_file_is_an_error_and_no_other_is_taken(directory):
    done = run(directory, "-c", "/nonexistent/x")
    assert done.returncode == ABORTED
    assert "error opening config file /nonexistent/x" in done.stdout


# A session with daemons.

STATUS = re.compile(r"\n={28}\nStatus at .*?={34}\n\nMonitor> ", re.DOTALL)
QUERY = "Monitor: send status query\n"


@pytest.fixture(scope="module")
def ring():
    options = {"DangerousMonitor": "true", "AcceleratedRing": "true"}
    with DaemonRing([txspread_command()] * 2, options) as ring:
        wait_until(lambda: len(status(ring)) == 2 and status(ring)[0]["num_procs"] == 2)
        yield ring


def run(directory: Path, *arguments: str, **keywords) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "txspread.tools.spmonitor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
        **keywords,
    )


@frozen
class Done:
    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str) -> Done:
    """Run a subcommand in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = spmonitor_commands.run(arguments)
    return Done(code, out.getvalue(), err.getvalue())


def call(ring: DaemonRing, name: str, *arguments: str) -> Done:
    return command(name, "-c", str(ring.config), "-n", "d1", *arguments)


def status(ring: DaemonRing, *names: str) -> list[dict]:
    return json.loads(call(ring, "status", "--json", *names).stdout)


def without_reports(text: str) -> str:
    """What was printed apart from status reports and the queries of the timer."""
    return STATUS.sub("", text).replace(QUERY, "")


def test_the_whole_recorded_session_but_for_the_numbers(ring):
    """Menus, prompts and lines come as recorded; reports whenever they arrive."""
    session = recorded_session("spmonitor_session")
    events = session["transcript"]
    ended = next(n for n, event in enumerate(events) if event.get("in") == "8\n")
    recorded = "".join(event.get("out", "") for event in events[:ended])
    port = str(free_port("127.0.0.1"))
    arguments = ["-n", "d1", "-c", str(ring.config), "-p", port, "-t", "300"]
    reports = 0
    with Tool("spmonitor", arguments) as tool:
        tool.wait_for("Monitor> ")
        for event in events[:ended]:
            if "in" in event:
                tool.type(event["in"])
                continue
            # The recorded timer repeated a query; ours, of 300 seconds, does not.
            reports += len(set(re.findall(r"Status at (\S+)", event["out"])))
            tool.wait_until(lambda n=reports: len(STATUS.findall(tool.printed)) >= n)
        tool.type("9\n")
        assert tool.finish() == 0
    printed = without_reports(tool.printed).replace(str(ring.config), "s.conf")
    printed = re.sub(r"Set(ting)? .*\n", "", printed)
    assert re.fullmatch(pattern(without_reports(recorded)) + "Bye\\.\n", printed), printed


REPORTED = (
    *("token_rounds", "token_hurry", "membership_changes"),
    *("packet_sent", "packet_recv", "retrans"),
    *("u_retrans", "s_retrans", "b_retrans"),
    *("my_aru", "aru", "highest_seq"),
    *("num_sessions", "num_groups", "window"),
    *("message_delivered", "packet_delivered", "personal_window", "accelerated_window"),
)
"""Fields in the order in which a report shows them."""


def test_reports_are_laid_out_as_recorded():
    session = recorded_session("spmonitor_session")
    configuration = parse(session["conf"])
    recorded = STATUS.findall("".join(e.get("out", "") for e in session["transcript"]))
    reporter = Reporter()
    for text in recorded:
        numbers = [int(n) for n in re.findall(r"-?\d+", text)]
        daemon = 1 if "Status at d1" in text else 2
        # Status at dN V major.minor.patch (state, gstate) after sec, procs, segments, leader
        (_, major, minor, patch, state, gstate, sec, procs, segments, leader, *rest) = numbers
        ids = {1: 0x7F000001, 2: 0x7F000102}
        made = Status(
            sec=sec,
            state=state,
            gstate=gstate,
            my_id=ids[daemon],
            leader_id=ids[leader],
            num_procs=procs,
            num_segments=segments,
            accelerated_ring=1,
            major_version=major,
            minor_version=minor,
            patch_version=patch,
            **dict(zip(REPORTED, rest, strict=False)),
        )
        assert reporter.lines(made, configuration) == text


def test_a_report_of_an_unknown_daemon_is_skipped():
    configuration = parse(recorded_session("spmonitor_session")["conf"])
    assert Reporter().lines(Status(my_id=9), configuration) == (
        "\n============================\nReport_message: Skiping illegal status \n"
        "==================================\n"
    )


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"12\n", 12),
        (b" -7 words\n", -7),
        (b"+3x\n", 3),
        (b"70000\n", 4464),
        (b"\n", None),
        (b"zz\n", None),
        (b"-\n", None),
        (b"", None),
    ],
)
def test_numbers_are_read_as_c_reads_them(line, number):
    assert _number(line) == number


# Subcommands.


def test_status_as_table_and_as_json(ring):
    wait_until(lambda: all(one.get("state") == 1 for one in status(ring)))  # after a reload
    objects = status(ring)
    assert [one["daemon"] for one in objects] == ["d1", "d2"]
    assert all(one["answered"] and one["state_name"] == "operational" for one in objects)
    assert all(one["leader"] == "d1" and one["num_procs"] == 2 for one in objects)
    assert all(one["accelerated_ring"] is True and one["version"] == "4.4.0" for one in objects)
    assert [one["daemon"] for one in status(ring, "d2")] == ["d2"]
    done = call(ring, "status")
    assert done.returncode == 0
    heading, first, second = done.stdout.splitlines()
    assert heading.split()[:3] == ["daemon", "state", "groups"]
    assert first.split()[:3] == ["d1", "operational", "normal"]
    assert second.split()[:3] == ["d2", "operational", "normal"]


def test_flow_changes_windows_and_shows_what_is_in_force(ring):
    done = call(ring, "flow", "--window", "120", "--personal", "d2=33", "--accelerated", "9")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "d1\twindow 120\tpersonal 20\taccelerated 9",
        "d2\twindow 120\tpersonal 33\taccelerated 9",
    ]


def test_reload_puts_windows_back(ring):
    call(ring, "flow", "--window", "120")
    before = [one["membership_changes"] for one in status(ring)]
    done = call(ring, "reload")
    assert done.returncode == 0
    assert done.stdout.startswith("sent to 2 daemons")
    wait_until(
        lambda: all(
            one["answered"] and one["membership_changes"] > changes and one["window"] == 160
            for one, changes in zip(status(ring), before, strict=True)
        )
    )


def test_partition_and_heal(ring):
    done = call(ring, "partition", "d1", "d2")
    assert done.stdout == "d1\t1\nd2\t2\n"
    wait_until(lambda: all(one["num_procs"] == 1 for one in status(ring)))
    assert call(ring, "partition", "--heal").stdout == "d1\t0\nd2\t0\n"
    wait_until(lambda: all(one["num_procs"] == 2 for one in status(ring)))


def test_watch_shows_a_table_with_rates(ring):
    pytest.importorskip("rich")
    done = call(ring, "watch", "--count", "2", "-i", "0.3")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 daemons answer, 1 ring" in done.stdout
    assert re.search(r"d1 \*.*operational.*2/2.*d1", done.stdout)
    assert re.search(r"\d (ms|s) ", done.stdout)


@pytest.mark.parametrize("width", [80, 100, 150, 170])
def test_the_table_fits_the_terminal(width):
    console = pytest.importorskip("rich.console").Console(width=width, file=io.StringIO())
    configuration = parse(recorded_session("spmonitor_session")["conf"])
    ids = [daemon.id for daemon in configuration.daemons]
    made = Status(state=1, gstate=1, leader_id=ids[0], num_procs=1, message_delivered=10**6)
    before = {ids[0]: Sample(Status(), 1.0)}
    console.print(table(configuration, {ids[0]: Sample(made, 2.0)}, before, width))
    lines = console.file.getvalue().splitlines()
    assert "1 of 2 daemons answer" in "".join(lines)
    assert any("1,000,000" in line for line in lines)
    assert any("no answer" in line for line in lines)


def test_kill_ends_a_daemon_and_silence_is_an_exit_status(ring):
    victim = ring.daemons[1]
    done = call(ring, "kill", "d2")
    assert done.stdout == "Terminating d2\n"
    assert victim.process is not None
    assert victim.process.wait(30) == ABORTED
    assert "Net_recv: Instructed to exit by monitor" in victim.output()
    silent = call(ring, "status", "-t", "0.5")
    assert silent.returncode == 1
    assert "no answer" in silent.stdout
    ring.start([victim])
    wait_until(lambda: status(ring)[0]["num_procs"] == 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["partition"],
        ["partition", "--heal", "d1"],
        ["partition", "d1", "d1"],
        ["partition", "nobody"],
        ["flow", "--window", "40000"],
        ["flow", "--personal", "d1=x"],
        ["flow", "--personal", "d9=1"],
        ["kill"],
        ["kill", "--all", "d1"],
        ["status", "nobody"],
        ["status", "-n", "nobody"],
        ["status", "-c", "/nonexistent"],
        ["status", "-p", "70000"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_said_and_sends_nothing(directory, arguments):
    rest = arguments[1:]
    stated = [] if "-c" in rest else ["-c", str(directory / "s.conf")]
    named = [] if "-n" in rest else ["-n", "d1"]
    done = command(arguments[0], *stated, *named, *rest)
    assert done.returncode == 2
    assert done.stderr.startswith("txspmonitor: ")
    assert done.stdout == ""


def test_rates_survive_wraps_and_restarts():
    before = Sample(Status(sec=10, message_delivered=2**31 - 5, token_rounds=10, retrans=7), 1.0)
    wrapped = Sample(Status(sec=12, message_delivered=-(2**31) + 5, token_rounds=30), 3.0)
    assert rates(before, wrapped).messages == 5.0
    assert rates(before, wrapped).rotation == pytest.approx(0.1)
    restarted = Sample(Status(sec=1, message_delivered=4, membership_changes=1), 3.0)
    assert rates(before, restarted).messages == 2.0
    assert rates(before, restarted).rotation is None
