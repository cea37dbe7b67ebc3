"""Datagrams through the shell: order, batches, trains, priorities."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
from collections import Counter

import pytest

from txspread.daemon import batch_receive, system_calls
from txspread.daemon.batch_receive import (
    BatchReceiver,
    DirectReceiver,
    SingleReceiver,
    make_receiver,
)
from txspread.daemon.batch_send import MAX_TRAIN, BatchSender
from txspread.daemon.datagrams import BATCH, DatagramReader, DatagramSocket
from txspread.daemon.service import SpreadService
from txspread.daemon.sockets import open_sending_socket
from txspread.engine.node_interfaces import Channel
from txspread.wire.packet import cut_train

DATA, TOKEN = Channel.DATA, Channel.TOKEN


def bound():
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.setblocking(False)
    return opened


@pytest.fixture
def sending():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        yield opened


@pytest.fixture
def receiving():
    with bound() as opened:
        yield opened


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


class RecordingSocket:
    """A sending socket that keeps what it is given, and fails on demand."""

    def __init__(self):
        self.sent = []
        self.failures = []
        self.train_error = None

    def fileno(self):
        return -1

    def sendto(self, data, address):
        self._fail()
        self.sent.append(([data], address))
        return len(data)

    def sendmsg(self, buffers, control, flags, address):
        if self.train_error is not None:
            raise OSError(self.train_error, "meant to")
        self._fail()
        self.sent.append((list(buffers), address))
        return sum(map(len, buffers))

    def _fail(self):
        if self.failures:
            raise OSError(self.failures.pop(0), "meant to")

    def flat(self):
        return [(data, address) for group, address in self.sent for data in group]


A, B, SUCCESSOR = ("127.0.0.1", 1), ("127.0.0.2", 1), ("127.0.0.2", 2)


@pytest.fixture
def recording():
    return RecordingSocket()


@pytest.fixture
def sender(recording):
    return BatchSender(recording, [SUCCESSOR])


class TestSending:
    def test_data_wait_for_the_flush(self, sender, recording):
        sender.send(b"1", A)
        assert recording.sent == []
        sender.flush()
        assert recording.sent == [([b"1"], A)]
        sender.flush()
        assert len(recording.sent) == 1

    def test_a_token_leaves_at_once_behind_all_data(self, sender, recording):
        for number in range(3):
            sender.send(b"%d" % number, A)
            sender.send(b"%d" % number, B)
        sender.send(b"token", SUCCESSOR)
        assert recording.sent == [
            ([b"0", b"1", b"2"], A),
            ([b"0", b"1", b"2"], B),
            ([b"token"], SUCCESSOR),
        ]

    def test_data_for_the_successor_leave_right_before_its_token(self, sender, recording):
        successor = (SUCCESSOR[0], SUCCESSOR[1] - 1)
        assert successor == B
        sender.send(b"1", B)
        sender.send(b"1", A)
        sender.send(b"token", SUCCESSOR)
        assert recording.sent == [([b"1"], A), ([b"1"], B), ([b"token"], SUCCESSOR)]

    def test_data_after_a_token_stay_after_it(self, sender, recording):
        sender.send(b"1", A)
        sender.send(b"token", SUCCESSOR)
        sender.send(b"2", A)
        sender.send(b"token", SUCCESSOR)
        assert [data for data, _ in recording.flat()] == [b"1", b"token", b"2", b"token"]

    def test_order_to_each_destination_is_kept_for_any_lengths(self, sender, recording):
        dice = random.Random(5)
        sent = [
            (dice.randbytes(dice.choice((1, 100, 100, 1472))), dice.choice((A, B)))
            for _ in range(200)
        ]
        for data, address in sent:
            sender.send(data, address)
        sender.flush()
        for destination in (A, B):
            expected = [data for data, address in sent if address == destination]
            assert [d for d, address in recording.flat() if address == destination] == expected

    def test_only_the_last_of_a_train_is_shorter(self, sender, recording):
        for size in (10, 10, 5, 10, 12, 12, 12, 3, 3):
            sender.send(bytes(size), A)
        sender.flush()
        assert [[len(data) for data in group] for group, _ in recording.sent] == [
            [10, 10, 5],
            [10],
            [12, 12, 12, 3],
            [3],
        ]

    def test_trains_are_bounded(self, sender, recording):
        for _ in range(100):
            sender.send(bytes(1472), A)
        sender.flush()
        assert [len(group) for group, _ in recording.sent] == [MAX_TRAIN, MAX_TRAIN, 12]

    def test_large_datagrams_make_short_trains(self, sender, recording):
        for _ in range(4):
            sender.send(bytes(30_000), A)
        sender.flush()
        assert [len(group) for group, _ in recording.sent] == [2, 2]

    def test_a_train_that_comes_as_one_leaves_as_one_in_its_place(self, sender, recording):
        sender.send(b"1", A)
        sender.send(b"2", A)
        sender.send_train(b"333444555", 3, A)
        sender.send_train(b"6677", 2, B)
        sender.send(b"8", A)
        sender.send(b"token", SUCCESSOR)
        assert recording.sent == [
            ([b"1", b"2"], A),
            ([b"333444555"], A),
            ([b"8"], A),
            ([b"6677"], B),
            ([b"token"], SUCCESSOR),
        ]

    def test_a_long_train_is_divided(self, sender, recording):
        packets = [b"%04d" % number for number in range(100)]
        sender.send_train(b"".join(packets), 4, A)
        sender.flush()
        parts = [b"".join(group) for group, _ in recording.sent]
        assert b"".join(parts) == b"".join(packets)
        assert [len(part) // 4 for part in parts] == [MAX_TRAIN, MAX_TRAIN, 12]

    def test_a_train_is_cut_where_none_are_taken(self, sender, recording):
        recording.train_error = errno.EIO
        sender.send_train(b"112233", 2, A)
        sender.send_train(b"44556", 2, A)
        sender.flush()
        assert recording.sent == [([part], A) for part in (b"11", b"22", b"33", b"44", b"55", b"6")]

    def test_a_train_for_the_token_port_leaves_at_once(self, sender, recording):
        sender.send_train(b"1122", 2, SUCCESSOR)
        assert recording.sent == [([b"11"], SUCCESSOR), ([b"22"], SUCCESSOR)]

    def test_the_collection_is_bounded(self, sender, recording):
        for number in range(1000):
            sender.send(b"%04d" % number, A)
        assert len(recording.flat()) >= 700
        sender.flush()
        assert [data for data, _ in recording.flat()] == [b"%04d" % n for n in range(1000)]

    @pytest.mark.parametrize("code", [errno.EMSGSIZE, errno.EIO, errno.EINVAL])
    def test_a_path_that_takes_no_trains_gets_single_datagrams(self, sender, recording, code):
        recording.train_error = code
        for number in range(5):
            sender.send(b"%d" % number, A)
        sender.flush()
        assert recording.sent == [([b"%d" % number], A) for number in range(5)]
        calls = sender.calls
        sender.send(b"x", A)
        sender.send(b"y", A)
        sender.flush()
        assert sender.calls == calls + 2, "a train is not tried again"

    def test_a_failed_datagram_is_tried_once_more(self, sender, recording):
        recording.failures = [errno.ECONNREFUSED]
        sender.send(b"token", SUCCESSOR)
        assert recording.sent == [([b"token"], SUCCESSOR)]
        assert sender.failures == Counter()

    def test_then_it_is_given_up_and_counted(self, sender, recording):
        recording.failures = [errno.ENETUNREACH, errno.ENETUNREACH]
        sender.send(b"token", SUCCESSOR)
        sender.send(b"next", SUCCESSOR)
        assert recording.sent == [([b"next"], SUCCESSOR)]
        assert sender.failures == Counter({errno.ENETUNREACH: 1})

    def test_token_addresses_can_change(self, sender, recording):
        sender.token_addresses([A])
        sender.send(b"token", A)
        assert recording.sent == [([b"token"], A)]


class Connecting:
    """A factory of sending sockets that keeps what it has opened."""

    def __init__(self):
        self.opened = []

    def __call__(self):
        self.opened.append(open_sending_socket())
        return self.opened[-1]

    @property
    def peers(self):
        return [one.getpeername() for one in self.opened if one.fileno() >= 0]


@pytest.fixture
def connecting():
    factory = Connecting()
    yield factory
    for one in factory.opened:
        one.close()


class TestConnectedSockets:
    @pytest.fixture
    def peer(self):
        """The data and the token socket of a daemon, at neighbouring ports."""
        with contextlib.ExitStack() as stack:
            while True:
                data = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                token = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                data.bind(("127.0.0.1", 0))
                with contextlib.suppress(OSError):
                    token.bind(("127.0.0.1", data.getsockname()[1] + 1))
                    break
            for one in (data, token):
                one.settimeout(30)
            yield data, token

    @pytest.fixture
    def connected(self, sending, peer, connecting):
        _data, token = peer
        sender = BatchSender(sending, [token.getsockname()], open_socket=connecting)
        yield sender
        sender.close()

    def test_a_daemon_has_one_for_data_and_one_for_tokens(self, connected, peer, connecting):
        data, token = peer
        for number in range(3):
            for _ in range(4):
                connected.send(b"%d" % number, data.getsockname())
            connected.send(b"token %d" % number, token.getsockname())
            assert token.recv(100) == b"token %d" % number
            assert [data.recv(100) for _ in range(4)] == [b"%d" % number] * 4
        assert sorted(connecting.peers) == sorted(one.getsockname() for one in peer)
        assert connected.failures == Counter()

    def test_other_addresses_go_through_the_one_socket(self, connected, connecting, receiving):
        connected.send(b"x", receiving.getsockname())
        connected.flush()
        assert receiving.recv(10) == b"x"
        assert connecting.opened == []

    def test_a_daemon_that_comes_back_gets_the_next_datagram(self, connected, peer):
        _data, token = peer
        address = token.getsockname()
        connected.send(b"1", address)
        token.close()
        for _ in range(5):
            connected.send(b"lost", address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(address)
            again.settimeout(30)
            connected.send(b"2", address)
            assert again.recv(10) == b"2"
        assert connected.failures == Counter()

    def test_a_socket_whose_route_has_gone_is_replaced(self, connected, peer, connecting):
        _data, token = peer
        connected.send(b"1", token.getsockname())
        connecting.opened[0].shutdown(socket.SHUT_WR)
        connected.send(b"2", token.getsockname())
        connected.send(b"3", token.getsockname())
        assert [token.recv(10) for _ in range(3)] == [b"1", b"2", b"3"]
        assert len(connecting.opened) == 2

    def test_trains_too(self, connected, peer, connecting):
        data, _token = peer
        for _ in range(2):
            connected.send(b"first", data.getsockname())
            connected.flush()
            for number in range(10):
                connected.send(b"%05d" % number, data.getsockname())
            connected.flush()
            got = [data.recv(100) for _ in range(11)]
            assert got == [b"first", *(b"%05d" % number for number in range(10))]
            connecting.opened[-1].shutdown(socket.SHUT_WR)

    def test_those_of_daemons_that_a_reload_took_away_are_closed(self, connected, peer, connecting):
        _data, token = peer
        connected.send(b"1", token.getsockname())
        connected.token_addresses([SUCCESSOR])
        assert connecting.peers == []

    def test_without_descriptors_all_goes_through_the_one_socket(self, sending, peer):
        def none_left():
            raise OSError(errno.EMFILE, "meant to")

        _data, token = peer
        sender = BatchSender(sending, [token.getsockname()], open_socket=none_left)
        for _ in range(2):
            sender.send(b"1", token.getsockname())
            assert token.recv(10) == b"1"


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
