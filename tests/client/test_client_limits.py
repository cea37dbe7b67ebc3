"""Limits and odd input of the parts below the connections."""

import subprocess
import sys

import pytest

from txspread.client import (
    ConnectionClosed,
    IllegalGroup,
    IllegalMessage,
    IllegalService,
    MessageTooLong,
    endpoint_for,
)
from txspread.client.authentication import NullMethod
from txspread.client.errors import IllegalSession, IllegalSpread, WouldBlock, error_for
from txspread.client.flush_session import FlushSession
from txspread.client.handshake import Handshake
from txspread.client.inbox import Inbox
from txspread.client.liveness import PROBE_BODY, Liveness
from txspread.client.messages import DataMessage, SelfLeave, joined_body, message_size
from txspread.client.outbox import Outbox
from txspread.client.protocol import ClientSession
from txspread.client.requests import RequestEncoder
from txspread.wire.constants import ServiceType, SpreadCode


def data(body=b"", mess_type=0, groups=("g",), sender="#me#d", service=4, order="<"):
    return DataMessage(ServiceType(service), sender, groups, mess_type, order, body)


@pytest.mark.parametrize(
    ("error", "service", "groups", "size", "mess_type"),
    [
        (IllegalService, 0, "g", 0, 0),
        (IllegalService, 3, "g", 0, 0),
        (IllegalService, 0x410000, "g", 0, 0),
        (IllegalService, 0x80000084, "g", 0, 0),
        (IllegalGroup, 4, "x" * 32, 0, 0),
        (IllegalGroup, 4, b"a\0b", 0, 0),
        (IllegalGroup, 4, [""], 0, 0),
        (IllegalGroup, 4, ["g"] * 44, 0, 0),
        (MessageTooLong, 4, "g", 143120, 0),
        (MessageTooLong, 4, ["g"] * 43, 143119 - 42 * 32 + 1, 0),
        (IllegalMessage, 4, "g", 0, -32769),
    ],
)
def test_what_a_daemon_would_refuse_is_refused(error, service, groups, size, mess_type):
    with pytest.raises(error):
        RequestEncoder(b"#me#d").multicast(service, groups, bytes(size), mess_type)


def test_the_limits_are_inclusive():
    encoder = RequestEncoder(b"#me#d", max_groups=100, max_total=143200)
    assert len(encoder.multicast(4, ["g"] * 100, bytes(143200 - 48 - 3200), 32767)) == 143200
    assert len(encoder.multicast(0x7F000044, "x" * 31, b"", -32768)) == 80
    for options in ({"max_groups": 101}, {"max_groups": 0}, {"max_total": 143201}):
        with pytest.raises(ValueError, match="max_"):
            RequestEncoder(b"#me#d", **options)


def test_the_cache_of_target_names_is_bounded():
    encoder = RequestEncoder(b"#me#d")
    for number in range(3000):
        encoder.multicast(4, f"group{number}", b"")
    assert len(encoder._groups) <= 1000


def test_a_session_that_is_not_open_sends_nothing():
    session = ClientSession("me")
    with pytest.raises(IllegalSession, match="handshake"):
        session.join("g")
    session.lost()
    with pytest.raises(IllegalSession, match="closed"):
        session.join("g")
    assert session.receive(b"whatever") == []


def test_a_handshake_takes_up_to_three_methods_with_short_names():
    class Odd(NullMethod):
        name = "x" * 30

    with pytest.raises(ValueError, match="at most 3"):
        Handshake(methods=[NullMethod()] * 4)
    with pytest.raises(ValueError, match="29 bytes"):
        Handshake(methods=[Odd()])


def test_an_unknown_code_is_no_daemons():
    problem = error_for(-99)
    assert isinstance(problem, ConnectionClosed)
    assert "-99" in str(problem)
    assert "NET_ERROR_ON_SESSION (-18)" in str(error_for(-18))
    assert str(error_for(-27, "why")) == "ILLEGAL_STATE (-27) [why]"
    again = problem.again()
    assert (again.code, again.detail) == (problem.code, problem.detail)


def test_an_inbox_is_full_at_its_limit_and_open_again_at_half():
    inbox = Inbox(400)
    inbox.put([data(b"x" * 20)] * 3)
    assert (inbox.size, inbox.full) == (300, False)
    inbox.put([data(b"x" * 20)])
    assert inbox.full
    for _ in range(2):
        inbox.take()
        assert inbox.full
    inbox.take()
    assert not inbox.full
    with pytest.raises(ValueError, match="limit"):
        Inbox(0)


def test_a_body_is_bytes_or_buffers():
    assert joined_body([b"a", b"b"]) == b"ab"
    assert joined_body(bytearray(b"ab")) == joined_body(memoryview(b"ab")) == b"ab"
    assert message_size(SelfLeave(ServiceType(0x200), "g")) == 60


def test_an_outbox_refuses_at_its_limit_and_a_second_producer():
    class Reactor:
        def callLater(self, delay, call):
            return None

    outbox = Outbox(Reactor(), 10)
    outbox.put(b"x" * 10)
    with pytest.raises(WouldBlock, match="limit is 10"):
        outbox.put(b"y")
    outbox.put(b"urgent", force=True)
    outbox.register(object(), True)
    with pytest.raises(RuntimeError):
        outbox.register(object(), True)
    outbox.unregister()
    assert outbox.end(IllegalSession(SpreadCode.ILLEGAL_SESSION)) == b"x" * 10 + b"urgent"
    stopped = []

    class Producer:
        def stopProducing(self):
            stopped.append(self)

    producer = Producer()
    outbox.register(producer, True)
    assert stopped == [producer]
    with pytest.raises(ValueError, match="limit"):
        Outbox(Reactor(), 0)


def test_a_probe_is_asked_for_before_a_daemon_is_judged():
    liveness = Liveness(10, "#me#d", now=0)
    assert not liveness.due(4.9)
    assert liveness.next_check(4) == 1
    # The program itself was stopped for long.
    assert not liveness.dead(100)
    assert liveness.due(100)
    assert not liveness.due(101)
    assert not liveness.dead(104.9)
    assert liveness.dead(105)
    liveness.heard(104)
    assert not liveness.dead(200)
    echo = data(PROBE_BODY, groups=("#me#d",))
    other = data(PROBE_BODY, groups=("g",))
    assert liveness.without_echo([other, echo, echo]) == [other, echo]
    assert not liveness.probing
    with pytest.raises(ValueError, match="positive"):
        Liveness(0, "#me#d", 0)


@pytest.mark.parametrize(
    "message",
    [
        data(b"short", -32768),
        data(b"short", -32767),
        data(b"x" * 13, -32766),
        data(b"too short for a name", 0, service=0x40000004),
        data(b"x" * 12 + b"\0" * 20, -32768, service=0x40000004),
        data(b"x", groups=()),
        data(b"x", groups=("unknown",)),
        data(b"x" * 12, -32768, groups=("unknown",)),
    ],
)
def test_the_flush_layer_drops_what_it_cannot_read(message):
    session = FlushSession("#me#d")
    session.receive(message)
    assert not session.events
    assert not session.outgoing


def test_endpoints_of_other_kinds_are_twisteds():
    from twisted.internet import reactor

    assert type(endpoint_for(reactor, "unix:/x")).__name__ == "UNIXClientEndpoint"
    with pytest.raises(IllegalSpread):
        endpoint_for(reactor, "nosuchkind:x")


def test_the_lazy_names_of_the_package_exist():
    import txspread.client

    for name in txspread.client.__all__:
        assert getattr(txspread.client, name) is not None
    with pytest.raises(AttributeError, match="nosuchname"):
        txspread.client.nosuchname  # noqa: B018


ON_ASYNCIO = """
import asyncio, sys
from twisted.internet import asyncioreactor
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)
from twisted.internet import reactor, task
from txspread.client import AGREED_MESS, connect

async def main(reactor):
    connection = await connect(sys.argv[1], "onaio", membership=False)
    connection.multicast(AGREED_MESS, connection.private_group, b"hello")
    async for message in connection:
        print(message.body)
        connection.disconnect()

task.react(main)
"""

pytest_plugins = ["client_fixtures"]


def test_twisted_connections_work_on_the_asyncio_reactor(daemon):
    done = subprocess.run(
        [sys.executable, "-c", ON_ASYNCIO, daemon.tcp], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"b'hello'\n"
