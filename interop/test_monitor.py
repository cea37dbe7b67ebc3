"""Upstream's spmonitor and ours, each with daemons of both kinds; reloads under load."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.programs import Program
from txspread.config import load
from txspread.testing.client_checker import check_clients
from txspread.testing.live_clients import Crowd
from txspread.testing.processes import (
    LOW_TIMEOUTS,
    DaemonRing,
    free_port,
    txspread_command,
    upstream_command,
    wait_until,
)
from txspread.tools.spmonitor_link import MonitorLink
from txspread.wire.constants import ServiceType
from txspread.wire.monitor import Status

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(300)]
PATTERNS = ["tut", "utu"]
QUICK = {**LOW_TIMEOUTS, "LookupTimeout": 1500}
SERVICES = (ServiceType.FIFO_MESS, ServiceType.AGREED_MESS, ServiceType.SAFE_MESS)


class Monitored:
    """A ring of both kinds that is asked for its status over the wire."""

    def __init__(self, ring: DaemonRing) -> None:
        self.ring = ring
        self.link = self.new_link()

    def new_link(self) -> MonitorLink:
        """A monitor's end that knows the present file."""
        configuration = load(str(self.ring.config))
        return MonitorLink(configuration, configuration.daemons[0].id)

    def statuses(self) -> list[Status]:
        """Of the daemons that answer, in configuration order."""
        daemons = self.link.configuration.daemons
        found = self.link.collect(daemons, 5.0)
        return [found[daemon.id] for daemon in daemons if daemon.id in found]

    def wait_for(self, *sizes: int) -> None:
        """Wait until the daemons of the file are in rings of these sizes, daemon by daemon."""
        wait_until(
            lambda: [s.num_procs for s in self.statuses() if s.state == 1] == list(sizes),
            90.0,
            f"rings {sizes}",
        )


@pytest.fixture(params=PATTERNS)
def monitored(request: pytest.FixtureRequest, upstream: Path) -> Iterator[Monitored]:
    commands = [
        upstream_command(upstream) if kind == "u" else txspread_command() for kind in request.param
    ]
    options = {"DangerousMonitor": "true", "AcceleratedRing": "false"}
    with DaemonRing(commands, options, timeouts=QUICK) as ring:
        monitored = Monitored(ring)
        try:
            monitored.wait_for(3, 3, 3)
            yield monitored
        finally:
            monitored.link.close()


def status_of_all(program: Program, names: list[str]) -> dict[str, str]:
    """Switch all queries on, wait for a report of each, switch them off."""
    for line in ("0", "all", ""):
        program.type(line)
    reports: dict[str, str] = {}
    while set(names) - reports.keys():
        program.wait_for("\nStatus at ")
        report = program.wait_for("=" * 34)
        reports[report.split()[0]] = report
    for line in ("0", "none", ""):
        program.type(line)
    return reports


@pytest.fixture(params=["upstream's", "ours"])
def program(
    request: pytest.FixtureRequest, upstream: Path, monitored: Monitored
) -> Iterator[Program]:
    command = [sys.executable, "-m", "txspread.tools.spmonitor"]
    if request.param == "upstream's":
        places = [upstream / folder / "spmonitor" for folder in ("bin", "sbin")]
        found = [place for place in places if place.exists()]
        if not found:
            pytest.skip("this build of upstream has no spmonitor")
        command = [str(found[0])]
    port = str(free_port("127.0.0.1"))
    arguments = ["-n", "d1", "-c", str(monitored.ring.config), "-p", port, "-t", "1"]
    with Program([*command, *arguments], {"PYTHONPATH": str(Path(__file__).parents[1])}) as program:
        program.wait_for("Monitor> ")
        yield program


def test_a_monitor_drives_a_mixed_ring(monitored: Monitored, program: Program) -> None:
    """Status of every daemon, flow control, partition and heal, reload, kill."""
    names = ["d1", "d2", "d3"]
    for report in status_of_all(program, names).values():
        assert "(state 1, gstate 1)" in report
        assert "Membership  :  3  procs in 3 segments, leader is d1, regular protocol" in report

    # Windows: the ring's, and each daemon's own.
    for line in ("5", "140", "21", "22", "23"):
        program.type(line)
    program.wait_for("d3 personal window\t23\n")
    program.type("6")
    program.wait_for("send flow control params")
    wait_until(lambda: [s.window for s in monitored.statuses()] == [140] * 3)
    assert [s.personal_window for s in monitored.statuses()] == [21, 22, 23]

    # Partition and heal.
    for line in ("1", "1", "2", "2"):
        program.type(line)
    program.wait_for("Partition Map:")
    program.wait_for("d3\t2\n")
    program.type("2")
    program.wait_for("send partition")
    monitored.wait_for(1, 2, 2)
    program.type("4")
    program.wait_for("send partition")
    monitored.wait_for(3, 3, 3)

    # Reload puts the windows of the file back.
    before = [s.membership_changes for s in monitored.statuses()]
    program.type("r")
    program.wait_for("Reload Membership")
    wait_until(lambda: [s.window for s in monitored.statuses()] == [160] * 3)
    monitored.wait_for(3, 3, 3)
    after = [s.membership_changes for s in monitored.statuses()]
    assert all(new > old for new, old in zip(after, before, strict=True))

    # Kill.
    for line in ("8", "d2", ""):
        program.type(line)
    program.wait_for("Terminating d2")
    victim = monitored.ring.daemons[1].process
    assert victim is not None
    assert victim.wait(30) in (-6, 134)
    monitored.wait_for(2, 2)
    program.type("9")
    assert program.finish() == 0


def test_the_same_status_is_reported_by_both_kinds(monitored: Monitored) -> None:
    """What the members of one ring must agree on, they report alike."""
    crowd = Crowd()
    clients = [crowd.connect(d.address, d.port) for d in monitored.ring.daemons]
    for client in clients:
        client.join("room")
    assert crowd.run_until(lambda: all(len(c.members("room")) == 3 for c in clients), 60)

    def settled() -> bool:
        statuses = monitored.statuses()
        return len(statuses) == 3 and len({(s.highest_seq, s.aru) for s in statuses}) == 1

    wait_until(settled)
    before = monitored.statuses()
    for number in range(50):
        for client in clients:
            client.multicast(SERVICES[number % 3], ["room"], b"%d" % number)
    assert crowd.run_until(lambda: all(len(c.data) == 150 for c in clients), 60)

    wait_until(settled)
    statuses = monitored.statuses()

    def since(name: str) -> list[int]:
        return [
            getattr(new, name) - getattr(old, name)
            for new, old in zip(statuses, before, strict=True)
        ]

    sent, received = since("packet_sent"), since("packet_recv")
    assert [mine + others for mine, others in zip(sent, received, strict=True)] == [sum(sent)] * 3
    assert since("packet_delivered") == [sum(sent)] * 3
    assert since("message_delivered") == [150] * 3
    for name in (
        *("state", "gstate", "aru", "my_aru", "highest_seq", "leader_id", "num_procs"),
        *("num_segments", "window", "personal_window", "accelerated_ring", "accelerated_window"),
        *("num_sessions", "num_groups", "message_delivered", "major_version", "minor_version"),
    ):
        assert len({getattr(status, name) for status in statuses}) == 1, name
    assert [s.my_id for s in statuses] == [d.id for d in monitored.link.configuration.daemons]
    rounds = [s.token_rounds for s in statuses]
    assert max(rounds) - min(rounds) <= 3
    crowd.close()


def test_a_reload_of_a_mixed_ring_under_load_loses_and_repeats_nothing(
    monitored: Monitored,
) -> None:
    crowd = Crowd()
    clients = [crowd.connect(d.address, d.port) for d in monitored.ring.daemons]
    for client in clients:
        client.join("room")
    assert crowd.run_until(lambda: all(len(c.members("room")) == 3 for c in clients), 60)
    before = [s.membership_changes for s in monitored.statuses()]
    sent = 0

    def pour(until: int) -> None:
        nonlocal sent
        while sent < until:
            for number, client in enumerate(clients):
                client.multicast(SERVICES[sent % 3], ["room"], f"{sent} {number}".encode())
            sent += 1
            if sent % 5 == 0:
                crowd.run(0.02)

    pour(150)
    monitored.link.send_reload(monitored.link.configuration.daemons)
    pour(450)
    assert crowd.run_until(lambda: all(len(c.data) >= 3 * 450 for c in clients), 120)
    for client in clients:
        assert len({message.body for message in client.data}) == len(client.data) == 3 * 450
        assert not any(view.caused_by_network for view in client.views)
    after = [s.membership_changes for s in monitored.statuses()]
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert crowd.problems == []
    assert check_clients(crowd.trace) == []
    crowd.close()


def test_a_daemon_is_added_to_a_mixed_ring_and_removed_again(
    monitored: Monitored, upstream: Path
) -> None:
    """The ring runs on a file without d3, then takes it in; no client is disconnected."""
    ring = monitored.ring
    whole = ring.config.read_text()
    pieces = whole.split("Spread_Segment ")
    fewer = "Spread_Segment ".join(piece for piece in pieces if "    d3 " not in piece)
    crowd = Crowd()
    clients = [crowd.connect(d.address, d.port) for d in ring.daemons]
    for client in clients:
        client.join("room")
    assert crowd.run_until(lambda: all(len(c.members("room")) == 3 for c in clients), 60)
    daemons = monitored.link.configuration.daemons
    ring.config.write_text(fewer)
    monitored.link.send_reload(daemons[:2])
    assert crowd.run_until(lambda: all(len(c.members("room")) == 2 for c in clients[:2]), 60)
    clients[0].multicast(ServiceType.SAFE_MESS, ["room"], b"two")
    assert crowd.run_until(lambda: bool(clients[1].data), 30)
    ring.config.write_text(whole)
    monitored.link.send_reload(daemons[:2])
    assert crowd.run_until(lambda: all(len(c.members("room")) == 3 for c in clients), 90)
    assert not any(client.closed for client in clients)
    assert crowd.problems == []
    assert check_clients(crowd.trace) == []
    crowd.close()


def test_an_unstated_accelerated_ring_changes_in_both_kinds_alike(upstream: Path) -> None:
    """At the first reload both kinds turn it on and change the hash; they stay together."""
    commands = [upstream_command(upstream), txspread_command()]
    with DaemonRing(commands, timeouts=QUICK) as ring:
        for daemon in ring.daemons:
            daemon.stop()
        text = ring.config.read_text().replace("AcceleratedRing = false\n", "")
        ring.config.write_text(text)
        ring.start()
        monitored = Monitored(ring)
        monitored.wait_for(2, 2)
        assert [s.accelerated_ring for s in monitored.statuses()] == [0, 0]
        monitored.link.send_reload(monitored.link.configuration.daemons)
        wait_until(lambda: [s.accelerated_ring for s in monitored.statuses()] == [1, 1])
        monitored.wait_for(2, 2)
        monitored.link.close()
