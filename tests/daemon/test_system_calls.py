"""The binding of the system calls, compiled by itself: the same results as Python's own."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

from txspread.daemon import system_calls
from txspread.daemon.batch_send import BatchSender

SOURCE = Path(__file__).parents[2] / "txspread/daemon/_system_calls.c"
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the binding is for Linux"),
    pytest.mark.skipif(
        shutil.which(COMPILER) is None
        or not (Path(sysconfig.get_path("include")) / "Python.h").exists(),
        reason="no C compiler, or no headers of Python",
    ),
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    file = tmp_path_factory.mktemp("binding") / "_system_calls.so"
    include = sysconfig.get_path("include")
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-I{include}"]
    subprocess.run([*command, str(SOURCE), "-o", str(file)], check=True, timeout=120)
    name = "_system_calls"
    loader = importlib.machinery.ExtensionFileLoader(name, str(file))
    spec = importlib.util.spec_from_loader(name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def receiving():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.setblocking(False)
        yield opened


@pytest.fixture
def sending(receiving):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect(receiving.getsockname())
        opened.setblocking(False)
        yield opened


def test_the_compiled_form_has_it_and_plain_python_does_not():
    compiled = os.environ.get("TXSPREAD_FORM") == "compiled"
    for name in ("wait", "receive", "send"):
        assert (getattr(system_calls, name) is not None) is compiled


def space(reads):
    return memoryview(bytearray(reads * 65536))


ARGUMENTS = {"wait": (0,), "receive": (space(1), 1), "send": (b"x",)}


class TestWaiting:
    def test_it_finds_what_python_finds(self, calls, receiving, sending):
        with select.epoll() as epoll:
            epoll.register(receiving, select.EPOLLIN)
            epoll.register(sending, select.EPOLLIN | select.EPOLLOUT)
            for _ in range(2):
                assert sorted(calls.wait(epoll.fileno(), 0)) == sorted(epoll.poll(0))
                sending.send(b"x")
            assert (receiving.fileno(), select.EPOLLIN) in calls.wait(epoll.fileno(), 10)

    def test_nothing_comes(self, calls, receiving):
        with select.epoll() as epoll:
            epoll.register(receiving, select.EPOLLIN)
            assert calls.wait(epoll.fileno(), 0) == []
            assert calls.wait(epoll.fileno(), 5) == []

    def test_other_threads_run_meanwhile(self, calls, receiving, sending):
        with select.epoll() as epoll:
            epoll.register(receiving, select.EPOLLIN)
            other = threading.Timer(0.01, sending.send, [b"x"])
            other.start()
            assert calls.wait(epoll.fileno(), 60_000) == [(receiving.fileno(), select.EPOLLIN)]
            other.join()

    def test_a_signal_ends_the_wait(self, calls, receiving):
        def handler(*_):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with select.epoll() as epoll:
                epoll.register(receiving, select.EPOLLIN)
                with pytest.raises(KeyboardInterrupt):
                    calls.wait(epoll.fileno(), 60_000)
        finally:
            signal.signal(signal.SIGALRM, before)

    def test_what_is_no_epoll_is_an_error(self, calls, receiving):
        with pytest.raises(OSError, match="Invalid argument") as raised:
            calls.wait(receiving.fileno(), 0)
        assert raised.value.errno == errno.EINVAL


class TestReceiving:
    def test_nothing_waits(self, calls, receiving):
        assert calls.receive(receiving.fileno(), space(1), 1) == []
        assert calls.receive(receiving.fileno(), space(16), 16) == []

    def test_order_and_bytes_are_kept(self, calls, receiving, sending):
        sent = [os.urandom(size) for size in (0, 1, 40, 1472, 9000, 65000)]
        for datagram in sent:
            sending.send(datagram)
        room = space(16)
        whole = [(datagram, 0) for datagram in sent]
        assert calls.receive(receiving.fileno(), room, 0) == []
        assert calls.receive(receiving.fileno(), room, 1) == whole[:1]
        assert calls.receive(receiving.fileno(), room, 3) == whole[1:4]
        assert calls.receive(receiving.fileno(), room, 16) == whole[4:]

    def test_it_reads_no_more_than_there_is_room_for(self, calls, receiving, sending):
        for _ in range(3):
            sending.send(b"x")
        assert calls.receive(receiving.fileno(), memoryview(bytearray(65535)), 16) == []
        assert len(calls.receive(receiving.fileno(), space(2), 16)) == 2
        assert len(calls.receive(receiving.fileno(), space(2), 16)) == 1

    def test_trains_stay_whole(self, calls, receiving, sending):
        receiving.setsockopt(socket.IPPROTO_UDP, 104, 1)
        sent = [os.urandom(1000) for _ in range(40)] + [b"short"]
        sender = BatchSender(sending, [])
        for datagram in sent:
            sender.send(datagram, receiving.getsockname())
        sender.flush()
        assert sender.calls == 1
        sending.send(b"alone")
        room = space(2)
        (train, size), alone = calls.receive(receiving.fileno(), room, 2)
        assert (size, bytes(train)) == (1000, b"".join(sent))
        assert train.obj is room.obj
        assert alone == (b"alone", 0)

    def test_a_refusal_is_reported_once(self, calls):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            other.bind(("127.0.0.1", 0))
            one.connect(other.getsockname())
            other.close()
            calls.send(one.fileno(), b"x")
            with pytest.raises(ConnectionRefusedError):
                calls.receive(one.fileno(), space(1), 1)
            assert calls.receive(one.fileno(), space(1), 1) == []


class TestSending:
    def test_bytes_and_views_arrive(self, calls, receiving, sending):
        for data in (b"", b"abc", memoryview(b"abcdef")[2:]):
            assert calls.send(sending.fileno(), data) == len(data)
            assert receiving.recv(100) == bytes(data)

    def test_a_full_buffer_takes_a_part_and_then_nothing(self, calls):
        one, other = socket.socketpair()
        with one, other:
            sent = 0
            while (count := calls.send(one.fileno(), bytes(100_000))) >= 0:
                sent += count
            assert sent > 0
            assert count == -1
            got = 0
            while got < sent:
                got += len(other.recv(1 << 20))
            assert calls.send(one.fileno(), b"again") == 5

    def test_a_closed_peer_is_an_error(self, calls):
        one, other = socket.socketpair()
        other.close()
        with one, pytest.raises(BrokenPipeError):
            calls.send(one.fileno(), b"x")


class TestMisuse:
    def test_a_closed_descriptor(self, calls, receiving):
        number = receiving.fileno()
        receiving.close()
        for name, arguments in ARGUMENTS.items():
            with pytest.raises(OSError, match="Bad file descriptor"):
                getattr(calls, name)(number, *arguments)

    @pytest.mark.parametrize("name", ["wait", "receive", "send"])
    def test_what_is_no_descriptor(self, calls, name):
        rest = ARGUMENTS[name]
        for number in (-1, 1 << 40):
            with pytest.raises(ValueError, match="descriptor"):
                getattr(calls, name)(number, *rest)
        for arguments in (("a", *rest), (1,), (1, *rest, 3), (1, *[None] * len(rest))):
            with pytest.raises(TypeError):
                getattr(calls, name)(*arguments)

    def test_room_that_cannot_be_written(self, calls, receiving):
        with pytest.raises((BufferError, TypeError)):
            calls.receive(receiving.fileno(), memoryview(bytes(65536)), 1)

    def test_waits_are_bounded(self, calls):
        with select.epoll() as epoll:
            for milliseconds in (-1, 60_001):
                with pytest.raises(ValueError, match="wait"):
                    calls.wait(epoll.fileno(), milliseconds)
