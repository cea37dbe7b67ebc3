"""Datagrams on their way out: trains, tokens behind their data, connected sockets."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections import Counter

import pytest

from txspread.daemon.batch_send import MAX_TRAIN, BatchSender
from txspread.daemon.sockets import open_sending_socket
from txspread.engine.node_interfaces import Channel

DATA, TOKEN = Channel.DATA, Channel.TOKEN


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
