"""txspsend and txsprecv against the recorded runs of upstream's."""

import socket
import struct

import pytest
from tool_sessions import Tool, outputs, recorded_session, replay

from txspread.tools.udp_loss import LossCounter, decode, encode


@pytest.mark.parametrize("name", ["spsend_usage", "sprecv_usage"])
def test_usage(name):
    replay(name.partition("_")[0], name, "")


@pytest.fixture
def port():
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_run_is_sent_and_counted_as_it_was_recorded(port):
    sent, received = recorded_session("spsend_session"), recorded_session("sprecv_session")
    expected = outputs(received).replace("15560", str(port))
    with Tool("sprecv", ["-p", str(port), "-i", "127.0.0.1", "-d"]) as receiver:
        receiver.wait_for("Ready to receive")
        words = [word.replace("15560", str(port)) for word in sent["argv"]]
        with Tool("spsend", words) as sender:
            assert sender.finish() == 0
            lines = sender.printed.splitlines()
            recorded_lines = outputs(sent).replace("15560", str(port)).splitlines()
            assert lines[:3] == recorded_lines[:3]
            assert lines[3].startswith("total time is (")
            assert lines[3].endswith("), with 0 problems ")
        receiver.wait_for("total packets 2000")
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            for count in (1, 2, 5, 6):
                sock.send(encode(count, 100))
            sock.send(encode(7, 100)[:50])
            sock.send(struct.pack(">Iii", 0, 8, 100).ljust(100, b"\0"))
            sock.send(encode(3, 100))
            sock.send(encode(9, 100, last=True))
        receiver.wait_for("total packets 9")
        receiver.wait_for("total missed 9, total corrupted 0\n-------\n")
        assert receiver.printed == expected


def test_a_datagram_is_read_back():
    assert decode(encode(7, 64)) == (0, 7, 64)
    assert decode(encode(8, 64, last=True)) == (1, 8, 64)


def test_garbage_counts_as_damaged():
    counter = LossCounter(detailed=False)
    assert counter.datagram(b"xyz").startswith("Corruption: ")
    assert counter.datagram(b"").count("Corruption") == 0
