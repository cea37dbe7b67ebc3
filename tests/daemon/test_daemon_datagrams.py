"""Datagrams through the shell: order, batches, trains, priorities."""

from __future__ import annotations

import os
import random

import pytest
from datagram_sockets import bound

from txspread.daemon import batch_receive, system_calls
from txspread.daemon.batch_receive import (
    BatchReceiver,
    DirectReceiver,
    SingleReceiver,
    make_receiver,
)
from txspread.daemon.batch_send import BatchSender
from txspread.daemon.datagrams import BATCH, DatagramReader, DatagramSocket
from txspread.daemon.service import SpreadService
from txspread.engine.node_interfaces import Channel
from txspread.wire.packet import cut_train

DATA, TOKEN = Channel.DATA, Channel.TOKEN


def everything(receiver):
    found = []
    while part := receiver.receive(many=bool(found)):
        for data, size in part:
            found += cut_train(data, size) if size else [data]
    return found


def descriptors(reader):
    return {one.channel: descriptor for descriptor, one in reader._sockets.items()}


def turn(reader):
    """What a hub does that cannot tell which sockets are readable."""
    look = 0
    while reader.receive(None, look):
        look += 1


HAS_ITS_OWN = system_calls.receive is not None
RECEIVERS = [BatchReceiver, SingleReceiver, *([DirectReceiver] if HAS_ITS_OWN else [])]


@pytest.mark.parametrize("kind", RECEIVERS)
class TestReceiving:
    def test_order_and_bytes_are_kept(self, kind, sending, receiving):
        receiver = kind(receiving)
        sent = [os.urandom(random.choice((0, 1, 40, 1472, 9000, 65000))) for _ in range(50)]
        for datagram in sent:
            sending.sendto(datagram, receiving.getsockname())
        assert everything(receiver) == sent

    def test_nothing_waits(self, kind, receiving):
        receiver = kind(receiving)
        assert receiver.receive(many=False) == []
        assert receiver.receive(many=True) == []

    def test_one_or_many_at_a_time_keep_the_order(self, kind, sending, receiving):
        receiver = kind(receiving)
        for number in range(40):
            sending.sendto(b"%d" % number, receiving.getsockname())
        found = []
        many = False
        while part := receiver.receive(many=many):
            assert many or len(part) == 1
            found += [data for data, _size in part]
            many = not many
        assert found == [b"%d" % number for number in range(40)]

    def test_trains_are_cut_as_they_were_sent(self, kind, sending, receiving):
        receiver = kind(receiving)
        sender = BatchSender(sending, [])
        sent = [os.urandom(1472) for _ in range(100)] + [os.urandom(7)]
        for datagram in sent:
            sender.send(datagram, receiving.getsockname())
        sender.flush()
        assert everything(receiver) == sent
        assert sender.calls < 10


def test_single_receiver_stands_in_where_the_library_has_no_batches(receiving, monkeypatch):
    monkeypatch.setattr(batch_receive.ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(OSError, match="recvmmsg"):
        BatchReceiver(receiving)
    expected = DirectReceiver if HAS_ITS_OWN else SingleReceiver
    assert isinstance(make_receiver(receiving), expected)


class ReadingEngine:
    prefer_tokens = False
    token_follows = True

    def __init__(self):
        self.seen = []
        self.after = {}

    def datagram(self, data, channel, now):
        self.seen.append((channel, data))
        if data == b"raise":
            raise RuntimeError("meant to")
        if data in self.after:
            self.prefer_tokens = self.after[data]

    def datagrams(self, batch, channel, now):
        for data in batch:
            self.datagram(data, channel, now)

    def train(self, train, size, channel, now):
        self.datagrams(cut_train(train, size), channel, now)


class Watching:
    """A hub that only notes what it is given."""

    def __init__(self):
        self.removed = []

    def add(self, source, *, datagrams=False):
        assert datagrams

    def remove(self, source):
        self.removed.append(source)


@pytest.fixture
def reading():
    with bound() as data, bound() as token:
        engine = ReadingEngine()
        faults = []
        reader = DatagramReader(
            Watching(),
            engine,
            [DatagramSocket(data, DATA), DatagramSocket(token, TOKEN)],
            lambda: faults.append(1),
        )
        yield engine, reader, data.getsockname(), token.getsockname(), faults


def test_trains_and_single_datagrams_reach_the_engine_in_order(reading, sending):
    engine, reader, data, _, faults = reading
    sender = BatchSender(sending, [])
    expected = []
    for number in range(6):
        for length in (3, 3, 3, 1) if number % 2 else (5,):
            expected.append(b"%d" % number * length)
            sender.send(expected[-1], data)
        sender.flush()
    sender.send_train(b"112233raise455", 5, data)
    sender.send(b"last", data)
    sender.flush()
    turn(reader)
    assert engine.seen == [
        (DATA, part) for part in [*expected, b"11223", b"3rais", b"e455", b"last"]
    ]
    assert faults == []
    assert reader.received == len(expected) + 4


def test_a_fault_in_a_train_costs_the_rest_of_it(reading, sending):
    engine, reader, data, _, faults = reading
    sender = BatchSender(sending, [])
    sender.send_train(b"first" + b"raise" + b"third", 5, data)
    sender.flush()
    sending.sendto(b"next", data)
    turn(reader)
    assert engine.seen[-1] == (DATA, b"next")
    assert faults == [1]


class TestPriority:
    def test_data_before_tokens(self, reading, sending):
        engine, reader, data, token, _ = reading
        sending.sendto(b"token", token)
        for number in range(20):
            sending.sendto(b"%d" % number, data)
        turn(reader)
        assert engine.seen == [(DATA, b"%d" % n) for n in range(20)] + [(TOKEN, b"token")]

    def test_tokens_before_data_when_the_engine_prefers_them(self, reading, sending):
        engine, reader, data, token, _ = reading
        engine.prefer_tokens = True
        engine.after = {b"token": False}
        sending.sendto(b"1", data)
        sending.sendto(b"token", token)
        turn(reader)
        turn(reader)
        assert engine.seen == [(TOKEN, b"token"), (DATA, b"1")]

    def test_data_are_read_while_the_preferred_token_has_not_come(self, reading, sending):
        engine, reader, data, _, _ = reading
        engine.prefer_tokens = True
        sending.sendto(b"1", data)
        turn(reader)
        assert engine.seen == [(DATA, b"1")]

    def test_the_preference_may_change_in_the_middle(self, reading, sending):
        engine, reader, data, token, _ = reading
        engine.after = {b"hurry up": True, b"token": False}
        sending.sendto(b"hurry up", data)
        turn(reader)
        sending.sendto(b"later", data)
        sending.sendto(b"token", token)
        turn(reader)
        turn(reader)
        assert [data for _, data in engine.seen] == [b"hurry up", b"token", b"later"]

    def test_tokens_are_read_one_at_a_time(self, reading, sending):
        engine, reader, data, token, _ = reading
        sending.sendto(b"first", token)
        sending.sendto(b"second", token)
        turn(reader)
        sending.sendto(b"data", data)
        turn(reader)
        assert [data for _, data in engine.seen] == [b"first", b"data", b"second"]

    def test_only_sockets_known_to_be_readable_are_read(self, reading, sending):
        engine, reader, data, token, _ = reading
        sending.sendto(b"data", data)
        sending.sendto(b"token", token)
        assert not reader.receive([descriptors(reader)[TOKEN]], 0)
        assert engine.seen == [(TOKEN, b"token")]
        assert not reader.receive([], 0)
        assert len(engine.seen) == 1

    def test_after_data_the_sockets_are_looked_at_again(self, reading, sending):
        engine, reader, data, token, _ = reading
        sending.sendto(b"1", data)
        sending.sendto(b"2", data)
        sending.sendto(b"token", token)
        both = [descriptors(reader)[DATA], descriptors(reader)[TOKEN]]
        assert reader.receive(both, 0)
        assert reader.receive(both, 1)
        assert [payload for _, payload in engine.seen] == [b"1", b"2"]
        assert not reader.receive(both[1:], 2)
        assert [payload for _, payload in engine.seen] == [b"1", b"2", b"token"]

    def test_but_not_after_a_single_packet_that_no_token_follows(self, reading, sending):
        engine, reader, data, _, _ = reading
        one = [descriptors(reader)[DATA]]
        sending.sendto(b"1", data)
        assert reader.receive(one, 0)
        engine.token_follows = False
        sending.sendto(b"2", data)
        assert not reader.receive(one, 0)
        for payload in (b"3", b"4", b"5"):
            sending.sendto(payload, data)
        assert reader.receive(one, 1)
        assert [payload for _, payload in engine.seen] == [b"1", b"2", b"3", b"4", b"5"]

    def test_a_flood_of_data_does_not_keep_the_token_away(self, reading, sending):
        engine, reader, data, token, _ = reading
        sending.sendto(b"token", token)
        for _ in range(3):
            for number in range(BATCH):
                sending.sendto(b"%d" % number, data)
            turn(reader)
        assert (TOKEN, b"token") in engine.seen

    def test_a_turn_is_bounded(self, reading, sending):
        engine, reader, data, _, _ = reading
        for number in range(BATCH + 200):
            sending.sendto(b"%d" % number, data)
        turn(reader)
        assert BATCH <= len(engine.seen) < BATCH + 100

    def test_a_fault_costs_one_batch_at_most(self, reading, sending):
        engine, reader, data, _, faults = reading
        for payload in (b"1", b"raise", b"2"):
            sending.sendto(payload, data)
        turn(reader)
        assert faults == [1]
        sending.sendto(b"3", data)
        turn(reader)
        assert engine.seen[-1] == (DATA, b"3")
        assert faults == [1]


def test_datagrams_reach_the_engine_of_a_running_daemon(
    ring_of, running_reactor, echo_engine, eventually, sending
):
    configuration = ring_of(2)
    service = SpreadService(
        configuration,
        "d0",
        reactor=running_reactor.reactor,
        socket_directory=None,
        engine_factory=echo_engine,
    )
    running_reactor.call(service.startService)
    engine = service.host.engine
    me = configuration.by_name["d0"]
    sending.sendto(b"raise", (me.address, me.port))
    sending.sendto(b"data", (me.address, me.port))
    sending.sendto(b"token", (me.address, me.port + 1))
    eventually(lambda: (TOKEN, b"token") in engine.calls)
    assert (DATA, b"data") in engine.calls
    assert service.host.faults == 1
    running_reactor.call(service.stopService)


def test_what_the_engine_sends_leaves_at_the_end_of_the_turn(
    ring_of, running_reactor, echo_engine, receiving
):
    service = SpreadService(
        ring_of(2),
        "d0",
        reactor=running_reactor.reactor,
        socket_directory=None,
        engine_factory=echo_engine,
    )
    running_reactor.call(service.startService)
    receiving.settimeout(20)

    def send():
        service.host.send_datagram(b"1", receiving.getsockname())
        service.host.send_datagram(b"2", receiving.getsockname())
        service.host._hub.run_soon()

    running_reactor.call(send)
    assert [receiving.recv(100), receiving.recv(100)] == [b"1", b"2"]
    running_reactor.call(service.stopService)
