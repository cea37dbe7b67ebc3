"""A configuration from names of hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from txspread.config import ConfigurationError, parse
from txspread.tools import render

ADDRESSES = {"spread-0.ring": "10.1.2.3", "spread-1.ring": "10.1.2.4", "spread-2.ring": "10.9.9.9"}


def test_each_name_becomes_a_daemon_in_a_segment_of_its_own():
    daemons, missing = render.entries(list(ADDRESSES), ADDRESSES.get)
    assert missing == []
    text = render.render(daemons, 4803, ["AcceleratedRing = false"])
    configuration = parse(text)
    assert [(d.name, d.address) for d in configuration.daemons] == [
        ("spread-0", "10.1.2.3"),
        ("spread-1", "10.1.2.4"),
        ("spread-2", "10.9.9.9"),
    ]
    assert len(configuration.segments) == 3
    assert configuration.accelerated_ring is False


def test_names_without_an_address_are_told():
    assert render.entries(["spread-0.ring", "nobody"], ADDRESSES.get)[1] == ["nobody"]


def test_what_no_daemon_could_start_from_is_refused():
    with pytest.raises(ConfigurationError):
        render.render([render.Entry("a" * 40, "10.0.0.1")], 4803)
    with pytest.raises(ConfigurationError):
        render.render([render.Entry("a", "10.0.0.1")], 4803, ["Nonsense = 1"])


def test_a_file_is_replaced_only_when_it_changes(tmp_path):
    path = tmp_path / "spread.conf"
    assert render.write(path, "one\n")
    before = path.stat().st_ino
    assert not render.write(path, "one\n")
    assert path.stat().st_ino == before
    assert render.write(path, "two\n")
    assert path.read_text() == "two\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["spread.conf"]


def test_the_command_writes_names_it_can_look_up(tmp_path, capsys):
    assert render.main(["localhost", "--option", "AcceleratedRing = false"]) == 0
    assert "localhost\t127.0.0.1" in capsys.readouterr().out
    path = tmp_path / "c"
    assert render.main(["localhost", "--output", str(path)]) == 0
    assert parse(path.read_text()).by_name["localhost"].address == "127.0.0.1"


def test_no_names_are_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        render.main([])


def test_processes_are_found_by_their_command(tmp_path):
    name = f"sleeper-{os.getpid()}"
    script = tmp_path / name
    script.write_text(
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "print('up', flush=True); signal.pause()\n"
    )
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"up\n"
        assert render.processes(name) == [child.pid]
        os.kill(child.pid, signal.SIGHUP)
        assert child.wait(30) == -signal.SIGHUP
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    assert render.processes(name) == []
