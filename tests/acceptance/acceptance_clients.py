"""Hundreds of clients of a real daemon that remember only what they need, in one thread."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path

from txspread.testing.processes import DaemonProcess
from txspread.wire.constants import (
    JOIN_MESS,
    LEAVE_MESS,
    MESSAGE_HEADER_SIZE,
    REGULAR_MESS,
    ServiceType,
)
from txspread.wire.message import HEADER_LE, encode_message, message_groups

NULL_CHOICE = b"NULL".ljust(90, b"\0")
_GROUP_ID_SIZE = 12


def connect_request(name: bytes, *, membership: bool = True) -> bytes:
    """Request of a 4.4 library, with the choice of the NULL method behind it."""
    return bytes((4, 4, 0, int(membership), len(name))) + name + NULL_CHOICE


def resident_bytes(process_id: int) -> int:
    """Memory of a process that is in RAM."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no VmRSS")


class LeanClient:
    """A client that keeps the last view of each group as the bytes it came in."""

    def __init__(self, crowd: LeanCrowd, daemon: DaemonProcess, name: bytes) -> None:
        self.crowd = crowd
        self.private_group = b"#%s#%s" % (name, daemon.name.encode())
        self.accepted = False
        self.closed = False
        self.views: dict[bytes, tuple[bytes, bytes]] = {}
        """Group id and names, by group; a group that was left is not there."""
        self.bodies: list[bytes] = []
        self.messages = 0
        self._received = bytearray()
        self._unsent = bytearray(connect_request(name))
        self.socket = socket.create_connection((daemon.address, daemon.port), 60)
        self.socket.setblocking(False)
        crowd.selector.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def members(self, group: bytes) -> list[bytes]:
        """Names in the last view of a group."""
        _, names = self.views.get(group, (b"", b""))
        return [names[at : at + 32].rstrip(b"\0") for at in range(0, len(names), 32)]

    def join(self, group: bytes) -> None:
        self.send(encode_message(JOIN_MESS, self.private_group, [group]))

    def leave(self, group: bytes) -> None:
        self.send(encode_message(LEAVE_MESS, self.private_group, [group]))

    def multicast(self, group: bytes, body: bytes) -> None:
        self.send(encode_message(ServiceType.AGREED_MESS, self.private_group, [group], body))

    def send(self, data: bytes) -> None:
        self._unsent += data
        self.push()

    def push(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        if not self.closed:
            writing = selectors.EVENT_WRITE if self._unsent else 0
            self.crowd.selector.modify(self.socket, selectors.EVENT_READ | writing, self)

    def pull(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        if not self.accepted and not self._accept():
            return
        self._take_messages()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.crowd.selector.unregister(self.socket)
            self.socket.close()

    def _accept(self) -> bool:
        # The list of methods, then 1, three version bytes, length and name.
        data = self._received
        start = 1 + data[0]
        if len(data) < start + 5 or len(data) < start + 5 + data[start + 4]:
            return False
        assert data[start] == 1, data
        end = start + 5 + data[start + 4]
        assert data[start + 5 : end] == self.private_group
        del data[:end]
        self.accepted = True
        return True

    def _take_messages(self) -> None:
        data = self._received
        at = 0
        while len(data) - at >= MESSAGE_HEADER_SIZE:
            kind, name, num_groups, _, data_len = HEADER_LE.unpack_from(data, at)
            names = at + MESSAGE_HEADER_SIZE
            body = names + 32 * num_groups
            if len(data) < body + data_len:
                break
            self.messages += 1
            if kind & ServiceType.REG_MEMB_MESS:
                group_id = bytes(data[body : body + _GROUP_ID_SIZE])
                self.views[name.rstrip(b"\0")] = group_id, bytes(data[names:body])
            elif kind & REGULAR_MESS:
                assert message_groups(bytes(data[at:body]), num_groups)
                self.bodies.append(bytes(data[body : body + data_len]))
            elif kind & ServiceType.CAUSED_BY_LEAVE:
                self.views.pop(name.rstrip(b"\0"))
            at = body + data_len
        del data[:at]


class LeanCrowd:
    """All of them."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.clients: list[LeanClient] = []

    def connect(self, daemon: DaemonProcess, name: bytes) -> LeanClient:
        """A client whose request is on its way."""
        client = LeanClient(self, daemon, name)
        self.clients.append(client)
        return client

    def run_until(self, condition: Callable[[], bool], limit: float = 120.0) -> bool:
        """Receive until a condition holds; whether it did in time."""
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                return False
            for key, mask in self.selector.select(0.05):
                client: LeanClient = key.data
                if mask & selectors.EVENT_READ:
                    client.pull()
                if mask & selectors.EVENT_WRITE and not client.closed:
                    client.push()
        return True

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.selector.close()
