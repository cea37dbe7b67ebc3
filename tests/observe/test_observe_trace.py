"""Trace files: written by daemons, read, judged and drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import VECTORS

from txspread.config import parse
from txspread.engine.alarms import SilentAlarms
from txspread.engine.node_interfaces import Channel
from txspread.observe import command
from txspread.observe.sequence_chart import draw, match
from txspread.observe.trace_file import TraceFile
from txspread.observe.trace_judge import judge, judged, to_trace
from txspread.observe.trace_reader import TraceError, read_files
from txspread.observe.trace_records import describe_datagram, describe_message
from txspread.observe.trace_summary import summarise
from txspread.wire.constants import ServiceType
from txspread.wire.message import encode_message

ONE = "AcceleratedRing = false\nSpread_Segment 127.0.0.255:4803 { d1 127.0.0.1 { 127.0.0.1 } }\n"


RECORDED: list[bytes] = []
"""The traces of one run of a ring, made by the first test that needs them."""


class Lines:
    """An alarm sink that keeps lines."""

    def __init__(self):
        self.lines = []

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append(text % args)


def trace_of_one(path: Path, alarms=None, **options) -> TraceFile:
    configuration = parse(ONE)
    return TraceFile(
        str(path), configuration, configuration.by_name["d1"], alarms or SilentAlarms(), **options
    )


@pytest.fixture
def traced(request, tmp_path):
    """Traces of three daemons of one run, copied for each test."""
    if not RECORDED:
        run_a_ring(request, [str(tmp_path / f"first{number}") for number in (1, 2, 3)])
    paths = [str(tmp_path / f"d{number}.jsonl") for number in (1, 2, 3)]
    for path, content in zip(paths, RECORDED, strict=True):
        Path(path).write_bytes(content)
    return paths


def run_a_ring(request, paths):
    """Every kind of message on three daemons, of which one is left behind."""
    observe, crowd, eventually = map(request.getfixturevalue, ("observe", "crowd", "eventually"))
    daemons = observe(3, traces=paths)
    eventually(lambda: all(len(one.node.membership) == 3 for one in daemons))
    clients = [
        crowd.connect(f"127.0.{number}.7", one.service.me.port, name=f"c{number}")
        for number, one in enumerate(daemons, 1)
    ]
    for client in clients:
        client.join("g")
    assert crowd.run_until(lambda: all(len(client.members("g")) == 3 for client in clients))
    services = (
        ServiceType.RELIABLE_MESS,
        ServiceType.FIFO_MESS,
        ServiceType.AGREED_MESS,
        ServiceType.SAFE_MESS,
    )
    for number in range(40):
        for client in clients:
            # Two of each body: equal frames must not be taken for duplicates.
            client.multicast(services[number % 4], ["g"], b"%d" % (number // 8))
    assert crowd.run_until(lambda: all(len(client.data) == 120 for client in clients))
    daemons[2].running.call(daemons[2].service.stopService)
    eventually(lambda: len(daemons[0].node.membership) == 2)
    clients[0].multicast(ServiceType.SAFE_MESS, ["g"], b"last")
    assert crowd.run_until(lambda: len(clients[1].data) == 121)
    for one in daemons[:2]:
        one.running.call(one.service.stopService)
    RECORDED.extend(Path(path).read_bytes() for path in paths)


def test_traces_of_a_ring_hold_all_properties(traced):
    runs = read_files(traced)
    assert [run.stopped for run in runs] == [True] * 3
    assert "no creation" in judged(runs)
    assert judge(runs) == []
    trace = to_trace(runs)
    assert sum(len(client.sent) for client in trace.clients) == 121
    assert {len(history.events) > 120 for history in trace.daemons} == {True}


def deliveries(path: str) -> tuple[list[bytes], list[int]]:
    """The lines of a trace, and which of them are deliveries of data to be ordered."""
    lines = Path(path).read_bytes().splitlines(keepends=True)
    return lines, [
        number
        for number, line in enumerate(lines)
        if b'"kind":"message"' in line and (b'"agreed"' in line or b'"safe"' in line)
    ]


def broken(paths: list[str]) -> set[str]:
    return {breach.property for breach in judge(read_files(paths))}


def test_an_exchanged_delivery_breaks_the_order(traced):
    lines, found = deliveries(traced[0])
    first, second = found[10], found[10 + 1]
    lines[first], lines[second] = lines[second], lines[first]
    Path(traced[0]).write_bytes(b"".join(lines))
    assert "agreed order" in broken(traced)


def test_a_missing_delivery_breaks_atomicity(traced):
    lines, found = deliveries(traced[0])
    del lines[found[20]]
    Path(traced[0]).write_bytes(b"".join(lines))
    assert broken(traced) & {"failure atomicity", "safe", "FIFO"}


def test_a_repeated_delivery_is_found(traced):
    lines, found = deliveries(traced[1])
    last = found[-1]
    lines.insert(last, lines[last])
    Path(traced[1]).write_bytes(b"".join(lines))
    assert "no duplication" in broken(traced)


def test_a_delivery_that_nobody_sent_is_found(traced):
    lines, found = deliveries(traced[0])
    record = json.loads(lines[found[5]])
    record["digest"] = "0" * 16
    lines[found[5]] = json.dumps(record).encode() + b"\n"
    Path(traced[0]).write_bytes(b"".join(lines))
    assert "no creation" in broken(traced)


def test_a_membership_without_its_daemon_is_found(traced):
    lines = Path(traced[0]).read_bytes().splitlines(keepends=True)
    where = next(
        number
        for number, line in enumerate(lines)
        if b'"kind":"regular"' in line and line.count(b"127.0.3.7") == 1
    )
    record = json.loads(lines[where])
    record["members"].remove("127.0.1.7")
    lines[where] = json.dumps(record).encode() + b"\n"
    Path(traced[0]).write_bytes(b"".join(lines))
    assert {"self inclusion", "unique ids"} <= broken(traced)


def test_without_all_traces_creation_is_not_judged(traced):
    runs = read_files(traced[:2])
    assert "no creation" not in judged(runs)
    assert judge(runs) == []


def test_the_summary_names_what_happened(traced):
    text = summarise(read_files(traced))
    assert "d1 (127.0.1.7)" in text
    assert ": d1, d2, d3 (" in text
    assert ": d1, d2 (" in text
    assert "121" not in text.split("\n\n")[2]
    assert "stopped" in text
    assert "tokens: " in text
    assert "INTERNAL" not in text


def test_the_chart_matches_both_ends_of_a_datagram(traced):
    runs = read_files(traced)
    lanes = ["127.0.1.7", "127.0.2.7", "127.0.3.7"]
    inside = sorted(
        ((lanes.index(run.id), record) for run in runs for record in run.records),
        key=lambda item: item[1]["time"],
    )
    arrows = list(match(inside, lanes))
    both = [arrow for arrow in arrows if arrow.sent and arrow.received]
    # What d3 did not hear any more has one end.
    assert len(both) > 0.8 * len(arrows)
    assert all(arrow.sent[1] <= arrow.received[1] for arrow in both)
    assert all(arrow.sent[0] != arrow.received[0] for arrow in both)
    assert {arrow.what for arrow in both} >= {"token", "data", "join", "form1", "form2"}


def test_the_chart_is_a_picture_with_a_lane_for_each_daemon(traced, tmp_path, capsys):
    output = tmp_path / "chart.svg"
    assert command.main(["chart", "--membership", "-1", "-o", str(output), *traced]) == 0
    root = ElementTree.parse(output).getroot()
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]
    for name in ("d1", "d2", "d3"):
        assert texts.count(name) == 1
    assert any(text.startswith("regular ") and text.endswith(": d1 d2") for text in texts)
    assert any(text.startswith("form1") for text in texts)
    first = read_files(traced)[0].records[0]["time"]
    only = draw(read_files(traced), first, first + 30, frozenset({"token"}))
    assert "token" in only
    assert "form1:" not in only


def test_commands_have_exit_codes(traced, capsys):
    assert command.main(["summary", *traced]) == 0
    assert command.main(["judge", *traced]) == 0
    assert "holds   agreed order" in capsys.readouterr().out
    assert command.main(["chart", "--from", "00:00:00", "--to", "00:00:00", *traced]) == 2
    assert "nothing in this span" in capsys.readouterr().err
    assert command.main(["chart", "--membership", "99", *traced]) == 2
    assert command.main(["summary", "/nowhere"]) == 2
    lines, found = deliveries(traced[1])
    lines.insert(found[3], lines[found[3]])
    Path(traced[1]).write_bytes(b"".join(lines))
    assert command.main(["judge", *traced]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_a_trace_ends_at_its_limit_and_says_so(tmp_path):
    alarms = Lines()
    trace = trace_of_one(tmp_path / "t", alarms, limit=2000)
    message = encode_message(ServiceType.SAFE_MESS, b"#a#d1", [b"g"], b"x")
    for _ in range(1000):
        trace.event("message", message=message)
    trace.close()
    assert os.stat(tmp_path / "t").st_size < 2300
    run = read_files([str(tmp_path / "t")])[0]
    assert run.cut
    assert alarms.lines == [
        f"Trace: {tmp_path}/t has reached its limit of 2000 bytes; nothing more is traced"
    ]


def test_a_full_disk_ends_the_trace_and_nothing_else(monkeypatch):
    alarms = Lines()
    trace = trace_of_one(Path("/dev/full"), alarms)
    trace.event("fault", count=1)
    trace.flush()
    assert not trace.open
    trace.event("fault", count=2)
    trace.flush()
    trace.close()
    assert len(alarms.lines) == 1
    assert "No space left" in alarms.lines[0]


def test_runs_are_appended_and_a_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "t"
    for _ in range(2):
        trace = trace_of_one(path)
        trace.event("stopped")
        trace.close()
    with path.open("ab") as file:
        file.write(b'{"t":1.0,"kind":"mess')
    runs = read_files([str(path)])
    assert [(run.daemon, run.stopped, len(run.records)) for run in runs] == [("d1", True, 2)] * 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no trace\n",
        b"[]\n",
        b"1\n",
        b"{}\n",
        b'{"t":1,"kind":"message"}\n',
        b'{"t":"x","kind":"start"}\n',
        b'{"t":1,"kind":"start","format":99,"wall":1,"daemon":"a","id":"b"}\n',
        b'{"t":1,"kind":"start","format":1}\n',
    ],
)
def test_other_files_are_refused(tmp_path, content, capsys):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(TraceError):
        read_files([str(path)])
    assert command.main(["summary", str(path)]) == 2


KINDS = {"status_reply": "status", "flow_control": "fc"}


@pytest.mark.parametrize(
    "path", sorted((VECTORS / "daemon").glob("*.json")), ids=lambda path: path.stem
)
def test_recorded_datagrams_are_described_as_what_they_are(path):
    for datagram in json.loads(path.read_text())["datagrams"]:
        described = describe_datagram(bytes.fromhex(datagram["hex"]))
        assert described["what"] == KINDS.get(datagram["kind"], datagram["kind"])
        if datagram["kind"] in {"data", "token"}:
            assert described["seq"] == datagram["fields"]["header"]["seq"]


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_any_bytes_can_be_described(data):
    json.dumps(describe_datagram(data))
    json.dumps(describe_message(data))


@given(data=st.binary(max_size=100), kind=st.sampled_from(["received", "message", "submitted"]))
@settings(deadline=None, max_examples=50)
def test_any_record_can_be_written(tmp_path_factory, data, kind):
    trace = trace_of_one(tmp_path_factory.mktemp("t") / "t")
    trace.event(kind, data=data, message=data, channel=Channel.DATA)
    trace.event("unheard of", anything=object())
    trace.close()
    assert len(read_files([trace.path])[0].records) == 3
