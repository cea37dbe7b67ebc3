"""Who gets a datagram, and which received one is taken."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from membership_recordings import configuration_in, datagrams_in
from membership_world import configuration_of

from txspread.config.model import Interface, InterfaceType
from txspread.engine.node_interfaces import Channel, OneByOne
from txspread.engine.routing import ReceptionDrop, Routing, with_routed, without_routed
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId
from txspread.wire.monitor import encode_partition, encode_reload, encode_status_request
from txspread.wire.packet import PacketHeader, encode_bare, encode_packet, restamp
from txspread.wire.token import NOBODY, Token

CONFIGURATION = configuration_of((3, 1, 2))
A, B, C, D, E, F = (daemon.id for daemon in CONFIGURATION.daemons)
HASH = CONFIGURATION.hash
RING = MembershipId(A, 5)
UNKNOWN = 0x01020304


class NotedHost(OneByOne):
    def __init__(self):
        self.sent = []

    def send_datagram(self, data, address):
        self.sent.append((data, address))

    def pause_accepting(self):
        raise AssertionError

    def resume_accepting(self):
        raise AssertionError

    def wall_time(self):
        return 0

    def leave(self, reason):
        raise AssertionError(reason)


class NotedAlarms:
    def __init__(self):
        self.lines = []

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append(text % args)


def routing_of(me, members=(A, B, C, D, E, F), configuration=CONFIGURATION, **more):
    host = NotedHost()
    routing = Routing(configuration.by_id[me], configuration, host, **more)
    routing.route_by(members)
    return routing, host


def data_packet(sender=B, kind=datagram.AGREED, conf_hash=HASH, transmitter=None, byteorder="<"):
    return encode_packet(
        kind,
        transmitter or sender,
        sender,
        RING,
        7,
        3,
        conf_hash,
        [(-1, b"x" * 50)],
        byteorder=byteorder,
    )


def token(sender=B, conf_hash=HASH):
    return Token(
        type=datagram.token_type(3, 0),
        transmiter_id=sender,
        proc_id=sender,
        memb_id=RING,
        seq=0,
        aru=0,
        aru_last_id=NOBODY,
        flow_control=0,
        conf_hash=conf_hash,
        requests=(),
    )


def segment_address(number):
    segment = CONFIGURATION.segments[number]
    return segment.address, segment.port


def port_of(proc_id, more=0):
    daemon = CONFIGURATION.by_id[proc_id]
    return daemon.address, daemon.port + more


# Sending.


def test_everybody_is_first_the_other_segments_routed_then_the_own_segment():
    routing, host = routing_of(B)
    packet = data_packet(B)
    routing.send_to_all(packet)
    routed = with_routed(packet)
    assert PacketHeader.decode(routed).type == 0x80000088 | datagram.ROUTED
    assert host.sent == [
        (routed, port_of(D)),
        (routed, port_of(E)),
        (packet, segment_address(0)),
    ]


def test_a_daemon_alone_in_its_segment_by_configuration_never_broadcasts():
    routing, host = routing_of(D)
    routing.send_to_all(data_packet(D))
    routing.send_to_segment(1, data_packet(D))
    assert [to for _, to in host.sent] == [port_of(A), port_of(E)]
    assert not routing.has_broadcast


@pytest.mark.parametrize("me", [B, D])
def test_a_train_to_everybody_is_its_packets_to_everybody(me):
    packets = [
        encode_packet(kind, me, me, RING, number, 3, HASH, [(-1, b"x" * 50)])
        for number, kind in enumerate((datagram.AGREED, datagram.FIFO, datagram.AGREED))
    ]
    routing, host = routing_of(me)
    routing.send_train_to_all(bytearray().join(packets), len(packets[0]))
    single, single_host = routing_of(me)
    for packet in packets:
        single.send_to_all(packet)
    for to in {to for _, to in single_host.sent}:
        assert [data for data, other in host.sent if other == to] == [
            data for data, other in single_host.sent if other == to
        ]
    assert len(host.sent) == len(single_host.sent)


def test_a_shared_segment_is_broadcast_to_although_only_one_of_it_is_up():
    routing, host = routing_of(B, members=(B,))
    routing.send_to_all(data_packet(B))
    assert [to for _, to in host.sent] == [segment_address(0)]


def test_the_first_member_of_a_segment_gets_its_packets_not_the_first_configured():
    routing, host = routing_of(A, members=(A, F))
    routing.send_to_all(data_packet(A))
    routing.send_to_segment(2, data_packet(A))
    assert [to for _, to in host.sent] == [port_of(F), segment_address(0), port_of(F)]


def test_a_segment_without_members_gets_nothing():
    routing, host = routing_of(A, members=(A, B))
    routing.send_to_segment(2, data_packet(A))
    routing.send_to_segment(19, data_packet(A))
    assert host.sent == []


def test_unicasts_are_never_routed():
    routing, host = routing_of(A)
    routing.send_to_daemon(E, with_routed(data_packet(A)))
    assert host.sent == [(data_packet(A), port_of(E))]


def test_a_packet_that_came_routed_leaves_for_the_own_segment_without_the_bit():
    routing, host = routing_of(A)
    for order in "<>":
        packet = data_packet(A, byteorder=order)
        assert without_routed(with_routed(packet)) == packet
        routing.send_to_all(with_routed(packet))
        routing.send_to_segment(0, with_routed(packet))
        assert host.sent[-1] == host.sent[-2] == (packet, segment_address(0))


@pytest.mark.parametrize(("me", "successor"), [(A, B), (C, D), (D, E), (F, A)])
def test_a_token_goes_to_the_next_member_in_configuration_order(me, successor):
    routing, host = routing_of(me)
    routing.send_token(b"token")
    assert host.sent == [(b"token", port_of(successor, 1))]


def test_a_token_skips_daemons_that_are_no_members_and_a_lone_one_gets_its_own():
    routing, host = routing_of(B, members=(F, B))
    routing.send_token(b"1")
    routing.route_by((B,))
    routing.send_token(b"2")
    routing.send_token_to(D, b"3")
    assert host.sent == [(b"1", port_of(F, 1)), (b"2", port_of(B, 1)), (b"3", port_of(D, 1))]


def test_nothing_is_sent_to_an_unconfigured_daemon():
    alarms = NotedAlarms()
    routing, host = routing_of(A, alarms=alarms)
    routing.send_to_daemon(UNKNOWN, b"x" * 40)
    routing.send_token_to(UNKNOWN, b"x" * 40)
    assert host.sent == []
    assert routing.unsendable == 2
    assert alarms.lines == [
        f"Net_ucast: non existing proc_id {UNKNOWN}",
        f"Net_ucast_token: non existing proc_id {UNKNOWN}",
    ]


def test_recorded_data_packets_leave_for_the_addresses_that_upstream_used():
    """A ring of two broadcast segments: originators, and leaders that re-broadcast."""
    name = "routing_two_segments_startup"
    configuration = configuration_in(name)
    entries = [entry for entry in datagrams_in(name) if entry.kind == "data"]
    checked = 0
    for daemon in configuration.daemons:
        host = NotedHost()
        routing = Routing(daemon, configuration, host)
        routing.route_by([each.id for each in configuration.daemons])
        own = (configuration.segments[daemon.segment].address, daemon.port)
        seen = set()
        for entry in entries:
            header = entry.fields["header"]
            if header["proc_id"] == daemon.id and header["seq"] not in seen:
                seen.add(header["seq"])
                routing.send_to_all(without_routed(entry.data))
            elif entry.to in ((daemon.address, daemon.port), own):
                routing.receive_packet(entry.data)
        recorded = [(e.data, e.to) for e in entries if e.sender == daemon.id]
        # Two networks were captured, so the order of capture says nothing between them.
        assert sorted(host.sent) == sorted(recorded)
        checked += len(recorded)
    assert checked == len(entries)


# Receiving packets.


def test_a_good_packet_is_taken_with_its_header():
    routing, host = routing_of(A)
    header = routing.receive(data_packet(), Channel.DATA)
    assert header == PacketHeader.decode(data_packet())
    assert host.sent == []
    assert not any(routing.drops.values())


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (data_packet()[:39], ReceptionDrop.TOO_SHORT),
        (b"x", ReceptionDrop.TOO_SHORT),
        (b"\x08" + data_packet()[1:], ReceptionDrop.HALF_MARKER),
        (data_packet(conf_hash=HASH ^ 1), ReceptionDrop.FOREIGN_HASH),
        (data_packet(conf_hash=1100), ReceptionDrop.MONITOR_HASH),
        (data_packet(kind=datagram.JOIN, conf_hash=1100), ReceptionDrop.MONITOR_HASH),
        (data_packet(transmitter=UNKNOWN), ReceptionDrop.UNKNOWN_TRANSMITTER),
        (data_packet(transmitter=A), ReceptionDrop.OWN_TRANSMISSION),
        (data_packet() + b"x", ReceptionDrop.WRONG_LENGTH),
        (data_packet()[:-1], ReceptionDrop.WRONG_LENGTH),
        # The first failing check decides.
        (data_packet(transmitter=UNKNOWN, conf_hash=9), ReceptionDrop.FOREIGN_HASH),
        (data_packet(transmitter=UNKNOWN)[:-1], ReceptionDrop.UNKNOWN_TRANSMITTER),
        (data_packet(transmitter=A)[:-1], ReceptionDrop.OWN_TRANSMISSION),
    ],
)
def test_a_bad_packet_costs_a_counter(data, cause):
    routing, host = routing_of(A)
    assert routing.receive_packet(data) is None
    assert {c for c, count in routing.drops.items() if count} == {cause}
    assert host.sent == []


def test_an_empty_datagram_is_ignored():
    routing, _ = routing_of(A)
    assert routing.receive_packet(b"") is None
    assert routing.receive_token(b"") is None
    assert not any(routing.drops.values())


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_routed_packet_is_sent_on_into_the_own_segment_in_its_byte_order(order):
    routing, host = routing_of(A)
    packet = with_routed(data_packet(E, byteorder=order))
    header = routing.receive_packet(packet)
    assert not header.type & datagram.ROUTED
    assert header.byteorder == order
    ((sent, to),) = host.sent
    assert to == segment_address(0)
    assert sent == restamp(packet, 0, datagram.ROUTED, A, HASH)
    assert PacketHeader.decode(sent).transmiter_id == A
    assert PacketHeader.decode(sent).byteorder == order
    assert sent[40:] == packet[40:]
    assert routing.rebroadcast == 1


def test_a_routed_packet_is_only_taken_where_the_segment_has_no_address():
    routing, host = routing_of(D)
    header = routing.receive_packet(with_routed(data_packet(E)))
    assert not header.type & datagram.ROUTED
    assert host.sent == []


def test_a_routed_packet_that_is_dropped_is_not_sent_on():
    routing, host = routing_of(A)
    routing.receive_packet(with_routed(data_packet(E))[:-1])
    routing.receive_packet(with_routed(data_packet(E, conf_hash=3)))
    assert host.sent == []


def test_monitor_packets_pass_with_their_own_hash_and_transmitter():
    routing, _ = routing_of(A)
    routing.set_components([0, 1, 1, 1, 1, 1])
    assert routing.receive_packet(encode_status_request(B, 6543)) is not None
    assert routing.receive_packet(encode_reload(B, 6543)) is not None
    assert routing.receive_packet(encode_partition([0] * 6, B, 6543)) is not None
    assert not any(routing.drops.values())


def test_the_mark_of_a_monitor_on_another_packet_is_no_way_around_the_checks():
    routing, _ = routing_of(A)
    magic = MembershipId(datagram.MONITOR_MAGIC, 0)
    packet = encode_bare(datagram.ALIVE, UNKNOWN, B, magic, HASH)
    assert routing.receive_packet(packet) is None
    assert routing.drops[ReceptionDrop.UNKNOWN_TRANSMITTER] == 1


def test_a_daemon_is_known_by_its_interface_addresses_only():
    segment = CONFIGURATION.segments[2]
    other = Interface("10.9.9.9", 0, InterfaceType.DAEMON)
    moved = evolve(segment.daemons[0], interfaces=(other,))
    changed = evolve(
        CONFIGURATION,
        segments=(
            *CONFIGURATION.segments[:2],
            evolve(segment, daemons=(moved, segment.daemons[1])),
        ),
    )
    routing, _ = routing_of(A, members=(A,), configuration=changed)
    assert routing.receive_packet(data_packet(E)) is None
    assert routing.receive_packet(data_packet(transmitter=0x0A090909)) is not None


# Receiving tokens.


def test_a_good_token_is_taken_with_its_type():
    routing, _ = routing_of(A)
    assert routing.receive_token(token().encode()) == 0x80000080 | datagram.token_type(3, 0)
    assert routing.receive_token(token().encode(byteorder=">")) == datagram.token_type(3, 0)
    header = routing.receive(token().encode(), Channel.TOKEN)
    assert (header.transmiter_id, header.memb_id) == (B, RING)


def test_a_lone_daemon_takes_its_own_token():
    routing, _ = routing_of(A, members=(A,))
    assert routing.receive_token(token(A).encode()) is not None


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (token().encode()[:39], ReceptionDrop.TOO_SHORT),
        (b"\0" + token().encode()[1:], ReceptionDrop.HALF_MARKER),
        (token(conf_hash=HASH ^ 1).encode(), ReceptionDrop.FOREIGN_HASH),
        (token(conf_hash=1100).encode(), ReceptionDrop.FOREIGN_HASH),
        (token(UNKNOWN).encode(), ReceptionDrop.UNKNOWN_TRANSMITTER),
        (token(UNKNOWN).encode(byteorder=">"), ReceptionDrop.UNKNOWN_TRANSMITTER),
    ],
)
def test_a_bad_token_costs_a_counter(data, cause):
    routing, _ = routing_of(A)
    assert routing.receive(data, Channel.TOKEN) is None
    assert {c for c, count in routing.drops.items() if count} == {cause}


@given(data=st.binary(max_size=200), channel=st.sampled_from(Channel))
@settings(deadline=None)
def test_no_bytes_raise(data, channel):
    routing, _ = routing_of(A)
    routing.receive(data, channel)


@given(data=st.data())
@settings(deadline=None)
def test_no_damage_to_a_good_datagram_raises(data):
    routing, _ = routing_of(A)
    channel = data.draw(st.sampled_from(Channel))
    whole = bytearray(with_routed(data_packet(E)) if channel is Channel.DATA else token().encode())
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    routing.receive(bytes(whole), channel)


# Partitions and strangers.


def test_an_emulated_partition_is_for_reception_only():
    routing, host = routing_of(A)
    assert routing.set_components([7, 7, 3, 3, 3, 3])
    assert routing.receive_packet(data_packet(B)) is not None
    assert routing.receive_packet(data_packet(C)) is None
    assert routing.receive_token(token(B).encode()) is not None
    assert routing.receive_token(token(C).encode()) is None
    assert routing.drops[ReceptionDrop.OTHER_COMPONENT] == 2
    routing.send_to_all(data_packet(A))
    assert len(host.sent) == 3
    routing.clear_components()
    assert routing.receive_packet(data_packet(C)) is not None


def test_too_few_component_numbers_change_nothing():
    routing, _ = routing_of(A)
    assert not routing.set_components([1, 2, 3])
    assert routing.components == (0,) * 6


def test_an_isolated_daemon_hears_itself_alone_whatever_a_monitor_says():
    routing, _ = routing_of(A)
    routing.isolate()
    assert not routing.set_components([0] * 6)
    routing.clear_components()
    assert routing.receive_packet(data_packet(B)) is None
    assert routing.receive_token(token(A).encode()) is not None
    routing.rejoin()
    assert routing.receive_packet(data_packet(B)) is not None


def test_a_peer_with_another_hash_is_noticed_once_with_both_hashes():
    alarms = NotedAlarms()
    noticed = []
    routing, _ = routing_of(
        A, alarms=alarms, on_foreign_hash=lambda *notice: noticed.append(notice)
    )
    for _ in range(5):
        routing.receive_packet(data_packet(B, conf_hash=77))
        routing.receive_token(token(C, conf_hash=88).encode())
    assert noticed == [(B, 77, HASH), (C, 88, HASH)]
    assert len(alarms.lines) == 2
    assert "10.0.0.2" in alarms.lines[0]
    assert "77" in alarms.lines[0]
    assert str(HASH) in alarms.lines[0]
    assert routing.drops[ReceptionDrop.FOREIGN_HASH] == 10
    routing.receive_packet(data_packet(B, conf_hash=78))
    assert noticed[-1] == (B, 78, HASH)


def test_made_up_peers_cannot_fill_the_memory_or_the_log():
    alarms = NotedAlarms()
    routing, _ = routing_of(A, alarms=alarms)
    for number in range(2000):
        routing.receive_packet(data_packet(B, conf_hash=number))
    assert len(alarms.lines) <= 256
    alarms.lines.clear()
    for number in range(2000):
        routing.receive_packet(data_packet(transmitter=0x01000000 + number))
    assert len(alarms.lines) == 11
    assert alarms.lines[0] == "In_my_component: unknown proc 1.0.0.0"


# Another configuration.


def test_another_configuration_changes_hash_addresses_and_strangers_but_not_the_broadcast():
    old = configuration_of((1, 2), conf_hash=5)
    new = configuration_of((2, 2), conf_hash=6)
    me = old.daemons[0]
    host = NotedHost()
    noticed = []
    routing = Routing(me, old, host, on_foreign_hash=lambda *notice: noticed.append(notice))
    routing.route_by([daemon.id for daemon in old.daemons])
    routing.receive_packet(data_packet(old.daemons[1].id, conf_hash=6))
    routing.reconfigure(new.daemons[0], new)
    assert routing.receive_packet(data_packet(new.daemons[1].id, conf_hash=6)) is not None
    routing.receive_packet(data_packet(new.daemons[1].id, conf_hash=5))
    assert noticed == [(old.daemons[1].id, 6, 5), (new.daemons[1].id, 5, 6)]
    routing.send_to_segment(0, data_packet(me.id))
    assert host.sent == []
    assert routing.members == tuple(daemon.id for daemon in old.daemons)
