"""The machine a node runs on: sockets, clock and the engine, tied together.

One :class:`DaemonHost` is one running daemon.  It opens what the configuration
asks for, feeds the engine through a :class:`~txspread.daemon.hub.Hub`, and does
what the engine asks of its :class:`~txspread.engine.node_interfaces.Host`.  An
exception that comes out of the engine is logged and costs at most the client
whose bytes were being handled; nothing that comes from a socket ends the daemon.
"""

from __future__ import annotations

import os
import random
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from txspread.config.model import Configuration, Daemon
from txspread.config.reloading import Reload
from txspread.daemon.activity_log import ActivityLog
from txspread.daemon.batch_send import BatchSender
from txspread.daemon.datagrams import DatagramReader, DatagramSocket
from txspread.daemon.hub import EpollHub, Reactor, ReactorHub, Source, make_hub
from txspread.daemon.sockets import (
    DATAGRAM_BUFFER,
    SocketError,
    UnixListener,
    datagram_plan,
    enlarge_buffer,
    open_datagram_socket,
    open_sending_socket,
    open_stream_listener,
    stream_plan,
    token_addresses,
)
from txspread.daemon.stream import READ_SIZE, ClientTransport, StreamListener
from txspread.daemon.systemd import Inherited, InheritedUnixListener
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.authentication import Authentication
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import StreamTransport
from txspread.engine.node import Node
from txspread.engine.node_interfaces import Channel, Host
from txspread.engine.sessions_state import Session
from txspread.engine.trace import Sinks, TraceSink
from txspread.engine.traced_node import TracedNode

DEFAULT_SOCKET_DIRECTORY = "/tmp"


class Engine(Protocol):
    """The engine as the shell drives it; :class:`~txspread.engine.node.Node` is one."""

    @property
    def prefer_tokens(self) -> bool:
        """Whether to read the token socket before the data socket."""

    @property
    def token_follows(self) -> bool:
        """Whether the token may be close behind the packets taken last."""

    def start(self, now: float) -> None:
        """Begin."""

    def stop(self, now: float) -> None:
        """End all sessions."""

    def datagram(self, data: bytes, channel: Channel, now: float) -> None:
        """Take one datagram."""

    def train(self, train: bytes | memoryview, size: int, channel: Channel, now: float) -> None:
        """Take several datagrams of one channel, one behind the other."""

    def datagrams(self, batch: Sequence[bytes], channel: Channel, now: float) -> None:
        """Take several datagrams of one channel."""

    def session_opened(self, transport: StreamTransport, peer: PeerAddress, now: float) -> Session:
        """Begin a session."""

    def session_received(self, session: Session, data: bytes, now: float) -> None:
        """Take bytes of a client."""

    def session_writable(self, session: Session, now: float) -> None:
        """The kernel takes output again."""

    def session_closed(self, session: Session, now: float) -> None:
        """The client is gone."""

    def timer(self, now: float) -> None:
        """A time given by :meth:`next_timer` has come."""

    def next_timer(self) -> float | None:
        """When to call :meth:`timer`."""

    def end_of_turn(self, now: float) -> None:
        """Write to the clients."""

    def reload(self, reload: Reload, now: float) -> None:
        """Go on with another configuration."""


EngineFactory = Callable[[Configuration, Daemon, Host, AlarmSink, float], Engine]
"""Makes the engine of a daemon that is about to start; the last argument is the time."""


def make_node(
    configuration: Configuration,
    me: Daemon,
    host: Host,
    alarms: AlarmSink,
    now: float,
    *,
    authentication: Authentication | None = None,
    trace: TraceSink | None = None,
    deliveries: TraceSink | None = None,
    last_time_used: int = -1,
    time_used: Callable[[int], None] | None = None,
    guard_reload: bool = False,
) -> Node:
    """The engine of a real daemon.

    The keywords are those of ``Node``; ``trace`` takes everything, ``deliveries`` only
    what a plain node tells of.
    """
    if trace is None:
        return Node(
            configuration,
            me,
            host,
            alarms,
            random.SystemRandom().random,
            now,
            authentication=authentication,
            trace=deliveries,
            last_time_used=last_time_used,
            time_used=time_used,
            guard_reload=guard_reload,
        )
    return TracedNode(
        configuration,
        me,
        host,
        alarms,
        random.SystemRandom().random,
        now,
        authentication=authentication,
        trace=trace if deliveries is None else Sinks((trace, deliveries)),
        last_time_used=last_time_used,
        time_used=time_used,
        guard_reload=guard_reload,
    )


class DaemonHost:
    """One daemon: implements ``Host`` for the engine and ``Turn`` for the hub.

    Args:
        configuration: what to run.
        me: the entry of ``configuration`` to run as.
        alarms: sink of log lines.
        reactor: a Twisted reactor that can watch descriptors.
        socket_directory: where the Unix socket named after the port is made;
            None for a daemon without one.
        engine_factory: makes the engine.
        activity: told of connections that come and go.
        linger: see :class:`~txspread.daemon.hub.EpollHub`.
        inherited: listening sockets that are taken instead of opening them.
        left: called once, in a later turn, when the engine wants the daemon to end.

    """

    def __init__(
        self,
        configuration: Configuration,
        me: Daemon,
        alarms: AlarmSink,
        reactor: Reactor,
        *,
        socket_directory: str | None = DEFAULT_SOCKET_DIRECTORY,
        engine_factory: EngineFactory = make_node,
        activity: ActivityLog | None = None,
        linger: bool = False,
        inherited: Inherited | None = None,
        left: Callable[[str], None] | None = None,
    ) -> None:
        self.configuration = configuration
        self.me = me
        self.alarms = alarms
        self.reactor = reactor
        self.socket_directory = socket_directory
        self._engine_factory = engine_factory
        self._activity = activity
        self._linger = linger
        self._inherited = Inherited([]) if inherited is None else inherited
        self._left = left
        self._accepting = True
        self._datagram_sockets: list[DatagramSocket] = []
        self._listening: list[socket.socket] = []
        self._sending: socket.socket | None = None
        self._hub: EpollHub | ReactorHub | None = None
        self._reader: DatagramReader | None = None
        self._listeners: list[StreamListener] = []
        self._transports: set[ClientTransport] = set()
        self._buffer = memoryview(bytearray(READ_SIZE))
        self.unix: UnixListener | InheritedUnixListener | None = None
        self.sender: BatchSender | None = None
        self.engine: Engine | None = None
        """From the start on."""
        self.on_reload: Callable[[], None] = lambda: None
        """Called when the engine wants the configuration to be read again."""
        self.faults = 0
        """Exceptions that came out of the engine."""

    # --- life

    def open(self) -> None:
        """Open every socket; nothing is read yet.

        Raises:
            SocketError: one of them cannot be had; none is left open.

        """
        try:
            for binding in datagram_plan(self.configuration, self.me):
                opened = open_datagram_socket(binding)
                self._datagram_sockets.append(DatagramSocket(opened, binding.channel))
            self._sending = open_sending_socket()
            self._enlarge_buffers(self._sending)
            inherited = self._inherited
            for stream in stream_plan(self.configuration, self.me):
                self._listening.append(
                    inherited.take_tcp(stream.address, stream.port) or open_stream_listener(stream)
                )
            if self.socket_directory is not None:
                port = self.configuration.segments[self.me.segment].port
                path = os.path.join(self.socket_directory, str(port))
                handed = inherited.take_unix(path)
                self.unix = (
                    UnixListener(self.socket_directory, port)
                    if handed is None
                    else InheritedUnixListener(handed, path)
                )
                self._listening.append(self.unix.socket)
        except BaseException:
            self.close()
            raise

    def _enlarge_buffers(self, sending: socket.socket) -> None:
        if len(self.configuration.daemons) < 2:
            return
        wanted = [(sending, False)] + [(one.socket, True) for one in self._datagram_sockets]
        smallest = {
            receive: min(
                (enlarge_buffer(one, receive=receive) for one, way in wanted if way is receive),
                default=DATAGRAM_BUFFER,
            )
            for receive in (True, False)
        }
        for receive, setting in ((True, "rmem_max"), (False, "wmem_max")):
            if smallest[receive] < DATAGRAM_BUFFER:
                self.alarms.alarm(
                    Category.PRINT,
                    Priority.WARNING,
                    "DL_init_channel: asked for a %s buffer of %d bytes, the kernel gives %d: "
                    "bursts may be lost and sent again; raise net.core.%s",
                    "receive" if receive else "send",
                    DATAGRAM_BUFFER,
                    smallest[receive],
                    setting,
                )

    def _open_connected(self) -> socket.socket:
        opened = open_sending_socket()
        enlarge_buffer(opened, receive=False)
        return opened

    def start(self) -> None:
        """Start the engine and serve; :meth:`open` first."""
        assert self._sending is not None
        now = time.monotonic()
        hub = self._hub = make_hub(self.reactor, self, linger=self._linger)
        self.sender = BatchSender(
            self._sending, token_addresses(self.configuration), open_socket=self._open_connected
        )
        self.engine = self._engine_factory(self.configuration, self.me, self, self.alarms, now)
        self._reader = DatagramReader(
            hub, self.engine, self._datagram_sockets, lambda: self.fault(None)
        )
        for listening in self._listening:
            self._listeners.append(
                StreamListener(hub, listening, self._connected, self._out_of_descriptors)
            )
        self._accept(self._accepting)
        self.engine.start(now)
        hub.run_soon()

    def stop(self) -> None:
        """End the sessions, close every socket, remove the Unix socket's file."""
        if self.engine is not None:
            engine, now = self.engine, time.monotonic()
            try:
                engine.stop(now)
                self.end_turn(now)
            except Exception:
                self.fault(None)
        self.close()

    def close(self) -> None:
        """Close every socket without a word to the engine."""
        for transport in list(self._transports):
            transport.close()
        for listener in self._listeners:
            listener.close()
        if self._reader is not None:
            self._reader.close()
        if self._hub is not None:
            self._hub.close()
        if self.unix is not None:
            self.unix.close()
        for listening in self._listening:
            listening.close()
        for one in self._datagram_sockets:
            one.socket.close()
        if self._sending is not None:
            self._sending.close()
        if self.sender is not None:
            self.sender.close()
        self._listeners = []
        self._listening = []
        self._datagram_sockets = []

    @property
    def client_count(self) -> int:
        """Open client connections, those in the handshake included."""
        return len(self._transports)

    def run_soon(self) -> None:
        """Make a turn happen: for who has done something to the engine from outside."""
        if self._hub is not None:
            self._hub.run_soon()

    # --- clients

    def _connected(self, connection: socket.socket, address: tuple[str, int] | str) -> None:
        assert self._hub is not None
        assert self.engine is not None
        number = (
            int.from_bytes(socket.inet_aton(address[0]), "big") if isinstance(address, tuple) else 0
        )
        transport = ClientTransport(
            self._hub, self.engine, connection, self._buffer, self._transport_closed
        )
        self._transports.add(transport)
        try:
            transport.open(PeerAddress(number, connection.fileno()))
        except Exception:
            self.fault(None)
            transport.close()
            return
        if self._activity is not None:
            self._activity.opened(transport.session)

    def _transport_closed(self, transport: ClientTransport) -> None:
        self._transports.discard(transport)
        if self._activity is not None:
            self._activity.closed(transport.session)

    def _out_of_descriptors(self, error: OSError) -> None:
        self.alarms.alarm(
            Category.PRINT,
            Priority.ERROR,
            "Sess_accept: connection closed at once: %s; raise the limit of open files",
            error.strerror,
        )

    def _accept(self, accepting: bool) -> None:
        self._accepting = accepting
        for listener in self._listeners:
            if accepting:
                listener.resume()
            else:
                listener.pause()

    # --- Host, for the engine

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """See :meth:`~txspread.engine.node_interfaces.Host.send_datagram`."""
        if self.sender is not None:
            self.sender.send(data, address)

    def send_train(self, train: bytes | bytearray, size: int, address: tuple[str, int]) -> None:
        """See :meth:`~txspread.engine.node_interfaces.Host.send_train`."""
        if self.sender is not None:
            self.sender.send_train(train, size, address)

    def pause_accepting(self) -> None:
        """See :meth:`~txspread.engine.node_interfaces.Host.pause_accepting`."""
        self._accept(False)

    def resume_accepting(self) -> None:
        """See :meth:`~txspread.engine.node_interfaces.Host.resume_accepting`."""
        self._accept(True)

    def wall_time(self) -> int:
        """See :meth:`~txspread.engine.node_interfaces.Host.wall_time`."""
        return int(time.time())

    def leave(self, reason: str) -> None:
        """See :meth:`~txspread.engine.node_interfaces.Host.leave`."""
        left, self._left = self._left, None
        if left is not None:
            self.reactor.callLater(0, left, reason)

    def reload(self) -> None:
        """See :meth:`~txspread.engine.node_interfaces.Host.reload`."""
        self.on_reload()

    def go_on_with(self, reload: Reload) -> None:
        """Hand a configuration that was read again to the engine.

        Sockets stay as they are.  Tokens go out at once to the daemons of both files.
        """
        assert self.engine is not None
        assert self.sender is not None
        assert self._hub is not None
        old, self.configuration = self.configuration, reload.configuration
        self.me = reload.me
        self.sender.token_addresses((*token_addresses(old), *token_addresses(self.configuration)))
        if len(old.daemons) < 2 and self._sending is not None:
            self._enlarge_buffers(self._sending)
        if self._activity is not None:
            self._activity.configuration = reload.configuration
        self.engine.reload(reload, time.monotonic())
        self._hub.run_soon()

    # --- Turn, for the hub

    def due(self, now: float) -> None:
        """See :meth:`~txspread.daemon.hub.Turn.due`."""
        assert self.engine is not None
        self.engine.timer(now)

    def next_due(self) -> float | None:
        """See :meth:`~txspread.daemon.hub.Turn.next_due`."""
        assert self.engine is not None
        return self.engine.next_timer()

    def receive_datagrams(self, ready: list[int] | None, look: int) -> bool:
        """See :meth:`~txspread.daemon.hub.Turn.receive_datagrams`."""
        assert self._reader is not None
        return self._reader.receive(ready, look)

    def datagrams_received(self) -> None:
        """See :meth:`~txspread.daemon.hub.Turn.datagrams_received`."""
        assert self.sender is not None
        self.sender.flush()

    def end_turn(self, now: float) -> None:
        """See :meth:`~txspread.daemon.hub.Turn.end_turn`."""
        assert self.engine is not None
        assert self.sender is not None
        self.sender.flush()  # other daemons first: they wait longer than this one's clients
        self.engine.end_of_turn(now)
        self.sender.flush()
        if self._activity is not None:
            self._activity.check()

    def fault(self, source: Source | None) -> None:
        """See :meth:`~txspread.daemon.hub.Turn.fault`."""
        self.faults += 1
        self.alarms.alarm(
            Category.PRINT, Priority.CRITICAL, "Internal error: %s", traceback.format_exc().rstrip()
        )
        if isinstance(source, ClientTransport):
            try:
                source.fail()
            except Exception:
                self.alarms.alarm(
                    Category.PRINT,
                    Priority.CRITICAL,
                    "Internal error: while giving a client up: %s",
                    traceback.format_exc().rstrip(),
                )


__all__ = ["DEFAULT_SOCKET_DIRECTORY", "DaemonHost", "Engine", "SocketError", "make_node"]
