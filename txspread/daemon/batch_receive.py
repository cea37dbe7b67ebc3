"""Taking many datagrams from a socket with one system call.

With ``UDP_GRO`` a train of datagrams that a peer sent in one piece arrives in one
piece, with the size at which to cut it, and ``recvmmsg`` takes several trains or
single datagrams.  Both are Linux's.  A call for many costs 5 µs more than one for a
single datagram or train, so it is made only once more than one is known to wait.
:class:`SingleReceiver` takes one datagram at a time on any system; it is also the
cheapest for tokens, of which there seldom is more than one.

A datagram longer than a slot is cut by the kernel and then fails the engine's
length test, as it does upstream.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import Final, Protocol, TypeAlias

from txspread.daemon import system_calls

UDP_GRO: Final = 104
SLOT_SIZE: Final = 65536
"""Largest train or token, bytes."""
SLOTS: Final = 16
"""Most datagrams or trains for one call."""
_CONTROL_SIZE: Final = 32
"""One control message with an int: 16 bytes of header and the value, aligned."""
_HEADER: Final = struct.Struct("@PI4xPNPNi4xI4x")
"""``struct mmsghdr`` on a 64-bit machine."""
_VECTOR: Final = struct.Struct("@PN")
_HEADER_SIZE: Final = 64
_read_int: Final = struct.Struct("@i").unpack_from
_MSG_DONTWAIT: Final = 0x40
_LENGTH_WORD: Final = 14
"""Index of ``msg_len`` in a header, in 32-bit words."""
_CONTROL_LENGTH_WORD: Final = 5
"""Index of ``msg_controllen`` in a header, in 64-bit words."""


_ONE: Final = memoryview(bytearray(SLOT_SIZE))
"""Room for what is read one at a time, before it is copied."""
Received: TypeAlias = tuple[bytes | memoryview, int]
"""A datagram and 0, or a train and the size at which to cut it."""


class Receiver(Protocol):
    """Takes what waits at one socket."""

    def receive(self, many: bool) -> list[Received]:
        """The next datagrams in order of arrival; empty when none wait.

        What is no ``bytes`` object is overwritten by the next call.

        Args:
            many: more than one is thought to wait.

        Raises:
            OSError: the socket has a pending error; reading may go on.

        """


class BatchReceiver:
    """``recvmmsg`` with ``UDP_GRO``.

    Args:
        receiving: a bound UDP socket; stays the caller's.

    Raises:
        OSError: the system has no ``recvmmsg`` with the layout known here.

    """

    def __init__(self, receiving: socket.socket) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        function = getattr(library, "recvmmsg", None)
        if function is None or _HEADER.size != _HEADER_SIZE or ctypes.sizeof(ctypes.c_long) != 8:
            raise OSError("no recvmmsg of the known layout")
        self._call = function
        self._call.argtypes = (
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_void_p,
        )
        self._socket = receiving
        try:
            receiving.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        except OSError:
            pass  # an older kernel: trains simply arrive cut
        space = bytearray(SLOTS * SLOT_SIZE)
        control = bytearray(SLOTS * _CONTROL_SIZE)
        vectors = bytearray(SLOTS * _VECTOR.size)
        headers = bytearray(SLOTS * _HEADER_SIZE)
        space_at, control_at, vectors_at, headers_at = map(
            _address_of, (space, control, vectors, headers)
        )
        for slot in range(SLOTS):
            _VECTOR.pack_into(vectors, slot * _VECTOR.size, space_at + slot * SLOT_SIZE, SLOT_SIZE)
            _HEADER.pack_into(
                headers,
                slot * _HEADER_SIZE,
                0,
                0,
                vectors_at + slot * _VECTOR.size,
                1,
                control_at + slot * _CONTROL_SIZE,
                _CONTROL_SIZE,
                0,
                0,
            )
        # The vectors' memory must live as long as the headers that point to it.
        self._vectors = vectors
        self._headers_at = ctypes.c_void_p(headers_at)
        self._space = memoryview(space)
        self._first = [self._space[:SLOT_SIZE]]
        self._lengths = memoryview(headers).cast("I")
        self._control_lengths = memoryview(headers).cast("Q")
        self._control = memoryview(control).cast("i")

    def receive(self, many: bool) -> list[Received]:
        """See :meth:`Receiver.receive`."""
        return self._receive_many() if many else self._receive_one()

    def _receive_one(self) -> list[Received]:
        """One datagram or train."""
        try:
            count, control, _, _ = self._socket.recvmsg_into(self._first, _CONTROL_SIZE)
        except (BlockingIOError, InterruptedError):
            return []
        data = self._space[:count]
        if control:
            segment = _read_int(control[0][2])[0]
            if 0 < segment < count:
                return [(data, segment)]
        return [(data.tobytes(), 0)]

    def _receive_many(self) -> list[Received]:
        count = self._call(self._socket.fileno(), self._headers_at, SLOTS, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in {errno.EAGAIN, errno.EINTR}:
                return []
            raise OSError(code, "recvmmsg failed")
        received: list[Received] = []
        space, lengths, control_lengths = self._space, self._lengths, self._control_lengths
        for slot in range(count):
            start = slot * SLOT_SIZE
            length = lengths[slot * 16 + _LENGTH_WORD]
            data = space[start : start + length]
            word = slot * 8 + _CONTROL_LENGTH_WORD
            segment = 0
            if control_lengths[word]:
                segment = self._control[slot * (_CONTROL_SIZE // 4) + 4]
            control_lengths[word] = _CONTROL_SIZE
            received.append((data, segment) if 0 < segment < length else (data.tobytes(), 0))
        return received


class DirectReceiver:
    """Reads by :data:`~txspread.daemon.system_calls.receive`, with ``UDP_GRO``.

    Args:
        receiving: a bound UDP socket; stays the caller's.

    Raises:
        OSError: this installation does not have it.

    """

    def __init__(self, receiving: socket.socket) -> None:
        if system_calls.receive is None:
            raise OSError("installed without its own system calls")
        self._call = system_calls.receive
        self._descriptor = receiving.fileno()
        self._space = memoryview(bytearray(SLOTS * SLOT_SIZE))
        try:
            receiving.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        except OSError:
            pass  # as above

    def receive(self, many: bool) -> list[Received]:
        """See :meth:`Receiver.receive`."""
        return self._call(self._descriptor, self._space, SLOTS if many else 1)


class SingleReceiver:
    """One datagram for each call, on any system."""

    def __init__(self, receiving: socket.socket) -> None:
        self._socket = receiving

    def receive(self, many: bool) -> list[Received]:
        """See :meth:`Receiver.receive`; always one, whatever ``many`` says."""
        datagram = receive_single(self._socket)
        return [] if datagram is None else [(datagram, 0)]


def receive_single(receiving: socket.socket) -> bytes | None:
    """The next datagram; None when none waits.

    Raises:
        OSError: as for :meth:`Receiver.receive`.

    """
    if system_calls.receive is not None:
        found = system_calls.receive(receiving.fileno(), _ONE, 1)
        return bytes(found[0][0]) if found else None
    try:
        return receiving.recv(SLOT_SIZE)
    except (BlockingIOError, InterruptedError):
        return None


def make_receiver(
    receiving: socket.socket,
) -> DirectReceiver | BatchReceiver | SingleReceiver:
    """The best receiver of many datagrams that this system and installation allow."""
    if system_calls.receive is not None:
        return DirectReceiver(receiving)
    try:
        return BatchReceiver(receiving)
    except OSError:
        return SingleReceiver(receiving)


def _address_of(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
