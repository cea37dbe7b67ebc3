"""How many messages a second the client library sends and receives.

    python -m bench.client_throughput [--daemon NAME] [--messages N] [--size BYTES]

Without a daemon the peer is a process that accepts the handshake and then writes
ready-made frames, or reads and counts: it costs next to nothing, so what is measured
is the library.  With ``--daemon`` the messages go to the client's own private group
through that daemon.  Prints one line for each way to use the library.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import socket
import time
from collections.abc import Callable, Generator
from typing import Any

import txspread.blocking as spread
from txspread import aio
from txspread.client.authentication import NullMethod
from txspread.wire.constants import ServiceType
from txspread.wire.message import encode_message
from txspread.wire.session import encode_accept, encode_auth_list

ACCEPT = encode_auth_list([NullMethod.name.encode()]) + encode_accept(b"#bench#peer")
HANDSHAKE = 5 + 90
RELIABLE = int(ServiceType.RELIABLE_MESS)
BATCH = 1 << 18


def peer(listener: socket.socket, messages: int, size: int) -> None:
    """Serve connections: a client that says a byte more than the handshake sends to us."""
    frame = encode_message(RELIABLE, b"#bench#peer", [b"group"], bytes(size))
    count = max(BATCH // len(frame), 1)
    batch = frame * count
    while True:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            sock.sendall(ACCEPT)
            received = b""
            while len(received) < HANDSHAKE:
                received += sock.recv(4096)
            if b"recv" in received[:15]:
                left = messages
                while left > 0:
                    sock.sendall(batch if left >= count else frame * left)
                    left -= count
                sock.recv(1 << 16)
            else:
                total = messages * len(frame) - (len(received) - HANDSHAKE)
                while total > 0:
                    data = sock.recv(1 << 20)
                    if not data:
                        break
                    total -= len(data)
                sock.sendall(frame)
                sock.recv(1 << 16)


def report(what: str, messages: int, size: int, seconds: float, cpu: float) -> None:
    rate, volume = messages / seconds, messages * size / seconds / 1e6
    print(
        f"{what:<42} {rate:>10,.0f} messages/s {volume:>8.1f} MB/s"
        f" {cpu / messages * 1e6:>7.2f} us CPU/message",
        flush=True,
    )


def measured(what: str, messages: int, size: int, run: Callable[[], None]) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    run()
    report(what, messages, size, time.perf_counter() - start, time.process_time() - cpu)


async def aio_receive(name: str, messages: int, size: int, way: str) -> None:
    connection = await aio.connect(name, "recv", membership=False)
    start, cpu = time.perf_counter(), time.process_time()
    got = 0
    if way == "batch":
        while got < messages:
            got += len(await connection.receive_batch())
    else:
        async for _message in connection:
            got += 1
            if got == messages:
                break
    report(
        f"asyncio receive, {way}",
        messages,
        size,
        time.perf_counter() - start,
        time.process_time() - cpu,
    )
    connection.abort()


async def aio_send(name: str, messages: int, size: int) -> None:
    connection = await aio.connect(name, "send", membership=False)
    body = bytes(size)
    start, cpu = time.perf_counter(), time.process_time()
    limit = connection.send_limit
    for _ in range(messages):
        if connection.buffered >= limit:
            await connection.drained()
        connection.multicast(RELIABLE, "group", body)
    await connection.receive()
    report("asyncio send", messages, size, time.perf_counter() - start, time.process_time() - cpu)
    connection.abort()


def twisted_runs(name: str, messages: int, size: int, daemon: bool) -> None:
    from twisted.internet import task
    from twisted.internet.defer import Deferred, inlineCallbacks

    from txspread.client import Connection, connect

    @inlineCallbacks
    def receive(reactor: Any, way: str) -> Generator[Deferred[Any], Any, None]:
        connection: Connection = yield connect(name, "recv", membership=False)
        start, cpu = time.perf_counter(), time.process_time()
        got = 0
        if way == "batch":
            while got < messages:
                got += len((yield connection.receive_batch()))
        else:
            done: Deferred[None] = Deferred()

            def take(_message: object) -> None:
                nonlocal got
                got += 1
                if got == messages:
                    done.callback(None)

            connection.deliver_to(take)
            yield done
        report(
            f"Twisted receive, {way}",
            messages,
            size,
            time.perf_counter() - start,
            time.process_time() - cpu,
        )
        connection.abort()

    @inlineCallbacks
    def send(reactor: Any) -> Generator[Deferred[Any], Any, None]:
        connection: Connection = yield connect(name, "send", membership=False)
        body = bytes(size)
        start, cpu = time.perf_counter(), time.process_time()
        limit = connection.send_limit
        for _ in range(messages):
            if connection.buffered >= limit:
                yield connection.drained()
            connection.multicast(RELIABLE, "group", body)
        yield connection.receive()
        report(
            "Twisted send", messages, size, time.perf_counter() - start, time.process_time() - cpu
        )
        connection.abort()

    @inlineCallbacks
    def echo(reactor: Any) -> Generator[Deferred[Any], Any, None]:
        connection: Connection = yield connect(name, "", membership=False)
        body = bytes(size)
        start, cpu = time.perf_counter(), time.process_time()
        got = sent = 0
        while got < messages:
            while sent < messages and sent - got < 800:
                connection.multicast(RELIABLE, connection.private_group, body)
                sent += 1
            got += len((yield connection.receive_batch()))
        report(
            "Twisted send and receive, through a daemon",
            messages,
            size,
            time.perf_counter() - start,
            time.process_time() - cpu,
        )
        yield connection.disconnect()

    @inlineCallbacks
    def everything(reactor: Any) -> Generator[Deferred[Any], Any, None]:
        if daemon:
            yield echo(reactor)
            return
        yield receive(reactor, "batch")
        yield receive(reactor, "callback")
        yield send(reactor)

    task.react(everything)


def blocking_runs(name: str, messages: int, size: int) -> None:
    for read_ahead in (False, True):
        with spread.connect(name, "recv", membership=0, read_ahead=read_ahead) as mailbox:

            def receive(mailbox: spread.Mailbox = mailbox) -> None:
                for _ in range(messages):
                    mailbox.receive()

            what = "blocking receive, read_ahead" if read_ahead else "blocking receive"
            measured(what, messages, size, receive)
            mailbox.kill()
    body = bytes(size)
    with spread.connect(name, "send", membership=0) as mailbox:

        def send() -> None:
            for _ in range(messages):
                mailbox.multicast(RELIABLE, "group", body)
            mailbox.receive()

        measured("blocking send", messages, size, send)
        mailbox.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--daemon", help="Spread name of a daemon to send through")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=100, help="bytes of each body")
    options = parser.parse_args()
    if options.daemon:
        twisted_runs(options.daemon, options.messages, options.size, True)
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name = f"{listener.getsockname()[1]}@127.0.0.1"
        process = multiprocessing.Process(
            target=peer, args=(listener, options.messages, options.size), daemon=True
        )
        process.start()
        try:
            for way in ("batch", "iteration"):
                asyncio.run(aio_receive(name, options.messages, options.size, way))
            asyncio.run(aio_send(name, options.messages, options.size))
            blocking_runs(name, options.messages, options.size)
            twisted_runs(name, options.messages, options.size, False)
        finally:
            process.terminate()
            process.join()


if __name__ == "__main__":
    main()
