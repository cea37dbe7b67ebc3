"""The daemon's command line with the options of this package."""

from __future__ import annotations

import http.client
import json
import signal
import socket

import pytest

from txspread.daemon.command import make_parser
from txspread.observe.trace_reader import read_files
from txspread.testing.processes import DaemonRing, free_port, txspread_command, wait_until


def ask(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_daemon_serves_http_and_writes_a_trace_until_it_is_stopped(tmp_path):
    port, trace = free_port("127.0.0.1"), tmp_path / "trace.jsonl"
    command = txspread_command("--http", str(port), "--trace", str(trace))
    with DaemonRing([command]) as ring:
        assert ask(port, "/health")[0] == 200
        assert json.loads(ask(port, "/status")[1])["daemon"]["name"] == "d1"
        (daemon,) = ring.daemons
        daemon.send_signal(signal.SIGTERM)
        wait_until(lambda: not daemon.running, 60, "the daemon to end")
        assert daemon.process.returncode == 0
    (run,) = read_files([str(trace)])
    assert run.stopped
    kinds = [record["kind"] for record in run.records]
    assert kinds[0] == "start"
    assert "regular" in kinds


def test_a_port_in_use_is_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as used, pytest.raises(OSError, match="has ended"):
        DaemonRing([txspread_command("--http", str(used.getsockname()[1]))]).__enter__()


@pytest.mark.parametrize(
    "words", [["--http", "x"], ["--http", "99999"], ["--trace"], ["--log-format", "xml"]]
)
def test_wrong_options_are_wrong_usage(words):
    parser = make_parser()
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
