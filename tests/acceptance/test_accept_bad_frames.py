"""What stops an upstream daemon, sent to a real one: only the sender's session ends.

The inputs are those of ``docs/protocol/client-session.md`` section 9.2, and each check
of section 4.2 once.  While they arrive, another client's messages go on.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from acceptance_clients import NULL_CHOICE, connect_request

from txspread.testing.live_clients import Crowd
from txspread.testing.processes import DaemonProcess, DaemonRing, txspread_command, wait_until
from txspread.wire.constants import (
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    REJECT_MESS,
    ServiceType,
)

pytestmark = pytest.mark.timeout(120)

MARKER = 0x80000080
AGREED = int(ServiceType.AGREED_MESS)
REJECT_AUTH = b"\xf7"
REJECT_ILLEGAL_NAME = b"\xfb"
REJECT_NOT_UNIQUE = b"\xfa"
REJECT_VERSION = b"\xf9"
LIST = b"\x05NULL "


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    flags = {"DebugFlags": "{ PRINT EXIT SESSION }"}
    with DaemonRing([txspread_command()], flags) as ring:
        yield ring.daemons[0]


_NAMES = (b"bad%d" % number for number in itertools.count())


class Offender:
    """A client on a blocking socket, accepted or not yet."""

    def __init__(self, daemon: DaemonProcess, *, accepted: bool = True) -> None:
        self.name = next(_NAMES)
        self.private_group = b"#%s#%s" % (self.name, daemon.name.encode())
        self.socket = socket.create_connection((daemon.address, daemon.port), 30)
        if accepted:
            self.socket.sendall(connect_request(self.name))
            assert self.exactly(6) == LIST
            assert self.exactly(5)[:1] == b"\x01"
            assert self.exactly(len(self.private_group)) == self.private_group

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "closed"
            data += part
        return data

    def until_closed(self) -> bytes:
        """All that still comes; a reset is an end as well."""
        data = b""
        try:
            while part := self.socket.recv(65536):
                data += part
        except ConnectionError:
            pass
        self.socket.close()
        return data

    def frame(
        self,
        kind: int,
        names: bytes = b"g".ljust(32, b"\0"),
        body: bytes = b"",
        *,
        sender: bytes | None = None,
        num_groups: int | None = None,
        data_len: int | None = None,
        hint: int = MARKER,
        order: str = "<",
    ) -> bytes:
        return (
            struct.pack(
                order + "I32siIi",
                kind,
                self.private_group if sender is None else sender,
                len(names) // 32 if num_groups is None else num_groups,
                hint,
                len(body) if data_len is None else data_len,
            )
            + names
            + body
        )


class Bystander:
    """Another session, which sends itself numbered messages."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.crowd = Crowd()
        self.client = self.crowd.connect(daemon.address, daemon.port, next(_NAMES).decode())
        self.client.join("bystander")
        self.sent = 0
        assert self.crowd.run_until(lambda: len(self.client.members("bystander")) == 1)

    def round(self, count: int = 5) -> None:
        """Its messages all arrive, in order, and no membership message comes."""
        for _ in range(count):
            self.client.multicast(AGREED, ["bystander"], b"%d" % self.sent)
            self.sent += 1
        assert self.crowd.run_until(lambda: len(self.client.data) >= self.sent, 30)
        assert [message.body for message in self.client.data] == [
            b"%d" % number for number in range(self.sent)
        ]
        assert len(self.client.messages) == self.sent + 1
        assert not self.client.closed
        assert self.crowd.problems == []


@pytest.fixture(scope="module")
def bystander(daemon: DaemonProcess) -> Iterator[Bystander]:
    found = Bystander(daemon)
    yield found
    found.crowd.close()


def new_lines(daemon: DaemonProcess, before: str, text: str, count: int) -> None:
    """Exactly ``count`` new lines of the log have the text."""

    def found() -> int:
        return sum(text in line for line in daemon.output()[len(before) :].splitlines())

    wait_until(lambda: found() >= count, 20, f"{text!r} in the log")
    assert found() == count


FULL = b"#" + b"x" * 31
LONG_NAME = b"g" * 32
ILLEGAL_TYPE = "Message has illegal type field"
ILLEGAL_GROUP = "named an illegal group in a request"
TOO_LARGE = "Message + Groups is too large"

FRAMES: dict[str, tuple[Callable[[Offender], bytes], str]] = {
    "service and GROUPS": (lambda o: o.frame(AGREED | GROUPS_MESS | MARKER), ILLEGAL_TYPE),
    "join and REJECT": (lambda o: o.frame(JOIN_MESS | REJECT_MESS | MARKER), ILLEGAL_TYPE),
    "join of 32 bytes without NUL": (
        lambda o: o.frame(JOIN_MESS | MARKER, LONG_NAME, b"and a body"),
        ILLEGAL_GROUP,
    ),
    "leave of 32 bytes without NUL": (
        lambda o: o.frame(LEAVE_MESS | MARKER, LONG_NAME, b"and a body"),
        ILLEGAL_GROUP,
    ),
    "one byte above what a ring carries": (
        lambda o: o.frame(AGREED | MARKER, body=bytes(143_200 - 48 - 32 + 1)),
        TOO_LARGE,
    ),
    "the largest that upstream's check lets through": (
        lambda o: o.frame(AGREED | MARKER, body=bytes(143_952 - 32)),
        TOO_LARGE,
    ),
    "join without a group": (lambda o: o.frame(JOIN_MESS | MARKER, b""), "without a group"),
    "leave without a group": (lambda o: o.frame(LEAVE_MESS | MARKER, b""), "without a group"),
    "private target without an end": (
        lambda o: o.frame(AGREED | MARKER, FULL),
        "private group name without an end",
    ),
    "private target without an end, the last of three": (
        lambda o: o.frame(AGREED | MARKER, b"a".ljust(32, b"\0") * 2 + FULL),
        "private group name without an end",
    ),
    "two services": (lambda o: o.frame(AGREED | 0x20 | MARKER), ILLEGAL_TYPE),
    "no service": (lambda o: o.frame(MARKER), ILLEGAL_TYPE),
    "service and join": (lambda o: o.frame(AGREED | JOIN_MESS | MARKER), ILLEGAL_TYPE),
    "service and kill": (lambda o: o.frame(AGREED | KILL_MESS | MARKER), ILLEGAL_TYPE),
    "forged membership": (lambda o: o.frame(AGREED | 0x1100 | MARKER), ILLEGAL_TYPE),
    "forged transition": (lambda o: o.frame(AGREED | 0x2000 | MARKER), ILLEGAL_TYPE),
    "half a byte-order marker": (lambda o: o.frame(AGREED | 0x80), ILLEGAL_TYPE),
    "somebody else's session": (
        lambda o: o.frame(AGREED | MARKER, sender=b"#other" + o.private_group[-3:]),
        "trying to make session",
    ),
    "somebody else's daemon": (
        lambda o: o.frame(AGREED | MARKER, sender=b"#%s#elsewhere" % o.name),
        "is not my name",
    ),
    "a sender that is no private group": (
        lambda o: o.frame(AGREED | MARKER, sender=b"nobody"),
        "illegal private_group_name",
    ),
    "101 groups": (
        lambda o: o.frame(AGREED | MARKER, b"", num_groups=101),
        "too large num_groups",
    ),
    "negative number of groups": (
        lambda o: o.frame(AGREED | MARKER, b"", num_groups=-1),
        "negative or too large num_groups",
    ),
    "foreign bits in the hint": (
        lambda o: o.frame(AGREED | MARKER, hint=MARKER | 1),
        "illegal hint field",
    ),
    "negative length": (lambda o: o.frame(AGREED | MARKER, data_len=-1), "too large data_len"),
    "length above every limit": (
        lambda o: o.frame(AGREED | MARKER, data_len=144_001),
        "too large data_len",
    ),
    "GROUPS, written big-endian": (
        lambda o: o.frame(AGREED | GROUPS_MESS, order=">"),
        ILLEGAL_TYPE,
    ),
    "join of an illegal name": (
        lambda o: o.frame(JOIN_MESS | MARKER, b"a b".ljust(32, b"\0")),
        ILLEGAL_GROUP,
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_must_not_be_ends_the_session_that_sent_it_and_no_other(
    daemon: DaemonProcess, bystander: Bystander, name: str
) -> None:
    build, reason = FRAMES[name]
    offender = Offender(daemon)
    before = daemon.output()
    offender.socket.sendall(build(offender))
    bystander.round()
    assert offender.until_closed() == b""
    new_lines(daemon, before, f"Sess_kill: killing session {offender.name.decode()} ", 1)
    new_lines(daemon, before, reason, 1)
    assert "internal error" not in daemon.output()[len(before) :]
    bystander.round()
    assert daemon.running


def choice(*slots: bytes) -> bytes:
    return b"".join(slot.ljust(30, b"\0") for slot in slots).ljust(90, b"\0")


CHOICES = {
    "three full slots": b"NULL" + b"x" * 86,
    "nothing but letters": b"A" * 90,
    "no method": bytes(90),
    "unknown method": choice(b"MAGIC"),
    "IP is not allowed": choice(b"NULL", b"IP"),
    "user name without password": choice(b"PWORD") + b"user".ljust(32, b"\0"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_must_not_be_is_denied(
    daemon: DaemonProcess, bystander: Bystander, name: str
) -> None:
    offender = Offender(daemon, accepted=False)
    before = daemon.output()
    request = bytes((4, 4, 0, 1, len(offender.name))) + offender.name
    offender.socket.sendall(request + CHOICES[name])
    bystander.round()
    assert offender.until_closed() == LIST + REJECT_AUTH
    denied = f"Sess_session_denied: Authorization denied for {offender.name.decode()} "
    new_lines(daemon, before, denied, 1)
    bystander.round()
    assert daemon.running


REQUESTS = {
    "version": (b"\x03\x00\x00\x01\x01a" + NULL_CHOICE, REJECT_VERSION, "is not supported"),
    "long name": (
        b"\x04\x04\x00\x01\x0b" + b"a" * 11 + NULL_CHOICE,
        REJECT_ILLEGAL_NAME,
        "illegal private name",
    ),
    "negative length": (b"\x04\x04\x00\x01\xff", REJECT_ILLEGAL_NAME, "illegal private name"),
    "illegal byte": (b"\x04\x04\x00\x01\x03a#b", REJECT_ILLEGAL_NAME, "illegal private name"),
    "NUL in the name": (b"\x04\x04\x00\x01\x03a\0b", REJECT_ILLEGAL_NAME, "illegal private name"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_connect_request_that_must_not_be_gets_its_code(
    daemon: DaemonProcess, bystander: Bystander, name: str
) -> None:
    data, code, reason = REQUESTS[name]
    offender = Offender(daemon, accepted=False)
    before = daemon.output()
    offender.socket.sendall(data)
    assert offender.until_closed() == code
    new_lines(daemon, before, reason, 1)
    bystander.round()


def test_a_name_in_use_is_refused(daemon: DaemonProcess, bystander: Bystander) -> None:
    first = Offender(daemon)
    second = Offender(daemon, accepted=False)
    before = daemon.output()
    second.socket.sendall(connect_request(first.name))
    assert second.until_closed() == REJECT_NOT_UNIQUE
    new_lines(daemon, before, "non unique private name", 1)
    bystander.round()
    first.socket.close()


def test_silent_connections_hold_up_nobody_and_are_closed_after_a_second(
    daemon: DaemonProcess, bystander: Bystander
) -> None:
    silent = [Offender(daemon, accepted=False) for _ in range(50)]
    half = Offender(daemon, accepted=False)
    half.socket.sendall(b"\x04\x04\x00\x01\x05ab")
    started = time.monotonic()
    newcomer = Offender(daemon)
    bystander.round()
    newcomer.socket.close()
    for offender in [*silent, half]:
        assert offender.until_closed() == b""
    assert 0.5 < time.monotonic() - started < 30
    bystander.round()


def test_silence_after_the_list_holds_up_nobody(
    daemon: DaemonProcess, bystander: Bystander
) -> None:
    silent = [Offender(daemon, accepted=False) for _ in range(50)]
    for offender in silent:
        request = bytes((4, 4, 0, 1, len(offender.name))) + offender.name
        offender.socket.sendall(request + NULL_CHOICE[:89])
    for offender in silent:
        assert offender.exactly(6) == LIST
    newcomer = Offender(daemon)
    bystander.round()
    newcomer.socket.close()
    for offender in silent:
        offender.socket.shutdown(socket.SHUT_WR)
        assert offender.until_closed() == REJECT_AUTH
    again = Offender(daemon, accepted=False)
    again.socket.sendall(connect_request(silent[0].name))
    assert again.exactly(7) == LIST + b"\x01"
    again.socket.close()
    bystander.round()
