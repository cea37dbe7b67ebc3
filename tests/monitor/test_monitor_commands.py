"""What monitors ask of a daemon, alone and in simulated rings."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_bench import Alone, SimulatedRing

from txspread.engine.monitor import ANSWERS, Request
from txspread.engine.node import Channel
from txspread.wire import datagram
from txspread.wire.constants import ServiceType
from txspread.wire.monitor import (
    FlowControl,
    Status,
    decode_status_reply,
    encode_flow_control,
    encode_partition,
    encode_reload,
    encode_status_request,
)

ONE = "DangerousMonitor = true\nSpread_Segment 10.0.0.255:4803 {\n a 10.0.0.1\n}\n"
THREE = (
    "DangerousMonitor = true\n"
    "AcceleratedRing = false\n"
    "Spread_Segment 10.0.0.255:4803 {\n a 10.0.0.1\n b 10.0.0.2\n}\n"
    "Spread_Segment 10.0.1.255:4803 {\n c 10.0.1.1\n}\n"
)
A = 0x0A000001
PORT = 6543
ASK = encode_status_request(A, PORT)


def status_of(ring: SimulatedRing, name: str) -> Status:
    return ring.node(name).status(ring.now)


def test_a_daemon_without_peers_answers_a_monitor():
    alone = Alone(ONE, "a")
    alone.now += 7.9
    alone.hear(ASK)
    ((reply, address),) = alone.host.sent
    assert address == ("10.0.0.1", PORT)
    status = decode_status_reply(reply)[1]
    assert (status.sec, status.state, status.gstate) == (7, 1, 1)
    assert (status.my_id, status.leader_id) == (A, A)
    assert (status.num_procs, status.num_segments, status.membership_changes) == (1, 1, 1)
    assert (status.window, status.personal_window, status.accelerated_window) == (160, 20, 15)


def test_a_daemon_without_peers_obeys_a_monitor():
    alone = Alone(ONE, "a")
    alone.hear(encode_flow_control(FlowControl(50, (-1,), (3,)), A, PORT))
    status = alone.node.status(alone.now)
    assert (status.window, status.personal_window, status.accelerated_window) == (50, 20, 3)
    alone.hear(encode_partition([4], A, PORT))
    assert alone.node.routing.components == (4,)
    alone.run(60.0)
    assert alone.node.routing.components == (0,)
    alone.hear(encode_reload(A, PORT))
    assert alone.host.reloads == 1
    alone.hear(encode_partition([-1], A, PORT))
    assert alone.host.left == ["Net_recv: Instructed to exit by monitor"]


def test_a_daemon_without_peers_hears_nobody_else():
    alone = Alone(ONE, "a")
    alone.hear(b"\x80\x01\x00\x80" + bytes(36))
    alone.hear(bytes(1472), Channel.TOKEN)
    alone.hear(b"")
    assert alone.host.sent == []
    assert alone.node.faults == 0


def test_what_needs_dangerous_monitor_is_denied_without_it():
    alone = Alone(THREE.replace("DangerousMonitor = true", ""), "a")
    alone.hear(encode_flow_control(FlowControl(50, (-1,) * 3, (3,) * 3), A, PORT))
    alone.hear(encode_partition([1, 2, 3], A, PORT))
    assert alone.node.status(alone.now).window == 160
    assert alone.node.routing.components == (0, 0, 0)
    assert len(alone.host.take_lines("FC_handle_message: Request", "Net_recv: Request")) == 2


@pytest.mark.parametrize("dangerous", ["true", "false"])
@pytest.mark.parametrize("guard", [True, False])
def test_a_guarded_reload_needs_dangerous_monitor(dangerous, guard):
    text = THREE.replace("DangerousMonitor = true", f"DangerousMonitor = {dangerous}")
    alone = Alone(text, "a", guard_reload=guard)
    for _ in range(3):
        alone.hear(encode_reload(A, PORT))
    allowed = dangerous == "true" or not guard
    assert alone.host.reloads == (3 if allowed else 0)
    lines = alone.host.take_lines("Request to reload the configuration from (10.0.0.1) denied")
    assert len(lines) == (0 if allowed else 2)


def test_a_guarded_reload_must_come_from_a_monitor():
    alone = Alone(THREE, "a", guard_reload=True)
    forged = bytearray(encode_reload(A, PORT))
    struct.pack_into("<I", forged, 8, 0x09090909)
    alone.hear(bytes(forged))
    assert alone.host.reloads == 0


def test_the_answers_of_a_second_are_limited():
    alone = Alone(THREE, "a")
    for _ in range(ANSWERS + 50):
        alone.hear(ASK)
    requests = alone.node.monitor.requests
    assert (requests[Request.ANSWERED], requests[Request.TOO_MANY]) == (ANSWERS, 50)
    alone.now += 1.0
    alone.hear(ASK)
    assert requests[Request.ANSWERED] == ANSWERS + 1


def test_an_answer_to_port_0_is_not_sent():
    alone = Alone(ONE, "a")
    alone.hear(encode_status_request(A, 65536))
    assert alone.host.sent == []


@given(
    kind=st.sampled_from([datagram.STATUS, datagram.PARTITION, datagram.FC, datagram.RELOAD]),
    body=st.binary(max_size=600),
    seq=st.integers(-(2**31), 2**31 - 1),
    mark=st.sampled_from([0x80000080, 0]),
)
@settings(max_examples=60)
def test_no_control_packet_breaks_a_daemon(kind, body, seq, mark):
    alone = Alone(THREE, "a")
    order = "<" if mark else ">"
    header = struct.pack(
        f"{order}IIIIiiiIHHHH",
        kind | mark,
        0,
        A,
        datagram.MONITOR_MAGIC,
        0,
        seq,
        0,
        1100,
        len(body),
        0,
        0,
        0,
    )
    alone.hear(header + body)
    assert alone.node.faults == 0


def test_a_report_counts_what_happens_on_a_ring():
    ring = SimulatedRing(THREE)
    ring.run(5.0)
    ring.connect("a", "b", "c")
    ring.run(1.0)
    for _ in range(10):
        ring.say("a", "b", "c")
        ring.say("c", service=ServiceType.SAFE_MESS)
    ring.run(2.0)
    statuses = {name: status_of(ring, name) for name in ("a", "b", "c")}
    for name, status in statuses.items():
        assert status.state == status.gstate == 1
        assert status.leader_id == A
        assert (status.num_procs, status.num_segments) == (3, 2)
        assert status.message_delivered == 40
        assert (status.num_sessions, status.num_groups) == (1, 1)
        assert status.aru == status.my_aru == status.highest_seq > 0
        assert status.token_rounds > 10
        assert status.membership_changes == len(ring.node(name).history.changes)
        assert status.sec == 8
    sent = sum(status.packet_sent for status in statuses.values())
    for status in statuses.values():
        assert status.packet_sent + status.packet_recv == sent
        assert status.packet_delivered == sent


def test_a_report_before_the_first_ring_has_no_leader():
    alone = Alone(THREE, "a")
    status = alone.node.status(alone.now)
    assert (status.state, status.leader_id, status.num_procs, status.num_segments) == (2, 0, 0, 0)


def command_all(ring: SimulatedRing, data: bytes) -> None:
    for daemon in ring.network.daemons.values():
        daemon.arrive(data, Channel.DATA)


def test_a_partition_splits_a_ring_and_is_forgotten_after_a_minute():
    ring = SimulatedRing(THREE)
    ring.run(5.0)
    ring.connect("a", "b", "c")
    ring.run(1.0)
    command_all(ring, encode_partition([1, 1, 2], A, PORT))
    ring.run(6.0)
    assert ring.rings() == {("a", "b"), ("c",)}
    assert ring.views("a")[-1] == (b"#ca#a", b"#cb#b")
    ring.run(60.0 + 31.0 + 5.0)
    assert ring.rings() == {("a", "b", "c")}
    assert ring.views("c")[-1] == (b"#ca#a", b"#cb#b", b"#cc#c")
    ring.say("a")
    ring.run(1.0)
    assert all(ring.bodies(name) == [b"a 1"] for name in "abc")


def test_a_partition_that_is_cancelled_heals_at_the_next_search():
    ring = SimulatedRing(THREE)
    ring.run(5.0)
    command_all(ring, encode_partition([1, 2, 3], A, PORT))
    ring.run(6.0)
    assert ring.rings() == {("a",), ("b",), ("c",)}
    command_all(ring, encode_partition([0, 0, 0], A, PORT))
    ring.run(40.0)
    assert ring.rings() == {("a", "b", "c")}


def test_windows_of_zero_stop_a_ring_until_they_are_raised():
    ring = SimulatedRing(THREE)
    ring.run(5.0)
    ring.connect("a", "b")
    ring.run(1.0)
    command_all(ring, encode_flow_control(FlowControl(0, (0,) * 3, (0,) * 3), A, PORT))
    ring.say("a")
    ring.run(3.0)
    assert ring.bodies("b") == []
    command_all(ring, encode_flow_control(FlowControl(160, (20,) * 3, (15,) * 3), A, PORT))
    ring.run(3.0)
    assert ring.bodies("b") == [b"a 1"]


def test_a_killed_daemon_leaves_the_others_with_a_new_ring():
    ring = SimulatedRing(THREE)
    ring.run(5.0)
    ring.network.daemons["b"].arrive(encode_partition([0, -1, 0], A, PORT), Channel.DATA)
    ring.run(5.0)
    assert ring.network.daemons["b"].left == "Net_recv: Instructed to exit by monitor"
    assert ring.rings() == {("a", "c")}
