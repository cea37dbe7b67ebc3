"""Daemons on the virtual network: what hosts and networks do to them, and large rings."""

from __future__ import annotations

import pytest

from txspread.engine.node_interfaces import Channel
from txspread.testing.plan import Plan, configuration_for
from txspread.testing.recorder import Recorder
from txspread.testing.scenario import settling_bound
from txspread.testing.snares import Snare, Snares, kind_of
from txspread.testing.virtual_client import VirtualClient
from txspread.testing.virtual_network import Faults, VirtualDaemon, VirtualNetwork
from txspread.wire.constants import ServiceType


def network_of(daemons: int, segments: int, seed: int = 1, **options: bool) -> VirtualNetwork:
    """Daemons that have not been started."""
    plan = Plan(daemons=daemons, segments=segments, **options)  # type: ignore[arg-type]
    return VirtualNetwork(configuration_for(plan), seed)


def in_one_ring(network: VirtualNetwork, names: list[str] | None = None) -> bool:
    """Whether the named daemons (all, if None) are one ring."""
    chosen = list(network.daemons) if names is None else names
    nodes = [network.daemons[name].node for name in chosen]
    return all(
        node is not None
        and node.membership_state.name == "OP"
        and len(node.membership) == len(chosen)
        for node in nodes
    )


def settle(network: VirtualNetwork, names: list[str] | None = None) -> None:
    """Run until they are."""
    bound = settling_bound(network)
    assert network.clock.run_while(lambda: not in_one_ring(network, names), bound)


def clients_of(network: VirtualNetwork, recorder: Recorder, group: bytes) -> list[VirtualClient]:
    """One client of each running daemon, all in one group."""
    clients = [
        recorder.connect(daemon, b"c%d" % number)
        for number, daemon in enumerate(network.daemons.values())
        if daemon.running
    ]
    assert network.clock.run_while(lambda: not all(c.private_group for c in clients), 5)
    for client in clients:
        client.join(group)
    count = len(clients)
    assert network.clock.run_while(lambda: not all(recorder.sees(c, count) for c in clients), 30)
    return clients


@pytest.mark.parametrize("segments", [1, 4, 20])
def test_twenty_daemons_form_a_ring_and_order_messages(segments: int) -> None:
    network = network_of(20, segments)
    recorder = Recorder(network)
    network.start()
    settle(network)
    clients = clients_of(network, recorder, b"g")
    bodies = [b"%d" % number for number in range(20)]
    for client, body in zip(clients, bodies, strict=True):
        recorder.multicast(client, ServiceType.AGREED_MESS, [b"g"], body)

    def texts(client: VirtualClient) -> list[bytes]:
        return [r.body for r in client.received if not r.is_membership]

    assert network.clock.run_while(lambda: any(len(texts(c)) < 20 for c in clients), 10)
    assert len({tuple(texts(client)) for client in clients}) == 1


def test_sixty_of_a_hundred_and_twenty_eight_daemons_form_a_ring() -> None:
    # More than 20 fresh rings do not fit into one FORM token, so it takes several attempts.
    network = network_of(128, 16, low_timeouts=False)
    names = list(network.daemons)[:60]
    network.start(names)
    settle(network, names)
    one = network.daemons[names[0]].node
    assert one is not None
    assert one.membership == tuple(network.daemons[name].daemon.id for name in names)


def test_loss_of_three_percent_costs_no_membership() -> None:
    network = network_of(5, 5)
    recorder = Recorder(network)
    network.start()
    settle(network)
    clients = clients_of(network, recorder, b"g")
    changes = [
        daemon.node.ring.membership.membership_changes
        for daemon in network.daemons.values()
        if daemon.node is not None and daemon.node.ring is not None
    ]
    network.faults = Faults(loss=0.03, reordering=0.05)
    sent = 0
    for _ in range(40):
        for client in clients:
            recorder.multicast(client, ServiceType.SAFE_MESS, [b"g"], b"%d" % sent)
            sent += 1
        network.clock.run_until(network.clock.now + 0.05)

    def counts() -> set[int]:
        return {sum(not r.is_membership for r in client.received) for client in clients}

    assert network.clock.run_while(lambda: counts() != {sent}, 20)
    assert changes == [
        daemon.node.ring.membership.membership_changes
        for daemon in network.daemons.values()
        if daemon.node is not None and daemon.node.ring is not None
    ]


def test_a_short_pause_goes_unnoticed_and_a_long_one_costs_the_membership() -> None:
    network = network_of(3, 1)
    network.start()
    settle(network)
    paused = network.daemons["d2"]
    paused.pause()
    network.clock.run_until(network.clock.now + 0.2)
    paused.resume()
    network.clock.run_until(network.clock.now + 1)
    assert in_one_ring(network)
    paused.pause()
    assert network.clock.run_while(lambda: not in_one_ring(network, ["d1", "d3"]), 3)
    paused.resume()
    settle(network)


def test_a_daemon_that_dies_between_two_datagrams_sends_no_more() -> None:
    network = network_of(3, 3)
    sent: list[str] = []
    network.start()
    settle(network)

    def note(sender: VirtualDaemon, receiver: VirtualDaemon, data: bytes, channel: Channel) -> bool:
        sent.append(sender.daemon.name)
        return True

    network.tap = note
    victim = network.daemons["d1"]
    victim.dies_after = 2
    network.clock.run_until(network.clock.now + 1)
    assert not victim.running
    assert sent.count("d1") == 2


def test_the_death_of_a_daemon_ends_its_clients() -> None:
    network = network_of(2, 2)
    recorder = Recorder(network)
    network.start()
    settle(network)
    clients = clients_of(network, recorder, b"g")
    network.daemons["d1"].crash()
    assert [client.closed for client in clients] == [True, False]
    assert network.clock.run_while(lambda: not recorder.sees(clients[1], 1), 5)
    assert recorder.problems == []


def test_a_client_that_reads_nothing_is_cut_off_and_disturbs_nobody() -> None:
    plan = Plan(daemons=2, segments=2, queue=20)
    network = VirtualNetwork(configuration_for(plan), 1)
    recorder = Recorder(network)
    network.start()
    settle(network)
    lazy, busy = clients_of(network, recorder, b"g")
    recorder.stop_reading(lazy)
    for number in range(50):
        recorder.multicast(busy, ServiceType.AGREED_MESS, [b"g"], b"%d" % number)
    assert network.clock.run_while(lambda: not lazy.closed, 5)
    assert network.clock.run_while(lambda: not recorder.sees(busy, 1), 5)
    assert sum(not r.is_membership for r in busy.received) == 50
    assert recorder.problems == []


def test_a_snare_takes_the_datagrams_it_waits_for_and_no_others() -> None:
    network = network_of(3, 3)
    snares = Snares(network)
    caught: list[float] = []
    snares.lay(Snare("form2", 2, sender="d1", action=lambda: caught.append(network.clock.now)))
    network.start()
    settle(network)
    assert len(caught) == 1
    assert network.dropped == 2
    # Both copies of one FORM2 are gone: the first attempt has failed.
    assert network.clock.now > 0.9
    assert network.tap is None


def test_what_a_snare_keeps_arrives_when_it_is_released() -> None:
    network = network_of(2, 2)
    snares = Snares(network)
    network.start()
    settle(network)
    snares.lay(Snare("token", 1, receiver="d2", keeps=True))
    network.clock.run_until(network.clock.now + 0.2)
    node = network.daemons["d2"].node
    assert node is not None
    assert node.ring is not None
    before = node.ring.ring.counters.tokens_accepted + node.ring.ring.counters.stale_tokens
    snares.release()
    after = node.ring.ring.counters.tokens_accepted + node.ring.ring.counters.stale_tokens
    assert after == before + 1


@pytest.mark.parametrize(
    ("word", "channel", "kind"),
    [
        (0x80001080, Channel.TOKEN, "form1"),
        (0x80002080, Channel.TOKEN, "form2"),
        (0x80030080, Channel.TOKEN, "token"),
        (0x80000180, Channel.DATA, "alive"),
        (0x80000280, Channel.DATA, "join"),
        (0x80000480, Channel.DATA, "refer"),
        (0x800000C0, Channel.DATA, "hurry"),
        (0x80000088, Channel.DATA, "data"),
        (0x82000080, Channel.DATA, "other"),
    ],
)
def test_datagrams_have_kinds(word: int, channel: Channel, kind: str) -> None:
    assert kind_of(word.to_bytes(4, "little"), channel) == kind
