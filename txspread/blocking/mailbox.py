"""One blocking connection, in the shape of SpreadModule's ``Mailbox``.

Threads: one may receive while others send or disconnect.  A message is sent whole
under one lock and received whole under another; a disconnect wakes whoever waits.
The socket is closed only when no call uses it any more, so that its number cannot
be taken by another connection under a call that still runs.

The socket is never read beyond the current message: ``select`` on
:meth:`Mailbox.fileno` tells the truth about whether :meth:`Mailbox.receive` waits.  A
program that does not use ``select`` can have several times the speed by connecting with
``read_ahead``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NoReturn

from txspread.blocking.messages import (
    MembershipMsgType,
    RegularMsgType,
    message_object,
)
from txspread.client.authentication import AuthenticationMethod, NullMethod
from txspread.client.errors import (
    CouldNotConnect,
    IllegalSpread,
    SpreadError,
    error_text,
)
from txspread.client.liveness import PROBE_BODY, PROBE_SERVICE, Liveness
from txspread.client.messages import Message, Name, message_size, name_bytes
from txspread.client.names import EndpointAddress, SpreadAddress, UnixAddress, parse_spread_name
from txspread.client.protocol import ClientSession, SessionState, connection_closed
from txspread.client.requests import SAFE_GROUPS
from txspread.wire.constants import (
    DEFAULT_SPREAD_PORT,
    MAX_PRIVATE_NAME,
    REGULAR_MESS,
    SELF_DISCARD,
    SpreadCode,
)

KILL_TIMEOUT: Final = 1.0
"""Seconds that a disconnect waits for another thread's send to end."""
_READ: Final = 1 << 16
_MODULE_TEXTS: Final = frozenset(
    {SpreadCode.REJECT_NO_NAME, *range(SpreadCode.MESSAGE_TOO_LONG, 0)}
)


class error(Exception):
    """What every failing call raises.

    ``args`` is ``(code, text)`` for failures that Spread has a code for, else
    ``(text,)``; :attr:`code` and :attr:`detail` say the same and more.
    """

    code: int | None = None
    detail: str = ""


def error_from(problem: SpreadError) -> error:
    """Turn the library's error into SpreadModule's."""
    code = int(problem.code)
    text = error_text(code) if code in _MODULE_TEXTS else "unrecognized error"
    converted = error(code, text)
    converted.code = code
    converted.detail = problem.detail
    return converted


class Mailbox:
    """An open session.  Made by :func:`connect`.

    Also a context manager: leaving it disconnects.
    """

    def __init__(
        self,
        session: ClientSession,
        sock: socket.socket,
        read_ahead: bool = False,
        silence_timeout: float | None = None,
    ) -> None:
        self._session = session
        self._read_ahead = read_ahead
        self._ready: deque[Message] = deque()
        self._liveness: Liveness | None = None
        if silence_timeout is not None:
            now = time.monotonic()
            self._liveness = Liveness(silence_timeout, session.private_group, now)
        self._socket = sock
        self._descriptor = sock.fileno()
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()
        self._disconnected = False
        self._closed = False
        self._failure: SpreadError | None = None

    @property
    def private_group(self) -> str:
        """The session's own name, ``#name#daemon``."""
        return self._session.private_group

    @property
    def daemon_version(self) -> tuple[int, int, int]:
        """Version that the daemon told in the handshake."""
        return self._session.daemon_version

    def fileno(self) -> int:
        """Return the socket's number, for ``select`` and its like."""
        self._check("fileno")
        return self._descriptor

    def join(self, group: Name) -> None:
        """Ask to become a member of a group (1 to 31 bytes of 0x24..0x7E)."""
        self._check("join")
        try:
            self._send(self._session.join(group))
        except SpreadError as problem:
            raise error_from(problem) from problem

    def leave(self, group: Name) -> None:
        """Ask to be a member no longer."""
        self._check("leave")
        try:
            self._send(self._session.leave(group))
        except SpreadError as problem:
            raise error_from(problem) from problem

    def multicast(
        self, service_type: int, group: Name, message: Name | bytearray, message_type: int = 0
    ) -> int:
        """Send to one group or private group; return the number of body bytes.

        Waits while the daemon does not read.  ``str`` bodies go out as UTF-8.

        :raises ValueError: the service type has other bits than the six services
            and SELF_DISCARD.
        """
        return self._multicast("multicast", service_type, group, message, message_type)

    def multigroup_multicast(
        self,
        service_type: int,
        groups: Sequence[Name],
        message: Name | bytearray,
        message_type: int = 0,
    ) -> int:
        """Send to several groups, each receiver gets it once; return the body bytes."""
        if isinstance(groups, str | bytes):
            raise TypeError("only tuples are allowed for groups")
        if not groups:
            raise ValueError("there must be at least one group in the tuple")
        return self._multicast(
            "multigroup_multicast", service_type, tuple(groups), message, message_type
        )

    def receive(self, timeout: float | None = None) -> RegularMsgType | MembershipMsgType:
        """Wait for a message and return it.

        :param timeout: seconds to wait at most; what has arrived of a message by then
            is kept for the next call.
        :raises TimeoutError: no whole message in time.
        """
        message = message_object(self.receive_message(timeout))
        if message is None:
            raise error("Unknown message type: a rejected request")
        return message

    def receive_message(self, timeout: float | None = None) -> Message:
        """Like :meth:`receive`, but return the typed objects of :mod:`txspread.client`."""
        self._check("receive")
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._receive_lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError("another thread receives")
        try:
            self._check("receive")
            return self._read(deadline)
        except SpreadError as problem:
            raise error_from(problem) from problem
        finally:
            self._receive_lock.release()

    def send_message(
        self, service_type: int, groups: Name | Sequence[Name], body: bytes, message_type: int = 0
    ) -> None:
        """Send with any service bits that a client may set (``SUBGROUP_CAST`` included)."""
        self._check("multicast")
        try:
            self._send(self._session.multicast(service_type, groups, body, message_type))
        except SpreadError as problem:
            raise error_from(problem) from problem

    def poll(self) -> int:
        """Bytes that wait to be received; 0 also on a connection that has failed.

        With ``read_ahead``, those of messages that were read already count too.
        """
        self._check("poll")
        try:
            answer = fcntl.ioctl(self._descriptor, termios.FIONREAD, struct.pack("i", 0))
        except OSError as problem:
            raise error_from(connection_closed(str(problem))) from problem
        waiting: int = struct.unpack("i", answer)[0]
        return waiting + sum(message_size(message) for message in tuple(self._ready))

    def disconnect(self) -> None:
        """End the session.  A second call does nothing."""
        self._end(tell=not self._disconnected)

    def kill(self) -> None:
        """Close the connection without telling the daemon (``SP_kill``)."""
        self._end(tell=False)

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disconnect()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.disconnect()

    def _check(self, method: str) -> None:
        if self._disconnected:
            raise error(f"{method}() called on closed mbox")

    def _multicast(
        self,
        method: str,
        service_type: int,
        groups: Name | Sequence[Name],
        message: Name | bytearray,
        message_type: int,
    ) -> int:
        self._check(method)
        if service_type & ~(REGULAR_MESS | SELF_DISCARD):
            raise ValueError("invalid service type")
        body = name_bytes(message) if isinstance(message, str) else bytes(message)
        self.send_message(service_type, groups, body, message_type)
        return len(body)

    def _send(self, frame: bytes) -> None:
        with self._send_lock:
            if self._failure is not None:
                raise self._failure
            try:
                self._socket.sendall(frame)
            except OSError as problem:
                self._fail(connection_closed(str(problem)))
            except BaseException:
                # Interrupted (Ctrl-C) perhaps in the middle of a frame: what would be
                # sent next could not be understood.
                self._failure = connection_closed("a send was interrupted")
                self._disconnected = True
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                raise

    def _read(self, deadline: float | None) -> Message:
        """Read exactly one message, or take one that was read ahead."""
        session = self._session
        ready = self._ready
        while True:
            if ready:
                return ready.popleft()
            if session.problem is not None:
                self._fail(session.problem)
            if self._failure is not None:
                raise self._failure
            if deadline is not None or self._liveness is not None:
                self._wait(deadline)
            try:
                data = self._socket.recv(_READ if self._read_ahead else min(session.missing, _READ))
            except OSError as problem:
                self._fail(connection_closed(str(problem)))
            if not data:
                self._fail(connection_closed("end of stream"))
            messages = session.receive(data)
            if self._liveness is not None:
                self._liveness.heard(time.monotonic())
                if self._liveness.probing:
                    messages = self._liveness.without_echo(messages)
            ready.extend(messages)

    def _wait(self, deadline: float | None) -> None:
        """Wait until the socket is readable; watch the deadline and a silent daemon."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        liveness = self._liveness
        while True:
            now = time.monotonic()
            limits = [] if deadline is None else [max(deadline - now, 0)]
            if liveness is not None:
                limits.append(liveness.next_check(now))
            if poller.poll(min(limits) * 1000):
                return
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError("no message in time")
            if liveness is not None and liveness.dead(now):
                told = f"the daemon was silent for {liveness.timeout:g} seconds"
                self._fail(connection_closed(told))
            if liveness is not None and liveness.due(now):
                own = self._session.private_group
                self._send(self._session.multicast(PROBE_SERVICE, own, PROBE_BODY))

    def _fail(self, problem: SpreadError) -> NoReturn:
        """Take note of a broken connection, as SpreadModule does, and raise.

        The socket is closed by disconnect, or with the object.
        """
        self._failure = problem
        self._disconnected = True
        self._session.lost()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        raise problem

    def _end(self, tell: bool) -> None:
        """Wake all calls that use the socket, wait until they are gone, close it."""
        if self._closed:
            return
        self._closed = True
        self._disconnected = True
        locked = self._send_lock.acquire(timeout=KILL_TIMEOUT)
        try:
            if tell and locked and self._session.state is SessionState.OPEN:
                with contextlib.suppress(OSError):
                    self._socket.send(self._session.disconnect(), socket.MSG_DONTWAIT)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        finally:
            if locked:
                self._send_lock.release()
        with self._send_lock, self._receive_lock:
            self._socket.close()


def connect(
    daemon: str | None = None,
    name: Name = "",
    priority: int = 0,
    membership: int = 1,
    *,
    timeout: float | None = None,
    methods: Sequence[AuthenticationMethod] = (NullMethod(),),
    max_groups: int = SAFE_GROUPS,
    read_ahead: bool = False,
    silence_timeout: float | None = None,
) -> Mailbox:
    """Connect to a daemon.

    :param daemon: a Spread name (:mod:`txspread.client.names`), by default
        ``4803@localhost``.
    :param name: private name; cut to 10 bytes as upstream does, empty: the daemon
        invents one.
    :param priority: 0 or 1; no daemon uses it.
    :param membership: whether membership messages are wanted.  A program that does not
        receive should say 0.
    :param timeout: seconds for everything until the session is open; None: no limit.
    :param methods: authentication methods, in the order to run them.
    :param max_groups: most groups of one message; 43 is what 4.x rings deliver.
    :param read_ahead: read as much as the socket has (64 KiB) instead of one message;
        ``select`` on the mailbox then does not see messages that were read already.
    :param silence_timeout: seconds after which a daemon that says nothing to a receive
        that waits, not even to a probe, counts as lost
        (:mod:`txspread.client.liveness`); None: never, as in SpreadModule.
    :raises error: with upstream's code and text.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        address = parse_spread_name(
            f"{DEFAULT_SPREAD_PORT}@localhost" if daemon is None else daemon
        )
        session = ClientSession(
            name_bytes(name)[:MAX_PRIVATE_NAME],
            membership=bool(membership),
            priority=priority,
            methods=methods,
            max_groups=max_groups,
        )
        sock = _open_socket(address, deadline)
        try:
            _shake_hands(session, sock, deadline)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
    except SpreadError as problem:
        raise error_from(problem) from problem
    return Mailbox(session, sock, read_ahead, silence_timeout)


def _open_socket(address: SpreadAddress, deadline: float | None) -> socket.socket:
    target: str | tuple[str, int]
    if isinstance(address, EndpointAddress):
        raise IllegalSpread(
            SpreadCode.ILLEGAL_SPREAD, f"{address.description!r} is for the Twisted API only"
        )
    if isinstance(address, UnixAddress):
        family, target = socket.AF_UNIX, address.path
    else:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as problem:
            raise IllegalSpread(
                SpreadCode.ILLEGAL_SPREAD, f"host {address.host!r}: {problem}"
            ) from problem
        # Upstream knows IPv4 only, so that is what a name is expected to mean.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        family, target = found[0][0], found[0][4][:2]  # type: ignore[assignment]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.settimeout(_remaining(deadline))
        sock.connect(target)
    except OSError as problem:
        sock.close()
        raise CouldNotConnect(SpreadCode.COULD_NOT_CONNECT, str(problem)) from problem
    return sock


def _shake_hands(session: ClientSession, sock: socket.socket, deadline: float | None) -> None:
    try:
        sock.sendall(session.data_to_send())
        while session.state is SessionState.HANDSHAKE:
            sock.settimeout(_remaining(deadline))
            data = sock.recv(session.missing)
            if not data:
                raise connection_closed("end of stream during the handshake")
            session.receive(data)
            output = session.data_to_send()
            if output:
                sock.sendall(output)
    except OSError as problem:
        late = isinstance(problem, TimeoutError) or problem.errno == errno.EAGAIN
        raise connection_closed(
            "no complete handshake in time" if late else f"during the handshake: {problem}"
        ) from problem


def _remaining(deadline: float | None) -> float | None:
    """Seconds left; a socket treats 0 as "do not block", so never quite that."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.001)
