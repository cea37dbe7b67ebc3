"""Upstream's own programs on our daemon, and what they print there and at home."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interop.mixed import formed, ring_of
from interop.programs import Program, normalized
from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(300)]


def user(upstream: Path, tool: str, name: str, location: str) -> Program:
    """A user's program, connected."""
    program = Program([upstream / "bin" / tool, "-u", name, "-s", location])
    program.wait_for("User> ")
    return program


def conversation(upstream: Path, tool: str, daemon: DaemonProcess) -> tuple[str, str]:
    """Two users talk, one over TCP and one over the Unix socket; what each was shown."""
    with (
        user(upstream, tool, "anna", daemon.location) as anna,
        user(upstream, tool, "bert", str(daemon.port)) as bert,
    ):
        anna.type("j room")
        anna.wait_for("Due to the JOIN of #anna#d1")
        bert.type("j room")
        for each in (anna, bert):
            each.wait_for("with 2 members")
            each.wait_for("#bert#d1\ngrp id is")
            each.wait_for("Due to the JOIN of #bert#d1\n\nUser> ")
        anna.ask("s room", "enter message: ")
        anna.type("hello there")
        for each in (anna, bert):
            each.wait_for("received SAFE message from #anna#d1, of type 1, (endian 0) to 1 groups")
            each.wait_for("(12 bytes): hello there\n")
        bert.ask("m room nowhere", "enter message: ")
        bert.type("two")
        bert.type("lines")
        bert.type("")
        for each in (anna, bert):
            each.wait_for("from #bert#d1, of type 1, (endian 0) to 2 groups")
            each.wait_for("(10 bytes): two\nlines\n")
        anna.ask("s #bert#d1", "enter message: ")
        anna.type("in private")
        bert.wait_for("(11 bytes): in private\n")
        bert.ask("b room", "enter size of each message: ")
        bert.type("100000")
        for number in range(2, 12):
            for each in (anna, bert):
                each.wait_for(f"(100000 bytes): mess num {number}")
        bert.type("l room")
        bert.wait_for("received membership message that left group room")
        anna.wait_for("Due to the LEAVE of #bert#d1")
        bert.type("j room")
        for each in (anna, bert):
            each.wait_for("Due to the JOIN of #bert#d1")
        bert.type("q")
        bert.wait_for("Bye.")
        assert bert.finish() == 0
        anna.wait_for("Due to the DISCONNECT of #bert#d1")
        anna.type("q")
        anna.wait_for("Bye.")
        assert anna.finish() == 0
        return anna.printed, bert.printed


@pytest.mark.parametrize("tool", ["spuser", "sptuser"])
def test_two_users_over_tcp_and_the_unix_socket(
    upstream: Path, ours: DaemonProcess, tool: str
) -> None:
    anna, bert = conversation(upstream, tool, ours)
    assert f"connected to {ours.location} with private group #anna#d1" in anna
    assert f"connected to {ours.port} with private group #bert#d1" in bert


@pytest.mark.parametrize("tool", ["spuser", "sptuser"])
def test_a_user_is_shown_the_same_by_both_daemons(
    upstream: Path, ours: DaemonProcess, theirs: DaemonProcess, tool: str
) -> None:
    def messages(text: str) -> list[str]:
        # Prompts and reports mix with messages as they come; each message is one piece.
        text = re.sub(r"User> |sen(d|t)[^\n]*messages?[^\n]*|enter [^:]*: ", "", normalized(text))
        return [
            piece.strip()
            for piece in text.split("============================")
            if "eceived" in piece
        ]

    for mine, upstreams in zip(
        conversation(upstream, tool, ours), conversation(upstream, tool, theirs), strict=True
    ):
        assert messages(mine) == messages(upstreams)


def test_polling_receiving_and_invented_names(upstream: Path, daemon: DaemonProcess) -> None:
    with (
        Program([upstream / "bin" / "spuser", "-r", "-s", str(daemon.port)]) as anna,
    ):
        anna.wait_for("with private group #r")
        anna.wait_for("User> ")
        anna.ask("d")
        anna.ask("j room")
        while "Polling sais: 0" in (polled := anna.ask("p")):
            pass
        assert "Polling sais: 136" in polled
        printed = anna.ask("r", "User> \nUser> ")
        assert "Received REGULAR membership for group room with 1 members" in printed
        assert "Polling sais: 0" in anna.ask("p")
        anna.type("q")
        assert anna.finish() == 0


def test_rejects_that_a_user_is_told_of(upstream: Path, daemon: DaemonProcess) -> None:
    spuser = upstream / "bin" / "spuser"
    with user(upstream, "spuser", "taken", daemon.location):
        for name, told in (
            ("taken", "SP_error: (-6) Connection rejected, name not unique"),
            ("a#b", "SP_error: (-5) Connection rejected, illegal name"),
        ):
            with Program([spuser, "-u", name, "-s", daemon.location]) as second:
                second.wait_for(told)
                assert second.finish() == 0


@pytest.mark.parametrize("signal", ["stop", "kill"])
def test_users_are_told_when_the_daemon_ends(upstream: Path, signal: str) -> None:
    with DaemonRing([txspread_command()]) as ring:
        daemon = ring.daemons[0]
        with (
            user(upstream, "spuser", "anna", daemon.location) as anna,
            user(upstream, "sptuser", "bert", str(daemon.port)) as bert,
        ):
            getattr(daemon, signal)()
            for each in (anna, bert):
                each.wait_for("SP_error: (-8) Connection closed by spread")
                assert each.finish() == 0


def flush_conversation(upstream: Path, one: DaemonProcess, other: DaemonProcess) -> tuple[str, str]:
    """Two programs of the flush library in one group; what each was shown."""
    second = f"#fb#{other.name}"
    with (
        user(upstream, "flush_user", "fa", one.location) as anna,
        user(upstream, "flush_user", "fb", str(other.port)) as bert,
    ):
        anna.ask("j grp")
        assert "with 1 members, where I am member 0" in anna.ask("r", "User> \nUser> ")
        bert.ask("j grp")
        assert "FLUSH_REQ message for group grp" in anna.ask("r", "User> \nUser> ")
        assert "Sent a FLUSH_OK message to group 'grp'" in anna.ask("f grp")
        anna.type("r")  # waits for what bert's library has to say
        bert.type("r")
        for each, index in ((anna, 0), (bert, 1)):
            printed = each.wait_for("User> \nUser> ")
            assert f"with 2 members, where I am member {index}" in printed
            assert f"Due to the JOIN of {second}" in printed
        anna.ask("s grp", "enter message: ")
        anna.ask("hello flush")
        for each in (anna, bert):
            assert "(12 bytes): hello flush" in each.ask("r", "User> \nUser> ")
        anna.ask("g grp", "enter number of receivers: ")
        anna.ask("1", "enter recvr 1: ")
        anna.ask(second, "enter message: ")
        anna.ask("sub only")
        printed = bert.ask("r", "User> \nUser> ")
        assert f"Received a subgroupcast message to group grp: receivers:\n\t{second}" in printed
        bert.ask("b grp", "enter size of each message: ")
        bert.ask("30000")
        for number in range(1, 11):
            for each in (anna, bert):
                assert f"mess num {number}" in each.ask("r", "User> \nUser> ")
        bert.type("q")
        bert.wait_for("Calling FL_disconnect")
        assert bert.finish() == 0
        assert "FLUSH_REQ message for group grp" in anna.ask("r", "User> \nUser> ")
        assert "TRANSITIONAL membership for group grp" in anna.ask("r", "User> \nUser> ")
        anna.ask("f grp")
        printed = anna.ask("r", "User> \nUser> ")
        assert "with 1 members, where I am member 0" in printed
        assert f"Due to the DISCONNECT of {second}" in printed
        anna.type("q")
        assert anna.finish() == 0
        return anna.printed, bert.printed


def test_two_flush_users(upstream: Path, ours: DaemonProcess, theirs: DaemonProcess) -> None:
    shown = flush_conversation(upstream, ours, ours)
    at_home = flush_conversation(upstream, theirs, theirs)
    assert list(map(normalized, shown)) == list(map(normalized, at_home))


@pytest.mark.parametrize("pattern", ["tt", "ut", "tu"])
def test_two_flush_users_on_two_daemons(upstream: Path, pattern: str) -> None:
    with ring_of("uu", upstream) as ring:
        at_home = flush_conversation(upstream, *formed(ring))
    with ring_of(pattern, upstream) as ring:
        shown = flush_conversation(upstream, *formed(ring))
    assert list(map(normalized, shown)) == list(map(normalized, at_home))


def flooder(upstream: Path, daemon: DaemonProcess, *words: str) -> Program:
    return Program([upstream / "bin" / "spflooder", "-s", daemon.location, *words])


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (1, 2000),
        (1000, 10000),
        (1384, 3000),
        (1385, 3000),
        (10000, 2000),
        (50000, 500),
        (99999, 300),
        (100000, 300),
    ],
)
def test_a_flooder_gets_all_its_messages_back(
    upstream: Path, ours: DaemonProcess, size: int, count: int
) -> None:
    with flooder(upstream, ours, "-u", f"f{size}", "-m", str(count), "-b", str(size)) as program:
        program.wait_for(f"completed multicast of {count} messages, {size} bytes each.")
        assert program.finish() == 0


def test_a_flooder_that_only_sends_and_one_that_only_receives(
    upstream: Path, daemon: DaemonProcess
) -> None:
    words = ("-m", "5000", "-b", "2000")
    with flooder(upstream, daemon, "-u", "reader", "-ro", *words) as reader:
        reader.wait_for("Only receiving messages")
        # The join is ordered before whatever is sent by those who connect later;
        # it may still be on its way to the daemon, so a watcher looks first.
        with user(upstream, "spuser", "watcher", daemon.location) as watcher:
            watcher.ask("j flooder")
            members = watcher.wait_for("Due to the JOIN of")
            if "#reader#d1" not in members:
                watcher.wait_for("Due to the JOIN of #reader#d1")
            watcher.type("q")
            watcher.finish()
        with flooder(upstream, daemon, "-u", "writer", "-wo", *words) as writer:
            writer.wait_for("completed multicast of 5000 messages, 2000 bytes each.")
            assert writer.finish() == 0
        reader.wait_for("completed multicast of 5000 messages, 2000 bytes each.")
        assert reader.finish() == 0


def test_flooders_that_wait_for_each_other(upstream: Path, daemon: DaemonProcess) -> None:
    words = ("-n", "3", "-m", "3000", "-b", "1000")
    programs = [flooder(upstream, daemon, "-u", f"f{number}", *words) for number in range(3)]
    try:
        for program in programs:
            program.wait_for("completed multicast of 3000 messages, 1000 bytes each.")
            assert program.finish() == 0
    finally:
        for program in programs:
            program.__exit__(None, None, None)
