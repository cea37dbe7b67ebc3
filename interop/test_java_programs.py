"""Upstream's Java client on each daemon in turn: its User and its Flooder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from interop.programs import Program
from txspread.testing.processes import DaemonProcess

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(300)]


def java(classes: Path, name: str, daemon: DaemonProcess, *words: str) -> Program:
    """A program of the Java client, over TCP: it knows nothing else."""
    if shutil.which("java") is None:
        pytest.skip("needs a Java runtime")
    command: list[str | Path] = ["java", "-Xshare:auto", "-cp", classes, name]
    return Program([*command, "-s", daemon.address, "-p", str(daemon.port), *words])


def conversation(classes: Path, daemon: DaemonProcess) -> tuple[str, str]:
    """Two users talk; what each was shown."""
    with (
        java(classes, "User", daemon, "-u", "anna") as anna,
        java(classes, "User", daemon, "-u", "bert") as bert,
    ):
        for each in (anna, bert):
            each.wait_for("User> ")
        anna.type("j room")
        anna.wait_for("the JOIN of #anna#d1")
        bert.type("j room")
        for each in (anna, bert):
            each.wait_for("REGULAR membership for group room with 2 members:")
            each.wait_for("\t\t#anna#d1")
            each.wait_for("\t\t#bert#d1")
            each.wait_for("the JOIN of #bert#d1")
        anna.type("s room")
        anna.wait_for("Enter message: ")
        anna.type("hello there")
        for each in (anna, bert):
            for line in ("SAFE", "Sent by  #anna#d1.", "Type is 0.", "no endian mismatch."):
                each.wait_for(line)
            for line in ("To 1 groups.", "The data is 11 bytes.", "The message is: hello there"):
                each.wait_for(line)
        bert.type("b room")
        bert.wait_for("Enter the size of each message: ")
        bert.type("20000")
        for number in range(10):
            for each in (anna, bert):
                each.wait_for("The data is 20000 bytes.")
                each.wait_for(f"The message is: mess num {number}")
        bert.type("l")
        bert.wait_for("SELF-LEAVE message for group room")
        anna.wait_for("the LEAVE of #bert#d1")
        bert.type("j room")
        for each in (anna, bert):
            each.wait_for("the JOIN of #bert#d1")
        bert.type("q")
        assert bert.finish() == 0
        anna.wait_for("the DISCONNECT of #bert#d1")
        anna.type("q")
        assert anna.finish() == 0
        return anna.printed, bert.printed


def test_two_users(java_classes: Path, ours: DaemonProcess, theirs: DaemonProcess) -> None:
    # The receiving thread and the prompts mix; these lines are printed in one go.
    line = r"(?:REGULAR|TRANSITIONAL|SELF-LEAVE|Sent by  #|Type is|To |There|The ).*"

    def messages(text: str) -> list[str]:
        return re.findall(line, text)

    mine, upstreams = conversation(java_classes, ours), conversation(java_classes, theirs)
    for shown, at_home in zip(mine, upstreams, strict=True):
        assert len(messages(shown)) > 50
        assert messages(shown) == messages(at_home)


@pytest.mark.parametrize(
    ("size", "count"), [(0, 500), (1000, 5000), (20_000, 1000), (100_000, 200)]
)
def test_a_flooder(java_classes: Path, daemon: DaemonProcess, size: int, count: int) -> None:
    words = ("-u", f"j{size}", "-b", str(size), "-m", str(count))
    with java(java_classes, "Flooder", daemon, *words) as flooder:
        flooder.wait_for(f"Starting multicast of {count} messages, {size} bytes each.")
        flooder.wait_for("Time: ")
        assert flooder.finish() == 0
        assert "Exception" not in flooder.printed


def test_a_flooder_that_sends_and_one_that_receives(
    java_classes: Path, upstream: Path, daemon: DaemonProcess
) -> None:
    words = ("-b", "1000", "-m", "3000")
    watcher_command: list[str | Path] = [
        upstream / "bin" / "spuser",
        "-u",
        "watcher",
        "-s",
        daemon.location,
    ]
    with (
        Program(watcher_command) as watcher,
        java(java_classes, "Flooder", daemon, "-u", "jreader", "-ro", *words) as reader,
    ):
        watcher.wait_for("User> ")
        watcher.type("j flooder")
        watcher.wait_for("#jreader#d1")
        with java(java_classes, "Flooder", daemon, "-u", "jwriter", "-wo", *words) as writer:
            writer.wait_for("Time: ")
            assert writer.finish() == 0
        reader.wait_for("Time: ")
        assert reader.finish() == 0
        watcher.type("q")
        assert watcher.finish() == 0
