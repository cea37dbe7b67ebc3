"""The HTTP listener: what it tells, what it refuses, what it survives."""

from __future__ import annotations

import errno
import random
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from txspread.observe import listener, snapshot
from txspread.observe.listener import MAX_CONNECTIONS, parse_address
from txspread.observe.series import COLUMNS, KEPT, Series


@pytest.fixture
def alone(observe):
    return observe(1)[0]


def in_ring(observed, size):
    """Whether it is in a ring of that size and has exchanged groups there, which follows."""

    def tell():
        status = observed.json("/status")
        return status["ring"]["members"] == size and status["daemon"]["ready"]

    return tell


def test_status_tells_of_the_ring_and_its_history(observe, eventually):
    one, two = observe(2)
    eventually(in_ring(one, 2))
    status = one.json("/status")
    assert status["daemon"]["name"] == "d1"
    assert status["daemon"]["ready"] is True
    assert status["ring"]["state"] == "OP"
    daemons = [daemon for segment in status["ring"]["segments"] for daemon in segment["daemons"]]
    assert [(d["name"], d["member"], d["leader"], d["self"]) for d in daemons] == [
        ("d1", True, True, True),
        ("d2", True, False, False),
    ]
    last = status["membership_history"][-1]
    assert last["members"] == ["d1", "d2"]
    assert last["membership_id"] == status["ring"]["membership_id"]
    assert two.json("/status")["ring"]["membership_id"] == status["ring"]["membership_id"]
    assert status["counters"]["membership_changes"] == len(status["membership_history"])


def test_status_lists_groups_and_clients_up_to_a_limit(alone, crowd, eventually):
    address = ("127.0.1.7", alone.service.me.port)
    clients = [crowd.connect(*address, name=f"c{number}") for number in range(3)]
    for number, client in enumerate(clients):
        client.join("all")
        client.join(f"own-{number}")
    assert crowd.run_until(lambda: len(clients[0].members("all")) == 3)
    status = alone.json("/status?list=2")
    assert status["groups"]["count"] == 4
    assert [group["name"] for group in status["groups"]["list"]] == ["all", "own-0"]
    assert status["groups"]["list"][0]["members"] == 3
    assert status["groups"]["list"][0]["here"] == 3
    assert status["sessions"]["count"] == 3
    assert len(status["sessions"]["list"]) == 2
    everything = alone.json("/status?list=99999999")
    assert len(everything["groups"]["list"]) == 4
    assert {one["name"] for one in everything["sessions"]["list"]} == {
        f"#c{number}#d1" for number in range(3)
    }


def test_names_of_any_bytes_are_shown():
    assert snapshot.text(b"caf\xc3\xa9") == "café"
    assert snapshot.text(b"\xff\x00<b>") == "\\xff\x00<b>"
    assert snapshot.shown("caf\udce9") == "caf\\xe9"


def test_metrics_can_be_parsed_and_agree_with_the_status(observe, crowd, eventually):
    one = observe(2)[0]
    eventually(in_ring(one, 2))
    client = crowd.connect("127.0.1.7", one.service.me.port, name="c")
    client.join("g")
    assert crowd.run_until(lambda: client.members("g") != ())
    for number in range(50):
        client.multicast(0x10, ["g"], b"%d" % number)
    assert crowd.run_until(lambda: len(client.data) == 50)
    code, headers, body = one.ask("/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["spread_up", ()] == 1
    assert samples["spread_members", ()] == 2
    assert samples["spread_sessions", ()] == 1
    assert samples["spread_groups", ()] == 1
    assert samples["spread_messages_delivered_total", ()] == 50
    assert samples["spread_leader", ()] == 1
    assert samples["spread_tokens_total", ()] > 0
    assert samples["spread_retransmissions_total", (("to", "everybody"),)] == 0
    counters = one.json("/status")["counters"]
    assert samples["spread_packets_sent_total", ()] == counters["packet_sent"]


def test_metrics_without_the_library_say_what_is_missing(monkeypatch, observe):
    monkeypatch.setattr(listener, "_find_exposition", lambda find: None)
    code, _headers, body = observe(1)[0].ask("/metrics")
    assert code == 501
    assert b"txspread[metrics]" in body


def test_health_is_alive_while_clients_are_not_served_yet(observe, eventually):
    one = observe(2, started=1)[0]
    assert one.ask("/health")[0] == 200
    eventually(lambda: one.ask("/health/ready")[0] == 200)

    def lose_the_token():
        one.node.ring.form_anew(time.monotonic(), "a test wants it")
        return snapshot.is_ready(one.node), one.node.membership_state.name

    assert one.running.call(lose_the_token) == (False, "SEG")
    assert one.ask("/health")[0] == 200
    eventually(lambda: one.ask("/health/ready")[0] == 200)


def test_a_daemon_that_does_not_run_is_unavailable(observe):
    one = observe(1)[0]
    one.running.call(one.service.stopService)
    for path in ("/status", "/series", "/health", "/health/ready"):
        assert one.ask(path)[0] == 503
    assert b"spread_up 0.0" in one.ask("/metrics")[2]


def test_peers_are_asked_while_somebody_looks(observe, eventually):
    one, two = observe(2)
    eventually(in_ring(one, 2))

    def answered():
        peers = one.json("/series")["peers"]
        return all(peers[name] is not None and peers[name]["rates"] for name in ("d1", "d2"))

    eventually(answered)
    peer = one.json("/series")["peers"]["d2"]
    assert (peer["state"], peer["members"], peer["version"]) == ("OP", 2, "4.4.0")
    two.running.call(two.service.stopService)
    eventually(lambda: one.json("/series")["peers"]["d2"] is None)


def test_samples_come_only_once(alone, eventually):
    eventually(lambda: alone.json("/series")["samples"])
    first = alone.json("/series")
    assert first["columns"] == list(COLUMNS)
    newest = first["samples"][-1][0]
    eventually(lambda: alone.json(f"/series?since={newest}")["samples"])
    assert all(sample[0] > newest for sample in alone.json(f"/series?since={newest}")["samples"])


def test_memory_of_samples_is_bounded(alone):
    series = Series()
    alone.running.call(lambda: [series.sample(alone.node) for _ in range(KEPT + 50)])
    assert len(series.since(0.0)) == KEPT


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_only_get_and_head_are_answered(alone, method):
    for path in ("/", "/status", "/metrics", "/nowhere"):
        code, headers, _body = alone.ask(path, method)
        assert code == 405
        assert headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_its_body(alone):
    for path in ("/", "/health"):
        code, headers, body = alone.ask(path, "HEAD")
        assert (code, body) == (200, b"")
        assert int(headers["Content-Length"]) == len(alone.ask(path)[2])


@pytest.mark.parametrize(
    "path", ["/status/", "/favicon.ico", "/../../etc/passwd", "/%2e%2e/", "/metrics%00"]
)
def test_other_paths_do_not_exist(alone, path):
    assert alone.ask(path)[0] in {400, 404}


@pytest.mark.parametrize(
    "query", ["list=x", "list=nan", "list=inf", "list=", "list=-1", "list=1e9"]
)
def test_odd_parameters_are_refused_or_bounded(alone, query):
    assert alone.ask(f"/status?{query}")[0] in {200, 400}


def test_a_page_from_elsewhere_cannot_be_part_of_the_page(alone):
    code, headers, body = alone.ask("/")
    assert code == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sha256-" in policy
    assert "unsafe-inline" not in policy
    for foreign in (b"http://", b"https://", b"//cdn", b"@import", b" src="):
        assert foreign not in body.replace(b"http://www.w3.org/2000/svg", b"")


def raw(port: int, data: bytes) -> bytes:
    """Send bytes, and read until the listener closes, resets or nothing more can come."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except OSError as error:
            # It may have had enough before everything was sent; a reset socket is not connected.
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
    return answer


def test_a_request_with_a_body_is_refused_before_the_body(alone):
    port = alone.status_service.port
    for head in (
        b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(head)
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
            assert connection.recv(65536) == b""
    assert alone.ask("/health")[0] == 200


def test_bad_requests_leave_the_daemon_as_it_was(alone):
    port = alone.status_service.port
    before = alone.json("/status")
    generator = random.Random(5)
    for data in (
        b"\r\n\r\n\r\n",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /status?" + b"a=b&" * 3000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"\x04\x04\x00\x01\x05alice" + bytes(90),
        *(generator.randbytes(2000) for _ in range(20)),
    ):
        raw(port, data)
    after = alone.json("/status")
    assert after["daemon"]["internal_errors"] == 0
    for part in ("configuration", "ring", "sessions", "groups", "membership_history", "drops"):
        assert after[part] == before[part]


def test_many_requests_on_one_connection_are_answered_in_turn(alone):
    with socket.create_connection(("127.0.0.1", alone.status_service.port), 30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        answer = b""
        while answer.count(b"HTTP/1.1 200 OK") < 20:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece


def ended(connection: socket.socket) -> bool:
    """Wait for the other side's end of a connection; False if it sends something."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_connections_are_bounded(alone):
    port = alone.status_service.port
    opened = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(MAX_CONNECTIONS + 6)]
    try:
        assert [ended(oldest) for oldest in opened[:6]] == [True] * 6
        opened[-1].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert opened[-1].recv(65536).startswith(b"HTTP/1.1 200 OK")
    finally:
        for one in opened:
            one.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9480", ("127.0.0.1", 9480)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        (":9480", ("", 9480)),
        ("[::1]:9480", ("::1", 9480)),
        ("host.example:1", ("host.example", 1)),
    ],
)
def test_addresses_to_listen_on(text, address):
    assert parse_address(text) == address


@given(st.text(max_size=20))
@settings(deadline=None, max_examples=60)
def test_other_addresses_are_refused(text):
    try:
        host, port = parse_address(text)
    except ValueError:
        return
    assert 0 <= port <= 65535
    assert ":" not in host or text.startswith("[")
