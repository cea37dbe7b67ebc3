"""Daemons as processes: ours, and upstream's when a build is given."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

LIMIT = 60.0
"""Seconds that anything may take."""


@frozen
class RunningDaemon:
    """A daemon that serves clients on TCP and on a Unix socket."""

    name: str
    host: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def tcp(self) -> str:
        return f"{self.port}@{self.host}"

    @property
    def unix(self) -> str:
        return str(self.port)


def free_port(host: str) -> int:
    """A port whose neighbour is free as well, for TCP and UDP."""
    while True:
        with contextlib.ExitStack() as stack:
            tcp = stack.enter_context(socket.socket())
            tcp.bind((host, 0))
            port: int = tcp.getsockname()[1]
            if port > 65000 or Path(f"/tmp/{port}").exists():
                continue
            try:
                for number in (port, port + 1):
                    udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    udp.bind((host, number))
            except OSError:
                continue
            return port


@contextlib.contextmanager
def running_daemon(
    command: list[str], directory: Path, name: str = "d1", extra: str = ""
) -> Iterator[RunningDaemon]:
    host = f"127.0.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 200 + 20}"
    port = free_port(host)
    configuration = directory / "spread.conf"
    owner = 'DaemonUser = "root"\nDaemonGroup = "root"\n' if os.getuid() == 0 else ""
    configuration.write_text(
        f'SocketPortReuse = ON\nRuntimeDir = "{directory}"\n{owner}{extra}'
        f"Spread_Segment {host}:{port} {{\n  {name} {host}\n}}\n"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-c", str(configuration), "-n", name],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    try:
        wait_for_port(process, host, port, directory / "log")
        yield RunningDaemon(name, host, port, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        Path(f"/tmp/{port}").unlink(missing_ok=True)


def wait_for_port(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"the daemon did not start:\n{log.read_text(errors='replace')}")


TXSPREAD = [sys.executable, "-c", "from txspread.daemon.command import main; main()"]


def daemon_command(kind: str, request: pytest.FixtureRequest) -> list[str]:
    if kind == "upstream":
        return [str(request.getfixturevalue("upstream") / "sbin" / "spread")]
    return TXSPREAD
