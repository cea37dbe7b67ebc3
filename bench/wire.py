"""The little of the client protocol that a load generator needs, on blocking sockets."""

from __future__ import annotations

import secrets
import socket

from txspread.wire.constants import (
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MESSAGE_HEADER_SIZE,
    ServiceType,
)
from txspread.wire.message import MessageHeader, encode_message

VERSION = bytes((4, 4, 0))
_NULL_CHOICE = b"NULL".ljust(90, b"\0")
_RECEIVE_BUFFER = 4 * 1024 * 1024


class Client:
    """A connected session.

    Args:
        address: host and port, or the path of a Unix socket.
        name: session name, at most 10 bytes.
        membership: whether membership messages are wanted.

    """

    def __init__(
        self, address: tuple[str, int] | str, name: str, *, membership: bool = False
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        # Room for what a daemon sends while the reader waits for its core.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200 * 1024)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(20)
        self.socket.connect(address)
        encoded = name.encode()
        self.socket.sendall(VERSION + bytes((int(membership), len(encoded))) + encoded)
        length = self.exactly(1)[0]
        if length > 127:
            raise ConnectionError(f"{name}: refused with code {length - 256}")
        self.exactly(length)
        self.socket.sendall(_NULL_CHOICE)
        code = self.exactly(1)[0]
        if code != 1:
            raise ConnectionError(f"{name}: refused with code {code - 256}")
        self.private_group = self.exactly(self.exactly(4)[3])

    def exactly(self, size: int) -> bytes:
        """Read that many bytes."""
        parts = bytearray()
        while len(parts) < size:
            part = self.socket.recv(size - len(parts))
            if not part:
                raise ConnectionError("the daemon has closed the connection")
            parts += part
        return bytes(parts)

    def join(self, group: bytes) -> None:
        """Ask to join a group."""
        self.socket.sendall(encode_message(JOIN_MESS, self.private_group, [group]))

    def leave(self, group: bytes) -> None:
        """Ask to leave a group."""
        self.socket.sendall(encode_message(LEAVE_MESS, self.private_group, [group]))

    def disconnect(self) -> None:
        """Say goodbye, and drop the connection."""
        self.socket.sendall(encode_message(KILL_MESS, self.private_group, [self.private_group]))
        self.close()

    def echo(self) -> None:
        """Send a message to this session itself and wait for it: what was asked before is done."""
        self.socket.sendall(self.data_frame(self.private_group, b"", ServiceType.AGREED_MESS))
        while True:
            header, _ = self.receive()
            if header.sender == self.private_group and not header.data_len:
                return

    def data_frame(self, group: bytes, body: bytes, service: int) -> bytes:
        """A data message of this client to one group."""
        return encode_message(service, self.private_group, [group], body)

    def receive(self) -> tuple[MessageHeader, bytes]:
        """The next frame: its header, and all of it."""
        start = self.exactly(MESSAGE_HEADER_SIZE)
        header = MessageHeader.decode(start)
        rest = self.exactly(32 * header.num_groups + header.data_len)
        return header, start + rest

    def wait_for_members(self, count: int) -> None:
        """Read until a regular membership with that many members has arrived."""
        while True:
            header, _ = self.receive()
            if header.type & ServiceType.REG_MEMB_MESS and header.num_groups == count:
                return

    def close(self) -> None:
        """Drop the connection."""
        self.socket.close()


def unique_name(letter: str) -> str:
    """A session name that no earlier session has, whose end may still be on its way."""
    return letter + secrets.token_hex(4)


def frame_size(body: int, groups: int = 1) -> int:
    """Bytes of a frame."""
    return MESSAGE_HEADER_SIZE + 32 * groups + body
