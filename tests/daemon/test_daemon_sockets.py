"""The plan of a daemon's sockets, and what happens when one cannot be had."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from txspread.config import parse
from txspread.daemon.sockets import (
    DatagramBinding,
    SocketError,
    StreamBinding,
    UnixListener,
    datagram_plan,
    enlarge_buffer,
    open_datagram_socket,
    open_sending_socket,
    open_stream_listener,
    stream_plan,
    token_addresses,
)
from txspread.engine.node_interfaces import Channel

DATA, TOKEN = Channel.DATA, Channel.TOKEN
OTHER = "other 10.0.0.2"


def configuration(segment: str, me: str, *others: str, options: str = ""):
    daemons = "\n".join((me, *others))
    return parse(f"{options}\nSpread_Segment {segment}:4803 {{\n{daemons}\n}}\n")


def plan(segment, me, *others):
    loaded = configuration(segment, me, *others)
    return datagram_plan(loaded, loaded.by_name["me"])


class TestDatagramPlan:
    def test_without_stanza_alone(self):
        assert plan("10.0.0.255", "me 10.0.0.1") == [
            DatagramBinding(DATA, "0.0.0.0", 4803),
            DatagramBinding(TOKEN, "0.0.0.0", 4804),
        ]

    def test_without_stanza_in_a_broadcast_segment(self):
        assert plan("10.0.0.255", "me 10.0.0.1", OTHER) == [
            DatagramBinding(DATA, "0.0.0.0", 4803),
            DatagramBinding(TOKEN, "0.0.0.0", 4804),
        ]

    def test_without_stanza_in_a_multicast_segment(self):
        assert plan("225.0.1.1", "me 10.0.0.1", OTHER) == [
            DatagramBinding(DATA, "0.0.0.0", 4803, "225.0.1.1", "0.0.0.0"),
            DatagramBinding(TOKEN, "0.0.0.0", 4804),
        ]

    def test_alone_joins_no_multicast_group(self):
        assert plan("225.0.1.1", "me 10.0.0.1 { D 10.0.0.1 }") == [
            DatagramBinding(DATA, "10.0.0.1", 4803),
            DatagramBinding(TOKEN, "10.0.0.1", 4804),
        ]

    def test_stanza_binds_the_broadcast_address_once_before_the_first_interface(self):
        assert plan("10.0.0.255", "me 10.0.0.1 { D 10.0.0.1\n D 10.0.9.1 }", OTHER) == [
            DatagramBinding(DATA, "10.0.0.255", 4803),
            DatagramBinding(DATA, "10.0.0.1", 4803),
            DatagramBinding(TOKEN, "10.0.0.1", 4804),
            DatagramBinding(DATA, "10.0.9.1", 4803),
            DatagramBinding(TOKEN, "10.0.9.1", 4804),
        ]

    def test_stanza_joins_a_multicast_group_on_each_interface(self):
        assert plan("225.0.1.1", "me 10.0.0.1 { 10.0.0.1 }", OTHER) == [
            DatagramBinding(DATA, "225.0.1.1", 4803, "225.0.1.1", "0.0.0.0"),
            DatagramBinding(DATA, "10.0.0.1", 4803, "225.0.1.1", "10.0.0.1"),
            DatagramBinding(TOKEN, "10.0.0.1", 4804),
        ]

    def test_stanza_without_daemon_interface_hears_nothing(self):
        assert plan("10.0.0.255", "me 10.0.0.1 { C 10.0.0.1 }", OTHER) == []


class TestStreamPlan:
    @pytest.mark.parametrize(
        ("option", "any_reuses", "specific_reuses"),
        [("AUTO", False, True), ("ON", True, True), ("OFF", False, False)],
    )
    def test_address_reuse(self, option, any_reuses, specific_reuses):
        options = f"SocketPortReuse = {option}"
        bare = configuration("10.0.0.255", "me 10.0.0.1", options=options)
        assert stream_plan(bare, bare.by_name["me"]) == [StreamBinding("0.0.0.0", 4803, any_reuses)]
        stanza = configuration("10.0.0.255", "me 10.0.0.1 { C 10.0.0.1 }", options=options)
        assert stream_plan(stanza, stanza.by_name["me"]) == [
            StreamBinding("10.0.0.1", 4803, specific_reuses)
        ]

    def test_only_client_interfaces_listen(self):
        loaded = configuration("10.0.0.255", "me 10.0.0.1 { D 10.0.0.1\n C 10.0.3.1 }")
        assert [one.address for one in stream_plan(loaded, loaded.by_name["me"])] == ["10.0.3.1"]


def test_token_addresses_are_those_of_all_segments():
    loaded = parse(
        "Spread_Segment 10.0.0.255:4803 { a 10.0.0.1 }\n"
        "Spread_Segment 10.0.1.255:5000 { b 10.0.1.1 }\n"
    )
    assert token_addresses(loaded) == [("10.0.0.1", 4804), ("10.0.1.1", 5001)]


class TestOpening:
    def test_datagram_sockets_may_broadcast_and_do_not_share_their_port(self, free_port):
        binding = DatagramBinding(DATA, "127.0.0.1", free_port())
        with open_datagram_socket(binding) as opened:
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            with pytest.raises(SocketError, match=r"DL_init_channel: bind error \(98\)"):
                open_datagram_socket(binding)

    def test_an_address_of_another_machine_is_refused_in_words(self, free_port):
        with pytest.raises(SocketError, match="probably already running"):
            open_datagram_socket(DatagramBinding(DATA, "192.0.2.1", free_port()))

    def test_a_multicast_group_is_joined(self, free_port):
        port = free_port()
        binding = DatagramBinding(DATA, "0.0.0.0", port, "225.7.7.7", "127.0.0.1")
        with open_datagram_socket(binding) as opened, open_sending_socket() as sending:
            sending.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            sending.sendto(b"to the group", ("225.7.7.7", port))
            opened.settimeout(10)
            assert opened.recv(100) == b"to the group"

    def test_the_sending_socket_may_broadcast_and_stays_on_the_link(self):
        with open_sending_socket() as sending:
            assert sending.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert sending.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 1

    def test_a_buffer_is_enlarged_and_the_size_in_force_is_told(self, free_port):
        with open_datagram_socket(DatagramBinding(DATA, "127.0.0.1", free_port())) as opened:
            size = enlarge_buffer(opened, receive=True, size=300_000)
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 == size
            assert size >= 200_000

    def test_a_taken_tcp_port_is_an_error_in_upstreams_words(self, free_port):
        port = free_port()
        with (
            open_stream_listener(StreamBinding("127.0.0.1", port, True)),
            pytest.raises(
                SocketError,
                match=f"Sess_init: INET unable to bind to port {port}, already running",
            ),
        ):
            open_stream_listener(StreamBinding("127.0.0.1", port, True))


class TestUnixListener:
    def test_anybody_may_connect_and_the_file_goes_with_the_listener(self, socket_directory):
        listener = UnixListener(str(socket_directory), 4803)
        path = socket_directory / "4803"
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        listener.close()
        assert not path.exists()
        listener.close()

    def test_a_stale_file_is_replaced(self, socket_directory):
        path = str(socket_directory / "4803")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        listener = UnixListener(str(socket_directory), 4803)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        listener.close()

    def test_a_live_one_is_left_alone(self, socket_directory):
        living = UnixListener(str(socket_directory), 4803)
        with pytest.raises(SocketError, match=r"Sess_init: UNIX unable .* already running"):
            UnixListener(str(socket_directory), 4803)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(living.path)
        living.close()

    def test_a_live_one_with_a_full_backlog_is_left_alone(self, socket_directory):
        path = str(socket_directory / "4803")
        clients = []
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(path)
            busy.listen(0)
            while True:
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                clients.append(client)
                try:
                    client.connect(path)
                except BlockingIOError:
                    break
            with pytest.raises(SocketError, match="already running"):
                UnixListener(str(socket_directory), 4803)
            assert os.path.exists(path)
            for client in clients:
                client.close()

    def test_what_is_not_a_socket_is_never_removed(self, socket_directory):
        path = socket_directory / "4803"
        path.write_text("precious")
        with pytest.raises(SocketError, match="not a socket"):
            UnixListener(str(socket_directory), 4803)
        assert path.read_text() == "precious"

    def test_a_file_that_is_another_daemons_by_now_stays(self, socket_directory):
        first = UnixListener(str(socket_directory), 4803)
        os.rename(first.path, first.path + ".old")
        second = UnixListener(str(socket_directory), 4803)
        first.close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(second.path)
        second.close()

    def test_a_missing_directory_is_an_error(self, socket_directory):
        with pytest.raises(SocketError, match="No such file"):
            UnixListener(str(socket_directory / "nowhere"), 4803)
