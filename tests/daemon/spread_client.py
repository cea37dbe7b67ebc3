"""A client for the daemon tests, on a blocking socket."""

from __future__ import annotations

import socket

from txspread.wire.constants import JOIN_MESS, ServiceType
from txspread.wire.message import MessageHeader, encode_message, message_groups


class SpreadClient:
    """A blocking client: enough to join, send and receive."""

    def __init__(self, address, name, *, membership=True):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(30)
        self.socket.connect(address)
        self.socket.sendall(bytes((4, 4, 0, int(membership), len(name))) + name)
        self.exactly(self.exactly(1)[0])
        self.socket.sendall(b"NULL".ljust(90, b"\0"))
        assert self.exactly(1) == b"\x01"
        self.private_group = self.exactly(self.exactly(4)[3])

    def exactly(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return bytes(data)

    def join(self, group):
        self.socket.sendall(encode_message(JOIN_MESS, self.private_group, [group]))

    def send(self, group, body, service=ServiceType.AGREED_MESS):
        self.socket.sendall(encode_message(service, self.private_group, [group], body))

    def receive(self):
        start = self.exactly(48)
        header = MessageHeader.decode(start)
        rest = self.exactly(32 * header.num_groups + header.data_len)
        return (
            header,
            message_groups(start + rest, header.num_groups),
            rest[32 * header.num_groups :],
        )

    def wait_for_members(self, *members):
        while True:
            header, groups, _ = self.receive()
            if header.type & ServiceType.REG_MEMB_MESS and sorted(groups) == sorted(members):
                return

    def bodies(self, count):
        found = []
        while len(found) < count:
            header, _, body = self.receive()
            if header.type & ServiceType.REGULAR_MESS:
                found.append(body)
        return found

    def close(self):
        self.socket.close()
