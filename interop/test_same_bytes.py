"""Both daemons answer the same requests with the same bytes.

A seeded script of legal requests is played on each daemon by clients of several ages and
both byte orders, one request at a time.  What each client is sent has to be equal, byte
for byte, but for the two words of a group id that name the daemon and the time of its
start.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from interop.mixed import formed, ring_of
from txspread.testing.processes import DaemonProcess
from txspread.wire.constants import (
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MEMBERSHIP_MESS,
    ServiceType,
)

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(300)]

SEEDS = range(int(os.environ.get("SAME_BYTES_SEEDS", "8")))
REQUESTS = 150
LITTLE, BIG = "<", ">"
MARKER = 0x80000080
SERVICES = [int(service) for service in (1, 2, 4, 8, 16, 32)]
GROUPS = [b"red", b"green", b"blue", b"$", b"~" * 31, b"A@b/c"]
SAFE = int(ServiceType.SAFE_MESS)


class Speaker:
    """A client at the level of bytes.

    Args:
        daemon: where to connect.
        name: private name.
        version: of the library it says it is.
        membership: whether it asks for membership messages.
        order: of its machine.

    """

    def __init__(
        self,
        daemon: DaemonProcess,
        name: bytes,
        version: tuple[int, int, int],
        membership: bool,
        order: str,
    ) -> None:
        self.order = order
        self.marker = MARKER if order == LITTLE else 0
        self.transcript: list[bytes] = []
        """The reply to the request, then each frame."""
        self.socket = socket.create_connection((daemon.address, daemon.port), 40)
        patch = version[2:] if version > (3, 14, 99) else ()
        self.socket.sendall(bytes((*version[:2], *patch, int(membership), len(name))) + name)
        if version >= (3, 16, 0):
            methods = self._exactly(1)
            methods += self._exactly(methods[0])
            self.transcript.append(methods)
            self.socket.sendall(b"NULL".ljust(90, b"\0"))
        words = 5 if version >= (3, 15, 0) else 4
        reply = self._exactly(words)
        self.private_group = self._exactly(reply[-1])
        self.transcript.append(reply + self.private_group)
        self._probes = 0

    def frame(self, kind: int, groups: list[bytes], body: bytes = b"", mess_type: int = 0) -> bytes:
        """A message as this machine writes it."""
        hint = (mess_type & 0xFFFF) << 8 | self.marker
        header = struct.pack(
            self.order + "I32siIi",
            kind | self.marker,
            self.private_group,
            len(groups),
            hint,
            len(body),
        )
        return header + b"".join(group.ljust(32, b"\0") for group in groups) + body

    def send(self, *words: object, **more: object) -> None:
        """Send a message; arguments as of :meth:`frame`."""
        self.socket.sendall(self.frame(*words, **more))  # type: ignore[arg-type]

    def settle(self) -> None:
        """Wait until all that was sent so far has taken effect."""
        self._probes += 1
        body = b"probe %d" % self._probes
        self.send(SAFE, [self.private_group], body)
        while not self.receive().endswith(body):
            pass

    def receive(self) -> bytes:
        """One frame, as the daemon's byte order has it: that of this machine."""
        header = self._exactly(48)
        kind, _, groups, _, size = struct.unpack("=I32siIi", header)
        body = self._exactly(32 * groups + size)
        if kind & MEMBERSHIP_MESS and size >= 12:
            names = 32 * groups
            body = body[:names] + bytes(8) + body[names + 8 :]
        self.transcript.append(header + body)
        return header + body

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError(f"closed after {self.transcript[-1:]}")
            data += part
        return data


def is_end(frame: bytes, group: bytes, member: bytes) -> bool:
    """Whether a frame tells the members of a group that one has disconnected."""
    kind = int.from_bytes(frame[:4], sys.byteorder)
    disconnect = bool(kind & ServiceType.CAUSED_BY_DISCONNECT)
    return (
        disconnect and frame[4:36].rstrip(b"\0") == group and frame.rstrip(b"\0").endswith(member)
    )


def play(daemons: Sequence[DaemonProcess], seed: int, services: Sequence[int]) -> list[list[bytes]]:
    """Run the script of a seed with clients on some daemons of a ring; their transcripts."""
    dice = random.Random(seed)
    everybody: list[Speaker] = []
    present: list[Speaker] = []

    def connect() -> None:
        version = dice.choice([(4, 4, 0), (4, 4, 0), (3, 17, 4), (3, 15, 0), (3, 13, 0), (9, 9, 9)])
        speaker = Speaker(
            dice.choice(daemons),
            b"s%dx%d" % (seed, len(everybody)),
            version,
            dice.random() < 0.8,
            dice.choice([LITTLE, LITTLE, BIG]),
        )
        everybody.append(speaker)
        present.append(speaker)
        speaker.send(JOIN_MESS, [b"all"])
        speaker.settle()

    def join() -> None:
        speaker = dice.choice(present)
        # More groups, a body and SELF_DISCARD change nothing.
        extra = [b"x", b"y"] if dice.random() < 0.2 else []
        discard = dice.choice([0, 0, 0x40])
        body = b"ignored" if dice.random() < 0.2 else b""
        speaker.send(JOIN_MESS | discard, [dice.choice(GROUPS), *extra], body)
        speaker.settle()

    def leave() -> None:
        speaker = dice.choice(present)
        speaker.send(LEAVE_MESS, [dice.choice([*GROUPS, b"nowhere"])])
        speaker.settle()

    def targets() -> list[bytes]:
        private = [speaker.private_group for speaker in everybody]
        odd = [b"nowhere", b"", b"#nobody#d1", b"#a#elsewhere", b"#", b"#x", b"\xff\x01"]
        return dice.choices(GROUPS + private + odd, k=dice.choice([0, 1, 1, 2, 5, 43]))

    def multicast() -> None:
        speaker = dice.choice(present)
        kind = dice.choice(services)
        kind |= dice.choice([0, 0, 0, 0x40, 0x40000000, 0x7F000000])
        size = dice.choice([0, 1, 100, 1384, 5000, 60000])
        mess_type = dice.choice([0, 1, -1, 0x1234, -32768, 32767])
        speaker.send(kind, targets(), dice.randbytes(size), mess_type)
        speaker.settle()

    def part() -> None:
        if len(present) < 3:
            return
        speaker = present.pop(dice.randrange(1, len(present)))
        witness = present[0]
        speaker.settle()
        how = dice.randrange(3)
        if how == 0:
            speaker.send(KILL_MESS, [speaker.private_group])
        elif how == 1:
            speaker.socket.shutdown(socket.SHUT_WR)
        else:
            speaker.send(KILL_MESS | 0x40, [], b"")
        # The end of its stream says that the daemon has seen it go.
        assert speaker.socket.recv(1) == b""
        speaker.socket.close()
        # Everybody is in that group; the end is ordered when its other members hear of it.
        while not is_end(witness.receive(), b"all", speaker.private_group):
            pass

    def first() -> None:
        """A witness that is told of all who come and go."""
        speaker = Speaker(daemons[0], b"s%dw" % seed, (4, 4, 0), True, LITTLE)
        everybody.append(speaker)
        present.append(speaker)
        speaker.send(JOIN_MESS, [b"all"])
        speaker.settle()

    first()
    for _ in range(3):
        connect()
    actions: list[Callable[[], None]] = [connect, join, join, join, leave, multicast, part]
    for _ in range(REQUESTS):
        dice.choice([*actions, multicast, multicast, multicast])()
    for speaker in present:
        speaker.settle()
    for speaker in present:
        speaker.socket.close()
    return [speaker.transcript for speaker in everybody]


def compare(mine: list[list[bytes]], upstreams: list[list[bytes]]) -> None:
    assert len(mine) == len(upstreams)
    for number, (got, expected) in enumerate(zip(mine, upstreams, strict=True)):
        for index, (one, other) in enumerate(zip(got, expected, strict=False)):
            assert one == other, f"client {number}, message {index}"
        assert len(got) == len(expected), f"client {number}"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_requests_are_answered_with_the_same_bytes(
    ours: DaemonProcess, theirs: DaemonProcess, seed: int
) -> None:
    compare(play([ours], seed, SERVICES), play([theirs], seed, SERVICES))


@pytest.fixture(scope="module")
def all_theirs(upstream: Path) -> Iterator[Sequence[DaemonProcess]]:
    """A ring of three daemons of upstream."""
    with ring_of("uuu", upstream) as ring:
        yield formed(ring)


@pytest.mark.parametrize("pattern", ["ttt", "utu", "tut"])
def test_rings_of_any_kind_answer_as_upstreams_do(
    upstream: Path, all_theirs: Sequence[DaemonProcess], pattern: str
) -> None:
    # Messages below FIFO may overtake others, so their place is nobody's promise.
    ordered = SERVICES[2:]
    with ring_of(pattern, upstream) as ring:
        daemons = formed(ring)
        for seed in SEEDS[:4]:
            compare(play(daemons, seed + 1000, ordered), play(all_theirs, seed + 1000, ordered))
