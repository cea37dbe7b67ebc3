"""txflush_user against the recorded sessions of upstream's, and beside upstream's."""

import os
import subprocess

import pytest
from tool_sessions import Tool, arguments, pattern, play, recorded_session, replay

import txspread.blocking as spread

pytest_plugins = ["client_fixtures"]


@pytest.mark.parametrize("name", ["flush_user_usage", "flush_user_no_daemon"])
def test_what_is_printed_without_a_daemon(name):
    replay("flush_user", name, "1@127.0.0.1")


def settle(daemon):
    """Wait until everything sent before has been ordered and delivered.

    Upstream's daemon takes one message of each client in turn.
    """
    with spread.connect(daemon.tcp, "settle") as probe:
        for _ in range(20):
            probe.multicast(spread.SAFE_MESS, probe.private_group, b"")
            probe.receive(timeout=60)


def test_two_users_agree_on_views_as_they_did_when_they_were_recorded(daemon):
    one, two = recorded_session("flush_user_a"), recorded_session("flush_user_b")
    address = daemon.tcp
    a, b = one["transcript"], two["transcript"]
    with (
        Tool("flush_user", arguments(one, address)) as fa,
        Tool("flush_user", arguments(two, address)) as fb,
    ):
        play(fa, a, address, 1)
        fa.expect(pattern(a.pop(0)["out"], address))
        settle(daemon)
        play(fa, a, address, 2)  # polls and receives the first view
        fa.wait_for("Due to the JOIN of #fa#d1")
        play(fb, b, address, 1)
        play(fa, a, address, 3)  # is asked, flushes, waits for the view
        play(fb, b, address, 1)
        fb.wait_for("Due to the JOIN of #fb#d1")
        settle(daemon)
        play(fa, a, address, 11)  # up to the burst
        fa.expect(pattern(a.pop(0)["out"], address))
        assert (a.pop(0)["in"], a.pop(0)["out"]) == ("p\n", "Polling says: 1100\n\nUser> ")
        while not fa.printed.endswith("Polling says: 1100\n\nUser> "):
            settle(daemon)
            fa.type("p\n")
            fa.expect(r"Polling says: \d+\n\nUser> ")
        play(fa, a, address, 2)
        play(fb, b, address, 4)
        for tool, rest in ((fa, a), (fb, b)):
            tool.expect(pattern(rest[0]["out"], address))
            assert tool.finish() == 0


def test_it_agrees_on_views_with_upstreams(daemon, upstream):
    theirs = subprocess.Popen(
        [upstream / "bin" / "flush_user", "-u", "theirs", "-s", daemon.tcp],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def theirs_does(line, until):
        theirs.stdin.write(line)
        theirs.stdin.flush()
        printed = b""
        while until not in printed:
            data = os.read(theirs.stdout.fileno(), 65536)
            assert data, printed
            printed += data

    with theirs, Tool("flush_user", ["-u", "ours", "-s", daemon.tcp]) as ours:
        theirs_does(b"j mixed\n", b"connected")
        theirs_does(b"r\n", b"Due to the JOIN of #theirs#")
        ours.type("j mixed\n")
        theirs_does(b"r\n", b"FLUSH_REQ")
        theirs_does(b"f mixed\n", b"Sent a FLUSH_OK")
        ours.type("r\n")
        theirs.stdin.write(b"r\n")
        theirs.stdin.flush()
        ours.wait_for("with 2 members")
        theirs_does(b"", b"with 2 members")
        # FIFO right after the view: vulnerable, held where the view is not installed yet.
        ours.type("b mixed\n40\n")
        ours.wait_for("(total 10)")
        for _ in range(10):
            theirs_does(b"r\n", b"Message is:")
        ours.type("g mixed\n1\n#theirs#d1\nonly you\n")
        theirs_does(b"r\n", b"Received a subgroupcast message to group mixed")
        theirs_does(b"b mixed\n30\n", b"(total 10)")
        for _ in range(20):
            ours.type("r\n")
        ours.wait_for("(30 bytes): mess num 10")
        theirs_does(b"q\n", b"FL_disconnect")
        ours.type("r\n")
        ours.wait_for("FLUSH_REQ")
        ours.type("f mixed\nr\nr\n")
        ours.wait_for("Due to the DISCONNECT of #theirs#")
        ours.type("q\n")
        assert ours.finish() == 0
