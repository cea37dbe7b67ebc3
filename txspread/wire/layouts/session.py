"""The handshake between client and daemon: single bytes and byte strings.

Source: ``docs/protocol/client-session.md`` sections 2.3 to 2.8.
"""

from __future__ import annotations

from typing import Final

import construct
from construct import this

from txspread.wire.constants import MAX_AUTH_METHODS, MAX_AUTH_NAME

CONNECT_VERSION: Final = construct.Struct("major" / construct.Int8sb, "minor" / construct.Int8sb)
"""What decides whether a patch byte follows."""

CONNECT_REQUEST: Final = construct.Struct(
    "version" / CONNECT_VERSION,
    "patch"
    / construct.If(10000 * this.version.major + 100 * this.version.minor > 31400, construct.Int8sb),
    "flags" / construct.Byte,
    "name_len" / construct.Int8sb,
    "name" / construct.Bytes(this.name_len),
)
"""4 or 5 bytes and the name."""

AUTH_LIST: Final = construct.Struct(
    "methods" / construct.Prefixed(construct.Byte, construct.GreedyBytes)
)

AUTH_CHOICE: Final = construct.Struct(
    "slots" / construct.Array(MAX_AUTH_METHODS, construct.Bytes(MAX_AUTH_NAME)),
)
"""90 bytes."""

PASSWORD: Final = construct.Struct("user" / construct.Bytes(32), "password" / construct.Bytes(8))
"""40 bytes of the PWORD method."""

RESULT: Final = construct.Struct("code" / construct.Int8sb)
"""Accept or reject code."""

ACCEPT_WITH_PATCH: Final = construct.Struct(
    "code" / construct.Int8sb,
    "version" / construct.Array(3, construct.Byte),
    "private_group" / construct.Prefixed(construct.Byte, construct.GreedyBytes),
)
"""For clients from 3.15 on."""

ACCEPT: Final = construct.Struct(
    "code" / construct.Int8sb,
    "version" / construct.Array(2, construct.Byte),
    "private_group" / construct.Prefixed(construct.Byte, construct.GreedyBytes),
)
"""For clients before 3.15."""
