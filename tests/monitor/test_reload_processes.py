"""Real daemons that read their file again while clients send."""

from __future__ import annotations

import os
import signal

import pytest

from txspread.config import Configuration, load
from txspread.testing.client_checker import check_clients
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import (
    LOW_TIMEOUTS,
    DaemonProcess,
    DaemonRing,
    txspread_command,
    wait_until,
)
from txspread.tools.spmonitor_link import MonitorLink
from txspread.wire.constants import ServiceType
from txspread.wire.monitor import Status

pytestmark = pytest.mark.timeout(300)
QUICK = {**LOW_TIMEOUTS, "LookupTimeout": 1500}
SERVICES = (ServiceType.FIFO_MESS, ServiceType.AGREED_MESS, ServiceType.SAFE_MESS)


class Watched:
    """A ring with a monitor and a crowd of clients."""

    def __init__(self, ring: DaemonRing) -> None:
        self.ring = ring
        self.crowd = Crowd()
        self.clients: dict[str, LiveClient] = {}
        self.text = ring.config.read_text()
        self.read: dict[bytes, Configuration] = {}

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.crowd.close()

    def link(self) -> MonitorLink:
        text = self.ring.config.read_bytes()
        if text not in self.read:
            self.read[text] = load(str(self.ring.config))
        configuration = self.read[text]
        return MonitorLink(configuration, configuration.daemons[0].id)

    def statuses(self) -> dict[str, Status]:
        """Reports by daemon name of those in the file; silent ones are missing."""
        link = self.link()
        try:
            found = link.collect(link.configuration.daemons, 5.0)
            return {
                one.name: found[one.id] for one in link.configuration.daemons if one.id in found
            }
        finally:
            link.close()

    def wait_for_ring(self, size: int, names: str = "") -> None:
        def formed() -> bool:
            statuses = self.statuses()
            chosen = names.split() or list(statuses)
            return bool(statuses) and all(
                name in statuses and statuses[name].state == 1 and statuses[name].num_procs == size
                for name in chosen
            )

        wait_until(formed, 90.0, f"a ring of {size}")

    def join(self, *daemons: DaemonProcess) -> None:
        for daemon in daemons:
            client = self.crowd.connect(daemon.address, daemon.port)
            self.clients[daemon.name] = client
            client.join("room")
        everybody = len(self.clients)
        assert self.crowd.run_until(
            lambda: all(len(one.members("room")) == everybody for one in self.clients.values()), 60
        )

    def reload(self, *daemons: DaemonProcess) -> None:
        """As a monitor does it: a datagram to each."""
        link = self.link()
        chosen = {one.name for one in daemons}
        link.send_reload([one for one in link.configuration.daemons if one.name in chosen])
        link.close()

    def reloads(self, daemon: DaemonProcess) -> int:
        return daemon.output().count("Reload: ")


@pytest.fixture
def three():
    with DaemonRing([txspread_command()] * 3, timeouts=QUICK) as ring, Watched(ring) as watched:
        watched.wait_for_ring(3)
        yield watched


def without(ring: DaemonRing, name: str) -> str:
    """The file without the segment of one daemon."""
    pieces = ring.config.read_text().split("Spread_Segment ")
    return "Spread_Segment ".join(piece for piece in pieces if f"    {name} " not in piece)


@pytest.mark.parametrize("how", ["datagram", "SIGHUP"])
def test_a_reload_under_load_loses_and_repeats_nothing(three, how):
    three.join(*three.ring.daemons)
    each = 600
    sent = 0

    def pour(until: int) -> None:
        nonlocal sent
        while sent < until:
            for name, client in three.clients.items():
                client.multicast(SERVICES[sent % 3], ["room"], f"{sent} {name}".encode())
            sent += 1
            if sent % 10 == 0:
                three.crowd.run(0.02)

    pour(each // 3)
    if how == "SIGHUP":
        three.ring.config.write_text(three.text + "MaxSessionMessages = 5000\nWindow = 150\n")
        for daemon in three.ring.daemons:
            daemon.send_signal(signal.SIGHUP)
    else:
        three.reload(*three.ring.daemons)
    pour(each)
    total = each * 3
    assert three.crowd.run_until(
        lambda: all(len(client.data) >= total for client in three.clients.values()), 120
    )
    bodies = [[message.body for message in one.data] for one in three.clients.values()]
    for got in bodies:
        assert len(got) == len(set(got)) == total
    assert all(three.reloads(daemon) for daemon in three.ring.daemons)
    # The daemons formed a ring anew and no client was told of anything.
    assert all(one.membership_changes >= 2 for one in three.statuses().values())
    assert all(
        not view.caused_by_network for client in three.clients.values() for view in client.views
    )
    assert three.crowd.problems == []
    assert check_clients(three.crowd.trace) == []


def test_a_bad_file_is_refused_and_changes_nothing(three):
    three.join(*three.ring.daemons)
    first = three.ring.daemons[0]
    before = three.statuses()["d1"]
    three.ring.config.write_text("Window=7\n")
    first.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload refused, the old configuration stays" in first.output())
    assert f"{three.ring.config}:1:1" in first.output()
    three.ring.config.write_text(without_own(three.text))
    first.send_signal(signal.SIGHUP)
    wait_until(lambda: "is no longer in the file" in first.output())
    three.ring.config.write_text(three.text)
    after = three.statuses()["d1"]
    assert after.membership_changes == before.membership_changes
    three.clients["d1"].multicast(ServiceType.SAFE_MESS, ["room"], b"still here")
    assert three.crowd.run_until(
        lambda: all(m.body for c in three.clients.values() for m in c.data[-1:] or [None] if m), 30
    )


def without_own(text: str) -> str:
    pieces = text.split("Spread_Segment ")
    return "Spread_Segment ".join(piece for piece in pieces if "    d1 " not in piece)


def test_sighup_with_an_unchanged_file_leaves_the_ring_alone(three):
    first = three.ring.daemons[0]
    before = three.statuses()["d1"].membership_changes
    first.send_signal(signal.SIGHUP)
    wait_until(lambda: "SIGHUP: log reopened" in first.output())
    assert three.statuses()["d1"].membership_changes == before
    assert three.reloads(first) == 0


def test_a_daemon_is_removed_and_added_again_with_its_clients_connected(three):
    ring = three.ring
    three.join(*ring.daemons)
    ring.config.write_text(without(ring, "d2"))
    three.reload(ring.daemons[0], ring.daemons[2])
    assert three.crowd.run_until(
        lambda: all(len(three.clients[n].members("room")) == 2 for n in ("d1", "d3")), 60
    )
    three.clients["d1"].multicast(ServiceType.SAFE_MESS, ["room"], b"two of us")
    assert three.crowd.run_until(lambda: bool(three.clients["d3"].data), 30)
    ring.config.write_text(three.text)
    three.reload(ring.daemons[0], ring.daemons[2])
    assert three.crowd.run_until(
        lambda: all(len(client.members("room")) == 3 for client in three.clients.values()), 90
    )
    assert not any(client.closed for client in three.clients.values())
    assert "lost d2" in ring.daemons[0].output()
    assert "gained d2" in ring.daemons[0].output()
    assert check_clients(three.crowd.trace) == []


def test_two_lone_daemons_become_a_ring_with_their_clients_connected():
    with DaemonRing([txspread_command()] * 2, timeouts=QUICK) as ring, Watched(ring) as watched:
        # Each first runs on a file that lists itself alone.
        whole = ring.config.read_text()
        for daemon in ring.daemons:
            daemon.stop()
        for daemon, other in ((0, "d2"), (1, "d1")):
            own = ring.directory / f"own{daemon}.conf"
            own.write_text(without(ring, other))
            ring.daemons[daemon].config = own
        ring.start()
        crowd = watched.crowd
        clients = [crowd.connect(daemon.address, daemon.port) for daemon in ring.daemons]
        for client in clients:
            client.join("room")
        assert crowd.run_until(lambda: all(len(c.members("room")) == 1 for c in clients), 30)
        for daemon in ring.daemons:
            daemon.config.write_text(whole)
            daemon.send_signal(signal.SIGHUP)
        assert crowd.run_until(lambda: all(len(c.members("room")) == 2 for c in clients), 90)
        for number, client in enumerate(clients):
            client.multicast(ServiceType.SAFE_MESS, ["room"], b"from %d" % number)
        assert crowd.run_until(lambda: all(len(client.data) == 2 for client in clients), 30)
        assert crowd.problems == []


def test_a_daemon_that_changed_its_user_and_root_reloads(tmp_path):
    """Upstream looks for the file inside its new root and ends when it is not there."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    options = {"DaemonUser": "nobody", "DaemonGroup": "nogroup"}
    with DaemonRing([txspread_command()] * 2, options, QUICK) as ring, Watched(ring) as watched:
        root = ring.directory / "root"
        root.mkdir()
        for daemon in ring.daemons:
            daemon.stop()
        text = ring.config.read_text()
        text = text.replace(f"RuntimeDir = {ring.directory}", f"RuntimeDir = {root}")
        ring.config.write_text(text)
        ring.start()
        watched.wait_for_ring(2)
        ring.config.write_text(text + "Window = 99\n")
        watched.reload(*ring.daemons)
        wait_until(lambda: [one.window for one in watched.statuses().values()] == [99, 99])


def test_a_changed_hash_is_named_on_both_sides(three):
    ring = three.ring
    ring.config.write_text(three.text.replace("AcceleratedRing = false", "AcceleratedRing = true"))
    ring.daemons[0].send_signal(signal.SIGHUP)
    wait_until(lambda: "Reload: hash changed from" in ring.daemons[0].output())
    wait_until(
        lambda: all(
            "has a different configuration and is ignored" in one.output() for one in ring.daemons
        )
    )
    for daemon in ring.daemons[1:]:
        daemon.send_signal(signal.SIGHUP)
    three.wait_for_ring(3)


def test_a_daemon_without_peers_answers_monitors_and_reloads():
    with DaemonRing([txspread_command()]) as ring, Watched(ring) as watched:
        status = watched.statuses()["d1"]
        assert (status.state, status.num_procs, status.num_segments) == (1, 1, 1)
        ring.config.write_text(watched.text + "PersonalWindow = 11\n")
        watched.reload(*ring.daemons)
        wait_until(lambda: watched.statuses()["d1"].personal_window == 11)


def test_a_guarded_daemon_reloads_for_the_operator_but_not_for_the_net():
    with DaemonRing([txspread_command("--guard-reload")]) as ring, Watched(ring) as watched:
        daemon = ring.daemons[0]
        ring.config.write_text(watched.text + "Window = 77\n")
        watched.reload(daemon)
        wait_until(lambda: "Request to reload the configuration" in daemon.output())
        assert watched.statuses()["d1"].window == 160
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: watched.statuses()["d1"].window == 77)
