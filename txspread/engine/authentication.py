"""Authentication of clients: the methods NULL, IP and PWORD, and their files.

Rules.  A daemon knows up to three methods, always listed in *registration
order*: NULL, IP, then PWORD when a password file and a verifier were given.
A method is *allowed* (a client may choose it) and may be *required* (it is run
whether the client chose it or not).  Unknown names in the configuration are
ignored, as upstream ignores them.

* NULL always succeeds.
* IP succeeds when a rule of ``spread.access_ip`` matches the client's IPv4
  address; a client of the Unix socket has address 0.0.0.0.  Without the file
  every check fails.
* PWORD asks for a user name and a password in clear.  It is an extra: nothing
  here knows how to hash, the verifier is passed in.

Source: ``docs/protocol/client-session.md`` sections 2.5 to 2.7; upstream
``acm.c``, ``auth-ip.c`` (``ip_init``, ``ip_auth_client_connection``),
``auth-pword.c``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

NULL: Final = "NULL"
IP: Final = "IP"
PWORD: Final = "PWORD"
REGISTRATION_ORDER: Final = (NULL, IP, PWORD)

MAX_USER_NAME: Final = 32
"""Bytes of the longest PWORD user name."""
MAX_ACCESS_LINE: Final = 131
"""Longest line of an access file; upstream would read the rest as another line."""

PasswordVerifier: TypeAlias = Callable[[bytes, bytes], bool]
"""``verify(clear password, crypted)``: whether they belong together."""

_ADDRESS_RULE = re.compile(
    r"\s*(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:/(\d{1,2}))?(?:\s.*)?", re.ASCII
)
_ALL_ONES: Final = 0xFFFFFFFF


class AccessFileError(Exception):
    """A line of an access file that upstream would not start with.

    Args:
        line_number: from 1.
        problem: what is wrong, without the line number.

    """

    def __init__(self, line_number: int, problem: str) -> None:
        super().__init__(f"line {line_number}: {problem}")
        self.line_number = line_number
        self.problem = problem


@frozen
class IpRule:
    """One rule: allow the addresses of a network."""

    network: int
    """Unsigned 32-bit; host bits that are not zero make the rule match nothing."""
    prefix: int
    """Bits of the mask, 0 to 32."""

    def matches(self, address: int) -> bool:
        """Tell whether the rule allows an address (unsigned 32-bit).

        Prefix 0 compares all 32 bits, as upstream does on x86: ``0.0.0.0/0``
        allows nothing but clients of the Unix socket.
        """
        mask = _ALL_ONES << (32 - self.prefix) & _ALL_ONES if self.prefix else _ALL_ONES
        return address & mask == self.network


@frozen
class AccessRules:
    """A parsed ``spread.access_ip``."""

    rules: tuple[IpRule, ...]
    warnings: tuple[str, ...] = ()
    """What a user should be told: lines that were not read."""

    def allows(self, address: int) -> bool:
        """Tell whether any rule matches."""
        return any(rule.matches(address) for rule in self.rules)


def parse_access_ip(text: str) -> AccessRules:
    """Read the text of a ``spread.access_ip`` file.

    One rule a line: ``#`` in column one is a comment, ``unix`` allows clients of
    the Unix socket, ``local`` allows 127.0.0.0/8, ``a.b.c.d`` and ``a.b.c.d/p``
    allow an address or a network.  The first line with fewer than three dots
    (an empty one too) ends the reading; rules above it stay in force.

    Raises:
        AccessFileError: a line with three dots that is no address, a number out
            of range, or a line longer than 131 characters.

    """
    rules: list[IpRule] = []
    warnings: list[str] = []
    for number, line in enumerate(_lines(text), 1):
        if line.startswith("#"):
            continue
        if len(line) > MAX_ACCESS_LINE:
            raise AccessFileError(number, f"longer than {MAX_ACCESS_LINE} characters")
        if line.startswith("unix"):
            rules.append(IpRule(0, 32))
        elif line.startswith("local"):
            rules.append(IpRule(127 << 24, 8))
        elif line.count(".") < 3:
            warnings.append(f"line {number} is incomplete and ends the file: {line!r}")
            break
        else:
            rules.append(_address_rule(number, line))
    return AccessRules(tuple(rules), tuple(warnings))


def _address_rule(number: int, line: str) -> IpRule:
    match = _ADDRESS_RULE.fullmatch(line)
    if match is None:
        raise AccessFileError(number, f"not a valid ip network address/prefix line: {line!r}")
    octets = [int(text) for text in match.group(1, 2, 3, 4)]
    prefix = 32 if match.group(5) is None else int(match.group(5))
    if max(octets) > 255 or prefix > 32:
        raise AccessFileError(number, f"number out of range: {line!r}")
    return IpRule(octets[0] << 24 | octets[1] << 16 | octets[2] << 8 | octets[3], prefix)


def parse_access_pword(text: str) -> dict[bytes, bytes]:
    """Read the text of a ``spread.access_pword`` file: user name -> crypted password.

    One user a line, ``user:crypted``; ``#`` in column one is a comment.  The
    first line without ``:`` ends the reading, and the last line of a user wins.

    Raises:
        AccessFileError: a user name that is empty, has white space or is longer
            than 32 bytes, or a line longer than 131 characters.

    """
    users: dict[bytes, bytes] = {}
    for number, line in enumerate(_lines(text), 1):
        if line.startswith("#"):
            continue
        if len(line) > MAX_ACCESS_LINE:
            raise AccessFileError(number, f"longer than {MAX_ACCESS_LINE} characters")
        name, colon, crypted = line.partition(":")
        if not colon:
            break
        user = name.encode()
        if not user or len(user) > MAX_USER_NAME or user.split() != [user]:
            raise AccessFileError(number, f"not a user name: {name!r}")
        users[user] = crypted.strip().encode()
    return users


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


@frozen
class Authentication:
    """Which methods are in force, and what they check against."""

    allowed: tuple[str, ...] = (NULL,)
    """Known methods a client may choose, registration order."""
    required: tuple[str, ...] = ()
    """Known methods that are run in any case, registration order."""
    access: AccessRules | None = None
    """None: there is no ``spread.access_ip``, and every IP check fails."""
    passwords: Mapping[bytes, bytes] = field(factory=dict)
    verify: PasswordVerifier | None = None
    """None: there is no PWORD method."""

    @classmethod
    def build(
        cls,
        allowed: Iterable[str],
        required: Iterable[str],
        access: AccessRules | None = None,
        passwords: Mapping[bytes, bytes] | None = None,
        verify: PasswordVerifier | None = None,
    ) -> Authentication:
        """Put names from the configuration in registration order, unknown ones left out."""
        allowed_names = frozenset(allowed)
        required_names = frozenset(required)
        known = REGISTRATION_ORDER if verify is not None else REGISTRATION_ORDER[:2]
        return cls(
            tuple(name for name in known if name in allowed_names),
            tuple(name for name in known if name in required_names),
            access,
            dict(passwords or {}),
            verify,
        )

    def methods_of_old_client(self) -> tuple[str, ...] | None:
        """Methods to run for a client older than 3.16, which cannot choose.

        IP if it is allowed, else NULL, and behind it the required ones.  None
        when that is impossible: neither is allowed, or a required method needs
        an exchange the client does not know.  (Upstream forgets the required
        methods here; see section 2.4.)
        """
        if IP in self.allowed:
            first = IP
        elif NULL in self.allowed:
            first = NULL
        else:
            return None
        methods = (first, *(name for name in self.required if name != first))
        return None if PWORD in methods else methods

    def methods_chosen(self, choice: Iterable[bytes]) -> tuple[str, ...] | None:
        """Methods to run for the names a client chose, in its order.

        The required methods it did not name follow.  None when it named no
        method, or one that is not allowed.
        """
        allowed = {name.encode(): name for name in self.allowed}
        methods: list[str] = []
        for name in choice:
            method = allowed.get(name)
            if method is None:
                return None
            methods.append(method)
        if not methods:
            return None
        methods.extend(name for name in self.required if name not in methods)
        return tuple(methods)

    def allows_address(self, address: int) -> bool:
        """Run the IP method: the client's IPv4 address, 0 for the Unix socket."""
        return self.access is not None and self.access.allows(address)

    def allows_password(self, user: bytes, password: bytes) -> bool:
        """Run the PWORD method on what a client sent, without padding."""
        if self.verify is None:
            return False
        crypted = self.passwords.get(user)
        return crypted is not None and self.verify(password, crypted)
