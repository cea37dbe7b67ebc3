"""Starting the daemons that are measured, and reading what CPU they use."""

from __future__ import annotations

import os
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from attrs import define, field, frozen

from bench.wire import Client, unique_name

_VERSION = re.compile(r"version \d[^|\n]*", re.IGNORECASE)
"""In the banner of a daemon."""
_START_LIMIT = 60.0


@frozen
class Spec:
    """How one daemon is started, or where it is found."""

    command: tuple[str, ...] = ()
    """With ``{config}``, ``{name}``, ``{directory}`` in it; empty for one that runs already."""
    address: tuple[str, int] | None = None


@frozen
class Kind:
    """One thing that is measured: a name, and the daemons of its rings, in turn."""

    name: str
    specs: tuple[Spec, ...]

    @property
    def external(self) -> bool:
        """Whether it runs already, outside of our control."""
        return any(spec.address is not None for spec in self.specs)


def parse_kind(text: str) -> Kind:
    """Read ``NAME=SPEC[,SPEC...]``, or ``SPEC`` alone.

    A SPEC is ``txspread``, ``without:STEP`` (:mod:`bench.without`), ``upstream:PREFIX``,
    ``address:HOST:PORT`` or ``command:SHELL WORDS`` with ``{config}`` and ``{name}``.
    Several make a mixed ring, its daemons taken from them in turn.

    Raises:
        ValueError: it is none of these.

    """
    name, equals, rest = text.partition("=")
    if not equals or ":" in name:
        name, rest = text.split(":", 1)[0], text
    return Kind(name, tuple(_parse_spec(one) for one in rest.split(",")))


def _parse_spec(text: str) -> Spec:
    word, _, rest = text.partition(":")
    arguments = ("-c", "{config}", "-n", "{name}")
    if word == "txspread" and not rest:
        state = ("--state-directory", "{directory}")
        return Spec((sys.executable, "-m", "txspread", *arguments, *state))
    if word == "without" and rest:
        state = ("--state-directory", "{directory}")
        return Spec((sys.executable, "-m", "bench.without", rest, *arguments, *state))
    if word == "upstream" and rest:
        return Spec((str(Path(rest) / "sbin" / "spread"), *arguments))
    if word == "address" and rest:
        host, _, port = rest.rpartition(":")
        return Spec(address=(host, int(port)))
    if word == "command" and rest:
        return Spec(tuple(shlex.split(rest)))
    raise ValueError(
        f"{text!r}: not txspread, without:STEP, upstream:PREFIX, address:HOST:PORT or command:WORDS"
    )


@define
class Member:
    """One daemon of a cluster."""

    name: str
    address: tuple[str, int]
    process: subprocess.Popen[bytes] | None = None


@define
class Cluster:
    """The daemons of one kind, in one ring."""

    kind: Kind
    members: list[Member] = field(factory=list)
    _directory: tempfile.TemporaryDirectory[str] | None = None
    _logs: list[IO[bytes]] = field(factory=list)

    @classmethod
    def start(
        cls, kind: Kind, size: int, *, accelerated: bool = False, options: str = ""
    ) -> Cluster:
        """Start ``size`` daemons and wait until they are in one membership.

        Raises:
            RuntimeError: they are not within a minute.

        """
        cluster = cls(kind)
        try:
            if kind.external:
                for number in range(size):
                    spec = kind.specs[number % len(kind.specs)]
                    assert spec.address is not None
                    cluster.members.append(Member(f"d{number}", spec.address))
            else:
                cluster._start_processes(size, accelerated, options)
            cluster._wait_for_ring()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def _start_processes(self, size: int, accelerated: bool, options: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bench-")
        directory = Path(self._directory.name)
        addresses = _free_addresses(size)
        text = [
            f"AcceleratedRing = {'true' if accelerated else 'false'}",
            "MaxSessionMessages = 20000",
            options,
        ]
        if os.geteuid() == 0:
            # Upstream refuses to run as root without a user to become.
            text += ["DaemonUser = root", "DaemonGroup = root", f'RuntimeDir = "{directory}"']
        for number, (host, port) in enumerate(addresses):
            broadcast = host.rsplit(".", 1)[0] + ".255"
            text += [f"Spread_Segment {broadcast}:{port} {{", f"\td{number}\t{host}", "}"]
        config = directory / "spread.conf"
        config.write_text("\n".join(text) + "\n")
        for number, address in enumerate(addresses):
            spec = self.kind.specs[number % len(self.kind.specs)]
            name = f"d{number}"
            log = (directory / f"{name}.log").open("wb")
            self._logs.append(log)
            command = [
                word.replace("{config}", str(config))
                .replace("{directory}", str(directory))
                .replace("{name}", name)
                for word in spec.command
            ]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            self.members.append(Member(name, address, process))

    def _wait_for_ring(self) -> None:
        deadline = time.monotonic() + _START_LIMIT
        group = f"ready{random.randrange(1 << 30)}".encode()
        clients: list[Client] = []
        try:
            for member in self.members:
                while True:
                    try:
                        client = Client(member.address, unique_name("m"), membership=True)
                        break
                    except OSError as error:
                        self._check_alive()
                        if time.monotonic() > deadline:
                            raise RuntimeError(
                                f"{self.kind.name} {member.name}: no connection: {error}"
                            ) from error
                        time.sleep(0.05)
                clients.append(client)
            for client in clients:
                client.join(group)
            for client in clients:
                client.socket.settimeout(max(0.1, deadline - time.monotonic()))
                client.wait_for_members(len(clients))
        except TimeoutError as error:
            raise RuntimeError(f"{self.kind.name}: no common membership: {self.log()}") from error
        finally:
            for client in clients:
                client.close()

    def settle(self) -> None:
        """Wait until a group of new sessions at all daemons has come together.

        Everything that clients have asked for before, and the ends of sessions that the
        daemons have noticed, is done then.

        Raises:
            RuntimeError: it does not within a minute.

        """
        self._wait_for_ring()

    def _check_alive(self) -> None:
        for member in self.members:
            if member.process is not None and member.process.poll() is not None:
                raise RuntimeError(
                    f"{self.kind.name} {member.name} has ended with {member.process.returncode}: "
                    + self.log()
                )

    def log(self) -> str:
        """The end of what the daemons have printed."""
        texts = []
        if self._directory is not None:
            for path in sorted(Path(self._directory.name).glob("*.log")):
                texts.append(f"{path.name}: {path.read_text(errors='replace')[-1500:]}")
        return "\n".join(texts)

    def version(self) -> str:
        """What the daemons say that they are, as far as they do so when they start."""
        if self._directory is None:
            return "runs elsewhere"
        found = []
        for path in sorted(Path(self._directory.name).glob("*.log")):
            match = _VERSION.search(path.read_text(errors="replace"))
            if match is not None:
                found.append(" ".join(match[0].split()))
        return ", ".join(dict.fromkeys(found)) or "unknown"

    def cpu(self) -> float | None:
        """CPU seconds used by all daemons so far; None if they are not ours."""
        processes = [member.process for member in self.members if member.process is not None]
        return sum(cpu_seconds(process.pid) for process in processes) if processes else None

    def stop(self) -> None:
        """End the daemons."""
        for member in self.members:
            if member.process is not None:
                member.process.terminate()
        for member in self.members:
            if member.process is not None:
                try:
                    member.process.wait(5)
                except subprocess.TimeoutExpired:
                    member.process.kill()
                    member.process.wait()
        for log in self._logs:
            log.close()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # a thread that has just ended
    return total / 1e9


def idle_shares(clusters: list[Cluster], seconds: float = 2.0) -> list[float | None]:
    """Share of a core that each daemon of each cluster uses while nothing happens."""
    time.sleep(1.0)
    before = [cluster.cpu() for cluster in clusters]
    time.sleep(seconds)
    after = [cluster.cpu() for cluster in clusters]
    return [
        None if first is None or last is None else (last - first) / seconds / len(cluster.members)
        for cluster, first, last in zip(clusters, before, after, strict=True)
    ]


def _free_addresses(count: int) -> list[tuple[str, int]]:
    """One loopback address and port for each daemon, with its neighbour port free, too."""
    found: list[tuple[str, int]] = []
    while len(found) < count:
        host = f"127.{random.randrange(20, 250)}.{len(found)}.1"
        port = random.randrange(12000, 32000)
        if any(abs(port - other) < 3 for _, other in found) or os.path.exists(f"/tmp/{port}"):
            continue
        if _is_free(port):
            found.append((host, port))
    return found


def _is_free(port: int) -> bool:
    try:
        for kind, number in (
            (socket.SOCK_STREAM, port),
            (socket.SOCK_DGRAM, port),
            (socket.SOCK_DGRAM, port + 1),
        ):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("0.0.0.0", number))
    except OSError:
        return False
    return True
