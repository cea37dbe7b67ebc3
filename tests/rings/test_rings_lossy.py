"""Rings of real processes that lose datagrams: at random, or all from one daemon."""

from __future__ import annotations

import pytest

from txspread.testing.client_checker import check_clients
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.packet_filters import FilterError, lose
from txspread.testing.processes import LOW_TIMEOUTS, DaemonProcess, DaemonRing, txspread_command
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.timeout(400)

SERVICES = (
    ServiceType.FIFO_MESS,
    ServiceType.CAUSAL_MESS,
    ServiceType.AGREED_MESS,
    ServiceType.SAFE_MESS,
)


def filtered(daemon: DaemonProcess, share: float = 0.0, daemons: tuple[str, ...] = ()) -> None:
    assert daemon.process is not None
    try:
        count = lose(daemon.process.pid, share, daemons)
    except FilterError as error:
        pytest.skip(f"cannot borrow a daemon's sockets: {error}")
    assert count >= 2


def join_everywhere(ring: DaemonRing, crowd: Crowd) -> list[LiveClient]:
    clients = [crowd.connect(daemon.address, daemon.port) for daemon in ring.daemons]
    for client in clients:
        client.join("everybody")
    assert crowd.run_until(lambda: whole(clients), 90)
    return clients


def whole(clients: list[LiveClient]) -> bool:
    return all(len(client.members("everybody")) == len(clients) for client in clients)


@pytest.mark.parametrize(("size", "accelerated"), [(3, "false"), (5, "true")])
def test_three_per_cent_loss_costs_time_and_nothing_else(size: int, accelerated: str) -> None:
    timeouts = {**LOW_TIMEOUTS, "TokenTimeout": 8000, "HurryTimeout": 100}
    options = {"AcceleratedRing": accelerated}
    with DaemonRing([txspread_command()] * size, options, timeouts) as ring:
        crowd = Crowd()
        clients = join_everywhere(ring, crowd)
        views = [len(client.views) for client in clients]
        for daemon in ring.daemons:
            filtered(daemon, share=0.03)
        count = 0
        for number in range(12):
            for client in clients:
                for length in (20, 1300, 5000):
                    body = b"%d " % count
                    client.multicast(SERVICES[number % 4], ["everybody"], body.ljust(length, b"x"))
                    count += 1
            crowd.run(0.05)
        assert crowd.run_until(lambda: all(len(c.data) == count for c in clients), 200)
        first = [message.body for message in clients[0].data]
        for client in clients[1:]:
            assert [message.body for message in client.data] == first
        assert [len(client.views) for client in clients] == views
        assert crowd.problems == []
        assert check_clients(crowd.trace) == []
        crowd.close()


@pytest.mark.parametrize("unheard", [0, 2])
def test_a_daemon_that_cannot_hear_another_leaves_no_client_with_a_wrong_story(
    unheard: int,
) -> None:
    with DaemonRing([txspread_command()] * 3) as ring:
        crowd = Crowd()
        clients = join_everywhere(ring, crowd)
        filtered(ring.daemons[1], daemons=(ring.daemons[unheard].address,))
        if unheard == 0:
            # Tokens come from it.  What the last one sends comes from the first on request.
            assert crowd.run_until(lambda: not whole(clients), 60)
        for number in range(20):
            for index, client in enumerate(clients):
                client.multicast(SERVICES[number % 4], ["everybody"], b"%d,%d" % (number, index))
            crowd.run(0.1)
        filtered(ring.daemons[1])
        assert crowd.run_until(lambda: whole(clients), 120)
        for client in clients:
            client.multicast(
                ServiceType.SAFE_MESS, ["everybody"], b"whole " + client.private_group.encode()
            )
        assert crowd.run_until(
            lambda: all(sum(m.body.startswith(b"whole ") for m in c.data) == 3 for c in clients),
            60,
        )
        assert crowd.problems == []
        assert check_clients(crowd.trace) == []
        for daemon in ring.daemons:
            assert "internal error" not in daemon.output()
        crowd.close()
