"""The handshake between client and daemon.

Source: ``docs/protocol/client-session.md`` section 2.  Decoders here are
incremental: they take what has come so far and return None while more is needed,
else what they read and how many bytes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from txspread.wire.constants import (
    MAX_AUTH_METHODS,
    MAX_AUTH_NAME,
    MAX_PRIVATE_NAME,
    SpreadCode,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.names import legal_characters

AUTH_CHOICE_SIZE: Final = MAX_AUTH_METHODS * MAX_AUTH_NAME
"""90 bytes."""
PASSWORD_SIZE: Final = 40
"""User name of 32 bytes and password of 8."""
OLDEST_VERSION: Final = 30100
AUTH_VERSION: Final = 31600
"""Clients from 3.16 on take part in the choice of authentication methods."""
PATCH_VERSION: Final = 31500
"""Clients from 3.15 on are told three version bytes."""

_SEND_PATCH_ABOVE: Final = 31400


class HandshakeError(ProtocolError):
    """A handshake to be answered with a reject code."""

    def __init__(self, code: SpreadCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _signed(byte: int) -> int:
    return byte - 256 if byte & 0x80 else byte


@frozen
class ConnectRequest:
    """The first thing a client sends: 4 to 15 bytes."""

    major: int
    """-128 to 127, as upstream reads a byte."""
    minor: int
    patch: int | None
    """None from a client of 3.14 or older, which does not send it."""
    membership: bool
    """Whether the client wants membership messages."""
    priority: int
    """0 to 15, without meaning."""
    name: bytes
    """At most 10 bytes; empty: the daemon shall invent one."""

    @property
    def version(self) -> int:
        """10000 * major + 100 * minor + patch."""
        return 10000 * self.major + 100 * self.minor + (self.patch or 0)

    @property
    def negotiates(self) -> bool:
        """Whether the client takes part in the choice of authentication methods."""
        return self.version >= AUTH_VERSION

    @classmethod
    def decode(cls, data: bytes) -> tuple[ConnectRequest, int] | None:
        """Read a request from the bytes that have come so far.

        Raises :class:`HandshakeError` with the code to answer, as soon as enough
        has come to tell: a version before 3.1, a length outside 0 to 10, an illegal
        byte in the name.
        """
        if len(data) < 2:
            return None
        major = _signed(data[0])
        minor = _signed(data[1])
        base = 10000 * major + 100 * minor
        at = 2
        patch: int | None = None
        if base > _SEND_PATCH_ABOVE:
            if len(data) < 3:
                return None
            patch = _signed(data[2])
            at = 3
        if base + (patch or 0) < OLDEST_VERSION:
            raise HandshakeError(
                SpreadCode.REJECT_VERSION, f"client version {major}.{minor} is too old"
            )
        if len(data) < at + 2:
            return None
        flags = data[at]
        length = _signed(data[at + 1])
        if not 0 <= length <= MAX_PRIVATE_NAME:
            raise HandshakeError(SpreadCode.REJECT_ILLEGAL_NAME, f"name of {length} bytes")
        at += 2
        name = data[at : at + length]
        if name and not legal_characters(name):
            raise HandshakeError(SpreadCode.REJECT_ILLEGAL_NAME, f"illegal name {name!r}")
        if len(name) < length:
            return None
        membership = flags < 0x80 and flags % 2 == 1
        return cls(major, minor, patch, membership, flags >> 4, bytes(name)), at + length

    def encode(self) -> bytes:
        """The request.

        Raises :class:`ProtocolError` for a name longer than 10 bytes or a number
        outside its range, or a patch that this version does not send.
        """
        if (self.patch is not None) != (10000 * self.major + 100 * self.minor > _SEND_PATCH_ABOVE):
            raise ProtocolError("clients send a patch byte from version 3.15 on")
        if len(self.name) > MAX_PRIVATE_NAME or not 0 <= self.priority <= 15:
            raise ProtocolError(f"name {self.name!r} or priority {self.priority} does not fit")
        version = [self.major, self.minor]
        if self.patch is not None:
            version.append(self.patch)
        if not all(-128 <= part <= 127 for part in version):
            raise ProtocolError(f"version {version} does not fit its bytes")
        flags = int(self.membership) | self.priority << 4
        head = bytes([*[part & 0xFF for part in version], flags, len(self.name)])
        return head + self.name


def encode_auth_list(methods: Iterable[bytes]) -> bytes:
    """Length byte and the names, each followed by a space.

    Raises :class:`ProtocolError` above 127 bytes: clients read the length signed.
    """
    names = b"".join([method + b" " for method in methods])
    if len(names) > 127:
        raise ProtocolError(f"list of authentication methods of {len(names)} bytes")
    return bytes([len(names)]) + names


def decode_auth_list(data: bytes) -> tuple[tuple[bytes, ...], int] | None:
    """The methods that a daemon allows.

    Raises :class:`HandshakeError` with the code when the daemon refused instead,
    or with CONNECTION_CLOSED for a length above 90, as the client library does.
    """
    if not data:
        return None
    length = _signed(data[0])
    if length < 0:
        raise refusal(length)
    if length > AUTH_CHOICE_SIZE:
        raise HandshakeError(SpreadCode.CONNECTION_CLOSED, f"list of {length} bytes")
    if len(data) < 1 + length:
        return None
    return tuple(bytes(data[1 : 1 + length]).split()), 1 + length


def encode_auth_choice(methods: Iterable[bytes]) -> bytes:
    """90 bytes: up to three names of up to 30 bytes, NUL padded.

    Raises :class:`ProtocolError` for more or longer ones.
    """
    slots = [method.ljust(MAX_AUTH_NAME, b"\0") for method in methods]
    if len(slots) > MAX_AUTH_METHODS or any(len(slot) > MAX_AUTH_NAME for slot in slots):
        raise ProtocolError("at most 3 authentication methods with names of at most 30 bytes")
    return b"".join(slots).ljust(AUTH_CHOICE_SIZE, b"\0")


def decode_auth_choice(data: bytes) -> tuple[bytes, ...]:
    """The methods that a client chose: slots up to the first empty one.

    Raises :class:`ProtocolError` for fewer than 90 bytes.  That there is one, and
    which are known and allowed, is the caller's to check.
    """
    if len(data) < AUTH_CHOICE_SIZE:
        raise ProtocolError(f"authentication choice of {len(data)} bytes, it has 90")
    methods: list[bytes] = []
    for at in range(0, AUTH_CHOICE_SIZE, MAX_AUTH_NAME):
        name = bytes(data[at : at + MAX_AUTH_NAME]).partition(b"\0")[0]
        if not name:
            break
        methods.append(name)
    return tuple(methods)


def encode_password(user: bytes, password: bytes) -> bytes:
    """40 bytes of the PWORD method; a longer password is cut at 8 bytes.

    Raises :class:`ProtocolError` for a user name longer than 32 bytes.
    """
    if len(user) > 32:
        raise ProtocolError(f"user name of {len(user)} bytes, at most 32")
    return user.ljust(32, b"\0") + password[:8].ljust(8, b"\0")


def decode_password(data: bytes) -> tuple[bytes, bytes]:
    """User name and password.  Raises :class:`ProtocolError` for fewer than 40 bytes."""
    if len(data) < PASSWORD_SIZE:
        raise ProtocolError(f"user name and password of {len(data)} bytes, they have 40")
    user = bytes(data[:32]).partition(b"\0")[0]
    return user, bytes(data[32:40]).partition(b"\0")[0]


def encode_reject(code: SpreadCode) -> bytes:
    """One byte: the negative code."""
    return bytes([code & 0xFF])


def refusal(code: int) -> HandshakeError:
    """The error that stands for a reject byte, as a signed number."""
    try:
        known = SpreadCode(code)
    except ValueError:
        return HandshakeError(SpreadCode.CONNECTION_CLOSED, f"daemon answered {code}")
    return HandshakeError(known, f"daemon answered {known.name}")


def encode_accept(
    private_group: bytes, version: tuple[int, int, int] = (4, 4, 0), *, patch: bool = True
) -> bytes:
    """The accept reply; ``patch`` is False for clients before 3.15.

    Raises :class:`ProtocolError` for a private group longer than 31 bytes or a
    version number that is no byte.
    """
    if not all(0 <= part <= 255 for part in version):
        raise ProtocolError(f"version {version} does not fit its bytes")
    if len(private_group) > 31:
        raise ProtocolError(f"private group of {len(private_group)} bytes, at most 31")
    shown = version if patch else version[:2]
    return bytes([SpreadCode.ACCEPT_SESSION, *shown, len(private_group)]) + private_group


@frozen
class AcceptReply:
    """What an accepted client is told."""

    version: tuple[int, ...]
    """Of the daemon: three numbers, or two for a client before 3.15."""
    private_group: bytes

    @classmethod
    def decode(cls, data: bytes, *, patch: bool = True) -> tuple[AcceptReply, int] | None:
        """Read the reply from the bytes that have come so far.

        Raises :class:`HandshakeError` with the code when the daemon refused.
        """
        if not data:
            return None
        if data[0] != SpreadCode.ACCEPT_SESSION:
            raise refusal(_signed(data[0]))
        at = 5 if patch else 4
        if len(data) < at:
            return None
        length = data[at - 1]
        if length > 31:
            raise HandshakeError(SpreadCode.ILLEGAL_SPREAD, f"private group of {length} bytes")
        if len(data) < at + length:
            return None
        return cls(tuple(data[1 : at - 1]), bytes(data[at : at + length])), at + length
