"""Real daemons as processes on loopback addresses, ours and upstream's.

Every daemon gets an address of its own out of 127.0.0.0/8 and, since the Unix
socket of a daemon is named after its port alone, a free port of its own; a
segment with one daemon needs no broadcast.  Rings with real broadcast need
network namespaces (see ``tests/ring``).

Everything here blocks; a test waits for conditions with generous limits.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from attrs import define, field

_NETWORKS = itertools.count(os.getpid() % 200 + 20)
_DICE = random.SystemRandom()


def free_port(address: str) -> int:
    """A port P for which TCP P and UDP P and P + 1 are free at an address.

    It lies below the range out of which systems take ports for outgoing connections,
    so a daemon can be started again under it; and below 32768, for upstream's Java
    client takes no other.
    """
    for _ in range(200):
        port = _DICE.randrange(10000, 32000)
        if Path(f"/tmp/{port}").exists():
            continue
        try:
            with socket.socket() as stream:
                stream.bind((address, port))
            for number in (port, port + 1):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                    datagrams.bind((address, number))
        except OSError:
            continue
        return port
    raise OSError(f"no free port at {address}")


def wait_until(condition: Callable[[], bool], limit: float = 60.0, what: str = "") -> None:
    """Wait until ``condition()`` holds; raise ``TimeoutError`` after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit} s in vain for {what or condition}")
        time.sleep(0.01)


@define(eq=False)
class DaemonProcess:
    """One daemon of a ring, started and stopped at will."""

    name: str
    address: str
    port: int
    command: Sequence[str]
    """What is run; the configuration and name options are appended."""
    config: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def location(self) -> str:
        """The Spread name that clients connect to."""
        return f"{self.port}@{self.address}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, appending to its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "-c", str(self.config), "-n", self.name],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.config.parent,
                env=_environment(),
            )

    @property
    def is_upstream(self) -> bool:
        """Whether this is upstream's daemon."""
        return Path(self.command[0]).name == "spread"

    def accepts(self) -> bool:
        """Whether clients can connect."""
        try:
            with socket.create_connection((self.address, self.port), 1.0):
                return True
        except OSError:
            return False

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, insist after a while."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop it in its tracks."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send_signal(signal.SIGCONT)

    def output(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _end(self, how: signal.Signals) -> None:
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment() -> Mapping[str, str]:
    root = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def txspread_command(*options: str) -> list[str]:
    """The command that runs our daemon with this interpreter."""
    return [sys.executable, "-m", "txspread", *options]


def upstream_command(prefix: Path) -> list[str]:
    """The command that runs upstream's daemon from a build of it."""
    return [str(prefix / "sbin" / "spread")]


LOW_TIMEOUTS: Mapping[str, int] = {
    "TokenTimeout": 1000,
    "HurryTimeout": 300,
    "AliveTimeout": 100,
    "JoinTimeout": 100,
    "RepTimeout": 400,
    "SegTimeout": 200,
    "GatherTimeout": 500,
    "FormTimeout": 500,
    "LookupTimeout": 5000,
}
"""Milliseconds: quick membership changes that a loaded test machine still keeps up with."""


@define(eq=False)
class DaemonRing:
    """Daemons of one configuration, each in a segment of its own.

    Use as a context manager; leaving it ends every process.
    """

    commands: Sequence[Sequence[str]]
    """The command of each daemon, in configuration order."""
    options: Mapping[str, object] = field(factory=dict)
    """Further lines of spread.conf, e.g. ``{"AcceleratedRing": "true"}``."""
    timeouts: Mapping[str, int] = field(default=LOW_TIMEOUTS)
    daemons: list[DaemonProcess] = field(init=False, factory=list)
    directory: Path = field(init=False)
    config: Path = field(init=False)
    _holder: tempfile.TemporaryDirectory[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._holder = tempfile.TemporaryDirectory(prefix="spread-ring-")
        self.directory = Path(self._holder.name)
        self.directory.chmod(0o755)
        self.config = self.directory / "spread.conf"
        network = next(_NETWORKS) % 250 + 1
        for number, command in enumerate(self.commands, 1):
            address = f"127.{network}.{number // 250}.{number % 250 or 1}"
            self.daemons.append(
                DaemonProcess(
                    f"d{number}",
                    address,
                    free_port(address),
                    command,
                    self.config,
                    self.directory / f"d{number}.log",
                )
            )
        self.config.write_text(self._text())

    def _text(self) -> str:
        lines: list[str] = []
        for daemon in self.daemons:
            broadcast = daemon.address.rpartition(".")[0] + ".255"
            lines += [
                f"Spread_Segment {broadcast}:{daemon.port} {{",
                f"    {daemon.name} {daemon.address} {{",
                f"        {daemon.address}",
                "    }",
                "}",
            ]
        options: dict[str, object] = {
            "SocketPortReuse": "ON",
            "RuntimeDir": self.directory,
            "AcceleratedRing": "false",
            **self.timeouts,
        }
        if os.getuid() == 0:
            options |= {"DaemonUser": "root", "DaemonGroup": "root"}
        options |= self.options
        lines += [f"{name} = {value}" for name, value in options.items()]
        return "\n".join(lines) + "\n"

    def __enter__(self) -> DaemonRing:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, daemons: Iterable[DaemonProcess] | None = None) -> None:
        """Start daemons (all of them by default) and wait until clients can connect."""
        chosen = list(self.daemons if daemons is None else daemons)
        for daemon in chosen:
            daemon.start()
        for daemon in chosen:

            def ready(daemon: DaemonProcess = daemon) -> bool:
                if not daemon.running:
                    raise OSError(f"{daemon.name} has ended:\n{daemon.output()[-2000:]}")
                return daemon.accepts()

            wait_until(ready, 60.0, f"{daemon.name} to accept clients")

    def close(self) -> None:
        """End every process and remove the files."""
        for daemon in self.daemons:
            daemon.kill()
            Path(f"/tmp/{daemon.port}").unlink(missing_ok=True)
        self._holder.cleanup()
