"""Sending the datagrams of a turn in few system calls.

Datagrams are collected and grouped by destination; consecutive ones of one
length to one destination leave as a train (``UDP_SEGMENT``), which the kernel
cuts into ordinary datagrams on the way: a peer that knows nothing of it sees no
difference.  Kept for every destination, and between data and tokens:

* the order of two datagrams to one destination is the order of the calls;
* a token leaves after everything that was sent before it, and at once: nothing
  that the daemon does next may delay it.

Each daemon that tokens go to has connected sockets of its own, for which the kernel
looks up the route once and not for every datagram.

Datagrams to different destinations may change places between two tokens, as
they may on any network.  Data for the daemon that gets the token leave last, right
before it, so that it finds both when it wakes up.

Source: ``docs/protocol/daemon-datagrams.md`` sections 1.2 and 13.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from txspread.daemon.system_calls import send
from txspread.wire.packet import cut_train

UDP_SEGMENT: Final = 103
MAX_TRAIN: Final = 44
"""Most datagrams in one train: 44 of 1472 bytes are below the largest UDP payload."""
_MAX_TRAIN_BYTES: Final = 65000
_MAX_PENDING: Final = 256
"""Datagrams collected before they are sent even if the turn goes on."""
_PATIENCE: Final = 0.001
"""Seconds to wait, once, for room in a full send buffer."""
_SEGMENT_SIZE: Final = struct.Struct("=H")
_TRAIN_REFUSED: Final = frozenset(
    {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT}
)

_SAME_ROUTE: Final = frozenset({errno.ECONNREFUSED, errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE})

Address = tuple[str, int]


class Train:
    """Datagrams of one size, the last perhaps shorter, one behind the other."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes | bytearray, size: int) -> None:
        self.data = data
        self.size = size


class BatchSender:
    """The sending socket.

    Args:
        sending: a UDP socket with its options set; stays the caller's.
        token_addresses: where tokens go; these are never collected.
        trains: whether ``UDP_SEGMENT`` is tried.
        open_socket: opens another socket like ``sending``, to be connected; None: all
            leaves through ``sending``.

    """

    def __init__(
        self,
        sending: socket.socket,
        token_addresses: Iterable[Address],
        *,
        trains: bool = True,
        open_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        self._socket = sending
        self._open_socket = open_socket
        self._connected: dict[Address, socket.socket] = {}
        self._tokens: dict[Address, Address] = {}
        """Where tokens go, and where data to the same daemon go."""
        self._known: set[Address] = set()
        """Addresses of single daemons."""
        self.token_addresses(token_addresses)
        self._pending: dict[Address, list[bytes | Train]] = {}
        self._count = 0
        self._trains = trains and hasattr(socket, "SO_BINDTODEVICE")
        self._no_trains: set[Address] = set()
        self.datagrams = 0
        """Datagrams given to the kernel since the start."""
        self.calls = 0
        """System calls made for them."""
        self.failures: Counter[int] = Counter()
        """Datagrams given up, by error number."""

    def token_addresses(self, addresses: Iterable[Address]) -> None:
        """Replace the set of addresses where tokens go (after a reload)."""
        self._tokens = {(host, port): (host, port - 1 & 0xFFFF) for host, port in addresses}
        self._known = {*self._tokens, *self._tokens.values()}
        for address in [one for one in self._connected if one not in self._known]:
            self._connected.pop(address).close()

    def close(self) -> None:
        """Close the connected sockets."""
        for connected in self._connected.values():
            connected.close()
        self._connected.clear()
        self._open_socket = None

    def send(self, datagram: bytes, address: Address) -> None:
        """Send one datagram, at the latest at the next :meth:`flush`."""
        data_address = self._tokens.get(address)
        if data_address is not None:
            if self._count:
                group = self._pending.pop(data_address, None)
                if group is not None:
                    self._pending[data_address] = group
                self.flush()
            self._send_one(datagram, address)
            return
        self._collect(datagram, 1, address)

    def send_train(self, data: bytes | bytearray, size: int, address: Address) -> None:
        """Send datagrams of ``size`` bytes each, the last perhaps shorter.

        They are cut out of ``data``, which stays as it is, at the latest at the next
        :meth:`flush`.
        """
        if address in self._tokens:
            for datagram in cut_train(data, size):
                self.send(datagram, address)
            return
        self._collect(Train(data, size), (len(data) + size - 1) // size, address)

    def _collect(self, what: bytes | Train, count: int, address: Address) -> None:
        group = self._pending.get(address)
        if group is None:
            self._pending[address] = [what]
        else:
            group.append(what)
        self._count += count
        if self._count >= _MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Give the kernel all that is collected."""
        if not self._count:
            return
        pending, self._pending = self._pending, {}
        self._count = 0
        for address, collected in pending.items():
            group: list[bytes] = []
            for one in collected:
                if isinstance(one, bytes):
                    group.append(one)
                    continue
                if group:
                    self._send_collected(group, address)
                    group = []
                self._send_whole(one.data, one.size, address)
            if group:
                self._send_collected(group, address)

    def _send_collected(self, group: list[bytes], address: Address) -> None:
        if len(group) == 1:
            self._send_one(group[0], address)
        elif self._trains and address not in self._no_trains:
            self._send_group(group, address)
        else:
            for datagram in group:
                self._send_one(datagram, address)

    def _send_whole(self, data: bytes | bytearray, size: int, address: Address) -> None:
        """Send a train that came as one."""
        most = size * max(1, min(MAX_TRAIN, _MAX_TRAIN_BYTES // size))
        total = len(data)
        start = 0
        while start < total:
            if not self._trains or address in self._no_trains or total - start <= size:
                for datagram in cut_train(data[start:], size):
                    self._send_one(datagram, address)
                return
            part = data if total <= most else data[start : start + most]
            if self._send_train([part], size, address):
                start += most

    def _send_group(self, group: list[bytes], address: Address) -> None:
        start = 0
        total = len(group)
        while start < total:
            size = len(group[start])
            end = start + 1
            most = min(total, start + max(1, min(MAX_TRAIN, _MAX_TRAIN_BYTES // max(size, 1))))
            while end < most and len(group[end]) == size:
                end += 1
            if end < most and len(group[end]) < size:
                end += 1  # a shorter one may be the last of a train
            if end - start == 1:
                self._send_one(group[start], address)
            elif not self._send_train(group[start:end], size, address):
                for datagram in group[start:]:
                    self._send_one(datagram, address)
                return
            start = end

    def _send_train(self, train: Sequence[bytes | bytearray], size: int, address: Address) -> bool:
        """Send datagrams of ``size`` bytes, the last perhaps shorter; False if refused."""
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
        connected = self._connected.get(address) or self._connect(address)
        for attempt in (0, 1):
            self.calls += 1
            try:
                if connected is not None:
                    connected.sendmsg(train, control)
                else:
                    self._socket.sendmsg(train, control, 0, address)
            except OSError as error:
                if error.errno in _TRAIN_REFUSED:
                    # A path with a smaller MTU, or a device that cannot: for good.
                    self._no_trains.add(address)
                    return False
                if connected is not None:
                    connected = self._after_error(connected, address, error)
                if attempt or not self._wait(error, connected or self._socket):
                    self.failures[error.errno or 0] += len(train)
                    return True
            else:
                self.datagrams += len(train)
                return True
        return True

    def _send_one(self, datagram: bytes, address: Address) -> None:
        connected = self._connected.get(address) or self._connect(address)
        for attempt in (0, 1):
            self.calls += 1
            try:
                if connected is not None:
                    if send is None:
                        connected.send(datagram)
                    elif send(connected.fileno(), datagram) < 0:
                        raise BlockingIOError(errno.EAGAIN, "no room in the send buffer")
                else:
                    self._socket.sendto(datagram, address)
            except OSError as error:
                if connected is not None:
                    connected = self._after_error(connected, address, error)
                if attempt or not self._wait(error, connected or self._socket):
                    self.failures[error.errno or 0] += 1
                    return
            else:
                self.datagrams += 1
                return

    def _connect(self, address: Address) -> socket.socket | None:
        if self._open_socket is None or address not in self._known:
            return None
        try:
            connected = self._open_socket()
        except OSError:
            self._open_socket = None  # out of descriptors: the one socket does
            return None
        try:
            connected.connect(address)
        except OSError:
            connected.close()
            return None
        self._connected[address] = connected
        return connected

    def _after_error(
        self, connected: socket.socket, address: Address, error: OSError
    ) -> socket.socket | None:
        """What to send through next: a refusal is only an answer to an earlier datagram.

        Anything else may come from a route or an address that is no longer so.
        """
        if error.errno in _SAME_ROUTE:
            return connected
        del self._connected[address]
        connected.close()
        return None

    def _wait(self, error: OSError, sending: socket.socket) -> bool:
        """Wait for room in the send buffer; tells whether to try again.

        Other errors (a pending report of an unreachable port, an interface that
        is just going) are worth the one repetition that upstream makes, too.
        """
        if error.errno in {errno.EAGAIN, errno.ENOBUFS}:
            select.select((), (sending,), (), _PATIENCE)
        return error.errno not in {errno.EMSGSIZE, errno.EACCES, errno.EINVAL}
