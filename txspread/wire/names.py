"""Names of sessions, daemons and private groups.

Source: ``docs/protocol/client-session.md`` sections 2.3, 2.8 and 4.3.
"""

from __future__ import annotations

import re
from typing import Final

from txspread.wire.constants import MAX_PRIVATE_NAME, MAX_PROC_NAME

_PRIVATE_GROUP: Final = re.compile(
    rb"#([\x24-\x7e]{1,%d})#([\x24-\x7e]{1,%d})" % (MAX_PRIVATE_NAME, MAX_PROC_NAME - 1)
)
_LEGAL: Final = re.compile(rb"[\x24-\x7e]+")


def legal_characters(name: bytes) -> bool:
    """Whether a name is not empty and every byte is in 0x24 to 0x7E."""
    return _LEGAL.fullmatch(name) is not None


def private_group_name(session: bytes, daemon: bytes) -> bytes:
    """``#session#daemon``: the group of one session alone."""
    return b"#%s#%s" % (session, daemon)


def split_private_group(name: bytes) -> tuple[bytes, bytes] | None:
    """Session and daemon of a well-formed private group, else None.

    1 to 10 and 1 to 19 bytes, each byte in 0x24 to 0x7E.
    """
    match = _PRIVATE_GROUP.fullmatch(name)
    return (match[1], match[2]) if match else None
