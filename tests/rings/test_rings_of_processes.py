"""Rings of real daemon processes on loopback, with clients on each."""

from __future__ import annotations

import pytest

from txspread.testing.chaos import Chaos
from txspread.testing.client_checker import check_clients
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import DaemonRing, txspread_command
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.timeout(400)


def ring_of(size: int, accelerated: str = "false") -> DaemonRing:
    return DaemonRing([txspread_command()] * size, {"AcceleratedRing": accelerated})


def join_everywhere(ring: DaemonRing, crowd: Crowd) -> list[LiveClient]:
    """One client on each daemon, all in one group, all with the whole view."""
    clients = [crowd.connect(daemon.address, daemon.port) for daemon in ring.daemons]
    for client in clients:
        client.join("everybody")
    assert crowd.run_until(
        lambda: all(len(client.members("everybody")) == len(clients) for client in clients), 90
    )
    return clients


@pytest.mark.parametrize("size", [3, 5])
def test_a_killed_daemon_is_reported_and_comes_back_under_its_address(size: int) -> None:
    with ring_of(size) as ring:
        crowd = Crowd()
        clients = join_everywhere(ring, crowd)
        victim = ring.daemons[1]
        victim.kill()
        rest = [client for client in clients if client is not clients[1]]
        assert crowd.run_until(
            lambda: all(len(client.members("everybody")) == size - 1 for client in rest), 60
        )
        view = rest[0].views[-1]
        assert view.caused_by_network
        assert view.vs_set == view.members
        ring.start([victim])
        back = crowd.connect(victim.address, victim.port)
        back.join("everybody")
        assert crowd.run_until(
            lambda: all(len(client.members("everybody")) == size for client in [*rest, back]), 90
        )
        assert crowd.problems == []
        assert check_clients(crowd.trace) == []
        crowd.close()


def test_a_stopped_daemon_is_left_out_and_taken_back_when_it_goes_on() -> None:
    with ring_of(3) as ring:
        crowd = Crowd()
        clients = join_everywhere(ring, crowd)
        ring.daemons[2].pause()
        assert crowd.run_until(
            lambda: all(len(client.members("everybody")) == 2 for client in clients[:2]), 60
        )
        clients[0].multicast(ServiceType.SAFE_MESS, ["everybody"], b"while you were away")
        assert crowd.run_until(lambda: any(m.body for m in clients[1].data), 30)
        ring.daemons[2].resume()
        # The paused daemon's client still shows the three of before: until its view of the merge is
        # there, its last one is that of a join.
        assert crowd.run_until(
            lambda: all(
                len(client.members("everybody")) == 3 and client.views[-1].caused_by_network
                for client in clients
            ),
            90,
        )
        last = clients[2].views[-1]
        assert {frozenset(vs_set) for vs_set in last.vs_sets} == {
            frozenset({clients[0].private_group, clients[1].private_group}),
            frozenset({clients[2].private_group}),
        }
        assert [m.body for m in clients[2].data] == []
        assert crowd.problems == []
        assert check_clients(crowd.trace) == []
        crowd.close()


def test_every_client_gets_the_same_order_from_all_senders_at_once() -> None:
    with ring_of(3) as ring:
        crowd = Crowd()
        clients = join_everywhere(ring, crowd)
        each = 300
        for number in range(each):
            for client in clients:
                body = b"%d of %s" % (number, client.private_group.encode())
                client.multicast(ServiceType.AGREED_MESS, ["everybody"], body)
        total = each * len(clients)
        assert crowd.run_until(lambda: all(len(client.data) == total for client in clients), 90)
        first = [message.body for message in clients[0].data]
        for client in clients[1:]:
            assert [message.body for message in client.data] == first
        assert check_clients(crowd.trace) == []
        crowd.close()


@pytest.mark.parametrize(("size", "accelerated"), [(3, "false"), (5, "true")])
def test_clients_keep_every_property_through_kills_pauses_and_restarts(
    size: int, accelerated: str
) -> None:
    with ring_of(size, accelerated) as ring:
        assert Chaos(ring, seed=size, largest=140_000).play(8.0) == []
