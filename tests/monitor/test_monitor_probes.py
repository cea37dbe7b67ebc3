"""Hand-made datagrams that were sent to upstream's daemon: ours does the same, safely."""

from __future__ import annotations

import json

import pytest
from monitor_bench import Alone
from recorded import VECTORS

from txspread.engine.node import Channel
from txspread.wire.monitor import decode_status_reply
from txspread.wire.packet import PacketHeader

PROBES = sorted((VECTORS / "monitor").glob("p_*.json"))
CONFIGURATION = """
AcceleratedRing = false
DangerousMonitor = {}
Spread_Segment 127.0.0.255:15520 {{
 d1 127.0.0.1 {{
  D 127.0.0.1
  C 127.0.0.1
 }}
}}
Spread_Segment 127.0.1.255:15520 {{
 d2 127.0.1.2 {{
  D 127.0.1.2
  C 127.0.1.2
 }}
}}
"""
LOGGED = (
    "Stat_handle_message",
    "FC_handle_message",
    "Net_recv: Received invalid",
    "Net_recv: ignoring",
    "Net_recv: Request",
    "Net_recv: Got monitor",
)
"""Lines worded as upstream's; the others are shown in other words, or not each time."""
SAME_WINDOWS = ("window", "personal_window", "accelerated_window")
STALE = "p_24_dangerous_fc_no_body"
"""Upstream takes what the packet before left in its buffer; here the packet is ignored,
which comes to the same."""
DENIED_BEFORE_LOOKING = ("p_66", "p_67")
"""Refused by upstream with a line, by ours without one: they are no monitor's."""


@pytest.mark.parametrize("dangerous", [True, False], ids=["dangerous", "safe"])
def test_every_probe_is_answered_or_ignored_as_recorded(dangerous):
    alone = Alone(CONFIGURATION.format("true" if dangerous else "false"), "d1")
    host, node = alone.host, alone.node
    denials = 0
    played = 0
    for path in PROBES:
        vector = json.loads(path.read_text())
        if vector["dangerous_monitor"] is not dangerous:
            continue
        played += 1
        assert node.configuration.hash == vector["daemon_conf_hash"]
        host.sent.clear()
        host.lines.clear()
        before = host.reloads
        channel = Channel.TOKEN if vector["to"].endswith(":15521") else Channel.DATA
        alone.hear(bytes.fromhex(vector["sent_hex"]), channel)

        name = vector["name"]
        answers = [
            (data, address) for data, address in host.sent if PacketHeader.decode(data).type >> 24
        ]
        if vector["reply_hex"] is None:
            assert answers == [], name
        else:
            ((data, address),) = answers
            recorded = bytes.fromhex(vector["reply_hex"])
            assert data[:40] == recorded[:40], name
            status, expected = decode_status_reply(data)[1], decode_status_reply(recorded)[1]
            assert [getattr(status, field) for field in SAME_WINDOWS] == [
                getattr(expected, field) for field in SAME_WINDOWS
            ], name
            assert (status.my_id, status.major_version, status.minor_version) == (
                expected.my_id,
                expected.major_version,
                expected.minor_version,
            )
            asked = vector["sent"]["header"]
            assert address == (asked["proc_address"], asked["seq"] & 0xFFFF), name

        recorded_reload = any("Conf_load_conf_file: using file" in x for x in vector["daemon_log"])
        assert host.reloads - before == int(recorded_reload), name
        assert bool(host.left) == (not vector["daemon_alive"]), name

        expected_lines = [line for line in vector["daemon_log"] if line.startswith(LOGGED)]
        if name == STALE:
            expected_lines = ["FC_handle_message: Illegal monitor request"]
        elif name.startswith(DENIED_BEFORE_LOOKING):
            expected_lines = []
        elif any("set partition or kill" in line for line in expected_lines):
            denials += 1
            if denials & (denials - 1):
                expected_lines = []  # only the 1st, 2nd, 4th ... is shown
        assert host.take_lines(*LOGGED) == expected_lines, name
    assert played == 35
    assert node.faults == 0
