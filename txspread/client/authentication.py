"""Authentication methods, client side, sans-IO.

The daemon lists the methods it allows, the client names up to three of its own
and runs them in that order (``docs/protocol/client-session.md`` sections 2.5 to 2.7).
A method is an object with a name and a generator of what it exchanges.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar, Protocol, TypeAlias

from attrs import field, frozen

from txspread.client.messages import Name, name_bytes

Exchange: TypeAlias = Generator[tuple[bytes, int], bytes, bool]
"""Each step sends bytes and asks for an exact number of bytes from the daemon,
which it is resumed with; returns whether the daemon is content."""


class AuthenticationMethod(Protocol):
    """One way to prove who the client is."""

    @property
    def name(self) -> str:
        """Name as daemons list it, at most 29 bytes."""

    def exchange(self) -> Exchange:
        """Start the method's dialogue for one connection attempt."""


@frozen
class NullMethod:
    """No proof; what a daemon without further settings asks for."""

    name: ClassVar[str] = "NULL"

    def exchange(self) -> Exchange:
        """Say nothing."""
        return True
        yield b"", 0


@frozen
class IPMethod:
    """The daemon looks at the address the client comes from; nothing to say."""

    name: ClassVar[str] = "IP"

    def exchange(self) -> Exchange:
        """Say nothing."""
        return True
        yield b"", 0


@frozen
class PasswordMethod:
    """User name and password, **in clear text on the wire**.

    32 bytes of name and 8 of password are sent, each padded with NUL; longer ones
    are cut, as the protocol has it.
    """

    name: ClassVar[str] = "PWORD"
    user: Name
    password: Name = field(repr=False)

    def exchange(self) -> Exchange:
        """Send both; the daemon answers with one byte, 1 for yes."""
        user = name_bytes(self.user)[:32].ljust(32, b"\0")
        password = name_bytes(self.password)[:8].ljust(8, b"\0")
        answer = yield user + password, 1
        return answer == b"\1"
