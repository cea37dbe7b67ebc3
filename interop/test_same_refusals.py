"""Both daemons refuse the same handshakes with the same bytes, and close on the same frames.

Where ours is on purpose stricter or more patient is in a table of its own.
"""

from __future__ import annotations

import socket
import struct

import pytest
from attrs import frozen

from txspread.testing.processes import DaemonProcess
from txspread.wire.constants import JOIN_MESS, KILL_MESS, LEAVE_MESS, ServiceType

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(120)]

MARKER = 0x80000080
AGREED = int(ServiceType.AGREED_MESS)
NULL = b"NULL".ljust(90, b"\0")


def slots(*names: bytes) -> bytes:
    return b"".join(name.ljust(30, b"\0") for name in names).ljust(90, b"\0")


HANDSHAKES: dict[str, tuple[bytes, bytes]] = {
    "version 3.0": (b"\x03\x00\x00\x01\x01a", b""),
    "version 2.200": (b"\x02\xc8\x00\x01\x01a", b""),
    "version 200": (b"\xc8\x00\x00\x01\x01a", b""),
    "version 3.1": (b"\x03\x01\x01\x03old", b""),
    "version 3.14": (b"\x03\x0e\x01\x05older", b""),
    "version 3.15": (b"\x03\x0f\x00\x01\x06middle", b""),
    "version 3.16": (b"\x03\x10\x00\x01\x03new", NULL),
    "version 9.9": (b"\x09\x09\x09\x01\x06future", NULL),
    "name of 11": (b"\x04\x04\x00\x01\x0b" + b"a" * 11, b""),
    "negative length": (b"\x04\x04\x00\x01\x80", b""),
    "space in the name": (b"\x04\x04\x00\x01\x03a b", b""),
    "hash in the name": (b"\x04\x04\x00\x01\x03a#b", b""),
    "quote in the name": (b'\x04\x04\x00\x01\x03a"b', b""),
    "high byte in the name": (b"\x04\x04\x00\x01\x03a\xe4b", b""),
    "DEL in the name": (b"\x04\x04\x00\x01\x03a\x7fb", b""),
    "odd but legal name": (b"\x04\x04\x00\x01\x08$~/@.:;!", NULL),
    "no method": (b"\x04\x04\x00\x01\x02m1", bytes(90)),
    "unknown method": (b"\x04\x04\x00\x01\x02m2", slots(b"MAGIC")),
    "method not allowed": (b"\x04\x04\x00\x01\x02m3", slots(b"IP")),
    "one allowed, one not": (b"\x04\x04\x00\x01\x02m4", slots(b"NULL", b"IP")),
    "the same twice": (b"\x04\x04\x00\x01\x02m5", slots(b"NULL", b"NULL")),
    "nothing before the method": (b"\x04\x04\x00\x01\x02m6", slots(b"", b"NULL")),
    "text behind the name": (b"\x04\x04\x00\x01\x02m7", slots(b"NULL\0garbage")),
    "lower case": (b"\x04\x04\x00\x01\x02m8", slots(b"null")),
    "every flag": (b"\x04\x04\x00\xff\x02m9", NULL),
}


def converse(daemon: DaemonProcess, request: bytes, choice: bytes) -> bytes:
    """What a daemon says to a handshake, up to its end or, when accepted, the name."""
    with socket.create_connection((daemon.address, daemon.port), 40) as client:
        client.sendall(request)
        said = b""
        try:
            while part := client.recv(1000):
                said += part
                if choice and said == b"\x05NULL ":
                    client.sendall(choice)
                if said.endswith(b"#d1"):
                    break
        except ConnectionResetError:
            pass  # bytes that were not read turn a close into this
        return said


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_gets_the_same_answer(
    ours: DaemonProcess, theirs: DaemonProcess, name: str
) -> None:
    request, choice = HANDSHAKES[name]
    assert converse(ours, request, choice) == converse(theirs, request, choice)


@frozen
class Frame:
    """A message with whatever fields; ``sender`` has the client's name filled in."""

    kind: int = AGREED | MARKER
    names: bytes = b"g".ljust(32, b"\0")
    body: bytes = b""
    sender: bytes = b"#%s#d1"
    num_groups: int | None = None
    data_len: int | None = None
    hint: int = MARKER

    def build(self, name: bytes) -> bytes:
        """The bytes as a client of that name sends them."""
        sender = self.sender % name if b"%s" in self.sender else self.sender
        count = len(self.names) // 32 if self.num_groups is None else self.num_groups
        size = len(self.body) if self.data_len is None else self.data_len
        return struct.pack("<I32siIi", self.kind, sender, count, self.hint, size) + (
            self.names + self.body
        )


CLOSED: dict[str, Frame] = {
    "no kind": Frame(MARKER),
    "two services": Frame(AGREED | 1 | MARKER),
    "service and join": Frame(AGREED | JOIN_MESS | MARKER),
    "join and leave": Frame(JOIN_MESS | LEAVE_MESS | MARKER),
    "service and kill": Frame(AGREED | KILL_MESS | MARKER),
    "half a marker": Frame(AGREED | 0x80),
    "the other half": Frame(AGREED | 0x80000000),
    "no sender": Frame(sender=b""),
    "a sender without hashes": Frame(sender=b"someone"),
    "another session": Frame(sender=b"#other#d1"),
    "another daemon": Frame(sender=b"#%s#d2"),
    "a longer daemon": Frame(sender=b"#%s#d1x"),
    "three parts": Frame(sender=b"#%s#d1#x"),
    "101 groups": Frame(num_groups=101),
    "-1 groups": Frame(num_groups=-1),
    "negative length": Frame(data_len=-1),
    "length over the limit": Frame(data_len=143_921),
    "huge length": Frame(data_len=0x7FFFFFFF),
    "low bits of the hint": Frame(hint=MARKER | 1),
    "high bits of the hint": Frame(hint=MARKER | 0x01000000),
}
OPEN: dict[str, Frame] = {
    "no groups": Frame(names=b""),
    "43 groups": Frame(names=b"g".ljust(32, b"\0") * 43),
    "every library bit": Frame(AGREED | 0x7F000000 | MARKER),
    "big-endian hint": Frame(hint=0x00341200),
    "leave of nothing": Frame(LEAVE_MESS | MARKER),
    "join with a body": Frame(JOIN_MESS | MARKER, body=b"body"),
    "garbage behind the sender": Frame(sender=b"#%s#d1\0garbage"),
}
STRICTER: dict[str, Frame] = {
    "forged membership": Frame(AGREED | 0x1100 | MARKER),
    "retransmission bit": Frame(AGREED | 0x4000 | MARKER),
    "join of a name with a space": Frame(JOIN_MESS | MARKER, b"a b".ljust(32, b"\0")),
    "join of a private name": Frame(JOIN_MESS | MARKER, b"#a#d1".ljust(32, b"\0")),
    "join of nothing": Frame(JOIN_MESS | MARKER, bytes(32)),
}

_numbers = iter(range(100_000))


def stays_open(daemon: DaemonProcess, frame: Frame) -> bool:
    """Whether the session of a client goes on after it has sent a frame."""
    name = b"r%d" % next(_numbers)
    with socket.create_connection((daemon.address, daemon.port), 40) as client:
        client.sendall(bytes((4, 4, 0, 1, len(name))) + name)
        said = b""
        while not said.endswith(b"#d1"):
            said += client.recv(1000)
            if said == b"\x05NULL ":
                client.sendall(NULL)
        probe = Frame(names=(b"#%s#d1" % name).ljust(32, b"\0"), body=b"still here")
        client.sendall(frame.build(name) + probe.build(name))
        said = b""
        try:
            while part := client.recv(100_000):
                said += part
                if said.endswith(b"still here"):
                    return True
        except ConnectionResetError:
            pass
        return False


@pytest.mark.parametrize("name", CLOSED)
def test_a_frame_that_ends_the_session_at_both(
    ours: DaemonProcess, theirs: DaemonProcess, name: str
) -> None:
    assert not stays_open(theirs, CLOSED[name])
    assert not stays_open(ours, CLOSED[name])


@pytest.mark.parametrize("name", OPEN)
def test_a_frame_that_both_take(ours: DaemonProcess, theirs: DaemonProcess, name: str) -> None:
    assert stays_open(theirs, OPEN[name])
    assert stays_open(ours, OPEN[name])


@pytest.mark.parametrize("name", STRICTER)
def test_a_frame_that_only_ours_refuses(
    ours: DaemonProcess, theirs: DaemonProcess, name: str
) -> None:
    assert stays_open(theirs, STRICTER[name])
    assert not stays_open(ours, STRICTER[name])
