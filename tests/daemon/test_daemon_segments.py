"""Segments of several daemons, with real broadcast and multicast between namespaces."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spread_client import SpreadClient

import txspread
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.namespaces

SIZE = 3


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def network():
    """Machines ``10.77.0.1`` and on, on one switch; the names of their namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the ip command")
    tag = secrets.token_hex(2)
    switch, machines = f"sw{tag}", [f"m{tag}{number}" for number in range(SIZE)]
    made = []
    try:
        try:
            ip("netns", "add", switch)
            made.append(switch)
            ip("-n", switch, "link", "add", "br0", "type", "bridge")
            ip("-n", switch, "link", "set", "br0", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot make network namespaces: {error.stderr.decode().strip()}")
        for number, machine in enumerate(machines):
            ip("netns", "add", machine)
            made.append(machine)
            ip(
                *("-n", machine, "link", "add", "eth0", "type", "veth"),
                *("peer", "name", f"p{number}", "netns", switch),
            )
            ip("-n", switch, "link", "set", f"p{number}", "master", "br0", "up")
            address = f"10.77.0.{number + 1}/24"
            ip("-n", machine, "addr", "add", address, "broadcast", "10.77.0.255", "dev", "eth0")
            ip("-n", machine, "link", "set", "lo", "up")
            ip("-n", machine, "link", "set", "eth0", "up")
            ip("-n", machine, "route", "add", "224.0.0.0/4", "dev", "eth0")
        yield machines
    finally:
        for namespace in reversed(made):
            ip("netns", "del", namespace)


def wait_for_socket(path: Path, process: subprocess.Popen, limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
                return
            except OSError:
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("address", "stanza", "accelerated"),
    [
        ("10.77.0.255", False, "false"),
        ("10.77.0.255", True, "true"),
        ("225.7.7.7", False, "true"),
        ("225.7.7.7", True, "false"),
    ],
)
def test_a_segment_orders_for_all(
    network, tmp_path, socket_directory, address, stanza, accelerated
):
    config = tmp_path / "spread.conf"
    daemons = "\n".join(
        f"d{number} 10.77.0.{number + 1}"
        + (f" {{ D 10.77.0.{number + 1}\n C 10.77.0.{number + 1} }}" if stanza else "")
        for number in range(SIZE)
    )
    config.write_text(
        f"AcceleratedRing = {accelerated}\nSpread_Segment {address}:4803 {{\n{daemons}\n}}\n"
    )
    processes, clients = [], []
    environment = dict(os.environ, PYTHONPATH=str(Path(txspread.__file__).parents[1]))
    try:
        for number, machine in enumerate(network):
            directory = socket_directory / str(number)
            directory.mkdir()
            process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", machine, sys.executable, "-m", "txspread"),
                    *("-c", str(config), "-n", f"d{number}"),
                    *("--socket-directory", str(directory), "--state-directory", str(tmp_path)),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                text=True,
            )
            processes.append(process)
        for number, process in enumerate(processes):
            path = socket_directory / str(number) / "4803"
            wait_for_socket(path, process)
            clients.append(SpreadClient(str(path), b"c"))
        for client in clients:
            client.join(b"g")
        for client in clients:
            client.wait_for_members(*(b"#c#d%d" % number for number in range(SIZE)))
        for number, client in enumerate(clients):
            for count in range(200):
                client.send(b"g", b"%d %d " % (number, count) + bytes(1000))
            client.send(b"g", b"%d end" % number + bytes(50_000), ServiceType.SAFE_MESS)
        received = [client.bodies(201 * SIZE) for client in clients]
        assert received[0] == received[1] == received[2]
        assert len(set(received[0])) == 201 * SIZE
    finally:
        for client in clients:
            client.close()
        for process in processes:
            process.terminate()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    for output in outputs:
        assert "Internal error" not in output
